"""What predicts, before anything is trained jointly, whether mixing or merging wins? Measures of the experts alone, by the error of
one-predictor regressions on worlds that were left out, beside a constant guess."""

import numpy as np
import pandas as pd

from m2rl_lib.analysis.rq3_policies.policy_neighbours import neighbour_table
from m2rl_lib.analysis.rq3_weights.mask_overlap import whole
from m2rl_lib.analysis.rq6_when.points import CONTRASTS, MAIN, conflict_shares
from m2rl_lib.config import schedule
from m2rl_lib.config.study import Parameters
from m2rl_lib.stats.bootstrap import OVERALL, problem_means, resample
from m2rl_lib.stats.over_seeds import t_interval

DENSITY = 0.1  # of the masks: every model's largest tenth of its task vector, so that no threshold saturates
CONSTANT = "constant guess"
PREDICTORS = {  # name: column of `seed_points`; the last is known in a planted world only
    CONSTANT: [],
    "cosine of task vectors": ["cosine"],
    "mask overlap": ["overlap"],
    "transfer to other domains": ["transfer"],
    "KL ratio of policies": ["ratio"],
    "planted conflict": ["conflict"],
}
LEAST = 3  # worlds: with one left out, two are needed for a line
ERRORS = ["predictor", "rmse", "gain", "low", "high", "signs", "worlds", "points"]


def seed_points(
    frame: pd.DataFrame, p: Parameters, world: str, budget: float, cosines: pd.DataFrame, pairs: pd.DataFrame, kl: pd.DataFrame
) -> pd.DataFrame:
    """A row for each seed of a point, from its scores (`points.at_point`) and the tables of notebook 09: difference (mix − merge,
    points), cosine and overlap (Jaccard index at DENSITY) of two experts, mean over pairs; transfer (an expert's gain in another
    domain, points) and ratio (D_A(A‖B) / D_A(A‖SFT); under 1, B is nearer than SFT), mean over ordered pairs; conflict."""
    sample = resample(problem_means(frame[frame["split"] == "test"]), draws=1)
    seeds, difference, _ = sample.difference(*CONTRASTS[MAIN], OVERALL)
    cells = [(f"rl-{one}", other) for one in p.domains for other in p.domains if one != other]
    of_seeds, gains, *_ = sample.changes(cells, "sft")
    table = pd.DataFrame({"difference": difference}, index=pd.Index(seeds, name="seed"))
    table["transfer"] = pd.Series(gains.mean(axis=0), index=of_seeds)
    experts = [schedule.at_budget(p, budget)[f"rl-{domain}"] for domain in p.domains]
    masks = pairs[(pairs["kind"] == "density") & np.isclose(pairs["level"], DENSITY)]
    for column, value, measured in (("cosine", "cosine", cosines), ("overlap", "jaccard", masks)):
        among = whole(measured)[lambda rows: rows["model"].isin(experts) & rows["other"].isin(experts)]
        table[column] = among.groupby("seed")[value].mean()
    near = {seed: neighbour_table(rows[rows["budget"] == budget], p.domains)["ratio"].mean() for seed, rows in kl.groupby("seed")}
    table["ratio"] = pd.Series(near)
    return table.reset_index().assign(world=world, budget=budget, conflict=conflict_shares(p)[world])


def held_out(points: pd.DataFrame) -> pd.DataFrame:
    """Each point's difference as predicted by least squares on each of PREDICTORS from the points of the other worlds: predictor,
    world, budget, seed, difference, predicted. No rows where fewer than LEAST worlds have all measures."""
    points = points.dropna(subset=["difference", *sum(PREDICTORS.values(), [])])
    worlds, rows = pd.unique(points["world"]), []
    for predictor, columns in PREDICTORS.items() if len(worlds) >= LEAST else ():
        design = np.column_stack([np.ones(len(points)), points[columns].to_numpy(float)])
        for world in worlds:
            out = (points["world"] == world).to_numpy()
            fitted = np.linalg.lstsq(design[~out], points.loc[~out, "difference"], rcond=None)[0]
            rows.append(points[out].assign(predictor=predictor, predicted=design[out] @ fitted))
    columns = ["predictor", "world", "budget", "seed", "difference", "predicted"]
    return pd.concat(rows, ignore_index=True)[columns] if rows else pd.DataFrame(columns=columns)


def error_table(predicted: pd.DataFrame) -> pd.DataFrame:
    """Of each predictor: rmse over all left-out points; gain, the constant guess's rmse less its own, mean over worlds with its 95%
    t interval; signs, the percentage of points whose sign it has right. Rmse 5, 6, 7 against 6, 8, 10: gain 2 ± 2.48."""
    squares = (predicted["predicted"] - predicted["difference"]).astype(float) ** 2
    by_world = squares.groupby([predicted["predictor"], predicted["world"]], sort=False).mean().pow(0.5).unstack("world")
    rows = []
    for predictor, errors in by_world.iterrows():
        mine = predicted[predicted["predictor"] == predictor]
        gain = t_interval((by_world.loc[CONSTANT] - errors).to_numpy())
        signs = 100 * (np.sign(mine["predicted"].astype(float)) == np.sign(mine["difference"].astype(float))).mean()
        rmse = np.sqrt(squares[mine.index].mean())
        rows.append((predictor, rmse, *gain, signs, len(errors), len(mine)))
    return pd.DataFrame(rows, columns=ERRORS)


def sentence(errors: pd.DataFrame) -> str:
    """What `error_table` says, with the number of worlds; or why there is nothing to say."""
    if errors.empty:
        return f"Nothing is predicted: fewer than {LEAST} worlds have experts that learned and all measures."
    guess, others = errors.iloc[0], errors.iloc[1:]
    sure = others[others["low"] > 0]
    best = others.loc[others["rmse"].idxmin()]
    counted = f"{best['points']} points of {best['worlds']} worlds, each world left out in turn"
    start = (
        f"{', '.join(sure['predictor']) or 'No predictor'} has a smaller error than the {CONSTANT}, interval of the gain above 0"
    )
    numbers = f"{best['rmse']:.1f} points by {best['predictor']} (signs right {best['signs']:.0f}%)"
    return f"{start}. The smallest error is {numbers}; the {CONSTANT} has {guess['rmse']:.1f} (signs {guess['signs']:.0f}%); {counted}."
