"""Parameters: every kind of bad value gives its one line; names are made and parsed by one rule."""

import pytest
import yaml

from m2rl_lib.config import locations, model_names, study
from m2rl_lib.config.study import ParameterError


def changed(tmp_path, values: dict, **changes) -> str:
    """The line that a parameter file with these changes is refused with; None removes a key."""
    values = {key: value for key, value in (values | changes).items() if value is not None}
    path = tmp_path / "smoke.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ParameterError) as error:
        study.load(path)
    line = str(error.value)
    assert "\n" not in line
    assert str(path) in line
    return line


@pytest.mark.parametrize("name", ["smoke", "study"])
def test_committed_files_are_valid(name):
    assert study.load(locations.ROOT / "params" / f"{name}.yaml").study == name


def test_misspelt_key_names_the_right_one(tmp_path, smoke_values):
    line = changed(tmp_path, smoke_values, rlvr_lerning_rate=1e-4)
    assert "'rlvr_lerning_rate'" in line and "rlvr_learning_rate" in line


def test_unknown_key_lists_what_is_allowed(tmp_path, smoke_values):
    assert "sft_steps" in changed(tmp_path, smoke_values, quux=1)


def test_missing_key(tmp_path, smoke_values):
    assert "missing sft_steps" in changed(tmp_path, smoke_values, sft_steps=None)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("sft_steps", "many", "valid integer"),
        ("sft_steps", 2.5, "valid integer"),
        ("sft_steps", 0, "greater than or equal to 1"),
        ("data_wrong_share", 1.5, "less than or equal to 1"),
        ("data_wrong_steps", "often", "'random' or 'systematic'"),
        ("data_shared_arithmetic", "yes please", "valid boolean"),
        ("merge_ties_density", 0, "greater than 0"),
        ("merge_lambda", float("inf"), "finite"),
        ("merge_methods", ["ties", "soup"], "'average', 'task-arithmetic'"),
        ("sandbox_kind", "docker", "'bubblewrap', 'none' or the http address"),
    ],
)
def test_wrong_value_says_what_is_allowed(tmp_path, smoke_values, key, value, told):
    line = changed(tmp_path, smoke_values, **{key: value})
    assert f"{key} is {value!r}" in line and told in line


@pytest.mark.parametrize("kind", ["none", "http://127.0.0.1:8080", "https://sandbox.example/v1"])
def test_sandbox_kinds_that_are_allowed(tmp_path, smoke_values, kind):
    path = tmp_path / "smoke.yaml"
    path.write_text(yaml.safe_dump(smoke_values | {"sandbox_kind": kind}))
    assert study.load(path).sandbox_kind == kind


def test_name_must_be_the_stem(tmp_path, smoke_values):
    assert "stem" in changed(tmp_path, smoke_values, study="other")


def test_a_notebooks_own_argument_is_refused_in_a_file(tmp_path, smoke_values):
    assert "-p" in changed(tmp_path, smoke_values, domain="math")


def test_missing_file_lists_those_there_are():
    with pytest.raises(ParameterError, match="params/smoke.yaml"):
        study.load("params/absent.yaml")


def test_scientific_notation_is_a_number(tmp_path, smoke_values):
    path = tmp_path / "smoke.yaml"
    path.write_text(yaml.safe_dump(smoke_values).replace("sft_learning_rate: 3e-3", "sft_learning_rate: 5e-5"))
    path.write_text(yaml.safe_dump(smoke_values | {"sft_learning_rate": "5e-5"}))
    assert study.load(path).sft_learning_rate == 5e-5


def test_notebook_parameters_take_only_their_own():
    p = study.notebook_parameters({"study": "smoke", "rlvr_steps": 8, "domain": "math", "helper": print, "_": 3})
    assert vars(p) == {"study": "smoke", "rlvr_steps": 8, "domain": "math"}


def test_notebook_refuses_a_name_with_a_stages_prefix():
    with pytest.raises(ParameterError, match="rlvr_stepz"):
        study.notebook_parameters({"rlvr_stepz": 8})


@pytest.mark.parametrize(
    "name", ["rl-math", "merge-ties-dare", "rl-math@step=250", "merge-average@experts=math+coding", "mt-opd", "sft"]
)
def test_model_names_round_trip(name):
    base, variant = model_names.parse_model_name(name)
    assert model_names.model_name(base, **variant) == name


@pytest.mark.parametrize("name", ["", "rl", "../rl-math", "rl-math/x", "expert-math", "rl-math@", "rl-math@step"])
def test_bad_model_names_are_refused(name):
    with pytest.raises(ValueError, match="model name"):
        model_names.parse_model_name(name)
