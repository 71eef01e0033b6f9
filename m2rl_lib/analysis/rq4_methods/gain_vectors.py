"""Skills: does a multi-domain model gain on the problems on which the experts gain, and on any on which none of them does?

The paper's gain vectors (RQ4): g_m(i) = max(acc_m(i) − acc_sft(i), 0) a problem, the union's the maximum over the experts,
consistency their cosine; of noisy accuracies both maxima invent gains (*naive*). Without that bias: two quarters of the samples
choose the best of {no gain, experts} for each problem, u and g are signed gains in the other two, b and c, and consistency =
mean(u_b·g_c) / √(mean(u_b·u_c)·mean(g_b·g_c)), each mean over random splits. *excess* is mean max(model − union, 0), where seven
eighths of the samples choose expert and sign and the rest is averaged; *shortfall* that of union − model. *new* is the share of
problems that a model solves (more than half of its samples right) and neither SFT nor any expert does, *unseen* of those that
none of these solves in any sample."""

import numpy as np
import pandas as pd

from m2rl_lib.stats.averages import score_table
from m2rl_lib.stats.bootstrap import OVERALL, SCOPES, Resample, interval, resample
from m2rl_lib.stats.comparisons import display_name, without_spread
from m2rl_lib.stats.graded_samples import MOST_UNGRADED, UNTRAINED, problem_means, rows_of

LEAST_SAMPLES = 32  # K from which the unbiased numbers are given
SPLITS = 50  # random splits in quarters
KEYS = ["domain", "benchmark", "problem_id"]
COLUMNS = ["model", "over", "measure", "estimate", "low", "high", "n", "k", "seeds", "scope", "reason"]
NEW = ("new", "unseen")  # problems that a model solves alone
UNION = "union"  # the name of the rows that speak of the experts' union itself


