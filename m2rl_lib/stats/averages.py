"""Scores with intervals, in points from 0 to 100: by benchmark, averaged over domains, against chance, and by form or skill; and
which of several models is best on selection problems."""

import numpy as np
import pandas as pd

from m2rl_lib.stats.bootstrap import OVERALL, SCOPES, Resample, interval, resample
from m2rl_lib.stats.graded_samples import COLUMNS, UNTRAINED, list_names, models_lacking, problem_means, require_columns

TABLE = ["model", "domain", "benchmark", "score", "low", "high", "n", "k", "seeds", "seed_sd", "scope", "dropped", "reason"]
AVERAGE = "average"


def describe(sample: Resample, model: str, domain: str, benchmark: str) -> dict:
    """A row of `TABLE`: a model's score on a benchmark, or for AVERAGE that over a domain, or NaN and a reason."""
    seeds, weights = sample.seeds(model), sample.weights(domain if benchmark == AVERAGE else benchmark)
    rows = np.flatnonzero(weights)
    ks = np.unique(sample.k[np.ix_(rows, sample.columns(model, seeds))])
    row = {"model": model, "domain": domain, "benchmark": benchmark, "k": int(ks[0]) if len(ks) == 1 else pd.NA}
    row |= sample.benchmarks[["n", "dropped"]].iloc[rows].sum().to_dict()
    return row | measured(*sample.values(model, seeds, weights))


def measured(points: np.ndarray, draws: np.ndarray, reason: str) -> dict:
    """The columns score, low, high, seeds, seed_sd, scope and reason of a share; its interval ends at 0 and 100 points."""
    found = dict.fromkeys(["estimate", "low", "high", "seed_sd"], np.nan) if reason else interval(points, draws)
    low, high = np.clip([found["low"], found["high"]], 0, 100).tolist()
    size = {"seed_sd": found["seed_sd"], "seeds": len(points), "scope": SCOPES[len(points) == 1]}
    return {"score": found["estimate"], "low": low, "high": high, "reason": reason} | size


def score_table(scores: pd.DataFrame, pass_k: int | None = None, draws: int = 10_000) -> pd.DataFrame:
    """Avg@K, or pass@`pass_k`, of every model on every benchmark with 95% intervals: `TABLE`, n problems of k samples each."""
    sample, models = resample(problem_means(scores, pass_k), draws=draws), pd.unique(scores["model"])
    rows = [describe(sample, model, domain, name) for model in models for name, domain in sample.tested(model).items()]
    return pd.DataFrame(rows, columns=TABLE).astype({"k": "Int64"})


def average_table(scores: pd.DataFrame, draws: int = 10_000) -> pd.DataFrame:
    """As `score_table`, with benchmark 'average': one row per model and domain, 'overall' first."""
    sample = resample(problem_means(scores), draws=draws)
    domains = sorted(set(sample.benchmarks["domain"]))
    overs = domains if {*domains} <= {*UNTRAINED} else [OVERALL, *domains]
    rows = [describe(sample, model, over, AVERAGE) for model in pd.unique(scores["model"]) for over in overs]
    return pd.DataFrame(rows, columns=TABLE).astype({"k": "Int64"})


def averages(table: pd.DataFrame) -> pd.DataFrame:
    """The same averages, without intervals, of finished (published) scores: model, domain, benchmark, score."""
    require_columns(table, ["model", "domain", "benchmark", "score"], "table of scores")
    for model, found in table.groupby("model", sort=False)["benchmark"]:
        if lacking := set(table["benchmark"]) - set(found):
            raise ValueError(f"{model} has no score on {list_names(lacking)}: averages need every benchmark for every model")
    domains = table.groupby(["model", "domain"], sort=False)["score"].mean().reset_index()
    overall = domains[~domains["domain"].isin(UNTRAINED)].groupby("model", sort=False)["score"].mean().reset_index()
    both = pd.concat([overall.assign(domain=OVERALL), domains], ignore_index=True)
    return both.assign(benchmark=AVERAGE)[["model", "domain", "benchmark", "score"]]


def choose_on_selection(scores: pd.DataFrame, candidates: list[str]) -> str:
    """The candidate with the best overall mean on the split 'selection', the only one allowed; of equals, the first named."""
    require_columns(scores, COLUMNS, "scores")
    if {*scores["split"].unique()} != {"selection"}:
        raise ValueError(f"choosing on the splits {list_names(scores['split'])}: only selection is allowed")
    unknown = models_lacking(scores, candidates)
    if unknown or not candidates:
        raise ValueError(f"unknown candidates {', '.join(unknown) or '(none given)'}: scores has {list_names(scores['model'])}")
    sample = resample(problem_means(scores[scores["model"].isin(candidates)]), draws=1)
    found = pd.DataFrame([describe(sample, name, OVERALL, AVERAGE) for name in candidates]).set_index("model")
    if any(found["reason"]):
        raise ValueError(f"cannot choose: {next(filter(None, found['reason']))}")
    return found["score"].round(9).idxmax()  # rounded, as sums in another order must not break a tie


def chance_adjusted(table: pd.DataFrame, chance: dict[str, float]) -> pd.DataFrame:
    """A score table with adjusted, adjusted_low, adjusted_high: 100 (acc − c) / (1 − c), c in [0, 1) by benchmark."""
    require_columns(table, ["benchmark", "score", "low", "high"], "score table")
    lacking = sorted(set(table["benchmark"]) - set(chance))
    if lacking or not all(0 <= c < 1 for c in chance.values()):
        has = f"lacks {', '.join(lacking) or 'nothing'}, has {chance}"
        raise ValueError(f"chance {has}: one number in [0, 1) for each benchmark is needed")
    c = 100 * table["benchmark"].map(chance).astype(float)
    adjusted = {"adjusted": "score", "adjusted_low": "low", "adjusted_high": "high"}
    return table.assign(**{name: 100 * (table[source] - c) / (100 - c) for name, source in adjusted.items()})


def form_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Form or skill? `TABLE` with `measure` after benchmark: the shares parsed, right if parsed, and truncated, in points."""
    require_columns(scores, ["parsed", "truncated"], "scores")
    problems = problem_means(scores)
    parts = {name: resample(problems, name) for name in ("parsed", "parsed_correct", "truncated")}
    sample, rows = parts["parsed"], []
    for model in pd.unique(scores["model"]):
        for benchmark, domain in sample.tested(model).items():
            seeds, weights = sample.seeds(model), sample.weights(benchmark)
            values = {name: part.values(model, seeds, weights) for name, part in parts.items()}
            (some, some_draws, reason), (right, right_draws, _) = values["parsed"], values.pop("parsed_correct")
            with np.errstate(divide="ignore", invalid="ignore"):
                given, given_draws = 100 * right / some, 100 * right_draws / some_draws
            reason = reason or ("" if np.isfinite(given_draws).all() else "too few parsed answers")
            values = {"parsed": values["parsed"], "right if parsed": (given, given_draws, reason)} | values
            row = describe(sample, model, domain, benchmark)
            rows += [row | measured(*value) | {"measure": name} for name, value in values.items()]
    return pd.DataFrame(rows, columns=[*TABLE[:3], "measure", *TABLE[3:]]).astype({"k": "Int64"})
