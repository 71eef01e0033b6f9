"""Sweeps: what λ, density, the length of the task vector, the definition and the list of experts do to a merging method."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from m2rl_lib.config import model_names, schedule
from m2rl_lib.config.study import Parameters
from m2rl_lib.stats.averages import average_table, choose_on_selection
from m2rl_lib.stats.bootstrap import OVERALL
from m2rl_lib.stats.comparisons import compare_alone, display_name
from m2rl_lib.stats.graded_samples import models_in


def settings(models: list[str], p: Parameters) -> pd.DataFrame:
    """What the merges that vary in λ and density alone were made with (density is NaN where the method has none)."""
    kept = dict.fromkeys(("merge-ties-dare", "merge-task-arithmetic-dare"), p.merge_dare_density)
    kept |= {"merge-ties": p.merge_ties_density, "merge-sce": p.merge_sce_topk}
    rows = []
    for name, method, variant in merges(models):
        if not set(variant) - {"lambda", "density"}:
            usual = p.merge_lambda if method.removeprefix("merge-") in schedule.WITH_LAMBDA else 1.0
            density = variant.get("density", kept.get(method, np.nan))
            rows.append((name, method, float(variant.get("lambda", usual)), float(density)))
    return pd.DataFrame(rows, columns=["model", "method", "lambda", "density"])


def merges(models: Iterable[str]) -> list[tuple[str, str, dict[str, str]]]:
    """(name, method, variant) of each merge among the models, each named once."""
    parsed = [(name, *model_names.parse_model_name(name)) for name in models]
    return [merge for merge in parsed if merge[1].startswith("merge-")]


def sweep_table(scores: pd.DataFrame, p: Parameters, draws: int = 10_000) -> pd.DataFrame:
    """Every swept merge with its `settings` and its mean over domains; `best` marks each method's best score."""
    grid = settings(scores["model"].unique(), p)
    if grid.empty:
        raise ValueError(f"no merges among the models {', '.join(sorted(models_in(scores)))}")
    means = average_table(scores[scores["model"].isin(grid["model"])], draws=draws).query("domain == @OVERALL")
    table = grid.merge(means[["model", "score", "low", "high", "n", "seeds"]], on="model")
    best = table.groupby("method")["score"].transform(lambda score: score.index == score.round(9).idxmax())
    return table.assign(best=best.astype(bool)).sort_values(["method", "density", "lambda"], ignore_index=True)


def tuned_table(selection: pd.DataFrame, test: pd.DataFrame, p: Parameters, margin: float, draws: int = 10_000) -> pd.DataFrame:
    """Each method at its own best setting on selection problems (by seed): its scores, and difference from the published one."""
    rows, tuned = [], {}
    for method, models in settings(selection["model"].unique(), p).groupby("method", sort=False)["model"]:
        best = {}
        for number, part in test[test["model"].isin(models)].groupby("seed"):
            there = list(models[models.isin(models_in(part))])
            if method not in there:
                raise ValueError(f"no test scores of {method}: there are {', '.join(there)} of its settings")
            best[number] = choose_on_selection(selection[selection["seed"] == number], there)
        if not best:
            raise ValueError(f"no test scores of {method}: there are none of its settings")
        tuned |= {(number, name): model_names.model_name(method, setting="tuned") for number, name in best.items()}
        names = list(dict.fromkeys(best.values()))
        shown = names[0] if len(names) == 1 else "; ".join(f"{name} (seed {number})" for number, name in best.items())
        rows.append({"method": method, "model": shown, "tried": len(models)})
    table = pd.DataFrame(rows)
    pairs = [(model_names.model_name(method, setting="tuned"), method) for method in table["method"]]
    for column, scores in (("selection", selection), ("score", test)):
        means = average_table(_renamed(scores, tuned), draws=1).query("domain == @OVERALL").set_index("model")["score"]
        table[column] = [means[name] for name, _ in pairs]
    moved = [pair for pair, model in zip(pairs, table["model"]) if model != pair[1]]
    blank = {"estimate": 0.0, "low": 0.0, "high": 0.0, "verdict": ""}
    if not moved:
        return table.assign(**blank, n=0, seeds=test["seed"].nunique())
    some = pd.concat([_renamed(test, tuned), test[test["model"].isin(table["method"])]])
    compared = compare_alone(some, moved, [OVERALL], margin, draws).rename(columns={"reference": "method"})
    table = table.merge(compared[["method", *blank, "n", "seeds"]], on="method", how="left")
    return table.fillna({**blank, **compared[["n", "seeds"]].iloc[0]}).astype({"n": int, "seeds": int})


def setting_words(models: str) -> str:
    """The `model` of a `tuned_table` for a reader: 'published', 'λ 0.5, density 0.2', 'λ 0.5 (4 of 6 seeds), published (2 of …)'."""
    names = [part.partition(" (seed ")[0] for part in models.split("; ")]
    counts, said = pd.Series(names).value_counts(), []
    for name, count in counts.items():
        variant = model_names.parse_model_name(name)[1]
        words = ", ".join(f"{key.replace('lambda', 'λ')} {value}" for key, value in variant.items()) or "published"
        said.append(words + (f" ({count} of {len(names)} seeds)" if len(counts) > 1 else ""))
    return ", ".join(said)


