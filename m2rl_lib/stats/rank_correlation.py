"""Whether one order predicts another: rank correlation within groups, and the order of methods on two splits. Ranks are taken
within a domain, so that differences between domains do not count as agreement (ours; the paper ranks by eye)."""

import numpy as np
import pandas as pd

from m2rl_lib.stats.averages import average_table
from m2rl_lib.stats.graded_samples import UNTRAINED, require_columns
from m2rl_lib.stats.over_seeds import t_interval

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


def rank_correlation(points: pd.DataFrame, x: str, y: str, draws: int = 10_000) -> pd.Series:
    """Spearman's correlation of `x` and `y` within domains: x, y, rho, low, high (95%), p, points, targets, domains, seeds; NaN
    where x or y varies in no domain. Rows without x or y are left out. The interval is the wider of resampling targets and of
    Bonett and Wright's formula (2000), since resamples alone miss in 8 to 10% of null worlds of 12 to 35 points. Seeds (a column
    `seed`) are ranked separately; a target is resampled and permuted in all of them at once, and a wider t interval over seeds
    counts."""
    require_columns(points, ["domain", "target", x, y], "points")
    points = points.dropna(subset=[x, y]).reset_index(drop=True)
    points["seed"] = points.get("seed", 0)
    cells = points.groupby(["seed", "domain"])
    ranks = cells[[x, y]].rank().div(cells[x].transform("size") + 1, axis=0)
    a, b = (ranks - ranks.groupby([points["seed"], points["domain"]]).transform("mean")).to_numpy().T
    found = pd.Series({"x": x, "y": y, **dict.fromkeys(["rho", "low", "high", "p"], np.nan)}, dtype=object)
    for name, by in (("points", ["domain", "target"]), ("targets", "target"), ("domains", "domain"), ("seeds", "seed")):
        found[name] = points.groupby(by).ngroups
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    if not scale > 1e-12:
        return found
    rho, generator, permuted = (a * b).sum() / scale, np.random.default_rng(0), np.zeros(draws)
    for places in points.groupby("domain").indices.values():
        (at, targets), (by, seeds) = (pd.factorize(points[column].to_numpy()[places]) for column in ("target", "seed"))
        wide = np.zeros((2, len(seeds), len(targets)))
        wide[:, by, at] = a[places], b[places]
        order = generator.permuted(np.tile(np.arange(len(targets)), (draws, 1)), axis=1)
        permuted += (wide[0].T @ wide[1])[np.arange(len(targets)), order].sum(axis=1)
    parts = pd.DataFrame({"ab": a * b, "aa": a * a, "bb": b * b})
    sums, each = parts.groupby(points["target"]).sum().to_numpy(), parts.groupby(points["seed"]).sum()
    mean, _, top = t_interval((each["ab"] / np.sqrt(each["aa"] * each["bb"])).dropna())
    drawn = generator.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), draws) @ sums
    drawn = drawn[(drawn[:, 1] > 0) & (drawn[:, 2] > 0)]
    low, high = np.quantile(drawn[:, 0] / np.sqrt(drawn[:, 1] * drawn[:, 2]), [0.025, 0.975])
    near = np.arctanh(np.clip(rho, -1 + 1e-9, 1 - 1e-9))
    error = np.sqrt((1 + rho**2 / 2) / max(found["points"] - found["domains"] - 2, 1))
    found["rho"], found["p"] = rho, (1 + (np.abs(permuted / scale) >= abs(rho) - 1e-12).sum()) / (draws + 1)
    half = np.nan_to_num(top - mean)  # NaN of one seed
    found["low"] = min(low, np.tanh(near - 1.96 * error), max(rho - half, -1))
    found["high"] = max(high, np.tanh(near + 1.96 * error), min(rho + half, 1))
    return found


def rank_sentence(found: pd.Series, what: str, of: str = "ΔPerf") -> str:
    """A `rank_correlation` of x, called `what`, and `of` y in English. It gives no verdict: that is the ledger's."""
    counted = f"{found['points']} points, {found['targets']} models, {found['domains']} domains"
    counted += f", seeds: {found['seeds']}" * (found["seeds"] > 1)
    start = f"{what[0].upper()}{what[1:]} and {of}"
    if pd.isna(found["rho"]):
        return f"{start}: no rank correlation, one of them is the same everywhere within each domain ({counted})."
    size = f"rank correlation {found['rho']:+.2f} [{found['low']:.2f}, {found['high']:.2f}] within domains"
    return f"{start}: {size}, permutation p = {found['p']:.4f}, {counted}."
