"""Whether one order predicts another: rank correlations within domains, and the order of methods on two splits.

Ranks are taken within a domain and permuted within it, so that an easy domain does not count as agreement (ours; the paper
ranks by eye). Under ten points nothing is said, and 'does not predict' needs an interval inside ±0.3, not a large p.
"""

import numpy as np
import pandas as pd

from m2rl_lib.stats.bootstrap import GENERAL, average_table

FEWEST = 10  # points of a rank correlation
SMALL = 0.3  # a rank correlation within ±0.3 predicts nothing


def rank_stability(selection: pd.DataFrame, test: pd.DataFrame, methods: list[str]) -> pd.DataFrame:
    """Each method's score on both splits, in each domain and overall: model, domain, selection, test, and their places."""
    found = {}
    for split, scores in (("selection", selection), ("test", test)):
        some = scores[scores["model"].isin(methods) & (scores["domain"] != GENERAL)]
        found[split] = average_table(some, draws=1).set_index(["model", "domain"])["score"]
    table = pd.DataFrame(found).reset_index()
    for split in found:
        table[f"{split}_place"] = table[split].round(9).groupby(table["domain"]).rank(ascending=False, method="min")
    return table


def rank_correlation(frame: pd.DataFrame, x: str, y: str, by: str, draws: int = 10_000, seed: int = 0) -> pd.Series:
    """Spearman's correlation of `x` and `y` with ranks taken within each group of `by`, and what may be said of it.

    Returns correlation, low, high (95%: the wider of redrawing points within groups, which alone misses in 8 to 10% of null
    worlds of 12 to 35 points, and Bonett and Wright's formula), p (two-sided, y permuted within groups), n (points) and
    verdict: 'too few points' under 10, 'predicts' (interval above 0), 'reversed' (below 0), 'does not predict' (interval
    inside ±0.3), else 'undecided'. The same order in every group: 1. Groups that only differ in level: no correlation.
    """
    rows = frame[[x, y, by]].dropna()
    ranks = rows.groupby(by)[[x, y]].rank()
    groups = [part.to_numpy() - part.to_numpy().mean(axis=0) for _, part in ranks.groupby(rows[by])]
    whole = np.concatenate(groups) if groups else np.zeros((0, 2))
    scale = np.sqrt((whole**2).sum(axis=0).prod())
    if not scale > 0:
        unknown = dict.fromkeys(["correlation", "low", "high", "p"], np.nan)
        return pd.Series(unknown | {"n": len(rows), "verdict": "no spread: everything ties"})
    generator, sums, permuted = np.random.default_rng(seed), np.zeros((3, draws)), np.zeros(draws)
    for part in groups:
        picked = part[generator.integers(0, len(part), (draws, len(part)))]
        picked = picked - picked.mean(axis=1, keepdims=True)
        a, b = picked[..., 0], picked[..., 1]
        sums += np.stack([(a * b).sum(axis=1), (a * a).sum(axis=1), (b * b).sum(axis=1)])
        permuted += generator.permuted(np.tile(part[:, 1], (draws, 1)), axis=1) @ part[:, 0]
    product = whole[:, 0] @ whole[:, 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = np.nanquantile(sums[0] / np.sqrt(sums[1] * sums[2]), [0.025, 0.975])
    near = np.arctanh(np.clip(product / scale, -1 + 1e-9, 1 - 1e-9))
    error = np.sqrt((1 + (product / scale) ** 2 / 2) / max(len(rows) - len(groups) - 2, 1))  # Bonett and Wright 2000
    low, high = min(low, np.tanh(near - 1.96 * error)), max(high, np.tanh(near + 1.96 * error))
    p = (1 + (np.abs(permuted) >= abs(product) - 1e-9).sum()) / (draws + 1)
    values = {"correlation": product / scale, "low": low, "high": high, "p": p, "n": len(rows)}
    return pd.Series(values | {"verdict": _verdict(low, high, len(rows))})


def _verdict(low: float, high: float, n: int) -> str:
    if n < FEWEST:
        return "too few points"
    if low > 0 or high < 0:
        return "predicts" if low > 0 else "reversed"
    return "does not predict" if low > -SMALL and high < SMALL else "undecided"
