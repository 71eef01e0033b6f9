"""The house keeps its plan: floors, parameters, environment files, notebooks without outputs."""

import ast
import re
import tomllib

import nbformat
import pytest
import yaml

from m2rl_lib.config import study
from m2rl_lib.config.locations import ROOT

# module: floor; a module imports only from floors below its own (parts of one package may import each other)
FLOORS = {
    "study": 0,
    "sandbox": 0,
    "bounded": 0,
    "durable": 0,
    "chat": 0,
    "contexts": 0,
    "processes": 0,
    "hub": 1,
    "domains": 1,
    "safety": 1,
    "datasets": 2,
    "data_report": 3,
    "micro": 2,
    "base_models": 2,
    "generation": 2,
    "artifacts": 2,
    "schedule": 2,
    "statistics": 2,
    "published": 1,
    "checkpoints": 2,
    "projection": 2,
    "training": 3,
    "health": 2,
    "resume": 3,
    "shared_prompts": 3,
    "stage": 3,
    "launch": 3,
    "reruns": 0,
    "power": 2,
    "plan": 4,
    "released": 5,
    "verdicts": 3,
    "ranks": 3,
    "judges": 3,
    "sft": 4,
    "rlvr": 4,
    "distillation": 4,
    "block_merges": 2,
    "interpolation": 4,
    "merging": 4,
    "evaluation": 4,
    "live_code": 1,
    "benchmark_sets": 2,
    "benchmarks": 4,
    "budgets": 4,
    "curves": 3,
    "transfer": 4,
    "gradients": 4,
    "judging": 4,
    "verification": 5,
    "best_of_n": 4,
    "manipulation": 4,
    "routing": 4,
    "seesaw": 4,
    "skills": 4,
    "sweeps": 4,
    "weights": 4,
    "policies": 4,
    "neighbours": 4,
    "prediction": 5,
    "overlaps": 5,
    "seeds": 4,
    "replication": 6,
    "pages": 3,
    "style": 4,
    "figures": 5,
    "figures_rq2": 6,
    "figures_weights": 6,
    "figures_policies": 6,
    "figures_rq4": 6,
    "figures_judging": 6,
    "figures_sweeps": 6,
    "figures_paper": 6,
    "redraw": 6,
    "paper_form": 6,
    "claims": 4,
    "score_tables": 5,
    "evidence": 5,
    "measures": 6,
    "findings": 7,
    "verdict": 8,
    "figures_claims": 6,
}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def modules():
    return [
        path for path in sorted((ROOT / "m2rl_lib").rglob("*.py")) if path.name != "__init__.py" or path.parent.name != "m2rl_lib"
    ]


def part_of(path) -> str:
    return path.relative_to(ROOT / "m2rl_lib").parts[0].removesuffix(".py")


def imported(path) -> set[str]:
    """The parts of m2rl_lib that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "m2rl_lib":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("m2rl_lib."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("m2rl_lib.")}
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_come_from_floors_below(path):
    own = part_of(path)
    assert own in FLOORS, f"{own} has no floor; give it one in {__file__}"
    for name in imported(path) - {own}:
        assert FLOORS[name] < FLOORS[own], f"{own} (floor {FLOORS[own]}) imports {name} (floor {FLOORS[name]})"


def parameters_cell(path):
    cells = [c for c in nbformat.read(path, 4).cells if "parameters" in c.metadata.get("tags", [])]
    assert len(cells) == 1, f"{path.name} has {len(cells)} cells tagged parameters"
    return cells[0].source


def declared(path) -> dict:
    """The names and literal values of a notebook's parameters cell."""
    values = {}
    for node in ast.parse(parameters_cell(path)).body:
        assert isinstance(node, ast.Assign), f"{path.name}: the parameters cell holds plain assignments only"
        values[node.targets[0].id] = ast.literal_eval(node.value)
    return values


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_parameters_are_the_smoke_study(path, smoke_values):
    for name, value in declared(path).items():
        assert name in study.FIELDS, f"{path.name}: {name} is no parameter"
        if name in smoke_values:
            given = study.notebook_parameters({name: smoke_values[name]})
            assert value == getattr(given, name), f"{path.name}: {name} differs from params/smoke.yaml"
    assert all("  # " in line for line in parameters_cell(path).splitlines()), "a comment on each parameter"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_declares_what_it_uses(path):
    source = "\n".join(c.source for c in nbformat.read(path, 4).cells if c.cell_type == "code")
    used = set(re.findall(r"\bp\.([a-z_]+)", source))
    assert used <= declared(path).keys()
    assert "def " not in source or path.stem.startswith("01"), "no function is defined in a notebook"


def test_every_parameter_is_used_by_a_notebook():
    everywhere = set().union(*(declared(path) for path in NOTEBOOKS))
    assert study.FIELDS.keys() == everywhere


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_sources_have_no_outputs(path):
    for cell in nbformat.read(path, 4).cells:
        assert cell.cell_type != "code" or (not cell.outputs and cell.execution_count is None)


def pins(lines) -> dict[str, str]:
    found = {}
    for line in lines:
        match = re.fullmatch(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^\s;]+)", line.strip())
        if match:
            found[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    return found


def test_environment_files_agree():
    locked = pins((ROOT / "requirements.lock").read_text().splitlines())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(part["pip"] for part in environment["dependencies"] if isinstance(part, dict))
    assert "-r requirements.lock" in pip
    for name, version in pins(project["dependencies"]).items():
        assert locked.get(name) == version, f"{name} is {version} in pyproject.toml and {locked.get(name)} in requirements.lock"
    for requirement in project["dependencies"]:
        name = re.match(r"[A-Za-z0-9_.-]+", requirement)[0]
        assert re.sub(r"[-_.]+", "-", name).lower() in locked, f"{name} is not in requirements.lock"


def test_lock_pins_everything():
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        assert not line.strip() or line.startswith("#") or pins([line]), f"not an exact pin: {line}"


def test_ci_runs_the_readmes_test_command():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()
