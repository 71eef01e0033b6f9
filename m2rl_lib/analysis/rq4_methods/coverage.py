"""Coverage: pass@k over k. Does a way to one model solve problems that SFT or the experts never solve in k samples, or does it only
solve oftener what they solve already? Where SFT's pass@k is near 100 there is no room for the first."""

import pandas as pd

from m2rl_lib.analysis.rq4_methods import routing
from m2rl_lib.stats.averages import AVERAGE, describe
from m2rl_lib.stats.bootstrap import OVERALL, resample
from m2rl_lib.stats.comparisons import comparison_table
from m2rl_lib.stats.graded_samples import UNTRAINED, problem_means


def _prepare(scores: pd.DataFrame) -> tuple[pd.DataFrame, str, list[str], list[int]]:
    """The scores with routed experts, what they are averaged over, what models are compared with, and k: 1, 2, 4, … up to all samples.
    Of a domain that RL never trains there are no experts to route to."""
    most = scores["sample"].nunique()
    ks = [2**power for power in range(most.bit_length())]
    if {*scores["domain"].unique()} <= {*UNTRAINED}:
        return scores, scores["domain"].iloc[0], ["sft"], ks
    return pd.concat([scores, routing.route_to_experts(scores)], ignore_index=True), OVERALL, ["sft", "routed"], ks


def curves(scores: pd.DataFrame, models: list[str], draws: int = 10_000) -> pd.DataFrame:
    """pass@k (unbiased) of SFT, routed experts and each model, mean over the trained domains, or of one that is not trained: over,
    model, k, score, low, high, n, seeds."""
    scores, over, references, ks = _prepare(scores)
    rows = []
    for k in ks:
        sample = resample(problem_means(scores, k), draws=draws)
        rows += [describe(sample, model, over, AVERAGE) | {"k": k} for model in [*references, *models]]
    return pd.DataFrame(rows).assign(over=over)[["over", "model", "k", "score", "low", "high", "n", "seeds"]]


def differences(scores: pd.DataFrame, models: list[str], margin: float, draws: int = 10_000) -> pd.DataFrame:
    """Each model less SFT and less routed experts at pass@1 and at the largest k: `k`, `reference_score` and `COMPARED`."""
    scores, over, references, ks = _prepare(scores)
    scores = scores[scores["model"].isin([*models, *references])]
    pairs, parts = [(model, reference) for reference in references for model in models], []
    for k in (ks[0], ks[-1]):
        sample = resample(problem_means(scores, k), draws=100)
        score = {name: describe(sample, name, over, AVERAGE)["score"] for name in references}
        table = comparison_table(scores, pairs, [over], margin, draws, pass_k=k)
        parts.append(table.assign(k=k, reference_score=table["reference"].map(score)))
    return pd.concat(parts, ignore_index=True)
