"""Neighbours: which experts' policies are near on a domain, and whether adding a near one to a merge helps (RQ3).

B neighbours A where the 95% interval of D_A(A‖B) − ε_A is below 0, ε_A = D_A(A‖SFT); the paper's rule, D_A(B‖target) against
D_A(A‖target), is beside it. A pair is judged against merge(A, SFT) and merge(A, RL-Null), since averaging alone halves A's
task vector, and against expert A, the paper's reference.
"""

import itertools

import numpy as np
import pandas as pd
from scipy import stats

from m2rl_lib.analysis.rq3_policies.policy_kl import CELL
from m2rl_lib.config import model_names
from m2rl_lib.stats.bootstrap import interval, problem_means, require_columns, resample
from m2rl_lib.stats.comparisons import benjamini_hochberg, comparison_table, three_way

NEIGHBOUR, STRANGER, UNDECIDED = "neighbour", "not a neighbour", "undecided"
KINDS = {2: "mutual", 1: "one way", 0: "neither"}  # by how many of the two neighbour the other
PARTNERS = {"sft": "merge(A, SFT)", "null": "merge(A, RL-Null)"}  # what a pair is judged against
TABLE = ["domain", "expert", "target", "factor", "distance", "epsilon", "ratio", "difference", "low", "high", "prompts", "label"]
SIDES = ("low", "high", "low90", "high90")


def neighbour_table(rows: pd.DataFrame, names: list[str], factor: float = 1.0, target: str | None = None) -> pd.DataFrame:
    """Who neighbours whom: one row for each domain A of `names` and expert B of another domain (or 'null', RL-Null, as control).

    Without `target`: distance D_A(A‖B) against epsilon = `factor` · D_A(A‖SFT); with one, the paper's: D_A(B‖target) against
    `factor` · D_A(A‖target). difference, low, high in nats a sequence, a 95% t interval over prompts, paired.
    """
    require_columns(rows, [*CELL, "problem_id", "kl"], "KL rows")
    if not factor > 0:
        raise ValueError(f"factor = {factor!r} of ε: a number above 0 is allowed")
    means = dict(list(rows.groupby([*CELL, "problem_id"])["kl"].mean().groupby(level=[0, 1, 2])))
    there = set(rows["source"])
    out = []
    for domain in names:
        for other in [name for name in [*names, "null"] if name != domain]:
            own, model = f"rl-{domain}", f"rl-{other}"
            cells = [(domain, own, model), (domain, own, "sft")]
            if target is not None:
                cells = [(domain, model, target), (domain, own, target)]
            if model not in there or any(cell not in means for cell in cells):
                continue
            near, limit = pd.concat([means[cell].droplevel([0, 1, 2]) for cell in cells], axis=1, join="inner").to_numpy().T
            gap = near - factor * limit  # on the prompts that both have
            half = gap.std(ddof=1) / np.sqrt(len(gap)) * stats.t.ppf(0.975, len(gap) - 1) if len(gap) > 1 else np.nan
            low, high = gap.mean() - half, gap.mean() + half
            epsilon, label = factor * limit.mean(), NEIGHBOUR if high < 0 else STRANGER if low > 0 else UNDECIDED
            ratio = near.mean() / epsilon if limit.mean() > 0 else np.nan
            numbers = (near.mean(), epsilon, ratio, gap.mean(), low, high, len(gap))
            out.append((domain, other, target or "", factor, *numbers, label))
    return pd.DataFrame(out, columns=TABLE)


def asymmetry(table: pd.DataFrame) -> pd.DataFrame:
    """Is neighbourhood mutual? One row for each two domains of a `neighbour_table`: both ratios, both labels, and kind."""
    place = table.set_index(["domain", "expert"])
    out = []
    for one, other in itertools.combinations(pd.unique(table["domain"]), 2):
        there, back = place.loc[(one, other)], place.loc[(other, one)]
        kind = KINDS.get((there["label"] == NEIGHBOUR) + (back["label"] == NEIGHBOUR))
        if UNDECIDED in (there["label"], back["label"]):
            kind = UNDECIDED
        out.append((one, other, there["ratio"], back["ratio"], there["label"], back["label"], kind))
    ratios = ["ratio of one to other", "ratio of other to one"]
    return pd.DataFrame(out, columns=["one", "other", *ratios, "other neighbours one", "one neighbours other", "kind"])


# --- what a neighbour is worth: pairs ------------------------------------------------------------------------


def pair_model(names: list[str], one: str, other: str) -> str:
    """The name of the Average merge of two experts (or an expert and 'sft' or 'null'), domains in the order of `names`.

    >>> pair_model(["math", "coding"], "coding", "math"), pair_model(["math", "coding"], "sft", "math")
    ('merge-average@experts=math+coding', 'merge-average@experts=math+sft')
    """
    order = {name: place for place, name in enumerate([*names, *PARTNERS])}
    unknown = [name for name in (one, other) if name not in order]
    if unknown:
        raise ValueError(f"pair with {unknown[0]!r}: allowed are {', '.join(order)}")
    return model_names.model_name("merge-average", experts="+".join(sorted((one, other), key=order.get)))


