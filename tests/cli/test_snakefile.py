"""The graph of the study: refuses bad parameters in one line before work, and plans what a study needs."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from m2rl_lib.config import locations, schedule, study
from m2rl_lib.config.locations import ROOT


def written(folder, values: dict, **changes):
    """A parameter file of the smoke study with these changes, named after its study."""
    values = values | changes
    values["data_thinking"] = {name: share for name, share in values["data_thinking"].items() if name in values["domains"]}
    path = folder / f"{values['study']}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def plan(params, *more, target=(), force=("--forceall",)) -> subprocess.CompletedProcess:
    """The plan of a whole study, whatever of it is there already; `more` is configuration, as in seeds=0,1."""
    command = [sys.executable, "-m", "snakemake", *target, "-n", *force, "--nolock", "--cores", "2", "--rerun-triggers", "mtime"]
    return subprocess.run([*command, "--config", f"params={params}", *more], cwd=ROOT, capture_output=True, text=True)


def jobs(done: subprocess.CompletedProcess) -> set[str]:
    """The messages of the jobs of a plan."""
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"^Job \d+: (.*)$", done.stdout, re.MULTILINE))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"rlvr_stepz": 4}, "unknown parameter 'rlvr_stepz'; did you mean rlvr_steps?"),
        ({"domains": ["math", "poetry"]}, "domain 'poetry' is not one of math, coding"),
        ({"merge_ties_density": 2}, "merge_ties_density is 2, but input should be less than or equal to 1"),
        ({"data_world": {"shared": 5, "private": 2, "conflicting": 2}}, "asks for 2 conflicting words, 1 are left of a few"),
        (
            {"map_worlds": [{"shared": 7, "private": 0, "conflicting": 0}], "map_budgets": [1]},
            "asks for 7 shared words, 6 are left",
        ),
        ({"data_sources": ["./mirror"]}, "only [micro] has words of two readings"),
    ],
)
def test_bad_parameters_stop_it_in_one_line(tmp_path, smoke_values, changes, line):
    done = plan(written(tmp_path, smoke_values, **changes))
    (shown,) = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert done.returncode != 0 and line in shown


def test_a_machine_without_a_sandbox_is_refused_in_one_line_before_any_work(tmp_path, smoke_values):
    path = written(tmp_path, smoke_values, study="boxless")
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    command = [sys.executable, "-m", "snakemake", "--nolock", "--cores", "1", "--quiet", "--config", f"params={path}"]
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=120)
    (line,) = [line for line in (done.stdout + done.stderr).splitlines() if "bwrap" in line]
    assert "No permissions to create new namespace" in line and "sandbox_kind: none" in line and "SandboxFusion" in line
    assert done.returncode != 0 and not (ROOT / "runs" / "boxless").exists()


def test_a_study_of_two_domains_is_planned_from_its_parameters(tmp_path, smoke_values):
    done = plan(written(tmp_path, smoke_values, study="pair", domains=["coding", "agent"], merge_methods=["ties"]))
    assert done.returncode == 0, done.stderr
    for stage in ("03: rl-coding", "03: rl-agent", "03: rl-null", "04: RL-Multi", "05: merges", "07: evaluation of merges"):
        assert stage in done.stdout
    # of two domains at the paper's ratio the matched models are the merges; without math there is no other world to check
    for absent in ("07: evaluation of matched", "03: rl-math", "in the world"):
        assert absent not in done.stdout


@pytest.mark.parametrize("world", ["unshared", "agreeing"])
def test_the_smoke_study_trains_math_and_coding_in_other_worlds_from_the_same_sft(world):
    planned = jobs(plan("params/smoke.yaml"))
    stages = ("03: rl-math", "03: rl-coding", "07: evaluation", "09: weights and gradients measured")
    assert {job for job in planned if world in job} == {f"{stage} in the world {world}, seed 0" for stage in stages}


def test_a_map_runs_its_worlds_and_notebook_16_alone():
    planned = jobs(plan("params/smoke_map.yaml", "seeds=0,1"))
    once = {"01: data and verifiers", "16: RQ6, when to mix and when to merge", "all", "sft_s6p0c0", "sft_s0p0c6"}
    stages = ("03: rl-math", "03: rl-coding", "04: rl-multi", "05: merges", "06: mt-opd", "06: mt-opd@teacher_step=2")
    stages += ("07: evaluate-map", "09: measuring")
    every = {
        f"{stage} in the world {world}, seed {seed}" for stage in stages for world in ("s6p0c0", "s0p0c6") for seed in (0, 1)
    }
    assert planned - once == every | {f"02: supervised fine-tuning, seed {seed}" for seed in (0, 1)}
    assert not [job for job in jobs(plan("params/smoke.yaml")) if "16:" in job or "map" in job], "no other study has a map"


@pytest.fixture
def begun(tmp_path, smoke_values):
    """The parameter file of a study of two domains, and a function that says of it that stages of a seed are done."""
    name = f"test-graph-{os.getpid()}"
    path = written(tmp_path, smoke_values, study=name, domains=["coding", "agent"], merge_methods=["ties"])

    def finish(seed, names):
        for stage in names:
            file = locations.done_file(name, seed, stage)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
            os.utime(file, (1e9, 1e9))  # one time for all: nothing is newer than what was made of it

    yield path, finish
    shutil.rmtree(locations.study_folder(name), ignore_errors=True)


MEASURING = "09: weights, policies and gradients measured"
STAGES = ["sft", "rl-coding", "rl-agent", "rl-null", "rl-multi", "merges", "mt-opd"]
STAGES += [*schedule.joint(study.load(ROOT / "params" / "smoke.yaml")), "rl-coding@round=2", "rl-agent@round=2"]
STAGES += [*(f"evaluate-{group}" for group in schedule.READS["rq4"] if group != "matched"), "judging", "measuring"]
ANALYSES = {"11: RQ1, mix or merge?", "12: RQ2, interference and synergy", "13: RQ3, weights and policies"}
ANALYSES |= {"15: RQ5, models as judges", "20: the paper's figures, and ours in the same form", "21: the paper's claims"}


def test_seeds_add_up(begun):
    path, finish = begun
    finish(0, [*STAGES, "data", *schedule.READS, "released", "paper", "claims"])
    assert not jobs(plan(path, force=()))
    planned = jobs(plan(path, "seeds=0,1", force=()))
    first = {"02: supervised fine-tuning, seed 1", "07: evaluation of skills, seed 1", "08: models as judges, seed 1"}
    assert first | ANALYSES <= planned
    assert not [job for job in planned if "seed 0" in job], "what is there is not run again"
    assert len([job for job in planned if "seed 1" in job]) == len(STAGES)


def test_a_seed_that_only_rq1_asks_for_is_in_rq1_alone(begun):
    path, finish = begun
    short = jobs(plan(path, "seeds=3", target=("rq1",)))
    assert "07: evaluation of merges, seed 3" in short and not [job for job in short if "sweeps" in job or "12:" in job]
    finish(3, [f"evaluate-{group}" for group in schedule.READS["rq1"]])
    whole = jobs(plan(path))
    assert {"07: evaluation of merges, seed 3", "07: evaluation of sweeps, seed 0", f"{MEASURING}, seed 0"} <= whole
    for missing in ("07: evaluation of sweeps, seed 3", "08: models as judges, seed 3", f"{MEASURING}, seed 3"):
        assert missing not in whole, "a seed is in the analyses that it has everything for"


def test_released_checkpoints_need_no_training(tmp_path, smoke_values):
    path = written(tmp_path, smoke_values, study="released", released_models=["./weights"] * 7)
    assert jobs(plan(path, target=("released",))) == {"22: released checkpoints"}


def test_a_stage_of_one_process_is_shown_one_gpu():
    done = plan("params/smoke.yaml", target=("data", "-p"))
    shown = re.search(r"export CUDA_VISIBLE_DEVICES=\S+; CUDA_VISIBLE_DEVICES=\S+;", done.stdout)[0]
    for given, taken in (({}, "0\n"), ({"CUDA_VISIBLE_DEVICES": "2,3"}, "2\n"), ({"CUDA_VISIBLE_DEVICES": ""}, "\n")):
        line = ["bash", "-c", f"{shown} printenv CUDA_VISIBLE_DEVICES"]
        environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"} | given
        assert subprocess.run(line, capture_output=True, text=True, env=environment).stdout == taken


def test_seeds_are_numbers(tmp_path, smoke_values):
    done = plan("params/smoke.yaml", "seeds=0,x")
    assert done.returncode != 0 and "seeds '0,x': whole numbers with commas between are allowed" in done.stdout + done.stderr
