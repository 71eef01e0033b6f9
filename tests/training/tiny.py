"""What several tests of training use: tiny models, weights and gradients as one vector, rewards that differ in any group."""

import json
import time
import zlib

import psutil
import torch
from datasets import Dataset
from safetensors.torch import load_file

from m2rl_lib.training import grpo, micro_model, mt_opd

PLACEHOLDER = Dataset.from_list([{"prompt": "a"}] * 8)


def random_model(tokenizer, seed: int):
    """A micro model with random weights."""
    return micro_model.build_model(tokenizer, 32, 2, 2, 512, seed)


def grpo_trainer(p, model, tokenizer, reward, data=PLACEHOLDER):
    """A trainer of GRPO on problems, or on none if it is not to run; without KL, as such a model has no folder to come from."""
    args = grpo.grpo_config(p.model_copy(update={"rlvr_kl": 0}), "rl-tiny", 3, 0)
    how = {"model": model, "args": args, "train_dataset": data, "processing_class": tokenizer}
    return grpo.DomainTrainer(**how, reward_funcs=[reward], rollout_func=grpo.roll_out)


def mt_opd_trainer(p, model, tokenizer, teachers, data=PLACEHOLDER):
    """A trainer of distillation on problems, or on none if it is not to run."""
    how = {"model": model, "args": mt_opd.configuration(p, 0), "train_dataset": data, "processing_class": tokenizer}
    return mt_opd.MultiTeacherTrainer(teachers, **how)


def weights(folder) -> torch.Tensor:
    """All weights of a published model, one vector."""
    tensors = load_file(folder / "model.safetensors")
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def gradient(model, loss: torch.Tensor) -> torch.Tensor:
    """The gradient of a loss, one vector."""
    model.zero_grad()
    loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def is_running(process: psutil.Process) -> bool:
    """Whether a process has not ended, nor is one that nobody reaps."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_ended(processes: list[psutil.Process], seconds: float) -> None:
    """Wait for processes, also such as we have not started."""
    until = time.monotonic() + seconds
    while left := list(filter(is_running, processes)):
        assert time.monotonic() < until, left
        time.sleep(0.1)


def parity(domain: str):
    """A domain's reward function whose values differ within a group, whatever an untrained model writes."""

    def reward(*, row, text, **_):
        mine = [json.loads(one)["domain"] == domain for one in row]
        return [float(zlib.crc32(one.encode()) % 2) if own else None for own, one in zip(mine, text)]

    reward.__name__ = domain
    return reward
