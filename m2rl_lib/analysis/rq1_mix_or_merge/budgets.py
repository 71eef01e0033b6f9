"""RQ1: what mixing and merging cost (choices included), score against what was spent, and whether the study learned anything."""

import pandas as pd

from m2rl_lib.config import model_names, schedule
from m2rl_lib.config.study import Parameters
from m2rl_lib.data import problem_sets
from m2rl_lib.stats import comparisons, three_scores

SPENT = ["prompts", "generated_tokens", "trained_tokens", "device_seconds", "wall_seconds"]
LEAST_GAIN, NULL_MARGIN = 20, 5  # points: what an expert must gain, and how far RL-Null may lie from SFT


def mean_costs(costs: pd.DataFrame) -> pd.DataFrame:
    """The `costs` table of several seeds as that of one: model, stage and SPENT, the mean over the seeds that have the run."""
    return costs.groupby(["seed", "model", "stage"])[SPENT].sum().groupby(["model", "stage"]).mean().reset_index()


def mixing_share(costs: pd.DataFrame, p: Parameters) -> pd.Series:
    """Device-seconds of the mixed side as a percentage of the merging side's, by seed: 441 s of 1,000 s is 44.1."""
    totals = {seed: paradigm_costs(part, p).query("part == 'all'") for seed, part in costs.groupby("seed")}
    spent = pd.DataFrame({seed: table.set_index("paradigm")["device_seconds"] for seed, table in totals.items()})
    return 100 * spent.loc["mixed"] / spent.loc["merged"]


def paradigm_costs(costs: pd.DataFrame, p: Parameters) -> pd.DataFrame:
    """What each part of a paradigm spends, and its total: `paradigm`, `part` and SPENT; `costs` of one seed or `mean_costs`."""
    model, stage = costs["model"], costs["stage"]
    parts = [
        ("mixed", "RL-Multi", model == "rl-multi"),
        ("mixed", "choosing a checkpoint", (model == "mixed") & (stage == "selection")),
        ("merged", "experts", model.isin(schedule.experts(p))),
        ("merged", "making the merges", stage == "merge"),
        ("merged", "choosing a merge", (model == "merges") & (stage == "selection")),
        ("distilled", "experts", model.isin(schedule.experts(p))),
        ("distilled", "distillation", model == "mt-opd"),
    ]
    frame = pd.DataFrame([{"paradigm": side, "part": part, **costs.loc[chosen, SPENT].sum()} for side, part, chosen in parts])
    totals = frame.groupby("paradigm", sort=False)[SPENT].sum().reset_index().assign(part="all")
    return pd.concat([frame, totals], ignore_index=True)


def joint_costs(costs: pd.DataFrame, p: Parameters) -> pd.DataFrame:
    """What each of the study's further ways to one model spends, all its runs together (`schedule.runs_of`): model and SPENT."""
    runs = costs[costs["stage"].isin(["rl", "distillation"])].set_index("model")
    rows = [{"model": name, **runs.loc[schedule.runs_of(p, name), SPENT].sum()} for name in schedule.joint(p)]
    return pd.DataFrame(rows, columns=["model", *SPENT])


def score_by_budget(averages: pd.DataFrame, costs: pd.DataFrame, p: Parameters, merge: str) -> pd.DataFrame:
    """Overall score of checkpoints of RL-Multi, and of the experts' merged by `merge`, against what each spent: its whole cost ×
    step / steps."""
    overall = averages[averages["domain"] == "overall"].set_index("model")
    spent = costs[costs["stage"] == "rl"].set_index("model")
    units, columns, rows = ("prompts", "generated_tokens", "device_seconds"), ["score", "low", "high", "n", "seeds"], []
    for name, runs, steps in (("rl-multi", ["rl-multi"], p.rlvr_mixed_steps), (merge, schedule.experts(p), p.rlvr_steps)):
        shares = {"sft": 0.0}
        for model in overall.index:
            base, variant = model_names.parse_model_name(model)
            if base == name and not set(variant) - {"step"}:
                shares[model] = int(variant.get("step", steps)) / steps
        totals = spent.loc[runs, list(units)].sum()
        rows += [(name, unit, s * totals[unit], *overall.loc[m, columns]) for m, s in shares.items() for unit in units]
    frame = pd.DataFrame(rows, columns=["model", "unit", "budget", *columns])
    return frame.sort_values(["unit", "model", "budget"], ignore_index=True)


def main_models(p: Parameters) -> list[str]:
    """The models of the headline, in the order of its rows."""
    controls = ["sft", "sft-sharpened", "rl-null"]
    return [*controls, *schedule.experts(p), "rl-multi", *schedule.defaults(p), "mt-opd", *schedule.joint(p)]


def candidates(p: Parameters) -> dict[str, list[str]]:
    """What each side may choose from on the selection problems, at the paper's and at matched prompts: as many on each side."""
    merges = {"merges": schedule.defaults(p), "matched merges": schedule.matched(p)}
    return merges | {"mixed checkpoints": schedule.kept_mixed(p)[-len(p.merge_methods) :]}


