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
from packaging.utils import canonicalize_name

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
    """The names and literal values of a notebook's parameters cell, which holds plain assignments only."""
    return {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(parameters_cell(path)).body}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_parameters_are_the_smoke_study(path, smoke_values):
    smoke = smoke_values if path.stem[:2] != "16" else yaml.safe_load((ROOT / "params" / "smoke_map.yaml").read_text())
    for name, value in declared(path).items():
        assert name in study.FIELDS, f"{path.name}: {name} is no parameter"
        if name in smoke:
            given = study.notebook_parameters({name: smoke[name]})
            assert value == getattr(given, name), f"{path.name}: {name} differs from params/{smoke['study']}.yaml"
    assert all("  # " in line for line in parameters_cell(path).splitlines()), "a comment on each parameter"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_declares_what_it_uses_and_has_no_outputs(path):
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    source = "\n".join(cell.source for cell in cells)
    assert set(re.findall(r"\bp\.([a-z_]+)", source)) <= declared(path).keys()
    assert "def " not in source or path.stem.startswith("01"), "no function is defined in a notebook"


def test_every_parameter_is_used_by_a_notebook():
    assert study.FIELDS.keys() == set().union(*(declared(path) for path in NOTEBOOKS))


def pins(lines) -> dict[str, str]:
    """The versions of exact pins; other lines are left out."""
    matches = [re.fullmatch(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^\s;]+)", line.strip()) for line in lines]
    return {canonicalize_name(match[1]): match[2] for match in matches if match}


def test_environment_files_agree_and_the_lock_pins_everything():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line.strip() and line[0] != "#"]
    locked = pins(lines)
    assert not [line for line in lines if not pins([line])], "no exact pins"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(part["pip"] for part in environment["dependencies"] if isinstance(part, dict))
    assert "-r requirements.lock" in pip
    for name, version in pins(project["dependencies"]).items():
        assert locked.get(name) == version, f"{name} is {version} in pyproject.toml and {locked.get(name)} in requirements.lock"
    names = [re.match(r"[A-Za-z0-9_.-]+", requirement)[0] for requirement in project["dependencies"]]
    assert not [name for name in names if canonicalize_name(name) not in locked], "not in requirements.lock"
