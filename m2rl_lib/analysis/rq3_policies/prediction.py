"""Prediction: does a policy distance, or having a neighbour, say what a merged or mixed model loses against an expert (RQ3)?

The paper reads off its tables that the size of the KL does not predict loss of performance and that neighbourhoods explain
more. Here both are predictors of ΔPerf, over all multi-domain models of the study: by rank correlation (ranks within domain,
permutation stratified by domain, interval by redrawing models), and by linear prediction of a domain that was left out.
'Does not predict' needs the whole interval inside ±0.3; under 10 points nothing is said.
"""

import numpy as np
import pandas as pd
from scipy import stats

from m2rl_lib.analysis.rq3_policies.policy_neighbours import NEIGHBOUR
from m2rl_lib.stats.bootstrap import require_columns
from m2rl_lib.stats.comparisons import benjamini_hochberg, comparison_table

FEWEST, NEGLIGIBLE = 10, 0.3  # points for a verdict; |rank correlation| below which nothing is predicted
LEAST = 1e-6  # nats: a smaller KL is rounding
PREDICTORS = {  # name: columns of `prediction_points`
    "mean of the other domains": [],
    "KL": ["log_kl"],
    "neighbours": ["neighbours"],
    "neighbours, the paper's rule": ["target_neighbours"],
    "KL and neighbours": ["log_kl", "neighbours"],
    "KL and neighbours, the paper's rule": ["log_kl", "target_neighbours"],
}


def performance_changes(
    scores: pd.DataFrame, targets: dict[str, list[str]], margin: float, draws: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """ΔPerf(target, A) = score of the target − score of A's expert on A's benchmarks, paired by problem.

    `targets` names the domains of each target. Returns target, domain, delta, delta_low, delta_high (points, 95%), verdict, n.
    """
    frames = []
    for domain in dict.fromkeys(name for where in targets.values() for name in where):
        pairs = [(target, f"rl-{domain}") for target, where in targets.items() if domain in where and target != f"rl-{domain}"]
        some = scores[(scores["domain"] == domain) & scores["model"].isin({f"rl-{domain}", *(target for target, _ in pairs)})]
        frames.append(comparison_table(some, pairs, [domain], margin, draws, seed))
    named = {"model": "target", "over": "domain", "estimate": "delta", "low": "delta_low", "high": "delta_high"}
    columns = [*named.values(), "verdict", "n", "seeds", "scope"]
    return pd.concat(frames, ignore_index=True).rename(columns=named)[columns]


def prediction_points(
    table: pd.DataFrame, changes: pd.DataFrame, parts: dict[str, list[str]], own: pd.DataFrame, of_target: pd.DataFrame
) -> pd.DataFrame:
    """One point a multi-domain model and domain A it is made of: what it lost there, and what might have told so.

    `table`: the KL cross table, `changes`: `performance_changes`, `parts`: what each model is made of, `own` and `of_target`:
    `neighbour_table`s without and with targets. Adds to `changes` kl and se (D_A(A‖target), nats a sequence), log_kl (natural),
    neighbours and target_neighbours: the share, among the other experts in the model, of those that neighbour A. Math + coding
    + science where only coding neighbours math: 0.5 on math.
    """
    require_columns(table, ["domain", "source", "target", "kl", "se"], "KL cross table")
    diagonal = table[table["source"] == "rl-" + table["domain"]]
    points = changes[changes["target"].isin(parts)].merge(diagonal[["target", "domain", "kl", "se"]], on=["target", "domain"])
    points["log_kl"] = np.log(points["kl"].clip(lower=LEAST))
    near = {(row.domain, row.expert) for row in own.itertuples() if row.label == NEIGHBOUR}
    near_target = {(row.domain, row.expert, row.target) for row in of_target.itertuples() if row.label == NEIGHBOUR}
    shares = {"neighbours": [], "target_neighbours": []}
    for point in points.itertuples():
        others = [part for part in parts[point.target] if part != point.domain]
        shares["neighbours"].append(np.mean([(point.domain, other) in near for other in others]))
        shares["target_neighbours"].append(np.mean([(point.domain, other, point.target) in near_target for other in others]))
    return points.assign(**shares)


# --- rank correlation ----------------------------------------------------------------------------------------


def rank_correlation(points: pd.DataFrame, x: str, y: str, draws: int = 10_000, seed: int = 0) -> pd.Series:
    """Spearman's correlation of `x` with `y` within domains, pooled over them.

    `points` has columns domain and target; those without x or y are left out. Ranks (ties shared) are taken within each
    domain, divided by its number of points + 1 and centred, so that no difference between domains counts. p: permutation of
    `y` within each domain; low and high: 95% percentile interval from redrawing targets, a target's points together, since
    one bad merge is bad in several domains. Returns x, y, rho, low, high, p, points, targets, domains, verdict: 'predicts'
    (p < 0.05 and the interval excludes 0), 'does not predict' (interval inside ±0.3), 'undecided', or 'none' under 10 points
    or where x or y does not vary within any domain (rho NaN). x = 1, 2, 3 with y = 10, 20, 30 in one domain and 3, 2, 1 in
    another: 0.
    """
    require_columns(points, ["domain", "target", x, y], "points")
    points = points.dropna(subset=[x, y])
    a, b = (_centred_ranks(points, column) for column in (x, y))
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    told = {"points": len(points), "targets": points["target"].nunique(), "domains": points["domain"].nunique()}
    if not scale > 1e-12:
        return pd.Series({"x": x, "y": y, "rho": np.nan, "low": np.nan, "high": np.nan, "p": np.nan, **told, "verdict": "none"})
    rho, generator = (a * b).sum() / scale, np.random.default_rng(seed)
    permuted = np.zeros(draws)
    for _, places in points.reset_index(drop=True).groupby("domain").indices.items():
        permuted += generator.permuted(np.tile(b[places], (draws, 1)), axis=1) @ a[places]
    p = (1 + (np.abs(permuted / scale) >= abs(rho) - 1e-12).sum()) / (draws + 1)
    low, high = _redrawn_targets(points["target"], a, b, draws, generator)
    verdict = "predicts" if p < 0.05 and low * high > 0 else "does not predict" if max(-low, high) < NEGLIGIBLE else "undecided"
    verdict = verdict if len(points) >= FEWEST else "none"
    return pd.Series({"x": x, "y": y, "rho": rho, "low": low, "high": high, "p": p, **told, "verdict": verdict})


def _centred_ranks(points: pd.DataFrame, column: str) -> np.ndarray:
    groups = points.groupby("domain")[column]
    ranks = groups.rank() / (groups.transform("size") + 1)
    return (ranks - ranks.groupby(points["domain"]).transform("mean")).to_numpy()


def _redrawn_targets(targets: pd.Series, a: np.ndarray, b: np.ndarray, draws: int, generator) -> tuple[float, float]:
    """95% interval of Σab / √(Σa² Σb²), targets redrawn with replacement, ranks kept."""
    sums = pd.DataFrame({"ab": a * b, "aa": a * a, "bb": b * b}).groupby(targets.to_numpy()).sum().to_numpy()
    counts = generator.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), draws) @ sums
    counts = counts[(counts[:, 1] > 0) & (counts[:, 2] > 0)]
    low, high = np.quantile(counts[:, 0] / np.sqrt(counts[:, 1] * counts[:, 2]), [0.025, 0.975])
    return float(low), float(high)


