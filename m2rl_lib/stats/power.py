"""How large a comparison must be: from a pilot's scores and an effect to problems × K × seeds and device-hours.

The difference of two models, in points, averaged over N problems with K samples each and S seeds, has the variance

    seeds / S + problems / N + samples / (N K S)

`problems`: how differently the two models do from problem to problem (the problems are the same for all seeds); `samples`:
that one completion is right or wrong by chance; `seeds`: that another seed's training ends elsewhere. All three are estimated
from a pilot that need not be large, `seeds` only from one with two or more. A benchmark counts alike whatever its size, as in
`statistics`. The test is two-sided at 5%: |difference| > c · standard error, c = 1.96 for one seed ("these weights"), the t
quantile of S − 1 for more ("this recipe"); the error is taken as known, so with two or three seeds the power is a little high.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

SAMPLES, SEEDS = (1, 2, 4, 8, 16, 32), (1, 2, 3, 5, 8)
MOST = 10**6  # problems; beyond, 'no number suffices'


@dataclass(frozen=True)
class Components:
    """Variances of a difference of two models, in points²; `seeds` is NaN where the pilot has one seed."""

    seeds: float
    problems: float
    samples: float
    pilot: str = ""


def measure_components(scores: pd.DataFrame, model: str, reference: str) -> Components:
    """The components from a `scores` table that has both models on the same problems, two or more samples of each.

    Unbiased but for the zero below which none can fall. ValueError where the pilot cannot tell them.
    """
    pair = scores[scores["model"].isin([model, reference]) & scores["correct"].notna()]
    keys = ["benchmark", "problem_id", "seed"]
    cells = pair.groupby([*keys, "model"])["correct"].agg(["mean", "size"]).unstack("model").dropna()
    if cells.empty or {model, reference} - set(pair["model"]):
        raise ValueError(f"the pilot has no problem with scores of both {model} and {reference}")
    if cells["size"].min().min() < 2:
        raise ValueError(f"the pilot has {int(cells['size'].min().min())} sample of a problem; two or more of each are needed")
    rate, size = cells["mean"], cells["size"]
    one = 1e4 * rate * (1 - rate) * size / (size - 1)  # variance of one sample, in points²
    frame = pd.DataFrame(
        {"difference": 100 * (rate[model] - rate[reference]), "sample": one.sum(axis=1), "noise": (one / size).sum(axis=1)}
    ).reset_index()
    by_benchmark = frame.groupby(["benchmark", "seed"])
    spread = by_benchmark["difference"].var() - by_benchmark["noise"].mean()
    if spread.isna().any():
        raise ValueError("the pilot has a benchmark with one problem: two or more are needed")
    means, count = by_benchmark["difference"].mean().unstack("seed"), len(spread.index.unique("benchmark"))
    noise = (by_benchmark["noise"].mean() / by_benchmark["noise"].size()).unstack("seed")
    seeds = np.nan
    if means.shape[1] > 1:
        seeds = max(0.0, means.mean().var() - noise.sum().mean() / count**2)
    pilot = f"{frame['problem_id'].nunique()} problems of {count} benchmarks, {means.shape[1]} seed(s)"
    return Components(float(seeds), max(0.0, float(spread.mean())), float(frame["sample"].mean()), pilot)


def standard_error(found: Components, problems: int, samples: int, seeds: int) -> float:
    """Of the difference, in points. Components (4, 900, 4000), 500 problems, K = 4, one seed: √(900/500 + 4000/2000) = 1.95."""
    between = 0.0 if seeds == 1 else found.seeds / seeds  # one seed speaks of its own weights
    return float(np.sqrt(between + found.problems / problems + found.samples / (problems * samples * seeds)))


def critical(seeds: int, level: float = 0.05) -> float:
    """How many standard errors make a difference: 1.96 for one seed, 4.30 for three."""
    return float(stats.norm.ppf(1 - level / 2) if seeds == 1 else stats.t.ppf(1 - level / 2, seeds - 1))


def power(effect: float, found: Components, problems: int, samples: int, seeds: int) -> float:
    """The probability that a true difference of `effect` points is called one."""
    ratio, limit = effect / standard_error(found, problems, samples, seeds), critical(seeds)
    return float(stats.norm.sf(limit - ratio) + stats.norm.cdf(-limit - ratio))


def problems_needed(effect: float, found: Components, samples: int, seeds: int, wanted: float = 0.8) -> int | None:
    """The fewest problems with which the power reaches `wanted`; None where no number up to MOST does (too few seeds)."""
    low, high = 2, MOST
    if not power(effect, found, high, samples, seeds) >= wanted:  # NaN: the pilot has one seed, and more are planned
        return None
    while low < high:
        middle = (low + high) // 2
        if power(effect, found, middle, samples, seeds) >= wanted:
            high = middle
        else:
            low = middle + 1
    return low


def size_table(
    effect: float, found: Components, tokens: float, tokens_per_second: float, training_hours: float, wanted: float = 0.8
) -> pd.DataFrame:
    """Every K and number of seeds with the fewest problems: seeds, samples, problems, completions, hours; cheapest first.

    `tokens` is the mean length of a completion; both models are sampled; `training_hours` are one seed's. Rows without
    `problems` cannot reach the power: more seeds are needed, or a pilot with two seeds to say how many.
    """
    rows = []
    for seeds in SEEDS:
        for samples in SAMPLES:
            problems = problems_needed(effect, found, samples, seeds, wanted)
            completions = None if problems is None else 2 * problems * samples * seeds
            hours = None if problems is None else seeds * training_hours + completions * tokens / tokens_per_second / 3600
            rows.append((seeds, samples, problems, completions, hours))
    frame = pd.DataFrame(rows, columns=["seeds", "samples", "problems", "completions", "device_hours"])
    frame = frame.astype({"problems": "Int64", "completions": "Int64", "device_hours": float})
    return frame.sort_values("device_hours", ignore_index=True)
