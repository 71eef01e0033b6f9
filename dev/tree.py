"""Writes docs/layout.md: every module with the first sentence of its docstring. `python dev/tree.py`."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "layout.md"
# in the order of the layers: a package imports only from those before it
PACKAGES = [
    "config",
    "sandbox",
    "storage",
    "stats",
    "domains",
    "data",
    "rollout",
    "training",
    "merging",
    "evaluation",
    "analysis",
    "paper",
    "figures",
    "cli",
]
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
    found = []
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        if line := summary(path) if path != folder / "__init__.py" else "":
            found.append(f"| `{name}` | {line} |")
    return found


def page() -> str:
    """All of docs/layout.md."""
    lines = ["# Layout", "", "Written by `python dev/tree.py`.", "", "| | |", "|---|---|"]
    lines += [f"| `{name}` | {what} |" for name, what in TOP.items()]
    lines += ["", "A package of `m2rl_lib` imports only from packages above it on this page (import-linter checks it)."]
    for name in PACKAGES:
        folder = ROOT / "m2rl_lib" / name
        about = summary(folder / "__init__.py")
        lines += [
            "",
            f"## {name}",
            "",
            *([about + ".", ""] if about else []),
            "| module | what it is for |",
            "|---|---|",
            *rows(folder),
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
