"""The transfer matrix: built-in gains, losses and nothing come back as their labels, and a world of nothing as no label."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_bootstrap import cell

from m2rl_lib.analysis.rq2_transfer import transfer_matrix
from m2rl_lib.stats.graded_samples import pass_at_k
from m2rl_lib.stats.learning_curves import curve_table

DOMAINS = ["math", "coding", "instruction_following"]
ROWS = ["sft", "sft-sharpened", "rl-null", *(f"rl-{domain}" for domain in DOMAINS)]


def world(gains: dict[tuple[str, str], float], n: int = 400, k: int = 2, seed: int = 0, seeds=(0,)) -> pd.DataFrame:
    """Samples of every model on two benchmarks a domain: SFT is right 40 times in 100, a model `gains` points more. 19 of 20
    samples have their luck in common over models."""
    rng, parts = np.random.default_rng(seed), []
    for run, domain, name in product(seeds, DOMAINS, ("{}", "{}_shifted")):
        luck = rng.random((n, k))
        for model in ROWS:
            own = np.where(rng.random((n, k)) < 0.05, rng.random((n, k)), luck)
            parts.append(cell(own < 0.4 + gains.get((model, domain), 0) / 100, model, domain, name.format(domain), run))
    return pd.concat(parts, ignore_index=True)


def matrix(scores, **changes) -> pd.DataFrame:
    how = {"pass_k": 2, "draws": 1000} | changes
    return transfer_matrix.transfer_table(scores, DOMAINS, **how).set_index(["model", "domain"])


GAINS = {("rl-math", "coding"): 8, ("rl-coding", "math"): -8, ("rl-instruction_following", "math"): 8}
GAINS |= {(f"rl-{domain}", domain): 20 for domain in DOMAINS}


@pytest.fixture(scope="module")
def planted():
    return world(GAINS | {("sft-sharpened", "coding"): 20}, n=800)


@pytest.fixture(scope="module")
def table(planted):
    return matrix(planted)


def test_a_gain_a_loss_and_nothing_get_their_labels(table):
    off = table[table["role"] == "off-diagonal"]
    planted = {("rl-math", "coding"): "synergy", ("rl-coding", "math"): "interference"}
    planted |= {("rl-instruction_following", "math"): "synergy"}
    assert off["label"].to_dict() == dict.fromkeys(off.index, "neither") | planted and table.attrs["cells"] == len(off) == 6
    for place, row in off.iterrows():
        assert row["low"] <= GAINS.get(place, 0) <= row["high"]
    assert set(table.loc[table["role"] != "off-diagonal", "label"]) == {""}
    assert off.loc[list(planted), "called"].tolist() == ["sharpening", "", "transfer"]  # sharpening gains more on coding
    assert table.loc[("rl-math", "coding"), "over_sharpened"] == pytest.approx(8 - 20, abs=2)
    half = (off["high"] - off["low"]).median() / 2
    assert f"only effects beyond about {3 + half:.1f} points can be labelled." in transfer_matrix.family_sentence(table)


def test_the_matrix_is_scored_against_what_was_planted(planted):
    cells = [("math", "coding", 30, "rises"), ("coding", "math", 30, "rises"), ("math", "instruction_following", -20, "falls")]
    cells += [("instruction_following", "coding", 2, ""), ("math", "math", 60, "rises")]
    expected = pd.DataFrame(cells, columns=["trained", "tested", "expected", "predicted"])
    table = matrix(planted, planted=expected, draws=300)
    calls = table.loc[table["predicted"] != "", "call"].to_dict()  # neither the diagonal nor what has no prediction
    wrong = dict.fromkeys([("rl-coding", "math"), ("rl-math", "instruction_following")], "wrongly")
    assert calls == {("rl-math", "coding"): "rightly"} | wrong
    said = transfer_matrix.planted_sentence(table.reset_index())
    assert (
        "1 rightly, 0 undecided, 2 wrongly" in said
        and said.endswith("The planted size lies in the interval of 0 of them.")
        and "RL-Coding on math (rises, called interference)" in said
    )
    assert matrix(world(GAINS, n=20), planted=expected, draws=300).loc[("rl-math", "coding"), "call"] == "undecided"
    lines = transfer_matrix.cell_sentences(table.reset_index())
    starts = ["RL-Coding on math: interference", "RL-IF on math: synergy", "RL-Math on coding: synergy"]
    assert sorted(line.split(",")[0] for line in lines) == starts
    assert any("RL-Null" in line for line in lines) and any(": sharpening; planted: rises (+30)" in line for line in lines)
    assert "cannot be scored" in transfer_matrix.planted_sentence(matrix(planted, draws=100).reset_index())
    said = transfer_matrix.answer_sentences(table.reset_index())
    assert said.startswith(
        "**RL on one domain helps some domains and harms others.** Of 6 effects of one domain on another, 2 are synergy, "
        "1 interference (beyond ±3 points), 3 neither"
    )
    assert "could not have been labelled. The lowest change is RL-Coding on math, -" in said
    assert (
        "the matrix calls the direction of 1 rightly, 0 undecided, 2 wrongly" in said
        and "2 of the 3 labelled effects were planted: there" in said
    )
    unharmed = table.reset_index().replace({"label": {"interference": "undecided"}})
    unharmed.attrs = table.attrs
    assert "helps some other domains and is not shown to harm any." in transfer_matrix.answer_sentences(unharmed)
    assert "planted" not in transfer_matrix.answer_sentences(matrix(planted, draws=100).reset_index())


@pytest.mark.parametrize(
    ("low", "high", "pass_low", "name"),
    [
        *((1, 9, 1, "transfer"), (1, 9, -1, transfer_matrix.NO_GAIN), (1, 9, np.nan, transfer_matrix.NO_GAIN)),
        *((-9, 1, 5, "sharpening"), (-1, 9, 5, "undecided")),
    ],
)
def test_a_gain_is_transfer_only_where_more_problems_are_solved(low, high, pass_low, name):
    assert transfer_matrix.beyond_sharpening(low, high, pass_low) == name


def test_change_and_passes_are_differences_of_means(planted, table):
    problems = planted.groupby(["model", "domain", "benchmark", "problem_id"])["correct"].sum()
    points = 100 * (problems / 2).groupby(["model", "domain"]).mean()
    passed = (100 * pd.Series(pass_at_k(2, problems, 2), problems.index)).groupby(["model", "domain"]).mean()
    for column, values in (("change", points), ("pass_change", passed)):
        expected = values["rl-math", "coding"] - values["sft", "coding"]
        assert table.loc[("rl-math", "coding"), column] == pytest.approx(expected)
    assert table.loc[("rl-math", "coding"), "n"] == 1600


def test_in_a_world_of_nothing_families_err_at_most_as_often_as_they_say():
    """300 worlds in which no expert changes anything: 6 cells of 2 × 30 problems, K = 4."""
    rng, missed, labelled, worlds = np.random.default_rng(0), 0, 0, 300
    for _ in range(worlds):
        points, draws = [], []
        for _domain in range(3):
            base = rng.beta(1, 1.5, (2, 30))
            mean = rng.beta(2 * base[..., None] + 0.01, 2 * (1 - base[..., None]) + 0.01, (2, 30, 3))  # SFT and two experts
            solved = 100 * rng.binomial(4, mean) / 4
            picked = rng.integers(0, 30, (2, 400, 30))
            resampled = np.stack([solved[b][picked[b]].mean(axis=1) for b in (0, 1)]).mean(axis=0)
            points += [solved.mean(axis=(0, 1))[1:] - solved.mean(axis=(0, 1))[0]]
            draws += [resampled[:, 1:] - resampled[:, :1]]
        points, draws = np.concatenate(points)[:, None], np.concatenate(draws, axis=1)[:, :, None]
        low, high, critical = transfer_matrix.simultaneous(points, draws, np.full(6, 60), np.full(6, 2))
        assert 2.3 < critical < 3.2
        missed += bool(((low > 0) | (high < 0)).any())
        labelled += any(transfer_matrix.label(*ends) in ("synergy", "interference") for ends in zip(low, high))
    assert missed <= stats.binom.ppf(0.999, worlds, 0.05)
    assert missed > stats.binom.ppf(0.001, worlds, 0.01)  # nor are they so wide that nothing could be found
    assert labelled <= missed


def test_family_of_one_is_an_ordinary_interval_and_more_cells_are_wider():
    draws = np.random.default_rng(0).normal(0, 2, (20_000, 20, 1))
    many = np.full(20, 10**6)
    low, high, critical = transfer_matrix.simultaneous(np.zeros((1, 1)), draws[:, :1], many[:1], many[:1] * 0 + 1)
    assert critical == pytest.approx(1.96, abs=0.03)
    assert high[0] == pytest.approx(1.96 * 2, abs=0.1) and low[0] == pytest.approx(-high[0])
    critical = transfer_matrix.simultaneous(np.zeros((20, 1)), draws, many, many * 0 + 1)[2]
    assert critical == pytest.approx(stats.norm.ppf((1 + 0.95 ** (1 / 20)) / 2), abs=0.05)  # independent cells


def test_seeds_are_pooled_over_cells_and_families_still_err_as_seldom_as_they_say():
    """500 families of 20 cells, 5 models × 4 domains, six seeds: what a model or a domain has in common, and each cell's own."""
    rng, missed, wide = np.random.default_rng(0), 0, []
    noise, many = rng.normal(0, 1e-2, (400, 20, 6)), np.full(20, 10**6)
    for _ in range(500):
        points = sum([rng.normal(0, sd, (*size, 6)) for sd, size in ((3, (5, 1)), (3, (1, 4)), (4, (5, 4)))]).reshape(20, 6)
        low, high, _ = transfer_matrix.simultaneous(points, points + noise, many, many * 0 + 1, models=5)
        missed += bool(((low > 0) | (high < 0)).any())
        wide.append((high - low).mean() / 2)
    assert missed <= stats.binom.ppf(0.999, 500, 0.05)
    assert np.mean(wide) < 0.7 * stats.t.ppf(1 - 0.05 / 40, 5) * np.sqrt(34 / 6)  # far narrower than each cell by itself


