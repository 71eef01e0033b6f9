"""The findings of the paper (arXiv 2602.12566), one per row of `claims.csv`, and the study's tables from which they are judged.
There `published` and `measure` name functions of `published_evidence` and `estimates`, `given` holds arguments of theirs."""

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from m2rl_lib.analysis.rq2_transfer import planted
from m2rl_lib.config.study import Parameters
from m2rl_lib.paper import claim_ledger, estimates, published_evidence, score_tables
from m2rl_lib.paper.claim_ledger import Claim
from m2rl_lib.stats.rank_correlation import NEGLIGIBLE
from m2rl_lib.storage import result_tables

SCORE_GROUPS = ("sft", "experts", "floors", "mixed", "merges", "distilled")  # the groups whose scores are read
READS = {  # the tables of each question's entries: those made of scores, and those that stages and notebooks wrote
    "RQ1": (("contest",), ("costs",)),
    "RQ2": (("transfer", "rq2"), ()),
    "RQ3": ((), ("rank_correlations", "predictors", "neighbour_groups", "neighbour_tests", "weights_pairs", "weights_cosines")),
    "RQ4": (("seesaw", "leader", "rivals"), ("skills", "coverage")),
    "RQ5": ((), ("rq5",)),
}
OF_STAGES = ("costs", "weights_pairs", "weights_cosines")  # written once a seed; the others by a notebook, of all seeds


def entries(p: Parameters, question: str | None = None, tables: dict | None = None) -> pd.DataFrame:
    """The study's ledger, of one question ('RQ4') or whole, over all seeds; `tables`: `study_tables` where made already."""
    tables = study_tables(p, question) if tables is None else tables
    return claim_ledger.ledger(list_claims(p.analysis_margin), tables, question)


def study_tables(p: Parameters, question: str | None = None) -> dict[str, pd.DataFrame | str]:
    """The tables of READS, or in a table's place the line that says why it is not there."""
    asked = [READS[question]] if question else list(READS.values())
    of_scores, written = ([name for one in asked for name in one[kind]] for kind in (0, 1))
    found = {name: _read(p, name) for name in written}
    if of_scores:
        scores = read_scores(p)
        test, selection = (scores[scores["split"] == split] for split in ("test", "selection"))
        # notebooks that show no transfer do not declare the world
        known = planted.expected_changes(p) if "transfer" in of_scores else None
        found |= score_tables.make_score_tables(test, selection, p.analysis_margin, p.analysis_draws, known, of_scores)
    return found


def read_scores(p: Parameters) -> pd.DataFrame:
    """The study's scores of SCORE_GROUPS, of every seed and group that is there; FileNotFoundError where there is none."""
    parts = []
    for one in _seeds(p, "scores"):
        groups = [group for group in SCORE_GROUPS if result_tables.table_file(one, "scores", group).is_file()]
        parts += [result_tables.read_table(one, "scores", groups)] if groups else []
    return pd.concat(parts, ignore_index=True) if parts else result_tables.read_table(p, "scores", list(SCORE_GROUPS))


def seeds_of_scores(p: Parameters) -> list[int]:
    """The seeds that have scores."""
    return [one.seed for one in _seeds(p, "scores")]


def _read(p: Parameters, name: str) -> pd.DataFrame | str:
    """A written table of all seeds, or why it is missing."""
    try:
        if name in OF_STAGES:
            return pd.concat([result_tables.read_table(one, name) for one in _seeds(p, name) or [p]], ignore_index=True)
        return result_tables.read_table(p, name)
    except FileNotFoundError:
        return f"stage missing: the study has no result table {name}"


def _seeds(p: Parameters, table: str) -> list[Parameters]:
    """The parameters with each seed of which there is a part of a table."""
    files = result_tables.table_file(p, table, "any").parent.glob("*-*.parquet")
    return [p.model_copy(update={"seed": seed}) for seed in sorted({int(file.stem.split("-")[0]) for file in files})]


def list_claims(margin: float) -> list[Claim]:
    """Every finding, primary claims first in their question. `margin`: points, the δ of 'matches', 'close' and 'helps'."""
    table = pd.read_csv(Path(__file__).with_name("claims.csv"), dtype=str, keep_default_na=False)
    bounds = {"margin": margin, "-margin": -margin, "negligible": NEGLIGIBLE, "-negligible": -NEGLIGIBLE}
    claims = []
    for _, row in table.iterrows():
        region = {side: bounds.get(row[side]) or float(row[side]) for side in ("above", "below") if row[side]}
        known = {"margin": margin, **dict(pair.split("=") for pair in row["given"].split(";") if pair)}
        measure = _given(getattr(estimates, row["measure"]), known)
        published = row["published"]
        evidence = _given(getattr(published_evidence, published), known)() if published else published_evidence.UNREAD
        words = row[["question", "claim", "quantity", "unit", "rule"]]
        kind = {"primary": row["role"] == "primary"} | {name: row["test"] == name for name in ("equivalence", "joint")}
        claims.append(Claim(**words, published=evidence, measure=measure, **region, **kind))
    return claims


def _given(function: Callable, known: dict) -> Callable:
    """The function with those of the `known` arguments that it takes."""
    names = inspect.signature(function).parameters
    return partial(function, **{name: value for name, value in known.items() if name in names})
