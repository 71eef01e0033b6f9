"""Routing: every benchmark answered by a model of its own, and how much of what that gains one model for all keeps.

*Routed experts*, each benchmark answered by its domain's expert, is the upper bound. A composite is rows of a `scores` table.
"""

import numpy as np
import pandas as pd
from scipy import stats

from m2rl_lib.stats.bootstrap import OVERALL, UNTRAINED, choose_on_selection, interval, mean_over_seeds, problem_means, resample

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


def route_to_experts(scores: pd.DataFrame, experts: dict[str, str] | None = None) -> pd.DataFrame:
    """The upper bound `routed`: every benchmark by its domain's expert (rl-<domain> by default), `general` left out."""
    homes = scores.drop_duplicates("benchmark").set_index("benchmark")["domain"]
    homes = homes[~homes.isin(UNTRAINED)]
    experts = experts or {domain: f"rl-{domain}" for domain in homes}
    if set(experts) != set(homes):
        raise ValueError(f"experts for {', '.join(sorted(experts))}: one for each of {', '.join(sorted(set(homes)))} is needed")
    return route(scores, {benchmark: experts[domain] for benchmark, domain in homes.items()}, "routed")


def choose_by_benchmark(selection: pd.DataFrame, candidates: list[str]) -> dict[str, str]:
    """For every benchmark but the general one, the candidate that is best on its selection problems; of equals, the first."""
    trained = selection[~selection["domain"].isin(UNTRAINED)]
    return {benchmark: choose_on_selection(rows, candidates) for benchmark, rows in trained.groupby("benchmark", sort=False)}


def recovery_table(
    scores: pd.DataFrame, models: list[str], experts: dict[str, str] | None = None, draws: int = 10_000
) -> pd.DataFrame:
    """Recovery = Σ_d (model − SFT) / Σ_d (routed − SFT), for each of `models`: SFT 40, model 52, routed 56 give 12 / 16 = 0.75.

    NaN and a reason where the denominator's interval is not above 0.
    """
    routed = route_to_experts(scores, experts)
    sample = resample(problem_means(pd.concat([scores, routed], ignore_index=True)), draws=draws)
    return pd.DataFrame([_recovery(sample, model) for model in models], columns=RECOVERY)


def _recovery(sample, model: str) -> dict:
    weights, names = sample.weights(OVERALL), (model, "sft", "routed")
    seeds = sorted(set.intersection(*(set(sample.seeds(name)) for name in names)))
    if not seeds:
        raise ValueError(f"{', '.join(names)} have no seed in common: one is needed")
    (top, top_draws, _), (base, base_draws, _), (best, best_draws, _) = values = [
        sample.values(name, seeds, weights) for name in names
    ]
    reasons = sorted({reason for _, _, reason in values if reason})
    if reasons:
        raise ValueError(f"no recovery of {model}: {reasons[0]}")
    gain, gain_draws, whole, whole_draws = top - base, top_draws - base_draws, best - base, best_draws - base_draws
    denominator = interval(whole, whole_draws)
    out = {"model": model, "gain": gain.mean(), "routed_gain": denominator["estimate"]}
    out |= {f"routed_{end}": denominator[end] for end in ("low", "high")}
    out |= {"n": int(sample.benchmarks["n"][weights > 0].sum()), "seeds": len(seeds), "scope": denominator["scope"]}
    if denominator["low"] <= 0:
        return out | {"reason": "the 95% interval of the experts' own gain is not above 0"}
    ratio = gain.mean() / whole.mean()
    low, high = np.quantile(mean_over_seeds(gain_draws) / mean_over_seeds(whole_draws), [0.025, 0.975])
    if len(seeds) > 1:
        linear = ratio + (gain - ratio * whole) / whole.mean()  # per seed; its mean is the ratio
        half = np.std(linear, ddof=1) / np.sqrt(len(seeds)) * stats.t.ppf(0.975, len(seeds) - 1)
        low, high = max((low, high), (ratio - half, ratio + half), key=lambda pair: pair[1] - pair[0])
    return out | {"recovery": ratio, "low": low, "high": high, "reason": ""}
