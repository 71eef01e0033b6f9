"""Planted worlds: a model that is right oftener and one that solves more; a cascade that learns and forgets."""

import numpy as np
import pandas as pd
import pytest

from m2rl_lib.analysis.rq4_methods import coverage, forgetting
from m2rl_lib.config.study import Parameters
from m2rl_lib.paper import claim_ledger, claims, estimates

K, N = 32, 40


def samples(model: str, domain: str, rates: np.ndarray, k: int = K, split: str = "test") -> pd.DataFrame:
    """k samples of each problem, the share `rates` of them right, to the nearest number."""
    rows = [(n, s, float(s < round(rate * k))) for n, rate in enumerate(rates) for s in range(k)]
    frame = pd.DataFrame(rows, columns=["problem_id", "sample", "correct"])
    known = {"seed": 0, "model": model, "split": split, "domain": domain, "benchmark": f"{domain}-1"}
    return frame.assign(**known, parsed=True, truncated=False, problem_id=frame["problem_id"].map(str))


def world(domain: str) -> pd.DataFrame:
    """SFT and its expert solve half of the problems, in 1 of 8 samples and in all; `rl-multi` the same half; the merge all, rarely."""
    half = np.arange(N) < N // 2
    rates = {"sft": half / 8, f"rl-{domain}": half * 1.0, "rl-multi": half * 0.75, "merge-ties": np.full(N, 0.25)}
    return pd.concat([samples(model, domain, rate) for model, rate in rates.items()], ignore_index=True)


def test_right_oftener_raises_pass_at_1_and_more_solved_raises_coverage():
    scores = pd.concat([world("math"), world("coding")])
    ways = ["rl-multi", "merge-ties"]
    table = coverage.differences(scores, ways, 3.0, 500).set_index(["model", "reference", "k"])
    assert table["estimate"].round(1).to_dict() == {
        ("rl-multi", "sft", 1): 31.2, ("merge-ties", "sft", 1): 18.8, ("rl-multi", "routed", 1): -12.5, ("merge-ties", "routed", 1): -25,
        ("rl-multi", "sft", K): 0, ("merge-ties", "sft", K): 50, ("rl-multi", "routed", K): 0, ("merge-ties", "routed", K): 50,
    }  # fmt: skip
    assert table.loc["merge-ties", "reference_score"].tolist() == pytest.approx([6.25, 50, 50, 50])
    curve = coverage.curves(scores, ways, 100).set_index(["model", "k"])["score"]
    assert set(curve.index.levels[1]) == {1, 2, 4, 8, 16, 32}
    assert curve["merge-ties", 2] == pytest.approx(100 * (1 - 24 * 23 / (32 * 31)))  # by hand: 8 of 32 right


def test_composition_has_no_experts_to_route_to_and_decides_the_entry():
    scores = pd.concat([samples(m, "composition", np.full(N, rate)) for m, rate in (("sft", 0.0), ("rl-multi", 0.5))])
    trained = world("math")
    table = pd.concat([coverage.differences(part, ["rl-multi"], 3.0, 200) for part in (trained, scores)])
    found = estimates.coverage({"coverage": table}, 3.0)
    assert [one.estimate for one in found] == [100] and "on composition: pass@1 +50.0" in found[0].note
    full = table.assign(reference_score=98.0)
    ledger = claim_ledger.ledger(claims.list_claims(3.0), {"coverage": full}).set_index("claim")
    row = ledger.loc["Joining does not raise coverage"]
    assert row["verdict"] == claim_ledger.NOT_TESTABLE and "no more than 2.0 points can be gained" in row["reason"]
    assert row["published"] == "asked by us, not by the paper"


def test_a_cascade_that_forgets():
    p = Parameters.model_construct(domains=["math", "coding", "agent"], rlvr_mixed_steps=30, joint_models=["cascade"])
    rates = {  # after each stage: math, coding, agent
        "sft": (0.25, 0.25, 0.25), "cascade@step=10": (0.75, 0.25, 0.25), "cascade@step=20": (0.5, 0.75, 0.25), "cascade": (0.25, 0.75, 0.75),
    }  # fmt: skip
    rng = np.random.default_rng(0)
    noise = {domain: rng.choice([-0.125, 0.125], N) for domain in p.domains}
    frames = [
        samples(model, domain, rate + noise[domain] * (model == "cascade"), 16)
        for model, row in rates.items()
        for domain, rate in zip(p.domains, row)
    ]
    test = pd.concat(frames, ignore_index=True)
    stages = forgetting.stage_scores(test, p, "cascade")
    assert list(stages.index) == ["SFT", "math", "coding", "agent"]
    assert stages.loc["coding"].tolist() == pytest.approx([50, 75, 25])
    table = forgetting.forgetting_table(test, p, 3.0, 500).set_index("domain")
    assert list(table.index) == ["math", "coding"]
    assert table.loc["math", ["learned", "verdict"]].tolist() == [50, "worse"]
    assert table["estimate"].tolist() == pytest.approx([-50 + 100 * noise["math"].mean(), 100 * noise["coding"].mean()], abs=1e-6)
    assert table.loc["coding", "verdict"] != "worse"
