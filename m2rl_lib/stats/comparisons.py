"""What may be said of scores: comparisons with a three-way verdict, and the English sentence for each.

*Better* (or *worse*): the 95% interval of the paired difference is above (below) 0. *Equivalent*: the 90% interval lies
inside ±margin. Else *undecided*, and the smallest effect that could have been seen is printed: 'no significant difference'
is never 'matches'. No certainty comes from a spread of zero, and below 15 problems an exact test has to agree. Sentences are computed from the numbers. Stands one floor above `statistics`, whose redraws it reads.
"""

import re

import numpy as np
import pandas as pd
from scipy import stats

from m2rl_lib.stats.bootstrap import OVERALL, TABLE, describe, interval, measured, problem_means, require_columns, resample

BEST_MERGE = "merged-best"  # what stands for merging where it is not one merge: halves, or seeds, that chose different ones
NAMES = {
    "base": "Base",
    "sft": "SFT",
    "sft-sharpened": "SFT sharpened",
    "rl-null": "RL-Null",
    "rl-multi": "RL-Multi",
    "mt-opd": "MT-OPD",
    BEST_MERGE: "Best merge",
    "routed": "Routed experts",
    "qwen3-4b-thinking": "Qwen3-4B-Thinking",
}
METHODS = {
    "average": "Average",
    "task-arithmetic": "TA",
    "task-arithmetic-dare": "TA+DARE",
    "ties": "TIES",
    "ties-dare": "TIES+DARE",
    "sce": "SCE",
}
SHORT = {"instruction_following": "IF"}
COMPARED = ["model", "reference", "over", "estimate", "low", "high", "low90", "high90", "p", "seen", "margin", "verdict"]
COMPARED += ["benchmarks", "n", "seeds", "seed_sd", "scope"]
MARGIN = 3.0  # points; printed beside every verdict
FEWEST = 15  # problems; below, the bootstrap is wrong too often (in one of ten tables), and an exact test has to agree
LEVEL = 0.05  # of a test


def _parts(model: str) -> tuple[str, str]:
    """A model's name without its variants, and the variants in words: 'merge-ties@density=0.5' → 'merge-ties', ' (density 0.5)'."""
    found = re.fullmatch(r"([a-z0-9_-]+)((?:[@,][a-z_]+=[^@,=\s]+)*)", str(model))
    stem = found.group(1) if found else ""
    known = stem in NAMES or stem.removeprefix("merge-") in METHODS and stem.startswith("merge-")
    if not known and not re.fullmatch(r"rl-[a-z][a-z_]*", stem):
        raise ValueError(
            f"unknown model {model!r}: allowed are {', '.join(NAMES)}, rl-<domain>, "
            f"merge-<{'|'.join(METHODS)}>, each with @key=value[,key=value] for a variant"
        )
    words = [part.replace("=", " ") for part in re.split("[@,]", found.group(2))[1:]]
    return stem, f" ({', '.join(words)})" if words else ""


def display_name(model: str) -> str:
    """A model's name as readers see it, everywhere; ValueError naming what is allowed if the name is unknown.

    'rl-instruction_following' → 'RL-IF', 'merge-ties-dare@density=0.5' → 'TIES+DARE merge (density 0.5)'.
    """
    stem, words = _parts(model)
    if stem in NAMES:
        return NAMES[stem] + words
    kind, _, rest = stem.partition("-")
    return (f"{METHODS[rest]} merge" if kind == "merge" else f"RL-{SHORT.get(rest) or rest.replace('_', ' ').title()}") + words


def display_domain(domain: str) -> str:
    """'instruction_following' → 'Instruction following'."""
    return domain.replace("_", " ").capitalize()


def model_family(model: str) -> str:
    """'reference', 'expert', 'mixed', 'merged' or 'distilled': what a figure's colours and markers stand for."""
    stem, _ = _parts(model)
    named = {"rl-multi": "mixed", "mt-opd": "distilled", BEST_MERGE: "merged", "routed": "expert"}
    return named.get(stem) or ("merged" if stem.startswith("merge-") else "reference" if stem in NAMES else "expert")


def chosen(model: str) -> str:
    """How a sentence names a merge that was chosen: 'merge-ties' → 'the best merge (TIES, chosen on selection data)'."""
    return f"the best merge ({display_name(model).replace(' merge', '')}, chosen on selection data)"


def three_way(low: float, high: float, low90: float, high90: float, margin: float = MARGIN) -> str:
    """'better', 'worse', 'equivalent' or 'undecided' from a difference's 95% and 90% intervals, in points.

    three_way(1.2, 7.0, 1.6, 6.5) is 'better'; three_way(-1, 1, -0.8, 0.8) 'equivalent'; three_way(-4, 5, -3, 4) 'undecided'.
    """
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "equivalent" if -margin < low90 and high90 < margin else "undecided"


