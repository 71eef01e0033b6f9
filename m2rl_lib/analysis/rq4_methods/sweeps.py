"""Sweeps: what λ, density, the length of the task vector, the definition and the list of experts do to a merging method.

The setting that is best on the selection split is scored on the test split, beside the published one, since the best of many
settings looks better than it is where it was chosen. What a name does not say is the study's default (`merging.recipe`).
"""

import numpy as np
import pandas as pd

from m2rl_lib.config import model_names
from m2rl_lib.config.study import Parameters
from m2rl_lib.stats.bootstrap import OVERALL, average_table, choose_on_selection
from m2rl_lib.stats.comparisons import comparison_table


def settings(models: list[str], p: Parameters) -> pd.DataFrame:
    """What the merges among `models` were made with: model, method, lambda, density (NaN where the method has none).

    Left out: merges that vary in anything but λ and density. Average and SCE have no λ of their own: 1.
    """
    kept = dict.fromkeys(("merge-ties-dare", "merge-task-arithmetic-dare"), p.merge_dare_density)
    kept |= {"merge-ties": p.merge_ties_density, "merge-sce": p.merge_sce_topk}
    rows = []
    for name in models:
        method, variant = model_names.parse_model_name(name)
        if not method.startswith("merge-") or set(variant) - {"lambda", "density"}:
            continue
        usual = 1.0 if method in ("merge-average", "merge-sce") else p.merge_lambda
        density = variant.get("density", kept.get(method, np.nan))
        rows.append((name, method, float(variant.get("lambda", usual)), float(density)))
    return pd.DataFrame(rows, columns=["model", "method", "lambda", "density"])


