"""A batch cut into micro-batches trains as the whole batch does."""

import torch
from tiny import parity, weights

from m2rl_lib.storage import result_tables
from m2rl_lib.training import grpo, mt_opd, sft


def distance(p, start, train, sizes, **changed) -> float:
    """The distance between the ends of two runs with micro-batches of these sizes, in units of the first run's way."""
    one, two = [weights(train(p.model_copy(update=changed | {"train_device_batch": size}))) for size in sizes]
    moved = (one - weights(start)).norm()
    assert moved > 0
    return float((one - two).norm() / moved)


def test_sft(smoke, model, publish_model):
    base, changed = publish_model("base", model), {"sft_steps": 3, "sft_batch": 8, "sft_demonstrations": 6}
    assert distance(smoke, base, lambda p: sft.train(p, base, sft.corpus(p)), (8, 2), **changed) < 0.02


def test_rlvr(smoke, model, publish_model, monkeypatch):
    monkeypatch.setattr(grpo, "reward_function", parity)
    start, rewards = publish_model("sft", model), []

    def train(p):
        (folder,) = grpo.train(p, "rl-math", ["math"], 4, [4], start, seed=0)
        log = result_tables.read_table(p, "training", ["rl-math"])
        rewards.append(log["reward"].tolist())
        assert log["kl"].iloc[0] < 1e-6 < log["kl"].iloc[-1]  # to SFT, where the run starts
        return folder

    assert distance(smoke, start, train, (8, 4)) < 0.05
    assert rewards[0] == rewards[1]  # the same completions at every step


def test_distillation(smoke, model, publish_model):
    start = publish_model("sft", model)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor += 0.1 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1))
    teachers = {"math": publish_model("rl-math", model, [start])}
    train = lambda p: mt_opd.train(p, start, teachers, [p.distill_steps])[0]  # noqa: E731
    assert distance(smoke, start, train, (8, 4), domains=["math", "agent"]) < 0.1
