"""A batch cut into parts of what a device holds trains as the whole batch does."""

import pytest
import torch
from safetensors.torch import load_file

from m2rl_lib.storage import result_tables
from m2rl_lib.training import grpo, mt_opd, sft
from m2rl_lib.training.common import micro_batches


def moved(start, end) -> torch.Tensor:
    """The shift of all weights, one vector."""
    one, two = load_file(start / "model.safetensors"), load_file(end / "model.safetensors")
    return torch.cat([(two[name] - one[name]).flatten() for name in one])


def apart(one: torch.Tensor, two: torch.Tensor) -> float:
    """How far two shifts are apart, in units of the first."""
    assert one.norm() > 0
    return float((one - two).norm() / one.norm())


def lengths_reward(domain: str):
    """A reward that differs within a group, whatever an untrained model writes."""

    def reward(*, text, **_):
        return [float(len(one) % 2) for one in text]

    reward.__name__ = domain
    return reward


def test_parts_are_equal_and_no_larger_than_asked():
    assert micro_batches(2048, 16) == (16, 128)  # the paper's 128 × 16 sequences, sixteen at a time
    for total in range(1, 65):
        for most in (1, 3, 8, 64):
            held, parts = micro_batches(total, most)
            assert held * parts == total and held <= most


def test_sft(smoke, model, publish_model):
    base = publish_model("base", model)
    ends = []
    for held in (8, 2):
        p = smoke.model_copy(update={"sft_steps": 3, "sft_batch": 8, "train_device_batch": held, "sft_demonstrations": 6})
        ends.append(moved(base, sft.train(p, base, sft.corpus(p))))
    assert apart(*ends) < 0.02


def test_rlvr(smoke, model, publish_model, monkeypatch):
    monkeypatch.setattr(grpo, "reward_function", lengths_reward)
    start = publish_model("sft", model)
    ends = []
    for held in (8, 4):
        p = smoke.model_copy(update={"train_device_batch": held})
        (folder,) = grpo.train(p, "rl-math", ["math"], 4, [4], start, seed=0)
        ends.append((moved(start, folder), result_tables.read_table(p, "training", ["rl-math"])["reward"].tolist()))
    assert ends[0][1] == ends[1][1]  # the same completions at every step
    assert apart(ends[0][0], ends[1][0]) < 0.05


def test_distillation(smoke, model, publish_model):
    start = publish_model("sft", model)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor += 0.1 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1))
    teacher = publish_model("rl-math", model, [start])
    ends = []
    for held in (8, 4):
        p = smoke.model_copy(update={"train_device_batch": held, "domains": ["math", "agent"]})
        (folder,) = mt_opd.train(p, start, {"math": teacher}, [p.distill_steps])
        ends.append(moved(start, folder))
    assert apart(*ends) < 0.1


@pytest.mark.parametrize("held", [1, 64])
def test_the_configuration(smoke, held):
    config = grpo.grpo_config(smoke.model_copy(update={"train_device_batch": held}), "rl-math", 4, 0)
    assert config.per_device_train_batch_size * config.gradient_accumulation_steps == 8
    assert config.generation_batch_size == 8  # all completions of a step are sampled together