def test_seeds_that_differ_make_wider_intervals():
    one = matrix(world({}, n=100), draws=300)
    parts = [world({("rl-math", "coding"): shift}, n=100, seed=i, seeds=(i,)) for i, shift in enumerate((-30, 0, 30))]
    three = matrix(pd.concat(parts), draws=300)
    place = ("rl-math", "coding")
    assert three.loc[place, "seeds"] == 3
    bonferroni = stats.t.ppf(1 - 0.05 / 12, 3 * 2) * np.sqrt(30**2 / 6 / 3)  # one cell of six spreads; three models, three seeds
    wide = three["high"] - three["low"]
    assert wide[place] / 2 == pytest.approx(bonferroni, rel=0.5) and wide[place] > 3 * (one["high"] - one["low"])[place]


def test_asymmetry_by_hand_and_undefined_without_an_own_gain():
    gains = {("rl-math", "math"): 20, ("rl-coding", "coding"): 20, ("rl-math", "coding"): 4, ("rl-coding", "math"): 10}
    found = transfer_matrix.asymmetry_table(world(gains, n=500), DOMAINS, draws=1000).set_index(["first", "second"])
    row = found.loc[("math", "coding")]
    assert row["gives"] == pytest.approx(4 / 20, abs=0.05) and row["takes"] == pytest.approx(10 / 20, abs=0.05)
    assert row["low"] <= -0.3 <= row["high"] < 0
    undefined = found.loc[("math", "instruction_following")]
    said = transfer_matrix.asymmetry_sentence(found.loc[[("math", "coding")]].reset_index(), np.array([0.01]))
    assert said == "Of 1 pairs 1 are shown to be one-sided: coding gives math more than it takes."
    assert np.isnan(undefined["asymmetry"]) and undefined["reason"].startswith("the 95% interval of Instruction following's own")


