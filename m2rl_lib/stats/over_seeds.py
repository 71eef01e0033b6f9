"""Seeds: what a comparison says of each seed by itself, and how far the seeds lie apart.

A seed redraws demonstrations, SFT and RL; the test problems stay the same. So two things move a number: which problems were
asked (an interval of one seed is about this alone: *these weights*), and which seed was drawn (*this recipe*). `statistics`
uses the wider of the t interval over per-seed values and the hierarchical bootstrap; here both are shown beside the seeds
they come from. The paper has one run a model.
"""

import numpy as np
import pandas as pd
from scipy import stats

from m2rl_lib.config.study import Parameters
from m2rl_lib.stats.bootstrap import OVERALL, interval, mean_over_seeds, problem_means, resample

T, HIERARCHICAL = "all, t over seeds", "all, seeds and problems redrawn"


def at_seed(p: Parameters, seed: int) -> Parameters:
    """The same parameters with another seed: where that seed's models and tables are found."""
    return p.model_copy(update={"seed": seed})


def spread_table(
    scores: pd.DataFrame, pairs: list[tuple[str, str]], over: str = OVERALL, draws: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """Each pair's difference model − reference by seed, then both intervals over the seeds.

    Returns model, reference, what ('seed 0', …, then T and HIERARCHICAL where there are several), estimate, low, high (points,
    95%), sd, n (problems) and used (whether it is the interval that verdicts use: the wider). sd is of what the row redraws:
    of a seed's row problems alone, of T the per-seed values, of HIERARCHICAL the redraws. Per-seed differences 1, 2, 3: T is
    2 [−0.48, 4.48], sd 1.
    """
    kept = scores[scores["model"].isin({name for pair in pairs for name in pair})]
    sample, rows = resample(problem_means(kept), draws=draws, seed=seed), []
    weights = sample.weights(over)
    n = int(sample.benchmarks.loc[weights > 0, "n"].sum())
    for model, reference in pairs:
        numbers = sorted(set(sample.seeds(model)) & set(sample.seeds(reference)))
        (a, a_draws, a_reason), (b, b_draws, b_reason) = (sample.values(name, numbers, weights) for name in (model, reference))
        if a_reason or b_reason:
            raise ValueError(f"cannot compare {model} with {reference}: {a_reason or b_reason}")
        points, redrawn = a - b, a_draws - b_draws
        found = []
        for place, number in enumerate(numbers):
            one = interval(points[[place]], redrawn[:, [place]], seed)
            found.append((f"seed {number}", one["estimate"], one["low"], one["high"], redrawn[:, place].std(ddof=1)))
        if len(numbers) > 1:
            whole = mean_over_seeds(redrawn, seed)
            found.append((T, *t_interval(points), points.std(ddof=1)))
            found.append((HIERARCHICAL, points.mean(), *np.quantile(whole, [0.025, 0.975]), whole.std(ddof=1)))
        part = pd.DataFrame(found, columns=["what", "estimate", "low", "high", "sd"])
        ends = part.tail(2) if len(numbers) > 1 else part
        rows.append(part.assign(model=model, reference=reference, n=n, used=part.index == (ends["high"] - ends["low"]).idxmax()))
    return pd.concat(rows, ignore_index=True)[["model", "reference", "what", "estimate", "low", "high", "sd", "n", "used"]]


def t_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95% t interval of one value a seed: 1, 2, 3 → 2, −0.48, 4.48; no interval (NaN) for a single seed."""
    values = np.asarray(values, dtype=float)
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return mean, np.nan, np.nan
    half = values.std(ddof=1) / np.sqrt(count) * stats.t.ppf(0.975, count - 1)
    return mean, mean - half, mean + half


def over_seeds(frame: pd.DataFrame, by: str, value: str) -> pd.DataFrame:
    """A measure of which each seed has one value, over the seeds: `by`, mean, low, high (95% t), sd, least, most, seeds.

    `frame` has one row for each seed and value of `by`. Missing values are left out: `seeds` counts those that have one.
    """
    rows = []
    for name, part in frame.groupby(by, sort=False):
        values = part[value].dropna()
        mean, low, high = t_interval(values) if len(values) else (np.nan,) * 3
        rows.append((name, mean, low, high, values.std(ddof=1), values.min(), values.max(), len(values)))
    return pd.DataFrame(rows, columns=[by, "mean", "low", "high", "sd", "least", "most", "seeds"])


def sentence(spread: pd.DataFrame, name: str) -> str:
    """What `spread_table` says of one pair, called `name`: how far the seeds lie apart, beside what redrawing problems does."""
    by_seed = spread[spread["what"].str.startswith("seed ")]
    values = ", ".join(f"{value:+.1f}" for value in by_seed["estimate"])
    problems = np.sqrt((by_seed["sd"] ** 2).mean())
    if len(by_seed) == 1:
        return f"{name}: {values} points, one seed ({by_seed['what'].iloc[0]}): how far seeds lie apart cannot be told."
    apart = spread.loc[spread["what"] == T, "sd"].iloc[0]
    return (
        f"{name}: {values} points by seed ({', '.join(by_seed['what'].str.removeprefix('seed '))}). The seeds' standard deviation "
        f"is {apart:.1f} points; redrawing problems alone gives a seed {problems:.1f}."
    )
