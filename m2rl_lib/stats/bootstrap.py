"""Intervals of scores, in points from 0 to 100, by bootstrap.

Problems are resampled within each benchmark (Miller 2024, arXiv 2411.00640), the same ones for every model and seed, so all
differences are paired. Over seeds the wider of a percentile bootstrap and a t interval is used."""

import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from m2rl_lib.stats.graded_samples import MOST_UNGRADED, UNTRAINED, list_names

OVERALL = "overall"
SEEN = 1 + stats.norm.ppf(0.8) / stats.norm.ppf(0.975)  # effect seen in 80% of repetitions, in half-widths of a 95% interval
SCOPES = {True: "fixed checkpoints", False: "training seeds"}  # keyed by 'one seed only'


@dataclass(frozen=True)
class Resample:
    """Scores of every cell and their paired resamples: M benchmarks, C pairs of seed and model, B resamples. `points` (M, C) and
    `draws` (M, B, C) are NaN in a refused or missing cell, and `reasons` (M, C) says why. `benchmarks` is indexed by benchmark
    with domain, n (problems kept) and dropped. Resamples depend on the benchmark's name and n alone."""

    benchmarks: pd.DataFrame
    pairs: pd.MultiIndex
    points: np.ndarray
    draws: np.ndarray
    k: np.ndarray
    reasons: np.ndarray

    def columns(self, model: str, seeds: list[int]) -> list[int]:
        """Positions of the model's seeds among the C pairs, in the order of `seeds`."""
        return [self.pairs.get_loc((seed, model)) for seed in seeds]

    def seeds(self, model: str) -> list[int]:
        """The seeds of a model; ValueError naming the models if it has none."""
        found = [seed for seed, name in self.pairs if name == model]
        if not found:
            raise ValueError(f"unknown model {model!r}: the table has {list_names(name for _, name in self.pairs)}")
        return found

    def weights(self, over: str) -> np.ndarray:
        """(M,) share of each benchmark in `over`: a domain, a benchmark, or 'overall', the mean over domains but general."""
        domains, names = self.benchmarks["domain"].to_numpy(), self.benchmarks.index.to_numpy()
        allowed = [OVERALL, *sorted(set(domains)), *names]
        if over not in allowed:
            raise ValueError(f"unknown over={over!r}: allowed are {', '.join(allowed)}")
        if over not in (OVERALL, *domains):
            return (names == over).astype(float)
        used = sorted(set(domains) - {*UNTRAINED}) if over == OVERALL else [over]
        if not used:
            raise ValueError(f"no overall score: the table has only {list_names(domains)}, which is in no average")
        return sum((domains == domain) / (domains == domain).sum() for domain in used) / len(used)

    def tested(self, model: str) -> pd.Series:
        """The benchmarks that a model was tested on, with their domains."""
        return self.benchmarks["domain"][self.k[:, self.columns(model, self.seeds(model))].any(axis=1)]

    def values(self, model: str, seeds: list[int], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
        """Weighted sum over benchmarks: per-seed points (S,), resamples (B, S), and a reason where a cell is refused."""
        rows, columns = np.flatnonzero(weights), self.columns(model, seeds)
        reasons = self.reasons[np.ix_(rows, columns)]
        points = weights[rows] @ self.points[np.ix_(rows, columns)]
        draws = sum(weights[row] * self.draws[row][:, columns] for row in rows)
        return points, draws, "; ".join(sorted({reason for reason in reasons.flat if reason}))

    def changes(self, cells: list[tuple[str, str]], reference: str) -> tuple[list[int], np.ndarray, np.ndarray, list[str]]:
        """Each (model, over) − `reference`: the S seeds that all have, points (C, S), draws (B, C, S), why a cell is refused."""
        have = {model: self.seeds(model) for model in [*dict(cells), reference]}
        seeds = sorted(set.intersection(*map(set, have.values())))
        if not seeds:
            raise ValueError(f"seeds of {', '.join(f'{model} {some}' for model, some in have.items())}: one in common is needed")
        both = [[self.values(name, seeds, self.weights(over)) for name in (model, reference)] for model, over in cells]
        points, draws = np.array([a[0] - b[0] for a, b in both]), np.stack([a[1] - b[1] for a, b in both], axis=1)
        return seeds, points, draws, [a[2] or b[2] for a, b in both]

    def difference(self, model: str, reference: str, over: str) -> tuple[list[int], np.ndarray, np.ndarray]:
        """The S seeds that both models have, and model − reference: points (S,), resamples (B, S). ValueError if refused."""
        seeds, points, draws, (reason,) = self.changes([(model, over)], reference)
        if reason:
            raise ValueError(f"cannot compare {model} with {reference}: {reason}")
        return seeds, points[0], draws[:, 0]


def resample(problems: pd.DataFrame, value: str = "value", draws: int = 10_000) -> Resample:
    """Resample the rows of `problem_means` within each benchmark, once for all models and seeds; `value` is what is averaged. A
    problem that one cell could not grade is dropped for all; a cell that lacks more than 1% is refused and drops none."""
    pairs = pd.MultiIndex.from_frame(problems[["seed", "model"]].drop_duplicates().sort_values(["seed", "model"]))
    benchmarks = problems.drop_duplicates("benchmark").set_index("benchmark")[["domain"]].sort_index().assign(n=0, dropped=0)
    shape = (len(benchmarks), len(pairs))
    points, k, reasons = np.full(shape, np.nan), np.zeros(shape, dtype=int), np.full(shape, "", dtype=object)
    resamples = np.full((len(benchmarks), draws, len(pairs)), np.nan)
    for row, (name, rows) in enumerate(problems.groupby("benchmark", observed=True, sort=True)):
        wide = rows.pivot(index="problem_id", columns=["seed", "model"], values=[value, "graded", "k"]).sort_index()
        matrix = wide[value].reindex(columns=pairs).to_numpy(dtype=float)
        graded = wide["graded"].reindex(columns=pairs).eq(True).to_numpy() & ~np.isnan(matrix)
        k[row] = wide["k"].reindex(columns=pairs).fillna(0).max().to_numpy()
        lacking = (~graded).mean(axis=0)
        kept_cell = lacking <= MOST_UNGRADED
        for column in np.flatnonzero(~kept_cell):
            who = "{1} (seed {0})".format(*pairs[column])
            share = f"{lacking[column]:.1%} of {len(matrix)} {name} problems not graded for {who}"
            allowed = f"at most {MOST_UNGRADED:.0%} is allowed"
            reasons[row, column] = f"{share}: {allowed}" if k[row, column] else f"{who} was not tested on {name}"
        kept = graded[:, kept_cell].all(axis=1)
        benchmarks.loc[name, ["n", "dropped"]] = kept.sum(), (~kept).sum()
        if not kept.any():
            reasons[row, kept_cell] = f"no {name} problem was graded for every model"
            continue
        matrix = 100 * np.where(kept_cell, matrix, np.nan)[kept]
        points[row] = matrix.mean(axis=0)
        resamples[row] = _resampled_means(matrix, draws, np.random.default_rng([0, zlib.crc32(str(name).encode())]))
    return Resample(benchmarks, pairs, points, resamples, k, reasons)


def _resampled_means(matrix: np.ndarray, draws: int, generator: np.random.Generator) -> np.ndarray:
    """Means of `draws` resamples of the rows of (n, C): (draws, C). Counts times matrix, in blocks that fit in memory."""
    n, out = len(matrix), np.empty((draws, matrix.shape[1]))
    block = max(1, 2_000_000 // n)
    for start in range(0, draws, block):
        part = out[start : start + block]
        picked = generator.integers(0, n, (len(part), n)) + np.arange(len(part))[:, None] * n
        part[:] = np.bincount(picked.ravel(), minlength=picked.size).reshape(picked.shape) @ matrix / n
    return out


def mean_over_seeds(draws: np.ndarray) -> np.ndarray:
    """Means over resampled seeds: (B, ..., S) to (B, ...), with the same seeds for every quantity that has S of them."""
    count = draws.shape[-1]
    if count == 1:
        return draws[..., 0]
    picked = np.random.default_rng([0, count]).integers(0, count, (len(draws), count))
    return np.take_along_axis(draws, picked.reshape(len(draws), *[1] * (draws.ndim - 2), count), axis=-1).mean(axis=-1)


def interval(points: np.ndarray, draws: np.ndarray) -> dict[str, float]:
    """Estimate and intervals of one quantity from its per-seed values (S,) and their problem resamples (B, S): estimate, low,
    high (95%), low90, high90, p (two-sided, against 0), seen (minimum detectable effect at 80% power), seeds, seed_sd (NaN for
    one seed), scope. For S > 1 each is the wider, or larger, of t over seeds and hierarchical bootstrap."""
    count, estimate = len(points), float(np.mean(points))
    means = mean_over_seeds(draws)
    low, low90, high90, high = np.quantile(means, [0.025, 0.05, 0.95, 0.975])
    p = min(1.0, 2 * (min(np.mean(means <= 0), np.mean(means >= 0)) * len(means) + 1) / (len(means) + 1))
    seen = (high - low) / 2 * SEEN
    spread = float(np.std(points, ddof=1)) if count > 1 else np.nan
    if count > 1:
        error, df = spread / np.sqrt(count), count - 1
        half, half90 = error * stats.t.ppf([0.975, 0.95], df)
        if 2 * half > high - low:
            low, high = estimate - half, estimate + half
        if 2 * half90 > high90 - low90:
            low90, high90 = estimate - half90, estimate + half90
        p = max(p, 2 * stats.t.sf(abs(estimate) / error, df) if error > 0 else float(estimate == 0))
        seen = max(seen, error * (stats.t.ppf(0.975, df) + stats.t.ppf(0.8, df)))
    found = {"estimate": estimate, "low": low, "high": high, "low90": low90, "high90": high90, "p": p, "seen": seen}
    rest = {"seeds": count, "seed_sd": spread, "scope": SCOPES[count == 1]}
    return {name: float(number) for name, number in found.items()} | rest
