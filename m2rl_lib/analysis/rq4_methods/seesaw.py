"""The seesaw: is no merging method best everywhere, or does it only look so?

Equal methods have different winners too. What decides is the *gain of choosing by benchmark*, against two nulls, of which the
larger p counts: *samples* deals a problem's graded samples out anew to the methods, *problems* permutes the methods' results on a
problem."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from m2rl_lib.stats.averages import average_table, averages, choose_on_selection, score_table
from m2rl_lib.stats.bootstrap import OVERALL, resample
from m2rl_lib.stats.comparisons import LEVEL, benjamini_hochberg, comparison_table, display_name
from m2rl_lib.stats.graded_samples import UNTRAINED, models_lacking, problem_means

GAIN, WINNERS = "gain of choosing by benchmark", "winners"


def place_methods(table: pd.DataFrame) -> pd.DataFrame:
    """A table of scores with `place` on each benchmark: 1 is best, equals share the better place (60, 70, 70 have 3, 1, 1)."""
    wide = table.pivot(index="model", columns="benchmark", values="score")
    if wide.isna().any(axis=None):
        model, benchmark = wide.index[wide.isna().any(axis=1)][0], wide.columns[wide.isna().any()][0]
        raise ValueError(f"{model} has no score on {benchmark}: places need every method on every benchmark")
    rounded = table["score"].round(9)  # sums in another order must not break a tie
    return table.assign(place=rounded.groupby(table["benchmark"]).rank(ascending=False, method="min").astype(int))


def table_of_methods(table: pd.DataFrame, methods: list[str], beside: Sequence[str] = ()) -> pd.DataFrame:
    """The placed scores of `methods`, a benchmark 'mean' first, and below them the models `beside`, which do not compete."""
    means = averages(table[table["model"].isin([*methods, *beside])]).query("domain == @OVERALL")
    whole = pd.concat([means.assign(benchmark="mean"), table])
    competing = place_methods(whole[whole["model"].isin(methods)])
    both = pd.concat([competing, whole[whole["model"].isin(beside)].assign(place=np.nan)])
    return both.sort_values("model", key=pd.Index([*methods, *beside]).get_indexer, kind="stable", ignore_index=True)


def count_winners(placed: pd.DataFrame) -> int:
    """How many different methods are best, alone or with others, on at least one benchmark of a placed table."""
    return placed.loc[placed["place"] == 1, "model"].nunique()


def contenders(selection: pd.DataFrame, methods: list[str], draws: int = 10_000) -> list[str]:
    """The methods whose mean on the selection split is not shown to be below the best one's (paired 95% interval), in order."""
    best = choose_on_selection(selection, methods)
    pairs = [(method, best) for method in methods if method != best]
    some = selection[selection["model"].isin(methods)]
    worse = set(comparison_table(some, pairs, [OVERALL], draws=draws).query("verdict == 'worse'")["model"])
    return [method for method in methods if method not in worse]


def count_wins(scores: pd.DataFrame, methods: list[str], margin: float, draws: int = 10_000) -> pd.DataFrame:
    """Verdicts of each method against each other on each benchmark, counted; undecided if not significant as one family."""
    benchmarks = list(pd.unique(scores.loc[~scores["domain"].isin(UNTRAINED), "benchmark"]))
    some = scores[scores["model"].isin(methods)]
    compared = comparison_table(some, list(combinations(methods, 2)), benchmarks, margin, draws)
    lucky = benjamini_hochberg(compared["p"]) > LEVEL
    compared["verdict"] = compared["verdict"].mask(compared["verdict"].isin(["better", "worse"]) & lucky, "undecided")
    mirrored = compared.replace({"verdict": {"better": "worse", "worse": "better"}}).assign(model=compared["reference"])
    counts = pd.concat([compared, mirrored])[["model", "verdict"]].value_counts().unstack("verdict", fill_value=0)
    counts = counts.reindex(index=methods, columns=["better", "worse", "equivalent", "undecided"], fill_value=0)
    return counts.rename_axis(index="model", columns=None).reset_index()


