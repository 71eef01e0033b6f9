"""What neighbours are worth, and what predicts ΔPerf: planted worlds in which the answer is known."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_bootstrap import cell

from m2rl_lib.analysis.rq3_policies import policy_neighbours, prediction

NAMES = ["math", "coding", "science"]
NEAR = {("math", "coding"), ("coding", "math")}  # planted: these two neighbour each other, science nobody


def labels() -> pd.DataFrame:
    ordered = [(a, b) for a in NAMES for b in [*NAMES, "null"] if a != b]
    rows = [(a, b, "neighbour" if (a, b) in NEAR else "not a neighbour") for a, b in ordered]
    return pd.DataFrame(rows, columns=["domain", "expert", "label"])


def graded(rate: dict[tuple[str, str], float], problems: int) -> pd.DataFrame:
    """Graded samples of models on domains, by their chance to be right."""
    generator = np.random.default_rng(0)
    return pd.concat([cell(generator.random((problems, 4)) < p, model, domain) for (model, domain), p in rate.items()])


def world(gain: float, problems: int) -> pd.DataFrame:
    """Scores of all pairs: 0.5 everywhere, and `gain` more where a neighbour was merged in."""
    rate = {(f"rl-{domain}", domain): 0.5 for domain in NAMES}
    for domain, other in itertools.product(NAMES, [*NAMES, "sft", "null"]):
        if other != domain:
            rate[policy_neighbours.pair_model(NAMES, domain, other), domain] = 0.5 + gain * ((domain, other) in NEAR)
    return graded(rate, problems)


def test_planted_gain_of_neighbours_is_found():
    scores = world(0.15, 400)
    tests = policy_neighbours.pair_tests(scores, labels(), margin=3.0, draws=1000)
    assert len(tests) == 6 * 3 and set(tests["against"]) == {"merge(A, SFT)", "merge(A, RL-Null)", "expert A"}
    near = tests[tests["label"] == "neighbour"]
    assert (near.query("domain == 'math' and expert == 'coding'")["verdict"] == "better").all()
    assert (tests["p_adjusted"] >= tests["p"]).all()

    groups = policy_neighbours.pair_groups(scores, tests, 3.0, draws=1000).query("against == 'merge(A, SFT)'")
    row, rest, _, between = (row for _, row in groups.iterrows())
    assert row["estimate"] == pytest.approx(near.query("against == 'merge(A, SFT)'")["estimate"].mean())
    assert row["low"] < 15 < row["high"] and (row["verdict"], row["pairs"], row["n"]) == ("better", 2, 800)
    assert (rest["pairs"], rest["n"]) == (4, 1200) and abs(rest["estimate"]) < 3
    assert (between["group"], between["verdict"]) == ("neighbour − not", "better")
    said = policy_neighbours.group_sentence(row, 3.0)
    assert said.startswith("Merges with neighbours against merge(A, SFT): better, +") and "2 ordered pairs, n = 800" in said


def test_interval_of_a_group_is_as_wide_as_it_should_be():
    """Chance 0.5 everywhere: a difference has variance 2 · 0.25 / (100 · 4), the mean of two domains' half of it."""
    scores = world(0.0, 100)
    tests = policy_neighbours.pair_tests(scores, labels(), 3.0, draws=2000)
    groups = policy_neighbours.pair_groups(scores, tests, 3.0, draws=2000).set_index(["against", "group"])
    row, error = groups.loc["merge(A, SFT)", "neighbour"], 100 * np.sqrt(2 * 0.25 / 400 / 2)
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * error, rel=0.12) and abs(row["estimate"]) < 3.5 * error
    empty = groups.reset_index().query("group == 'undecided'").iloc[0]
    assert empty["pairs"] == 0 and "no verdict, there are none" in policy_neighbours.group_sentence(empty, 3.0)


def test_seeds_that_disagree_leave_neighbours_undecided():
    scores = pd.concat([world(gain, 400).assign(seed=n) for n, gain in enumerate((0.25, 0.15, -0.1))])
    tests = policy_neighbours.pair_tests(scores, labels(), 3.0, draws=500)
    assert len(tests) == 6 * 3 and (tests["seeds"] == 3).all()
    groups = policy_neighbours.pair_groups(scores, tests, 3.0, draws=500).set_index(["against", "group"])
    row = groups.loc["merge(A, SFT)", "neighbour"]
    assert (row["verdict"], row["seeds"]) == ("undecided", 3) and row["estimate"] == pytest.approx(10, abs=2)


