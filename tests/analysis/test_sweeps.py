"""Sweeps: settings from names, tuned scores without the winner's curse, variants, fewer experts."""

import numpy as np
import pandas as pd
import pytest
from test_bootstrap import cell, shares

from m2rl_lib.analysis.rq4_methods import sweeps
from m2rl_lib.config.study import Parameters

P = Parameters.model_construct(
    domains=["math", "coding", "science"], merge_lambda=1.0, merge_ties_density=0.2, merge_dare_density=0.8, merge_sce_topk=0.9
)


def test_settings_are_read_from_names_and_the_rest_are_defaults():
    expected = {
        "merge-ties": ["merge-ties", 1.0, 0.2],
        "merge-ties@density=0.5,lambda=0.4": ["merge-ties", 0.4, 0.5],
        "merge-task-arithmetic@lambda=0.3": ["merge-task-arithmetic", 0.3, None],
        "merge-ties-dare@lambda=0.5": ["merge-ties-dare", 0.5, 0.8],
        "merge-sce": ["merge-sce", 1.0, 0.9],
        "merge-average": ["merge-average", 1.0, None],
    }
    others = [f"merge-ties@{variant}" for variant in ("experts=math+coding", "step=64", "norm=equal", "definition=paper")]
    table = sweeps.settings([*expected, *others, "sft"], P).set_index("model").astype(object)
    assert table.where(table.notna(), None).T.to_dict("list") == expected


def test_sweep_marks_each_methods_best_setting():
    scores = shares({"merge-ties": 40, "merge-ties@lambda=0.5": 55, "merge-sce": 50, "sft": 90})
    table = sweeps.sweep_table(scores, P, draws=200).set_index("model")
    assert table["score"].to_dict() == {"merge-ties": 40, "merge-ties@lambda=0.5": 55, "merge-sce": 50}
    assert table["best"].to_dict() == {"merge-ties": False, "merge-ties@lambda=0.5": True, "merge-sce": True}
    with pytest.raises(ValueError, match="no merges among the models sft"):
        sweeps.sweep_table(shares({"sft": 50}), P)


def test_tuned_by_hand():
    """TIES is best at λ = 0.5 on selection (55), where it has 50 on test against 60 published; SCE stays; a third is untested."""
    right = {"merge-ties": 40, "merge-ties@lambda=0.5": 55, "merge-ties@lambda=0.2": 90, "merge-sce": 50}
    selection = shares(right, split="selection")
    test = shares({"merge-ties": 60, "merge-ties@lambda=0.5": 50, "merge-sce": 45})
    table = sweeps.tuned_table(selection, test, P, 3.0, draws=500).set_index("method")
    ties, sce = table.loc["merge-ties"], table.loc["merge-sce"]
    assert ties[["model", "tried", "selection", "score", "estimate"]].tolist() == ["merge-ties@lambda=0.5", 3, 55, 50, -10]
    assert ties["low"] < -10 < ties["high"] < 0 and ties["verdict"] == "worse" and ties["n"] == 100
    assert sce[["model", "tried", "selection", "score", "estimate", "verdict"]].tolist() == ["merge-sce", 1, 50, 45, 0, ""]
    only = sweeps.tuned_table(selection.query("model == 'merge-sce'"), test, P, 3.0)
    assert only[["model", "estimate", "verdict"]].iloc[0].tolist() == ["merge-sce", 0, ""]


def test_settings_in_words():
    assert sweeps.setting_words("merge-ties") == "published"
    assert sweeps.setting_words("merge-ties@density=0.2,lambda=0.5") == "density 0.2, λ 0.5"
    seeds = "merge-ties@lambda=0.5 (seed 0); merge-ties (seed 1); merge-ties@lambda=0.5 (seed 4)"
    assert sweeps.setting_words(seeds) == "λ 0.5 (2 of 3 seeds), published (1 of 3 seeds)"


def test_tuning_needs_the_published_settings_test_scores():
    selection = shares({"merge-ties": 40, "merge-ties@lambda=0.5": 55}, split="selection")
    test = shares({"merge-ties@lambda=0.5": 50})
    with pytest.raises(ValueError, match="no test scores of merge-ties: there are merge-ties@lambda=0.5 of its settings"):
        sweeps.tuned_table(selection, test, P, 3.0)


def test_planted_equal_settings_gain_nothing_by_tuning():
    """Ten settings of equal truth: the best looks several points up where it was chosen, and is level on the test problems."""
    generator, found = np.random.default_rng(0), []
    names = [f"merge-ties@lambda={scale / 10:g}" for scale in range(1, 10)] + ["merge-ties"]
    for _ in range(12):
        drawn = []
        for split in ("selection", "test"):
            base = generator.random(60)[:, None]
            drawn.append(pd.concat([cell(generator.random((60, 2)) < base, name, split=split) for name in names]))
        row = sweeps.tuned_table(*drawn, P, 3.0, draws=100).iloc[0]
        found.append([row[name] - 100 * scores["correct"].mean() for name, scores in zip(("selection", "score"), drawn)])
    inflated, honest = np.mean(found, axis=0)
    assert inflated > 3 and abs(honest) < 3 * np.std(found, axis=0, ddof=1)[1] / np.sqrt(len(found))


