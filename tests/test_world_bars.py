"""The bars of the micro world: each is seen to break, and the committed run of the default study meets all but those named here."""

from itertools import product

import pandas as pd
import pytest
import world_bars

from m2rl_lib.config.locations import ROOT

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


BROKEN = {  # part of a bar's name: table, column, what is written there, in which rows
    "SFT greedy": ("rq1_scores", "value", 31, "model == 'sft' and over == 'overall' and score == 'greedy' and seed == 1"),
    "at least 10": ("rq1_scores", "value", 9, "model == 'sft-sharpened' and over == 'chain' and seed == 1"),
    "at most 50": ("rq1_scores", "value", 55, "model == 'sft-sharpened' and over == 'chain' and seed == 0"),
    "own first benchmark, greedy": (
        "rq1_scores",
        "value",
        40,
        "model == 'rl-agent' and over == 'workplace' and score == 'greedy' and seed == 1",
    ),
    "each first benchmark": ("rq1_scores", "value", 19, "model == 'rl-null' and over == 'programs' and score == 'T=1'"),
    "sd over seeds": ("rq1_scores", "value", 80, "model == 'rl-math' and over == 'chain' and score == 'T=1' and seed == 1"),
    "single experts": ("rq1_scores", "value", 21, "model == 'rl-math' and over == 'composition' and score == 'T=1'"),
    "run, %: at most": ("training", "reward", 0.41, "model == 'rl-math' and step == 3 and seed == 1"),
    "called wrongly": ("transfer", "call", "wrongly", "call == 'undecided'"),
    "called rightly": ("transfer", "call", "undecided", "call == 'rightly'"),
    "decided": ("claims", "verdict", "undecided", "verdict == 'supported'"),
}


@pytest.mark.parametrize("bar", BROKEN)
def test_each_bar_breaks_where_its_run_does(bar, tables, tmp_path):
    write(tables, tmp_path)
    assert world_bars.bars(tmp_path)["holds"].all()
    name, column, written, rows = BROKEN[bar]
    tables[name].loc[tables[name].query(rows).index, column] = written
    write(tables, tmp_path)
    found = world_bars.bars(tmp_path)
    assert [bar in name for name in found.loc[~found["holds"], "bar"]] == [True]


MISSED = {  # by the committed run; docs/world.md says what they mean and what was tried
    "RL-Null against SFT, each first benchmark, mean over seeds: within 5",
    "RL-Null against SFT, mean over first benchmarks: within 5",
    "expert on its own first benchmark, sd over seeds: at most 4",
    "planted cells called rightly, %: at least 80",
    "claims of the paper decided: at least 12",
}


def test_the_committed_run_meets_every_bar_but_those_that_are_named():
    found = world_bars.bars(TABLES)
    assert set(found.loc[~found["holds"], "bar"]) == MISSED, found.to_string()