def test_performance_change_is_target_minus_expert():
    rate = {("rl-math", "math"): 1.0, ("rl-multi", "math"): 0.0, ("rl-coding", "coding"): 0.0, ("rl-multi", "coding"): 1.0}
    found = prediction.performance_changes(
        graded(rate, 5), {"rl-multi": ["math", "coding"], "merge-ties@lambda=0.5": NAMES}, 3.0, draws=100
    )
    assert found.set_index("domain")["delta"].to_dict() == {"math": -100, "coding": 100}


def test_points_hold_kl_and_shares_of_neighbours():
    pair = "merge-average@experts=math+coding"
    parts = {"rl-multi": NAMES, pair: ["math", "coding"]}
    cells = [(model, domain) for model, where in parts.items() for domain in where]
    changes = pd.DataFrame(cells, columns=["target", "domain"]).assign(delta=0.0, delta_low=-1.0, delta_high=1.0)
    kl = [(d, f"rl-{s}", t, 2.0 if s == d else 9.0, 0.1) for t, d in cells for s in NAMES]
    kl = pd.DataFrame(kl, columns=["domain", "source", "target", "kl", "se"])
    of_target = pd.DataFrame([{"domain": "math", "expert": "science", "target": "rl-multi", "label": "neighbour"}])
    points = prediction.prediction_points(kl, changes, parts, labels(), of_target).set_index(["target", "domain"])
    assert len(points) == 5 and (points["kl"] == 2.0).all() and points["log_kl"].iloc[0] == pytest.approx(np.log(2))
    shares = points["neighbours"].to_dict()
    assert [shares["rl-multi", name] for name in NAMES] == [0.5, 0.5, 0.0]  # of math: coding, not science
    assert shares[pair, "math"] == 1 and points.loc[("rl-multi", "math"), "target_neighbours"] == 0.5
    assert points["target_neighbours"].sum() == 0.5


def test_points_of_seeds_have_the_kl_and_the_change_of_their_seed():
    rows = [(n, d, f"rl-{d}", "rl-multi", 1.0 + n, 0.1) for n in (0, 1) for d in NAMES]
    kl = pd.DataFrame(rows, columns=["seed", "domain", "source", "target", "kl", "se"])
    changes = kl[["seed", "domain", "target"]].assign(delta=-10.0 * kl["seed"])
    points = prediction.prediction_points(kl, changes, {"rl-multi": NAMES}, labels(), labels().assign(target="rl-multi"))
    assert len(points) == 6 and (points["delta"] == 10 - 10 * points["kl"]).all()


def planted(by_kl: float, by_neighbours: float) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    points = pd.DataFrame({"domain": np.repeat(list("abcde"), 12), "target": np.tile([str(i) for i in range(12)], 5)})
    points["log_kl"], noise = generator.normal(size=(2, 60))
    points["neighbours"], points["target_neighbours"] = generator.random((2, 60))
    return points.assign(delta=by_kl * points["log_kl"] + by_neighbours * points["neighbours"] + noise)


def signs_of(points: pd.DataFrame) -> dict:
    """1 where one predictor's interval lies above the other, −1 where below, else 0."""
    found = prediction.compare_predictors(prediction.held_out_errors(points).assign(seed=0)).set_index(["one", "other"])
    return ((found["low"] > 0).astype(int) - (found["high"] < 0)).to_dict()


def test_the_planted_predictor_wins():
    mean = "mean of the other domains"
    found = signs_of(planted(0, 20))
    assert found["neighbours", "KL"] == found["neighbours", mean] == 1 and found["KL", mean] != 1
    found = signs_of(planted(-10, 0))
    assert found["neighbours", "KL"] == -1 and found["KL", mean] == 1 and found["neighbours", mean] != 1
    both = prediction.held_out_errors(planted(-10, 20)).groupby("predictor")["rmse"].mean()
    assert both.idxmin() == "KL and neighbours" and both.min() == pytest.approx(1, abs=0.25)


def test_comparison_of_predictors_by_hand():
    rmse = dict.fromkeys(prediction.PREDICTORS, [6.0, 8, 10]) | {"neighbours": [5.0, 6, 7]}
    errors = pd.DataFrame(rmse, index=list("abc")).rename_axis("domain").reset_index()
    errors = errors.melt("domain", var_name="predictor", value_name="rmse").assign(seed=0)
    table = prediction.compare_predictors(errors).set_index(["one", "other"])
    row = table.loc["neighbours", "KL"]
    half = 4.302653 / np.sqrt(3)  # t of 2 degrees of freedom, gains 1, 2, 3
    assert (row["gain"], row["low"], row["domains"]) == (pytest.approx(2), pytest.approx(2 - half), 3)
    assert 0.07 < row["p"] < 0.08 and len(table) == 9
    assert table.loc[("KL", "mean of the other domains"), ["gain", "p"]].tolist() == [0, 1]
    worse = errors.assign(seed=1, rmse=errors["rmse"] + 4 * (errors["predictor"] == "neighbours"))  # gains −3, −2, −1
    row = prediction.compare_predictors(pd.concat([errors, worse])).set_index(["one", "other"]).loc["neighbours", "KL"]
    assert (row["gain"], row["seeds"], row["df"]) == (pytest.approx(0), 2, 1)
    assert row["high"] == pytest.approx(2 * stats.t.ppf(0.975, 1))  # gains 2 and −2 over seeds, the wider


