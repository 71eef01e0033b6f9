"""The manipulation check of RQ2: does transfer between math and coding vanish where coding needs no arithmetic?

SFT and the two experts are trained again in such a world (`schedule.apart`), against predictions written before any such run.
"""

import numpy as np
import pandas as pd

from m2rl_lib.analysis.rq3_weights.mask_overlap import whole
from m2rl_lib.config.study import Parameters
from m2rl_lib.stats.comparisons import MARGIN, comparison_table
from m2rl_lib.storage import result_tables

SMALL = 0.1  # a cosine inside ±this has vanished
WORLDS = ("shared", "apart")
ACROSS, OWN, COSINE = "vanishes: as SFT", "stays: a gain", f"vanishes: inside ±{SMALL}"
PREDICTED = {  # of the world apart; trained on → tested on, or the name of a cosine
    "math → coding": ACROSS,
    "coding → math": ACROSS,
    "math → math": OWN,
    "coding → coding": OWN,
    "weight shifts": COSINE,
    "gradients at SFT": COSINE,
}
Cosines = dict[str, dict[str, tuple[float, float, float]]]  # world → name → (cosine, low, high)


def predictions() -> pd.DataFrame:
    """What is predicted of the world without shared arithmetic: quantity, predicted."""
    return pd.DataFrame({"quantity": PREDICTED.keys(), "predicted": PREDICTED.values()})


def transfer_check(scores: dict[str, pd.DataFrame], margin: float, draws: int) -> pd.DataFrame:
    """The four changes against SFT in both worlds, and whether the predictions came true; `scores` by world.

    A change has vanished if its 90% interval is inside the margin, a gain has stayed if its 95% interval is above 0.
    """
    rows, domains = [], ["math", "coding"]
    for world in WORLDS:
        kept = scores[world][scores[world]["domain"].isin(domains)]
        found = comparison_table(kept, [("rl-math", "sft"), ("rl-coding", "sft")], domains, margin, draws)
        for quantity in (name for name, predicted in PREDICTED.items() if predicted != COSINE):
            trained, tested = quantity.split(" → ")
            row = found.set_index(["model", "over"]).loc[(f"rl-{trained}", tested)]
            inside = -margin < row["low90"] and row["high90"] < margin
            came = inside if PREDICTED[quantity] == ACROSS else row["verdict"] == "better"
            outcome = "undecided" if row["verdict"] == "undecided" else "as predicted" if came else "not as predicted"
            rows.append(_row(world, quantity, "points", row[["estimate", "low", "high", "verdict", "n"]].to_dict(), outcome))
    return pd.DataFrame(rows)


def _row(world: str, quantity: str, kind: str, numbers: dict, outcome: str) -> dict:
    """Predictions, and so outcomes, are of the world apart."""
    against = {"predicted": PREDICTED[quantity], "outcome": outcome} if world == "apart" else {"predicted": "", "outcome": ""}
    return {"quantity": quantity, "kind": kind, "world": world} | numbers | against


def measured_cosines(p: Parameters) -> dict[str, tuple[float, float, float]]:
    """(cosine, low, high) of math with coding in the world of `p`, as measured by notebook 09; that of task vectors is exact."""
    gradients = result_tables.read_table(p, "gradients", ["measuring"])
    both = [{"sft", "math", "coding"} == set(key) for key in zip(gradients["model"], gradients["domain"], gradients["other"])]
    task_vectors = weight_cosine(result_tables.read_table(p, "weights_cosines", ["measuring"]), "rl-math", "rl-coding")
    between = gradients.loc[both, ["cosine", "low", "high"]].iloc[0]
    return {"weight shifts": (task_vectors,) * 3, "gradients at SFT": tuple(between)}


def weight_cosine(cosines: pd.DataFrame, one: str, other: str) -> float:
    """The exact cosine of two models' task vectors over all weights, from `mask_overlap.cosine_table`; NaN where one is 0."""
    pairs = whole(cosines).set_index(["model", "other"])["cosine"]
    return float(pairs[pairs.index.isin([(one, other), (other, one)])].iloc[0])


def cosine_check(cosines: Cosines) -> pd.DataFrame:
    """The same for the cosines of math with coding: vanished inside ±SMALL, not outside it, else (or refused) undecided."""
    rows = []
    for world in WORLDS:
        for name, (estimate, low, high) in cosines[world].items():
            inside, outside = low > -SMALL and high < SMALL, low > SMALL or high < -SMALL
            outcome = "as predicted" if inside else "not as predicted" if outside else "undecided"
            numbers = {"estimate": estimate, "low": low, "high": high, "verdict": ""}
            rows.append(_row(world, name, "cosine", numbers, outcome))
    return pd.DataFrame(rows)


def check_table(scores: dict[str, pd.DataFrame], cosines: Cosines, margin: float = MARGIN, draws: int = 10_000) -> pd.DataFrame:
    """`transfer_check` and `cosine_check` in one frame, with `reach`: how far from 0 was predicted at most (NaN: a gain was).

    In rows of the world apart also fall, fall_low, fall_high: the shared world's estimate less this one's, two independent
    intervals (Zou and Donner): 20 ± 6 and 2 ± 8 fall by 18 ± 10.
    """
    table = pd.concat([transfer_check(scores, margin, draws), cosine_check(cosines)], ignore_index=True)
    table["reach"] = table["quantity"].map(PREDICTED).map({ACROSS: margin, COSINE: SMALL})
    shared, apart = (table[table["world"] == world].set_index("quantity") for world in WORLDS)
    falls = pd.DataFrame({"fall": shared["estimate"] - apart["estimate"]}).assign(world="apart")
    falls["fall_low"] = falls["fall"] - np.hypot(shared["estimate"] - shared["low"], apart["high"] - apart["estimate"])
    falls["fall_high"] = falls["fall"] + np.hypot(shared["high"] - shared["estimate"], apart["estimate"] - apart["low"])
    return table.merge(falls.reset_index(), on=["quantity", "world"], how="left")


def sentence(table: pd.DataFrame) -> str:
    """What the check says, from `check_table`: how many predictions came true, then each quantity in both worlds."""
    shared, apart = (table[table["world"] == world] for world in WORLDS)
    spans, count = [], apart["outcome"].value_counts()
    for before, after in zip(shared.itertuples(), apart.itertuples(), strict=True):
        fell = f", fell by {after.fall:.1f} [{after.fall_low:.1f}, {after.fall_high:.1f}]" if after.predicted == ACROSS else ""
        spans.append(f"{after.quantity} {_span(before)} shared, {_span(after)} apart ({after.outcome}{fell})")
    summary = ", ".join(f"{count.get(kind, 0)} {kind}" for kind in ("as predicted", "not as predicted", "undecided"))
    return f"Manipulation check, {len(apart)} predictions: {summary}. " + "; ".join(spans) + "."


def _span(row) -> str:
    if not np.isfinite(row.estimate):
        return "refused"
    form = "{:+.1f}" if row.kind == "points" else "{:+.2f}"
    return form.format(row.estimate) + (f" [{form.format(row.low)}, {form.format(row.high)}]" if row.high > row.low else "")
