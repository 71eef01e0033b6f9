"""Collapse warnings, which a reward curve alone can hide: each must hold for the last `LONG` logged points; a run logs about 25."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

LONG = 5  # logged points in a row
FALLEN = 0.9  # of the first logged reward; the paper names no limit
LEAST_ENTROPY = 0.005  # nats per token; healthy experts of the default study end at 0.02 to 0.13
COLUMNS = ["step", "reward", "entropy", "frac_reward_zero_std"]


def warnings(log: Sequence[Mapping]) -> dict[str, str]:
    """What is wrong at the end of a training log (`COLUMNS`): kind -> one line."""
    points = pd.DataFrame(log, columns=COLUMNS).astype(float).replace([np.inf, -np.inf], np.nan).dropna(subset="reward")
    if len(points) <= LONG:
        return {}
    start, last, found = points["reward"].iloc[0], points.tail(LONG), {}
    lasting, step = f"for the last {LONG} logged points", int(last["step"].iloc[-1])
    if (last["reward"] < FALLEN * start).all():
        fallen = f"reward under {FALLEN:g} of its start ({start:.2f}) {lasting}"
        found["reward"] = f"{fallen}, now {last['reward'].iloc[-1]:.2f} at step {step}"
    if (last["entropy"] < LEAST_ENTROPY).all():
        found["entropy"] = f"entropy under {LEAST_ENTROPY:g} nats a token {lasting} (step {step})"
    if (last["frac_reward_zero_std"] == 1).all():
        found["groups"] = f"no group of completions differs in reward {lasting} (step {step})"
    return found


def verdict(log: Sequence[Mapping]) -> str:
    """One line on a finished run, for its notebook."""
    if found := warnings(log):
        return f"COLLAPSE? {'; '.join(found.values())}"
    return f"no collapse warning (reward, entropy and groups over the last {LONG} of {len(log)} logged points)"
