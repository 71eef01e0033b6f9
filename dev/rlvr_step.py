"""An RLVR step of ours beside a bare TRL GRPOTrainer: same model, prompts, rewards and settings, in the same process, in turns.

    python dev/rlvr_step.py [--model FOLDER]

Prints JSON: for each run the median seconds a step and where they go, tokens a second, and the share of the floating-point limit that
the model's arithmetic makes up (2 operations a parameter and generated token, 6 a trained one, over a matrix product measured in between).
"""

from __future__ import annotations

import argparse
import collections
import json
import statistics
import tempfile
import time
import timeit
from pathlib import Path
from types import SimpleNamespace

import torch
from common import model_folder, parameters
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback, set_seed
from trl import GRPOTrainer

from m2rl_lib import domains, sandbox
from m2rl_lib.data import problem_sets
from m2rl_lib.domains import chat
from m2rl_lib.training import grpo

WARM_UP = 2  # steps that are not timed


def now() -> float:
    """Seconds, once a GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class Clock(TrainerCallback):
    """Seconds of each step, and of its parts: the time spent in methods of the trainer."""

    def __init__(self):
        self.steps: list[float] = []
        self.parts: dict[str, list[float]] = collections.defaultdict(list)
        self.now: dict[str, float] = collections.Counter()

    def watch(self, holder: object, method: str, part: str) -> None:
        """Count the time in `holder.method` as `part`."""
        inner = getattr(holder, method)

        def timed(*args, **kwargs):
            started = now()
            try:
                return inner(*args, **kwargs)
            finally:
                self.now[part] += now() - started

        setattr(holder, method, timed)

    def on_step_begin(self, *_, **__):
        self.now.clear()
        self.begun = now()

    def on_step_end(self, *_, **__):
        self.steps.append(now() - self.begun)
        self.now["generation"] -= self.now["grading"]  # TRL grades inside the method that generates
        for part in ("generation", "grading", "log-probs", "backward", "optimizer"):
            self.parts[part].append(self.now[part])


def bare_reward(domain: str, tokenizer, counted: list[int]):
    """The domain's `verify` as a reward function of TRL, on text decoded from the ids; counts tokens."""

    def reward(*, completion_ids, row, **_):
        counted.extend(map(len, completion_ids))
        return domains.ALL[domain].verify([tokenizer.decode(ids) for ids in completion_ids], [json.loads(r) for r in row])

    reward.__name__ = domain
    return reward


def train(kind: str, p: SimpleNamespace, folder: Path, domain: str, steps: int) -> dict:
    """`steps` steps of 'ours' or of 'bare TRL' from the same model on the same prompts: medians over the steps after the first two."""
    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    rows = problem_sets.prompts([domain], (steps + WARM_UP) * p.rlvr_prompts_per_step, 0, problem_sets.world_of(p))
    data = Dataset.from_list([{"prompt": chat.row_prompt(tokenizer, row), "row": json.dumps(row)} for row in rows])
    clock, counted = Clock(), []
    with tempfile.TemporaryDirectory() as scratch:
        args = grpo.grpo_config(p, "benchmark", steps + WARM_UP, 0)
        args.output_dir = scratch
        both = {"model": model, "args": args, "train_dataset": data, "processing_class": tokenizer, "callbacks": [clock]}
        if kind == "ours":
            trainer = grpo.DomainTrainer(reward_funcs=[grpo.reward_function(domain)], rollout_func=grpo.roll_out, **both)
        else:
            trainer = GRPOTrainer(reward_funcs=[bare_reward(domain, tokenizer, counted)], **both)
        trainer.remove_callback(PrinterCallback)
        trainer.create_optimizer_and_scheduler(steps + WARM_UP)
        clock.watch(trainer, "_generate_and_score_completions", "generation")
        clock.watch(trainer, "_calculate_rewards", "grading")
        clock.watch(trainer, "compute_loss", "log-probs")
        clock.watch(trainer.accelerator, "backward", "backward")
        clock.watch(trainer.optimizer, "step", "optimizer")
        trainer.train()
    generated = (trainer.generated_tokens if kind == "ours" else sum(counted)) / (steps + WARM_UP)
    prompt_tokens = statistics.mean(map(len, tokenizer(list(data["prompt"]))["input_ids"])) * args.per_device_train_batch_size
    return {
        "seconds": statistics.median(clock.steps[WARM_UP:]),
        "parts": {part: statistics.median(values[WARM_UP:]) for part, values in clock.parts.items()},
        "generated_tokens": generated,
        "operations": model.num_parameters() * (2 * generated + 6 * (generated + prompt_tokens)),
    }


def multiply_limit() -> float:
    """Floating-point operations a second of a product of two 1024 × 1024 matrices: the median of nine."""
    a, b = torch.rand(2, 1024, 1024)
    return 2 * 1024**3 / statistics.median(timeit.repeat(lambda: a @ b, number=1, repeat=9))


def measure(folder: Path, names: list[str], steps: int, repeats: int) -> list[dict]:
    """One row per domain and kind: medians over `repeats` runs, ours and TRL's in turns."""
    p = parameters()
    torch.set_num_threads(p.rlvr_threads)
    sandbox.configure(p.sandbox_kind)
    rows = []
    for domain in names:
        runs: dict[str, list[dict]] = {"ours": [], "bare TRL": []}
        limits = []
        for repeat in range(repeats):
            for kind in sorted(runs, reverse=bool(repeat % 2)):
                runs[kind].append(train(kind, p, folder, domain, steps))
                limits.append(multiply_limit())
        for kind, found in runs.items():
            ratio = [bare["seconds"] / one["seconds"] for one, bare in zip(found, runs["bare TRL"])]
            seconds = statistics.median(run["seconds"] for run in found)
            parts = {part: statistics.median(run["parts"][part] for run in found) for part in found[0]["parts"]}
            tokens, operations = (
                statistics.median(run[key] / run["seconds"] for run in found) for key in ("generated_tokens", "operations")
            )
            row = {"domain": domain, "kind": kind, "seconds a step": seconds}
            row |= {f"{part}, s": value for part, value in parts.items()} | {"other, s": seconds - sum(parts.values())}
            row |= {"generated tokens a second": tokens, "share of the limit": operations / statistics.median(limits)}
            rows.append(row | {"times as fast as bare TRL": statistics.median(ratio)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="an SFT model; the newest study's by default")
    parser.add_argument("--domains", nargs="+", default=["math", "coding"])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(json.dumps(measure(model_folder(arguments.model), arguments.domains, arguments.steps, arguments.repeats), indent=1))


if __name__ == "__main__":
    main()
