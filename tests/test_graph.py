"""The graph of the study: refuses bad parameters in one line before work, and plans what a study needs."""

import os
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


def test_a_machine_without_a_sandbox_is_told_so_in_one_line_before_any_work(tmp_path, smoke_values):
    path = tmp_path / "boxless.yaml"
    path.write_text(yaml.safe_dump(smoke_values | {"study": "boxless"}))
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    command = [sys.executable, "-m", "snakemake", "--nolock", "--cores", "1", "--quiet", "--config", f"params={path}"]
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=120)
    (told,) = [line for line in (done.stdout + done.stderr).splitlines() if "bwrap" in line]
    assert "No permissions to create new namespace" in told and "sandbox_kind: none" in told and "SandboxFusion" in told
    assert done.returncode != 0 and not (ROOT / "runs" / "boxless").exists()


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
