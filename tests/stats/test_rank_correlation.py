"""Rank correlations within domains by hand, and in worlds where nothing, or only the models, agree."""

import numpy as np
import pandas as pd
import pytest
from test_bootstrap import shares

from m2rl_lib.stats.rank_correlation import NEGLIGIBLE, rank_correlation, rank_sentence, rank_stability


def points_of(x: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    """x and y of shape (domains, targets)."""
    domain, target = np.indices(x.shape)
    names = pd.Series(target.ravel()).map("model {}".format)
    return pd.DataFrame({"domain": domain.ravel().astype(str), "target": names, "x": x.ravel(), "y": y.ravel()})


def outside(row: pd.Series) -> bool:
    return not row["low"] <= 0 <= row["high"]


@pytest.mark.parametrize(
    ("x", "y", "rho"),
    [
        ([[1, 2, 3], [30, 20, 10]], [[10, 20, 30], [1, 2, 3]], 0),
        ([[1, 2, 3], [10, 20, 30]], [[7, 8, 9], [-3, -2, -1]], 1),  # domains differ, the other way
        ([[1, 2, 3, 4]], [[2, 1, 3, 4]], 1 - 6 * 2 / (4 * 15)),  # Spearman's formula
        ([[1, 2, 3, 4, 5], [0, 0.1, 0.2, 0.3, 100]], [[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]], 0),  # whatever the sizes
        ([[2, 1, 0, 1, 2], [12, 11, 10, 11, 12]], [[0, 1, 2, 3, 4], [10, 11, 12, 13, 14]], 0),
    ],
)
def test_rank_correlation_by_hand(x, y, rho):
    assert rank_correlation(points_of(np.array(x, float), np.array(y, float)), "x", "y", 200)["rho"] == pytest.approx(rho)


def test_a_planted_monotone_relation_is_found():
    x = np.random.default_rng(0).lognormal(size=(5, 8))
    found = rank_correlation(points_of(x, -np.log(x) + 20 * np.arange(5)[:, None]), "x", "y", 1000)
    assert found["rho"] == pytest.approx(-1) and found["p"] < 0.01 and found["high"] < 0
    assert "KL and ΔPerf: rank correlation -1.00" in rank_sentence(found, "KL")


def test_unrelated_points_correlate_in_five_percent():
    generator = np.random.default_rng(0)
    rows = [rank_correlation(points_of(*generator.normal(size=(2, 5, 8))), "x", "y", 300) for _ in range(300)]
    assert 0.025 < sum(row["p"] < 0.05 for row in rows) / 300 < 0.08 and sum(map(outside, rows)) / 300 <= 0.08


def test_models_that_are_bad_everywhere_do_not_make_a_relation():
    """x and y each differ between models, alike in all domains, but not together: one model is one observation."""
    generator, found = np.random.default_rng(0), 0
    for _ in range(500):
        shared = generator.normal(size=(2, 1, 16)) + 0.3 * generator.normal(size=(2, 5, 16))
        row = rank_correlation(points_of(*shared), "x", "y", 300)
        found += row["p"] < 0.05 and outside(row)
    assert found / 500 < 0.12


def test_many_points_narrow_the_interval_and_what_does_not_vary_has_none():
    generator = np.random.default_rng(3)
    many = rank_correlation(points_of(*generator.normal(size=(2, 5, 120))), "x", "y", 500)
    assert max(-many["low"], many["high"]) < NEGLIGIBLE
    same = rank_correlation(points_of(np.ones((3, 5)), generator.normal(size=(3, 5))), "x", "y", 200)
    assert np.isnan(same["rho"]) and "the same everywhere" in rank_sentence(same, "KL")
    gaps = points_of(np.full((3, 5), np.nan), generator.normal(size=(3, 5)))
    assert rank_correlation(gaps, "x", "y", 200)["points"] == 0


def test_seeds_are_ranked_separately_and_count_once():
    """Three seeds alike are one: only the sign of another seed widens the interval."""
    x, y = np.random.default_rng(0).normal(size=(2, 5, 8))
    one = rank_correlation(points_of(x, y), "x", "y", 300)
    alike = rank_correlation(pd.concat([points_of(x + 9 * n, y).assign(seed=n) for n in range(3)]), "x", "y", 300)
    numbers = ["rho", "low", "high", "p", "points", "targets"]
    assert alike[numbers].tolist() == pytest.approx(one[numbers].tolist()) and (one["seeds"], alike["seeds"]) == (1, 3)
    signs = [points_of(x, x * sign).assign(seed=n) for n, sign in enumerate((1, 1, -1))]
    found = rank_correlation(pd.concat(signs), "x", "y", 300)
    assert found["rho"] == pytest.approx(1 / 3) and found["low"] == -1 and found["high"] == 1


def test_rank_stability_by_hand():
    selection = {"merge-average": 50, "merge-ties": 60, "merge-sce": 70}
    test = {"merge-average": 60, "merge-ties": 50, "merge-sce": 80}
    table = rank_stability(shares(selection, split="selection"), shares(test), list(test)).query("domain == 'math'")
    assert table.set_index("model")[["selection_place", "test_place"]].to_numpy().tolist() == [[3, 2], [2, 3], [1, 1]]
