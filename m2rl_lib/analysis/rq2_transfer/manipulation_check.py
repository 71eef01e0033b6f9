"""The manipulation check of RQ2: does transfer between math and coding vanish when what they share is taken away?

SFT and these two experts are trained again where coding needs no arithmetic (`schedule.apart`), against predictions written
before any such run.
"""

import numpy as np
import pandas as pd

from m2rl_lib.config.study import Parameters
from m2rl_lib.stats.comparisons import MARGIN, comparison_table
from m2rl_lib.storage import result_tables

SMALL = 0.1  # a cosine inside ±this has vanished
WORLDS = ("shared", "apart")
ACROSS, OWN, COSINE = "vanishes: as SFT", "stays: a gain", f"vanishes: inside ±{SMALL}"
PREDICTED = {  # of the world apart; (trained on, tested on) or the name of a cosine
    ("math", "coding"): ACROSS,
    ("coding", "math"): ACROSS,
    ("math", "math"): OWN,
    ("coding", "coding"): OWN,
    "weight shifts": COSINE,
    "gradients at SFT": COSINE,
}
PREDICTED_POINTS = [quantity for quantity in PREDICTED if not isinstance(quantity, str)]
Cosines = dict[str, dict[str, tuple[float, float, float]]]  # world → name → (cosine, low, high)


def name_of(quantity: tuple[str, str] | str) -> str:
    """('math', 'coding') → 'math → coding'; a cosine's name as it is."""
    return quantity if isinstance(quantity, str) else " → ".join(quantity)


def predictions() -> pd.DataFrame:
    """What is predicted of the world without shared arithmetic: quantity, predicted."""
    return pd.DataFrame({"quantity": map(name_of, PREDICTED), "predicted": PREDICTED.values()})


