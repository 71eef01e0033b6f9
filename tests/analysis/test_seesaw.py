"""The seesaw: equal methods do not show one, a planted one is shown; places, wins and orders by hand."""

import numpy as np
import pandas as pd
import pytest
from test_bootstrap import cell

from m2rl_lib.analysis.rq4_methods import seesaw
from m2rl_lib.analysis.rq4_methods.seesaw import GAIN, WINNERS
from m2rl_lib.paper import published_tables

METHODS = ["merge-average", "merge-task-arithmetic", "merge-ties", "merge-sce", "mt-opd"]


def world(effects: np.ndarray, seed: int = 0, n: int = 50, own: float = 0.0, split: str = "test") -> pd.DataFrame:
    """Scores of len(METHODS) methods on benchmarks of one domain each; effects[b, m] in points, `own` the sd of what a
    method has of its own on a problem (share)."""
    generator, frames = np.random.default_rng(seed), []
    for place, row in enumerate(effects):
        base = generator.random((n, 1))
        p = np.clip(base + row / 100 + generator.normal(0, own, (n, len(row))), 0, 1)
        for column, method in enumerate(METHODS[: len(row)]):
            right = generator.random((n, 4)) < p[:, column, None]
            frames.append(cell(right, method, f"domain{place}", split=split))
    return pd.concat(frames, ignore_index=True)


def largest_p(scores: pd.DataFrame, draws: int = 200) -> float:
    tested = seesaw.compare_with_null(scores, METHODS, draws)
    return tested.loc[tested["measure"] == GAIN, "p"].max()


EQUAL = np.zeros((8, len(METHODS)))
PLANTED = 15.0 * (np.arange(8)[:, None] % len(METHODS) == np.arange(len(METHODS)))  # each method ahead somewhere


@pytest.mark.parametrize("own", [0.0, 0.3])  # equal on every problem, or on every benchmark only
def test_planted_equal_methods_are_not_shown_to_be_a_seesaw(own):
    found = [largest_p(world(EQUAL, seed, own=own)) for seed in range(12)]
    assert sum(p < 0.05 for p in found) <= 2 and (own or np.mean(found) > 0.3)


def test_planted_seesaw_is_shown():
    assert all(largest_p(world(PLANTED, seed)) < 0.05 for seed in range(3))
    assert largest_p(world(PLANTED, 9, own=0.1)) < 0.05


def test_planted_best_method_is_not_a_seesaw():
    ahead = 15.0 * (np.arange(len(METHODS)) == 2) * np.ones((8, 1))
    tested = seesaw.compare_with_null(world(ahead), METHODS, 200).set_index(["measure", "null"])
    assert tested.loc[(GAIN, "samples"), "p"] > 0.5
    assert tested.loc[(WINNERS, "samples"), "observed"] < tested.loc[(WINNERS, "samples"), "low"]


def test_dealing_keeps_every_problems_total_and_gives_each_method_its_share():
    right = np.array([[4, 0, 0], [1, 1, 1], [4, 4, 4], [0, 0, 0]])
    generator = np.random.default_rng(0)
    dealt = np.array([seesaw._deal_samples(right, 4, generator) for _ in range(3000)])
    assert (dealt.sum(axis=2) == right.sum(axis=1)).all() and dealt.max() <= 4 and dealt.min() >= 0
    assert dealt.mean(axis=0) == pytest.approx(np.array([[4 / 3] * 3, [1] * 3, [4] * 3, [0] * 3]), abs=0.06)
    # hypergeometric: 4 of 12, 4 right; variance 4 · 1/3 · 2/3 · 8/11
    assert dealt[:, 0].var(axis=0) == pytest.approx(np.full(3, 4 * 2 / 9 * 8 / 11), rel=0.1)