def summarise_methods(scores: pd.DataFrame, methods: list[str], margin: float, draws: int = 10_000) -> pd.DataFrame:
    """One row a method, best mean first: on how many benchmarks it is `first` and `second` (equals share one), `leads` (% of bootstrap resamples in which its mean is best), `count_wins`."""
    some = scores[scores["model"].isin(methods) & ~scores["domain"].isin(UNTRAINED)]
    means = average_table(some, draws=draws).query("domain == @OVERALL").set_index("model")
    placed = place_methods(score_table(some, draws=1))
    sample = resample(problem_means(some), draws=draws)
    resampled = [sample.values(method, sample.seeds(method), sample.weights(OVERALL))[1].mean(axis=1) for method in methods]
    resampled = np.round(resampled, 9)
    best = resampled == resampled.max(axis=0)
    table = means.loc[methods, ["score", "low", "high", "n", "k", "seeds", "scope"]]
    for place, name in enumerate(("first", "second"), 1):
        held = placed[placed["place"] == place]
        shares = 1 / held.groupby("benchmark")["model"].transform("size")  # of a tie, each has its share
        table[name] = shares.groupby(held["model"]).sum().reindex(methods, fill_value=0.0)
    table["leads"] = 100 * (best / best.sum(axis=0)).mean(axis=1)
    table = table.join(count_wins(some, methods, margin, draws).set_index("model"))
    return table.sort_values("score", ascending=False, kind="stable").reset_index()


