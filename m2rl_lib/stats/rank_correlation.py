"""Whether one order predicts another: rank correlation within groups, and the order of methods on two splits.

Ranks are taken and permuted within a domain, so that differences between domains do not count as agreement (ours; the paper
ranks by eye). A model tested in several domains is resampled as one.
"""

import numpy as np
import pandas as pd

from m2rl_lib.stats.bootstrap import UNTRAINED, average_table, require_columns

FEWEST = 10  # points, below which a rank correlation is no evidence
NEGLIGIBLE = 0.3  # a rank correlation within ±0.3 predicts nothing


def rank_stability(selection: pd.DataFrame, test: pd.DataFrame, methods: list[str]) -> pd.DataFrame:
    """Each method's score on both splits, in each domain and overall: model, domain, selection, test, and their places."""
    found = {}
    for split, scores in (("selection", selection), ("test", test)):
        some = scores[scores["model"].isin(methods) & ~scores["domain"].isin(UNTRAINED)]
        found[split] = average_table(some, draws=1).set_index(["model", "domain"])["score"]
    table = pd.DataFrame(found).reset_index()
    for split in found:
        table[f"{split}_place"] = table[split].round(9).groupby(table["domain"]).rank(ascending=False, method="min")
    return table


def rank_correlation(points: pd.DataFrame, x: str, y: str, draws: int = 10_000, seed: int = 0) -> pd.Series:
    """Spearman's correlation of `x` and `y` within domains: x, y, rho, low, high (95%), p, points, targets, domains.

    Ranks (ties shared) are divided by the domain's number of points + 1 and centred. The interval is the wider of resampling
    targets and of Bonett and Wright's formula (2000), since resamples alone miss in 8 to 10% of null worlds of 12 to 35
    points. NaN where x or y varies in no domain. Rows without x or y are left out.
    """
    require_columns(points, ["domain", "target", x, y], "points")
    points = points.dropna(subset=[x, y]).reset_index(drop=True)
    groups = points.groupby("domain")
    ranks = groups[[x, y]].rank().div(groups[x].transform("size") + 1, axis=0)
    a, b = (ranks - ranks.groupby(points["domain"]).transform("mean")).to_numpy().T
    found = pd.Series({"x": x, "y": y, **dict.fromkeys(["rho", "low", "high", "p"], np.nan)}, dtype=object)
    found["points"], found["targets"], found["domains"] = len(points), points["target"].nunique(), groups.ngroups
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    if not scale > 1e-12:
        return found
    rho, generator, permuted = (a * b).sum() / scale, np.random.default_rng(seed), np.zeros(draws)
    for places in groups.indices.values():
        permuted += generator.permuted(np.tile(b[places], (draws, 1)), axis=1) @ a[places]
    sums = pd.DataFrame({"ab": a * b, "aa": a * a, "bb": b * b}).groupby(points["target"]).sum().to_numpy()
    drawn = generator.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), draws) @ sums
    drawn = drawn[(drawn[:, 1] > 0) & (drawn[:, 2] > 0)]
    low, high = np.quantile(drawn[:, 0] / np.sqrt(drawn[:, 1] * drawn[:, 2]), [0.025, 0.975])
    near = np.arctanh(np.clip(rho, -1 + 1e-9, 1 - 1e-9))
    error = np.sqrt((1 + rho**2 / 2) / max(len(points) - found["domains"] - 2, 1))
    found["rho"], found["p"] = rho, (1 + (np.abs(permuted / scale) >= abs(rho) - 1e-12).sum()) / (draws + 1)
    found["low"], found["high"] = min(low, np.tanh(near - 1.96 * error)), max(high, np.tanh(near + 1.96 * error))
    return found


def rank_sentence(found: pd.Series, what: str, of: str = "ΔPerf") -> str:
    """A `rank_correlation` of x, called `what`, and `of` y in English. It gives no verdict: that is the ledger's."""
    counted = f"{found['points']} points, {found['targets']} models, {found['domains']} domains"
    start = f"{what[0].upper()}{what[1:]} and {of}"
    if pd.isna(found["rho"]):
        return f"{start}: no rank correlation, one of them is the same everywhere within each domain ({counted})."
    size = f"rank correlation {found['rho']:+.2f} [{found['low']:.2f}, {found['high']:.2f}] within domains"
    return f"{start}: {size}, permutation p = {found['p']:.4f}, {counted}."
