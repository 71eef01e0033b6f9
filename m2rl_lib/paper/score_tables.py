"""What a table of scores alone can say of the paper's findings: the same frames from a study's scores and from anyone's."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from m2rl_lib.analysis.rq2_transfer import transfer_matrix
from m2rl_lib.analysis.rq4_methods import seesaw, sweeps
from m2rl_lib.stats.averages import average_table, choose_on_selection
from m2rl_lib.stats.bootstrap import OVERALL
from m2rl_lib.stats.comparisons import BEST_MERGE, MARGIN, comparison_table, display_name
from m2rl_lib.stats.graded_samples import UNTRAINED, models_in, rows_of

NULL_DRAWS = 2_000  # draws of the seesaw's null at most
ANY = ["any merge-<method>"]  # what is named as lacking where there is no merge
NAMES = ("contest", "transfer", "rq2", "seesaw", "leader", "rivals")
Tables = dict[str, pd.DataFrame | str]


def choose_by_halves(scores: pd.DataFrame, candidates: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """The rows of the best of `candidates` as BEST_MERGE, chosen for each half of the problems on the other, and both choices."""
    generator = np.random.default_rng(0)
    problems = scores[["benchmark", "problem_id"]].drop_duplicates().sort_values(["benchmark", "problem_id"])
    problems["half"] = problems.groupby("benchmark")["problem_id"].transform(lambda part: generator.permutation(len(part)) % 2)
    some = scores[scores["model"].isin(candidates)].merge(problems, on=["benchmark", "problem_id"])
    parts, chosen = [], []
    for half in (0, 1):
        others, here = some[some["half"] != half], some[some["half"] == half]
        chosen.append(choose_on_selection(others.assign(split="selection"), candidates) if len(others) else candidates[0])
        parts.append(here[here["model"] == chosen[-1]].assign(model=BEST_MERGE))
    return pd.concat(parts, ignore_index=True).drop(columns="half"), chosen


def make_score_tables(
    test: pd.DataFrame,
    selection: pd.DataFrame | None = None,
    margin: float = MARGIN,
    draws: int = 10_000,
    planted: pd.DataFrame | None = None,
    names: Sequence[str] = NAMES,
) -> Tables:
    """The frames `names` that `estimates` reads of scores (one split each), or in a frame's place why it cannot be made."""
    merges = [name for name, _, variant in sweeps.merges(test["model"].unique()) if not variant]
    methods = [*merges, *(["mt-opd"] if "mt-opd" in models_in(test) else [])]
    how = {"margin": margin, "draws": draws}
    makers = {
        ("contest",): lambda: [make_contest(test, selection, merges, how)],
        ("seesaw",): lambda: [seesaw.compare_with_null(rows_of(test, methods or ANY), methods, min(draws, NULL_DRAWS))],
        ("leader",): lambda: [_leader(rows_of(test, methods or ANY), methods, how)],
        ("rivals",): lambda: [_rivals(test, methods, how)],
        ("transfer", "rq2"): lambda: _transfer(test, planted, how),
    }
    made = {}
    for some, make in makers.items():
        if set(some) & set(names):
            try:
                made |= zip(some, make())
            except ValueError as why:
                made |= dict.fromkeys(some, str(why))
    return made


def make_contest(test: pd.DataFrame, selection: pd.DataFrame | None, merges: list[str], how: dict) -> pd.DataFrame:
    """RL-Multi − the best of `merges`, mean over domains: a row of `comparison_table`, and how the merge was `chosen`."""
    some = rows_of(test, ["rl-multi", *(merges or ANY)])
    if selection is None or not set(merges) <= models_in(selection):
        rows, chosen = choose_by_halves(some, merges)
        some, best, where = pd.concat([some, rows], ignore_index=True), BEST_MERGE, "by halves of the problems"
    else:
        best = choose_on_selection(selection[selection["model"].isin(merges)], merges)
        chosen, where = [best], "on selection data"
    names = " and ".join(display_name(name).replace(" merge", "") for name in dict.fromkeys(chosen))
    # without the other merges, whose ungraded problems are not this contest's
    table = comparison_table(rows_of(some, ["rl-multi", best]), [("rl-multi", best)], [OVERALL], **how)
    return table.assign(chosen=f"{names}, chosen {where}")


def _leader(scores: pd.DataFrame, methods: list[str], how: dict) -> pd.DataFrame:
    scores = scores[~scores["domain"].isin(UNTRAINED)]
    leader = average_table(scores, draws=1).query("domain == @OVERALL").set_index("model")["score"].idxmax()
    pairs = [(leader, other) for other in methods if other != leader]
    return comparison_table(scores, pairs, list(pd.unique(scores["benchmark"])), **how)


def _rivals(test: pd.DataFrame, methods: list[str], how: dict) -> pd.DataFrame:
    others = [name for name in methods if name != "merge-ties"]
    if not others:
        raise ValueError("no scores of another merging method")
    return comparison_table(rows_of(test, ["merge-ties", *others]), [("merge-ties", other) for other in others], [OVERALL], **how)


def _transfer(test: pd.DataFrame, planted: pd.DataFrame | None, how: dict) -> tuple[pd.DataFrame, pd.DataFrame]:
    models = models_in(test)
    domains = [domain for domain in pd.unique(test["domain"]) if domain not in UNTRAINED and f"rl-{domain}" in models]
    if len(domains) < 2:
        raise ValueError("no scores of experts (rl-<domain>) of two of the table's domains")
    some = rows_of(test, ["sft", *(f"rl-{domain}" for domain in domains)])
    for name in ("sft-sharpened", "rl-null"):  # which `transfer_table` needs; they are not read here, so SFT may stand in
        some = pd.concat([some, test[test["model"] == (name if name in models else "sft")].assign(model=name)])
    table = transfer_matrix.transfer_table(some, domains, pass_k=1, planted=planted, **how)
    parts = transfer_matrix.claimed_changes(some, table, domains, **how)
    return table, parts if "sft-sharpened" in models else parts.assign(called="")
