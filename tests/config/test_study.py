"""Parameters: every kind of bad value gives its one line; names are made and parsed by one rule."""

import ast

import nbformat
import pytest
import yaml
from papermill.inspection import inspect_notebook

from m2rl_lib.config import locations, model_names, study
from m2rl_lib.config.study import ParameterError


def changed(tmp_path, values: dict, **changes) -> str:
    """The line that a parameter file with these changes is refused with; None removes a key."""
    values = {key: value for key, value in (values | changes).items() if value is not None}
    path = tmp_path / "smoke.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    with pytest.raises(ParameterError) as error:
        study.load(path)
    line = str(error.value)
    assert "\n" not in line
    assert str(path) in line
    return line


WHOLE = {"shared": 6, "private": 0, "conflicting": 0}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rlvr_lerning_rate": 1e-4}, ["'rlvr_lerning_rate'", "rlvr_learning_rate"]),
        ({"quux": 1}, ["sft_steps"]),  # lists what is allowed
        ({"sft_steps": None}, ["missing sft_steps"]),
        ({"study": "other"}, ["stem"]),
        ({"map_budgets": [0.5]}, ["map_worlds is [], map_budgets [0.5]", "both empty or neither"]),
        ({"domain": "math"}, ["-p"]),  # a notebook's own argument
        ({"data_thinking": {"math": 0.4, "maths": 0.4}}, ["data_thinking names maths", "math, coding, science"]),
        ({"domains": ["coding", "agent"]}, ["data_thinking names math, science", "coding, agent"]),
    ],
)
def test_a_wrong_name_says_what_is_allowed(tmp_path, smoke_values, changes, words):
    line = changed(tmp_path, smoke_values, **changes)
    assert all(word in line for word in words)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("sft_steps", 2.5, "valid integer"),
        ("sft_steps", 0, "greater than or equal to 1"),
        ("data_wrong_steps", "often", "'random' or 'systematic'"),
        ("data_world", {"shared": 2, "private": 2, "conflicting": 2, "sharred": 2}, "exactly shared, private and conflicting"),
        ("data_world", {"shared": 2, "private": -1, "conflicting": 2}, "greater than or equal to 0"),
        ("data_world", {"shared": 2, "private": ["a bit"], "conflicting": 2}, "a number of words for each domain"),
        ("data_world", {"shared": ["a few", "a few"], "private": 2, "conflicting": 2}, "allowed is once"),
        ("data_thinking", {"math": 1.5}, "less than or equal to 1"),
        ("data_thinking", 0.4, "valid dictionary"),
        ("merge_lambda", float("inf"), "finite"),
        ("merge_methods", ["ties", "soup"], "'average', 'task-arithmetic'"),
        (
            "map_worlds",
            [WHOLE, {"shared": 2, "private": 2, "conflicting": 1}],
            "a domain has 6, 5 words in its worlds, allowed is one sum",
        ),
        ("map_worlds", [WHOLE, WHOLE], "s6p0c0 is given twice"),
        ("map_worlds", [{"shared": ["a few"], "private": 0, "conflicting": 0}], "valid integer"),
        ("map_worlds", [{"shared": 6, "conflicting": 0}], "exactly shared, private and conflicting"),
        ("map_budgets", [0.3], "multiple of 0.25"),
        ("map_budgets", [1.0, 1.0], "1.0 is given twice"),
        ("map_budgets", [0], "greater than 0"),
        ("joint_models", ["rl-multi"], "'balanced-rows'"),
        ("joint_models", ["cascade", "cascade"], "cascade is given twice"),
        ("domains", ["math", "math", "coding"], "math is given twice"),
        ("merge_methods", ["ties", "average", "ties"], "ties is given twice"),
        ("rlvr_mixed_steps", 4, "rlvr_mixed_steps is 4, allowed are at least 5"),
        ("micro_heads", 7, "micro_heads is 7, micro_hidden_size"),
        ("sandbox_kind", "docker", "'bubblewrap', 'none' or the http address"),
    ],
)
def test_wrong_value_says_what_is_allowed(tmp_path, smoke_values, key, value, allowed):
    line = changed(tmp_path, smoke_values, **{key: value})
    assert f"{key} is {value!r}" in line and allowed in line


def test_missing_file_lists_those_there_are():
    with pytest.raises(ParameterError, match="params/smoke.yaml"):
        study.load("params/absent.yaml")


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("sandbox_kind", "none", "none"),
        ("sandbox_kind", "http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("sft_learning_rate", "5e-5", 5e-5),  # a string in YAML
    ],
)
def test_values_that_are_allowed(tmp_path, smoke_values, key, value, read):
    path = tmp_path / "smoke.yaml"
    path.write_text(yaml.safe_dump(smoke_values | {key: value}))
    assert getattr(study.load(path), key) == read


def test_notebook_parameters_take_only_their_own():
    p = study.notebook_parameters({"study": "smoke", "rlvr_steps": 8, "domain": "math", "helper": print, "_": 3})
    assert vars(p) == {"study": "smoke", "rlvr_steps": 8, "domain": "math"}


@pytest.mark.parametrize(
    "name",
    [
        "rl-math",
        "merge-ties-dare",
        "rl-math@step=250",
        "merge-average@experts=math+coding",
        "mt-opd",
        "cascade@order=reverse,step=2",
        "sft",
    ],
)
def test_model_names_round_trip(name):
    base, variant = model_names.parse_model_name(name)
    assert model_names.model_name(base, **variant) == name


@pytest.mark.parametrize("name", ["", "rl", "../rl-math", "rl-math/x", "expert-math", "rl-math@", "rl-math@step"])
def test_bad_model_names_are_refused(name):
    with pytest.raises(ValueError, match="model name"):
        model_names.parse_model_name(name)


@pytest.mark.parametrize("path", sorted((locations.ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_papermill_finds_every_parameter_that_a_notebook_declares(path):
    """It passes over a line with two =, and the study's value would then not reach the notebook."""
    (cell,) = [cell for cell in nbformat.read(path, 4).cells if "parameters" in cell.metadata.get("tags", [])]
    assert set(inspect_notebook(path)) == {line.targets[0].id for line in ast.parse(cell.source).body}