def test_variants_are_compared_with_the_method_they_vary():
    right = {"merge-ties": 60, "merge-ties@norm=equal": 50, "merge-ties@definition=paper": 65, "merge-ties@lambda=0.5": 90}
    right |= {"merge-sce": 50, "merge-sce@norm=equal": 50, "merge-sce@norm=equal,lambda=0.5": 10, "rl-math@step=64": 5}
    scores = shares(right)
    equal = sweeps.at_equal_length(scores, 3.0, draws=500).set_index("method")
    assert equal.loc["merge-ties", ["published", "score"]].tolist() == pytest.approx([60, 50])
    said = sweeps.length_sentence(equal.reset_index())
    assert said.startswith("From the best merge to the worst it is 10.0 points at the published settings, and 0.0 where all")
    assert said.endswith("; there TIES merge leads, too.") and sweeps.length_sentence(equal.reset_index().iloc[:1]) == ""
    other = equal.reset_index().assign(score=[45.0, 50.0])
    assert sweeps.length_sentence(other).endswith("; there SCE merge leads, and TIES merge is number 2 of 2.")
    assert equal["estimate"].to_dict() == {"merge-ties": -10, "merge-sce": 0} and equal.loc["merge-ties", "verdict"] == "worse"
    paper = sweeps.compare_variants(scores, "definition", 3.0, draws=500)
    assert paper[["method", "model", "estimate"]].to_numpy().tolist() == [["merge-ties", "merge-ties@definition=paper", 5]]
    assert sweeps.compare_variants(scores, "step", 3.0).empty


def test_how_far_merges_move_is_a_sentence():
    names, norms = ["rl-math", "merge-ties", "merge-average", "merge-task-arithmetic"], [1.0, 0.9, 0.5, 2.0]
    table, moved = pd.DataFrame({"model": names, "norm": norms}), pd.Series([0.1, 0.2, 0.7])
    said = sweeps.distance_sentence(table, moved)
    assert said.startswith(
        "**Of 3 merges at published settings Average merge (0.50) moves least from SFT and TA merge (2.00) most**"
    )
    assert said.endswith("All experts move 70.0% of the weights: there RAM and RAM+ are Average.")


def test_leave_one_out_by_hand():
    parts = {"math": (55, 40, 50), "coding": (60, 70, 60), "science": (50, 50, 20)}
    names = ("merge-ties", "merge-ties@experts=coding+science", "merge-ties@experts=math+coding")
    scores = pd.concat([shares(dict(zip(names, values)), domain) for domain, values in parts.items()])
    scores = pd.concat([scores, shares({"merge-ties@experts=math": 10})])  # leaves two out: not here
    table = sweeps.leave_one_out(scores, P, 3.0, draws=500).set_index(["left_out", "over"])
    without = table["estimate"].unstack("over")[["overall", "math", "coding", "science"]]
    assert without.loc["math"].tolist() == pytest.approx([-5 / 3, -15, 10, 0])
    assert without.loc["science"].tolist() == pytest.approx([-35 / 3, -5, 0, -30])
    assert table.loc[("math", "math"), "verdict"] == "worse" and table.loc[("math", "coding"), "verdict"] == "better"
    assert sweeps.leave_one_out(shares({"merge-ties": 50}), P, 3.0).empty


def test_pairs_by_hand():
    models = {"rl-math": 60, "rl-coding": 30, "merge-average@experts=math+coding": 50, "merge-average@experts=math+sft": 45}
    other = {"rl-math": 30, "rl-coding": 70, "merge-average@experts=math+coding": 65, "merge-average@experts=math+sft": 30}
    scores = pd.concat([shares(models), shares(other, "coding"), shares(models, "science")])
    table = sweeps.pair_table(scores, P, 3.0, draws=200).set_index(["target", "added"])["estimate"]
    assert table.to_dict() == {("math", "coding"): -10, ("coding", "math"): -5, ("math", "sft"): -15}


def test_each_seed_tunes_for_itself():
    """Seed 0 chooses λ = 0.5 (55 against 40 on selection), seed 1 stays; on test the changes are −10 and 0."""
    usual, other = "merge-ties", "merge-ties@lambda=0.5"
    chosen = [shares({usual: 40, other: right}, seed=seed, split="selection") for seed, right in enumerate((55, 30))]
    test = [shares({usual: 60, other: 50}), shares({usual: 60}, seed=1)]
    row = sweeps.tuned_table(pd.concat(chosen), pd.concat(test), P, 3.0, draws=500).iloc[0]
    assert row["model"] == "merge-ties@lambda=0.5 (seed 0); merge-ties (seed 1)"
    assert row[["selection", "score", "estimate", "seeds"]].tolist() == pytest.approx([47.5, 55, -5, 2])
