"""What several tests of training use: tiny models, weights and gradients as one vector, rewards that differ in any group."""

import json
import time
import zlib
from contextlib import suppress

import psutil
import torch
from datasets import Dataset
from safetensors.torch import load_file

from m2rl_lib.training import grpo, micro_model, mt_opd

PLACEHOLDER = Dataset.from_list([{"prompt": "a"}] * 8)


def random_model(tokenizer, seed: int):
    return micro_model.build_model(tokenizer, 32, 2, 2, 512, seed)


def grpo_trainer(p, model, tokenizer, reward, data=PLACEHOLDER):
    args = grpo.grpo_config(p.model_copy(update={"rlvr_kl": 0}), "rl-tiny", 3, 0)  # a KL would need a folder to load SFT from
    how = {"model": model, "args": args, "train_dataset": data, "processing_class": tokenizer}
    return grpo.DomainTrainer(**how, reward_funcs=[reward], rollout_func=grpo.roll_out)


def mt_opd_trainer(p, model, tokenizer, teachers, data=PLACEHOLDER):
    how = {"model": model, "args": mt_opd.configuration(p, 0), "train_dataset": data, "processing_class": tokenizer}
    return mt_opd.MultiTeacherTrainer(teachers, **how)


def weights(folder) -> torch.Tensor:
    """All weights of a published model, one vector."""
    tensors = load_file(folder / "model.safetensors")
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def gradient(model, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def wait_until_ended(processes: list[psutil.Process], seconds: float) -> None:
    """Wait for processes, also such as we have not started and nobody reaps."""
    until = time.monotonic() + seconds
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            while process.status() != psutil.STATUS_ZOMBIE:
                assert time.monotonic() < until, process
                time.sleep(0.1)


def parity(domain: str):
    """A domain's reward function whose values differ within a group, whatever an untrained model writes."""

    def reward(*, row, text, **_):
        mine = [json.loads(one)["domain"] == domain for one in row]
        return [float(zlib.crc32(one.encode()) % 2) if own else None for own, one in zip(mine, text)]

    reward.__name__ = domain
    return reward
