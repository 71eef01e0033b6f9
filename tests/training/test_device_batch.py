"""A batch cut into micro-batches trains as the whole batch does."""

import torch
from tiny import parity, weights

from m2rl_lib.storage import result_tables
from m2rl_lib.training import grpo, mt_opd, sft


def distance(start, one, two) -> float:
    """The distance between the ends of two runs, in units of the first run's way."""
    moved = (weights(one) - weights(start)).norm()
    assert moved > 0
    return float((weights(one) - weights(two)).norm() / moved)


def rename(folder, size: int):
    """A published model out of the way of the next run's."""
    return folder.rename(folder.with_name(f"{folder.name}-{size}"))


def test_sft(smoke, model, publish_model):
    base = publish_model("base", model)
    ends = []
    for size in (8, 2):
        p = smoke.model_copy(update={"sft_steps": 3, "sft_batch": 8, "train_device_batch": size, "sft_demonstrations": 6})
        ends.append(rename(sft.train(p, base, sft.corpus(p)), size))
    assert distance(base, *ends) < 0.02


def test_rlvr(smoke, model, publish_model, monkeypatch):
    monkeypatch.setattr(grpo, "reward_function", parity)
    start = publish_model("sft", model)
    ends, rewards = [], []
    for size in (8, 4):
        p = smoke.model_copy(update={"train_device_batch": size})
        ends.append(rename(grpo.train(p, "rl-math", ["math"], 4, [4], start, seed=0)[0], size))
        log = result_tables.read_table(p, "training", ["rl-math"])
        rewards.append(log["reward"].tolist())
        assert log["kl"].iloc[0] < 1e-6 < log["kl"].iloc[-1]  # to SFT, where the run starts
    assert rewards[0] == rewards[1]  # the same completions at every step
    assert distance(start, *ends) < 0.05


def test_distillation(smoke, model, publish_model):
    start = publish_model("sft", model)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor += 0.1 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1))
    teacher = publish_model("rl-math", model, [start])
    ends = []
    for size in (8, 4):
        p = smoke.model_copy(update={"train_device_batch": size, "domains": ["math", "agent"]})
        ends.append(rename(mt_opd.train(p, start, {"math": teacher}, [p.distill_steps])[0], size))
    assert distance(start, *ends) < 0.1