@pytest.mark.parametrize(
    ("rows", "gain"),
    [
        ({"a": (6, 5), "b": (5, 6)}, 60 - 55),
        ({"a-1": (8, 5), "a-2": (8, 5), "b-1": (5, 7)}, 75 - 65),  # domain a has two benchmarks: weights ¼, ¼, ½
    ],
)
def test_gain_by_hand_weighs_domains_equally(rows, gain):
    methods = ["merge-ties", "merge-sce"]
    cells = [cell(np.arange(10)[:, None] < n, m, name[0], name) for name, both in rows.items() for m, n in zip(methods, both)]
    tested = seesaw.compare_with_null(pd.concat(cells), methods, 100).set_index("measure")
    assert tested.loc[GAIN, "observed"].tolist() == pytest.approx([gain] * 2) and (tested.loc[WINNERS, "observed"] == 2).all()
    assert (tested["n"] == 10 * len(rows)).all() and (tested["benchmarks"] == len(rows)).all()


def test_a_method_that_is_right_where_another_is_counts_once():
    scores = world(PLANTED)
    copied = pd.concat([scores, scores[scores["model"] == "merge-sce"].assign(model="merge-ram")])
    methods = [*METHODS, "merge-ram"]
    assert seesaw.copies(copied, methods) == {"merge-ram": "merge-sce"} and not seesaw.copies(scores, METHODS)
    both = [seesaw.compare_with_null(*some, 100) for some in ((scores, METHODS), (copied, methods))]
    pd.testing.assert_frame_equal(*both)
    summary = seesaw.summarise_methods(copied, methods, 3.0, draws=100)
    shares = summary.set_index("model")["first"]
    assert shares.sum() == 8 and shares["merge-ram"] == shares["merge-sce"] > 0
    row = pd.Series({"estimate": 1.0, "low": 0.4, "high": 1.6, "verdict": "supported"})
    said = seesaw.answer_sentences(summary, row, 3.0, {"merge-ram": "merge-sce"})
    assert "of 8 benchmarks; " in said and "gains 1.0 points [0.4, 1.6] more than luck, less than the margin of 3 points." in said
    assert said.endswith(
        " RAM merge was right as often as SCE merge on every problem: they count as one method and share a place."
    )
    assert said.startswith("**No method is best everywhere.** ")
    unknown = seesaw.answer_sentences(summary, pd.Series({"estimate": np.nan, "verdict": "not testable"}), 3.0, {})
    assert unknown.startswith("**Whether one method is best everywhere is not testable.** ") and unknown.endswith(
        "of 8 benchmarks."
    )


def test_the_sentence_is_of_the_null_with_the_larger_p():
    tested = seesaw.compare_with_null(world(PLANTED), METHODS, 100)
    tested.loc[(tested["measure"] == GAIN) & (tested["null"] == "problems"), "p"] = 0.2
    words = seesaw.seesaw_sentence(tested)
    assert words.startswith("Choosing the best of 5 methods for each of 8 benchmarks would gain")
    assert "p = 0.2, null of problems, n = 400 problems, K = 4" in words


@pytest.mark.parametrize(
    ("methods", "domain", "message"),
    [
        (["merge-ties"], "domain", "a seesaw of 1 methods"),
        (["merge-ties", "merge-slerp"], "domain", "without scores: merge-slerp"),
        (METHODS, "domain0", "a seesaw on 1 benchmarks"),
    ],
)
def test_what_is_no_table_of_methods_is_refused(methods, domain, message):
    scores = world(EQUAL)
    with pytest.raises(ValueError, match=message):
        seesaw.compare_with_null(scores[scores["domain"].str.startswith(domain)], methods, 100)


def test_places_by_hand_and_ties_share_the_better_one():
    frame = pd.DataFrame({"model": list("abc"), "domain": "math", "benchmark": "x", "score": [60.0, 70.0, 70.0]})
    assert list(seesaw.place_methods(frame)["place"]) == [3, 1, 1]
    assert seesaw.count_winners(seesaw.place_methods(frame)) == 2
    with pytest.raises(ValueError, match="c has no score on y"):
        seesaw.place_methods(pd.concat([frame, frame[:2].assign(benchmark="y")]))


