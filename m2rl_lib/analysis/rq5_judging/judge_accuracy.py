"""What judges' verdicts are worth: accuracy, AUROC and calibration, and where errors are seen (RQ5).

The unit is a problem with all its trajectories, resampled within each benchmark, alike for both modes, all judges of a set and
all seeds. A measure of a seed is a vector of 1 + draws numbers: the estimate, then its bootstrap resamples. A verdict by
probability is 'right' where the score is above 0; a written verdict that is unreadable counts as a wrong one."""

import zlib
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy.special import expit

from m2rl_lib.evaluation.judging import JUDGED, PLANTED, SHARED
from m2rl_lib.stats.bootstrap import interval
from m2rl_lib.stats.comparisons import FEWEST, MARGIN, three_way
from m2rl_lib.stats.graded_samples import require_columns

CELL = ["set", "judge", "domain", "mode"]
MEASURES = {  # measure: what it is
    "accuracy": "verdicts by probability that agree with the verifier, points",
    "balanced": "mean of the shares of right and of wrong trajectories judged so, points",
    "wrong seen": "share of the wrong trajectories judged wrong, points",
    "written": "written verdicts that agree with the verifier, points",
    "unreadable": "written verdicts that cannot be read, points",
    "auroc": "chance that a right trajectory has a higher score than a wrong one",
    "brier": "mean squared difference of P(right) from the truth",
    "ece": "calibration error: mean difference of P(right) from the share right, over ten bins of P(right)",
}
BETWEEN_0_AND_1 = ("auroc", "brier", "ece")  # the others are between 0 and 100
BINS = 10
SIGNS = ((1.0, "process"), (-1.0, "outcome"))  # of their difference
NUMBERS = ["estimate", "low", "high", "p", "seen", "problems", "seeds", "seed_sd", "reason"]  # of an interval


@dataclass(frozen=True)
class Measured:
    """Measures of cells: `values[(*key, measure)]` has for each seed of the cell a vector (1 + draws,), `problems[key]` the names
    of those it was asked; `cells`, one row per key, has trajectories, right and problems of all its seeds."""

    by: list[str]
    cells: pd.DataFrame
    problems: dict[tuple, dict[int, set[str]]]
    values: dict[tuple, dict[int, np.ndarray]]


def measure_cells(judged: pd.DataFrame, by: list[str], draws: int = 10_000) -> Measured:
    """`MEASURES` of each cell of `judged`, a cell for each value of the columns `by` (`CELL`, or more)."""
    rows, problems, values = [], {}, {}
    if len(judged):
        require_columns(judged, [*JUDGED, *by], "verdicts")
    for _, part in judged.groupby(["set", "domain"], sort=False):
        weights = _problem_weights(part, draws)
        for key, cell in part.groupby(by, sort=False):
            problems[key] = {}
            for number, own in cell.groupby("seed"):
                for name, vector in measure(own, weights[own["problem_id"]].to_numpy()).items():
                    values.setdefault((*key, name), {})[number] = vector
                problems[key][number] = set(own["problem_id"])
            rows.append((*key, len(cell), int(cell["right"].sum()), cell["problem_id"].nunique()))
    return Measured(by, pd.DataFrame(rows, columns=[*by, "trajectories", "right", "problems"]), problems, values)


def _problem_weights(judged: pd.DataFrame, draws: int) -> pd.DataFrame:
    """How often each problem (column) is drawn, within its benchmark: once each in the first row, then in each resample."""
    parts = []
    for benchmark, part in judged.groupby("benchmark", sort=True):
        names = sorted(part["problem_id"].unique())
        generator = np.random.default_rng([0, zlib.crc32(str(benchmark).encode())])
        drawn = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
        parts.append(pd.DataFrame(np.vstack([np.ones(len(names)), drawn]), columns=names))
    return pd.concat(parts, axis=1)


