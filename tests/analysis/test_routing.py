"""Routing and recovery: by hand, and refused where there is nothing to recover."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from test_bootstrap import cell, shares

from m2rl_lib.analysis.rq4_methods import routing
from m2rl_lib.stats import comparisons


def recovery_world(model_gain: int, expert_gain: int, seeds: int = 1) -> pd.DataFrame:
    """400 problems a domain; SFT solves 160, the model and each expert (on its own domain) so many more."""
    frames = []
    for domain, seed in product(("math", "coding"), range(seeds)):
        solved = {"sft": 160, "rl-multi": 160 + model_gain + seed, "rl-math": 160, "rl-coding": 160}
        solved[f"rl-{domain}"] += expert_gain
        frames.append(shares({name: count / 4 for name, count in solved.items()}, domain, 400, seed=seed))
    return pd.concat(frames, ignore_index=True)


def test_recovery_by_hand():
    table = routing.recovery_table(recovery_world(48, 64), ["rl-multi", "sft"]).set_index("model")
    row = table.loc["rl-multi"]
    assert row["recovery"] == pytest.approx(0.75) and row["gain"] == pytest.approx(12) and row["routed_gain"] == pytest.approx(16)
    assert row["low"] < 0.75 < row["high"] < 1 and row["n"] == 800 and row["reason"] == ""
    assert table.loc["sft", "recovery"] == 0


def test_recovery_is_refused_where_experts_gain_nothing():
    row = routing.recovery_table(recovery_world(8, 0), ["rl-multi"]).iloc[0]
    assert np.isnan(row["recovery"]) and "not above 0" in row["reason"]


def test_recovery_is_bootstrapped_jointly():
    """A model that is the routed composite itself recovers all, in every bootstrap resample; separately, the interval would be wide."""
    scores = recovery_world(48, 64)
    twin = routing.route_to_experts(scores).assign(model="mt-opd")
    row = routing.recovery_table(pd.concat([scores, twin]), ["mt-opd"]).iloc[0]
    assert (row["recovery"], row["low"], row["high"]) == pytest.approx((1, 1, 1))


def test_route_takes_each_benchmark_from_its_model_and_leaves_general_out():
    scores = pd.concat([recovery_world(48, 64), cell([[1], [0]], "sft", "general"), cell([[1], [1]], "rl-math", "general")])
    routed = routing.route_to_experts(scores)
    means = 100 * routed.groupby("benchmark")["correct"].mean()
    assert means.to_dict() == pytest.approx({"math-1": 56, "coding-1": 56}) and set(routed["model"]) == {"routed"}
    assert 100 * routing.route(scores, {"math-1": "rl-coding"}, "wrong-way")["correct"].mean() == pytest.approx(40)
    row = comparisons.compare(pd.concat([scores.query("domain != 'general'"), routed]), "routed", "sft")
    assert row["estimate"] == pytest.approx(16)


def test_a_seed_that_one_of_the_models_lacks_is_left_out():
    scores = recovery_world(48, 64, seeds=3)
    row = routing.recovery_table(scores, ["rl-multi"]).iloc[0]
    assert row["recovery"] == pytest.approx(49 / 64) and row["scope"] == "training seeds" and row["low"] < 0.75 < row["high"]
    scores = scores[(scores["model"] != "rl-coding") | (scores["seed"] < 2)]
    assert set(routing.route_to_experts(scores)["seed"]) == {0, 1}
    assert routing.recovery_table(scores, ["rl-multi"]).iloc[0]["seeds"] == 2


def test_choice_by_benchmark_is_made_on_the_selection_split_only():
    chosen = routing.choose_by_benchmark(recovery_world(48, 64).assign(split="selection"), ["rl-math", "rl-coding"])
    assert chosen == {"math-1": "rl-math", "coding-1": "rl-coding"}


def test_what_cannot_be_routed_is_refused():
    with pytest.raises(ValueError, match="no scores of rl-math on chain"):
        routing.route(recovery_world(48, 64), {"chain": "rl-math"}, "routed")