def test_published_table_has_places_and_no_null():
    paper = published_tables.merging()
    methods = list(pd.unique(paper["model"]))
    assert seesaw.place_methods(paper).query("benchmark == 'IFEval' and place == 1")["model"].tolist() == ["mt-opd"]
    table = seesaw.table_of_methods(paper, methods[:3], methods[3:4])
    means = table[table["benchmark"] == "mean"].set_index("model")
    # TIES: math 69.195, coding 55.47, science 30.945, instruction following 71.785
    assert means.loc["merge-ties", "score"] == pytest.approx((69.195 + 55.47 + 30.945 + 71.785) / 4)
    assert list(means.index) == methods[:4] and sorted(means["place"][:3]) == [1, 2, 3] and np.isnan(means["place"].iloc[3])


def test_wins_and_losses_by_hand():
    """A is 20 points ahead of B and C on 400 problems of two benchmarks; B and C are equal on each, which shows nothing."""
    right = {"merge-ties": 280, "merge-sce": 200, "merge-average": 200}
    order = np.random.default_rng(0).permutation(400)[:, None]
    scores = pd.concat([cell(order < n, model, name) for model, n in right.items() for name in ("math", "coding")])
    wins = seesaw.count_wins(scores, list(right), 3.0, draws=500).set_index("model")
    assert wins.loc["merge-ties"].tolist() == [4, 0, 0, 0]
    assert wins.loc["merge-sce"].tolist() == [0, 2, 0, 2] == wins.loc["merge-average"].tolist()


def test_lucky_wins_do_not_count():
    """Among equal methods a few of 80 intervals exclude 0 by luck; as one family hardly any does."""
    wins = seesaw.count_wins(world(EQUAL, 5), METHODS, 3.0, draws=1000)
    assert wins["better"].sum() == wins["worse"].sum() <= 1


def test_summary_says_how_sure_the_first_place_is():
    equal = seesaw.summarise_methods(world(EQUAL, 3, n=100), METHODS[:2], 3.0, draws=500)
    assert equal["leads"].sum() == pytest.approx(100) and equal["first"].sum() == 8
    sure = seesaw.summarise_methods(world(PLANTED[:1] * np.ones((8, 1))), METHODS, 3.0, draws=500)
    assert sure.loc[0, "model"] == "merge-average" and sure.loc[0, "leads"] > 99 and sure.loc[0, "first"] >= 6
    assert (sure["score"].diff().dropna() <= 0).all()


def test_contenders_are_those_not_shown_to_be_behind_on_selection():
    effects = np.array([0, -40, 0, 0, 0]) * np.ones((8, 1))
    selection = world(effects, 2, split="selection")
    assert "merge-task-arithmetic" not in seesaw.contenders(selection, METHODS, 500)
    assert {"merge-ties", "merge-sce"} & set(seesaw.contenders(selection, METHODS, 500))


def test_the_answer_has_each_mean_and_the_gain_by_the_null_with_the_larger_p():
    summary = pd.DataFrame({"model": ["merge-ties", "mt-opd"], "score": [60.0, 50.0], "low": 45.0, "high": 65.0, "first": [3, 1]})
    tested = pd.DataFrame(
        {"measure": [GAIN, GAIN, WINNERS], "observed": [2.0, 2.0, 3.0], "low": [0.5, 1.0, 1.0], "high": [1.5, 4.0, 3.0]}
    )
    tested = tested.assign(p=[0.01, 0.4, 0.9], benchmarks=4, n=100, seeds=1)
    found = seesaw.answer_table(summary, {"all 2 methods": tested}).set_index("row")
    assert found["value"].to_dict() == {"merge-ties": 60, "mt-opd": 50, "all 2 methods": 2}
    assert found.loc["all 2 methods", ["low", "high", "p"]].tolist() == [1.0, 4.0, 0.4] and set(found["benchmarks"]) == {4}
