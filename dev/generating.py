"""Sampling for evaluation beside `model.generate` in a plain loop: same model, prompts, batches and limits, in turns.

    python dev/generating.py [--model FOLDER] [--params params/real.yaml --vllm]

`--vllm`: beside vLLM too, all completions at once, as rollouts ask for them.

Prints JSON: tokens a second of each for each domain, medians over the repeats, and the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from common import model_folder, parameters
from transformers import AutoModelForCausalLM, AutoTokenizer

from m2rl_lib.config import locations
from m2rl_lib.data import problem_sets
from m2rl_lib.domains import chat
from m2rl_lib.rollout import decoding
from m2rl_lib.training import trl_adapter


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


def by_vllm(folder: Path, length: int) -> Callable:
    """The same by vLLM at a limit of `length` tokens with the prompt, in float32 as training's rollouts are."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    from vllm import SamplingParams

    engine = trl_adapter.vllm_of_cpu()(str(folder), max_model_len=length)

    def vllm(model, tokenizer, rows: list[dict], k: int, max_tokens: int, batch: int) -> int:
        ids = [tokenizer(chat.row_prompt(tokenizer, row))["input_ids"] for row in rows for _ in range(k)]
        asked = [{"prompt_token_ids": some} for some in ids]
        made = engine.generate(asked, SamplingParams(temperature=1.0, max_tokens=max_tokens), use_tqdm=False)
        engine.reset_prefix_cache()
        return sum(len(one.outputs[0].token_ids) for one in made)

    return vllm


def measure(folder: Path, names: list[str], repeats: int, p: SimpleNamespace, vllm: bool) -> list[dict]:
    """One row per domain: tokens a second of each, and the median ratio of runs that stood side by side."""
    torch.set_num_threads(p.evaluate_threads)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    third = [by_vllm(folder, p.rlvr_prompt_tokens + p.evaluate_max_tokens + 8)] if vllm else []
    found = []
    for domain in names:
        benchmark = problem_sets.benchmarks(domain, p.data_sources)[0]
        rows = problem_sets.benchmark_problems(benchmark, "test", p.evaluate_problems, problem_sets.world_of(p), p.data_sources)
        rates: dict = {write: [] for write in (ours, plainly, *third)}
        for _ in range(repeats):
            for write, seconds in rates.items():
                started = time.perf_counter()
                tokens = write(model, tokenizer, rows, p.evaluate_samples, p.evaluate_max_tokens, p.evaluate_batch)
                seconds.append(tokens / (time.perf_counter() - started))
        one, other = statistics.median(rates[ours]), statistics.median(rates[plainly])
        row = {"domain": domain, "completions": len(rows) * p.evaluate_samples, "ours, tokens a second": one}
        row |= {"model.generate, tokens a second": other, "times as fast": ratio(rates, ours)}
        for write in third:
            row |= {"vLLM, tokens a second": statistics.median(rates[write]), "vLLM, times as fast": ratio(rates, write)}
        found.append(row)
    return found


def ratio(rates: dict, write: Callable) -> float:
    """How many times as fast as `model.generate`, the median of the turns."""
    return statistics.median(a / b for a, b in zip(rates[write], rates[plainly]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="an SFT model; the newest study's by default")
    parser.add_argument("--domains", nargs="+", default=["math", "coding", "instruction_following"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--params", type=Path, default=locations.ROOT / "params" / "study.yaml", help="whose problems and limits")
    parser.add_argument("--vllm", action="store_true")
    arguments = parser.parse_args()
    p = parameters(arguments.params)
    print(json.dumps(measure(model_folder(arguments.model), arguments.domains, arguments.repeats, p, arguments.vllm), indent=1))


if __name__ == "__main__":
    main()
