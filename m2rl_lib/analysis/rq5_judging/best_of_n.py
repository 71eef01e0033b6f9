"""What a model's own judgement is good for: choosing one of its N samples (RQ5). Beside it are a single sample (Avg@K), the
majority's answer, and the oracle (any right one). Ties share: a problem's value is the mean over the samples, or answers, that
tie."""

import numpy as np
import pandas as pd

from m2rl_lib.evaluation.judging import CANDIDATES, JUDGED
from m2rl_lib.stats.bootstrap import interval, resample
from m2rl_lib.stats.comparisons import FEWEST, MARGIN, display_name, three_way
from m2rl_lib.stats.graded_samples import require_columns

SINGLE, MAJORITY, ORACLE = "single sample", "majority vote", "oracle"
CHOOSERS = (SINGLE, MAJORITY, "own judgement, outcome", "own judgement, process", ORACLE)


def choose(judged: pd.DataFrame) -> pd.DataFrame:
    """The value (0 to 1) of each way of choosing on each problem of each seed; samples that tie share."""
    require_columns(judged, JUDGED, "verdicts")
    rows, keys = [], ["seed", "judge", "domain", "benchmark", "problem_id"]
    for key, cell in judged[judged["set"] == CANDIDATES].groupby(keys, sort=False):
        one = cell[cell["mode"] == cell["mode"].iloc[0]]
        values = {SINGLE: one["right"].mean(), MAJORITY: majority(one), ORACLE: float(one["right"].any())}
        for mode, part in cell.groupby("mode", sort=False):
            values[f"own judgement, {mode}"] = part.loc[part["score"] == part["score"].max(), "right"].mean()
        rows += [(*key, chooser, float(values[chooser]), len(one)) for chooser in CHOOSERS]
    return pd.DataFrame(rows, columns=[*keys, "chooser", "value", "samples"])


def majority(samples: pd.DataFrame) -> float:
    """The share right of the most frequent answer; samples without an answer do not vote, unless none has one."""
    voters = samples.dropna(subset="answer") if samples["answer"].notna().any() else samples.assign(answer="")
    votes = voters.groupby("answer")["right"].agg(["size", "mean"])
    return float(votes.loc[votes["size"] == votes["size"].max(), "mean"].mean())


def best_of_n_table(judged: pd.DataFrame, margin: float = MARGIN, draws: int = 10_000) -> pd.DataFrame:
    """Score of every way of choosing by judge and domain, in points, and its gain over the majority vote of the same samples."""
    rows = []
    for (judge, domain), part in choose(judged).groupby(["judge", "domain"], sort=False):
        problems = part.rename(columns={"chooser": "model", "samples": "k"}).assign(graded=True)
        by_seed = {number: resample(own, draws=draws) for number, own in problems.groupby("seed")}
        found = {}
        for chooser in CHOOSERS:
            values = [sample.values(chooser, [number], sample.weights(domain)) for number, sample in by_seed.items()]
            found[chooser] = np.concatenate([one[0] for one in values]), np.hstack([one[1] for one in values])
        for chooser, (points, resampled) in found.items():
            score, gain = interval(points, resampled), interval(points - found[MAJORITY][0], resampled - found[MAJORITY][1])
            verdict = "" if chooser == MAJORITY else three_way(gain, margin)
            if verdict and (not np.ptp(resampled - found[MAJORITY][1]) or part["problem_id"].nunique() < FEWEST):
                verdict = "undecided"  # all alike, or few: the spread is unknown
            numbers = [one[name] for one in (score, gain) for name in ("estimate", "low", "high")]
            counts = part["problem_id"].nunique(), int(part["samples"].max()), len(by_seed)
            rows.append((judge, domain, chooser, *numbers, verdict, *counts))
    return pd.DataFrame(rows, columns=TABLE)


TABLE = ["judge", "domain", "chooser", "score", "low", "high", "gain", "gain_low", "gain_high", "verdict"]
TABLE += ["n", "samples", "seeds"]


def single_sentence(table: pd.DataFrame) -> str:
    """How many judges' own judgement, by its better mode, scores below a single sample taken at random, of a `best_of_n_table`."""
    means = mean_table(table)
    own = means[[name for name in CHOOSERS if name.startswith("own")]].max(axis=1)
    behind = (own - means[SINGLE]).sort_values()
    below = [f"{display_name(judge)} {gap:+.1f}" for judge, gap in behind[behind < 0].items()]
    said = f"In the mean over domains own judgement, by its better mode, is below a single random sample for {len(below)} of {len(own)} judges"
    return f"{said} ({', '.join(below)} points)." if below else f"{said}."


def mean_table(table: pd.DataFrame) -> pd.DataFrame:
    """The mean score over the domains that a judge chose in, a row a judge and a column a chooser, and how many domains."""
    wide = table.pivot_table(index="judge", columns="chooser", values="score", sort=False)[list(CHOOSERS)]
    return wide.assign(domains=table.groupby("judge")["domain"].nunique())
