"""Cascades and a second round of MT-OPD, trained at a tiny size: what starts from what, and what it costs."""

import shutil
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from m2rl_lib import domains
from m2rl_lib.analysis.rq1_mix_or_merge import budgets
from m2rl_lib.config import locations, schedule
from m2rl_lib.config.study import ParameterError
from m2rl_lib.merging import merge
from m2rl_lib.storage import artifacts, result_tables
from m2rl_lib.training import cascade, grpo, mt_opd, sft


@pytest.fixture
def tiny(smoke):
    """The smoke study of two domains, its SFT trained."""
    smoke.domains, smoke.sft_steps, smoke.rlvr_mixed_steps = ["math", "agent"], 4, 5
    sft.run(smoke)
    return smoke


def inputs(folder) -> set[str]:
    return {Path(name).name for name in artifacts.read_manifest(folder)["inputs"]}


def test_a_cascade_goes_from_stage_to_stage_with_rl_multis_prompts_in_all(tiny, capsys):
    orders = {"cascade": ("given", ["math", "agent"]), "cascade-reverse": ("reverse", ["agent", "math"])}
    for value, (order, names) in orders.items():
        p, name = tiny.model_copy(update={"order": order}), schedule.cascade_name(order)
        assert [(domain, end) for domain, _, end in schedule.cascade_stages(p, name)] == list(zip(names, (2, 5)))
        first, last = cascade.run(p)
        assert last.name == name and inputs(first) == {"sft"} and inputs(last) == {first.name}
        assert artifacts.read_manifest(last)["stage"]["domains"] == names[1:]
        curve = cascade.read_curves(p, name)
        assert curve["step"].unique().tolist() == [0, 2, 5] and set(curve["domain"]) == {"math", "agent"}
        spent = budgets.joint_costs(result_tables.read_table(p, "costs"), tiny.model_copy(update={"joint_models": [value]}))
        assert spent["prompts"].tolist() == [tiny.rlvr_mixed_steps * tiny.rlvr_prompts_per_step]
    digests = [artifacts.read_manifest(folder)["digest"] for folder in (first, last)]
    again = cascade.run(p)  # as after a kill before the notebook's end: no step is taken again
    assert [artifacts.read_manifest(folder)["digest"] for folder in again] == digests
    artifacts.finish(p, name, again, [locations.model_folder(p.study, p.seed, "sft")])
    capsys.readouterr()
    assert cascade.run(p) == again and "this study has it already" in capsys.readouterr().out


def test_a_second_round_starts_from_the_first_ones_student(tiny):
    def experts(number: int):
        runs = [
            tiny.model_copy(update={"domain": d, "repeat": 0, "permute_rewards": False, "round": number}) for d in tiny.domains
        ]
        return [grpo.run_expert(p)[-1] for p in runs]

    first = experts(1)
    student = mt_opd.run(tiny)[-1]
    early = tiny.model_copy(update={"teacher_step": 2})
    assert inputs(mt_opd.run(early)[-1]) == {"sft", "rl-math@step=2", "rl-agent@step=2"}
    assert mt_opd.student_name(early) == "mt-opd@teacher_step=2"
    with pytest.raises(ParameterError, match="round is 2 with teacher_step 2"):
        mt_opd.run(early.model_copy(update={"round": 2}))
    second = experts(2)
    assert [folder.name for folder in second] == ["rl-math@round=2", "rl-agent@round=2"]
    assert inputs(student) == {"sft", *(folder.name for folder in first)} and inputs(second[0]) == {"mt-opd"}
    last = mt_opd.run(tiny.model_copy(update={"round": 2}))[-1]
    assert last == locations.model_folder(tiny.study, tiny.seed, "mt-opd@round=2")
    assert inputs(last) == {"mt-opd", *(folder.name for folder in second)}
    one = tiny.model_copy(update={"joint_models": ["second-round"]})
    spent = budgets.joint_costs(result_tables.read_table(tiny, "costs"), one)["prompts"].item()
    assert spent == 4 * tiny.rlvr_steps * tiny.rlvr_prompts_per_step + 2 * tiny.distill_steps * tiny.distill_prompts_per_step


def paid(tiny, monkeypatch, **run):
    """A run of notebook 03 whose rewards are 0 or 1 by the text, so that there is something to learn."""
    monkeypatch.setattr(domains.ALL["math"], "verify", lambda texts, rows: [float(zlib.crc32(t.encode()) % 2) for t in texts])
    return tiny.model_copy(update={"domain": "math", "repeat": 0, "permute_rewards": False} | run)


def test_experts_by_adapters_are_merged_as_any_others(tiny, monkeypatch):
    tiny.joint_models = ["lora-ties"]
    assert schedule.lora_experts(tiny) == ["rl-math@lora=16", "rl-agent@lora=16"]
    folder = grpo.run_expert(paid(tiny, monkeypatch, lora=16))[-1]
    start, end = (load_file(locations.model_folder("smoke", 0, name) / "model.safetensors") for name in ("sft", folder.name))
    assert folder.name == "rl-math@lora=16" and start.keys() == end.keys()  # no adapter is left beside the weights
    moved = {name: tensor - start[name] for name, tensor in end.items() if not torch.equal(tensor, start[name])}
    assert moved and all("proj" in name for name in moved)
    ranks = [int(torch.linalg.matrix_rank(tensor, rtol=1e-2)) for tensor in moved.values() if min(tensor.shape) > 16]
    assert ranks and max(ranks) <= 16
    grpo.run_expert(tiny.model_copy(update={"domain": "agent", "repeat": 0, "permute_rewards": False, "lora": 16}))
    made = merge.recipe(tiny, "merge-ties@lora=16")
    assert [expert.name for expert in made.experts] == schedule.lora_experts(tiny)
    merge.merge(tiny, made, "merge-ties@lora=16")
    spent = budgets.joint_costs(result_tables.read_table(tiny, "costs"), tiny)["prompts"].item()
    assert not schedule.joint_runs(tiny) and spent == 2 * tiny.rlvr_steps * tiny.rlvr_prompts_per_step


def test_a_run_of_adapters_resumes_with_the_weights_of_an_unbroken_one(tiny, monkeypatch):
    run = paid(tiny, monkeypatch, lora=4)
    whole = artifacts.read_manifest(grpo.run_expert(run)[-1])["digest"]
    shutil.rmtree(locations.model_folder(tiny.study, 0, "rl-math@lora=4"))
    saved = grpo.DomainTrainer.save_checkpoint

    def killed(self):
        saved(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(grpo.DomainTrainer, "save_checkpoint", killed)
        grpo.run_expert(run)
    folder = grpo.run_expert(run)[-1]
    assert artifacts.read_manifest(folder)["digest"] == whole and artifacts.read_manifest(folder)["resumed"][0]["exact"]


def test_adapters_of_weights_in_pieces_are_refused(smoke):
    run = {"domain": "math", "repeat": 0, "permute_rewards": False, "lora": 16, "train_accelerate": "fsdp2_1x8"}
    with pytest.raises(ParameterError, match="lora is 16 and train_accelerate 'fsdp2_1x8', whose weights are in pieces"):
        grpo.run_expert(smoke.model_copy(update=run))


def test_a_second_round_of_a_control_is_refused(smoke):
    with pytest.raises(ParameterError, match="round 2 and repeat 1: only one of them is allowed"):
        grpo.run_expert(smoke.model_copy(update={"domain": "math", "repeat": 1, "permute_rewards": False, "round": 2}))
