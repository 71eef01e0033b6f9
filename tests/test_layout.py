"""The layout: layers of packages, parameters, environment files, notebooks without outputs."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

from m2rl_lib.config import study
from m2rl_lib.config.locations import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_packages_import_only_from_packages_below_them():
    """import-linter's layers, in pyproject.toml."""
    found = subprocess.run([Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


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