def measure(cell: pd.DataFrame, weights: np.ndarray) -> dict[str, np.ndarray]:
    """`MEASURES` for each row of weights (1 + draws, n). Scores 2, −1 of right, −3, 1 of wrong ones: accuracy 50, AUROC 3/4."""
    right, score = cell["right"].to_numpy(bool), cell["score"].to_numpy(float)
    probability, says = expit(score), score > 0
    total, of_right, of_wrong = weights.sum(1), weights[:, right], weights[:, ~right]
    above = (score[right][:, None] > score[~right]) + 0.5 * (score[right][:, None] == score[~right])
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = [np.abs(weights[:, bins == b] @ (probability - right)[bins == b]) for b in np.unique(bins)]
    words = cell["verdict"].to_numpy(object)
    with np.errstate(invalid="ignore", divide="ignore"):
        wrong_seen = of_wrong @ ~says[~right] / of_wrong.sum(1)
        return {
            "accuracy": 100 * (weights @ (says == right)) / total,
            "balanced": 50 * (of_right @ says[right] / of_right.sum(1) + wrong_seen),
            "wrong seen": 100 * wrong_seen,
            "written": 100 * (weights @ (words == np.where(right, "right", "wrong"))) / total,
            "unreadable": 100 * (weights @ pd.isna(words)) / total,
            "auroc": ((of_right @ above) * of_wrong).sum(1) / (of_right.sum(1) * of_wrong.sum(1)),
            "brier": weights @ (probability - right) ** 2 / total,
            "ece": sum(gaps) / total,
        }


def add_up(measured: Measured, terms: list[tuple[float, tuple]]) -> dict[int, np.ndarray]:
    """Σ weight · measure over the terms (weight, (*key, measure)), by seed: (1 + draws,). Seeds that lack a term are left out."""
    found = [measured.values.get(key, {}) for _, key in terms]
    seeds = sorted(set.intersection(*map(set, found)))
    sums = {seed: sum(weight * values[seed] for (weight, _), values in zip(terms, found)) for seed in seeds}
    return {seed: vector for seed, vector in sums.items() if np.isfinite(vector).all()}


def combine(measured: Measured, terms: list[tuple[float, tuple]]) -> dict:
    """`interval` of Σ weight · measure over the terms and the seeds that have all; with problems and `reason` ('' or why NaN)."""
    by_seed = add_up(measured, terms)
    asked = {(key[0], key[2]): measured.problems.get(key[:-1], {}) for _, key in terms}  # a set and domain, asked once or twice
    names = [set().union(*(some[number] for number in some if number in by_seed or not by_seed)) for some in asked.values()]
    found = {"problems": sum(map(len, names))}
    if not by_seed:
        lacking = [key for _, key in terms if key not in measured.values]
        reason = f"nothing to judge: {', '.join(map(str, lacking[0][:4]))}" if lacking else "too few right or wrong trajectories"
        return dict.fromkeys([*NUMBERS[:5], "low90", "high90", "seed_sd"], np.nan) | found | {"seeds": 0, "reason": reason}
    vectors = np.array(list(by_seed.values()))
    found |= interval(vectors[:, 0], vectors[:, 1:].T) | {"reason": ""}
    if [weight for weight, _ in terms] == [1.0]:
        most = 1.0 if terms[0][1][-1] in BETWEEN_0_AND_1 else 100.0
        found |= {end: float(np.clip(found[end], 0, most)) for end in ("low", "high", "low90", "high90")}
    return found


def measure_table(measured: Measured) -> pd.DataFrame:
    """Every measure of every cell with its 95% interval."""
    columns, rows = ["estimate", "low", "high", "seeds", "seed_sd", "reason"], []
    for cell in measured.cells.itertuples(index=False, name=None):
        for name in MEASURES:
            found = combine(measured, [(1.0, (*cell[: len(measured.by)], name))])
            rows.append((*cell, name, *(found[column] for column in columns)))
    return pd.DataFrame(rows, columns=[*measured.cells.columns, "measure", *columns])


def difference_table(measured: Measured, margin: float = MARGIN) -> pd.DataFrame:
    """Process − outcome of every judge, set and domain in accuracy, paired, with its interval and three-way verdict."""
    rows = []
    for key in measured.cells[CELL[:3]].drop_duplicates().itertuples(index=False, name=None):
        found = combine(measured, [(sign, (*key, mode, "accuracy")) for sign, mode in SIGNS])
        rows.append(dict(zip(CELL, key)) | {"measure": "accuracy"} | judge_interval(found, margin))
    return pd.DataFrame(rows, columns=[*CELL[:3], "measure", "verdict", *NUMBERS])


