"""Seeds: tables of several are read together, and their spread is separate from that of resampled problems."""

import numpy as np
import pandas as pd
import pytest
from test_bootstrap import shares

from m2rl_lib.config import locations, schedule
from m2rl_lib.config.study import Parameters
from m2rl_lib.stats import over_seeds
from m2rl_lib.stats.comparisons import compare
from m2rl_lib.storage import artifacts, result_tables


def planted(differences: list[float], problems: int = 200) -> pd.DataFrame:
    """Scores of rl-multi and merge-ties by seed: merge-ties solves half, rl-multi so many points more."""
    right = [{"merge-ties": 50, "rl-multi": 50 + difference} for difference in differences]
    return pd.concat([shares(of_seed, n=problems, seed=seed) for seed, of_seed in enumerate(right)])


def test_spread_of_three_seeds_by_hand():
    """Differences 1, 2, 3: mean 2, sd 1, t interval 2 ± 4.303 / √3 = [−0.48, 4.48]; the wider interval is the verdict's."""
    scores = planted([1, 2, 3])
    table = over_seeds.spread_table(scores, [("rl-multi", "merge-ties")], draws=2000).set_index("what")
    assert table.loc[["seed 0", "seed 1", "seed 2"], "estimate"].tolist() == pytest.approx([1, 2, 3])
    t, boot = table.loc[over_seeds.T], table.loc[over_seeds.HIERARCHICAL]
    assert [t["estimate"], t["low"], t["high"], t["sd"]] == pytest.approx([2, -0.484, 4.484, 1], abs=1e-3)
    # d of 200 problems differ: a resample of them has sd √(p(1 − p) / 200), p = 0.01, 0.02, 0.03
    expected = [100 * np.sqrt(p * (1 - p) / 200) for p in (0.01, 0.02, 0.03)]
    assert table["sd"].iloc[:3].tolist() == pytest.approx(expected, rel=0.1)
    assert t["used"] and not boot["used"] and not table["used"].iloc[:3].any() and set(table["n"]) == {200}
    verdict = compare(scores, "rl-multi", "merge-ties", draws=2000)
    assert [verdict["low"], verdict["high"], verdict["seed_sd"]] == pytest.approx([t["low"], t["high"], 1])
    said = over_seeds.sentence(table.reset_index(), "mix")
    assert "+1.0, +2.0, +3.0 points by seed (0, 1, 2)" in said and "standard deviation is 1.0 points" in said


def test_one_seed_has_no_spread():
    table = over_seeds.spread_table(planted([4]), [("rl-multi", "merge-ties")], draws=500)
    assert table["what"].tolist() == ["seed 0"] and table["used"].all()
    assert "one seed (seed 0)" in over_seeds.sentence(table, "mix")
    assert np.isnan(over_seeds.t_interval([4.0])[1:]).all()


def test_the_wider_of_units_and_seeds():
    values = np.array([[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]])  # units 1.5, 2.5, 3.5; seeds 1 and 4, farther apart
    assert over_seeds.widest(values).tolist() == [1, 4] and over_seeds.widest(values[:, :1]).tolist() == [0, 1, 2]
    assert over_seeds.widest(values[:1]).tolist() == [1.5]  # one unit says nothing of others, whatever the seeds


def test_tables_of_seeds_add_up_and_a_missing_one_is_named(smoke):
    p = Parameters.model_construct(study="smoke", seed=0, evaluate_samples=2)
    for seed in (0, 1):
        own = p.model_copy(update={"seed": seed})
        result_tables.write_table(own, "scores", "sft", pd.DataFrame({"seed": [seed]}), artifacts.record(own))
    assert result_tables.read_table(p, "scores", ["sft"], [0, 1])["seed"].tolist() == [0, 1]
    assert result_tables.read_table(p, "scores", seeds=[1, 0])["seed"].tolist() == [1, 0]
    assert result_tables.read_table(p, "scores", ["sft"])["seed"].tolist() == [0]
    with pytest.raises(FileNotFoundError, match="scores/2-sft.parquet is missing"):
        result_tables.read_table(p, "scores", ["sft"], [0, 2])


def test_a_seed_is_there_once_all_that_an_analysis_reads_is_done(smoke, capsys):
    def finish(seed, groups):
        for group in groups:
            artifacts.finish(Parameters.model_construct(study="smoke", seed=seed), f"evaluate-{group}", [], [])

    assert set(schedule.READS["rq4"]) == set(schedule.groups(smoke)), "RQ4 reads every group"
    for count in range(2, 6):  # of three domains, all but one are a pair
        some = schedule.groups(smoke.model_copy(update={"domains": smoke.domains[:count]})).items()
        names = [name for group, (_, models) in some if group != "skills" for name in models]
        assert len(names) == len(set(names)), f"{count} domains: a model that is evaluated twice"
    two = smoke.model_copy(update={"domains": ["math", "science"], "rlvr_mixed_steps": 2 * smoke.rlvr_steps})
    assert schedule.matched(two) == schedule.defaults(two) and not set(schedule.groups(two)) & {"matched"}
    assert "evaluate-matched" not in schedule.stages_read(two, "rq1")
    plain = smoke.model_copy(update={"merge_methods": ["average", "ram"], "domains": smoke.domains[:3]})  # no settings to try
    planned = schedule.groups(plain)
    assert not {"sweeps", "left-out"} & {*schedule.groups_read(plain, "rq4", planned), *schedule.groups_read(plain, "rq4")}
    assert {"sweeps", "left-out"} <= {*schedule.groups_read(smoke, "rq4", schedule.groups(smoke))}
    assert schedule.seeds_there(smoke, "rq1") == [0], "the study's own seed belongs to it, done or not"
    finish(2, schedule.READS["rq1"])
    finish(7, schedule.READS["rq1"][1:])
    assert schedule.seeds_there(smoke, "rq1") == [0, 2]
    assert "sweeps" not in schedule.groups_read(smoke, "rq4")
    finish(0, ["sweeps"])
    assert "sweeps" in schedule.groups_read(smoke, "rq4"), "done, so it was planned"
    unchecked = smoke.model_copy(update={"analysis_manipulation_check": False})
    assert schedule.seeds_there(smoke, "rq4") == [0] and schedule.seeds_there(unchecked, "rq2") == [0, 2]
    assert schedule.seeds_there(smoke, "rq2") == [0], "the manipulation check reads measures of every seed"
    artifacts.finish(Parameters.model_construct(study="smoke", seed=2), "measuring", [], [])
    assert schedule.seeds_there(smoke, "rq2") == [0, 2]
    artifacts.finish(smoke, "rq1", [], [], [0, 2])
    assert ", seeds 0, 2, on " in capsys.readouterr().out


def test_figures_of_a_further_seed_stay_beside_its_notebooks(monkeypatch):
    assert locations.figures_folder("smoke") == locations.ROOT / "figures" / "smoke"
    monkeypatch.setenv("M2RL_FIGURES", "runs/smoke/notebooks/seed-1/figures")
    assert locations.figures_folder("smoke") == locations.ROOT / "runs" / "smoke" / "notebooks" / "seed-1" / "figures"
