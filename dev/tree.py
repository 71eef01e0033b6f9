"""Writes docs/layout.md: every module with the first sentence of its docstring. `python dev/tree.py`."""

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "layout.md"
LAYERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
TOP = {
    "README.md": "what it answers, and the results",
    "docs/": "one page per subject",
    "notebooks/": "the study, numbered; `rendered/` has the executed copies",
    "m2rl_lib/": "the library under them, below",
    "params/": "one file per scale: the only difference between scales",
    "profiles/": "`slurm`: the study on a cluster; `accelerate`: a stage on many GPUs",
    "Snakefile": "the study as a graph of stages and analyses",
    "figures/": "committed figures, their csv, and the result tables of the default study",
    "tests/": "mirrors `m2rl_lib/`; `hostile/` has the attacks on the graders",
    "dev/": "timings, fault drill, hostile scoreboard, this page's script",
    "runs/": "all that a run makes; ignored by git",
}


def summary(path: Path) -> str:
    """The first sentence of a module's docstring, '' without one."""
    text = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].split())
    return re.split(r"(?<=[a-z0-9)`\]])\.(?= [A-Z`]|$)", text)[0].rstrip(".:").replace("|", "\\|")


def rows(folder: Path) -> list[str]:
    """A table row for each module under a package, subpackages by their path."""
    found = {path.relative_to(folder).as_posix(): summary(path) for path in sorted(folder.rglob("*.py"))}
    return [f"| `{name}` | {line} |" for name, line in found.items() if line and name != "__init__.py"]


def page() -> str:
    """All of docs/layout.md."""
    lines = ["# Layout", "", "Written by `python dev/tree.py`.", "", "| | |", "|---|---|"]
    lines += [f"| `{name}` | {what} |" for name, what in TOP.items()]
    lines += ["", "A package of `m2rl_lib` imports only from packages above it on this page (import-linter checks it)."]
    for layer in reversed(LAYERS):
        folder = ROOT / layer.replace(".", "/")
        about = summary(folder / "__init__.py")
        lines += ["", f"## {folder.name}", "", *([f"{about}.", ""] if about else []), "| module | what it is for |", "|---|---|"]
        lines += rows(folder)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