def compare_with_null(scores: pd.DataFrame, methods: list[str], draws: int = 10_000) -> pd.DataFrame:
    """GAIN (points) and WINNERS (number) against both nulls: expected, low, high of the null, p one-sided, general left out.
    Methods that are `copies` of another count as one with it."""
    right, row_of, weights, k, seeds = _counts_right(scores, methods)
    pick = (row_of[None] == np.arange(len(weights))[:, None]).astype(float)
    pick *= 100 / k / pick.sum(axis=1, keepdims=True)

    def measures(counts: np.ndarray) -> tuple[float, int]:
        cells = (pick @ counts).round(9)
        best = cells.max(axis=1)
        return weights @ best - (weights @ cells).max(), int((cells == best[:, None]).any(axis=0).sum())

    observed, rows = measures(right), []
    nulls = {"samples": _deal_samples, "problems": lambda right, _, generator: generator.permuted(right, axis=1)}
    for null, deal in nulls.items():
        generator = np.random.default_rng([0, len(null)])
        dealt = np.array([measures(deal(right, k, generator)) for _ in range(draws)])
        for column, measure in enumerate((GAIN, WINNERS)):
            low, high = np.quantile(dealt[:, column], [0.025, 0.975])
            p = (1 + (dealt[:, column] >= observed[column] - 1e-9).sum()) / (draws + 1)
            rows.append((measure, null, observed[column], dealt[:, column].mean(), low, high, p))
    known = {"methods": right.shape[1], "benchmarks": len(weights), "n": len(right) // seeds, "k": k, "seeds": seeds}
    return pd.DataFrame(rows, columns=["measure", "null", "observed", "expected", "low", "high", "p"]).assign(**known)


def answer_table(summary: pd.DataFrame, tested: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """RQ4's answer as `plot_answer` draws it: panel, row, value, low, high, best, benchmarks. Of each method of a
    `summarise_methods` its mean, and on how many benchmarks it is best; of each `compare_with_null` (`tested`, by name) the gain
    of choosing by benchmark, and the interval of luck by the null with the larger p. All in points."""
    means = summary.rename(columns={"model": "row", "score": "value", "first": "best"}).assign(panel="means")
    gains = [table[table["measure"] == GAIN].sort_values("p").iloc[[-1]].assign(row=name) for name, table in tested.items()]
    both = pd.concat([means, pd.concat(gains).rename(columns={"observed": "value"}).assign(panel="gain")], ignore_index=True)
    benchmarks = both["benchmarks"].dropna().iloc[0]
    columns = ["panel", "row", "value", "low", "high", "best", "benchmarks", "n", "seeds", "p"]
    return both.assign(benchmarks=benchmarks).reindex(columns=columns)


def _counts_right(scores: pd.DataFrame, methods: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int]:
    """Right samples (problems and seeds, methods but `copies`), each row's benchmark as a number, benchmarks' weights, K, seeds."""
    unknown = models_lacking(scores, methods)
    if unknown or len(methods) < 2:
        raise ValueError(f"a seesaw of {len(methods)} methods, without scores: {', '.join(unknown) or 'none'}; two are needed")
    wide, ks = _solved(scores, methods)
    if len(ks) > 1:
        raise ValueError(f"a seesaw of methods with K = {', '.join(map(str, sorted(ks)))} samples: equally many are needed")
    wide = wide.drop(columns=[*_copies(wide)])
    names = wide.index.to_frame(index=False)
    row_of, benchmarks = pd.factorize(names["benchmark"])
    if len(benchmarks) < 2:
        raise ValueError(f"a seesaw on {len(benchmarks)} benchmarks: two are needed")
    homes = names.drop_duplicates("benchmark")["domain"]
    weights = 1 / homes.map(homes.value_counts()).to_numpy() / homes.nunique()
    return wide.to_numpy().astype(int), row_of, weights, int(ks[0]), names["seed"].nunique()


def _solved(scores: pd.DataFrame, methods: list[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """Right samples by problem and seed (rows: domain, benchmark, seed, problem_id) and method (columns), and every K."""
    problems = problem_means(scores[scores["model"].isin(methods) & ~scores["domain"].isin(UNTRAINED)])
    solved = problems.assign(solved=problems["solved"].where(problems["graded"]))
    wide = solved.pivot(index=["domain", "benchmark", "seed", "problem_id"], columns="model", values="solved")
    return wide[methods].dropna(), problems["k"].unique()


def _copies(wide: pd.DataFrame) -> dict[str, str]:
    firsts = {tuple(wide[method]): method for method in reversed(wide.columns)}
    return {method: first for method in wide.columns if (first := firsts[tuple(wide[method])]) != method}


def copies(scores: pd.DataFrame, methods: list[str]) -> dict[str, str]:
    """Methods that were right as often as an earlier one on every problem, and which: RAM+ where it merges as RAM does."""
    return _copies(_solved(scores, methods)[0])


def _deal_samples(counts: np.ndarray, k: int, generator: np.random.Generator) -> np.ndarray:
    """The right samples of each row dealt out anew to its methods, k to each, every deal equally likely."""
    left, total, dealt = counts.sum(axis=1), k * counts.shape[1], np.empty_like(counts)
    for column in range(counts.shape[1]):
        dealt[:, column] = generator.hypergeometric(left, total - left, k)
        left, total = left - dealt[:, column], total - k
    return dealt


SAID = {  # by the verdict on the paper's claim of a seesaw
    "supported": "No method is best everywhere",
    "contradicted": "One method is as good as choosing by benchmark",
}


def answer_sentences(summary: pd.DataFrame, row: pd.Series, margin: float, same: dict[str, str]) -> str:
    """RQ4 in a few sentences: whether one method is best (the ledger's `row` of the seesaw), which of `summarise_methods` leads,
    the gain of choosing by benchmark (of the same row) beside the margin (points), and which methods are `copies` (`same`)."""
    best = summary.iloc[0]
    said = f"**{SAID.get(row['verdict'], 'Whether one method is best everywhere is ' + row['verdict'])}.** "
    said += f"{display_name(best['model'])} has the highest mean ({best['score']:.1f} points) "
    said += f"and is best on {best['first']:.2g} of {summary['first'].sum():.0f} benchmarks"
    if np.isfinite(row["estimate"]):
        place = "less" if row["high"] < margin else "more" if row["low"] > margin else "which may be less or more"
        said += f"; choosing the best method for each benchmark gains {row['estimate']:.1f} points "
        said += f"[{row['low']:.1f}, {row['high']:.1f}] more than luck, {place} than the margin of {margin:g} points"
    named = [[display_name(name) for name in pair] for pair in same.items()]
    pairs = [f"{copy} was right as often as {method} on every problem" for copy, method in named]
    return f"{said}." + f" {', '.join(pairs)}: they count as one method and share a place." * bool(pairs)


def seesaw_sentence(tested: pd.DataFrame) -> str:
    """What `compare_with_null` measured, in English; the gain by the null with the larger p."""
    gain, winners = (tested[tested["measure"] == measure] for measure in (GAIN, WINNERS))
    row, chance = gain.loc[gain["p"].idxmax()], winners[winners["null"] == "samples"].iloc[0]
    counts = f"p = {row['p']:.2g}, null of {row['null']}, n = {row['n']} problems, K = {row['k']}"
    said = f"Choosing the best of {row['methods']} methods for each of {row['benchmarks']} benchmarks would gain "
    said += f"{row['observed']:.1f} points over the one best method; methods of equal accuracy give {row['expected']:.1f} "
    said += f"[{row['low']:.1f}, {row['high']:.1f}] by luck ({counts}). There are {chance['observed']:.0f} different winners; "
    return said + f"equal methods have {chance['expected']:.1f} [{chance['low']:.0f}, {chance['high']:.0f}]."
