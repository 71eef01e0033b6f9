"""What GRPO is rewarded by: the domains' `verify`, on text decoded from the completion's token ids."""

import json
import math
import random
from collections.abc import Callable

from m2rl_lib import domains


def reward_function(domain: str) -> Callable[..., list[float | None]]:
    """TRL's reward function of a domain: its `verify` on that domain's completions, None on others'.

    A reward that is not a finite number stops the run: TRL would train on it.
    """

    def reward(*, row: list[str], text: list[str], **_) -> list[float | None]:
        rows = [json.loads(r) for r in row]
        mine = [i for i, r in enumerate(rows) if r["domain"] == domain]
        rewards: list[float | None] = [None] * len(rows)
        for i, value in zip(mine, domains.ALL[domain].verify([text[i] for i in mine], [rows[i] for i in mine]), strict=True):
            if value is not None and not math.isfinite(value):
                raise FloatingPointError(f"{domain}: reward {value!r} for problem {rows[i]['problem_id']} is not a finite number")
            rewards[i] = value
        return rewards

    reward.__name__ = domain
    return reward


def permuted(reward: Callable, group: int, rng: random.Random) -> Callable:
    """`reward`, its values shuffled within each group of `group` completions of one prompt."""

    def shuffled(**columns) -> list[float | None]:
        values = reward(**columns)
        return [value for i in range(0, len(values), group) for value in rng.sample(values[i : i + group], group)]

    shuffled.__name__ = reward.__name__
    return shuffled
