"""The bars of the micro world: each is seen to break, and the committed run of the default study meets them."""

import sys
from itertools import product

import pandas as pd
import pytest

from m2rl_lib.config.locations import ROOT

sys.path.insert(0, str(ROOT / "dev"))

import world_bars  # noqa: E402

TABLES = ROOT / "figures" / "study" / "tables"
OVERS = ["overall", "composition", *world_bars.FIRSTS.values()]


def value(model: str, over: str, score: str) -> float:
    """A run that meets every bar: SFT at 25, experts at 90 on their own, composition at 10."""
    if over == "composition":
        return 10.0
    return 90.0 if world_bars.FIRSTS.get(model) == over else {"rl-null": 23.0, "sft-sharpened": 27.0}.get(model, 25.0)


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    models = ["sft", "sft-sharpened", "rl-null", *world_bars.FIRSTS]
    keys = list(product((0, 1), models, OVERS, ("T=1", "greedy")))
    scores = pd.DataFrame(keys, columns=["seed", "model", "over", "score"])
    scores["value"] = [value(*row) for row in scores[["model", "over", "score"]].itertuples(index=False)]
    training = pd.DataFrame(product((0, 1), models, (3, 6)), columns=["seed", "model", "step"]).assign(reward=0.25)
    calls = pd.DataFrame({"predicted": ["rises"] * 10 + [""], "call": ["rightly"] * 9 + ["undecided", ""]})
    verdicts = pd.DataFrame({"verdict": ["supported"] * 12 + ["undecided"] * 8 + ["not testable"]})
    return {"rq1_scores": scores, "training": training, "transfer": calls, "claims": verdicts}


def write(tables: dict[str, pd.DataFrame], folder) -> None:
    for name, frame in tables.items():
        (folder / name).mkdir(exist_ok=True)
        frame.to_parquet(folder / name / "0-all.parquet")


def set_value(name: str, number: float, column: str = "value", **where):
    def change(tables):
        frame = tables[name]
        chosen = pd.Series(True, frame.index)
        for key, wanted in where.items():
            chosen &= frame[key] == wanted
        frame.loc[chosen, column] = number

    return change


BROKEN = {
    "SFT greedy": set_value("rq1_scores", 31, model="sft", over="overall", score="greedy", seed=1),
    "at least 10": set_value("rq1_scores", 9, model="sft-sharpened", over="chain", seed=1),
    "at most 50": set_value("rq1_scores", 55, model="sft-sharpened", over="chain", seed=0),
    "own, greedy": set_value("rq1_scores", 40, model="rl-agent", over="workplace", score="greedy", seed=1),
    "each domain": set_value("rq1_scores", 19, model="rl-null", over="programs", score="T=1"),
    "sd over seeds": set_value("rq1_scores", 80, model="rl-math", over="chain", score="T=1", seed=1),
    "single experts": set_value("rq1_scores", 21, model="rl-math", over="composition", score="T=1"),
    "run, %: at most": set_value("training", 0.41, "reward", model="rl-math", step=3, seed=1),
    "called wrongly": set_value("transfer", "wrongly", "call", call="undecided"),
    "called rightly": set_value("transfer", "undecided", "call", call="rightly"),
    "decided": set_value("claims", "undecided", "verdict", verdict="supported"),
}


@pytest.mark.parametrize("bar", BROKEN)
def test_each_bar_breaks_where_its_run_does(bar, tables, tmp_path):
    write(tables, tmp_path)
    assert world_bars.bars(tmp_path)["holds"].all()
    BROKEN[bar](tables)
    write(tables, tmp_path)
    found = world_bars.bars(tmp_path)
    assert [bar in name for name in found.loc[~found["holds"], "bar"]] == [True]


@pytest.mark.skipif(not (TABLES / "greedy").is_dir(), reason="the committed run is of the first world")
def test_the_committed_run_meets_every_bar():
    found = world_bars.bars(TABLES)
    assert found["holds"].all(), found[~found["holds"]].to_string()