def without_spread(found: dict[str, float], n: int) -> dict[str, float]:
    """Limits and smallest visible effect where all n problems have the same difference, of which a bootstrap knows no spread.

    As many problems as could have been missed, 1 − α^(1/n) of them (Clopper–Pearson), may differ by −100 to 100 points:
    30 problems without a difference leave ±11.6 points at 95%.
    """
    estimate, wider = found["estimate"], {}
    for low, high, tail in (("low", "high", 0.025), ("low90", "high90", 0.05)):
        missed = 1 - tail ** (1 / n)
        wider[low] = min(found[low], estimate - missed * (estimate + 100))
        wider[high] = max(found[high], estimate + missed * (100 - estimate))
    half = (wider["high"] - wider["low"]) / 2
    return wider | {"seen": max(found["seen"], half * (1 + stats.norm.ppf(0.8) / stats.norm.ppf(0.975)))}


def few_problems(differences: np.ndarray, verdict: str, p: float, margin: float) -> tuple[str, float]:
    """Verdict and p below FEWEST problems: that of the intervals stands where the exact test of random signs agrees.

    `differences` (n,): each problem's part of the estimate, in points, which is their sum. Three problems that one model
    alone solves have p = 0.25: undecided. Six: p = 0.03. Equivalence is tested against both margins, one-sided.
    """
    n = len(differences)
    signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)

    def tail(parts: np.ndarray) -> float:
        return float(np.mean(signs @ parts >= parts.sum() - 1e-9))

    p = max(p, min(1.0, 2 * min(tail(differences), tail(-differences))))
    if verdict == "equivalent":
        verdict = verdict if max(tail(margin / n + differences), tail(margin / n - differences)) <= LEVEL else "undecided"
    return ("undecided" if verdict in ("better", "worse") and p > LEVEL else verdict), p


def _differences(problems: pd.DataFrame, model: str, reference: str, seeds: list, shares: dict[str, float]) -> np.ndarray:
    """Each problem's part of model − reference in points, averaged over seeds, weighted by its benchmark's share."""
    some = problems[problems["seed"].isin(seeds) & problems["benchmark"].map(shares).gt(0)]
    means = some.groupby(["model", "benchmark", "problem_id"], observed=True)["value"].mean()
    apart = (means[model] - means[reference]).dropna()
    benchmarks = apart.index.get_level_values("benchmark")
    return 100 * (apart * benchmarks.map(shares) / benchmarks.map(benchmarks.value_counts())).to_numpy()


