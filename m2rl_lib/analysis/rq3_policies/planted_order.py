"""Do the instruments of RQ3 see what was planted: are experts nearer whose domains have more in common by the world's parameters?"""

import numpy as np
import pandas as pd

from m2rl_lib.analysis.rq3_weights.mask_overlap import DENSITY, NULL, judged, whole
from m2rl_lib.stats.over_seeds import t_interval
from m2rl_lib.stats.rank_correlation import FEWEST, NEGLIGIBLE, rank_correlation

VERDICTS = ("as planted", "not as planted", "undecided")


def pair_values(overlaps: pd.DataFrame, directions: pd.DataFrame, near: pd.DataFrame, relation: pd.DataFrame) -> pd.DataFrame:
    """What each instrument gives pairs of experts, from the tables of pairs and of cosines, a `neighbour_table` for each seed,
    and `planted.relation`: instrument, seed, target (the pair), relation, think, value (more: nearer; the neighbour ratio is the mean of
    both directions, its sign reversed), control (the mean of both experts' values with RL-Null)."""
    instruments = {
        "cosine": whole(directions).rename(columns={"cosine": "value"}),
        f"overlap at {DENSITY:.0%}": judged(whole(overlaps)).rename(columns={"jaccard": "value"}),
        "neighbour ratio": near.assign(model="rl-" + near["domain"], other="rl-" + near["expert"], value=-near["ratio"]),
    }
    one, other = relation["one"], relation["other"]
    asked = {"domain": "all", "target": one + " · " + other, "model": "rl-" + one, "other": "rl-" + other}
    asked, frames = pd.DataFrame(asked | {"relation": relation["relation"], "think": relation["think"]}), []
    for name, frame in instruments.items():
        turned = frame.rename(columns={"model": "other", "other": "model"})
        value = pd.concat([frame, turned]).groupby(["seed", "model", "other"])["value"].mean()
        points = asked.merge(value.reset_index())
        null = value[value.index.get_level_values("other") == NULL].droplevel("other")
        sides = [null.reindex(pd.MultiIndex.from_frame(points[["seed", side]])).to_numpy() for side in ("model", "other")]
        frames.append(points.assign(instrument=name, control=np.mean(sides, axis=0)))
    return pd.concat(frames, ignore_index=True)


def value_table(points: pd.DataFrame) -> pd.DataFrame:
    """The `pair_values` in words, a row each pair: the mean over seeds, with its t interval where there are several."""

    def words(values: pd.Series) -> str:
        mean, low, high = t_interval(values.dropna())
        return "–" if np.isnan(mean) else f"{mean:.3f}" + (f" [{low:.3f}, {high:.3f}]" if np.isfinite(low) else "")

    cells = points.groupby(["relation", "target", "instrument"])["value"].agg(words)
    wide = cells.unstack()[list(pd.unique(points["instrument"]))].sort_index(level="relation", ascending=False)
    return wide.rename(columns={"neighbour ratio": "neighbour ratio, sign reversed"})


def order_table(points: pd.DataFrame, draws: int = 10_000) -> pd.DataFrame:
    """One row per instrument: rank correlations of its values and of its control with the planted relation, and the verdict; `words_`:
    the same of the pairs that both learn to think, which differ in their words alone."""
    rows = []
    for name, part in points.groupby("instrument", sort=False):
        found, control = (rank_correlation(part, x, "relation", draws) for x in ("value", "control"))
        words = rank_correlation(part[part["think"]], "value", "relation", draws)
        row = {"instrument": name, "pairs": found["points"], **found[["seeds", "rho", "low", "high", "p"]]}
        for name, other in (("control", control), ("words", words)):
            row |= other[["rho", "low", "high"]].add_prefix(f"{name}_").to_dict()
        rows.append(row | {"verdict": _verdict(found), "words_verdict": _verdict(words)})
    return pd.DataFrame(rows)


def _verdict(found: pd.Series) -> str:
    """Of VERDICTS, what a rank correlation with the planted relation says; undecided below FEWEST pairs."""
    decided = found["points"] >= FEWEST and (found["low"] > 0 or found["high"] < NEGLIGIBLE)
    return VERDICTS[not found["low"] > 0 if decided else 2]


def order_sentence(table: pd.DataFrame) -> str:
    """An `order_table` in English."""
    named = {verdict: ", ".join(table.loc[table["verdict"] == verdict, "instrument"]) or "none" for verdict in VERDICTS}
    said = "; ".join(f"{verdict}: {names}" for verdict, names in named.items())
    return f"The instruments order the {table['pairs'].max()} pairs of experts {said}."
