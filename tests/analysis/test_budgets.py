"""RQ1's learning bars on planted frames: each rule is met and missed once."""

import numpy as np
import pandas as pd
import pytest
from test_bootstrap import cell

from m2rl_lib.analysis.rq1_mix_or_merge import budgets
from m2rl_lib.config.study import Parameters

P = Parameters.model_construct(domains=["math", "coding"], data_sources=["micro"], analysis_margin=3.0, analysis_draws=300)
FIRSTS = {"math": "chain", "coding": "programs"}
SFT = {"chain": 30, "programs": 30}


def planted(points: dict[str, dict[str, float]], k: int) -> pd.DataFrame:
    """100 problems of each benchmark, k equal samples: as many right as points."""
    place, cells = np.indices((100, k))[0], FIRSTS.items()
    return pd.concat([cell(place < points[model][name], model, domain, name) for model in points for domain, name in cells])


def bars(null: dict[str, float], greedy_math: float) -> pd.DataFrame:
    sampled = {"sft": SFT, "sft-sharpened": SFT, "rl-math": {"chain": 70, "programs": 90}, "rl-null": null}
    sampled["rl-coding"] = {"chain": 90, "programs": 45}  # 15 points only; its gain elsewhere does not count
    greedy = {name: dict(points) for name, points in sampled.items() if name != "sft-sharpened"}
    greedy["rl-math"]["chain"] = greedy_math
    return budgets.learning_bars(planted(sampled, 2), planted(greedy, 1), P)


@pytest.mark.parametrize(("greedy_math", "holds"), [(80, True), (45, False)])
def test_an_expert_must_gain_at_both_temperatures_on_its_own_benchmark(greedy_math, holds):
    table = bars(SFT, greedy_math)
    assert table["model"].tolist() == ["rl-math"] * 2 + ["rl-coding"] * 2 + ["rl-null"] * 2
    held = table.groupby("model")["holds"].unique().map(list)
    assert held.to_dict() == {"rl-math": [holds], "rl-coding": [False], "rl-null": [True]}
    assert table[table["model"] == "rl-math"]["estimate"].tolist() == pytest.approx([40, greedy_math - 30])


@pytest.mark.parametrize(("null", "holds"), [((30, 30), True), ((26, 34), True), ((30, 38), False), ((22, 30), False)])
def test_the_null_run_must_stay_near_sft_on_every_domain(null, holds):
    rows = bars(dict(zip(SFT, null)), 80).query("model == 'rl-null'")
    assert rows["holds"].tolist() == [holds] * 2 and set(rows["score"]) == {"T=1"}
    assert (rows["low"] <= rows["estimate"]).all() and (rows["estimate"] <= rows["high"]).all()


def test_where_rl_began_is_the_first_logged_step_of_each_run():
    log = [
        ("rl-math", 0, 12, 0.9, 0.5),
        ("rl-math", 0, 6, 0.2, 0.25),
        ("rl-math", 1, 6, 0.4, 0.75),
        ("rl-multi", 0, 12, 0.3, 0.0),
    ]
    columns = ["model", "seed", "step", "reward", "frac_reward_zero_std"]
    found = budgets.starts(pd.DataFrame(log, columns=columns))
    assert found.loc["rl-math"].tolist() == pytest.approx([6, 30, 50])
    assert found.loc["rl-multi"].tolist() == pytest.approx([12, 30, 100])
    assert np.isfinite(found.to_numpy()).all()


def test_costs_of_several_seeds_are_those_of_one():
    rows = [(0, "rl-multi", 40), (0, "rl-math", 90), (0, "rl-math", 10), (1, "rl-multi", 60), (1, "rl-math", 100)]
    columns = ["seed", "model", "stage", *budgets.SPENT]
    costs = pd.DataFrame([(seed, name, "rl", *[n] * 5) for seed, name, n in rows], columns=columns)
    assert budgets.mean_costs(costs).set_index("model")["device_seconds"].to_dict() == {"rl-multi": 50, "rl-math": 100}
    assert budgets.mixing_share(costs, P).to_dict() == {0: 40, 1: 60}


def test_the_learning_bars_are_put_in_a_sentence():
    assert budgets.learning_sentence(bars(SFT, 80)) == "The bar holds for RL-Math, RL-Null, and not for RL-Coding."
    drifted = budgets.learning_sentence(bars(dict(zip(SFT, (30, 22))), 80))
    assert drifted.endswith(
        "moved by -8.0 points on programs: a change from SFT of that size, on what a model was not trained for, may be drift."
    )


@pytest.mark.parametrize(("points", "said"), [
    ((2.7, -0.1, 5.4, "undecided"), "Neither mixing nor merging is shown to be better at the paper's ratio of budgets:** RL-Multi minus the best merge is +2.7 points [-0.1, 5.4], so mixing is not 3 points worse"),
    ((0.5, -4.0, 5.0, "undecided"), "is +0.5 points [-4.0, 5.0]; with as many training prompts on both sides mixing is better than merging: +16.6 [12.3, 20.9]."),
    ((-5.0, -9.0, -1.0, "worse"), "Mixing is worse than merging at the paper's ratio of budgets"),
])  # fmt: skip
def test_the_answer_of_rq1_is_one_sentence(points, said):
    rows = pd.DataFrame([points, (16.6, 12.3, 20.9, "better")], columns=["estimate", "low", "high", "verdict"]).assign(margin=3.0)
    assert said in budgets.answer(rows) and budgets.answer(rows).count(". ") == 0
    assert "as many" not in budgets.answer(rows[:1])


def test_a_contest_of_the_same_two_models_says_so():
    row = {"over": "overall", "estimate": 4.0, "low": 1.0, "high": 7.0, "seen": 4.3, "verdict": "better", "margin": 3.0, "n": 9}
    row |= {"low90": 1.5, "high90": 6.5, "p": 0.01, "benchmarks": 2, "seeds": 1, "scope": "fixed checkpoints"}
    pairs = {"(a) one": ("rl-multi", "merge-ties"), "(b) two": ("rl-multi", "merge-sce"), "tuned": ("rl-multi", "merge-ties")}
    rows = {name: pd.Series(row | dict(zip(("model", "reference"), pair))) for name, pair in pairs.items()}
    assert budgets.contest_sentence(rows, "tuned", {}) == "the same two models are chosen as in (a) one."
    assert "SCE" in budgets.contest_sentence(rows, "(b) two", {}) and "TIES" in budgets.contest_sentence(rows, "(a) one", {})


def test_lengths_are_those_logged_in_the_order_of_the_models():
    log = pd.DataFrame([("rl-multi", 0, 2, 30.0), ("rl-math", 1, 4, 21.0), ("rl-math", 1, 2, 20.0), ("rl-math", 1, 4, np.nan)])
    log.columns = ["model", "seed", "step", "completions/mean_length"]
    found = budgets.lengths(log, ["rl-math", "rl-multi"])
    assert found["tokens"].tolist() == [20, 21, 30] and found["model"].tolist() == ["rl-math", "rl-math", "rl-multi"]
