"""What the training stages share: start, settings, published checkpoints, and the row of what a run cost."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import datasets as hf_datasets
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase, TrainerCallback, set_seed
from transformers.utils import logging

from m2rl_lib import domains, sandbox
from m2rl_lib.config import locations, schedule
from m2rl_lib.config.study import Parameters
from m2rl_lib.data import problem_sets
from m2rl_lib.domains import chat
from m2rl_lib.rollout import decoding, trainer_rollouts
from m2rl_lib.storage import artifacts, processes
from m2rl_lib.training import launch, trl_adapter

# an executed notebook would keep every bar of loading, saving and preparing
hf_datasets.disable_progress_bars()
logging.disable_progress_bar()


def run_stage(p: Parameters, name: str, module: str, folders: list[Path], inputs: list[Path], train: Callable) -> list[Path]:
    """`train`'s folders, unless the study has them already, or several processes are to be started for them."""
    if artifacts.is_done(p, name, folders, inputs):
        print(f"{name}: this study has it already")
    elif launch.is_wanted(p):
        launch.start(p, name, module)
    else:
        with artifacts.stage(p, name):
            return train()
    return folders


def check_grading(p: Parameters, names: list[str]) -> None:
    """Refuse unknown domains and a sandbox that does not hold."""
    for domain in names:
        domains.check_domain(domain)
    sandbox.configure(p.sandbox_kind)
    sandbox.check()


def prepare(p: Parameters, module: str, names: list[str], threads: int, seed: int, start: Path) -> tuple:
    """Refuse what cannot be trained, set threads and seed; the time at which training began, and the tokenizer of `start`."""
    launch.check(p, module)
    check_grading(p, names)
    torch.set_num_threads(threads)
    set_seed(seed)
    return time.monotonic(), AutoTokenizer.from_pretrained(artifacts.verify_model(start))


def trainer_settings(p: Parameters, name: str, *, steps: int, batch: int, seed: int, logs: int = 25) -> dict:
    """The arguments that all three trainers share; `batch` sequences are one update, `logs` points are logged."""
    size, accumulated = micro_batches(batch, p.train_device_batch)
    return {
        "output_dir": str(locations.work_folder(p.study, p.seed, name)),
        "max_steps": steps,
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": accumulated,
        "weight_decay": 0.1,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": launch.configuration(p).get("mixed_precision") == "bf16",
        "gradient_checkpointing": False,
        "seed": seed,
        "save_strategy": "no",  # `Resumable.run` saves
        "logging_steps": max(1, steps // logs),
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
    }


def policy_settings(p: Parameters, name: str, *, rate: float, **settings) -> dict:
    """The arguments of GRPO and distillation: the paper's optimizer, sampling at temperature 1, vLLM where it is asked for."""
    sampler = launch.sampler(p)
    if sampler and not torch.cuda.is_available():
        trl_adapter.use_vllm_on_cpu(locations.work_folder(p.study, p.seed, name) / "served")
    return trainer_settings(p, name, **settings) | {
        "max_completion_length": p.rlvr_max_tokens,
        "temperature": 1.0,
        "learning_rate": rate,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": p.rlvr_warmup_steps,
        "adam_beta2": 0.98,
        "max_grad_norm": 1.0,
        **sampler,
    }


def micro_batches(total: int, most: int) -> tuple[int, int]:
    """(micro-batch size, gradient accumulation steps) of this process's share of a batch: 30 and `most` 8 are (6, 5)."""
    total //= processes.count()  # without rest: `launch.check`
    size = max(size for size in range(1, min(total, most) + 1) if total % size == 0)
    return size, total // size


def draw_prompts(p: Parameters, tokenizer: PreTrainedTokenizerBase, names: list[str], count: int, seed: int) -> list[dict]:
    """`count` training problems of the domains `names`, mixed."""
    limit = problem_sets.PromptLimit(tokenizer, p.rlvr_prompt_tokens)
    return processes.main_first(lambda: problem_sets.prompts(names, count, seed, problem_sets.world_of(p), p.data_sources, limit))


def prompt_dataset(tokenizer: PreTrainedTokenizerBase, rows: list[dict], repeats: int = 1) -> hf_datasets.Dataset:
    """TRL's training set: `prompt` and `row` (JSON), each problem `repeats` times in a row."""
    made = [{"prompt": chat.row_prompt(tokenizer, row), "row": json.dumps(row)} for row in rows]
    return hf_datasets.Dataset.from_list([example for example in made for _ in range(repeats)])


class Keeper(TrainerCallback):
    """Publishes the model at named steps and logs the selection reward of every domain there."""

    def __init__(self, p: Parameters, name: str, steps: int, checkpoints: list[int], prompts_per_step: int):
        self.p, self.name, self.steps, self.checkpoints, self.prompts_per_step = p, name, steps, checkpoints, prompts_per_step
        self.trainer = None  # set by `Resumable.run`
        self.folders: list[Path] = []
        self.curve: list[dict] = []
        self.seconds = 0.0  # spent here; not charged to training
        count = p.rlvr_selection_problems
        self.rows = [row for name in p.domains for row in problem_sets.first_problems(p, name, "selection", count)]

    def folder(self, step: int) -> Path:
        """Where the model of a named step is published."""
        return schedule.checkpoint_folder(self.p, self.name, step, self.steps)

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 0:  # a resumed run has it already
            self.log_selection(model, 0)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step in self.checkpoints:
            self.log_selection(model, state.global_step)
            folder = self.folder(state.global_step)
            with artifacts.publish(folder, self.trainer.made_by | {"step": state.global_step}) as fresh:
                self.trainer.write_model(fresh, self.trainer.processing_class)
            self.folders.append(folder)

    def log_selection(self, model, step: int) -> None:
        """The mean reward of one completion per selection problem, by domain; the run's own random state is kept."""
        started = time.monotonic()
        training = model.training
        model.eval()
        with torch.random.fork_rng():
            if self.trainer.use_vllm:
                texts = trainer_rollouts.ask_vllm(self.trainer, self.rows)
            else:
                how = {"temperature": 1.0, "max_tokens": self.p.rlvr_max_tokens, "batch": 256, "seed": self.p.seed}
                sampled = decoding.sample(model, self.trainer.processing_class, self.rows, 1, **how)
                texts = [completions[0].text for completions in sampled]
        model.train(training)
        rewards = domains.verify(texts, self.rows)
        shared = {"seed": self.p.seed, "model": self.name, "step": step, "prompts": step * self.prompts_per_step}
        for domain in self.p.domains:
            graded = [r for r, row in zip(rewards, self.rows) if row["domain"] == domain and r is not None]
            reward = sum(graded) / len(graded) if graded else None
            self.curve.append(shared | {"domain": domain, "kind": "selection", "reward": reward})
        self.seconds += time.monotonic() - started