def transfer_check(scores: dict[str, pd.DataFrame], margin: float = MARGIN, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """The four changes against SFT in both worlds, and whether the predictions came true; `scores` by world.

    A change has vanished if its 90% interval is inside the margin, a gain has stayed if its 95% interval is above 0.
    """
    rows = []
    for world in WORLDS:
        kept = scores[world][scores[world]["domain"].isin(["math", "coding"])]
        contests = [("rl-math", "sft"), ("rl-coding", "sft")]
        found = comparison_table(kept, contests, ["math", "coding"], margin, draws, seed).set_index(["model", "over"])
        for trained, tested in PREDICTED_POINTS:
            row, predicted = found.loc[(f"rl-{trained}", tested)], PREDICTED[trained, tested]
            start = {"quantity": name_of((trained, tested)), "kind": "points", "world": world}
            numbers = row[["estimate", "low", "high", "verdict", "n"]].to_dict()
            rows.append(start | numbers | _held(world, predicted, _outcome(row, predicted, margin)))
    return pd.DataFrame(rows)


def _held(world: str, predicted: str, outcome: str) -> dict[str, str]:
    """Predictions are of the world apart: 'as predicted', 'not as predicted' or 'undecided'."""
    return {"predicted": predicted, "outcome": outcome} if world == "apart" else {"predicted": "", "outcome": ""}


def _outcome(row: pd.Series, predicted: str, margin: float) -> str:
    if row["verdict"] == "undecided":
        return "undecided"
    inside = -margin < row["low90"] and row["high90"] < margin
    return "as predicted" if (inside if predicted == ACROSS else row["verdict"] == "better") else "not as predicted"


def measured_cosines(p: Parameters) -> dict[str, tuple[float, float, float]]:
    """(cosine, low, high) of math with coding in the world of `p`, as measured by notebook 09; that of task vectors is exact."""
    gradients = result_tables.read_table(p, "gradients", ["measuring"]).query("model == 'sft'")
    between = gradients[[{a, b} == {"math", "coding"} for a, b in zip(gradients["domain"], gradients["other"])]].iloc[0]
    task_vectors = weight_cosine(result_tables.read_table(p, "weights_cosines", ["measuring"]), "rl-math", "rl-coding")
    return {"weight shifts": (task_vectors,) * 3, "gradients at SFT": tuple(between[["cosine", "low", "high"]])}


def weight_cosine(cosines: pd.DataFrame, one: str, other: str) -> float:
    """The exact cosine of two models' task vectors over all weights, from `mask_overlap.cosine_table`; NaN where one is 0."""
    whole = cosines[(cosines["type"] == "all") & cosines["layer"].isna()]
    return float(whole.loc[[{a, b} == {one, other} for a, b in zip(whole["model"], whole["other"])], "cosine"].iloc[0])


def cosine_check(cosines: Cosines) -> pd.DataFrame:
    """The same for the cosines of math with coding: vanished inside ±SMALL, not outside it, else (or where refused) undecided."""
    rows = []
    for world in WORLDS:
        for name, (estimate, low, high) in cosines[world].items():
            inside, outside = low > -SMALL and high < SMALL, low > SMALL or high < -SMALL
            outcome = "as predicted" if inside else "not as predicted" if outside else "undecided"
            row = {"quantity": name, "kind": "cosine", "world": world, "estimate": estimate, "low": low, "high": high}
            rows.append(row | {"verdict": ""} | _held(world, PREDICTED[name], outcome))
    return pd.DataFrame(rows)


def check_table(
    scores: dict[str, pd.DataFrame],
    cosines: Cosines,
    margin: float = MARGIN,
    draws: int = 10_000,
) -> pd.DataFrame:
    """`transfer_check` and `cosine_check` in one frame, with `reach`: how far from 0 was predicted at most (NaN: a gain was).

    In rows of the world apart also fall, fall_low, fall_high: the shared world's estimate less this one's, two independent
    intervals (Zou and Donner): 20 ± 6 and 2 ± 8 fall by 18 ± 10.
    """
    table = pd.concat([transfer_check(scores, margin, draws), cosine_check(cosines)], ignore_index=True)
    reach = predictions().set_index("quantity")["predicted"].map({ACROSS: margin, COSINE: SMALL})
    table = table.assign(reach=table["quantity"].map(reach))
    shared, apart = (table[table["world"] == world].set_index("quantity") for world in WORLDS)
    fall = shared["estimate"] - apart["estimate"]
    fall_low = fall - np.hypot(shared["estimate"] - shared["low"], apart["high"] - apart["estimate"])
    fall_high = fall + np.hypot(shared["high"] - shared["estimate"], apart["estimate"] - apart["low"])
    falls = pd.DataFrame({"fall": fall, "fall_low": fall_low, "fall_high": fall_high}).reset_index().assign(world="apart")
    return table.merge(falls, on=["quantity", "world"], how="left")


def sentence(table: pd.DataFrame) -> str:
    """What the check says, from `check_table`: how many predictions came true, then each quantity in both worlds."""
    worlds = {world: table[table["world"] == world] for world in WORLDS}
    spans, count = [], worlds["apart"]["outcome"].value_counts()
    for before, after in zip(worlds["shared"].itertuples(), worlds["apart"].itertuples(), strict=True):
        spans.append(f"{after.quantity} {_span(before)} shared, {_span(after)} apart ({after.outcome}{_fell(after)})")
    summary = ", ".join(f"{count.get(kind, 0)} {kind}" for kind in ("as predicted", "not as predicted", "undecided"))
    return f"Manipulation check, {len(worlds['apart'])} predictions: {summary}. " + "; ".join(spans) + "."


def _fell(row) -> str:
    fell = f", fell by {row.fall:.1f} [{row.fall_low:.1f}, {row.fall_high:.1f}]"
    return fell if row.kind == "points" and row.predicted == ACROSS else ""


def _span(row) -> str:
    if not np.isfinite(row.estimate):
        return "refused"
    form = "{:+.1f}" if row.kind == "points" else "{:+.2f}"
    return form.format(row.estimate) + (f" [{form.format(row.low)}, {form.format(row.high)}]" if row.high > row.low else "")
