"""The power calculation against simulated pilots and studies in which the variances are built in."""

import numpy as np
import pandas as pd
import pytest
from test_bootstrap import cell

from m2rl_lib.stats import power
from m2rl_lib.stats.power import Components


def study(rng, effect: float, problems: int, samples: int, seeds: int, spread: float, seed_sd: float) -> pd.DataFrame:
    """Scores of two models: the problem's difficulty is shared, the difference has a mean, a spread over problems and over
    seeds (all in points, small enough for rates to stay within 0 and 1)."""
    base = rng.uniform(30, 60, (1, problems))
    difference = effect + rng.normal(0, seed_sd, (seeds, 1)) + spread * rng.choice([-1, 1], (1, problems))
    frames = []
    for name, rate in (("a", base + difference), ("b", np.broadcast_to(base, (seeds, problems)))):
        right = rng.random((seeds, problems, samples)) < np.clip(rate, 0, 100)[..., None] / 100
        frames += [cell(of_seed, name, benchmark="one", seed=seed) for seed, of_seed in enumerate(right)]
    return pd.concat(frames)


def test_components_are_those_that_were_built_in():
    rng = np.random.default_rng(0)
    found = [power.measure_components(study(rng, 5, 300, 4, 3, 15, 3), "a", "b") for _ in range(30)]
    assert np.mean([one.problems for one in found]) == pytest.approx(225, abs=20)
    # E[p(1 − p)] of both models, p uniform on 0.3–0.6 for b, and 5 ± 15 points more for a
    assert np.mean([one.samples for one in found]) == pytest.approx(4591, abs=60)
    assert np.mean([one.seeds for one in found]) == pytest.approx(9, abs=3)


def test_benchmarks_count_alike():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(30):
        small, large = study(rng, 0, 100, 8, 1, 20, 0), study(rng, 0, 900, 8, 1, 0, 0).assign(benchmark="two")
        found.append(power.measure_components(pd.concat([small, large]), "a", "b"))
    assert np.mean([one.problems for one in found]) == pytest.approx((400 + 0) / 2, abs=45)  # not (400 · 1 + 0 · 9) / 10
    assert np.isnan(found[0].seeds)


@pytest.mark.parametrize(("problems", "samples", "effect"), [(150, 4, 6.0), (300, 1, 6.0), (100, 8, 0.0)])
def test_power_is_how_often_a_simulated_study_sees_the_effect(problems, samples, effect):
    rng = np.random.default_rng(problems)
    pilot = power.measure_components(study(rng, 3, 2000, 8, 1, 15, 0), "a", "b")
    expected = power.power(effect, pilot, problems, samples, 1)
    seen = []
    for _ in range(1500):
        base = rng.uniform(0.3, 0.6, problems)
        rate = base + (effect + 15 * rng.choice([-1, 1], problems)) / 100
        gain = 100 * (rng.binomial(samples, rate) - rng.binomial(samples, base)) / samples
        seen.append(abs(gain.mean()) > 1.96 * gain.std(ddof=1) / np.sqrt(problems))
    assert np.mean(seen) == pytest.approx(expected, abs=0.045)
    assert effect or expected == pytest.approx(0.05, abs=1e-3)


def test_the_variance_over_seeds_is_that_of_simulated_studies():
    rng = np.random.default_rng(5)
    gains = []
    for _ in range(1500):
        base, spread = rng.uniform(0.3, 0.6, 80), 15 * rng.choice([-1, 1], 80)
        per_seed = []
        for shift in rng.normal(0, 3, 3):
            rate = base + (shift + spread) / 100
            per_seed.append(100 * (rng.binomial(4, rate) - rng.binomial(4, base)).mean() / 4)
        gains.append(np.mean(per_seed))
    assert np.std(gains) == pytest.approx(power.standard_error(Components(9, 225, 4566), 80, 4, 3), rel=0.06)


def test_the_fewest_problems_reach_the_power_and_one_less_does_not():
    found = Components(4, 900, 4000)
    for samples, seeds in ((1, 1), (8, 1), (4, 5), (4, 8)):
        least = power.problems_needed(4, found, samples, seeds)
        assert power.power(4, found, least, samples, seeds) >= 0.8 > power.power(4, found, least - 1, samples, seeds)
    assert power.standard_error(found, 500, 4, 1) == pytest.approx(np.sqrt(900 / 500 + 4000 / 2000))
    assert power.problems_needed(1, found, 4, 3) is None  # the seeds alone have a standard error of 1.15
    assert power.problems_needed(4, Components(np.nan, 900, 4000), 4, 3) is None


def test_the_cheapest_size_comes_first():
    table = power.size_table(4, Components(1, 900, 4000), tokens=100, tokens_per_second=1000, training_hours=2)
    first = table.iloc[0]
    assert first["seeds"] == 1 and first["device_hours"] == pytest.approx(2 + first["completions"] * 0.1 / 3600)
    assert first["completions"] == 2 * first["problems"] * first["samples"]
    assert table["device_hours"].dropna().is_monotonic_increasing
    # more samples of a problem need fewer problems
    one_seed = table[table["seeds"] == 1].set_index("samples")["problems"]
    assert one_seed.sort_index().is_monotonic_decreasing


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (lambda s: s[s["model"] == "a"], "no problem with scores of both"),
        (lambda s: s[s["sample"] == 0], "1 sample of a problem"),
        (lambda s: s[s["problem_id"] == "p00000"], "a benchmark with one problem"),
    ],
)
def test_a_pilot_that_cannot_tell(scores, message):
    with pytest.raises(ValueError, match=message):
        power.measure_components(scores(study(np.random.default_rng(0), 0, 4, 2, 1, 0, 0)), "a", "b")
