"""Comparisons of scores: with a three-way verdict, and the English sentence for each. A model is *better* (*worse*) where the 95%
interval of the paired difference is above (below) 0, *equivalent* where the 90% interval lies inside ±margin, else
*undecided*."""

import re
from itertools import product

import numpy as np
import pandas as pd
from scipy import stats

from m2rl_lib.stats.averages import average_table
from m2rl_lib.stats.bootstrap import OVERALL, SEEN, interval, resample
from m2rl_lib.stats.graded_samples import problem_means

BEST_MERGE = "merged-best"  # what stands for merging where it is not one merge: halves, or seeds, that chose different ones
NAMES = {
    "base": "Base",
    "sft": "SFT",
    "sft-sharpened": "SFT at best T",
    "rl-null": "RL-Null",
    "rl-multi": "RL-Multi",
    "mt-opd": "MT-OPD",
    "cascade": "Cascade",
    BEST_MERGE: "Best merge",
    "routed": "Routed experts",
    "qwen3-4b-thinking": "Qwen3-4B-Thinking",
}
METHODS = {"average": "Average", "task-arithmetic": "TA", "task-arithmetic-dare": "TA+DARE"}
METHODS |= {"ties": "TIES", "ties-dare": "TIES+DARE", "sce": "SCE"}
METHODS |= {"ram": "RAM", "ram-plus": "RAM+", "tsv": "TSV"}
MERGES = {f"merge-{method}": f"{name} merge" for method, name in METHODS.items()}
SHORT = {"instruction_following": "IF"}
COMPARED = ["model", "reference", "over", "estimate", "low", "high", "low90", "high90", "p", "seen", "margin", "verdict"]
COMPARED += ["benchmarks", "n", "seeds", "seed_sd", "scope"]
MARGIN = 3.0  # points; printed beside every verdict
FEWEST = 15  # problems; below, the bootstrap is wrong too often (in one of ten tables), and an exact test has to agree
LEVEL = 0.05  # of a test


def _parts(model: str) -> tuple[str, str]:
    """A model's name without its variants, and these in words: 'merge-ties@density=0.5' → 'merge-ties', ' (density 0.5)'."""
    found = re.fullmatch(r"([a-z0-9_-]+)((?:[@,][a-z_]+=[^@,=\s]+)*)", str(model))
    stem = found[1] if found else ""
    if stem not in NAMES and stem not in MERGES and not re.fullmatch(r"rl-[a-z][a-z_]*", stem):
        allowed = f"{', '.join(NAMES)}, rl-<domain>, merge-<{'|'.join(METHODS)}>"
        raise ValueError(f"unknown model {model!r}: allowed are {allowed}, each with @key=value[,key=value] for a variant")
    words = found[2][1:].replace("=", " ").replace(",", ", ").replace("@", ", ").replace("lora", "LoRA")
    return stem, f" ({words})" if words else ""


def display_name(model: str) -> str:
    """A model's name as readers see it: 'rl-instruction_following' → 'RL-IF'. ValueError for an unknown name."""
    stem, words = _parts(model)
    domain = stem.removeprefix("rl-")
    return ((NAMES | MERGES).get(stem) or f"RL-{SHORT.get(domain) or domain.replace('_', ' ').title()}") + words


def display_domain(domain: str) -> str:
    """'instruction_following' → 'Instruction following'."""
    return domain.replace("_", " ").capitalize()


def model_family(model: str) -> str:
    """'reference', 'expert', 'mixed', 'merged' or 'distilled': what a figure's colours and markers stand for."""
    stem, _ = _parts(model)
    named = {"rl-multi": "mixed", "cascade": "mixed", "mt-opd": "distilled", BEST_MERGE: "merged", "routed": "expert"}
    return named.get(stem) or ("merged" if stem in MERGES else "reference" if stem in NAMES else "expert")


