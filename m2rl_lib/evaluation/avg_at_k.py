"""Avg@K: K completions per problem of every benchmark, graded by the verifier that gave the rewards. Written to the tables
`scores` (one row per sample), `samples` (the same keys and the text) and `greedy` (the columns of `scores`, one row per test
problem, decoded at temperature 0)."""

import time
import zlib
from pathlib import Path

import pandas as pd
import torch

from m2rl_lib import domains, sandbox
from m2rl_lib.config import locations, model_names
from m2rl_lib.config.study import Parameters
from m2rl_lib.data import problem_sets
from m2rl_lib.domains import chat
from m2rl_lib.rollout import decoding
from m2rl_lib.storage import artifacts, costs, result_tables


def run(p: Parameters) -> list[Path]:
    """Evaluate the models that the notebook's parameters name, for their `purpose`. `scores`: on selection and test problems, there
    also greedily, SFT also at its best temperature; `test`: on test problems, K as on selection problems; `sweep`: on selection
    problems, and the best of each method on test problems; `skills`: many samples of few test problems; `world`: math and coding."""
    folders = [locations.model_folder(p.study, p.seed, name) for name in p.models]
    for folder in folders:
        artifacts.read_manifest(folder)
    if artifacts.is_done(p, f"evaluate-{p.group}", [], folders):
        print(f"{p.group}: this study has these scores already")
        return folders
    with artifacts.stage(p, f"evaluate-{p.group}"):
        sandbox.configure(p.sandbox_kind)
        sandbox.check()
        torch.set_num_threads(p.evaluate_threads)
        frames, greedy, spent = _score_all(p, dict(zip(p.models, folders)))
        made_by, frame = artifacts.record(p, folders), pd.concat(frames, ignore_index=True)
        result_tables.write_table(p, "scores", p.group, frame.drop(columns="text"), made_by)
        if greedy:
            once = pd.concat(greedy, ignore_index=True).drop(columns="text")
            result_tables.write_table(p, "greedy", p.group, once, made_by)
        result_tables.write_table(p, "samples", p.group, frame[[*result_tables.KEYS, "text"]], made_by)
        costs.write(p, f"evaluate-{p.group}", made_by, spent)
    return folders


def _score_all(p: Parameters, models: dict[str, Path]) -> tuple[list[pd.DataFrame], list[pd.DataFrame], list[dict]]:
    """The frames of all models and splits of the run's purpose, those decoded greedily, and what each cost."""
    made, rows = {"selection": [], "test": [], "greedy": []}, []
    first = ["selection"] if p.purpose in ("scores", "sweep") else []
    for stage in [*first, "test", *(["greedy"] if p.purpose == "scores" else [])]:
        if p.purpose == "sweep" and stage == "test":
            models = {name: models[name] for name in best_of_each_method(made["selection"])}
        split, heat, k = ("test", 0, 1) if stage == "greedy" else (stage, p.evaluate_temperature, None)
        started = time.monotonic()
        made[stage] = [evaluate(p, folder, name, split, temperature=heat, k=k) for name, folder in models.items()]
        new = sum(int(frame["completion_tokens"].sum()) for frame in made[stage])
        rows += [costs.row(p.group, stage, seconds=time.monotonic() - started, threads=p.evaluate_threads, generated_tokens=new)]
    greedy = made.pop("greedy")
    if "sft" in models and p.purpose == "scores":
        made["sharpened"] = evaluate_sharpened(p, models["sft"])
    return [frame for part in made.values() for frame in part], greedy, rows


def best_of_each_method(frames: list[pd.DataFrame]) -> list[str]:
    """Of models scored on selection problems, one frame per model, the best of each base name."""
    scored = pd.Series({frame["model"].iloc[0]: _mean_of_trained(frame) for frame in frames})
    return scored.groupby(lambda name: model_names.parse_model_name(name)[0], sort=False).idxmax().tolist()


def _mean_of_trained(frame: pd.DataFrame) -> float:
    """The mean over the trained domains' benchmarks."""
    return frame[~frame["domain"].isin(domains.UNTRAINED)].groupby("benchmark")["correct"].mean().mean()


def evaluate_sharpened(p: Parameters, folder: Path) -> list[pd.DataFrame]:
    """SFT at each temperature on the selection problems, and at the best of them on the test problems."""
    tried = {
        heat: evaluate(p, folder, model_names.model_name("sft", temperature=heat), "selection", temperature=heat)
        for heat in p.evaluate_sharpened_temperatures
    }
    best = max(tried, key=lambda heat: _mean_of_trained(tried[heat]))
    print(f"sft-sharpened: temperature {best} is best on the selection problems")
    return [*tried.values(), evaluate(p, folder, "sft-sharpened", "test", temperature=best)]


def problems(p: Parameters, split: str) -> tuple[list[dict], int]:
    """What a model is asked for the run's purpose: rows, and the number of samples of each."""
    names, count, k = problem_sets.study_benchmarks(p), p.evaluate_problems, p.evaluate_samples
    if split == "selection":
        count, k = p.evaluate_selection_problems, p.evaluate_selection_samples
    elif p.purpose == "test":
        k = p.evaluate_selection_samples
    elif p.purpose == "world":
        names = [name for domain in ("math", "coding") for name in problem_sets.benchmarks(domain, p.data_sources)]
    elif p.purpose == "skills":
        names = problem_sets.skill_benchmarks(p)
        count, k = p.analysis_skill_problems, p.analysis_skill_samples
    world = (problem_sets.world_of(p), p.data_sources)
    return [row for name in names for row in problem_sets.benchmark_problems(name, split, count, *world)], k


def evaluate(p: Parameters, folder: Path, name: str, split: str, *, temperature: float, k: int | None = None) -> pd.DataFrame:
    """Scores and texts of one model on one split, with the columns of both tables; `k` samples each, or the purpose's."""
    started = time.monotonic()
    model, tokenizer = decoding.load_model(artifacts.verify_model(folder), p.evaluate_dtype)
    rows, usual = problems(p, split)
    how = {"max_tokens": p.evaluate_max_tokens, "batch": p.evaluate_batch, "temperature": temperature}
    seed = zlib.crc32(f"{p.seed} {split}".encode()) % 2**31
    sampled = decoding.sample(model, tokenizer, rows, k or usual, **how, seed=seed)
    flat = [(row, sample, c) for row, completions in zip(rows, sampled) for sample, c in enumerate(completions)]
    asked, texts = [row for row, _, _ in flat], [c.text for _, _, c in flat]
    columns = {key: [row[key] for row in asked] for key in ("domain", "benchmark", "problem_id")}
    columns |= {
        "sample": [sample for _, sample, _ in flat],
        "correct": pd.array(domains.verify(texts, asked), dtype="Float64").to_numpy(float, na_value=float("nan")),
        "parsed": [domains.read_answer(text, row) is not None for text, row in zip(texts, asked)],
        "truncated": [c.truncated for _, _, c in flat],
        "completion_tokens": [sum(c.own) for _, _, c in flat],
        "thought": pd.array([chat.thought(text) for text in texts], dtype="boolean"),
        "text": texts,
    }
    frame = pd.DataFrame({"seed": p.seed, "model": name, "split": split, **columns})
    spent, mean = time.monotonic() - started, 100 * frame["correct"].mean()
    print(f"{name}: {split}, T = {temperature:g}, {len(frame)} completions in {spent:.0f} s, mean {mean:.1f}", flush=True)
    return frame[[*result_tables.KEYS, "correct", "parsed", "truncated", "completion_tokens", "thought", "text"]]
