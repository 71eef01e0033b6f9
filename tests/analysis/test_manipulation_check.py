"""The manipulation check: each outcome is reached from a world in which it is built in; cosines of known shifts."""

import numpy as np
import pandas as pd
import pytest

from m2rl_lib.analysis.rq2_transfer import manipulation_check
from m2rl_lib.config import locations, schedule, study
from m2rl_lib.data import problem_sets
from m2rl_lib.evaluation import avg_at_k
from m2rl_lib.storage import artifacts, result_tables


def world(gains: dict[tuple[str, str], float], n: int = 400, seed: int = 0) -> pd.DataFrame:
    """One sample a problem: SFT is right 40 times in 100, an expert `gains` points more; most of the luck is common."""
    rng, parts = np.random.default_rng(seed), []
    for domain in ("math", "coding"):
        luck = rng.random(n)
        for model in ("sft", "rl-math", "rl-coding"):
            own = np.where(rng.random(n) < 0.05, rng.random(n), luck)
            correct = (own < 0.4 + gains.get((model.removeprefix("rl-"), domain), 0) / 100).astype(float)
            keys = {"seed": 0, "model": model, "domain": domain, "benchmark": domain, "split": "test", "sample": 0}
            parts.append(pd.DataFrame({**keys, "problem_id": np.arange(n), "correct": correct}))
    return pd.concat(parts, ignore_index=True)


OWN = {("math", "math"): 20, ("coding", "coding"): 20}
SHARED = OWN | {("math", "coding"): 15, ("coding", "math"): 15}


def outcomes(apart: pd.DataFrame, cosine=(0.0, -0.05, 0.05)) -> dict[str, str]:
    cosines = {world: {"weight shifts": (0.02,) * 3, "gradients at SFT": cosine} for world in manipulation_check.WORLDS}
    table = manipulation_check.check_table({"shared": world(SHARED), "apart": apart}, cosines, draws=500)
    return table[table["world"] == "apart"].set_index("quantity")["outcome"].to_dict()


CASES = {  # what the other world is, its gradient cosine, and what comes of each prediction that does not come true
    "all come true": (world(OWN, n=1500), (0.0, -0.05, 0.05), {}),
    "one transfer and a cosine stay": (
        world(OWN | {("math", "coding"): 12}, n=1500),
        (0.5, 0.4, 0.6),
        {"math → coding": "not as predicted", "gradients at SFT": "not as predicted"},
    ),
    "an expert learns nothing": (
        world({("math", "math"): 20}, n=1500),
        (0.0, -0.05, 0.05),
        {"coding → coding": "not as predicted"},
    ),
    "few problems, a refused cosine": (
        world(OWN | {("math", "coding"): 3, ("coding", "math"): 3}, n=60),
        (np.nan,) * 3,
        dict.fromkeys(["math → coding", "coding → math", "gradients at SFT"], "undecided"),
    ),
    "all problems alike": (
        world({}).assign(correct=0.0),
        (0.0, -0.05, 0.05),
        dict.fromkeys(list(manipulation_check.PREDICTED)[:4], "undecided"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_predictions_and_what_comes_of_them(case):
    apart, cosine, otherwise = CASES[case]
    found = outcomes(apart, cosine)
    assert found == dict.fromkeys(manipulation_check.predictions()["quantity"], "as predicted") | otherwise


def test_cosines_are_those_that_were_measured(smoke):
    gradients = [("sft", "math", "agent", 0.9), ("sft", "coding", "math", 0.3), ("rl-multi@step=2", "coding", "math", 0.8)]
    gradients = pd.DataFrame(gradients, columns=["model", "domain", "other", "cosine"]).assign(low=0.2, high=0.4)
    weights = pd.DataFrame({"type": ["all", "q", "all"], "layer": [None, None, 0], "cosine": [0.5, 0.7, 0.6]})
    weights = weights.assign(model="rl-coding", other="rl-math").astype({"layer": "Int64"})
    for name, frame in {"gradients": gradients, "weights_cosines": weights}.items():
        result_tables.write_table(smoke, name, "measuring", frame, artifacts.record(smoke))
    found = manipulation_check.measured_cosines(smoke)
    assert found == {"weight shifts": (0.5,) * 3, "gradients at SFT": (0.3, 0.2, 0.4)}


def test_in_the_other_world_coding_alone_needs_no_arithmetic(smoke):
    other = schedule.apart(smoke)
    differing = {key for key, value in vars(other).items() if getattr(smoke, key) != value}
    assert differing == {"study", "data_shared_arithmetic", "evaluate_problems", "evaluate_samples"}
    assert other.study == "smoke-apart"
    problems = {domain: problem_sets.train_problems(domain, 1, 0, other.data_shared_arithmetic)[0] for domain in smoke.domains}
    needed = {domain: row["shared_arithmetic"] for domain, row in problems.items() if "shared_arithmetic" in row}
    assert needed == {"coding": False, "science": True, "agent": True}
    test = problem_sets.benchmark_problems("workplace", "test", 1, other.data_shared_arithmetic)
    assert test[0]["shared_arithmetic"] and test == problem_sets.benchmark_problems("workplace", "test", 1, True)
    for change in ({"analysis_manipulation_check": False}, {"data_shared_arithmetic": False}, {"domains": ["math", "agent"]}):
        assert schedule.apart(smoke.model_copy(update=change)) is None


def test_the_fall_between_two_worlds_by_hand():
    cosines = {
        "shared": {"weight shifts": (20.0, 14.0, 26.0), "gradients at SFT": (0.0,) * 3},
        "apart": {"weight shifts": (2.0, -6.0, 10.0), "gradients at SFT": (0.0,) * 3},
    }
    table = manipulation_check.check_table({name: world(OWN, n=50) for name in cosines}, cosines, draws=100)
    row = table[(table["quantity"] == "weight shifts") & (table["world"] == "apart")].iloc[0]
    assert row[["fall", "fall_low", "fall_high"]].tolist() == pytest.approx([18, 8, 28])


def test_the_other_world_is_asked_math_and_coding_alone(smoke):
    other = schedule.apart(smoke)
    other.purpose = "apart"
    rows, k = avg_at_k.problems(other, "test")
    assert {row["domain"] for row in rows} == {"math", "coding"}
    assert len(rows) == 4 * 2 * smoke.evaluate_problems and k == 4 * smoke.evaluate_samples
    assert not any(row["shared_arithmetic"] for row in rows if row["domain"] == "coding")


def test_the_default_study_has_enough_problems_of_the_other_world():
    p = study.load(locations.ROOT / "params" / "study.yaml")
    for benchmark in ("chain", "long_chain", "programs", "programs_shifted"):
        other = schedule.apart(p)
        rows = problem_sets.benchmark_problems(benchmark, "test", other.evaluate_problems, other.data_shared_arithmetic)
        assert len(rows) == 100
