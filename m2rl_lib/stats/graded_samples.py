"""Graded samples: what a table of them must hold, and its problems' means: Avg@K, or pass@k. A row is one sample of a problem by a
model of a seed, right (1), wrong (0) or not graded (null)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from m2rl_lib.storage.result_tables import KEYS

COLUMNS = [*KEYS, "correct"]
CELL = ["seed", "model", "benchmark"]
UNTRAINED = ("general", "composition")  # domains that RL never trains: excluded from every average
MOST_UNGRADED = 0.01  # above this share of ungraded problems a cell is refused


def require_columns(frame: pd.DataFrame, columns: list[str], what: str) -> None:
    """Refuse a frame that is empty or lacks columns (ValueError)."""
    lacking = [column for column in columns if column not in frame.columns]
    if lacking:
        raise ValueError(f"{what} lacks {', '.join(lacking)}: it has {', '.join(map(str, frame.columns)) or 'no columns'}")
    if frame.empty:
        raise ValueError(f"{what} is empty: at least one row is needed")


def check_scores(scores: pd.DataFrame) -> None:
    """Refuse graded samples of one split that lack something or contradict themselves (ValueError, one line)."""
    require_columns(scores, COLUMNS, "scores")
    for column in KEYS:
        if scores[column].isna().any():
            raise ValueError(f"scores has {int(scores[column].isna().sum())} rows without {column}: every row needs one")
    graded = pd.to_numeric(scores["correct"]).dropna()
    if not graded.isin([0, 1]).all():
        raise ValueError(f"scores has correct = {graded[~graded.isin([0, 1])].iloc[0]:g}: allowed are 0, 1 and null (not graded)")
    if scores["split"].nunique() > 1:
        raise ValueError(f"scores mixes the splits {list_names(scores['split'])}: keep one")
    sample = [*CELL, "problem_id", "sample"]
    twice = scores.loc[scores.duplicated(sample), sample]
    if len(twice):
        where = ", ".join(f"{key} {value}" for key, value in twice.iloc[0].items())
        raise ValueError(f"scores has {len(twice)} samples twice, first {where}: each may be there once")
    several = scores.groupby("benchmark", sort=False)["domain"].nunique() > 1
    if several.any():
        where = list_names(scores.loc[scores["benchmark"] == several.idxmax(), "domain"])
        raise ValueError(f"scores has benchmark {several.idxmax()} in the domains {where}: one is allowed")


def list_names(values) -> str:
    """Each value once, sorted, for a message: 'coding, math'."""
    return ", ".join(sorted({str(value) for value in values}))


def pass_at_k(n: np.ndarray | int, c: np.ndarray | int, k: int) -> np.ndarray:
    """1 − C(n − c, k) / C(n, k), elementwise: the unbiased chance that one of k samples is right (Chen et al. 2021)."""
    n, c = np.broadcast_arrays(np.asarray(n, dtype=float), np.asarray(c, dtype=float))
    if k < 1 or (n < k).any() or (c < 0).any() or (c > n).any():
        raise ValueError(f"pass@k with k = {k}, n = {n.min():g} samples: k from 1 to n and from 0 to n right ones are allowed")
    i = np.arange(k)
    return 1 - np.prod(np.clip(n[..., None] - c[..., None] - i, 0, None) / (n[..., None] - i), axis=-1)


def problem_means(scores: pd.DataFrame, pass_k: int | None = None) -> pd.DataFrame:
    """Checked samples averaged, one row per seed, model, domain, benchmark and problem_id: k (samples), solved (right ones),
    value (share right, or pass@`pass_k`), graded (False where a sample is missing or has a null `correct`) and, if scores has
    them, the shares parsed, parsed_correct (both) and truncated."""
    check_scores(scores)
    flags = [name for name in ("parsed", "truncated") if name in scores.columns]
    rows = scores[[*CELL, "domain", "problem_id", *flags]].astype(dict.fromkeys(flags, float))
    rows["correct"] = pd.to_numeric(scores["correct"]).astype(float)
    if "parsed" in flags:
        rows["parsed_correct"] = rows["parsed"] * rows["correct"]
        flags.append("parsed_correct")
    groups = rows.groupby(["seed", "model", "domain", "benchmark", "problem_id"], sort=True, observed=True)
    counts = groups["correct"].agg(k="size", answered="count", solved="sum", value="mean")
    problems = counts.join(groups[flags].mean()).reset_index()
    problems["k"] = problems.groupby(CELL, observed=True)["k"].transform("max")
    problems["graded"] = problems.pop("answered") == problems["k"]
    if pass_k is not None:
        problems["value"] = pass_at_k(problems["k"], problems["solved"], pass_k)
    return problems


def models_in(scores: pd.DataFrame) -> set[str]:
    """The models of a table of samples; a set of the column itself would visit each of its rows."""
    return {*scores["model"].unique()}


def models_lacking(scores: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Those of `names` that a table of samples lacks, in their order."""
    there = models_in(scores)
    return [name for name in names if name not in there]


def rows_of(scores: pd.DataFrame, models: Sequence[str], others: bool = False) -> pd.DataFrame:
    """The rows of `models`; ValueError naming those that are not there, and with `others` those that are."""
    if lacking := models_lacking(scores, models):
        there = f": there are {', '.join(sorted(models_in(scores)))}" if others else ""
        raise ValueError(f"no scores of {', '.join(lacking)}{there}")
    return scores[scores["model"].isin(models)]
