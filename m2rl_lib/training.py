"""What the training stages share: a line of progress, and the row that says what a run cost."""

import math
import resource
from types import SimpleNamespace

import datasets
import pandas as pd
import torch
from transformers import TrainerCallback
from transformers.utils import logging

from m2rl_lib import artifacts

# an executed notebook would keep every bar of loading, saving and preparing
datasets.disable_progress_bars()
logging.disable_progress_bar()


class Progress(TrainerCallback):
    """Prints a line at every logging step, and stops at a value that is not a finite number."""

    def __init__(self, name: str, key: str):
        self.name, self.key = name, key

    def on_log(self, args, state, control, logs=None, **kwargs):
        for key in {self.key, "loss"} & (logs or {}).keys():
            if not math.isfinite(float(logs[key])):
                raise FloatingPointError(f"{self.name}: {key} is {logs[key]} at step {state.global_step}; nothing was published")
        if self.key in (logs or {}):
            print(f"{self.name}: step {state.global_step}/{state.max_steps}, {self.key} {float(logs[self.key]):.3f}", flush=True)


def write_costs(p: SimpleNamespace, writer: str, made_by: dict, costs: list[dict]) -> None:
    """A writer's rows of the `costs` table, from `cost`."""
    artifacts.write_table(p, "costs", writer, pd.DataFrame(costs).assign(seed=p.seed), made_by)


def cost(
    model: str, stage: str, *, seconds: float, threads: int, prompts: int = 0, generated_tokens: int = 0, trained_tokens: int = 0
) -> dict:
    """What a run spent; on the CPU device-seconds are wall seconds × threads granted."""
    return {
        "model": model,
        "stage": stage,
        "wall_seconds": seconds,
        "device_seconds": seconds * (1 if torch.cuda.is_available() else threads),
        "prompts": prompts,
        "generated_tokens": generated_tokens,
        "trained_tokens": trained_tokens,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
