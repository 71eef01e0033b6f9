"""How large a comparison must be: from a pilot's scores and an effect to problems × K × seeds and device-hours.

The difference of two models, averaged over N problems, K samples of each and S seeds, has the variance seeds / S + problems / N +
samples / (N K S), in points² (`Components`). The test is two-sided at 5%; the error is taken as known."""

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

SAMPLES, SEEDS = (1, 2, 4, 8, 16, 32), (1, 2, 3, 5, 8)
MOST = 10**6  # problems; beyond, 'no number suffices'
WANTED = 0.8  # power


@dataclass(frozen=True)
class Components:
    """Variances of a difference of two models, in points²; `seeds` is NaN where the pilot has one seed."""

    seeds: float
    problems: float
    samples: float
    pilot: str = ""


def measure_components(scores: pd.DataFrame, model: str, reference: str) -> Components:
    """From scores of both models on the same problems, two or more samples of each; unbiased but for the least, zero."""
    pair = scores[scores["model"].isin([model, reference]) & scores["correct"].notna()]
    cells = pair.groupby(["benchmark", "problem_id", "seed", "model"])["correct"].agg(["mean", "size"]).unstack("model").dropna()
    if cells.empty or {model, reference} - set(pair["model"]):
        raise ValueError(f"the pilot has no problem with scores of both {model} and {reference}")
    rate, size = cells["mean"], cells["size"]
    if size.min().min() < 2:
        raise ValueError(f"the pilot has {int(size.min().min())} sample of a problem; two or more of each are needed")
    one = 1e4 * rate * (1 - rate) * size / (size - 1)  # variance of one sample, in points²
    parts = {"difference": 100 * (rate[model] - rate[reference]), "sample": one.sum(axis=1), "noise": (one / size).sum(axis=1)}
    frame = pd.DataFrame(parts).reset_index()
    by_benchmark = frame.groupby(["benchmark", "seed"])
    spread = by_benchmark["difference"].var() - by_benchmark["noise"].mean()
    if spread.isna().any():
        raise ValueError("the pilot has a benchmark with one problem: two or more are needed")
    means, count = by_benchmark["difference"].mean().unstack("seed"), len(spread.index.unique("benchmark"))
    noise = (by_benchmark["noise"].mean() / by_benchmark["noise"].size()).unstack("seed")
    seeds = max(0.0, means.mean().var() - noise.sum().mean() / count**2) if means.shape[1] > 1 else np.nan
    pilot = f"{frame['problem_id'].nunique()} problems of {count} benchmarks, {means.shape[1]} seed(s)"
    return Components(float(seeds), max(0.0, float(spread.mean())), float(frame["sample"].mean()), pilot)


def standard_error(found: Components, problems: int, samples: int, seeds: int) -> float:
    """Of the difference, in points."""
    between = 0.0 if seeds == 1 else found.seeds / seeds  # one seed speaks of its own weights
    return float(np.sqrt(between + found.problems / problems + found.samples / (problems * samples * seeds)))


def power(effect: float, found: Components, problems: int, samples: int, seeds: int) -> float:
    """The probability that a true difference of `effect` points is called one."""
    limit = stats.norm.ppf(0.975) if seeds == 1 else stats.t.ppf(0.975, seeds - 1)
    ratio = effect / standard_error(found, problems, samples, seeds)
    return float(stats.norm.sf(limit - ratio) + stats.norm.cdf(-limit - ratio))


def problems_needed(effect: float, found: Components, samples: int, seeds: int) -> int | None:
    """The fewest problems with which the power is WANTED; None where no number up to MOST suffices (too few seeds)."""

    def enough(problems: int) -> bool:
        return power(effect, found, problems, samples, seeds) >= WANTED  # not for NaN: the pilot has one seed, more are planned

    return bisect_left(range(MOST), True, lo=2, key=enough) if enough(MOST) else None


def size_table(effect: float, found: Components, tokens: float, tokens_per_second: float, training_hours: float) -> pd.DataFrame:
    """Every K and number of seeds, with the fewest problems, by cost; `tokens` per completion, `training_hours` per seed."""
    rows = [(seeds, samples, problems_needed(effect, found, samples, seeds)) for seeds in SEEDS for samples in SAMPLES]
    frame = pd.DataFrame(rows, columns=["seeds", "samples", "problems"]).astype({"problems": "Int64"})
    frame["completions"] = 2 * frame["problems"] * frame["samples"] * frame["seeds"]
    sampling = frame["completions"] * tokens / tokens_per_second / 3600
    frame["device_hours"] = (frame["seeds"] * training_hours + sampling).astype(float)
    return frame.sort_values("device_hours", ignore_index=True)
