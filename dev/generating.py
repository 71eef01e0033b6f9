"""Sampling for evaluation beside `model.generate` in a plain loop: same model, prompts, batches and limits, one thread, in turns.

    python dev/generating.py [--model FOLDER]

Prints JSON: tokens a second of both for each domain, medians over the repeats, and their ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from common import model_folder, parameters
from transformers import AutoModelForCausalLM, AutoTokenizer

from m2rl_lib import domains
from m2rl_lib.data import problem_sets
from m2rl_lib.domains import chat
from m2rl_lib.rollout import decoding


def plainly(model, tokenizer, rows: list[dict], k: int, max_tokens: int, batch: int) -> int:
    """`k` completions a row by `model.generate`, in batches of the given order; the number of tokens written."""
    model.set_attn_implementation("sdpa")
    prompts = [chat.row_prompt(tokenizer, row) for row in rows for _ in range(k)]
    written = 0
    for start in range(0, len(prompts), batch):
        inputs = tokenizer(prompts[start : start + batch], return_tensors="pt", padding=True, padding_side="left")
        ids = model.generate(**inputs, do_sample=True, top_k=0, max_new_tokens=max_tokens)[:, inputs["input_ids"].shape[1] :]
        ends = (ids == tokenizer.eos_token_id).int()
        written += int((ends.cumsum(1) == ends).sum())  # up to and with the first end of turn
    return written


def ours(model, tokenizer, rows: list[dict], k: int, max_tokens: int, batch: int) -> int:
    """The same by the study's own sampling."""
    found = decoding.sample(model, tokenizer, rows, k, temperature=1.0, max_tokens=max_tokens, batch=batch, seed=0)
    return sum(sum(completion.own) for completions in found for completion in completions)


def measure(folder: Path, names: list[str], repeats: int) -> list[dict]:
    """One row per domain: tokens a second of both, and the median ratio of runs that stood side by side."""
    p = parameters()
    torch.set_num_threads(p.evaluate_threads)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    found = []
    for domain in names:
        benchmark = next(iter(domains.ALL[domain].BENCHMARKS))
        rows = problem_sets.benchmark_problems(benchmark, "test", p.evaluate_problems, problem_sets.world_of(p))
        rates: dict = {ours: [], plainly: []}
        for _ in range(repeats):
            for write, seconds in rates.items():
                started = time.perf_counter()
                tokens = write(model, tokenizer, rows, p.evaluate_samples, p.evaluate_max_tokens, p.evaluate_batch)
                seconds.append(tokens / (time.perf_counter() - started))
        ratio = statistics.median(a / b for a, b in zip(*rates.values()))
        one, other = map(statistics.median, rates.values())
        row = {"domain": domain, "completions": len(rows) * p.evaluate_samples, "ours, tokens a second": one}
        found.append(row | {"model.generate, tokens a second": other, "times as fast": ratio})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="an SFT model; the newest study's by default")
    parser.add_argument("--domains", nargs="+", default=["math", "coding", "instruction_following"])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(json.dumps(measure(model_folder(arguments.model), arguments.domains, arguments.repeats), indent=1))


if __name__ == "__main__":
    main()
