"""What predicts, before anything is trained jointly, whether mixing or merging wins? Measures of the experts alone, by the error of
one-predictor regressions on worlds that were left out, beside a constant guess."""

from itertools import permutations

import numpy as np
import pandas as pd

from m2rl_lib.analysis.rq3_policies.policy_neighbours import neighbour_table
from m2rl_lib.analysis.rq3_weights.mask_overlap import judged, whole
from m2rl_lib.analysis.rq6_when.points import CONTRASTS, MAIN, conflict_shares
from m2rl_lib.config import schedule
from m2rl_lib.config.study import Parameters
from m2rl_lib.stats.bootstrap import OVERALL, interval, resample
from m2rl_lib.stats.comparisons import LEVEL, benjamini_hochberg, three_way
from m2rl_lib.stats.graded_samples import problem_means

CONSTANT, PLANTED = "constant guess", "planted conflict"  # the latter is known in a planted world only
PREDICTORS = {  # name: column of `seed_points`
    CONSTANT: None,
    "cosine of task vectors": "cosine",
    "mask overlap": "overlap",
    "transfer to other domains": "transfer",
    "KL ratio of policies": "ratio",
    PLANTED: "conflict",
}
LEAST = 3  # worlds: with one left out, two are needed for a line
ERRORS = ["predictor", "rmse", "least", "most", "signs", "p", "p_least", "worlds", "points"]


def seed_points(
    frame: pd.DataFrame, p: Parameters, world: str, budget: float, cosines: pd.DataFrame, pairs: pd.DataFrame, kl: pd.DataFrame
) -> pd.DataFrame:
    """A row for each seed of a point, from its scores (`points.at_point`) and the tables of notebook 09: difference (mix − merge,
    points), cosine and overlap (Jaccard index of `judged` masks) of two experts, mean over pairs; transfer (an expert's gain in another
    domain, points) and ratio (D_A(A‖B) / D_A(A‖SFT); under 1, B is nearer than SFT), mean over ordered pairs; conflict."""
    sample = resample(problem_means(frame[frame["split"] == "test"]), draws=1)
    seeds, difference, _ = sample.difference(*CONTRASTS[MAIN], OVERALL)
    cells = [(f"rl-{one}", other) for one in p.domains for other in p.domains if one != other]
    of_seeds, gains, *_ = sample.changes(cells, "sft")
    table = pd.DataFrame({"difference": difference}, index=pd.Index(seeds, name="seed"))
    table["transfer"] = pd.Series(gains.mean(axis=0), index=of_seeds)
    experts = [schedule.at_budget(p, budget)[f"rl-{domain}"] for domain in p.domains]
    for column, value, measured in (("cosine", "cosine", cosines), ("overlap", "jaccard", judged(pairs))):
        among = whole(measured)[lambda rows: rows["model"].isin(experts) & rows["other"].isin(experts)]
        table[column] = among.groupby("seed")[value].mean()
    near = {seed: neighbour_table(rows[rows["budget"] == budget], p.domains)["ratio"].mean() for seed, rows in kl.groupby("seed")}
    table["ratio"] = pd.Series(near)
    return table.reset_index().assign(world=world, budget=budget, conflict=conflict_shares(p)[world])