def test_errors_are_of_the_domain_that_was_left_out():
    points = pd.DataFrame({"domain": list("aab"), "delta": [1.0, 3, 10], "log_kl": [0.0, 1, 2]})
    points = points.assign(neighbours=0.0, target_neighbours=0.0)
    errors = prediction.held_out_errors(points).set_index(["predictor", "domain"])["rmse"]
    assert errors["mean of the other domains", "b"] == pytest.approx(8)  # 10 − mean of 1 and 3
    assert errors["KL", "b"] == pytest.approx(5)  # 10 − (1 + 2 × 2)
    assert errors["mean of the other domains", "a"] == pytest.approx(np.sqrt((81 + 49) / 2))
    with pytest.raises(ValueError, match="at least two"):
        prediction.held_out_errors(points[points["domain"] == "a"])


def test_the_answer_has_measures_beside_their_controls_and_the_ledgers_intervals():
    """Two experts overlap by 0.2, which the ledger puts 0.1 [−0.1, 0.3] above the controls; their cosine has no interval."""
    columns = ["kind", "level", "precision", "mean", "least", "most", "matched", "with_null", "other_seed"]
    rows = [
        ("density", 0.1, "stored", 0.2, 0.1, 0.3, 0.1, 0.05, np.nan),
        ("density", 0.3, "stored", 0.9, 0.9, 0.9, 0.1, 0.1, 0.1),
    ]
    rows += [("cosine", np.nan, "stored", 0.4, 0.3, 0.5, 0.0, 0.01, 0.7)]
    ranked = pd.DataFrame(
        {"x": ["kl", "ratio"], "y": ["delta", "estimate"], "rho": [-0.5, 0.5], "low": [-0.7, 0], "high": [-0.2, 1]}
    )
    entries = pd.DataFrame({"unit": ["points", "Jaccard"], "estimate": [1.0, 0.1], "low": [0.0, -0.1], "high": [2.0, 0.3]})
    found = prediction.answer_table(pd.DataFrame(rows, columns=columns), ranked, entries).set_index(["panel", "row"])
    assert found.loc["overlap", "value"].to_dict() == {
        "two experts": 0.2,
        "matched random masks": 0.1,
        "expert and RL-Null": 0.05,
    }
    assert found.loc[("overlap", "two experts"), ["low", "high"]].tolist() == pytest.approx([0.0, 0.4])
    assert found.loc["cosine", "value"].to_dict() == {
        "two experts": 0.4,
        "expert and RL-Null": 0.01,
        "one domain, 2 seeds": 0.7,
    }
    kl = {"unit": "rank correlation", "estimate": -0.8, "verdict": "contradicted"}
    judged = [kl, {"unit": "Jaccard", "verdict": "undecided"}, {"unit": "cosine", "verdict": "supported"}]
    measured = pd.DataFrame(rows, columns=columns).assign(above_matched=9, pairs=10, seeds=2)
    order = pd.DataFrame({"instrument": ["a", "b", "c"], "verdict": ["as planted", "undecided", "as planted"]})
    order["words_verdict"] = "undecided"
    said = prediction.answer_sentence(measured, pd.DataFrame(judged), order)
    assert (
        "9 of 10 pairs of experts (5 pairs, 2 seeds) do so more than matched random masks (overlap 0.20 against 0.10); whether "
        "experts of other domains would is undecided." in said
    )
    assert "a mean cosine of 0.40 (0.01 with RL-Null); for other domains this is supported." in said
    assert said.endswith(
        "predict the score?** Yes (rank correlation −0.80). **Are pairs with more planted in common (thinking, words) nearer?** "
        "Yes by a, c, undecided by b. By words alone, among pairs that both learn to think: undecided by a, b, c."
    )
    assert "planted" not in prediction.answer_sentence(measured, pd.DataFrame(judged))
    assert found.loc["cosine", "low"].isna().all() and found.loc["rank", "value"].to_dict() == {"KL": -0.5}