def thought_table(judged: pd.DataFrame, draws: int = 10_000) -> pd.DataFrame:
    """Accuracy, over all domains, of the verdicts before which a judge thought and of those given at once; `share` in %."""
    rows = name_experts(judged).assign(domain="all")
    table = measure_table(measure_cells(rows, [*CELL, "thought"], draws)).query("measure == 'accuracy'")
    counts = table.groupby(["judge", "mode"], sort=False)["trajectories"]
    table["share"] = 100 * table["trajectories"] / counts.transform("sum")
    return table[["judge", "mode", "thought", "share", "estimate", "low", "high", "trajectories", "problems", "seeds"]]


def against_sft(judged: pd.DataFrame, names: list[str], draws: int = 10_000, margin: float = MARGIN) -> pd.DataFrame:
    """Each domain's expert − SFT in accuracy on SFT's trajectories, paired, by mode: on all, and where both thought."""
    judged, rows = name_experts(judged[judged["set"] == SHARED]), []
    judged = judged[judged["judge"].isin(["sft", "expert"])]
    both = judged.groupby(["seed", "domain", "problem_id", "sample", "mode"])["thought"].transform("sum") == 2
    for which, some in {"all": judged, "both thought": judged[both]}.items():
        measured = measure_cells(some, CELL, draws)
        for (_, mode), (over, parts) in product(SIGNS, {"overall": names, **{name: [name] for name in names}}.items()):
            sides = product(parts, (("expert", 1.0), ("sft", -1.0)))
            terms = [(sign / len(parts), (SHARED, judge, name, mode, "accuracy")) for name, (judge, sign) in sides]
            rows.append({"verdicts": which, "domain": over, "mode": mode} | judge_interval(combine(measured, terms), margin))
    return pd.DataFrame(rows, columns=["verdicts", "domain", "mode", "verdict", *NUMBERS])


def judge_interval(found: dict, margin: float) -> dict:
    """An interval with its verdict, undecided where all problems came out alike or there are few: the spread is unknown."""
    unknown = found["low"] == found["high"] or found["problems"] < FEWEST
    verdict = "not answerable" if found["reason"] else "undecided" if unknown else three_way(found, margin)
    return {name: found[name] for name in NUMBERS} | {"verdict": verdict}


def reliability_table(judged: pd.DataFrame) -> pd.DataFrame:
    """The judge's mean probability of 'right' in each of ten bins, against the share that is right."""
    p = expit(judged["score"].to_numpy(float))
    rows = judged.assign(probability=p, bin=np.minimum((p * BINS).astype(int), BINS - 1), share=judged["right"].astype(float))
    groups = rows.groupby(["judge", "mode", "bin"], sort=True)
    table = groups.agg(probability=("probability", "mean"), share=("share", "mean"), n=("share", "size"))
    return table.reset_index().drop(columns="bin")


def against_right(judged: pd.DataFrame, column: str) -> pd.DataFrame:
    """Planted trajectories, those with a wrong step at each value of `column` (place or distance) beside all right ones."""
    planted, parts = judged[judged["set"] == PLANTED], []
    for _, cell in planted.groupby(["seed", "domain"], sort=False):
        for value, wrong in cell[~cell["right"]].groupby(column):
            parts += [wrong, cell[cell["right"]].assign(**{column: value})]
    return pd.concat(parts, ignore_index=True) if parts else planted


def horizon_table(measured: Measured, margin: float = MARGIN) -> pd.DataFrame:
    """How 'wrong seen' changes with each step of distance from the error to the end, by least squares ('better': it rises)."""
    rows = []
    for (_, judge, domain, mode), cell in measured.cells.groupby(CELL, sort=False):
        distance = cell["distance"].to_numpy(float)
        away = distance - distance.mean()
        slope = {"verdict": "not answerable", "reason": "one distance"}
        if len(distance) > 1:
            weights = away / (away**2).sum()
            terms = [(weight, (PLANTED, judge, domain, mode, d, "wrong seen")) for weight, d in zip(weights, distance)]
            slope = judge_interval(combine(measured, terms), margin)
        rows.append({"judge": judge, "domain": domain, "mode": mode, "distances": len(distance), **slope})
    return pd.DataFrame(rows, columns=["judge", "domain", "mode", "distances", "verdict", *NUMBERS])


def name_experts(table: pd.DataFrame) -> pd.DataFrame:
    """A table with each domain's own expert called 'expert' in the column judge, so that experts stand in one line."""
    return table.assign(judge=np.where(table["judge"] == "rl-" + table["domain"], "expert", table["judge"]))
