"""The three scores on planted frames: one world in which they disagree, one in which they agree."""

import numpy as np
import pandas as pd
import pytest
from test_bootstrap import cell

from m2rl_lib.stats import three_scores

K = 4


def planted(model, right, domain="math", benchmark="chain", n=100, seed=0, k=K, thought=True, tokens=10):
    """n problems of k samples; `right` of each problem's samples (n,), or of every problem's, are right."""
    frame = cell(np.arange(k) < np.broadcast_to(right, n)[:, None], model, domain, benchmark, seed)
    return frame.assign(thought=pd.array([thought] * len(frame), dtype="boolean"), completion_tokens=tokens)


def some(share: float, most: int = K, n: int = 100) -> np.ndarray:
    """`most` of the first `share` of problems, none of the rest."""
    return np.where(np.arange(n) < share * n, most, 0)


# 60% of problems always right; all problems right half the time, and always among four
TEST = pd.concat([planted("rl-multi", some(0.6)), planted("merge-ties", 2), planted("sft-sharpened", some(0.4))])
GREEDY = pd.concat([planted("rl-multi", some(0.6, 1), k=1, tokens=6), planted("merge-ties", some(0.9, 1), k=1, tokens=7)])
PAIR = [("rl-multi", "merge-ties")]


def test_scores_that_disagree_are_named():
    compared = three_scores.compare_each(TEST, GREEDY, PAIR, ["overall"], draws=300)
    assert compared.set_index("score")["estimate"].round(6).to_dict() == {"T=1": 10, "greedy": -30, "pass@K": -40}
    assert compared["verdict"].tolist() == ["better", "worse", "worse"]
    sentence = three_scores.agreement(compared, {"merge-ties": "the merge"})
    assert "the merge" in sentence and "differ" in sentence and sentence.count("under") == 2 and sentence.count(". ") == 0
    same = three_scores.compare_each(TEST, GREEDY, [("merge-ties", "rl-multi")], ["overall"], draws=300).query("score != 'T=1'")
    assert "agree" in three_scores.agreement(same)


def test_values_by_seed_weigh_domains_alike_and_leave_out_the_untrained():
    other = [planted("rl-multi", some(share), "coding", name) for name, share in (("programs", 0.2), ("strings", 0.4))]
    unmarked = planted("rl-multi", some(1), "general", "facts", thought=None)
    other.append(planted("merge-ties", 2, "coding", "programs", thought=None))  # where another model's completions have marks
    second = planted("rl-multi", some(0.1), seed=1, thought=False, tokens=20)
    test = pd.concat([TEST, *other, unmarked])
    found = three_scores.by_seed(test, GREEDY.iloc[:0], ["rl-multi", "merge-ties"], ["overall", "facts", "programs"])
    assert found.query("model == 'merge-ties' and over == 'programs'")["thought"].tolist() == [0, 0]
    values = found.query("model == 'rl-multi'").set_index(["over", "score"])
    assert set(found["score"]) == {"T=1", "pass@K"}, "no greedy score without greedy rows"
    assert three_scores.table(found)["greedy"].isna().all()
    assert values.loc[("overall", "T=1"), ["value", "thought", "tokens"]].tolist() == pytest.approx([(60 + 30) / 2, 1, 10])
    assert values.loc[("facts", "T=1"), "value"] == 100 and np.isnan(values.loc[("facts", "T=1"), "thought"])
    both = three_scores.by_seed(pd.concat([TEST, second]), GREEDY, ["rl-multi", "merge-ties"], ["overall"])
    one = both.set_index(["seed", "model", "score"])["value"]
    assert one[0, "rl-multi", "T=1"] == pytest.approx(60) and one[1, "rl-multi", "T=1"] == pytest.approx(10)
    assert one[0, "merge-ties", "greedy"] == pytest.approx(90) and one[0, "merge-ties", "pass@K"] == pytest.approx(100)
    shown = three_scores.table(both).loc[("overall", "rl-multi")]
    assert shown[["T=1", "greedy", "pass@K"]].tolist() == pytest.approx([35, 60, 35])
    assert shown[["thinks, %", "tokens", "tokens, greedy"]].tolist() == pytest.approx([50, 15, 6])


def test_a_benchmark_that_a_model_lacks_leaves_no_score():
    test = pd.concat([TEST, planted("merge-ties", 2, "coding", "programs")])
    found = three_scores.by_seed(test, GREEDY.iloc[:0], ["rl-multi", "merge-ties"], ["coding"])
    found = found.set_index(["model", "score"])["value"]
    assert np.isnan(found["rl-multi", "T=1"]) and found["merge-ties", "T=1"] == pytest.approx(50)


def test_sft_at_its_best_temperature_keeps_it_under_every_score():
    found = three_scores.by_seed(TEST, GREEDY, ["sft-sharpened"], ["overall"])
    assert found["value"].tolist() == pytest.approx([40, 40, 40]) and found["score"].tolist() == list(three_scores.SCORES)


def test_the_difference_of_all_seeds_is_the_mean_of_each_seeds():
    test, greedy = (pd.concat([frame.assign(seed=0), frame.assign(seed=1)]) for frame in (TEST, GREEDY))
    found = three_scores.differences(test, greedy, PAIR[0], draws=200)
    pooled, by_seed = found[found["seed"].isna()], found[found["seed"].notna()]
    assert pooled["score"].tolist() == list(three_scores.SCORES) and len(by_seed) == 6
    means = by_seed.groupby("score")["estimate"].mean()
    assert pooled["estimate"].tolist() == pytest.approx(means[pooled["score"]].tolist())
    assert three_scores.differences(TEST, GREEDY.iloc[:0], PAIR[0], draws=50)["score"].unique().tolist() == ["T=1", "pass@K"]


def test_scores_by_temperature_keep_selection_and_test_problems_separate():
    tried = [planted(f"sft@temperature={heat}", right).assign(split="selection") for heat, right in ((0.0, 3), (0.3, 2))]
    found = three_scores.by_temperature(
        pd.concat([TEST.assign(split="test"), *tried]), GREEDY.assign(split="test"), ["rl-multi"], 50
    )
    assert found[["split", "model", "temperature", "score"]].to_numpy().tolist() == [
        ["selection", "sft", 0.0, 75.0],
        ["selection", "sft", 0.3, 50.0],
        ["test", "rl-multi", 0.0, 60.0],
        ["test", "rl-multi", 1.0, 60.0],
    ]
