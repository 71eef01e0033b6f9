"""The plan of a study: counts that a finished study has, shapes of published size, and what is refused."""

import json

import pandas as pd
import pytest
import yaml

from m2rl_lib.cli import plan
from m2rl_lib.config import schedule, study
from m2rl_lib.config.locations import ROOT
from m2rl_lib.storage.result_tables import read_folder
from m2rl_lib.training import model_shape
from m2rl_lib.training.model_shape import KNOWN, Shape

TABLES = ROOT / "figures" / "study" / "tables"


@pytest.fixture(scope="module")
def default() -> study.Study:
    return study.load(ROOT / "params" / "study.yaml")


def changed(p: study.Study, **changes) -> study.Study:
    return p.model_copy(update=changes)


def memory(p: study.Study, **changes) -> pd.Series:
    return plan.device_memory(changed(p, **changes))


@pytest.mark.parametrize("name", ["smoke", "study", "map", "smoke_map", "one_gpu", "paper", "released"])
def test_every_committed_file_can_be_planned(name):
    p = study.load(ROOT / "params" / f"{name}.yaml")
    text = plan.describe(p, plan.stated_rates(p))
    assert text.startswith(f"{name}: ") and "memory, GB at once" in text
    assert plan.stages(p, plan.stated_rates(p))["hours"].gt(0).all()


def test_parameters_of_models(model, tmp_path, default):
    assert KNOWN["Qwen/Qwen3-4B-Base"].parameters == 4_022_468_096
    assert KNOWN["Qwen/Qwen3-0.6B-Base"].parameters == 596_049_920
    # 768 · 96 + 2 · (3 · 96 · 288 + 96 · 32 · (2 · 3 + 2 · 1) + 2 · 32 + 2 · 96) + 96
    assert model_shape.shape_of(default).parameters == 289_376
    model.save_pretrained(tmp_path)
    shape = model_shape.read_shape(json.loads((tmp_path / "config.json").read_text()))
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert model_shape.shape_of(changed(default, sft_base_model=str(tmp_path))) == shape


def test_completions_are_those_of_the_finished_study(default):
    """The default study's committed tables have exactly as many rows as the plan says."""
    planned = sum(completions for _, _, completions in plan.evaluations(default))
    assert planned == sum(int((read_folder(TABLES, table)["seed"] == 0).sum()) for table in ("scores", "greedy"))


def test_training_is_that_of_the_finished_study(default):
    costs = read_folder(TABLES, "costs")
    every, costs = costs, costs[costs["seed"] == 0]
    table = plan.stages(default, plan.stated_rates(default)).set_index("stage")
    rl = costs[costs["stage"] == "rl"].set_index("model")["prompts"]
    spent = costs.groupby("stage")["prompts"].sum()
    assert table.loc["RLVR: mixed", "sequences"] == rl["rl-multi"] * default.rlvr_completions
    assert table.loc["RLVR: experts, null, repeat", "sequences"] == rl.drop("rl-multi").sum() * default.rlvr_completions
    assert table.loc["SFT", "sequences"] == spent["sft"]
    assert table.loc["MT-OPD", "sequences"] == spent["distillation"] * default.distill_completions
    hours = every.query("stage == 'rl'").groupby("seed")["device_seconds"].sum().mean() / 3600
    planned = table.loc[["RLVR: experts, null, repeat", "RLVR: mixed"], "hours"].sum()
    assert planned == pytest.approx(hours, rel=0.1), "at the stated rates"


def test_hours_and_tokens_by_hand(default):
    table = plan.stages(default, {"tokens": 100, "example": 150, "generated": 1000, "trained": 500}).set_index("stage")
    mixed = table.loc["RLVR: mixed"]
    assert (mixed["generated_tokens"], mixed["trained_tokens"]) == (128 * 192 * 100, 128 * 192 * 150)
    assert mixed["hours"] == pytest.approx((128 * 192 * 100 / 1000 + 128 * 192 * 150 / 500) / 3600)
    assert table.loc["SFT", "hours"] == pytest.approx(2000 * 32 * 150 / 500 / 3600)
    assert table.loc["MT-OPD", "trained_tokens"] == pytest.approx(100 * 64 * 150 * 4 / 3)


def test_rates_are_read_off_a_finished_study():
    costs = pd.DataFrame(
        [("a", "test", 6000.0, 0.0, 2.0, 0.0), ("b", "rl", 3000.0, 5000.0, 3.0, 10.0), ("c", "merge", 0.0, 0.0, 9.0, 0.0)],
        columns=["model", "stage", "generated_tokens", "trained_tokens", "device_seconds", "prompts"],
    )
    assert plan.measured_rates(costs) == {"generated": 3000, "trained": 2500}  # 3 s, 1 of them for its rollouts
    with pytest.raises(ValueError, match="test and rl are needed"):
        plan.measured_rates(costs[costs["stage"] == "merge"])


def test_memory_by_hand(default):
    assert Shape(2, 8, 16, 2, 1, 4, 100).activations == 4 * 8 + 2 * 3 * 4 + 4 * 16
    one, four = memory(default, train_device_batch=1), memory(default, train_device_batch=4)
    fixed = 20 * model_shape.shape_of(default).parameters / 1e9  # with SFT's weights, for the KL
    assert memory(default, train_device_batch=4, rlvr_kl=0)["RLVR"] == pytest.approx(four["RLVR"] - fixed / 5)
    assert four["RLVR"] - fixed == pytest.approx(4 * (one["RLVR"] - fixed))
    grown = memory(default, train_device_batch=1, rlvr_prompt_tokens=default.rlvr_prompt_tokens + 128)["RLVR"] - one["RLVR"]
    assert grown == pytest.approx((one["RLVR"] - fixed) * 128 / (default.rlvr_prompt_tokens + default.rlvr_max_tokens))
    assert four["MT-OPD"] - four["RLVR"] == pytest.approx(4 * 4 * model_shape.shape_of(default).parameters / 1e9)


