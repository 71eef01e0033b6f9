"""What the training stages share: a line of progress, the checkpoints that are kept, and the row that says what a run cost."""

import math
import time
from pathlib import Path

import datasets as hf_datasets
import pandas as pd
import torch
from transformers import TrainerCallback
from transformers.utils import logging

from m2rl_lib import domains
from m2rl_lib.config import schedule
from m2rl_lib.config.study import Parameters
from m2rl_lib.data import problem_sets
from m2rl_lib.rollout import decoding
from m2rl_lib.storage import artifacts, processes, result_tables

# an executed notebook would keep every bar of loading, saving and preparing
hf_datasets.disable_progress_bars()
logging.disable_progress_bar()


class Progress(TrainerCallback):
    """Prints a line at every logging step, and stops at a value that is not a finite number."""

    def __init__(self, name: str, key: str):
        self.name, self.key = name, key

    def on_log(self, args, state, control, logs=None, **kwargs):
        for key in {self.key, "loss"} & (logs or {}).keys():
            if logs[key] is not None and not math.isfinite(float(logs[key])):
                raise FloatingPointError(f"{self.name}: {key} is {logs[key]} at step {state.global_step}; nothing was published")
        if self.key in (logs or {}):  # None where nothing could be graded
            told = "none" if logs[self.key] is None else f"{float(logs[self.key]):.3f}"
            print(f"{self.name}: step {state.global_step}/{state.max_steps}, {self.key} {told}", flush=True)


class Keeper(TrainerCallback):
    """Publishes the model at named steps and logs the selection reward of every domain there."""

    def __init__(self, p, name, steps, checkpoints, tokenizer, made_by, prompts_per_step):
        self.p, self.name, self.steps, self.checkpoints = p, name, steps, checkpoints
        self.prompts_per_step = prompts_per_step
        self.tokenizer, self.made_by = tokenizer, made_by
        self.trainer = None  # `Resumable.run` says which
        self.folders: list[Path] = []
        self.curve: list[dict] = []
        self.seconds = 0.0  # spent here; not charged to training
        self.rows = {
            domain: problem_sets.benchmark_problems(
                problem_sets.benchmarks(domain, p.data_sources)[0],
                "selection",
                p.rlvr_selection_problems,
                p.data_shared_arithmetic,
                p.data_sources,
            )
            for domain in p.domains
        }

    def folder(self, step: int) -> Path:
        """Where the model of a named step is published."""
        return schedule.checkpoint_folder(self.p, self.name, step, self.steps)

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 0:  # a run that goes on has it already
            self.log_selection(model, 0)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step in self.checkpoints:
            self.log_selection(model, state.global_step)
            folder = self.folder(state.global_step)
            with artifacts.publish(folder, self.made_by | {"step": state.global_step}) as fresh:
                self.trainer.write_model(fresh, self.tokenizer)
            self.folders.append(folder)

    def log_selection(self, model, step: int) -> None:
        """The mean reward of one completion a selection problem, by domain; the run's own random state is kept."""
        started = time.monotonic()
        rows = [row for part in self.rows.values() for row in part]
        training = model.training
        model.eval()
        limit = self.p.rlvr_max_tokens
        with torch.random.fork_rng():
            if self.trainer.use_vllm:
                texts = decoding.ask_vllm(self.trainer, rows)
            else:
                sampled = decoding.sample(
                    model, self.tokenizer, rows, 1, temperature=1.0, max_tokens=limit, batch=256, seed=self.p.seed
                )
                texts = [completions[0].text for completions in sampled]
        model.train(training)
        rewards = domains.verify(texts, rows)
        for domain in self.rows:
            graded = [r for r, row in zip(rewards, rows) if row["domain"] == domain and r is not None]
            self.curve.append(
                {
                    "seed": self.p.seed,
                    "model": self.name,
                    "step": step,
                    "prompts": step * self.prompts_per_step,
                    "domain": domain,
                    "kind": "selection",
                    "reward": sum(graded) / len(graded) if graded else None,
                }
            )
        self.seconds += time.monotonic() - started


def batch_parts(total: int, most: int) -> tuple[int, int]:
    """(sequences held at once, parts) of a batch of `total`: the largest equal parts of at most `most` sequences.

    Of several processes each has an equal share of the batch: 2048 on 32 GPUs are 64 on each, (16, 4) of them at a time.

    >>> batch_parts(2048, 16), batch_parts(64, 100), batch_parts(30, 8)
    ((16, 128), (64, 1), (6, 5))
    """
    total //= processes.count()  # without rest: `launch.check`
    held = max(size for size in range(1, min(total, most) + 1) if total % size == 0)
    return held, total // held


def write_costs(p: Parameters, writer: str, made_by: dict, costs: list[dict]) -> None:
    """A writer's rows of the `costs` table, from `cost`."""
    result_tables.write_table(p, "costs", writer, pd.DataFrame(costs).assign(seed=p.seed), made_by)


def cost(
    model: str, stage: str, *, seconds: float, threads: int, prompts: int = 0, generated_tokens: int = 0, trained_tokens: int = 0
) -> dict:
    """What a run spent; on the CPU device-seconds are wall seconds × threads granted, of all processes."""
    return {
        "model": model,
        "stage": stage,
        "wall_seconds": seconds,
        "device_seconds": seconds * processes.count() * (1 if torch.cuda.is_available() else threads),
        "prompts": prompts,
        "generated_tokens": generated_tokens,
        "trained_tokens": trained_tokens,
        "peak_memory_bytes": artifacts.spent()["peak_memory_bytes"],
    }