def rank_sentence(found: pd.Series, what: str, of: str = "ΔPerf") -> str:
    """A `rank_correlation` in English; `what` names x and `of` y, as in 'KL'.

    'KL does not predict ΔPerf: rank correlation +0.05 [-0.10, 0.20], p = 0.6104, 60 points, 20 models, 5 domains.'
    """
    counted = f"{found['points']} points, {found['targets']} models, {found['domains']} domains"
    if np.isnan(found["rho"]):
        return f"No rank correlation of {what} with {of}: one of them is the same everywhere within each domain ({counted})."
    start = what[0].upper() + what[1:]
    claims = {
        "predicts": f"{start} predicts {of} within domains",
        "does not predict": f"{start} does not predict {of} within domains (interval inside ±{NEGLIGIBLE})",
        "undecided": f"Whether {what} predicts {of} within domains is undecided",
        "none": f"No verdict on {what}, under {FEWEST} points",
    }
    size = f"rank correlation {found['rho']:+.2f} [{found['low']:.2f}, {found['high']:.2f}], permutation p = {found['p']:.4f}"
    return f"{claims[found['verdict']]}: {size}, {counted}."


# --- a domain left out -----------------------------------------------------------------------------------------


def held_out_errors(points: pd.DataFrame) -> pd.DataFrame:
    """How well ΔPerf of each domain is predicted from the other domains' points: columns predictor, domain, rmse (points), n.

    Least squares with an intercept on the columns of PREDICTORS, fitted without the domain. ValueError for one domain alone.
    """
    domains = list(pd.unique(points["domain"]))
    if len(domains) < 2:
        raise ValueError(f"points of {', '.join(domains) or 'no domain'}: leaving one domain out needs at least two")
    rows = []
    for predictor, columns in PREDICTORS.items():
        design = np.column_stack([np.ones(len(points)), points[columns].to_numpy(float)])
        for domain in domains:
            out = (points["domain"] == domain).to_numpy()
            fitted = np.linalg.lstsq(design[~out], points["delta"].to_numpy()[~out], rcond=None)[0]
            error = points["delta"].to_numpy()[out] - design[out] @ fitted
            rows.append(
                {"predictor": predictor, "domain": domain, "rmse": float(np.sqrt((error**2).mean())), "n": int(out.sum())}
            )
    return pd.DataFrame(rows)


def compare_predictors(errors: pd.DataFrame) -> pd.DataFrame:
    """Which predictors do better on left-out domains than the mean of the others, and than KL: rmse(other) − rmse(one).

    The unit is a domain, since the claim is about another domain: a t interval over the domains, five being few. Returns one,
    other, gain (points of rmse, positive where `one` is better), low, high (95%), p, p_adjusted (Benjamini–Hochberg over the
    rows), domains, verdict ('better', 'worse', 'undecided', by the interval). Errors 5, 6, 7 against 6, 8, 10: gain 2 ± 2.48.
    """
    wide, (nothing, kl, *rest) = errors.pivot(index="domain", columns="predictor", values="rmse"), PREDICTORS
    rows = []
    for one, other in [(kl, nothing), *((one, other) for other in (nothing, kl) for one in rest)]:
        gain, count = (wide[other] - wide[one]).to_numpy(), len(wide)
        mean, error = gain.mean(), gain.std(ddof=1) / np.sqrt(count)
        half = error * stats.t.ppf(0.975, count - 1)
        p = float(2 * stats.t.sf(abs(mean) / error, count - 1)) if error > 1e-12 else float(abs(mean) < 1e-12)
        verdict = "better" if mean - half > 0 else "worse" if mean + half < 0 else "undecided"
        found = {"gain": mean, "low": mean - half, "high": mean + half, "p": p, "domains": count, "verdict": verdict}
        rows.append({"one": one, "other": other, **found})
    table = pd.DataFrame(rows)
    table.insert(6, "p_adjusted", benjamini_hochberg(table["p"]))
    return table
