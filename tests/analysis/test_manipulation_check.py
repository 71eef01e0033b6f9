"""The manipulation check: each outcome is reached from scores and cosines in which it is planted."""

import numpy as np
import pandas as pd
import pytest
from test_bootstrap import cell

from m2rl_lib.analysis.rq2_transfer import manipulation_check
from m2rl_lib.config import schedule
from m2rl_lib.evaluation import avg_at_k
from m2rl_lib.storage import artifacts, result_tables


def scored(gains: dict[tuple[str, str], float], n: int = 400, seed: int = 0) -> pd.DataFrame:
    """One sample a problem: SFT is right 40 times in 100, an expert `gains` points more; most of the luck is common."""
    rng, parts = np.random.default_rng(seed), []
    for domain in ("math", "coding"):
        luck = rng.random(n)
        for model in ("sft", "rl-math", "rl-coding"):
            own = np.where(rng.random(n) < 0.05, rng.random(n), luck)
            right = own < 0.4 + gains.get((model.removeprefix("rl-"), domain), 0) / 100
            parts.append(cell(right[:, None], model, domain, domain))
    return pd.concat(parts, ignore_index=True)


GAINS = {("math", "math"): 40, ("coding", "coding"): 40, ("math", "coding"): 20, ("coding", "math"): 20}
UNSHARED = GAINS | {("math", "coding"): 0, ("coding", "math"): 0}
AGREEING = GAINS | {("math", "coding"): 35, ("coding", "math"): 35}
COSINES = {"task vectors": (0.3, 0.3, 0.3), "gradients at SFT": (0.3, 0.2, 0.4)}
LOWER, HIGHER = (dict.fromkeys(COSINES, (value, value - 0.05, value + 0.05)) for value in (0.0, 0.6))
NO_GAIN, REFUSED = {("coding", "coding"): -10}, {"gradients at SFT": (np.nan,) * 3}
TURNED = LOWER | {"task vectors": (0.5,) * 3}, HIGHER | {"task vectors": (0.1,) * 3}
MISSED = dict.fromkeys(["coding → coding", "task vectors"], "not as predicted")
CASES = {  # gains and cosines in the worlds unshared and agreeing, and what comes of predictions that do not come true
    "all come true": (UNSHARED, AGREEING, (LOWER, HIGHER), {}),
    "nothing moves": (GAINS, GAINS, (COSINES, COSINES), dict.fromkeys(["math → coding", "coding → math", *COSINES], "undecided")),
    "an expert learns nothing, a cosine moves the other way": (UNSHARED | NO_GAIN, AGREEING | NO_GAIN, TURNED, MISSED),
    "a refused cosine": (UNSHARED, AGREEING, (LOWER | REFUSED, HIGHER | REFUSED), dict.fromkeys(REFUSED, "undecided")),
}


def worlds(p) -> dict:
    return {manipulation_check.OWN: p} | schedule.worlds(p)


@pytest.mark.parametrize("case", CASES)
def test_predictions_and_what_comes_of_them(case, smoke):
    unshared, agreeing, cosines, otherwise = CASES[case]
    predicted = manipulation_check.predictions(worlds(smoke))
    gains = {manipulation_check.OWN: GAINS, "unshared": unshared, "agreeing": agreeing}
    scores = {name: scored(of_world, 1000, seed) for seed, (name, of_world) in enumerate(gains.items())}
    table = manipulation_check.check_table(predicted, scores, dict(zip(gains, (COSINES, *cosines))), draws=500)
    for name in ("unshared", "agreeing"):
        found = table[table["world"] == name].set_index("quantity")["outcome"].to_dict()
        assert found == dict.fromkeys(found, "as predicted") | otherwise and len(found) == 6
    said, outcomes = manipulation_check.sentence(table), {*otherwise.values()}
    assert f"12 predictions: {12 - 2 * len(otherwise)} as predicted" in said
    assert ("check is passed" in said, "not passed" in said, "failed" in said) == (
        not outcomes,
        outcomes == {"undecided"},
        "not as predicted" in outcomes,
    )


def test_the_difference_of_two_worlds_by_hand(smoke):
    own, other = {"task vectors": (20.0, 14.0, 26.0)}, {"task vectors": (2.0, -6.0, 10.0)}
    cosines, scores = {manipulation_check.OWN: own, "unshared": other}, scored(GAINS, n=50)
    predicted = manipulation_check.predictions(worlds(smoke))
    table = manipulation_check.check_table(predicted, dict.fromkeys(cosines, scores), cosines, draws=100)
    row = table[(table["quantity"] == "task vectors") & (table["world"] == "unshared")].iloc[0]
    assert row[["difference", "difference_low", "difference_high"]].tolist() == pytest.approx([-18, -28, -8])
    assert row["outcome"] == "as predicted"


def test_cosines_are_those_that_were_measured(smoke):
    gradients = [("sft", "math", "agent", 0.9), ("sft", "coding", "math", 0.3), ("rl-multi@step=2", "coding", "math", 0.8)]
    gradients = pd.DataFrame(gradients, columns=["model", "domain", "other", "cosine"]).assign(low=0.2, high=0.4)
    weights = pd.DataFrame({"type": ["all", "q", "all"], "layer": [None, None, 0], "cosine": [0.5, 0.7, 0.6]})
    weights = weights.assign(model="rl-coding", other="rl-math").astype({"layer": "Int64"})
    for name, frame in {"gradients": gradients, "weights_cosines": weights}.items():
        result_tables.write_table(smoke, name, "measuring", frame, artifacts.record(smoke))
    found = manipulation_check.measured_cosines(smoke, 0.25)
    assert found == {"task vectors": (0.5, 0.25, 0.75), "gradients at SFT": (0.3, 0.2, 0.4)}
    two = pd.concat([weights.assign(seed=0), weights.assign(seed=1, cosine=weights["cosine"] + 0.1)])
    assert manipulation_check.spread_over_seeds(two) == pytest.approx(12.706 * 0.1 / 2**0.5, rel=1e-3)  # t of 1 df
    assert np.isnan(manipulation_check.spread_over_seeds(weights.assign(seed=0)))  # one seed decides nothing


def test_other_worlds_differ_in_readings_alone_and_ask_math_and_coding(smoke):
    found = schedule.worlds(smoke)
    assert {name: other.data_world for name, other in found.items()} == {
        "unshared": {"shared": 0, "private": 2, "conflicting": 2},
        "agreeing": {"shared": 2, "private": 2, "conflicting": 0},
    }
    for other in found.values():
        assert {key for key, value in vars(other).items() if getattr(smoke, key) != value} == {"study", "data_world"}
        other.purpose = "world"
        rows, k = avg_at_k.problems(other, "test")
        assert {row["domain"] for row in rows} == {"math", "coding"} and k == smoke.evaluate_samples
        assert rows != avg_at_k.problems(smoke.model_copy(update={"purpose": "world"}), "test")[0]
    nothing = {"shared": 0, "private": 2, "conflicting": 0}
    for change in ({"analysis_manipulation_check": False}, {"data_world": nothing}, {"domains": ["math", "agent"]}):
        assert schedule.worlds(smoke.model_copy(update=change)) == {}