def _renamed(scores: pd.DataFrame, names: dict[tuple[int, str], str]) -> pd.DataFrame:
    """The rows of the (seed, model) pairs in `names`, with the model's name given there."""
    keys = pd.Series(list(zip(scores["seed"], scores["model"])), index=scores.index).map(names)
    return scores.assign(model=keys)[keys.notna()]


def compare_variants(scores: pd.DataFrame, key: str, margin: float, draws: int = 10_000) -> pd.DataFrame:
    """Merges that vary in `key` alone ('definition', 'norm' or 'step') against the same method without it, on the mean."""
    pairs = [(name, method) for name, method, variant in merges(scores["model"].unique()) if set(variant) == {key}]
    if not pairs:
        return pd.DataFrame(columns=["method", "model", "estimate", "low", "high", "verdict", "seen", "n"])
    return compare_alone(scores, pairs, [OVERALL], margin, draws).rename(columns={"reference": "method"})


def at_equal_length(scores: pd.DataFrame, margin: float, draws: int = 10_000) -> pd.DataFrame:
    """`compare_variants` of task vectors scaled to one length, with the mean at equal (`score`) and at published length (points)."""
    means = average_table(scores, draws=1).query("domain == @OVERALL").set_index("model")["score"]
    table = compare_variants(scores, "norm", margin, draws)
    return table.assign(score=table["model"].map(means), published=table["method"].map(means))


def length_sentence(table: pd.DataFrame) -> str:
    """How far the methods of `at_equal_length` lie apart at both lengths, and whether the same one leads; '' of fewer than two."""
    if len(table) < 2:
        return ""
    far = table[["published", "score"]].agg(lambda column: column.max() - column.min())
    first, there = (table.loc[table[column].idxmax()] for column in ("published", "score"))
    said = f"From the best merge to the worst it is {far['published']:.1f} points at the published settings, and {far['score']:.1f} where "
    said += "all task vectors are scaled to one length"
    said += f"; there {display_name(there['method'])} leads, "
    if first["method"] == there["method"]:
        return f"{said}too."
    place = (table["score"] > first["score"]).sum() + 1
    return f"{said}and {display_name(first['method'])} is number {place} of {len(table)}."


def distance_sentence(table: pd.DataFrame, moved: pd.Series) -> str:
    """Which merges of `task_vectors.norms_and_cosines` move least and most, and the share of weights that all experts move (`ram.movers`)."""
    merged = table[table["model"].str.startswith("merge-")].sort_values("norm", kind="stable")
    least, most = (f"{display_name(row.model)} ({row.norm:.2f})" for row in merged.iloc[[0, -1]].itertuples())
    said = f"**Of {len(merged)} merges at published settings {least} moves least from SFT and {most} most**, in units of the experts' "
    return f"{said}mean norm. All experts move {100 * moved.iloc[-1]:.1f}% of the weights: there RAM and RAM+ are Average."


def leave_one_out(scores: pd.DataFrame, p: Parameters, margin: float, draws: int = 10_000) -> pd.DataFrame:
    """What a merge loses or gains without one of its experts ('…@experts=<all but one>'): left_out, over, without − with."""
    rows = []
    for name, method, variant in merges(scores["model"].unique()):
        parts = {*variant.get("experts", "").split("+")}
        absent = {*p.domains} - parts
        if set(variant) == {"experts"} and parts < {*p.domains} and len(absent) == 1 and method in models_in(scores):
            rows.append((name, method, method, absent.pop()))
    if not rows:
        return pd.DataFrame(columns=["method", "left_out", "over", "estimate", "low", "high", "verdict", "n"])
    compared = compare_alone(scores, [row[:2] for row in rows], [OVERALL, *p.domains], margin, draws)
    return pd.DataFrame(rows, columns=["model", "reference", "method", "left_out"]).merge(compared, on=["model", "reference"])


def pair_table(scores: pd.DataFrame, p: Parameters, margin: float, draws: int = 10_000) -> pd.DataFrame:
    """What a domain's score becomes when its expert is averaged with `added` (another domain's, 'sft' or 'null')."""
    rows = []
    for name, method, variant in merges(scores["model"].unique()):
        parts = variant.get("experts", "").split("+")
        if method == "merge-average" and set(variant) == {"experts"} and len(parts) == 2:
            both = (parts, parts[::-1])
            rows += [(name, f"rl-{target}", target, target, added) for target, added in both if target in p.domains]
    if not rows:
        return pd.DataFrame(columns=["target", "added", "estimate", "low", "high", "verdict", "n"])
    compared = compare_alone(scores, [row[:2] for row in rows], p.domains, margin, draws)
    plan = pd.DataFrame(rows, columns=["model", "reference", "over", "target", "added"])
    return plan.merge(compared, on=["model", "reference", "over"])
