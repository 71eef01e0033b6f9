"""Whether a run of the default study meets the bars of docs/world.md, from its result tables, seed by seed.

python dev/world_bars.py runs/study/results
"""

import sys
from pathlib import Path

import pandas as pd

from m2rl_lib import domains
from m2rl_lib.domains import composition
from m2rl_lib.storage.result_tables import read_folder

DOMAINS = list(domains.DOMAINS)
FIRSTS = {f"rl-{name}": next(iter(domains.ALL[name].BENCHMARKS)) for name in DOMAINS}


def bars(tables: Path) -> pd.DataFrame:
    """bar, worst (the value furthest from it), where, holds; worst over seeds unless the bar says 'mean over seeds'."""
    scores = read_folder(tables, "rq1_scores").set_index(["score", "model", "over", "seed"])["value"].sort_index()
    calls, claims = read_folder(tables, "transfer").query("predicted != ''")["call"], read_folder(tables, "claims")
    training = read_folder(tables, "training").sort_values("step").groupby(["model", "seed"]).first()["reward"]
    t1, greedy = scores["T=1"], scores["greedy"]
    own = pd.DataFrame({name: t1[name, first] for name, first in FIRSTS.items()})
    best = pd.DataFrame({name: t1["sft-sharpened", first] for name, first in FIRSTS.items()})
    gains = {
        heat: pd.DataFrame({n: s[n, first] for n, first in FIRSTS.items()}) - best
        for heat, s in (("T=1", t1), ("greedy", greedy))
    }
    null = pd.DataFrame({first: t1["rl-null", first] - t1["sft", first] for first in FIRSTS.values()})
    started = training[[name for name in training.index.get_level_values(0).unique() if name in FIRSTS]] * 100
    joint = pd.DataFrame({name: t1[name, composition.NAME] for name in FIRSTS})
    decided = (~claims["verdict"].isin(["undecided", "not testable"])).sum()
    rows = [
        (
            "SFT greedy less SFT at T = 1, mean over domains: at most 5",
            (greedy["sft", "overall"] - t1["sft", "overall"]).max(),
            5,
            1,
        ),
        ("SFT at its best temperature on a first benchmark: at least 10", best.min(axis=None), 10, -1),
        ("SFT at its best temperature on a first benchmark: at most 50", best.max(axis=None), 50, 1),
        *(
            (f"expert over it on its own first benchmark, {heat}: at least 20", gain.min(axis=None), 20, -1)
            for heat, gain in gains.items()
        ),
        ("group success at the start of an expert's run, %: at least 10", started.min(), 10, -1),
        ("group success at the start of an expert's run, %: at most 40", started.max(), 40, 1),
        ("RL-Null against SFT, each first benchmark, mean over seeds: within 5", null.mean().abs().max(), 5, 1),
        ("RL-Null against SFT, mean over first benchmarks: within 5", null.mean(axis=1).abs().max(), 5, 1),
        ("expert on its own first benchmark, sd over seeds: at most 4", own.std().max(), 4, 1),
        ("composition, single experts, mean over seeds: at most 20", joint.mean().max(), 20, 1),
        ("planted cells called rightly, %: at least 80", 100 * (calls == "rightly").mean(), 80, -1),
        ("planted cells called wrongly: none", (calls == "wrongly").sum(), 0, 1),
        ("claims of the paper decided: at least 12", decided, 12, -1),
    ]
    table = pd.DataFrame(rows, columns=["bar", "worst", "limit", "sign"])
    return table.assign(holds=table["sign"] * (table["worst"] - table["limit"]) <= 0)[["bar", "worst", "holds"]]


if __name__ == "__main__":
    print(bars(Path(sys.argv[1])).round(1).to_string(index=False))
