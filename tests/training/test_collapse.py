"""Collapse is reported where it is, and not where it is not."""

import pytest

from m2rl_lib.training import collapse


def log(rewards, entropy=0.1, flat=0.3):
    return [{"step": 10 * i, "reward": r, "entropy": entropy, "frac_reward_zero_std": flat} for i, r in enumerate(rewards, 1)]


@pytest.mark.parametrize(
    ("points", "kinds"),
    [
        (log([0.4, 0.5, 0.6, 0.7, 0.8, 0.9]), set()),
        (log([0.5, 0.4, 0.3, 0.2, 0.2, 0.1]), {"reward"}),
        (log([0.5, 0.4, 0.3, 0.2, 0.5, 0.1]), set()),  # it came back
        (log([0.5, 0.3, 0.3]), set()),  # not for long
        (log([0.9] * 8, entropy=0.001), {"entropy"}),
        (log([1.0] * 8, flat=1.0), {"groups"}),
        (log([0.5, 0, 0, 0, 0, 0], entropy=0.0, flat=1), {"reward", "entropy", "groups"}),
        ([*log([0.5, 0.6, 0.6, 0.7, 0.7, 0.7]), {"step": 60, "train_loss": 0.1, "reward": float("nan")}], set()),
    ],
)
def test_signs_are_those_planted(points, kinds):
    assert set(collapse.warnings(points)) == kinds
    assert collapse.verdict(points).startswith("COLLAPSE?" if kinds else "no collapse warning")