def skill_table(scores: pd.DataFrame, models: list[str], experts: list[str], draws: int = 10_000) -> pd.DataFrame:
    """Consistency of each model with the experts' union, excess over it, shortfall, and what is new, in each domain and over all
    that RL trains. `scores` has `sft`, the experts and K samples a problem for every model. Rows of the model 'union' have its
    own gains. NaN and a reason where a measure is undefined: K < 32, or gains that cannot be distinguished from none."""
    names = list(dict.fromkeys(["sft", *experts, *models]))
    scores = rows_of(scores, names, others=True)
    k = _samples_of_all(scores)
    by_seed = [_problem_moments(part, models, experts).assign(seed=seed) for seed, part in scores.groupby("seed")]
    moments = pd.concat(by_seed).assign(k=k, graded=True)
    values = [name for name in moments.columns if name not in {*KEYS, "seed", "model", "k", "graded"}]
    parts = {name: resample(moments, name, draws) for name in values}
    one, rows = parts["naive_ug"], []
    few = {} if k >= LEAST_SAMPLES else _undefined(f"K = {k} samples a problem: at least {LEAST_SAMPLES} are needed")
    overs = sorted(scores["domain"].unique())
    for over in overs if {*overs} <= {*UNTRAINED} else [OVERALL, *overs]:
        weights = one.weights(over)
        known = {"over": over, "n": int(one.benchmarks["n"][weights > 0].sum()), "k": k}
        for model in models:
            cell = model, one.seeds(model), weights
            known |= {"seeds": len(cell[1]), "scope": SCOPES[len(cell[1]) == 1]}
            found = {"naive consistency": _cosine(parts, "naive_", *cell), "consistency": few or _cosine(parts, "", *cell)}
            found |= {name: few or _measured(*parts[name].values(*cell)[:2]) for name in ("excess", "shortfall")}
            found |= {name: _share(parts[name], known["n"], *cell) for name in NEW}
            rows += [{**known, "model": model, "measure": name, **numbers} for name, numbers in found.items()]
        cell = models[0], *cell[1:]
        naive, unbiased = (_measured(*parts[name].values(*cell)[:2]) for name in ("naive union gain", "union gain"))
        found = {"naive union gain": naive, "union gain": few or unbiased}
        rows += [{**known, "model": UNION, "measure": name, **numbers} for name, numbers in found.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def _samples_of_all(scores: pd.DataFrame) -> int:
    """K of every model; ValueError where it differs, or where a cell lacks too many graded problems."""
    problems = problem_means(scores)
    ks = problems.groupby("model", sort=False)["k"].max()
    if ks.nunique() > 1:
        raise ValueError(f"{ks.idxmin()} has {ks.min()} samples a problem, {ks.idxmax()} {ks.max()}: gains need equally many")
    every = problems.groupby("benchmark")["problem_id"].nunique()
    graded = problems.groupby(["seed", "model", "benchmark"])["graded"].sum().unstack("benchmark", fill_value=0)
    lacking = (1 - graded / every[graded.columns]).stack()
    if (lacking > MOST_UNGRADED).any():
        seed, model, benchmark = lacking.idxmax()
        share = f"{lacking.max():.1%} of {every[benchmark]} {benchmark} problems"
        raise ValueError(f"{share} not graded for {model} (seed {seed}): at most {MOST_UNGRADED:.0%} is allowed")
    return int(ks.iloc[0])


def _problem_moments(scores: pd.DataFrame, models: list[str], experts: list[str]) -> pd.DataFrame:
    """One row a model and problem graded for all: products of gains (u the union's, g the model's), excess, shortfall."""
    wide = scores.pivot(index=KEYS, columns=["model", "sample"], values="correct").dropna()
    options, targets = (
        np.stack([wide[name].to_numpy(dtype=float) for name in names])  # (models, n problems, K samples)
        for names in (["sft", *experts], models)  # no gain first: it wins ties
    )
    sft = options[0].mean(-1)
    gains, union = np.maximum(targets.mean(-1) - sft, 0), np.maximum((options.mean(-1) - sft).max(0), 0)
    solves, naive = targets.mean(-1) > 0.5, {"naive_ug": gains * union, "naive_gg": gains**2}
    sums = naive | {"naive_uu": union**2 + 0 * gains, "naive union gain": union + 0 * gains}
    sums |= {"new": 1.0 * (solves & ~(options.mean(-1) > 0.5).any(0)), "unseen": 1.0 * (solves & ~options.any((0, -1)))}
    generator, k = np.random.default_rng(0), options.shape[-1]
    drawn = [_one_split(options, targets, generator.permutation(k)) for _ in range(SPLITS)] if k >= LEAST_SAMPLES else []
    for name in ("ug", "uu", "gg", "excess", "shortfall", "union gain"):
        sums[name] = np.mean([one[name] for one in drawn], axis=0) if drawn else np.zeros_like(gains)
    problems = wide.index.to_frame(index=False)
    by_model = ({key: value[row] for key, value in sums.items()} for row in range(len(models)))
    return pd.concat([problems.assign(model=name, **values) for name, values in zip(models, by_model)])


def _one_split(options: np.ndarray, targets: np.ndarray, order: np.ndarray) -> dict[str, np.ndarray]:
    """The moments of `targets` (M, n, K) against the best of `options` (1 + experts, n, K), from one order of the samples."""
    quarters = order[: len(order) // 4 * 4].reshape(4, -1)
    by_quarter, of_targets = (cube[:, :, quarters].mean(-1) for cube in (options, targets))  # (·, n, 4)
    best = by_quarter[..., :2].mean(-1).argmax(0)
    union = np.take_along_axis(by_quarter, best[None, :, None], 0)[0]  # (n, 4)
    u, g = (union - by_quarter[0])[:, 2:], (of_targets - by_quarter[0])[..., 2:]
    eighth, rest = np.split(order, [len(order) // 8])
    choosing = options[..., rest].mean(-1)
    sign = np.sign(targets[..., rest].mean(-1) - choosing.max(0))
    chosen = np.take_along_axis(options[..., eighth].mean(-1), choosing.argmax(0)[None], 0)[0]
    ahead = targets[..., eighth].mean(-1) - chosen
    return {
        "ug": (u[:, 0] * g[..., 1] + u[:, 1] * g[..., 0]) / 2,
        "uu": u[:, 0] * u[:, 1] + 0 * ahead,
        "gg": g[..., 0] * g[..., 1],
        "excess": np.where(sign > 0, ahead, 0),
        "shortfall": np.where(sign < 0, -ahead, 0),
        "union gain": u.mean(-1) + 0 * ahead,
    }


def _undefined(reason: str) -> dict:
    return dict.fromkeys(["estimate", "low", "high"], np.nan) | {"reason": reason}


def _measured(points: np.ndarray, draws: np.ndarray) -> dict:
    found = interval(points, draws)
    return {key: found[key] for key in ("estimate", "low", "high")} | {"reason": ""}


def _share(part: Resample, n: int, model: str, seeds: list[int], weights: np.ndarray) -> dict:
    """A mean of ones and zeros in points; where all n problems have the same, what n problems could have missed is in its interval."""
    points, draws, _ = part.values(model, seeds, weights)
    found = _measured(points, draws)
    found |= {} if np.ptp(draws, axis=0).any() else without_spread(interval(points, draws), n)
    return found | {"low": max(0.0, found["low"]), "high": min(100.0, found["high"])}


def _cosine(parts: dict[str, Resample], kind: str, model: str, seeds: list[int], weights: np.ndarray) -> dict:
    """ug / √(uu·gg) with its interval; undefined where the interval of uu or gg includes 0."""
    values = (parts[kind + name].values(model, seeds, weights)[:2] for name in ("ug", "uu", "gg"))
    (top, top_draws), (uu, uu_draws), (gg, gg_draws) = values
    for whose, points, draws in (("the union", uu, uu_draws), (model, gg, gg_draws)):
        if interval(points, draws)["low"] <= 0:
            return _undefined(f"the gains of {whose} cannot be distinguished from 0")
    least = 1e-9 * max(uu.max(), gg.max())  # the few resamples at or below 0 become very wide, not NaN
    ratio = top_draws / np.sqrt(np.maximum(uu_draws, least) * np.maximum(gg_draws, least))
    return _measured(top / np.sqrt(np.maximum(uu, least) * np.maximum(gg, least)), ratio)


def pass_table(scores: pd.DataFrame, draws: int = 10_000, ks: tuple[int, ...] = (1, 8, 32)) -> pd.DataFrame:
    """pass@k of each model on each benchmark, with the intervals of `score_table`; only for k up to the number of samples."""
    most = scores["sample"].nunique()
    tables = [score_table(scores, k, draws).assign(measure=f"pass@{k}") for k in ks if k <= most]
    return pd.concat(tables, ignore_index=True)


def new_skills_sentence(gains: pd.DataFrame, model: str, over: str = OVERALL) -> str:
    """What `skill_table` measured of skills that no expert has, in English."""
    row = gains[(gains["measure"] == "excess") & (gains["model"] == model) & (gains["over"] == over)].iloc[0]
    size = f"n = {row['n']} problems, K = {row['k']}"
    if row["reason"]:
        return f"{display_name(model)}: no excess is measured, {row['reason']} ({size})."
    span = f"{row['estimate']:z.1f} points [{row['low']:.1f}, {row['high']:.1f}]"
    return f"{display_name(model)}: excess over the best of SFT and the experts on each problem {span} ({size})."


def new_problems_sentence(gains: pd.DataFrame, model: str, controls: list[str], over: str) -> str:
    """Whether a model solves problems that no expert solves: shown where its interval lies above those of all controls."""
    rows = gains[gains["over"] == over].set_index(["measure", "model"])
    spans = {key: f"{row['estimate']:.1f} [{row['low']:.1f}, {row['high']:.1f}]" for key, row in rows.iterrows()}
    shown = rows.loc[("new", model), "low"] > rows.loc["new"].loc[controls, "high"].max()
    beside = ", ".join(f"{display_name(name)} {spans['new', name]}" for name in controls)
    excess = rows.loc[("excess", model), "reason"] or spans["excess", model]
    said = f"{display_name(model)} {'has skills' if shown else 'is not shown to have skills'} that no expert has on {over}: "
    said += f"percentage of problems that it solves and neither SFT nor an expert does {spans['new', model]}, nor any of these "
    said += f"in any sample {spans['unseen', model]}; controls: {beside}; excess over the best of these on each problem: "
    return f"{said}{excess} (n = {rows['n'].iloc[0]} problems, K = {rows['k'].iloc[0]})."


def solved_sets(scores: pd.DataFrame, models: list[str]) -> pd.DataFrame:
    """Which models solve which problems (over half of the samples right): a row per set and model, the 20 largest sets."""
    problems = problem_means(rows_of(scores, models, others=True))
    if problems["seed"].nunique() > 1:
        raise ValueError(f"sets of solved problems of {problems['seed'].nunique()} seeds at once: one is allowed")
    solves = problems.assign(solves=problems["value"] > 0.5).pivot(index=KEYS, columns="model", values="solves")
    solves = solves[models].dropna().astype(bool)
    counts = solves.value_counts().reset_index(name="problems").head(20)
    counts.insert(0, "set", np.arange(1, len(counts) + 1))
    long = counts.melt(["set", "problems"], models, "model", "solves").sort_values("set", kind="stable", ignore_index=True)
    return long.assign(n=len(solves), k=int(problems["k"].max()))