def test_changes_of_the_papers_parts_say_sharpening_and_what_was_planted():
    gains = {("rl-math", "coding"): 10, ("rl-coding", "math"): 10, ("rl-instruction_following", "math"): -10}
    gains |= {("sft-sharpened", "math"): 20, ("sft-sharpened", "coding"): 20}
    scores = world(gains, n=500)
    expected = pd.DataFrame([("math", "coding", 30.0, "rises")], columns=["trained", "tested", "expected", "predicted"])
    table = matrix(scores, planted=expected, draws=300).reset_index()
    found = transfer_matrix.claimed_changes(scores, table, DOMAINS, draws=300)
    assert found["claim"].tolist() == list(transfer_matrix.CLAIMS) and found["cells"].tolist() == [6, 2, 2, 2]
    assert found["change"].tolist() == pytest.approx([-10, 10, -5, 0], abs=2) and (found["low"] < found["high"]).all()
    assert found["called"].tolist() == ["", "sharpening", "", ""] and found["planted"].tolist() == [1, 1, 0, 0]
    assert found.loc[1, "sharpened"] == pytest.approx(20, abs=2)


def test_a_study_without_such_domains_or_without_spread_says_why():
    scores = world({}, n=50).query("domain != 'coding' and model != 'rl-coding'")
    domains = ["math", "instruction_following"]
    table = transfer_matrix.transfer_table(scores, domains, pass_k=2, draws=100)
    found = transfer_matrix.claimed_changes(scores, table, domains, draws=100)
    assert found.loc[1, "reason"] == "the study has no such cells"
    scores = world({}, n=20).assign(correct=0.0)
    table = matrix(scores, draws=100).reset_index()
    assert (transfer_matrix.claimed_changes(scores, table, DOMAINS, draws=100)["reason"] == transfer_matrix.ALIKE).all()
    assert (table["label"] != "undecided").equals(table["role"] != "off-diagonal") and table["low"].isna().any()
    said = "6 off-diagonal cells: 6 undecided; no interval, since every problem changed alike."
    assert transfer_matrix.family_sentence(table) == said


def test_a_missing_model_is_named():
    with pytest.raises(ValueError, match="scores has no rl-coding: every expert"):
        matrix(world({}, n=5).query("model != 'rl-coding'"))


def test_wilson_interval_of_a_selection_point():
    curves = pd.DataFrame({"model": "rl-math", "step": 1, "domain": "math", "kind": ["selection", "train"], "reward": 0.5})
    found = curve_table(curves, 40)
    expected = stats.binomtest(20, 40).proportion_ci(method="wilson")
    assert found.loc[0, ["low", "high"]].tolist() == pytest.approx([expected.low, expected.high])
    assert found.loc[1, ["low", "high", "n"]].isna().all()
