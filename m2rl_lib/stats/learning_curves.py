"""Learning curves with Wilson's interval (ours), which does not end at 0 or 1 and has a width where all or none are right."""

import numpy as np
import pandas as pd
from scipy import stats

from m2rl_lib.stats.bootstrap import require_columns


def curve_table(curves: pd.DataFrame, problems: int) -> pd.DataFrame:
    """`curves` with low, high (95%) and n, missing for training rewards: a selection point is one completion per problem."""
    require_columns(curves, ["model", "step", "domain", "kind", "reward"], "curves")
    z2 = stats.norm.ppf(0.975) ** 2
    middle = (curves["reward"] + z2 / (2 * problems)) / (1 + z2 / problems)
    spread = curves["reward"] * (1 - curves["reward"]) / problems + z2 / (4 * problems**2)
    half = np.sqrt(z2 * spread.clip(lower=0)) / (1 + z2 / problems)
    found = pd.DataFrame({"low": middle - half, "high": middle + half, "n": problems})
    return pd.concat([curves, found.where(curves["kind"] == "selection")], axis=1)