def sweep_table(scores: pd.DataFrame, p: Parameters, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """Every swept merge with its mean over domains: `settings` and score, low, high, n, seeds; `best` marks each method's best score."""
    grid = settings(list(pd.unique(scores["model"])), p)
    if grid.empty:
        raise ValueError(f"no merges among the models {', '.join(sorted(set(scores['model'])))}")
    some = scores[scores["model"].isin(grid["model"])]
    means = average_table(some, draws=draws, seed=seed).query("domain == @OVERALL")
    table = grid.merge(means[["model", "score", "low", "high", "n", "seeds"]], on="model")
    best = table.groupby("method")["score"].transform(lambda score: score.index == score.round(9).idxmax())
    return table.assign(best=best.astype(bool)).sort_values(["method", "density", "lambda"], ignore_index=True)


def tuned_table(
    selection: pd.DataFrame, test: pd.DataFrame, p: Parameters, margin: float, draws: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """Each method at its own best setting: method, model (the best on selection), tried (settings), selection (its score there),
    and on the test problems score, and estimate, low, high, verdict, n, seeds against the method at its published setting.

    Each seed chooses its own, as the recipe would; `model` names them all where they differ. Where the published setting is the
    best throughout, the difference is 0 by definition and has no verdict.
    """
    grid, rows, tuned = settings(list(pd.unique(selection["model"])), p), [], {}
    for method, models in grid.groupby("method", sort=False)["model"]:
        best = {}
        for number, part in test[test["model"].isin(models)].groupby("seed"):
            there = [name for name in models if name in set(part["model"])]
            if method not in there:
                raise ValueError(f"no test scores of {method}: there are {', '.join(there) or 'none'} of its settings")
            best[number] = choose_on_selection(selection[selection["seed"] == number], there)
        if not best:
            raise ValueError(f"no test scores of {method}: there are none of its settings")
        tuned |= {(number, name): model_names.model_name(method, setting="tuned") for number, name in best.items()}
        names = list(dict.fromkeys(best.values()))
        told = names[0] if len(names) == 1 else "; ".join(f"{name} (seed {number})" for number, name in best.items())
        rows.append({"method": method, "model": told, "tried": len(models)})
    table = pd.DataFrame(rows)
    pairs = [(model_names.model_name(method, setting="tuned"), method) for method in table["method"]]
    for column, scores in (("selection", selection), ("score", test)):
        means = average_table(_renamed(scores, tuned), draws=1).query("domain == @OVERALL").set_index("model")["score"]
        table[column] = [means[name] for name, _ in pairs]
    moved = [pair for pair, model in zip(pairs, table["model"]) if model != pair[1]]
    if not moved:
        return table.assign(estimate=0.0, low=0.0, high=0.0, verdict="", n=0, seeds=test["seed"].nunique())
    some = pd.concat([_renamed(test, tuned), test[test["model"].isin(table["method"])]])
    some = some[some["model"].isin({name for pair in moved for name in pair})]
    compared = comparison_table(some, moved, [OVERALL], margin, draws, seed).rename(columns={"reference": "method"})
    table = table.merge(compared[["method", "estimate", "low", "high", "verdict", "n", "seeds"]], on="method", how="left")
    blank = {"estimate": 0.0, "low": 0.0, "high": 0.0, "verdict": "", **compared[["n", "seeds"]].iloc[0]}
    return table.fillna(blank).astype({"n": int, "seeds": int})


def _renamed(scores: pd.DataFrame, names: dict[tuple[int, str], str]) -> pd.DataFrame:
    """The rows of the (seed, model) pairs in `names`, with the model's name given there."""
    keys = pd.Series(list(zip(scores["seed"], scores["model"])), index=scores.index).map(names)
    return scores.assign(model=keys)[keys.notna()]


def compare_variants(scores: pd.DataFrame, key: str, margin: float, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """Merges that vary in `key` alone ('definition', 'norm' or 'step') against the same method without it, on the mean."""
    named = {name: model_names.parse_model_name(name) for name in pd.unique(scores["model"])}
    pairs = [(name, base) for name, (base, variant) in named.items() if base.startswith("merge-") and set(variant) == {key}]
    some = scores[scores["model"].isin({name for pair in pairs for name in pair})]
    if not pairs:
        return pd.DataFrame(columns=["method", "model", "estimate", "low", "high", "verdict", "seen", "n"])
    table = comparison_table(some, pairs, [OVERALL], margin, draws, seed)
    return table.rename(columns={"reference": "method"})


def leave_one_out(scores: pd.DataFrame, p: Parameters, margin: float, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """What a merge loses or gains without one of its experts (named '…@experts=<all but one>'): method, left_out, over and
    `comparison_table` for (without − with). Without math's expert 40 on math, with it 55: left_out math, over math, −15.
    """
    rows = []
    for name in pd.unique(scores["model"]):
        base, variant = model_names.parse_model_name(name)
        absent = set(p.domains) - set(variant.get("experts", "").split("+"))
        if set(variant) == {"experts"} and len(absent) == 1 and base in set(scores["model"]):
            rows.append({"model": name, "reference": base, "method": base, "left_out": absent.pop()})
    if not rows:
        return pd.DataFrame(columns=["method", "left_out", "over", "estimate", "low", "high", "verdict", "n"])
    pairs = [(row["model"], row["reference"]) for row in rows]
    some = scores[scores["model"].isin({name for pair in pairs for name in pair})]
    compared = comparison_table(some, pairs, [OVERALL, *p.domains], margin, draws, seed)
    return pd.DataFrame(rows).merge(compared, on=["model", "reference"])


def pair_table(scores: pd.DataFrame, p: Parameters, margin: float, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """What a domain's score becomes when its expert is averaged with another model: target, added (domains, or 'sft', 'null'),
    and `comparison_table` for (pair − the target's expert) on the target's benchmarks.
    """
    rows = []
    for name in pd.unique(scores["model"]):
        base, variant = model_names.parse_model_name(name)
        parts = variant.get("experts", "").split("+")
        if base == "merge-average" and set(variant) == {"experts"} and len(parts) == 2:
            for target, added in (parts, parts[::-1]):
                if target in p.domains:
                    rows.append({"model": name, "reference": f"rl-{target}", "over": target, "target": target, "added": added})
    if not rows:
        return pd.DataFrame(columns=["target", "added", "estimate", "low", "high", "verdict", "n"])
    plan = pd.DataFrame(rows)
    some = scores[scores["model"].isin({*plan["model"], *plan["reference"]})]
    pairs = list(plan[["model", "reference"]].itertuples(index=False, name=None))
    return plan.merge(comparison_table(some, pairs, p.domains, margin, draws, seed), on=["model", "reference", "over"])
