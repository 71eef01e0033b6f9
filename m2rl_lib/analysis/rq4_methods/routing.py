"""Routing: every benchmark answered by a model of its own, and how much of what that gains one model for all keeps. The upper
bound is *routed experts*, each benchmark by its domain's expert. A composite is rows of a `scores` table."""

import pandas as pd

from m2rl_lib.stats.averages import choose_on_selection
from m2rl_lib.stats.bootstrap import OVERALL, Resample, interval, mean_over_seeds, resample
from m2rl_lib.stats.graded_samples import UNTRAINED, problem_means

RECOVERY = ["model", "recovery", "low", "high", "gain", "routed_gain", "routed_low", "routed_high"]
RECOVERY += ["n", "seeds", "scope", "reason"]


def route(scores: pd.DataFrame, answers: dict[str, str], name: str) -> pd.DataFrame:
    """A composite: each benchmark's rows are those of the model that `answers` gives it, of the seeds that all of them have."""
    rows = [scores[(scores["benchmark"] == benchmark) & (scores["model"] == model)] for benchmark, model in answers.items()]
    lacking = [f"{model} on {benchmark}" for (benchmark, model), part in zip(answers.items(), rows) if part.empty]
    if lacking or not rows:
        raise ValueError(f"cannot route {name}: no scores of {', '.join(lacking) or 'any benchmark'}")
    seeds = set.intersection(*(set(part["seed"]) for part in rows))
    routed = pd.concat(rows, ignore_index=True).assign(model=name)
    return routed[routed["seed"].isin(seeds)].reset_index(drop=True)


def route_to_experts(scores: pd.DataFrame) -> pd.DataFrame:
    """The upper bound `routed`: every benchmark by its domain's expert, `general` left out."""
    homes = scores[~scores["domain"].isin(UNTRAINED)].drop_duplicates("benchmark")
    return route(scores, dict(zip(homes["benchmark"], "rl-" + homes["domain"])), "routed")


def choose_by_benchmark(selection: pd.DataFrame, candidates: list[str]) -> dict[str, str]:
    """For every benchmark but the general one, the candidate that is best on its selection problems; of equals, the first."""
    trained = selection[~selection["domain"].isin(UNTRAINED)]
    return {benchmark: choose_on_selection(rows, candidates) for benchmark, rows in trained.groupby("benchmark", sort=False)}


def recovery_table(scores: pd.DataFrame, models: list[str], draws: int = 10_000) -> pd.DataFrame:
    """Recovery = Σ_d (model − SFT) / Σ_d (routed − SFT); NaN and a reason where the denominator is not surely above 0."""
    both = pd.concat([scores, route_to_experts(scores)], ignore_index=True)
    sample = resample(problem_means(both), draws=draws)
    return pd.DataFrame([_recovery(sample, model) for model in models], columns=RECOVERY)


def _recovery(sample: Resample, model: str) -> dict:
    seeds, (gain, whole), draws, reasons = sample.changes([(model, OVERALL), ("routed", OVERALL)], "sft")
    if any(reasons):
        raise ValueError(f"no recovery of {model}: {next(filter(None, reasons))}")
    denominator = interval(whole, draws[:, 1])
    out = {"model": model, "gain": gain.mean(), "routed_gain": denominator["estimate"]}
    out |= {f"routed_{end}": denominator[end] for end in ("low", "high")}
    out |= {"n": int(sample.benchmarks["n"][sample.weights(OVERALL) > 0].sum())}
    out |= {"seeds": len(seeds), "scope": denominator["scope"]}
    if denominator["low"] <= 0:
        return out | {"reason": "the 95% interval of the experts' own gain is not above 0"}
    ratio = gain.mean() / whole.mean()
    gains, wholes = mean_over_seeds(draws).T
    linear = ratio + (gain - ratio * whole) / whole.mean()  # per seed; its mean is the ratio
    found = interval(linear, (gains / wholes)[:, None])
    return out | {"recovery": ratio, "low": found["low"], "high": found["high"], "reason": ""}