def predict(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(worlds, cells): y of each world by the line of least squares in x through all other worlds' cells; NaN where there is none.
    Where x does not vary it is the constant guess, the others' mean: y 1, 2, 6 in three worlds of one cell give 4, 3.5, 1.5."""
    predicted, known = np.full(y.shape, np.nan), np.isfinite(x) & np.isfinite(y)
    for world in range(len(y)):
        rest = known & (np.arange(len(y)) != world)[:, None]
        level = not np.ptp(x[rest]) > 0  # the other worlds are alike in x: no slope can be known, and their mean is the guess
        intercept, slope = (y[rest].mean(), 0.0) if level else np.polynomial.polynomial.polyfit(x[rest], y[rest], 1)
        predicted[world] = np.where(known[world], intercept + slope * x[world], np.nan)
    return predicted


def _root(squares: np.ndarray) -> float:
    return float(np.sqrt(np.nanmean(squares)))


def error_table(points: pd.DataFrame) -> pd.DataFrame:
    """The error of each predictor on worlds that were left out whole, all their budgets and seeds: rmse (points; least and most of
    single worlds), signs (percentage of points whose sign is right), p (share of the exchanges of its values among worlds, or of
    1,000 of them, with as small a rmse) and p_least, the smallest there can be; of the budgets and seeds that every world has. Empty
    below LEAST worlds with all measures."""
    points = points.dropna(subset=["difference", *filter(None, PREDICTORS.values())])
    known = points.groupby(["budget", "seed"])["world"].transform("nunique")
    points = points[known == points["world"].nunique()]  # a gap would move with the values that are exchanged
    wide = points.pivot(index="world", columns=["budget", "seed"], values=["difference", *filter(None, PREDICTORS.values())])
    worlds, rows = len(wide), []
    if worlds < LEAST:
        return pd.DataFrame(columns=ERRORS)
    y, rng = wide["difference"].to_numpy(), np.random.default_rng(0)
    orders = list(permutations(range(worlds))) if worlds <= 6 else [range(worlds), *(rng.permutation(worlds) for _ in range(999))]
    for predictor, column in PREDICTORS.items():
        x = wide[column].to_numpy() if column else np.zeros_like(y)
        predicted = predict(x, y)
        squares = (predicted - y) ** 2
        errors = np.array([_root((predict(x[list(order)], y) - y) ** 2) for order in orders]) if column else np.zeros(len(orders))
        single = [_root(row) for row in squares]
        right = 100 * (np.sign(predicted) == np.sign(y)).mean()
        p = np.mean(errors <= errors[0] + 1e-9)
        rows.append((predictor, _root(squares), min(single), max(single), right, p, 1 / len(orders), worlds, y.size))
    return pd.DataFrame(rows, columns=ERRORS)


def conflict_slopes(points: pd.DataFrame) -> pd.DataFrame:
    """What conflict does, paired by seed, since all worlds of a seed start from one SFT model: budget, seed, and the slope of
    difference (points, from none to all of the words in conflict) by least squares through the worlds' `seed_points`."""
    rows = []
    for (budget, seed), part in points.dropna(subset="difference").groupby(["budget", "seed"]):
        if part["conflict"].nunique() > 1:
            rows.append((budget, seed, np.polynomial.polynomial.polyfit(part["conflict"], part["difference"], 1)[1]))
    return pd.DataFrame(rows, columns=["budget", "seed", "slope"])


def conflict_sentence(points: pd.DataFrame, margin: float) -> str:
    """Whether mixing gains on merging as more words conflict, at the largest budget: the mean of `conflict_slopes` with its t interval
    over seeds; or why it cannot be said."""
    slopes = conflict_slopes(points)
    slopes = slopes[slopes["budget"] == points["budget"].max()]["slope"].to_numpy()
    if not len(slopes):
        return "What conflict does cannot be said: fewer than two worlds have experts that learned."
    found = interval(slopes, np.tile(slopes, (1000, 1)))
    if len(slopes) == 1:
        found |= dict.fromkeys(["low", "high", "low90", "high90"], np.nan)
    said = {"better": "Mixing gains on merging", "worse": "Mixing loses against merging", "equivalent": "Conflict changes little"}
    start = said.get(three_way(found, margin), "It is undecided whether mixing gains on merging")
    by_seed = ", ".join(f"{slope:+.1f}" for slope in slopes)
    size = "one seed has no spread"
    if len(slopes) > 1:
        size = f"{found['estimate']:+.1f} points [{found['low']:.1f}, {found['high']:.1f}]"
    return f"{start} as words conflict: from none to all of them, {MAIN} changes by {size} (by seed: {by_seed})."


def sentence(errors: pd.DataFrame) -> str:
    """What `error_table` says, with the number of worlds; or why there is nothing to say."""
    if errors.empty:
        return f"Nothing is predicted: fewer than {LEAST} worlds have experts that learned and all measures."
    guess, measures = errors.iloc[0], errors[~errors["predictor"].isin([CONSTANT, PLANTED])]
    measures = measures.assign(adjusted=benjamini_hochberg(measures["p"]))
    sure = measures[(measures["adjusted"] <= LEVEL) & (measures["rmse"] < guess["rmse"])]
    best = measures.loc[measures["rmse"].idxmin()]
    shown = f"{', '.join(sure['predictor']) or 'No measure of the experts'} is shown to predict the difference better than the {CONSTANT}"
    start = shown if best["p_least"] <= LEVEL else f"{best['worlds']} worlds are too few to show that a measure predicts"
    rule = f"smaller error, p ≤ {LEVEL:g} of exchanged worlds after adjustment; {best['p_least']:.3f} is the least possible"
    numbers = f"{best['rmse']:.1f} points by {best['predictor']} (p {best['adjusted']:.3f} after adjustment, signs right {best['signs']:.0f}%)"
    counted = f"{best['points']} points of {best['worlds']} worlds, each world left out in turn"
    return f"{start} ({rule}). The smallest error is {numbers}; the {CONSTANT} has {guess['rmse']:.1f} (signs {guess['signs']:.0f}%); {counted}."