def pair_tests(scores: pd.DataFrame, table: pd.DataFrame, margin: float, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """Does adding expert B to A's merge help on A's benchmarks? One row a domain A, expert B and reference (`against`).

    Columns of `comparison_table` with domain, expert, label (of `table`, a `neighbour_table`), against, and p_adjusted
    (Benjamini–Hochberg over all rows).
    """
    names, frames = list(pd.unique(table["domain"])), []
    for domain, part in table[table["expert"] != "null"].groupby("domain", sort=False):
        references = {against: pair_model(names, domain, partner) for partner, against in PARTNERS.items()}
        references["expert A"] = f"rl-{domain}"
        asked = [(row.expert, row.label, against) for row in part.itertuples() for against in references]
        cells = pd.DataFrame(asked, columns=["expert", "label", "against"]).assign(domain=domain)
        wanted = [(pair_model(names, domain, expert), references[against]) for expert, _, against in asked]
        some = scores[(scores["domain"] == domain) & scores["model"].isin([name for pair in wanted for name in pair])]
        compared = comparison_table(some, wanted, [domain], margin, draws, seed)
        frames.append(cells[["domain", "expert", "label", "against"]].join(compared.drop(columns="over")))
    out = pd.concat(frames, ignore_index=True)
    return out.assign(p_adjusted=benjamini_hochberg(out["p"]))


def pair_groups(scores: pd.DataFrame, tests: pd.DataFrame, margin: float, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """The mean of `pair_tests` over neighbours, over the others, and their difference, against each reference.

    All pairs of a group share their bootstrap resamples of problems; verdict 'none' without pairs; n counts problems.
    """
    used = scores[scores["model"].isin({*tests["model"], *tests["reference"]})]
    sample, rows = resample(problem_means(used), draws=draws, seed=seed), []
    for against, part in tests.groupby("against", sort=False):
        sides = {}
        for group in (NEIGHBOUR, STRANGER, UNDECIDED):
            cells = part[part["label"] == group]
            values = [_difference(sample, row.model, row.reference, row.domain) for row in cells.itertuples()]
            if values:
                sides[group] = tuple(np.mean([value[side] for value in values], axis=0) for side in (0, 1))
            rows.append(_group_row(sample, against, group, cells, sides.get(group), margin, seed))
        both, apart = part[part["label"].isin([NEIGHBOUR, STRANGER])], None
        if NEIGHBOUR in sides and STRANGER in sides:
            apart = tuple(a - b for a, b in zip(sides[NEIGHBOUR], sides[STRANGER]))
        rows.append(_group_row(sample, against, "neighbour − not", both, apart, margin, seed))
    return pd.DataFrame(rows)


def _difference(sample, model: str, reference: str, domain: str) -> tuple[np.ndarray, np.ndarray]:
    """Per-seed points and bootstrap resamples of model − reference on a domain."""
    seeds, weights = sorted(set(sample.seeds(model)) & set(sample.seeds(reference))), sample.weights(domain)
    (a, a_draws, a_reason), (b, b_draws, b_reason) = (sample.values(name, seeds, weights) for name in (model, reference))
    if a_reason or b_reason:
        raise ValueError(f"cannot compare {model} with {reference}: {a_reason or b_reason}")
    return a - b, a_draws - b_draws


def _group_row(sample, against: str, group: str, cells: pd.DataFrame, values, margin: float, seed: int) -> dict:
    found = interval(*values, seed) if values else dict.fromkeys(["estimate", *SIDES], np.nan)
    inside = sample.benchmarks["domain"].isin(set(cells["domain"]))
    row = {"against": against, "group": group, "pairs": len(cells)} | {key: found[key] for key in ("estimate", *SIDES)}
    verdict = three_way(*(found[key] for key in SIDES), margin) if values else "none"
    n = int(sample.benchmarks.loc[inside, "n"].sum())
    return row | {"verdict": verdict, "n": n, "seeds": found.get("seeds"), "scope": found.get("scope")}


def group_sentence(row: pd.Series, margin: float) -> str:
    """A row of `pair_groups` in English, whatever its verdict."""
    names = {NEIGHBOUR: "Merges with neighbours", STRANGER: "Merges with experts that are not neighbours"}
    names |= {UNDECIDED: "Merges with experts of undecided label", "neighbour − not": "Neighbours against the others, both"}
    start = f"{names[row['group']]} against {row['against']}"
    if row["verdict"] == "none":
        return f"{start}: no verdict, there are none to compare."
    size = f"{row['estimate']:+.1f} points [{row['low']:.1f}, {row['high']:.1f}]"
    if row["verdict"] == "equivalent":
        size = f"{row['estimate']:+.1f} points [{row['low90']:.1f}, {row['high90']:.1f}] (90%, inside ±{margin:g})"
    counted = f"{row['pairs']} ordered pairs, n = {row['n']} problems"
    return f"{start}: {row['verdict']}, {size}, {counted}, speaks of {row['scope']}."
