"""Whether one order predicts another: rank correlation within groups, and the order of methods on two splits.

Ranks are taken within a group (a domain) and permuted within it, so that differences between groups do not count as agreement
(ours; the paper ranks by eye). Rows of one cluster (a model tested in several domains) are redrawn together.
"""

import numpy as np
import pandas as pd

from m2rl_lib.stats.bootstrap import GENERAL, average_table, require_columns

FEWEST = 10  # points, below which a rank correlation is no evidence
NEGLIGIBLE = 0.3  # a rank correlation within ±0.3 predicts nothing


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


def rank_correlation(
    points: pd.DataFrame, x: str, y: str, draws: int = 10_000, seed: int = 0, by: str = "domain", cluster: str = "target"
) -> pd.Series:
    """Spearman's correlation of `x` and `y` within the groups of `by`: x, y, rho, low, high (95%), p, points, targets, domains.

    Ranks (ties shared) are divided by the group's number of points + 1 and centred. p: `y` permuted within each group. The
    interval is the wider of redrawing clusters and of Bonett and Wright's formula (2000), since redraws alone miss in 8 to
    10% of null worlds of 12 to 35 points. NaN where x or y varies in no group. Rows without x or y are left out. x = 1, 2, 3
    with y = 10, 20, 30 in one group and 3, 2, 1 in another: 0.
    """
    require_columns(points, [by, cluster, x, y], "points")
    points = points.dropna(subset=[x, y]).reset_index(drop=True)
    groups = points.groupby(by)
    ranks = groups[[x, y]].rank().div(groups[x].transform("size") + 1, axis=0)
    a, b = (ranks - ranks.groupby(points[by]).transform("mean")).to_numpy().T
    found = pd.Series({"x": x, "y": y, **dict.fromkeys(["rho", "low", "high", "p"], np.nan)}, dtype=object)
    found["points"], found["targets"], found["domains"] = len(points), points[cluster].nunique(), points[by].nunique()
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    if not scale > 1e-12:
        return found
    rho, generator, permuted = (a * b).sum() / scale, np.random.default_rng(seed), np.zeros(draws)
    for places in groups.indices.values():
        permuted += generator.permuted(np.tile(b[places], (draws, 1)), axis=1) @ a[places]
    sums = pd.DataFrame({"ab": a * b, "aa": a * a, "bb": b * b}).groupby(points[cluster]).sum().to_numpy()
    drawn = generator.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), draws) @ sums
    drawn = drawn[(drawn[:, 1] > 0) & (drawn[:, 2] > 0)]
    low, high = np.quantile(drawn[:, 0] / np.sqrt(drawn[:, 1] * drawn[:, 2]), [0.025, 0.975])
    near = np.arctanh(np.clip(rho, -1 + 1e-9, 1 - 1e-9))
    error = np.sqrt((1 + rho**2 / 2) / max(len(points) - found["domains"] - 2, 1))
    found["rho"], found["p"] = rho, (1 + (np.abs(permuted / scale) >= abs(rho) - 1e-12).sum()) / (draws + 1)
    found["low"], found["high"] = min(low, np.tanh(near - 1.96 * error)), max(high, np.tanh(near + 1.96 * error))
    return found


def rank_sentence(found: pd.Series, what: str, of: str = "ΔPerf") -> str:
    """A `rank_correlation` in English; `what` names x and `of` y. It gives no verdict: that is the ledger's.

    'KL and ΔPerf: rank correlation +0.05 [-0.10, 0.20] within domains, permutation p = 0.6104, 60 points, 20 models, 5 domains.'
    """
    counted = f"{found['points']} points, {found['targets']} models, {found['domains']} domains"
    start = f"{what[0].upper()}{what[1:]} and {of}"
    if pd.isna(found["rho"]):
        return f"{start}: no rank correlation, one of them is the same everywhere within each domain ({counted})."
    size = f"rank correlation {found['rho']:+.2f} [{found['low']:.2f}, {found['high']:.2f}] within domains"
    return f"{start}: {size}, permutation p = {found['p']:.4f}, {counted}."
