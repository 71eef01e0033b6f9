"""Do instruments order pairs of experts as planted: one that does, one that does the opposite, one that sees experts alone."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from m2rl_lib.analysis.rq3_policies import planted_order

NAMES = ["math", "coding", "science", "instruction_following", "agent"]


@pytest.fixture(scope="module")
def points() -> pd.DataFrame:
    """Three seeds. The cosine is the planted relation and noise, the overlap its opposite, the ratio one number an expert has."""
    generator = np.random.default_rng(0)
    relation = pd.DataFrame(combinations(NAMES, 2), columns=["one", "other"]).assign(relation=np.linspace(-1, 2, 10))
    relation["think"] = relation["relation"] > 0
    size = dict(zip(NAMES, generator.random(5)))  # the cheap explanation: some experts are nearer to everything
    pairs = pd.DataFrame({"model": "rl-" + relation["one"], "other": "rl-" + relation["other"], "planted": relation["relation"]})
    null = pd.DataFrame({"model": [f"rl-{name}" for name in NAMES], "other": "rl-null", "planted": 0.0})
    weights = pd.concat([pd.concat([pairs, null]).assign(seed=n) for n in range(3)]).assign(type="all", layer=pd.NA)
    noise = 0.01 * generator.normal(size=(2, len(weights)))
    overlaps = weights.assign(kind="density", level=0.1, precision="stored", jaccard=noise[0] - weights["planted"])
    other = overlaps.assign(level=0.3, jaccard=weights["planted"])
    ordered = [(n, one, two) for n in range(3) for one in NAMES for two in [*NAMES, "null"] if one != two]
    near = pd.DataFrame(ordered, columns=["seed", "domain", "expert"])
    near["ratio"] = -near["domain"].map(size) - near["expert"].map(size).fillna(0)
    directions = weights.assign(cosine=noise[1] + weights["planted"])
    return planted_order.pair_values(pd.concat([overlaps, other]), directions, near, relation)


def test_the_instrument_that_sees_the_planted_relation_is_named(points):
    table = planted_order.order_table(points, draws=500).set_index("instrument")
    assert table["verdict"].tolist() == ["as planted", "not as planted", "undecided"]
    assert table["rho"].tolist()[:2] == pytest.approx([1, -1], abs=0.05) and (table[["pairs", "seeds"]] == [10, 3]).all(axis=None)
    said = planted_order.order_sentence(table.reset_index())
    assert "as planted: cosine; not as planted: overlap at 10%; undecided: neighbour ratio" in said
    few = planted_order.order_table(points[points["target"] != points["target"].iloc[0]], draws=200)
    assert (few["verdict"] == "undecided").all()  # nine pairs


def test_an_instrument_that_sees_thinking_alone_does_not_see_words(points):
    only = points[points["instrument"] == "cosine"]
    noise = np.random.default_rng(1).normal(scale=0.1, size=len(only))
    table = planted_order.order_table(only.assign(value=only["think"] + noise), draws=500).iloc[0]
    assert table["verdict"] == "as planted" and table["words_verdict"] != "as planted" and table["words_low"] < 0
    assert planted_order.order_table(only, draws=500).iloc[0]["words_low"] > 0


def test_the_control_knows_what_each_expert_has_with_the_null_run(points):
    ratio = points[points["instrument"] == "neighbour ratio"]
    assert ratio["value"].to_numpy() == pytest.approx(2 * ratio["control"].to_numpy())
    table = planted_order.order_table(ratio, draws=200).iloc[0]
    assert table["rho"] == table["control_rho"]


def test_pairs_are_shown_from_the_most_to_the_least_in_common(points):
    shown = planted_order.value_table(points)
    assert len(shown) == 10 and shown.index[0][1] == "instruction_following · agent"
    assert (
        list(shown.columns) == ["cosine", "overlap at 10%", "neighbour ratio, sign reversed"] and shown.iloc[0, 0].count("[") == 1
    )