def overall_means(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of `average_table` that are means over the trained domains, the highest first."""
    return average_table(scores).query("domain == 'overall'").sort_values("score", ascending=False, kind="stable")


def ends_sentence(overall: pd.DataFrame) -> str:
    """The models of the highest and the lowest of `overall_means`, each with its 95% interval."""
    named = [f"{display_name(row.model)} {row.score:.1f} [{row.low:.1f}, {row.high:.1f}]" for row in overall.itertuples()]
    return "**Mean over the trained domains, points:** " + (
        f"{named[0]}." if len(named) == 1 else f"highest of {len(named)} models {named[0]}, lowest {named[-1]}."
    )


def chosen(model: str) -> str:
    """How a sentence names a merge that was chosen: 'merge-ties' → 'the best merge (TIES, chosen on selection data)'."""
    return f"the best merge ({display_name(model).replace(' merge', '')}, chosen on selection data)"


def three_way(found: dict, margin: float) -> str:
    """'better', 'worse', 'equivalent' or 'undecided' from a difference's `interval`, in points."""
    if found["low"] > 0 or found["high"] < 0:
        return "better" if found["low"] > 0 else "worse"
    return "equivalent" if -margin < found["low90"] and found["high90"] < margin else "undecided"


def without_spread(found: dict[str, float], n: int) -> dict[str, float]:
    """Limits and minimum detectable effect where all n problems have the same difference, so that resamples have no spread: as
    many problems as could have been missed, 1 − α^(1/n) of them (Clopper–Pearson), may differ by −100 to 100 points."""
    estimate, wider = found["estimate"], {}
    for low, high, tail in (("low", "high", 0.025), ("low90", "high90", 0.05)):
        missed = 1 - tail ** (1 / n)
        wider[low] = min(found[low], estimate - missed * (estimate + 100))
        wider[high] = max(found[high], estimate + missed * (100 - estimate))
    return wider | {"seen": max(found["seen"], (wider["high"] - wider["low"]) / 2 * SEEN)}


def few_problems(differences: np.ndarray, verdict: str, p: float, margin: float) -> tuple[str, float]:
    """Verdict and p below FEWEST problems, from `differences` (n,), each problem's part of the estimate in points: that of the
    intervals stands where the exact test of random signs agrees; equivalence is tested against both margins, one-sided."""
    n = len(differences)
    signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    parts = np.stack([differences, -differences, margin / n + differences, margin / n - differences])
    tails = (parts @ signs.T >= parts.sum(axis=1, keepdims=True) - 1e-9).mean(axis=1).tolist()
    p = max(p, min(1.0, 2 * min(tails[:2])))
    return (verdict if (max(tails[2:]) if verdict == "equivalent" else p) <= LEVEL else "undecided"), p


def _differences(problems: pd.DataFrame, model: str, reference: str, seeds: list, shares: dict[str, float]) -> np.ndarray:
    """Each problem's part of model − reference in points, averaged over seeds, weighted by its benchmark's share."""
    some = problems[problems["seed"].isin(seeds) & problems["benchmark"].map(shares).gt(0)]
    means = some.groupby(["model", "benchmark", "problem_id"], observed=True)["value"].mean()
    parts = (means[model] - means[reference]).dropna()
    benchmarks = parts.index.get_level_values("benchmark")
    return 100 * (parts * benchmarks.map(shares) / benchmarks.map(benchmarks.value_counts())).to_numpy()


def comparison_table(
    scores: pd.DataFrame,
    pairs: list[tuple],
    overs: list[str],
    margin: float = MARGIN,
    draws: int = 10_000,
    pass_k: int | None = None,
) -> pd.DataFrame:
    """Paired differences model − reference in points (`COMPARED`), one row for each pair and each of `overs` ('overall', domains
    or benchmarks), all from one resample, in the seeds that both have; of Avg@K, or of pass@`pass_k`. `scores`: graded samples of
    one split, with every model that shares the table (an ungraded problem is dropped for all). low and high are of the 95%
    interval, low90 and high90 of the 90% interval, seen is the minimum detectable effect at 80% power."""
    if not margin > 0:
        raise ValueError(f"margin = {margin!r} points: a number above 0 is allowed")
    problems = problem_means(scores, pass_k)
    sample, rows = resample(problems, draws=draws), []
    for (model, reference), over in product(pairs, overs):
        weights = sample.weights(over)
        seeds, points, resamples = sample.difference(model, reference, over)
        found, sizes = interval(points, resamples), sample.benchmarks["n"][weights > 0]
        n = int(sizes.sum())
        tied = not np.ptp(resamples, axis=0).any()
        if tied:
            found |= without_spread(found, n)
        verdict = three_way(found, margin)
        if tied and not found["estimate"]:  # all pairs equal: a spread of zero shows no equivalence
            verdict = "undecided"
        if n < FEWEST:
            differences = _differences(problems, model, reference, seeds, dict(zip(sample.benchmarks.index, weights)))
            verdict, found["p"] = few_problems(differences, verdict, found["p"], margin)
        found |= {end: float(np.clip(found[end], -100, 100)) for end in ("low", "high", "low90", "high90")}  # what is possible
        named = {"model": model, "reference": reference, "over": over, "margin": margin, "verdict": verdict}
        rows.append(named | found | {"benchmarks": len(sizes), "n": n})
    return pd.DataFrame(rows, columns=COMPARED)


def compare_alone(scores: pd.DataFrame, pairs: list[tuple[str, str]], overs: list[str], *how) -> pd.DataFrame:
    """`comparison_table` of the models of `pairs` alone, so that no other model's ungraded problems count."""
    return comparison_table(scores[scores["model"].isin({*sum(pairs, ())})], pairs, overs, *how)


def compare(scores: pd.DataFrame, model: str, reference: str, over: str = OVERALL, **how) -> pd.Series:
    """The single row of `comparison_table` for one pair and one `over`; `how` is its margin and draws."""
    return comparison_table(scores, [(model, reference)], [over], **how).iloc[0]


def verdict_sentence(comparison: pd.Series, names: dict[str, str] | None = None) -> str:
    """A row of `comparison_table` in English; `names` replaces display names (see `chosen`)."""
    row, kind = comparison, "95% interval"
    a, b = ((names or {}).get(model) or display_name(model) for model in (row["model"], row["reference"]))
    span = "" if row["over"] == OVERALL else f" on {row['over'].replace('_', ' ')}"
    if row["verdict"] in ("better", "worse"):
        sign = 1 if row["verdict"] == "better" else -1
        low, high = sorted(sign * row[end] for end in ("low", "high"))
        claim = f"{a} is {row['verdict']} than {b}{span} by {sign * row['estimate']:.1f} points [{low:.1f}, {high:.1f}]"
    elif row["verdict"] == "equivalent":
        kind = "90% interval, inside the margin"
        claim = f"{a} and {b} are equivalent{span}: {row['estimate']:+.1f} points [{row['low90']:.1f}, {row['high90']:.1f}]"
    else:
        size = f"{row['estimate']:+.1f} points [{row['low']:.1f}, {row['high']:.1f}]"
        seen = f"minimum detectable effect {row['seen']:.1f} points"
        claim = f"Whether {a} is better or worse than {b}{span} is undecided: {size}, {seen}"
    benchmarks, seeds = (f"{row[noun]} {noun[:-1] if row[noun] == 1 else noun}" for noun in ("benchmarks", "seeds"))
    counted = f"{benchmarks}, n = {row['n']} problems, {seeds}"
    return f"{claim}, {counted}: on {row['scope']} ({kind}; margin ±{row['margin']:g} points)."


def adjust(table: pd.DataFrame) -> pd.DataFrame:
    """A `comparison_table` as one family: `adjusted` p (Benjamini–Hochberg), and 'undecided' where that is not below LEVEL."""
    adjusted = benjamini_hochberg(table["p"])
    overruled = table["verdict"].isin(["better", "worse"]) & ~(adjusted < LEVEL)
    return table.assign(adjusted=adjusted, verdict=table["verdict"].where(~overruled, "undecided"))


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Benjamini–Hochberg-adjusted p values of one family, in the order given: 0.01, 0.04, 0.03 → 0.03, 0.04, 0.04."""
    p = np.asarray(p, dtype=float)
    if p.ndim != 1 or not len(p) or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p values {p.tolist()}: a list of numbers from 0 to 1 is allowed")
    return stats.false_discovery_control(p)
