"""The manipulation check of RQ2: do transfer and cosines between math and coding follow what their words have in common?

From the same SFT, both experts are trained again in worlds without shared and without conflicting words (`schedule.worlds`); what
must fall, rise and stay follows from the world's parameters (`planted`), before any run."""

from itertools import product

import numpy as np
import pandas as pd
from scipy import stats

from m2rl_lib.analysis.rq2_transfer import planted
from m2rl_lib.analysis.rq3_weights.mask_overlap import whole
from m2rl_lib.config.study import Parameters
from m2rl_lib.stats.comparisons import MARGIN, comparison_table
from m2rl_lib.storage import result_tables

PAIR = ("math", "coding")
OWN = "the study's"  # world, beside those of `schedule.worlds`
STAYS, FALLS, RISES = "stays a gain", planted.FALLS, planted.RISES
COSINES = ("task vectors", "gradients at SFT")
Cosines = dict[str, dict[str, tuple[float, float, float]]]  # world → name → (cosine, low, high)


def predictions(worlds: dict[str, Parameters]) -> pd.DataFrame:
    """What is predicted of each world against the study's own (among `worlds`), by `planted`: world, quantity, predicted."""
    expected = {name: planted.expected_changes(p).set_index(["trained", "tested"])["expected"] for name, p in worlds.items()}
    related = {name: planted.relation(p).set_index(["one", "other"])["relation"][PAIR] for name, p in worlds.items()}
    rows = []
    for world in [name for name in worlds if name != OWN]:
        for cell in product(PAIR, repeat=2):
            change = expected[world][cell] - expected[OWN][cell]
            rows.append((world, " → ".join(cell), STAYS if cell[0] == cell[1] else RISES if change > 0 else FALLS))
        rows += [(world, name, RISES if related[world] > related[OWN] else FALLS) for name in COSINES]
    return pd.DataFrame(rows, columns=["world", "quantity", "predicted"])


def measured_cosines(p: Parameters, half: float) -> dict[str, tuple[float, float, float]]:
    """(cosine, low, high) of math with coding in the world of `p`, as measured by notebook 09. That of task vectors is exact for
    these checkpoints: its interval is that of one run, of the half-width `spread_over_seeds`."""
    gradients = result_tables.read_table(p, "gradients", ["measuring"])
    both = [{"sft", *PAIR} == set(key) for key in zip(gradients["model"], gradients["domain"], gradients["other"])]
    task_vectors = weight_cosine(result_tables.read_table(p, "weights_cosines", ["measuring"]), "rl-math", "rl-coding")
    ends = (task_vectors, task_vectors - half, task_vectors + half)
    return dict(zip(COSINES, (ends, tuple(gradients.loc[both, ["cosine", "low", "high"]].iloc[0]))))


def spread_over_seeds(cosines: pd.DataFrame) -> float:
    """The half-width of the 95% t interval of one run's cosine of math with coding, by its spread over the study's seeds (`cosines`
    of all of them); NaN for one seed, which decides nothing."""
    found = [weight_cosine(rows, *(f"rl-{domain}" for domain in PAIR)) for _, rows in cosines.groupby("seed")]
    return float(np.std(found, ddof=1) * stats.t.ppf(0.975, len(found) - 1)) if len(found) > 1 else np.nan


def weight_cosine(cosines: pd.DataFrame, one: str, other: str) -> float:
    """The exact cosine of two models' task vectors over all weights, from `mask_overlap.cosine_table`; NaN where one is 0."""
    pairs = whole(cosines).set_index(["model", "other"])["cosine"]
    return float(pairs[pairs.index.isin([(one, other), (other, one)])].iloc[0])


def check_table(
    predicted: pd.DataFrame, scores: dict[str, pd.DataFrame], cosines: Cosines, margin: float = MARGIN, draws: int = 10_000
) -> pd.DataFrame:
    """Every quantity in every world, and what came of the `predictions`; `scores` and `cosines` by world, OWN among them:
    quantity, world, kind ('points' against SFT or 'cosine'), estimate, low, high (95%), n; of the other worlds also difference
    from OWN with its interval (Zou and Donner; 20 ± 6 and 2 ± 8 differ by −18 ± 10), predicted and outcome. A fall or rise came
    true where that interval excludes 0, a gain stayed where its own lies above 0."""
    rows = [(name, world, "cosine", *found) for world, of_world in cosines.items() for name, found in of_world.items()]
    angles = pd.DataFrame(rows, columns=["quantity", "world", "kind", "estimate", "low", "high"])
    table = pd.concat([_transfers(scores, margin, draws), angles], ignore_index=True)
    own = table[table["world"] == OWN].set_index("quantity").loc[table["quantity"]].reset_index()
    table["difference"] = table["estimate"] - own["estimate"]
    table["difference_low"] = table["difference"] - np.hypot(table["estimate"] - table["low"], own["high"] - own["estimate"])
    table["difference_high"] = table["difference"] + np.hypot(table["high"] - table["estimate"], own["estimate"] - own["low"])
    table = table.merge(predicted, on=["world", "quantity"], how="left").fillna({"predicted": ""})
    stays = table["predicted"] == STAYS
    low, high = table["low"].where(stays, table["difference_low"]), table["high"].where(stays, table["difference_high"])
    above = np.select([low > 0, high < 0], ["above", "below"], "undecided")
    wanted = table["predicted"].map({STAYS: "above", RISES: "above", FALLS: "below"})
    table["outcome"] = np.where(above == wanted, "as predicted", np.where(above == "undecided", above, "not as predicted"))
    return table.assign(outcome=table["outcome"].mask(table["predicted"] == "", ""))


def _transfers(scores: dict[str, pd.DataFrame], margin: float, draws: int) -> pd.DataFrame:
    parts = []
    for world, of_world in scores.items():
        kept = of_world[of_world["domain"].isin(PAIR)]
        found = comparison_table(kept, [(f"rl-{domain}", "sft") for domain in PAIR], list(PAIR), margin, draws)
        names = found["model"].str.removeprefix("rl-") + " → " + found["over"]
        parts.append(found[["estimate", "low", "high", "n"]].assign(quantity=names, world=world, kind="points"))
    return pd.concat(parts)


def sentence(table: pd.DataFrame) -> str:
    """How many predictions came true, from `check_table`, which did not, and what follows."""
    asked = table[table["predicted"] != ""]
    count = asked["outcome"].value_counts()
    summary = ", ".join(f"{count.get(kind, 0)} {kind}" for kind in ("as predicted", "not as predicted", "undecided"))
    others = asked[asked["outcome"] != "as predicted"]
    named = [f"{row.quantity} in {row.world} ({row.predicted}: {row.outcome})" for row in others.itertuples()]
    said = f"Manipulation check, {len(asked)} predictions: {summary}{': ' if named else ''}{'; '.join(named)}."
    if count.get("not as predicted", 0):
        return f"{said} The check failed: here, transfer and cosines cannot be read as following what the words have in common."
    if count.get("undecided", 0):
        return f"{said} Nothing moved against its prediction, but the check is not passed: what is undecided stays open."
    return f"{said} The check is passed: transfer and cosines follow what the words have in common."
