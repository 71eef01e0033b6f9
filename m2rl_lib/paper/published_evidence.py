"""What the paper prints for each of its findings: a value in our unit (NaN where none could be read; no interval), and words."""

import numpy as np
import pandas as pd

from m2rl_lib.analysis.rq2_transfer.transfer_matrix import CLAIMS
from m2rl_lib.analysis.rq4_methods.seesaw import count_winners, place_methods
from m2rl_lib.paper import published_tables
from m2rl_lib.paper.claim_ledger import ASKED_BY_US
from m2rl_lib.stats.averages import averages
from m2rl_lib.stats.bootstrap import OVERALL
from m2rl_lib.stats.comparisons import display_domain, display_name

Evidence = tuple[float, str]
UNREAD = (np.nan, "stated; no number of it could be read")


def ours() -> Evidence:
    """Of a claim that the paper does not make."""
    return np.nan, ASKED_BY_US


def _means(table: pd.DataFrame) -> pd.DataFrame:
    """Averages of a published table: one row per model, one column per domain, for 'overall' and for 'general'."""
    return averages(table).pivot(index="model", columns="domain", values="score")


def mixing_against_merging() -> Evidence:
    """RL-Multi − the best merge, mean over domains."""
    mixed, merged = _means(published_tables.scores()).loc[["rl-multi", "merged-best"], OVERALL]
    return float(mixed - merged), f"RL-Multi {mixed:.1f}, best merge {merged:.1f}, mean over domains"


def cost_of_mixing() -> Evidence:
    """GPU hours of RL-Multi over those of the experts."""
    ratio = published_tables.gpu_hour_ratio()
    return ratio, f"{100 * ratio:.1f}% of the experts' GPU hours"


def _changes() -> pd.Series:
    """(trained on, tested on another) → change against SFT, points."""
    means = _means(published_tables.scores()).drop(columns=[OVERALL, "general"])
    cells = (means.loc["rl-" + means.columns] - means.loc["sft"]).rename(index=lambda name: name.removeprefix("rl-")).stack()
    return cells[cells.index.get_level_values(0) != cells.index.get_level_values(1)]


def worst_transfer() -> Evidence:
    """The lowest change of a domain by an expert of another."""
    cells = _changes()
    trained, tested = cells.idxmin()
    where = f"{display_domain(trained).lower()} on {display_domain(tested).lower()}"
    return float(cells.min()), f"worst of {len(cells)} cells {cells.min():+.1f} ({where})"


def transfer_mean(part: str) -> Evidence:
    """Mean change of the cells of a part of `transfer_matrix.CLAIMS`."""
    trained, tested = CLAIMS[part]
    cells = [change for (one, other), change in _changes().items() if one in trained and other in tested]
    return float(np.mean(cells)), f"mean change {np.mean(cells):+.1f} over {len(cells)} cells"


def transfer_whole(margin: float) -> Evidence:
    """The least favourable of the four parts of the paper's answer to RQ2, as its distance from its edge."""
    helped, instructed, hardly = (transfer_mean(part)[0] for part in list(CLAIMS)[1:])
    depth = min(worst_transfer()[0] + margin, helped - margin, instructed - margin, margin - hardly)
    return depth, f"the least favourable part is {abs(depth):.1f} {'inside' if depth > 0 else 'outside'} its edge"


def overlap_above_chance() -> Evidence:
    """Mean overlap of the pairs that could be read, less that of independent masks."""
    table = published_tables.mask_overlap().set_index("pair")["jaccard"]
    pairs, chance = table.drop("independent masks"), table["independent masks"]
    return float(pairs.mean() - chance), f"Jaccard about {pairs.min():.2f} to {pairs.max():.2f}, independent masks {chance:.2f}"


def pair_asymmetry() -> Evidence:
    """What adding coding gives math, less what adding math gives coding."""
    gains = published_tables.pairs().groupby("target_domain")["change"].mean()
    return float(gains["math"] - gains["coding"]), f"math {gains['math']:+.1f}, coding {gains['coding']:+.1f} (in part)"


def seesaw() -> Evidence:
    """How many methods win somewhere, and what choosing by benchmark would gain; no samples, so no null to take off."""
    table = published_tables.merging()
    best = table.loc[table.groupby("benchmark")["score"].idxmax()].assign(model="by benchmark")
    gain = _means(best)[OVERALL].iloc[0] - _means(table)[OVERALL].max()
    winners, methods = count_winners(place_methods(table)), table["model"].nunique()
    return np.nan, f"{winners} of {methods} methods are best somewhere; choosing by benchmark gains {gain:.1f}, luck included"


def ties_ahead() -> Evidence:
    """TIES less the best other method, mean over domains; the plain mean of all benchmarks beside it."""
    table = published_tables.merging()
    domains, plain = _means(table)[OVERALL], table.groupby("model")["score"].mean()
    leads = [means["merge-ties"] - means.drop("merge-ties").max() for means in (domains, plain)]
    best = display_name(domains.drop("merge-ties").idxmax())
    return float(leads[0]), f"{leads[0]:+.2f} against {best}, mean over domains; {leads[1]:+.2f} in the plain mean"


def ties_against_distilled() -> Evidence:
    """TIES − MT-OPD, mean over domains."""
    ties, distilled = _means(published_tables.merging()).loc[["merge-ties", "mt-opd"], OVERALL]
    return float(ties - distilled), f"TIES {ties:.1f}, MT-OPD {distilled:.1f}, mean over domains"


def judging() -> Evidence:
    """What could be read of judging: RL-Multi in both modes. The contrast of domains could not."""
    table = published_tables.judging().query("benchmark == 'average'").set_index(["model", "mode"])["accuracy"]
    outcome, process = table["rl-multi"][["outcome", "process"]]
    return np.nan, f"stated; read in part: RL-Multi, average, outcome {outcome:.1f}, process {process:.1f}"
