"""The plan of a study: counts that a finished study has, shapes of published size, and what is refused."""

import json

import pandas as pd
import pytest
import yaml

from m2rl_lib.cli import plan
from m2rl_lib.config import schedule, study
from m2rl_lib.config.locations import ROOT
from m2rl_lib.training import model_shape
from m2rl_lib.training.model_shape import KNOWN, Shape

TABLES = ROOT / "figures" / "study" / "tables"


@pytest.fixture(scope="module")
def default() -> study.Study:
    return study.load(ROOT / "params" / "study.yaml")


def changed(p: study.Study, **changes) -> study.Study:
    return p.model_copy(update=changes)


@pytest.mark.parametrize("name", ["smoke", "study", "one_gpu", "paper", "released"])
def test_every_committed_file_can_be_planned(name):
    p = study.load(ROOT / "params" / f"{name}.yaml")
    told = plan.describe(p, plan.stated_rates(p))
    assert told.startswith(f"{name}: ") and "memory, GB at once" in told
    assert plan.stages(p, plan.stated_rates(p))["hours"].gt(0).all()


def test_parameters_of_published_models():
    assert KNOWN["Qwen/Qwen3-4B-Base"].parameters == 4_022_468_096
    assert KNOWN["Qwen/Qwen3-0.6B-Base"].parameters == 596_049_920


def test_parameters_of_the_micro_model(model, tmp_path, default):
    model.save_pretrained(tmp_path)
    shape = model_shape.read_shape(json.loads((tmp_path / "config.json").read_text()))
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    # 768 · 128 + 4 · (3 · 128 · 384 + 128 · 32 · (2 · 4 + 2 · 2) + 2 · 32 + 2 · 128) + 128
    assert model_shape.shape_of(default).parameters == 886_144
    folder = model_shape.shape_of(changed(default, sft_base_model=str(tmp_path)))
    assert folder == shape


def test_completions_are_those_of_the_finished_study(default):
    """The default study's committed tables have exactly as many rows as the plan says."""
    for group, _, completions in plan.evaluations(default):
        rows = len(pd.read_parquet(TABLES / "scores" / f"0-{group}.parquet", columns=["sample"]))
        assert rows == completions, group


def test_training_counts_are_those_of_the_finished_study(default):
    costs = pd.concat([pd.read_parquet(file) for file in sorted((TABLES / "costs").glob("0-*.parquet"))])
    table = plan.stages(default, plan.stated_rates(default)).set_index("stage")
    rl = costs[costs["stage"] == "rl"].set_index("model")["prompts"]
    batch = default.rlvr_completions
    assert table.loc["RLVR: mixed", "sequences"] == rl["rl-multi"] * batch
    assert table.loc["RLVR: experts, null, repeat", "sequences"] == rl.drop("rl-multi").sum() * batch
    assert table.loc["SFT", "sequences"] == costs[costs["stage"] == "sft"]["prompts"].sum()
    distilled = costs[costs["stage"] == "distillation"]["prompts"].sum()
    assert table.loc["MT-OPD", "sequences"] == distilled * default.distill_completions


def test_hours_and_tokens_by_hand(default):
    table = plan.stages(default, {"tokens": 100, "example": 150, "generated": 1000, "trained": 500}).set_index("stage")
    mixed = table.loc["RLVR: mixed"]
    assert (mixed["generated_tokens"], mixed["trained_tokens"]) == (320 * 8 * 8 * 100, 320 * 8 * 8 * 150)
    assert mixed["hours"] == pytest.approx((320 * 64 * 100 / 1000 + 320 * 64 * 150 / 500) / 3600)
    assert table.loc["SFT", "hours"] == pytest.approx(2000 * 32 * 150 / 500 / 3600)
    assert table.loc["MT-OPD", "trained_tokens"] == pytest.approx(100 * 64 * 150 * 4 / 3)


def test_hours_of_rl_at_stated_rates_are_near_those_measured(default):
    costs = pd.concat([pd.read_parquet(file) for file in sorted((TABLES / "costs").glob("*.parquet"))])
    a_seed = costs[costs["stage"] == "rl"].groupby("seed")["device_seconds"].sum().mean()
    table = plan.stages(default, plan.stated_rates(default)).set_index("stage")["hours"]
    assert table["RLVR: experts, null, repeat"] + table["RLVR: mixed"] == pytest.approx(a_seed / 3600, rel=0.1)


def test_rates_are_read_off_a_finished_study():
    costs = pd.DataFrame(
        [("a", "test", 6000.0, 0.0, 2.0, 0.0), ("b", "rl", 3000.0, 5000.0, 3.0, 10.0), ("c", "merge", 0.0, 0.0, 9.0, 0.0)],
        columns=["model", "stage", "generated_tokens", "trained_tokens", "device_seconds", "prompts"],
    )
    assert plan.measured_rates(costs) == {"generated": 3000, "trained": 2500}  # 3 s, 1 of them for its rollouts
    with pytest.raises(ValueError, match="test and rl are needed"):
        plan.measured_rates(costs[costs["stage"] == "merge"])


