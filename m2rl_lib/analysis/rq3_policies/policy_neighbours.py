"""Neighbours: which experts' policies are near on a domain, and whether adding a near one to a merge helps (RQ3).

B neighbours A where the 95% interval of D_A(A‖B) − D_A(A‖SFT) is below 0. Averaging alone halves A's task vector: merge(A, SFT)
and merge(A, RL-Null) are the controls."""

import itertools

import numpy as np
import pandas as pd

from m2rl_lib.analysis.rq3_policies.policy_kl import CELL
from m2rl_lib.config import model_names
from m2rl_lib.stats.bootstrap import interval, resample
from m2rl_lib.stats.comparisons import benjamini_hochberg, compare_alone, three_way
from m2rl_lib.stats.graded_samples import problem_means, require_columns
from m2rl_lib.stats.over_seeds import t_interval, widest

NEIGHBOUR, STRANGER, UNDECIDED = "neighbour", "not a neighbour", "undecided"
KINDS = {2: "mutual", 1: "one way", 0: "neither"}  # by how many of the two neighbour the other
PARTNERS = {"sft": "merge(A, SFT)", "null": "merge(A, RL-Null)"}  # what a pair is judged against
TABLE = ["domain", "expert", "target", "factor", "distance", "epsilon", "ratio", "difference", "low", "high", "prompts", "label"]


def neighbour_table(rows: pd.DataFrame, names: list[str], factor: float = 1.0, target: str | None = None) -> pd.DataFrame:
    """Who neighbours whom: one row for each domain A of `names` and expert B of another domain (or 'null', RL-Null, as control).
    Without `target`: distance D_A(A‖B) against epsilon = `factor` · D_A(A‖SFT); with one, D_A(B‖target) against `factor` ·
    D_A(A‖target). difference, low, high in nats a sequence: paired mean, the wider 95% t interval over prompts or seeds."""
    require_columns(rows, [*CELL, "seed", "problem_id", "kl"], "KL rows")
    if not factor > 0:
        raise ValueError(f"factor = {factor!r} of ε: a number above 0 is allowed")
    means = dict(list(rows.groupby([*CELL, "problem_id", "seed"])["kl"].mean().unstack("seed").groupby(level=CELL)))
    there, out = set(rows["source"]), []
    for domain, other in itertools.product(names, [*names, "null"]):
        own, model = f"rl-{domain}", f"rl-{other}"
        cells = [(domain, model, target), (domain, own, target)] if target else [(domain, own, model), (domain, own, "sft")]
        if domain == other or model not in there or any(cell not in means for cell in cells):
            continue
        near, limit = (means[cell].droplevel(CELL).dropna(axis=1, how="all") for cell in cells)
        seeds = near.columns.intersection(limit.columns)  # a seed lacks the merges that other seeds chose
        both = pd.concat([near[seeds], limit[seeds]], axis=1).dropna()  # the prompts that both have
        if both.empty:
            continue
        near, limit = np.split(both.to_numpy(), 2, axis=1)  # (prompts, seeds)
        gap, low, high = t_interval(widest(near - factor * limit))
        epsilon, label = factor * limit.mean(), NEIGHBOUR if high < 0 else STRANGER if low > 0 else UNDECIDED
        ratio = near.mean() / epsilon if limit.mean() > 0 else np.nan
        out.append((domain, other, target or "", factor, near.mean(), epsilon, ratio, gap, low, high, len(near), label))
    return pd.DataFrame(out, columns=TABLE)


def asymmetry(table: pd.DataFrame) -> pd.DataFrame:
    """Is neighbourhood mutual? One row for each two domains of a `neighbour_table`: both ratios, both labels, and kind."""
    place, out = table.set_index(["domain", "expert"])[["ratio", "label"]], []
    for one, other in itertools.combinations(pd.unique(table["domain"]), 2):
        (ratio, label), (back_ratio, back) = place.loc[(one, other)], place.loc[(other, one)]
        kind = UNDECIDED if UNDECIDED in (label, back) else KINDS[(label == NEIGHBOUR) + (back == NEIGHBOUR)]
        out.append((one, other, ratio, back_ratio, label, back, kind))
    ratios = ["ratio of one to other", "ratio of other to one"]
    return pd.DataFrame(out, columns=["one", "other", *ratios, "other neighbours one", "one neighbours other", "kind"])


def pair_model(names: list[str], one: str, other: str) -> str:
    """The name of the Average merge of two experts (or an expert and 'sft' or 'null'), domains in the order of `names`."""
    order = [*names, *PARTNERS]
    unknown = [name for name in (one, other) if name not in order]
    if unknown:
        raise ValueError(f"pair with {unknown[0]!r}: allowed are {', '.join(order)}")
    return model_names.model_name("merge-average", experts="+".join(sorted((one, other), key=order.index)))


def pair_tests(scores: pd.DataFrame, table: pd.DataFrame, margin: float, draws: int = 10_000) -> pd.DataFrame:
    """Does adding expert B to A's merge help on A's benchmarks? Each A, B and reference (`against`), with B's label."""
    names, frames = list(pd.unique(table["domain"])), []
    for domain, part in table[table["expert"] != "null"].groupby("domain", sort=False):
        references = {against: pair_model(names, domain, partner) for partner, against in PARTNERS.items()}
        references["expert A"] = f"rl-{domain}"
        cells = part[["domain", "expert", "label"]].merge(pd.DataFrame({"against": references.keys()}), how="cross")
        wanted = [(pair_model(names, domain, row.expert), references[row.against]) for row in cells.itertuples()]
        compared = compare_alone(scores[scores["domain"] == domain], wanted, [domain], margin, draws)
        frames.append(cells.join(compared.drop(columns="over")))
    out = pd.concat(frames, ignore_index=True)
    return out.assign(p_adjusted=benjamini_hochberg(out["p"]))


def pair_groups(scores: pd.DataFrame, tests: pd.DataFrame, margin: float, draws: int = 10_000) -> pd.DataFrame:
    """The mean of `pair_tests` over neighbours, over the others, and their difference, against each reference."""
    used = scores[scores["model"].isin({*tests["model"], *tests["reference"]})]
    sample, rows = resample(problem_means(used), draws=draws), []
    groups = {label: [label] for label in (NEIGHBOUR, STRANGER, UNDECIDED)} | {"neighbour − not": [NEIGHBOUR, STRANGER]}
    for against, part in tests.groupby("against", sort=False):
        means = {}
        for group, labels in groups.items():
            cells = part[part["label"].isin(labels)]
            if group in labels:
                values = [sample.difference(row.model, row.reference, row.domain)[1:] for row in cells.itertuples()]
                means |= {group: [np.mean(side, axis=0) for side in zip(*values)]} if values else {}
            elif means.keys() >= set(labels):
                means[group] = [near - far for near, far in zip(means[NEIGHBOUR], means[STRANGER])]
            found = interval(*means[group]) if group in means else {}
            row = {"against": against, "group": group, "pairs": len(cells)}
            row |= {key: found.get(key, np.nan) for key in ("estimate", "low", "high", "low90", "high90")}
            row["verdict"] = three_way(found, margin) if found else "none"
            row["n"] = int(sample.benchmarks.loc[sample.benchmarks["domain"].isin(cells["domain"]), "n"].sum())
            rows.append(row | {"seeds": found.get("seeds"), "scope": found.get("scope")})
    return pd.DataFrame(rows)


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
    return f"{start}: {row['verdict']}, {size}, {counted}, on {row['scope']}."
