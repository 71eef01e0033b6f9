"""A run that is killed goes on to the weights, tables and costs of one that nobody broke; one that goes wrong stops."""

import json
import random
import shutil
import zlib
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from m2rl_lib import domains
from m2rl_lib.config import locations, schedule, study
from m2rl_lib.config.study import Parameters
from m2rl_lib.storage import artifacts, locks, result_tables
from m2rl_lib.training import grpo, mt_opd, resume, sft

TIMES = ("time", "runtime", "per_second")  # columns of TRL's log that no two runs share


class Killed(BaseException):
    """What stands for `kill -9` in these tests (`make faults` really kills)."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The parameters of a tiny study, its SFT model, and rewards that differ, so that weights depend on every draw."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locations, "RUNS", tmp_path_factory.mktemp("resumed"))
        for name in ("math", "agent"):
            patch.setattr(domains.DOMAINS[name], "verify", lambda texts, rows: [float(zlib.crc32(t.encode()) % 2) for t in texts])
        p = study.load(locations.ROOT / "params" / "smoke.yaml").model_dump()
        p |= {"domains": ["math", "agent"], "sft_steps": 8, "rlvr_steps": 50, "distill_steps": 50, "rlvr_prompts_per_step": 1}
        p = Parameters.model_construct(**p | {"domain": "math", "repeat": 0, "permute_rewards": False, "rlvr_max_tokens": 8})
        own = {key: value for key, value in vars(p).items() if key.split("_")[0] not in ("rlvr", "distill")}
        yield SimpleNamespace(p=p, sft=sft.run(SimpleNamespace(**own))[1])


@pytest.fixture
def killed_at(monkeypatch):
    """Have a run killed at given optimizer steps, each once."""

    def plan(*steps: int):
        left = list(steps)
        original = resume._Guard.on_optimizer_step

        def guard(self, args, state, control, **kwargs):
            if left and state.global_step + 1 == left[0]:
                left.pop(0)
                raise Killed
            return original(self, args, state, control, **kwargs)

        monkeypatch.setattr(resume._Guard, "on_optimizer_step", guard)

    return plan


def work(p, name):
    return locations.work_folder(p.study, p.seed, name)


def results(p, name: str, folders, tables) -> tuple:
    """Digests of the published models, and the tables without their times."""
    frames = []
    for table in tables:
        frame = result_tables.read_table(p, table, [name])
        frames.append(frame[[c for c in frame if not any(word in c for word in TIMES)]])
    costs = result_tables.read_table(p, "costs", [name])[["model", "stage", "prompts", "generated_tokens", "trained_tokens"]]
    return [artifacts.read_manifest(folder)["digest"] for folder in folders], [*frames, costs]


def same(one: tuple, other: tuple) -> None:
    assert one[0] == other[0]
    for left, right in zip(one[1], other[1], strict=True):
        pd.testing.assert_frame_equal(left, right, check_exact=True)


def run_again(make, p, name: str):
    """Run a stage from nothing."""
    shutil.rmtree(work(p, name), ignore_errors=True)
    return make()


def until_done(make):
    """Start a stage again until it is not killed; how often it was."""
    for kills in range(10):
        try:
            return make(), kills
        except Killed:
            torch.manual_seed(random.randrange(10**6))  # a new process would have other random states
            random.seed(5)
            np.random.seed(7)
    raise AssertionError("killed without end")


def test_a_run_killed_twice_is_the_unbroken_one(base, killed_at, capsys):
    p = Parameters.model_construct(**vars(base.p) | {"permute_rewards": True})  # the null run has random states of its own
    name = "rl-null"
    tables = ("curves", "training")
    unbroken = results(p, name, run_again(lambda: grpo.run_expert(p), p, name), tables)
    shutil.rmtree(work(p, name))
    killed_at(20, 47)
    folders, kills = until_done(lambda: grpo.run_expert(p))
    assert kills == 2
    same(results(p, name, folders, tables), unbroken)
    told = capsys.readouterr().out
    for step in (18, 46):
        assert f"{name}: goes on from step {step}/50; the weights will be those of an unbroken run" in told
    assert [entry["step"] for entry in artifacts.read_manifest(folders[-1])["resumed"]] == [18, 46]
    assert result_tables.read_table(p, "training", [name])["reward"].nunique() > 1  # the weights did depend on the draws


def test_sft_killed_between_checkpoints_is_the_unbroken_one(base, killed_at):
    p = Parameters.model_construct(**vars(base.p) | {"study": "again", "sft_steps": 50})
    unbroken = results(p, "sft", sft.run(p), ["sft_curve"])
    shutil.rmtree(work(p, "sft"))
    killed_at(16, 50)
    folders, kills = until_done(lambda: sft.run(p))
    assert kills == 2
    same(results(p, "sft", folders, ["sft_curve"]), unbroken)


def test_distillation_killed_is_the_unbroken_one(base, killed_at):
    p = base.p
    teachers = {name: base.sft for name in p.domains}

    def make():
        return mt_opd.train(p, base.sft, teachers, [25, 50])

    unbroken = results(p, "mt-opd", run_again(make, p, "mt-opd"), ["curves", "distillation"])
    shutil.rmtree(work(p, "mt-opd"))
    killed_at(33)
    folders, kills = until_done(make)
    assert kills == 1
    same(results(p, "mt-opd", folders, ["curves", "distillation"]), unbroken)


def test_damaged_half_written_and_foreign_checkpoints_are_passed_over(base, killed_at, capsys):
    p = Parameters.model_construct(**vars(base.p) | {"repeat": 1})
    name = "rl-math@repeat=1"
    killed_at(20)
    with pytest.raises(Killed):
        grpo.run_expert(p)
    folder = work(p, name)
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-16", "checkpoint-18"]  # older ones are pruned
    optimizer = folder / "checkpoint-18" / "optimizer.pt"
    data = bytearray(optimizer.read_bytes())
    data[-500:] = bytes(500)
    optimizer.write_bytes(data)
    (folder / ".checkpoint-20.fresh.99").mkdir()
    with pytest.raises(Killed):
        killed_at(17)
        grpo.run_expert(p)
    told = capsys.readouterr().out
    assert f"{name}: checkpoint-18 is passed over: {optimizer} is damaged" in told
    assert f"{name}: checkpoint-20 is half-written and passed over" in told
    assert f"{name}: goes on from step 16/50" in told
    with pytest.raises(Killed):
        killed_at(4)
        grpo.run_expert(p.model_copy(update={"rlvr_learning_rate": 2e-4}))
    told = capsys.readouterr().out
    assert "checkpoint-16 is passed over: other parameters" in told and "goes on" not in told
    assert (folder / "checkpoint-2").exists()  # its own, though the others' have later steps


def test_a_run_that_cannot_be_exact_says_why(base, killed_at, capsys, monkeypatch):
    p = Parameters.model_construct(**vars(base.p) | {"repeat": 2, "rlvr_steps": 4})
    killed_at(3)
    with pytest.raises(Killed):
        grpo.run_expert(p)
    monkeypatch.setattr(artifacts, "versions", lambda: {"torch": "9.9"})
    folders = grpo.run_expert(p)
    assert "NOT EXACT: torch was" in capsys.readouterr().out
    assert artifacts.read_manifest(folders[-1])["resumed"][0]["exact"] is False


def test_named_models_stay_and_checkpoints_go_when_the_stage_is_done(base, killed_at):
    p = Parameters.model_construct(**vars(base.p) | {"repeat": 3, "rlvr_steps": 8})
    name = "rl-math@repeat=3"
    killed_at(7)
    folders, _ = until_done(lambda: grpo.run_expert(p))
    assert list(work(p, name).glob("checkpoint-*"))
    trained = results(p, name, folders, ["training", "curves"])
    same(results(p, name, grpo.run_expert(p), ["training", "curves"]), trained)  # killed after the last step: nothing is redone
    artifacts.finish(p, name, folders, [base.sft])
    assert not list(work(p, name).glob("checkpoint-*"))
    assert len(folders) == len(schedule.expert_checkpoints(p)) and all(artifacts.verify_model(folder) for folder in folders)


@pytest.mark.parametrize("what", ["loss", "weight", "reward"])
def test_what_is_not_finite_stops_the_run_with_its_step_and_batch(base, monkeypatch, what):
    p = Parameters.model_construct(**vars(base.p) | {"repeat": 4, "rlvr_steps": 8})
    folder = work(p, "rl-math@repeat=4")
    shutil.rmtree(folder, ignore_errors=True)
    calls = iter(range(100))
    if what == "reward":
        monkeypatch.setattr(
            domains.DOMAINS["math"], "verify", lambda texts, rows: [float("nan") if next(calls) > 20 else 0.5 for _ in texts]
        )
    elif what == "loss":
        compute = grpo.DomainTrainer._compute_loss
        monkeypatch.setattr(
            grpo.DomainTrainer, "_compute_loss", lambda *args: compute(*args) * (float("inf") if next(calls) == 3 else 1)
        )
    else:

        def step(optimizer, *args, **kwargs):
            if next(calls) == 3:
                with torch.no_grad():
                    optimizer.param_groups[0]["params"][0][0, 0] = float("nan")

        monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(FloatingPointError, match=f"{what}.*stopped at step .*its batch is kept in") as error:
        grpo.run_expert(p)
    (kept,) = folder.glob("stopped-at-step-*.pt")
    assert str(kept) in str(error.value) and "\n" not in str(error.value)
    batch = torch.load(kept, weights_only=True)
    assert json.loads(batch["batch"][0]["row"])["domain"] == "math" and len(batch["completions"]) == p.rlvr_completions
    assert not result_tables.table_file(p, "training", "rl-math@repeat=4").exists()


def test_two_runs_of_one_stage_do_not_trample_each_other(base, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    p = Parameters.model_construct(**vars(base.p) | {"repeat": 5})
    with artifacts.stage(p, "rl-math@repeat=5"), pytest.raises(locks.LockedError, match="is held by pid"):
        grpo.run_expert(p)