def learning_bars(test: pd.DataFrame, greedy: pd.DataFrame, p: Parameters) -> pd.DataFrame:
    """Each expert against SFT at its best temperature on its own first benchmark, and RL-Null against SFT on every domain's.
    `holds`: an expert is LEAST_GAIN points better with an interval above 0, at T = 1 and greedily alike; RL-Null lies within
    ±NULL_MARGIN of SFT on every one of these benchmarks at T = 1. `test`, `greedy`: rows on test problems."""
    firsts = {f"rl-{domain}": problem_sets.benchmarks(domain, p.data_sources)[0] for domain in p.domains}
    pairs = [*((expert, "sft-sharpened") for expert in firsts), ("rl-null", "sft")]
    rows = three_scores.compare_each(test, greedy, pairs, list(firsts.values()), p.analysis_margin, p.analysis_draws)
    null, own = rows["model"] == "rl-null", rows["over"] == rows["model"].map(firsts)
    rows = rows[null & (rows["score"] == "T=1") | own & rows["score"].isin(["T=1", "greedy"])]
    good = (rows["estimate"] >= LEAST_GAIN) & (rows["low"] > 0)
    good = good.where(~null[rows.index], rows["estimate"].abs() <= NULL_MARGIN)
    shown = rows[["model", "reference", "over", "score", "estimate", "low", "high"]].rename(columns={"over": "benchmark"})
    shown = shown.assign(holds=good.groupby(rows["model"]).transform("all"))
    order = pd.Index([model for model, _ in pairs])
    return shown.sort_values("model", kind="stable", key=order.get_indexer, ignore_index=True)


def learning_sentence(bars: pd.DataFrame) -> str:
    """For which models of `learning_bars` the bar holds, and for which not; what follows where RL-Null moved."""
    held = bars.groupby("model", sort=False)["holds"].first()
    good, bad = (", ".join(map(comparisons.display_name, held.index[held == holds])) for holds in (True, False))
    words = f"The bar holds for {good or 'none'}{f', and not for {bad}' if bad else ''}."
    null = bars[bars["model"] == "rl-null"]
    if not len(null) or null["holds"].all():
        return words
    furthest = null.loc[null["estimate"].abs().idxmax()]
    return f"{words} {drift_sentence(furthest['estimate'], furthest['benchmark'])}"


def drift_sentence(change: float, benchmark: str) -> str:
    """What RL-Null's largest change from SFT (points) says of the other models' changes."""
    moved = f"RL-Null, whose rewards are shuffled, moved by {change:+.1f} points on {benchmark.replace('_', ' ')}"
    return f"{moved}: a change from SFT of that size, on what a model was not trained for, may be drift."


def answer(contests: pd.DataFrame) -> str:
    """RQ1's answer in one sentence, from rows of `comparison_table` (mixed − best merge, over all domains): at the paper's budgets, then
    (if there) at matched prompts."""
    said = {"better": "Mixing is better than merging", "worse": "Mixing is worse than merging"}
    said |= {"equivalent": "Mixing and merging are equivalent", "undecided": "Neither mixing nor merging is shown to be better"}
    first, *others = [row for _, row in contests.iterrows()][:2]
    size = f"{first['estimate']:+.1f} points [{first['low']:.1f}, {first['high']:.1f}]"
    words = f"**{said[first['verdict']]} at the paper's ratio of budgets:** RL-Multi minus the best merge is {size}"
    if first["verdict"] == "undecided" and first["low"] > -first["margin"]:
        words += f", so mixing is not {first['margin']:g} points worse"
    for row in others:
        close = said[row["verdict"]]
        words += f"; with as many training prompts on both sides {close[:1].lower()}{close[1:]}: "
        words += f"{row['estimate']:+.1f} [{row['low']:.1f}, {row['high']:.1f}]"
    return f"{words}."


def contest_sentence(rows: dict[str, pd.Series], contest: str, named: dict[str, str]) -> str:
    """The verdict on one of RQ1's contests (rows of `comparison_table`), or that an earlier one had the same two models."""
    pairs = {name: (row["model"], row["reference"]) for name, row in rows.items()}
    same = next(name for name, pair in pairs.items() if pair == pairs[contest])
    if same != contest:
        return f"the same two models are chosen as in {same}."
    return comparisons.verdict_sentence(rows[contest], named)


def lengths(training: pd.DataFrame, models: list[str]) -> pd.DataFrame:
    """Mean length of completions over the steps of each RL run, as logged: model, seed, step, tokens; in the order of `models`."""
    rows = training.rename(columns={"completions/mean_length": "tokens"})[["model", "seed", "step", "tokens"]].dropna()
    places = {model: place for place, model in enumerate(models)}
    return rows.sort_values(["model", "seed", "step"], key=lambda c: c.map(places) if c.name == "model" else c, ignore_index=True)


def starts(training: pd.DataFrame) -> pd.DataFrame:
    """Where each run of RL began (means over seeds): first logged step, its mean reward, share of groups that differ (both %)."""
    first = training.sort_values("step", kind="stable").groupby(["model", "seed"], sort=False).first()
    shares = pd.DataFrame({"logged at step": first["step"], "success, %": 100 * first["reward"]})
    shares["groups that differ, %"] = 100 * (1 - first["frac_reward_zero_std"])
    return shares.groupby("model", sort=False).mean()
