"""Gain vectors: the planted truths (same, disjoint, null), the naive number's bias, and values by hand."""

import numpy as np
import pandas as pd
import pytest
from test_bootstrap import cell

from m2rl_lib.analysis.rq4_methods import gain_vectors

EXPERTS = ["rl-math", "rl-coding", "rl-science", "rl-instruction_following", "rl-agent"]
N = 400


def world(chances: dict[str, np.ndarray], k: int, seed: int = 0, domain: str = "math") -> pd.DataFrame:
    """Scores of models that solve problem i with chance chances[model][i], k independent samples each."""
    generator = np.random.default_rng(seed)
    return pd.concat([cell(generator.random((len(p), k)) < p[:, None], model, domain) for model, p in chances.items()])


def chances(gain_of: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """SFT between 0 and 50%, every expert and RL-Multi SFT plus its gain."""
    base = np.random.default_rng(1).random(N) / 2
    return {"sft": base} | {model: base + gain_of.get(model, 0) for model in [*EXPERTS, "rl-multi"]}


def measure(scores: pd.DataFrame) -> pd.DataFrame:
    table = gain_vectors.skill_table(scores, ["rl-multi"], EXPERTS, draws=500)
    return table[table["over"] == "overall"].set_index("measure")


TENTHS = {expert: 0.4 * (np.arange(N) % 10 == place) for place, expert in enumerate(EXPERTS)}  # each its own tenth of problems


@pytest.mark.parametrize("experts", ["all alike", "each its own tenth"])
def test_planted_same_gains_have_consistency_1_and_neither_excess_nor_shortfall(experts):
    half = 0.4 * (np.arange(N) % 10 < 5)
    gains = dict.fromkeys(EXPERTS, half) if experts == "all alike" else TENTHS
    found = measure(world(chances({**gains, "rl-multi": half}), 32))
    assert found.loc["consistency", "estimate"] == pytest.approx(1, abs=0.04)
    assert abs(found.loc["excess", "estimate"]) < 1.5 and abs(found.loc["shortfall", "estimate"]) < 2
    assert found.loc["union gain", "estimate"] == pytest.approx(20, abs=1.5)
    assert found.loc["naive union gain", "estimate"] > found.loc["union gain", "high"]


def test_planted_disjoint_gains_have_consistency_0_and_a_full_excess():
    """The model gains 40 points on the half of the problems on which no expert does: excess 20 points, shortfall 20."""
    found = measure(world(chances({**TENTHS, "rl-multi": 0.4 * (np.arange(N) % 10 >= 5)}), 32))
    assert found.loc["consistency", "low"] < 0 < found.loc["consistency", "high"]
    assert abs(found.loc["consistency", "estimate"]) < 0.1
    assert found.loc["excess", "estimate"] == pytest.approx(20, abs=2)
    assert found.loc["shortfall", "estimate"] == pytest.approx(20, abs=2)
    assert found.loc["naive consistency", "estimate"] > 0.2  # noise alone


def test_planted_null_is_undefined_where_the_naive_number_is_large():
    """Experts and model equal to SFT: the naive gains are noise; the unbiased ones cannot be distinguished from 0."""
    found = measure(world(chances({}), 32))
    assert found.loc["naive consistency", "low"] > 0.5
    assert np.isnan(found.loc["consistency", "estimate"])
    assert found.loc["consistency", "reason"] == "the gains of the union cannot be distinguished from 0"
    for name in ("excess", "shortfall", "union gain"):
        assert found.loc[name, "low"] < 0 < found.loc[name, "high"]


def test_the_naive_number_invents_gains_at_8_samples():
    """Five experts equal to SFT, n = 400, K = 8: a union gain of about 17 points and a consistency of about 0.7."""
    base = np.random.default_rng(2).beta(1.5, 1.5, N)
    found = measure(world({model: base for model in ["sft", *EXPERTS, "rl-multi"]}, 8))
    assert found.loc["naive union gain", "estimate"] == pytest.approx(17, abs=2)
    assert found.loc["naive consistency", "estimate"] == pytest.approx(0.7, abs=0.06)
    assert np.isnan(found.loc["consistency", "estimate"])
    assert found.loc["consistency", "reason"] == "K = 8 samples a problem: at least 32 are needed"


def test_a_model_below_sft_has_negative_consistency_and_no_excess():
    """Signed gains: a model that loses where experts gain is not at 0 but below; the naive number cannot see it."""
    half, base = np.arange(N) % 2, np.full(N, 0.5)
    p = {"sft": base, **{expert: base + 0.4 * half for expert in EXPERTS}, "rl-multi": base - 0.4 * half}
    found = measure(world(p, 32))["estimate"]
    assert found["consistency"] == pytest.approx(-1, abs=0.05) and found["excess"] == pytest.approx(0, abs=0.5)
    assert found["naive consistency"] >= 0


def test_all_moments_are_0_on_average_in_the_null():
    """Sixty worlds without any gain: choosing and averaging on different samples leaves no winner's curse."""
    generator, base, found = np.random.default_rng(99), np.random.default_rng(1).random(100)[:, None] / 2, []
    for _ in range(60):
        options, targets = ((generator.random((models, 100, 32)) < base).astype(float) for models in (6, 1))
        splits = [gain_vectors._one_split(options, targets, generator.permutation(32)) for _ in range(20)]
        found.append({name: np.mean([one[name] for one in splits]) for name in splits[0] if name != "gg"})
    found = pd.DataFrame(found)
    assert (found.mean().abs() < 3 * found.std() / np.sqrt(len(found))).all()


def test_naive_consistency_by_hand():
    """Gains 1, 0, 0 and 0.5 of the union (the better of two experts), 0.5, 0.5, 0, 0 of the model: 0.5 / √(1.25 · 0.5)."""
    rows = {
        "sft": [[0, 0], [0, 0], [1, 1], [0, 0]],
        "rl-math": [[1, 1], [0, 0], [0, 0], [0, 0]],
        "rl-coding": [[0, 1], [0, 0], [1, 1], [0, 1]],
        "rl-multi": [[0, 1], [0, 1], [1, 1], [0, 0]],
    }
    scores = pd.concat([cell(np.tile(right, (50, 1)), model) for model, right in rows.items()])
    table = gain_vectors.skill_table(scores, ["rl-multi"], ["rl-math", "rl-coding"], draws=200)
    table = table[table["over"] == "overall"].set_index("measure")
    row = table.loc["naive consistency"]
    assert row["estimate"] == pytest.approx(0.5 / np.sqrt(1.25 * 0.5)) and (row["n"], row["k"]) == (200, 2)
    assert row["low"] < row["estimate"] < row["high"]
    assert table.loc["naive union gain", "estimate"] == pytest.approx(100 * 1.5 / 4)


def test_samples_with_common_random_numbers_do_not_bias_it():
    """All models draw with the same random numbers, as evaluation does: equal models then give equal samples, and no gain."""
    base, drawn = np.random.default_rng(3).random(N), np.random.default_rng(4).random((N, 32))
    shifted = {"rl-math": 0.3 * (np.arange(N) % 2), "rl-multi": 0.3 * (np.arange(N) % 4 < 2)}  # true cosine 0.5
    models = ["sft", *EXPERTS, "rl-multi"]
    found = measure(pd.concat([cell(drawn < (0.7 * base + shifted.get(m, 0))[:, None], m) for m in models]))
    assert found.loc["consistency", "low"] < 0.5 < found.loc["consistency", "high"]


def test_domains_weigh_equally_and_what_rl_never_trains_is_in_no_average():
    same = chances({**dict.fromkeys(EXPERTS, 0.4), "rl-multi": 0.4})
    none = chances({**dict.fromkeys(EXPERTS, 0.4), "rl-multi": 0.0})
    parts = [world(same, 32, domain="math"), world({m: p[:50] for m, p in none.items()}, 32, 1, "coding")]
    table = gain_vectors.skill_table(pd.concat([*parts, world(none, 32, 2, "composition")]), ["rl-multi"], EXPERTS, draws=200)
    short = table[table["measure"] == "shortfall"].set_index("over")["estimate"]
    assert set(short.index) == {"overall", "math", "coding", "composition"}
    assert short["overall"] == pytest.approx((short["math"] + short["coding"]) / 2)
    assert short["coding"] == pytest.approx(40, abs=3)


def test_new_problems_are_those_that_no_expert_solves_and_controls_have_none():
    """SFT and experts solve 20% of samples, in a quarter of the problems 0%; RL-Multi solves 90% in half of each kind."""
    base = np.where(np.arange(N) % 4 == 0, 0.0, 0.2)
    joint = np.where(np.arange(N) // 4 % 2, 0.9, base)
    models = {"sft": base, **dict.fromkeys(EXPERTS, base), "rl-multi": joint, "rl-null": base, "mt-opd": base}
    scores = world(models, 32, domain="composition")
    gains = gain_vectors.skill_table(scores, ["rl-multi", "rl-null", "mt-opd"], EXPERTS, draws=300)
    assert set(gains["over"]) == {"composition"}  # which no average has
    found = gains.set_index(["model", "measure"])
    assert found.loc[("rl-multi", "new"), "estimate"] == pytest.approx(50, abs=1)
    assert found.loc[("rl-multi", "unseen"), "estimate"] == pytest.approx(12.5, abs=0.5)
    assert found.loc[("rl-multi", "excess"), "estimate"] == pytest.approx((70 * 3 + 90) / 8, abs=2)
    nothing = found.loc[("rl-null", "new")]
    assert (nothing["estimate"], nothing["low"]) == (0, 0) and 0.5 < nothing["high"] < 2  # 400 problems could have missed 1%
    said = {m: gain_vectors.new_problems_sentence(gains, m, ["rl-null"], "composition") for m in ("rl-multi", "mt-opd")}
    assert "RL-Multi has skills" in said["rl-multi"] and "controls: RL-Null 0.0" in said["rl-multi"]
    assert "MT-OPD is not shown" in said["mt-opd"]


def test_pass_at_k_of_few_and_many_samples_by_hand():
    scores = cell([[1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]], "sft", "composition")
    table = gain_vectors.pass_table(scores, 100, (1, 2, 8)).set_index("measure")["score"]
    assert table.to_dict() == pytest.approx({"pass@1": 100 * 1.75 / 4, "pass@2": 100 * (0.5 + 0 + 1 + 5 / 6) / 4})


def test_sets_of_solved_problems_by_hand():
    """Three problems: one solved by both, two by the first alone; two of four right is not more than half."""
    a = cell([[1, 1, 1, 0], [1, 1, 1, 1], [0, 1, 1, 1]], "rl-math")
    b = cell([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], "rl-multi")
    sets = gain_vectors.solved_sets(pd.concat([a, b]), ["rl-math", "rl-multi"])
    first, second = (sets[sets["set"] == number].set_index("model") for number in (1, 2))
    assert first["solves"].to_dict() == {"rl-math": True, "rl-multi": False} and (first["problems"] == 2).all()
    assert second["solves"].all() and (second["problems"] == 1).all()
    assert (sets["n"] == 3).all() and (sets["k"] == 4).all()


BAD = {
    "no scores of rl-agent: there are rl-coding": lambda s: s[s["model"] != "rl-agent"],
    "rl-multi has 16 samples a problem, rl-agent 32: gains need": lambda s: s[(s["model"] != "rl-multi") | (s["sample"] < 16)],
    r"2\.5% of 400 math-1 problems not graded for rl-math \(seed 0\): at most 1% is allowed": lambda s: s.assign(
        correct=s["correct"].where((s["model"] != "rl-math") | (s["problem_id"] > "p00009"))
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_scores_that_would_be_read_wrongly_are_refused_in_one_line(message):
    with pytest.raises(ValueError, match=message) as refusal:
        gain_vectors.skill_table(BAD[message](world(chances(TENTHS), 32)), ["rl-multi"], EXPERTS, draws=100)
    assert "\n" not in str(refusal.value)