def comparison_table(
    scores: pd.DataFrame,
    pairs: list[tuple[str, str]],
    overs: list[str],
    margin: float = MARGIN,
    draws: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Paired differences model − reference, one row for each pair and each of `overs`, all from one redraw.

    `scores`: graded samples of one split, with every model that shares the table (an ungraded problem is dropped for all).
    `overs`: 'overall', domains or benchmarks. Returns model, reference, over, estimate, low, high (95%), low90, high90, p,
    seen (points; smallest effect seen in 80% of repetitions), margin, verdict, benchmarks, n (problems), seeds, seed_sd,
    scope. Seeds are those that both models have. ValueError of one line: unknown model or `over`, no seed in common, a cell
    refused for ungraded problems. 78.0 against 74.0 on 2000 problems: 4.0, 'better' if the interval is above 0.
    """
    if not margin > 0:
        raise ValueError(f"margin = {margin!r} points: a number above 0 is allowed")
    problems = problem_means(scores)
    sample, rows = resample(problems, draws=draws, seed=seed), []
    for model, reference in pairs:
        seeds = sorted(set(sample.seeds(model)) & set(sample.seeds(reference)))
        if not seeds:
            raise ValueError(
                f"{model} has seeds {sample.seeds(model)}, {reference} {sample.seeds(reference)}: one in common is needed"
            )
        for over in overs:
            weights = sample.weights(over)
            (a, a_draws, a_reason), (b, b_draws, b_reason) = (sample.values(name, seeds, weights) for name in (model, reference))
            if a_reason or b_reason:
                raise ValueError(f"cannot compare {model} with {reference}: {a_reason or b_reason}")
            found, sizes = interval(a - b, a_draws - b_draws, seed), sample.benchmarks[weights > 0]
            n = int(sizes["n"].sum())
            tied = not np.ptp(a_draws - b_draws, axis=0).any()
            if tied:
                found |= without_spread(found, n)
            verdict = three_way(*(found[key] for key in ("low", "high", "low90", "high90")), margin)
            if tied and not found["estimate"]:  # all pairs equal: a spread of zero shows no equivalence
                verdict = "undecided"
            if n < FEWEST:
                shares = dict(zip(sample.benchmarks.index, weights))
                differences = _differences(problems, model, reference, seeds, shares)
                verdict, found["p"] = few_problems(differences, verdict, found["p"], margin)
            named = {"model": model, "reference": reference, "over": over, "margin": margin, "verdict": verdict}
            rows.append(named | found | {"benchmarks": len(sizes), "n": n})
    return pd.DataFrame(rows, columns=COMPARED)


def compare(
    scores: pd.DataFrame,
    model: str,
    reference: str,
    over: str = OVERALL,
    margin: float = MARGIN,
    draws: int = 10_000,
    seed: int = 0,
) -> pd.Series:
    """The single row of `comparison_table` for one pair and one `over`."""
    return comparison_table(scores, [(model, reference)], [over], margin, draws, seed).iloc[0]


def verdict_sentence(comparison: pd.Series, names: dict[str, str] | None = None) -> str:
    """A row of `comparison_table` in English, whatever its verdict; `names` replaces display names (see `chosen`).

    'RL-Multi is better than the best merge (TIES, chosen on selection data) by 4.1 points [1.2, 7.0], 10 benchmarks,
    n = 2000 problems, 1 seed: speaks of these weights (95% interval; margin ±3 points).'
    """
    row, names = comparison, names or {}
    a, b = (names.get(model) or display_name(model) for model in (row["model"], row["reference"]))
    span = "" if row["over"] == OVERALL else f" on {row['over'].replace('_', ' ')}"
    kind = "95% interval"
    if row["verdict"] in ("better", "worse"):
        size, low, high = (
            (row["estimate"], row["low"], row["high"])
            if row["verdict"] == "better"
            else (-row["estimate"], -row["high"], -row["low"])
        )
        claim = f"{a} is {row['verdict']} than {b}{span} by {size:.1f} points [{low:.1f}, {high:.1f}]"
    elif row["verdict"] == "equivalent":
        kind = "90% interval, inside the margin"
        claim = f"{a} and {b} are equivalent{span}: {row['estimate']:+.1f} points [{row['low90']:.1f}, {row['high90']:.1f}]"
    else:
        claim = (
            f"Whether {a} is better or worse than {b}{span} is undecided: {row['estimate']:+.1f} points "
            f"[{row['low']:.1f}, {row['high']:.1f}], smallest effect that could have been seen {row['seen']:.1f} points"
        )
    counted = f"{_count(row['benchmarks'], 'benchmark')}, n = {row['n']} problems, {_count(row['seeds'], 'seed')}"
    return f"{claim}, {counted}: speaks of {row['scope']} ({kind}; margin ±{row['margin']:g} points)."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def chance_adjusted(table: pd.DataFrame, chance: dict[str, float]) -> pd.DataFrame:
    """A score table with adjusted, adjusted_low, adjusted_high: 100 (acc − c) / (1 − c), c the chance of a benchmark.

    `chance` maps every benchmark of the table to its c in [0, 1). 40 points where c = 0.25: adjusted 20. ValueError else.
    """
    require_columns(table, ["benchmark", "score", "low", "high"], "score table")
    lacking = sorted(set(table["benchmark"]) - set(chance))
    if lacking or not all(0 <= c < 1 for c in chance.values()):
        raise ValueError(
            f"chance lacks {', '.join(lacking) or 'nothing'}, has {chance}: one number in [0, 1) a benchmark is needed"
        )
    c = 100 * table["benchmark"].map(chance).astype(float)
    adjust = {
        column: 100 * (table[source] - c) / (100 - c)
        for column, source in [("adjusted", "score"), ("adjusted_low", "low"), ("adjusted_high", "high")]
    }
    return table.assign(**adjust)


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Benjamini–Hochberg-adjusted p values of one family, in the order given: 0.01, 0.04, 0.03 → 0.03, 0.04, 0.04."""
    return stats.false_discovery_control(_probabilities(p), method="bh")


def _probabilities(p) -> np.ndarray:
    p = np.asarray(p, dtype=float)
    if p.ndim != 1 or not len(p) or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p values {p.tolist()}: a list of numbers from 0 to 1 is allowed")
    return p


def form_table(scores: pd.DataFrame, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """Is it the form or the skill? P(parsed), P(right | parsed) and the truncated share, for each model and benchmark.

    Returns `statistics.TABLE` with `measure` ('parsed', 'right if parsed', 'truncated') after benchmark; score, low, high
    in percent. 20 of 40 samples parsed, 15 of these right: parsed 50, right if parsed 75. Needs parsed and truncated.
    """
    require_columns(scores, ["parsed", "truncated"], "scores")
    problems = problem_means(scores)
    parts = {name: resample(problems, name, draws, seed) for name in ("parsed", "parsed_correct", "truncated")}
    sample, rows = parts["parsed"], []
    for model in pd.unique(scores["model"]):
        seeds = sample.seeds(model)
        for place, (benchmark, domain) in enumerate(sample.benchmarks["domain"].items()):
            if not sample.k[place, sample.columns(model, seeds)].any():
                continue
            weights = sample.weights(benchmark)
            values = {name: part.values(model, seeds, weights) for name, part in parts.items()}
            (some, some_draws, reason), (right, right_draws, _) = values["parsed"], values["parsed_correct"]
            with np.errstate(divide="ignore", invalid="ignore"):
                given, given_draws = 100 * right / some, 100 * right_draws / some_draws
            reason = reason or ("" if np.isfinite(given_draws).all() else "too few parsed answers")
            values["right if parsed"] = given, given_draws, reason
            row = describe(sample, model, domain, benchmark, weights)
            rows += [
                {**row, **measured(*values[name], seed), "measure": name} for name in ("parsed", "right if parsed", "truncated")
            ]
    return pd.DataFrame(rows, columns=[*TABLE[:3], "measure", *TABLE[3:]]).astype({"k": "Int64"})
