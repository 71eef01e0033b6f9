"""What a stage spent: rows of the `costs` table."""

import pandas as pd
import torch

from m2rl_lib.config.study import Parameters
from m2rl_lib.storage import artifacts, processes, result_tables


def write(p: Parameters, writer: str, made_by: dict, spent: list[dict]) -> None:
    """A writer's rows of the `costs` table, from `row`."""
    result_tables.write_table(p, "costs", writer, pd.DataFrame(spent).assign(seed=p.seed), made_by)


def row(model: str, stage: str, *, seconds: float, threads: int, prompts=0, generated_tokens=0, trained_tokens=0) -> dict:
    """What a run spent; on the CPU device-seconds are wall seconds × threads granted, of all processes."""
    devices = processes.count() * (1 if torch.cuda.is_available() else threads)
    time_spent = {"wall_seconds": seconds, "device_seconds": seconds * devices}
    counts = {"prompts": prompts, "generated_tokens": generated_tokens, "trained_tokens": trained_tokens}
    return {"model": model, "stage": stage, **time_spent, **counts, "peak_memory_bytes": artifacts.spent()["peak_memory_bytes"]}
