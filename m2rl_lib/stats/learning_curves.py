"""Learning curves with their intervals: what a mean over few selection problems is worth. Training logs means alone; the
interval is ours (Wilson's, which does not end at 0 or 1 and has a width where all or none are right).
"""

import numpy as np
import pandas as pd
from scipy import stats

from m2rl_lib.stats.bootstrap import require_columns


def curve_table(curves: pd.DataFrame, problems: int) -> pd.DataFrame:
    """Training and selection rewards of all runs, with the Wilson 95% interval of selection points.

    `curves` is the table of that name; a selection point is one completion on each of `problems` problems. Returns its rows
    with low, high and n, which are missing for training rewards. 20 right of 40: 0.5 [0.352, 0.648].
    """
    require_columns(curves, ["model", "step", "domain", "kind", "reward"], "curves")
    z2 = stats.norm.ppf(0.975) ** 2
    middle = (curves["reward"] + z2 / (2 * problems)) / (1 + z2 / problems)
    spread = curves["reward"] * (1 - curves["reward"]) / problems + z2 / (4 * problems**2)
    half = np.sqrt(z2 * spread.clip(lower=0)) / (1 + z2 / problems)
    selection = curves["kind"] == "selection"
    return curves.assign(
        low=(middle - half).where(selection),
        high=(middle + half).where(selection),
        n=pd.Series(problems, curves.index).where(selection),
    )
