"""The paper's numbers: carried whole, derived right, in the form of our own tables."""

import numpy as np
import pytest

from m2rl_lib.paper import published_tables
from m2rl_lib.stats.comparisons import display_name


def test_ratio_of_gpu_hours_is_the_papers():
    assert published_tables.gpu_hour_ratio() == pytest.approx(2166.4 / (2172.8 + 3187.2 + 787.2 + 377.6))


@pytest.mark.parametrize(
    ("load", "models", "benchmarks"),
    [(published_tables.scores, 8, 9), (published_tables.merging, 7, 9), (published_tables.qwen3_4b, 2, 5)],
)
def test_score_tables_are_complete_rectangles_of_known_models(load, models, benchmarks):
    frame = load()
    assert list(frame.columns) == ["model", "domain", "benchmark", "score"]
    assert frame["model"].nunique() == models and frame["benchmark"].nunique() == benchmarks
    assert len(frame) == models * benchmarks and not frame.duplicated(["model", "benchmark"]).any()
    assert frame["score"].between(0, 100).all() and frame["domain"].notna().all()
    assert all(display_name(model) for model in frame["model"])


def test_the_two_tables_still_disagree_on_hle_and_nowhere_else():
    best = published_tables.scores().query("model == 'merged-best'").set_index("benchmark")["score"]
    ties = published_tables.merging().query("model == 'merge-ties'").set_index("benchmark")["score"]
    different = best.index[~np.isclose(best, ties[best.index])]
    assert list(different) == ["HLE"] and best["HLE"] == 6.02 and ties["HLE"] == 5.70


def test_version_3_is_second_hand_and_has_the_expert_rl_multi_and_ties_on_every_benchmark():
    frame = published_tables.scores_v3()
    assert frame["source"].str.startswith("second-hand").all() and frame["score"].between(0, 100).all()
    for (domain, _), rows in frame.groupby(["domain", "benchmark"]):
        assert set(rows["model"]) == {f"rl-{domain}", "rl-multi", "merge-ties"} and len(rows) == 3
    table = published_tables.domains_v3().set_index("domain")
    assert table.loc["agent"].tolist() == pytest.approx([59.14, 60.74 - 59.14, 61.73 - 59.14])
    first, third = published_tables.versions().itertuples(index=False)
    assert (first.domains, first.benchmarks, third.domains, third.benchmarks) == (4, 8, 5, 9)
    gaps = {
        "math": (0.05 - 1.35) / 2,
        "coding": (2.37 - 1.14) / 2,
        "science": (-0.74 - 3.96) / 2,
        "if": (0.92 + 6.46) / 2,
        "a": -0.99,
    }
    assert third.difference == pytest.approx(sum(gaps.values()) / 5) and third.ahead == 4
