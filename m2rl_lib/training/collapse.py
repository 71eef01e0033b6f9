"""Collapse warnings: what a reward curve alone can hide.

The reward stays under its start, the policy has no entropy left, or no group of completions differs in reward, so that GRPO has
nothing to learn from. Each must hold for the last `LONG` logged points; a run logs about 25.
"""

import math
from collections.abc import Mapping, Sequence

LONG = 5  # logged points in a row
FALLEN = 0.9  # of the first logged reward; the paper names no bar
LEAST_ENTROPY = 0.005  # nats per token; healthy experts of the default study end at 0.02 to 0.13


def warnings(log: Sequence[Mapping]) -> dict[str, str]:
    """What is wrong at the end of a training log (step, reward, entropy, frac_reward_zero_std): kind -> one line.

    >>> warnings([{"step": s, "reward": 0.5 if s == 1 else 0.3} for s in range(1, 8)])["reward"]
    'reward under 0.9 of its start (0.50) for the last 5 logged points, now 0.30 at step 7'
    """
    points = [entry for entry in log if _number(entry.get("reward")) is not None]
    if len(points) <= LONG:
        return {}
    start, last, now = points[0]["reward"], points[-LONG:], points[-1]
    lasting, found = f"for the last {LONG} logged points", {}
    if all(entry["reward"] < FALLEN * start for entry in last):
        fallen = f"reward under {FALLEN:g} of its start ({start:.2f}) {lasting}"
        found["reward"] = f"{fallen}, now {now['reward']:.2f} at step {now['step']}"
    entropies = [_number(entry.get("entropy")) for entry in last]
    if all(value is not None and value < LEAST_ENTROPY for value in entropies):
        found["entropy"] = f"entropy under {LEAST_ENTROPY:g} nats a token {lasting} (step {now['step']})"
    if all(entry.get("frac_reward_zero_std") == 1 for entry in last):
        found["groups"] = f"no group of completions differs in reward {lasting} (step {now['step']})"
    return found


def _number(value: object) -> float | None:
    """A finite number, or None."""
    return float(value) if value is not None and math.isfinite(float(value)) else None


def verdict(log: Sequence[Mapping]) -> str:
    """One line on a finished run, for its notebook."""
    if found := warnings(log):
        return f"COLLAPSE? {'; '.join(found.values())}"
    return f"no sign of collapse (reward, entropy and groups over the last {LONG} of {len(log)} logged points)"
