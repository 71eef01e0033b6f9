"""Seeds: what a comparison says of each seed by itself, and how far the seeds lie apart. A seed draws demonstrations, SFT and RL
anew; the test problems stay the same."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import stats

from m2rl_lib.stats.bootstrap import OVERALL, interval, mean_over_seeds, resample
from m2rl_lib.stats.graded_samples import problem_means

T, HIERARCHICAL = "all, t over seeds", "all, seeds and problems redrawn"


def spread_table(scores: pd.DataFrame, pairs: list[tuple[str, str]], draws: int = 10_000) -> pd.DataFrame:
    """Each pair's overall difference model − reference by seed, then both intervals over the seeds: model, reference, what ('seed
    0', …, then T and HIERARCHICAL where there are several), estimate, low, high (points, 95%), sd (of a seed's resamples, of the
    per-seed values, or of resampled seeds and problems), n (problems), used (by verdicts: the wider)."""
    kept = scores[scores["model"].isin({name for pair in pairs for name in pair})]
    sample, frames = resample(problem_means(kept), draws=draws), []
    weights = sample.weights(OVERALL)
    for model, reference in pairs:
        seeds, points, resamples = sample.difference(model, reference, OVERALL)
        found = []
        for seed, point, drawn in zip(seeds, points, resamples.T):
            one = interval(point[None], drawn[:, None])
            found.append((f"seed {seed}", *(one[key] for key in ("estimate", "low", "high")), drawn.std(ddof=1)))
        if len(seeds) > 1:
            whole = mean_over_seeds(resamples)
            found.append((T, *t_interval(points), points.std(ddof=1)))
            found.append((HIERARCHICAL, points.mean(), *np.quantile(whole, [0.025, 0.975]), whole.std(ddof=1)))
        part = pd.DataFrame(found, columns=["what", "estimate", "low", "high", "sd"])
        widest = (part["high"] - part["low"])[-2 if len(seeds) > 1 else -1 :].idxmax()
        frames.append(part.assign(model=model, reference=reference, used=part.index == widest))
    table = pd.concat(frames, ignore_index=True).assign(n=int(sample.benchmarks["n"][weights > 0].sum()))
    return table[["model", "reference", "what", "estimate", "low", "high", "sd", "n", "used"]]


def t_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95% t interval of one value per seed: 1, 2, 3 → 2, −0.48, 4.48; NaN where one value or none cannot say."""
    values, count = np.asarray(values, dtype=float), len(values)
    mean = float(values.mean()) if count else np.nan
    if count < 2:
        return mean, np.nan, np.nan
    half = values.std(ddof=1) / np.sqrt(count) * stats.t.ppf(0.975, count - 1)
    return mean, mean - half, mean + half


def widest(values: np.ndarray) -> np.ndarray:
    """Of n units in S seeds, (n, S): the n means over seeds, or the S means over units where their t interval is wider."""
    units, seeds = values.mean(axis=1), values.mean(axis=0)
    (_, low, high), (_, least, most) = t_interval(units), t_interval(seeds)
    return seeds if most - least > high - low else units


def each_seed(measure: Callable, *frames: pd.DataFrame) -> pd.DataFrame:
    """What `measure` makes of each seed's rows of the frames, joined, with a column `seed`."""
    seeds = pd.unique(frames[0]["seed"])
    return pd.concat([measure(*(one[one["seed"] == n] for one in frames)).assign(seed=n) for n in seeds], ignore_index=True)


def sentence(spread: pd.DataFrame, name: str) -> str:
    """What `spread_table` says of one pair, called `name`: how far the seeds lie apart, beside what resampling problems does."""
    by_seed = spread[spread["what"].str.startswith("seed ")]
    start = f"{name}: {', '.join(f'{value:+.1f}' for value in by_seed['estimate'])} points"
    if len(by_seed) == 1:
        return f"{start}, one seed ({by_seed['what'].iloc[0]}): how far seeds lie apart is not known."
    sd, of_problems = spread.loc[spread["what"] == T, "sd"].iloc[0], np.sqrt((by_seed["sd"] ** 2).mean())
    start += f" by seed ({', '.join(by_seed['what'].str.removeprefix('seed '))}). The seeds' standard deviation is {sd:.1f}"
    return f"{start} points; resampling problems alone gives a seed {of_problems:.1f}."
