"""Scores with intervals: from graded samples to Avg@K, pass@k, averages over domains, and what each is worth.

The unit is a problem with its K samples (Miller 2024, arXiv 2411.00640; pass@k from Chen et al. 2021, arXiv 2107.03374).
Problems are redrawn within each benchmark, and one redraw serves every model and every seed, so all differences are paired.
One seed: the interval speaks of these weights. Several seeds: a t interval over the per-seed values and a hierarchical
bootstrap (seeds, then problems) are both computed and the wider is used, since a percentile bootstrap over three seeds
covers about 75%, not 95%. The price is an interval that is too wide where seeds hardly differ: simulated coverage is 95 to
97% where seeds differ by 3 points, over 99% where not at all. All scores are in points, 0 to 100. Not covered: a cell in
which every problem has the same mean (all wrong, all right) has a bootstrap interval of width 0.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

COLUMNS = ["seed", "model", "domain", "benchmark", "split", "problem_id", "sample", "correct"]
CELL = ["seed", "model", "benchmark"]
TABLE = ["model", "domain", "benchmark", "score", "low", "high", "n", "k", "seeds", "seed_sd", "scope", "dropped", "reason"]
GENERAL = "general"  # in SFT but never in RL: shown apart, in no average
OVERALL, AVERAGE = "overall", "average"
MOST_UNGRADED = 0.01  # above this share of ungraded problems a cell is refused
SCOPES = {True: "these weights", False: "this recipe"}  # keyed by 'one seed only'


def require_columns(frame: pd.DataFrame, columns: list[str], what: str) -> None:
    """Refuse a frame that is empty or lacks columns, naming those it lacks and those it has (ValueError, one line)."""
    lacking = [column for column in columns if column not in frame.columns]
    if lacking:
        raise ValueError(f"{what} lacks {', '.join(lacking)}: it has {', '.join(map(str, frame.columns)) or 'no columns'}")
    if frame.empty:
        raise ValueError(f"{what} is empty: at least one row is needed")


def check_scores(scores: pd.DataFrame) -> None:
    """Refuse a `scores` table that would be read wrongly: ValueError of one line.

    Refused: no rows or no such column; null keys; `correct` other than 0, 1 or null; a sample given twice; a benchmark in
    two domains; more than one split (choosing and reporting never share problems: filter first).
    """
    require_columns(scores, COLUMNS, "scores")
    for column in COLUMNS[:-1]:
        if scores[column].isna().any():
            raise ValueError(f"scores has {int(scores[column].isna().sum())} rows without {column}: every row needs one")
    graded = pd.to_numeric(scores["correct"]).dropna()
    if not graded.isin([0, 1]).all():
        raise ValueError(f"scores has correct = {graded[~graded.isin([0, 1])].iloc[0]:g}: allowed are 0, 1 and null (not graded)")
    if scores["split"].nunique() > 1:
        raise ValueError(f"scores mixes the splits {_names(scores['split'])}: keep one")
    twice = scores.duplicated([*CELL, "problem_id", "sample"])
    if twice.any():
        row = scores[twice].iloc[0]
        where = ", ".join(f"{key} {row[key]}" for key in [*CELL, "problem_id", "sample"])
        raise ValueError(f"scores has {int(twice.sum())} samples twice, first {where}: each may be there once")
    homes = scores[["benchmark", "domain"]].drop_duplicates()
    if homes["benchmark"].duplicated().any():
        name = homes.loc[homes["benchmark"].duplicated(), "benchmark"].iloc[0]
        where = _names(homes.loc[homes["benchmark"] == name, "domain"])
        raise ValueError(f"scores has benchmark {name} in the domains {where}: one is allowed")


def _names(values) -> str:
    return ", ".join(sorted({str(value) for value in values}))


def pass_at_k(n: np.ndarray | int, c: np.ndarray | int, k: int) -> np.ndarray:
    """Unbiased chance that at least one of k samples is right, from c right of n (elementwise).

    1 − C(n − c, k) / C(n, k), as a product so that it cannot overflow: pass_at_k(4, 1, 2) = 1 − C(3, 2) / C(4, 2) = 0.5.
    Raises ValueError where k is not in 1..n or c not in 0..n.
    """
    n, c = np.broadcast_arrays(np.asarray(n, dtype=float), np.asarray(c, dtype=float))
    if k < 1 or (n < k).any():
        raise ValueError(f"pass@k with k = {k} and n = {n.min():g} samples: k from 1 to n is allowed")
    if (c < 0).any() or (c > n).any():
        raise ValueError("pass@k with c right of n samples: c from 0 to n is allowed")
    i = np.arange(k)
    return 1 - np.prod(np.clip(n[..., None] - c[..., None] - i, 0, None) / (n[..., None] - i), axis=-1)


def problem_means(scores: pd.DataFrame, pass_k: int | None = None) -> pd.DataFrame:
    """One row a problem: (seed, model, domain, benchmark, problem_id), its samples averaged.

    Columns added: k (samples), solved (how many were right), value (share right, or pass@`pass_k`), graded (False where any
    sample of the problem is missing or has a null `correct`) and, if scores has them, the shares parsed, parsed_correct
    (both parsed and right) and truncated. Samples 1, 0, 1, 1 give value 0.75. Raises ValueError as `check_scores` does.
    """
    check_scores(scores)
    flags = [name for name in ("parsed", "truncated") if name in scores.columns]
    rows = scores[[*CELL, "domain", "problem_id"]].assign(correct=pd.to_numeric(scores["correct"]).astype(float))
    for name in flags:
        rows[name] = scores[name].astype(float)
    if "parsed" in flags:
        rows["parsed_correct"] = rows["parsed"] * rows["correct"]
        flags.append("parsed_correct")
    groups = rows.groupby(["seed", "model", "domain", "benchmark", "problem_id"], sort=True, observed=True)
    problems = groups["correct"].agg(k="size", answered="count", solved="sum", value="mean")
    problems[flags] = groups[flags].mean()
    problems = problems.reset_index()
    most = problems.groupby(CELL, observed=True)["k"].transform("max")
    problems["graded"] = (problems.pop("answered") == most) & (problems["k"] == most)
    problems["k"] = most
    if pass_k is not None:
        problems["value"] = pass_at_k(problems["k"], problems["solved"], pass_k)
    return problems


@dataclass(frozen=True)
class Resample:
    """Scores of every cell and their paired redraws: M benchmarks, C = (seed, model) pairs, B redraws; points, 0 to 100.

    `points` (M, C) and `draws` (M, B, C) are NaN in a refused or missing cell, and `reasons` (M, C) says why. `benchmarks`
    is indexed by benchmark with domain, n (problems kept) and dropped. Redraws depend on `seed`, the benchmark's name and
    n alone, so adding a model or a benchmark changes no other interval.
    """

    benchmarks: pd.DataFrame
    pairs: pd.DataFrame
    points: np.ndarray
    draws: np.ndarray
    k: np.ndarray
    reasons: np.ndarray
    seed: int

    def columns(self, model: str, seeds: list[int]) -> list[int]:
        """Positions of the model's seeds among the C pairs, in the order of `seeds`."""
        place = {(row.seed, row.model): i for i, row in enumerate(self.pairs.itertuples())}
        return [place[seed, model] for seed in seeds]

    def seeds(self, model: str) -> list[int]:
        """The seeds a model has; ValueError naming the models there are if it has none."""
        found = sorted(self.pairs.loc[self.pairs["model"] == model, "seed"])
        if not found:
            raise ValueError(f"unknown model {model!r}: the table has {_names(self.pairs['model'])}")
        return found

    def weights(self, over: str) -> np.ndarray:
        """(M,) share of each benchmark in `over`: 'overall' (benchmarks within a domain, then domains; general apart), a
        domain, or a benchmark. Two benchmarks in each of five domains: 0.1 each. ValueError naming what is allowed."""
        domains, names = self.benchmarks["domain"].to_numpy(), self.benchmarks.index.to_numpy()
        if over == OVERALL:
            used = sorted(set(domains) - {GENERAL})
        elif over in domains:
            used = [over]
        elif over in names:
            return (names == over).astype(float)
        else:
            allowed = [OVERALL, *sorted(set(domains)), *names]
            raise ValueError(f"unknown over={over!r}: allowed are {', '.join(allowed)}")
        if not used:
            raise ValueError(f"no overall score: the table has only the domain {GENERAL}, which is in no average")
        return sum((domains == domain) / (domains == domain).sum() for domain in used) / len(used)

    def values(self, model: str, seeds: list[int], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
        """Weighted sum over benchmarks: per-seed points (S,), redraws (B, S), and a reason where a cell is refused."""
        rows, columns = np.flatnonzero(weights), self.columns(model, seeds)
        reasons = self.reasons[np.ix_(rows, columns)]
        points = weights[rows] @ self.points[np.ix_(rows, columns)]
        draws = sum(weights[row] * self.draws[row][:, columns] for row in rows)
        return points, draws, "; ".join(sorted({reason for reason in reasons.flat if reason}))


def resample(problems: pd.DataFrame, value: str = "value", draws: int = 10_000, seed: int = 0) -> Resample:
    """Redraw problems within each benchmark, once for all models and seeds.

    `problems` is what `problem_means` returns, `value` the column to average (a share, 0 to 1). A problem that one cell
    could not grade is dropped for all; a cell that lacks more than 1% is refused (NaN and a reason) and drops none.
    """
    pairs = problems[["seed", "model"]].drop_duplicates().sort_values(["seed", "model"]).reset_index(drop=True)
    every = pd.MultiIndex.from_frame(pairs)
    domains = problems.drop_duplicates("benchmark").set_index("benchmark")["domain"].sort_index()
    shape = (len(domains), len(pairs))
    points, k, reasons = np.full(shape, np.nan), np.zeros(shape, dtype=int), np.full(shape, "", dtype=object)
    redraws, sizes = np.full((len(domains), draws, len(pairs)), np.nan), []
    for row, (name, rows) in enumerate(problems.groupby("benchmark", observed=True, sort=True)):
        wide = rows.pivot(index="problem_id", columns=["seed", "model"], values=[value, "graded", "k"]).sort_index()
        matrix = wide[value].reindex(columns=every).to_numpy(dtype=float)
        graded = wide["graded"].reindex(columns=every).eq(True).to_numpy() & ~np.isnan(matrix)
        k[row] = wide["k"].reindex(columns=every).fillna(0).max().to_numpy()
        lacking = (~graded).mean(axis=0)
        kept_cell = lacking <= MOST_UNGRADED
        for column in np.flatnonzero(~kept_cell):
            who = f"{pairs['model'][column]} (seed {pairs['seed'][column]})"
            reasons[row, column] = (
                f"{who} was not tested on {name}"
                if k[row, column] == 0
                else f"{lacking[column]:.1%} of {len(matrix)} {name} problems not graded for {who}: at most "
                f"{MOST_UNGRADED:.0%} is allowed"
            )
        kept = graded[:, kept_cell].all(axis=1)
        sizes.append((int(kept.sum()), int((~kept).sum())))
        if not kept.any():
            reasons[row, kept_cell] = f"no {name} problem was graded for every model"
            continue
        matrix = 100 * np.where(kept_cell, matrix, np.nan)[kept]
        points[row] = matrix.mean(axis=0)
        redraws[row] = _redraw(matrix, draws, np.random.default_rng([seed, zlib.crc32(str(name).encode())]))
    benchmarks = pd.DataFrame({"domain": domains, "n": [n for n, _ in sizes], "dropped": [d for _, d in sizes]})
    return Resample(benchmarks, pairs, points, redraws, k, reasons, seed)


def _redraw(matrix: np.ndarray, draws: int, generator: np.random.Generator) -> np.ndarray:
    """Means of `draws` redraws of the rows of (n, C): (draws, C). Counts times matrix, in blocks that fit in memory."""
    n = len(matrix)
    block = max(1, 2_000_000 // n)
    out = np.empty((draws, matrix.shape[1]))
    for start in range(0, draws, block):
        size = min(block, draws - start)
        picked = generator.integers(0, n, (size, n)) + np.arange(size)[:, None] * n
        counts = np.bincount(picked.ravel(), minlength=size * n).reshape(size, n)
        out[start : start + size] = counts @ matrix / n
    return out


def mean_over_seeds(draws: np.ndarray, seed: int = 0) -> np.ndarray:
    """Redraws (B, ..., S) with seeds redrawn too and averaged: (B, ...); with one seed, the redraws themselves.

    The same redraw of seeds for every quantity that has as many of them, so that pairs stay pairs.
    """
    count = draws.shape[-1]
    if count == 1:
        return draws[..., 0]
    picked = np.random.default_rng([seed, count]).integers(0, count, (len(draws), count))
    return np.take_along_axis(draws, picked.reshape(len(draws), *[1] * (draws.ndim - 2), count), axis=-1).mean(axis=-1)


def interval(points: np.ndarray, draws: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Estimate and intervals of one quantity from its per-seed values (S,) and their problem redraws (B, S).

    Returns estimate, low, high (95%), low90, high90, p (two-sided, against 0), seen (smallest true effect that the 95%
    interval would have shown in 80% of repetitions), seeds, seed_sd (NaN for one seed), scope. For S > 1 each interval is
    the wider of t over seeds and hierarchical bootstrap, p and seen the larger of the two. Per-seed differences 1, 2, 3
    have the t interval 2 ± 4.30 × 1 / √3 = [−0.48, 4.48].
    """
    count, estimate = len(points), float(np.mean(points))
    mean_draws = mean_over_seeds(draws, seed)
    low, low90, high90, high = np.quantile(mean_draws, [0.025, 0.05, 0.95, 0.975])
    below, above = np.mean(mean_draws <= 0), np.mean(mean_draws >= 0)
    p = min(1.0, 2 * (min(below, above) * len(mean_draws) + 1) / (len(mean_draws) + 1))
    seen = (high - low) / 2 * (1 + stats.norm.ppf(0.8) / stats.norm.ppf(0.975))
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
    numbers = {"low": low, "high": high, "low90": low90, "high90": high90, "p": p, "seen": seen}
    found = {"estimate": estimate} | {name: float(number) for name, number in numbers.items()}
    return found | {"seeds": count, "seed_sd": spread, "scope": SCOPES[count == 1]}


def describe(sample: Resample, model: str, domain: str, benchmark: str, weights: np.ndarray) -> dict:
    """One line of a score table: the weighted score of a model with its interval, or NaN and a reason."""
    seeds, rows = sample.seeds(model), np.flatnonzero(weights)
    points, draws, reason = sample.values(model, seeds, weights)
    sizes, ks = sample.benchmarks.iloc[rows], np.unique(sample.k[np.ix_(rows, sample.columns(model, seeds))])
    row = {"model": model, "domain": domain, "benchmark": benchmark} | measured(points, draws, reason, sample.seed)
    return row | {name: int(sizes[name].sum()) for name in ("n", "dropped")} | {"k": int(ks[0]) if len(ks) == 1 else pd.NA}


def measured(points: np.ndarray, draws: np.ndarray, reason: str, seed: int) -> dict:
    """The columns score, low, high, seeds, seed_sd, scope and reason of one share, in points; NaN where there is a reason.

    A share lies between 0 and 100, so its interval ends there: t over two or three seeds reaches further.
    """
    found = {"estimate": np.nan, "low": np.nan, "high": np.nan, "seed_sd": np.nan} if reason else interval(points, draws, seed)
    ends = {end: float(np.clip(found[end], 0, 100)) for end in ("low", "high")}
    rest = {"seed_sd": found["seed_sd"], "seeds": len(points), "scope": SCOPES[len(points) == 1], "reason": reason}
    return {"score": found["estimate"]} | ends | rest


def _table(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=TABLE).astype({"k": "Int64"})


def score_table(scores: pd.DataFrame, pass_k: int | None = None, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """Avg@K of every model on every benchmark, or pass@`pass_k`, with 95% intervals.

    `scores` is the table of graded samples, of one split. Returns `TABLE`: model, domain, benchmark, score, low, high
    (points), n (problems used), k (samples each), seeds, seed_sd (points, NaN for one seed), scope, dropped (problems),
    reason ('' or why the score is NaN). 150 right of 200 single samples: 75.0 [69.0, 81.0]. ValueError as `check_scores`.
    """
    sample = resample(problem_means(scores, pass_k), draws=draws, seed=seed)
    rows = []
    for model in pd.unique(scores["model"]):
        for place, (benchmark, domain) in enumerate(sample.benchmarks["domain"].items()):
            if sample.k[place, sample.columns(model, sample.seeds(model))].any():
                rows.append(describe(sample, model, domain, benchmark, sample.weights(benchmark)))
    return _table(rows)


def average_table(scores: pd.DataFrame, pass_k: int | None = None, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """As `score_table`, for averages: one row a model and domain, and one with domain 'overall' (general apart).

    `benchmark` is 'average' in all of them. A model that was not tested on some benchmark gets NaN and the reason.
    """
    sample = resample(problem_means(scores, pass_k), draws=draws, seed=seed)
    domains = sorted(set(sample.benchmarks["domain"]))
    return _table(
        [
            describe(sample, model, over, AVERAGE, sample.weights(over))
            for model in pd.unique(scores["model"])
            for over in ([OVERALL] if domains != [GENERAL] else []) + domains
        ]
    )


def averages(table: pd.DataFrame) -> pd.DataFrame:
    """The same averages from a table of finished scores (a published one), so without intervals.

    Takes model, domain, benchmark, score; returns the same columns, benchmark 'average', one row a domain and 'overall'.
    Math 60 and 70, coding 45: math 65, coding 45, overall 55. ValueError if a model lacks a benchmark that others have.
    """
    require_columns(table, ["model", "domain", "benchmark", "score"], "table of scores")
    count = table.groupby("model", sort=False)["benchmark"].nunique()
    if (count < table["benchmark"].nunique()).any():
        model = count.idxmin()
        lacking = set(table["benchmark"]) - set(table.loc[table["model"] == model, "benchmark"])
        raise ValueError(f"{model} has no score on {_names(lacking)}: averages need every benchmark for every model")
    domains = table.groupby(["model", "domain"], sort=False)["score"].mean().reset_index()
    overall = domains[domains["domain"] != GENERAL].groupby("model", sort=False)["score"].mean().reset_index()
    both = pd.concat([overall.assign(domain=OVERALL), domains])
    return both.assign(benchmark=AVERAGE)[["model", "domain", "benchmark", "score"]].reset_index(drop=True)


def choose_on_selection(scores: pd.DataFrame, candidates: list[str]) -> str:
    """The candidate with the best overall mean on the split 'selection'; of equals, the first named.

    ValueError of one line if `scores` holds any other split (test scores must not reach a choice), if a candidate is not in
    it, or if a candidate's score is refused. Means 40, 45 and 45 for a, b, c: 'b'.
    """
    require_columns(scores, COLUMNS, "scores")
    if set(scores["split"]) != {"selection"}:
        raise ValueError(f"choosing on the splits {_names(scores['split'])}: only selection is allowed")
    unknown = [name for name in candidates if name not in set(scores["model"])]
    if unknown or not candidates:
        raise ValueError(f"unknown candidates {', '.join(unknown) or '(none given)'}: scores has {_names(scores['model'])}")
    sample = resample(problem_means(scores[scores["model"].isin(candidates)]), draws=1)
    means = {}
    for name in candidates:
        points, _, reason = sample.values(name, sample.seeds(name), sample.weights(OVERALL))
        if reason:
            raise ValueError(f"cannot choose: {reason}")
        means[name] = round(float(points.mean()), 9)  # sums in another order must not break a tie
    return max(means, key=means.get)
