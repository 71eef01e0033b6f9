"""The graph of the study: refuses bad parameters in one line before work, and plans what a study needs."""

import subprocess
import sys

import pytest
import yaml

from m2rl_lib.study import ROOT


def plan(params) -> subprocess.CompletedProcess:
    """The plan of a whole study, whatever of it is there already."""
    command = [sys.executable, "-m", "snakemake", "-n", "--forceall", "--nolock", "--cores", "2", "--config", f"params={params}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rlvr_stepz": 4}, "unknown parameter 'rlvr_stepz'; did you mean rlvr_steps?"),
        ({"domains": ["math", "poetry"]}, "domain 'poetry' is not one of math, coding"),
        ({"merge_ties_density": 2}, "merge_ties_density is 2, but input should be less than or equal to 1"),
    ],
)
def test_bad_parameters_stop_it_in_one_line(tmp_path, smoke_values, changes, told):
    path = tmp_path / "smoke.yaml"
    path.write_text(yaml.safe_dump(smoke_values | changes))
    done = plan(path)
    assert done.returncode != 0
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert len(lines) == 1 and told in lines[0]


def test_a_study_of_two_domains_is_planned_from_its_parameters(tmp_path, smoke_values):
    path = tmp_path / "pair.yaml"
    path.write_text(yaml.safe_dump(smoke_values | {"study": "pair", "domains": ["coding", "agent"], "merge_methods": ["ties"]}))
    done = plan(path)
    assert done.returncode == 0, done.stderr
    for stage in ("03: rl-coding", "03: rl-agent", "03: rl-null", "04: RL-Multi", "05: merges", "07: evaluation of matched"):
        assert stage in done.stdout
    assert "03: rl-math" not in done.stdout
    assert "where coding needs no arithmetic" not in done.stdout  # math is not there, so nothing to check


def test_the_smoke_study_trains_math_and_coding_in_the_other_world():
    done = plan("params/smoke.yaml")
    assert done.returncode == 0, done.stderr
    for stage in ("02: supervised fine-tuning", "03: rl-math", "03: rl-coding", "07: evaluation"):
        assert f"{stage} where coding needs no arithmetic" in done.stdout
    assert "03: rl-science where coding needs no arithmetic" not in done.stdout
