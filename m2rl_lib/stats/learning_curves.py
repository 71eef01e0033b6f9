"""Learning curves with Wilson's interval (ours), which does not end at 0 or 1 and has a width where all or none are right."""

import numpy as np
import pandas as pd
from scipy import stats

from m2rl_lib.stats.graded_samples import require_columns

PARTS = {  # of a domain in a training log: how it is logged, and what it is
    "rewards/{}/mean": "reward",
    "entropy/{}": "entropy, nats a token",
    "zero_std/{}": "groups without variance, share",
    "rows/{}": "share of completions with an advantage",
    "tokens/{}": "share of tokens with an advantage",
    "length/{}": "completion length, tokens",
}


def by_domain(log: pd.DataFrame, domains: list[str]) -> pd.DataFrame:
    """A training log's numbers of each domain, one a row: step, domain, measure (of PARTS), value; without those that it lacks."""
    parts = [
        pd.DataFrame({"step": log["step"], "domain": domain, "measure": measure, "value": log[column.format(domain)]})
        for column, measure in PARTS.items()
        for domain in domains
        if column.format(domain) in log
    ]
    return pd.concat(parts, ignore_index=True).dropna(subset="value").astype({"value": float})


def curve_table(curves: pd.DataFrame, problems: int) -> pd.DataFrame:
    """`curves` with low, high (95%) and n, missing for training rewards: a selection point is one completion per problem."""
    require_columns(curves, ["model", "step", "domain", "kind", "reward"], "curves")
    z2 = stats.norm.ppf(0.975) ** 2
    middle = (curves["reward"] + z2 / (2 * problems)) / (1 + z2 / problems)
    spread = curves["reward"] * (1 - curves["reward"]) / problems + z2 / (4 * problems**2)
    half = np.sqrt(z2 * spread.clip(lower=0)) / (1 + z2 / problems)
    found = pd.DataFrame({"low": middle - half, "high": middle + half, "n": problems})
    return pd.concat([curves, found.where(curves["kind"] == "selection")], axis=1)
