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
    frames = [result_tables.read_table(p, table, [name]) for table in tables]
    costs = result_tables.read_table(p, "costs", [name])[["model", "stage", "prompts", "generated_tokens", "trained_tokens"]]
    timeless = [frame[[c for c in frame if not any(word in c for word in TIMES)]] for frame in frames]
    return [artifacts.read_manifest(folder)["digest"] for folder in folders], [*timeless, costs]


def same(one: tuple, other: tuple) -> None:
    assert one[0] == other[0]
    for left, right in zip(one[1], other[1], strict=True):
        pd.testing.assert_frame_equal(left, right, check_exact=True)


def same_after_kills(make, p, name: str, tables, killed_at, *steps: int) -> tuple:
    """Run a stage unbroken and again from nothing, killed at `steps`; its folders and results, once they are found the same."""
    unbroken = results(p, name, make(), tables)
    shutil.rmtree(work(p, name))
    killed_at(*steps)
    for _ in steps:
        with pytest.raises(Killed):
            make()
        torch.manual_seed(random.randrange(10**6))  # a new process would have other random states
        random.seed(5)
        np.random.seed(7)
    folders = make()
    same(results(p, name, folders, tables), unbroken)
    return folders, unbroken


def test_a_run_killed_twice_is_the_unbroken_one(base, killed_at, capsys):
    p = Parameters.model_construct(**vars(base.p) | {"permute_rewards": True})  # the null run has random states of its own
    name, tables = "rl-null", ("curves", "training")
    folders, unbroken = same_after_kills(lambda: grpo.run_expert(p), p, name, tables, killed_at, 20, 47)
    printed = capsys.readouterr().out
    for step in (15, 45):
        assert f"{name}: goes on from step {step}/50; the weights will be those of an unbroken run" in printed
    assert [entry["step"] for entry in artifacts.read_manifest(folders[-1])["resumed"]] == [15, 45]
    assert unbroken[1][1]["reward"].nunique() > 1  # the weights did depend on the draws
    # named models stay; checkpoints do until the stage is done
    assert len(folders) == len(schedule.expert_checkpoints(p)) and all(artifacts.verify_model(folder) for folder in folders)
    assert list(work(p, name).glob("checkpoint-*"))
    same(results(p, name, grpo.run_expert(p), tables), unbroken)  # killed after the last step: nothing is redone
    artifacts.finish(p, name, folders, [base.sft])
    assert not list(work(p, name).glob("checkpoint-*"))


def test_sft_killed_between_checkpoints_is_the_unbroken_one(base, killed_at):
    p = Parameters.model_construct(**vars(base.p) | {"study": "again", "sft_steps": 40, "sft_batch": 4})
    same_after_kills(lambda: sft.run(p), p, "sft", ["sft_curve"], killed_at, 16, 40)


def test_distillation_killed_is_the_unbroken_one(base, killed_at):
    teachers = {name: base.sft for name in base.p.domains}

    def make():
        return mt_opd.train(base.p, base.sft, teachers, [25, 50])

    same_after_kills(make, base.p, "mt-opd", ["curves", "distillation"], killed_at, 33)


def test_damaged_half_written_and_foreign_checkpoints_are_passed_over(base, killed_at, capsys, monkeypatch):
    p = Parameters.model_construct(**vars(base.p) | {"repeat": 1, "rlvr_mixed_steps": 24})  # no model published before step 12
    name = "rl-math@repeat=1"

    def printed_until_killed_at(step: int, **changed) -> str:
        killed_at(step)
        with pytest.raises(Killed):
            grpo.run_expert(p.model_copy(update=changed))
        return capsys.readouterr().out

    printed_until_killed_at(20)
    folder = work(p, name)
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-10", "checkpoint-15"]  # older ones are pruned
    optimizer = folder / "checkpoint-15" / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:-500] + bytes(500))
    (folder / ".checkpoint-20.fresh.99").mkdir()
    printed = printed_until_killed_at(14)
    assert f"{name}: checkpoint-15 is passed over: {optimizer} is damaged" in printed
    assert f"{name}: checkpoint-20 is half-written and passed over" in printed
    assert f"{name}: goes on from step 10/50; the weights" in printed
    printed = printed_until_killed_at(6, rlvr_learning_rate=2e-4)
    assert "checkpoint-10 is passed over: other parameters" in printed and "goes on" not in printed
    assert (folder / "checkpoint-5").exists()  # its own, though the others' have later steps
    monkeypatch.setattr(artifacts, "versions", lambda: {"torch": "9.9"})
    assert "goes on from step 10/50; NOT EXACT: torch was" in printed_until_killed_at(19)
    assert artifacts.read_manifest(folder / "checkpoint-15")["resumed"][-1]["exact"] is False


@pytest.mark.parametrize("what", ["loss", "weight", "reward"])
def test_what_is_not_finite_stops_the_run_with_its_step_and_batch(base, monkeypatch, what):
    p = Parameters.model_construct(**vars(base.p) | {"repeat": 4, "rlvr_steps": 8})
    folder = work(p, "rl-math@repeat=4")
    shutil.rmtree(folder, ignore_errors=True)
    calls = iter(range(100))
    if what == "reward":
        grade = lambda texts, rows: [float("nan") if next(calls) > 20 else 0.5 for _ in texts]  # noqa: E731
        monkeypatch.setattr(domains.DOMAINS["math"], "verify", grade)
    elif what == "loss":
        compute = grpo.DomainTrainer._compute_loss
        loss = lambda *args: compute(*args) * (float("inf") if next(calls) == 3 else 1)  # noqa: E731
        monkeypatch.setattr(grpo.DomainTrainer, "_compute_loss", loss)
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
