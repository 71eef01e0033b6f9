"""Avg@K: K completions per problem of every benchmark, graded by the verifier that gave the rewards.

Avg@K is the mean over problems of the mean over their K samples. Every analysis starts from the tables written here:
`scores` (one row per sample) and `samples` (the same keys and the text).
"""

import time
import zlib
from pathlib import Path

import pandas as pd
import torch

from m2rl_lib import domains, sandbox
from m2rl_lib.config import locations, model_names
from m2rl_lib.config.study import Parameters
from m2rl_lib.data import problem_sets
from m2rl_lib.rollout import decoding
from m2rl_lib.storage import artifacts, result_tables
from m2rl_lib.training.common import cost, write_costs

KEYS = ["seed", "model", "domain", "benchmark", "split", "problem_id", "sample"]


def run(p: Parameters) -> list[Path]:
    """Evaluate the models that the notebook's parameters name, for their `purpose`:

    `scores`: on selection and test problems (with `sft` goes `sft-sharpened`: SFT at the temperature that is best on the
    selection problems); `test`: on test problems alone; `sweep`: on selection problems, and the best of each merging method
    on test problems; `skills`: many samples of few test problems per domain; `world`: on those of math and coding alone.
    """
    folders = [locations.model_folder(p.study, p.seed, name) for name in p.models]
    for folder in folders:
        artifacts.read_manifest(folder)
    if artifacts.is_done(p, f"evaluate-{p.group}", [], folders):
        print(f"{p.group}: this study has these scores already")
    else:
        with artifacts.stage(p, f"evaluate-{p.group}"):
            _make(p, folders)
    return folders


def _make(p: Parameters, folders: list[Path]) -> None:
    sandbox.configure(p.sandbox_kind)
    sandbox.check()
    torch.set_num_threads(p.evaluate_threads)
    models = dict(zip(p.models, folders))
    frames, costs = [], []
    for split in {"scores": ("selection", "test"), "sweep": ("selection", "test")}.get(p.purpose, ("test",)):
        if p.purpose == "sweep" and split == "test":
            models = {name: models[name] for name in best_of_each_method(frames)}
        started = time.monotonic()
        made = [evaluate(p, folder, name, split, temperature=p.evaluate_temperature) for name, folder in models.items()]
        spent = sum(int(frame["completion_tokens"].sum()) for frame in made)
        costs.append(cost(p.group, split, seconds=time.monotonic() - started, threads=p.evaluate_threads, generated_tokens=spent))
        frames += made
    if "sft" in p.models and p.purpose == "scores":
        frames += evaluate_sharpened(p, locations.model_folder(p.study, p.seed, "sft"))
    made_by = artifacts.record(p, folders)
    write_scores(p, p.group, frames, made_by)
    write_costs(p, f"evaluate-{p.group}", made_by, costs)


def best_of_each_method(frames: list[pd.DataFrame]) -> list[str]:
    """Of models scored on selection problems, one frame each, the best of each base name: mean over trained domains' benchmarks."""
    trained = [frame[~frame["domain"].isin(domains.UNTRAINED)] for frame in frames]
    scored = {frame["model"].iloc[0]: frame.groupby("benchmark")["correct"].mean().mean() for frame in trained}
    methods = dict.fromkeys(model_names.parse_model_name(name)[0] for name in scored)
    return [
        max((name for name in scored if model_names.parse_model_name(name)[0] == method), key=scored.get) for method in methods
    ]


def evaluate_sharpened(p: Parameters, folder: Path) -> list[pd.DataFrame]:
    """SFT at each temperature on the selection problems, and at the best of them on the test problems."""
    tried = {
        temperature: evaluate(
            p, folder, model_names.model_name("sft", temperature=temperature), "selection", temperature=temperature
        )
        for temperature in p.evaluate_sharpened_temperatures
    }
    trained = {temperature: frame[~frame["domain"].isin(domains.UNTRAINED)] for temperature, frame in tried.items()}
    best = max(trained, key=lambda temperature: trained[temperature].groupby("benchmark")["correct"].mean().mean())
    print(f"sft-sharpened: temperature {best} is best on the selection problems")
    return [*tried.values(), evaluate(p, folder, "sft-sharpened", "test", temperature=best)]


def problems(p: Parameters, split: str) -> tuple[list[dict], int]:
    """What a model is asked for the run's purpose: rows, and the number of samples of each."""
    names, count, k = problem_sets.study_benchmarks(p), p.evaluate_problems, p.evaluate_samples
    if split == "selection":
        count, k = p.evaluate_selection_problems, p.evaluate_selection_samples
    elif p.purpose == "world":
        names = [name for domain in ("math", "coding") for name in problem_sets.benchmarks(domain, p.data_sources)]
    elif p.purpose == "skills":
        names = [problem_sets.benchmarks(domain, p.data_sources)[0] for domain in p.domains]
        count, k = p.analysis_skill_problems, p.analysis_skill_samples
    world = (problem_sets.world_of(p), p.data_sources)
    return [row for name in names for row in problem_sets.benchmark_problems(name, split, count, *world)], k


def evaluate(p: Parameters, folder: Path, name: str, split: str, *, temperature: float) -> pd.DataFrame:
    """Scores and texts of one model on the problems of one split, as one frame with the columns of both tables."""
    started = time.monotonic()
    model, tokenizer = decoding.load_model(artifacts.verify_model(folder))
    rows, k = problems(p, split)
    seed = zlib.crc32(f"{p.seed} {split}".encode()) % 2**31
    sampled = decoding.sample(
        model, tokenizer, rows, k, temperature=temperature, max_tokens=p.evaluate_max_tokens, batch=p.evaluate_batch, seed=seed
    )
    flat = [(row, sample, c) for row, completions in zip(rows, sampled) for sample, c in enumerate(completions)]
    correct = domains.verify([c.text for _, _, c in flat], [row for row, _, _ in flat])
    frame = pd.DataFrame(
        {
            "seed": p.seed,
            "model": name,
            "domain": [row["domain"] for row, _, _ in flat],
            "benchmark": [row["benchmark"] for row, _, _ in flat],
            "split": split,
            "problem_id": [row["problem_id"] for row, _, _ in flat],
            "sample": [sample for _, sample, _ in flat],
            "correct": pd.array(correct, dtype="Float64").to_numpy(float, na_value=float("nan")),
            "parsed": [domains.read_answer(c.text, row) is not None for row, _, c in flat],
            "truncated": [c.truncated for _, _, c in flat],
            "completion_tokens": [sum(c.own) for _, _, c in flat],
            "text": [c.text for _, _, c in flat],
        }
    )
    print(
        f"{name}: {split}, {len(frame)} completions in {time.monotonic() - started:.0f} s, mean {100 * frame['correct'].mean():.1f}",
        flush=True,
    )
    return frame


def write_scores(p: Parameters, writer: str, frames: list[pd.DataFrame], made_by: dict) -> None:
    """Write a writer's part of `scores` and of `samples`."""
    frame = pd.concat(frames, ignore_index=True)
    result_tables.write_table(p, "scores", writer, frame.drop(columns="text"), made_by)
    result_tables.write_table(p, "samples", writer, frame[[*KEYS, "text"]], made_by)