def test_memory_of_several_processes(default):
    """What does not grow with the micro-batch is weights, gradients, moments, teachers; what grows, a sequence's numbers."""
    shape, tokens = model_shape.shape_of(default), {}
    bytes_of = {"none": (16, 20), "fsdp2_1x8": (16 / 8, 20 / 8), "deepspeed_1x8": (4 + 12 / 8, 20)}
    bytes_of["cpu_1x2"] = (2 * 16, 2 * 20)  # both in one memory
    for name, (trained, teachers) in bytes_of.items():
        one, two = (memory(default, train_accelerate=name, train_device_batch=n) for n in (1, 2))
        fixed, tokens[name] = 1e9 * (2 * one - two) / shape.parameters, 1e9 * (two - one)["SFT"] / default.micro_context
        assert fixed["SFT"] == pytest.approx(trained) and fixed["MT-OPD"] == pytest.approx(trained + teachers), name
    whole, checkpointed = shape.layers * shape.activations, shape.layers * shape.hidden + shape.activations
    assert tokens["none"] == pytest.approx(tokens["deepspeed_1x8"]) == pytest.approx(4 * (whole + 3 * shape.vocabulary))
    assert tokens["fsdp2_1x8"] == pytest.approx(4 * (checkpointed + 3 * shape.vocabulary))
    # 32 prompts of 8: with 8 processes 32 sequences on each
    eight = memory(default, train_device_batch=256, train_accelerate="fsdp2_1x8")
    assert eight["RLVR"] < memory(default, train_device_batch=256)["RLVR"] / 7


def test_disk_by_hand(default):
    made = plan.models_kept(default)
    # base, SFT; 7 runs with 4 kept steps (the matched one, 25, is none of the quarters: 5); mixed 9; 4 of MT-OPD; the merges
    assert made == 2 + 7 * 5 + 9 + 4 + len(schedule.merges(default))
    half = changed(default, merge_dtype="bfloat16")
    size = model_shape.shape_of(default).parameters
    assert plan.disk(default) == pytest.approx(4 * size * made / 1e9)
    assert plan.disk(default) - plan.disk(half) == pytest.approx(2 * size * len(schedule.merges(default)) / 1e9)


def test_a_map_is_counted_by_its_worlds(default):
    counts = {"shared": 6, "private": 0, "conflicting": 0}
    few = changed(
        default,
        merge_methods=["ties", "tsv"],
        map_worlds=[counts, counts | {"shared": 5, "conflicting": 1}],
        map_budgets=[0.5, 1.0],
    )
    runs = plan.stages(few, plan.stated_rates(few)).set_index("stage")["runs"]
    assert runs[["SFT", "RLVR: experts, null, repeat", "RLVR: mixed", "MT-OPD", "merges"]].tolist() == [
        1,
        2 * 5,
        2,
        2 * 2,
        2 * 2 * 2,
    ]
    assert runs.filter(like="evaluation").tolist() == [1 + 2 * (5 + 1 + 2 + 1)] * 2
    # base, SFT; in each world the experts' quarters and matched step, the mixed run's nine, four of each MT-OPD, the merges
    assert plan.models_kept(few) == 2 + 2 * (5 * len(schedule.expert_checkpoints(few)) + 9 + 2 * 4 + 2 * 2)


def test_what_cannot_fit_is_refused_in_one_line(default, monkeypatch):
    assert plan.refusals(default) == []
    few = "of memory, this machine has 0.1: lower train_device_batch"
    for have, words in [((0.1, "this machine"), few), ((None, ""), "no CUDA GPU")]:
        monkeypatch.setattr(plan, "_memory", lambda device, have=have: have)
        (line,) = plan.refusals(default)
        assert words in line and "\n" not in line
    monkeypatch.setattr(plan, "_memory", lambda device: (80.0, "a GPU"))
    monkeypatch.setattr(plan, "disk", lambda p: 1e6)
    (line,) = plan.refusals(default)
    assert "1000000.0 GB of disk" in line and "\n" not in line


def test_more_problems_than_there_are_is_refused_before_any_training(default):
    (line,) = plan.refusals(default.model_copy(update={"evaluate_problems": 400}))
    assert "distinct test problems, 400 asked for" in line
    (line,) = plan.refusals(default.model_copy(update={"evaluate_selection_problems": 300}))
    assert "distinct selection problems, 300 asked for" in line


def test_one_gpu_fits_on_eighty_gigabytes_and_the_paper_needs_many():
    assert memory(study.load(ROOT / "params" / "one_gpu.yaml")).max() < 80
    paper = study.load(ROOT / "params" / "paper.yaml")
    assert memory(paper).max() < 141 < memory(paper, train_accelerate="none").max()  # of each of its 32 GPUs; an H200 has 141


def test_the_dry_run(tmp_path, smoke_values, capsys, monkeypatch):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(smoke_values | {"study": "small"}))
    assert plan.main([str(path)]) == 0
    assert "RLVR: mixed" in capsys.readouterr().out
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
    shown = capsys.readouterr().out
    assert "rl-multi against merge-ties, an effect of 3 points" in shown and "500 problems of 10 benchmarks" in shown