def test_memory_by_hand(default):
    shape = Shape(2, 8, 16, 2, 1, 4, 100)
    assert shape.activations == 4 * 8 + 2 * 3 * 4 + 4 * 16
    small = changed(default, train_device_batch=4)
    one, four = (plan.device_memory(p).set_index("use")["gigabytes"] for p in (changed(default, train_device_batch=1), small))
    fixed = 16 * model_shape.shape_of(default).parameters / 1e9
    assert four["RLVR"] - fixed == pytest.approx(4 * (one["RLVR"] - fixed))
    longer = plan.device_memory(changed(default, train_device_batch=1, rlvr_prompt_tokens=default.rlvr_prompt_tokens + 128))
    grown = longer.set_index("use")["gigabytes"]["RLVR"] - one["RLVR"]
    assert grown == pytest.approx((one["RLVR"] - fixed) * 128 / (default.rlvr_prompt_tokens + default.rlvr_max_tokens))
    assert four["MT-OPD"] - four["RLVR"] == pytest.approx(5 * 4 * model_shape.shape_of(default).parameters / 1e9)


def test_memory_of_several_processes(default):
    """What does not grow with the sequences held is weights, gradients, moments, teachers; what grows, a sequence's numbers."""
    shape = model_shape.shape_of(default)

    def parts(name: str) -> tuple[dict[str, float], float]:
        one, two = (
            plan.device_memory(changed(default, train_accelerate=name, train_device_batch=n)).set_index("use")["gigabytes"]
            for n in (1, 2)
        )
        return (1e9 * (2 * one - two) / shape.parameters).to_dict(), 1e9 * (two - one)["SFT"] / default.micro_context

    for name, trained, teachers in [
        ("none", 16, 20),
        ("cpu_1x2", 2 * 16, 2 * 20),  # both in one memory
        ("fsdp2_1x8", 16 / 8, 20 / 8),
        ("deepspeed_1x8", 4 + 12 / 8, 20),
    ]:
        found, token = parts(name)
        assert found["SFT"] == pytest.approx(trained) and found["MT-OPD"] == pytest.approx(trained + teachers), name
    assert parts("none")[1] == pytest.approx(4 * (shape.layers * shape.activations + 3 * shape.vocabulary))
    assert token == pytest.approx(parts("none")[1])
    checkpointed = shape.layers * shape.hidden + shape.activations  # a layer's numbers are made again for the backward pass
    assert parts("fsdp2_1x8")[1] == pytest.approx(4 * (checkpointed + 3 * shape.vocabulary))
    whole = changed(default, train_device_batch=64)  # 8 prompts of 8: with 8 processes 8 sequences on each
    eight = plan.device_memory(changed(whole, train_accelerate="fsdp2_1x8"))["gigabytes"][1]
    assert eight < plan.device_memory(whole)["gigabytes"][1] / 7


def test_disk_by_hand(default):
    made = plan.models_kept(default)
    # base, SFT; 7 runs with 4 kept steps (the matched one, 64, is none of the quarters: 5); mixed 6; 4 of MT-OPD; the merges
    assert made == 2 + 7 * 5 + 6 + 4 + len(schedule.merges(default))
    half = changed(default, merge_dtype="bfloat16")
    size = model_shape.shape_of(default).parameters
    assert plan.disk(default) == pytest.approx(4 * size * made / 1e9)
    assert plan.disk(default) - plan.disk(half) == pytest.approx(2 * size * len(schedule.merges(default)) / 1e9)


def test_what_cannot_fit_is_refused_in_one_line(default, monkeypatch):
    assert plan.refusals(default) == []
    monkeypatch.setattr(plan, "_memory", lambda device: (0.1, "this machine"))
    (memory,) = plan.refusals(default)
    assert "of memory, this machine has 0.1" in memory and "train_device_batch" in memory
    monkeypatch.setattr(plan, "_memory", lambda device: (None, ""))
    (gpu,) = plan.refusals(changed(default, plan_device="cuda"))
    assert "no CUDA GPU" in gpu
    monkeypatch.setattr(plan, "_memory", lambda device: (80.0, "a GPU"))
    monkeypatch.setattr(plan, "disk", lambda p: 1e6)
    (disk,) = plan.refusals(default)
    assert "1000000.0 GB of disk" in disk
    assert not any("\n" in line for line in (memory, gpu, disk))


def test_one_gpu_fits_on_eighty_gigabytes_and_the_paper_needs_many():
    assert plan.device_memory(study.load(ROOT / "params" / "one_gpu.yaml"))["gigabytes"].max() < 80
    paper = study.load(ROOT / "params" / "paper.yaml")
    assert plan.device_memory(paper)["gigabytes"].max() < 141  # of each of its 32 GPUs; an H200 has 141
    assert plan.device_memory(changed(paper, train_accelerate="none"))["gigabytes"].max() > 141


def test_the_dry_run(tmp_path, smoke_values, capsys, monkeypatch):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(smoke_values | {"study": "small"}))
    assert plan.main([str(path)]) == 0
    assert "RLVR: mixed" in capsys.readouterr().out
    path.write_text(yaml.safe_dump(smoke_values | {"study": "small", "plan_device": "cuda"}))
    monkeypatch.setattr(plan, "_memory", lambda device: (None, ""))
    assert plan.main([str(path), "--check"]) == 1
    shown = capsys.readouterr()
    assert not shown.out and shown.err.count("\n") == 1
    with pytest.raises(ValueError, match="needs --pilot"):
        plan.main([str(path), "--effect", "3"])


def test_a_pilot_gives_rates_and_sizes(tmp_path, default, capsys):
    pilot = tmp_path / "pilot"
    (pilot / "results").mkdir(parents=True)
    for name in ("costs", "scores"):
        (pilot / "results" / name).symlink_to(TABLES / name)
    plan.main([str(ROOT / "params" / "study.yaml"), "--pilot", str(pilot), "--effect", "3"])
    told = capsys.readouterr().out
    assert "rl-multi against merge-ties, an effect of 3 points" in told and "500 problems of 10 benchmarks" in told
