"""The points of RQ6's map, (world, budget): what mixing gains over merging, and what else was reached on the same test problems."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from m2rl_lib.analysis.rq4_methods.routing import route_to_experts
from m2rl_lib.config import map_schedule, schedule
from m2rl_lib.config.study import Parameters
from m2rl_lib.stats.averages import choose_on_selection
from m2rl_lib.stats.bootstrap import OVERALL
from m2rl_lib.stats.comparisons import BEST_MERGE, benjamini_hochberg, compare_alone

MIX = "rl-multi"
MAIN, MATCHED, GREEDY, GAIN = "mix − merge", "mix − merge, as many prompts", "mix − merge, greedy", "routed − SFT"
CONTRASTS = {
    MAIN: (MIX, BEST_MERGE),
    "mix − MT-OPD": (MIX, "mt-opd"),
    "MT-OPD − merge": ("mt-opd", BEST_MERGE),
    "routed − mix": ("routed", MIX),
    "routed − merge": ("routed", BEST_MERGE),
    GAIN: ("routed", "sft"),
    "mix − SFT at its best temperature": (MIX, "sft-sharpened"),
    "merge − SFT at its best temperature": (BEST_MERGE, "sft-sharpened"),
}
Point = tuple[str, float]  # world, budget
LARGE = 5.0  # points: what conflict alone is expected to cost a merge of finished experts


def at_point(scores: pd.DataFrame, p: Parameters, budget: float) -> tuple[pd.DataFrame, str]:
    """A world's scores at a budget, under the names of finished models, and the merge that is best on selection problems, which
    is in them as `merged-best`; `routed` is each domain by its expert."""
    names, merges = {at: name for name, at in schedule.at_budget(p, budget).items()}, schedule.defaults(p)
    kept = scores[scores["model"].isin(["sft", "sft-sharpened", *names])].replace({"model": names})
    best = choose_on_selection(kept[kept["split"] == "selection"], merges)
    kept = kept[~kept["model"].isin({*merges} - {best})].replace({"model": {best: BEST_MERGE}})
    return pd.concat([kept, route_to_experts(kept)], ignore_index=True), best


def matched_budget(p: Parameters, budget: float) -> float:
    """The budget at which all experts together have seen as many prompts as RL-Multi at `budget`: 4 experts of 80 steps and 160
    mixed ones give 0.5 at 1."""
    return budget * p.rlvr_mixed_steps / (len(p.domains) * p.rlvr_steps)


def with_matched(frames: Mapping[Point, pd.DataFrame], p: Parameters, point: Point) -> pd.DataFrame | None:
    """RL-Multi at a point beside the best merge of as many prompts; None where that budget is not in the map."""
    world, budget = point
    if (other := (world, matched_budget(p, budget))) not in frames:
        return None
    mixed, merged = frames[point], frames[other]
    return pd.concat([mixed[mixed["model"] == MIX], merged[merged["model"] == BEST_MERGE]], ignore_index=True)


def point_table(
    frames: Mapping[Point, pd.DataFrame], p: Parameters, best: Mapping[Point, str], greedy: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """`comparison_table` of each of CONTRASTS at each point, on test problems and all domains, and of MAIN at as many prompts
    and decoded greedily (`greedy`: that table, by world):
    world, budget, conflict (share of words), contrast, best (the chosen merge), learned (whether the interval of the experts' own
    gain is above 0), p_adjusted (Benjamini–Hochberg over the map's points, of each contrast)."""
    how, rows = (p.analysis_margin, p.analysis_draws), []
    for (world, budget), frame in frames.items():
        found = _tested(frame, list(CONTRASTS.values()), how).assign(contrast=list(CONTRASTS))
        if (matched := with_matched(frames, p, (world, budget))) is not None:
            found = pd.concat([found, _tested(matched, [CONTRASTS[MAIN]], how).assign(contrast=MATCHED)])
        pair = tuple(schedule.at_budget(p, budget)[name] for name in (MIX, best[world, budget]))
        decoded = _tested(greedy[world], [pair], how).assign(contrast=GREEDY, model=MIX, reference=BEST_MERGE)
        found = pd.concat([found, decoded], ignore_index=True)
        learned = found.loc[found["contrast"] == GAIN, "low"].iloc[0] > 0
        share = conflict_shares(p)[world]
        rows.append(found.assign(world=world, budget=budget, conflict=share, best=best[world, budget], learned=learned))
    table = pd.concat(rows, ignore_index=True)
    table["p_adjusted"] = table.groupby("contrast")["p"].transform(benjamini_hochberg)
    first = ["world", "budget", "conflict", "contrast", "learned", "best"]
    return table[[*first, *table.columns.difference(first, sort=False)]]


def _tested(frame: pd.DataFrame, pairs: list[tuple[str, str]], how: tuple[float, int]) -> pd.DataFrame:
    return compare_alone(frame[frame["split"] == "test"], pairs, [OVERALL], *how)


def conflict_shares(p: Parameters) -> dict[str, float]:
    """The share of a domain's words that conflict, by world."""
    worlds = {name: world.data_world for name, world in map_schedule.worlds(p).items()}
    return {name: counts["conflicting"] / max(1, sum(counts.values())) for name, counts in worlds.items()}


def equalities(table: pd.DataFrame) -> pd.DataFrame:
    """Where mixing and merging are equal: between which worlds of unequal conflict, in its order, the estimate changes its sign at a
    budget, and at which share of conflicting words by linear interpolation (+2 at 0, −6 at 1: 0.25); worlds that learned."""
    rows = []
    for budget, part in table[(table["contrast"] == MAIN) & table["learned"]].groupby("budget"):
        part = part.sort_values("conflict", kind="stable")
        for (_, one), (_, other) in zip(part.iterrows(), part.iloc[1:].iterrows()):
            if one["conflict"] < other["conflict"] and np.sign(one["estimate"]) != np.sign(other["estimate"]):
                weight = one["estimate"] / (one["estimate"] - other["estimate"])
                share = one["conflict"] + weight * (other["conflict"] - one["conflict"])
                decided = {one["verdict"], other["verdict"]} == {"better", "worse"}
                rows.append((budget, one["world"], other["world"], share, decided))
    return pd.DataFrame(rows, columns=["budget", "from", "to", "conflict", "both decided"])


def costs_by_way(costs: pd.DataFrame) -> pd.DataFrame:
    """What each way spends in a world, mean over worlds and seeds, from `costs` of all with a column `world`: RL-Multi, all experts,
    the merges of every budget, and each distillation: prompts, generated_tokens, device_seconds."""
    kinds = {"rl": "experts", "merge": "merges", "analysis": "merges"}
    way = costs["stage"].map(kinds).where(costs["model"] != MIX, MIX).where(costs["stage"] != "distillation", costs["model"])
    kept = costs[["prompts", "generated_tokens", "device_seconds"]].groupby([way.rename("way"), costs["world"], costs["seed"]])
    return kept.sum().groupby("way").mean()


def counts_sentence(table: pd.DataFrame) -> str:
    """In how many cells of the map mixing or merging is ahead; those whose experts did not learn are left out."""
    main = table[(table["contrast"] == MAIN) & table["learned"]]
    mixing, merging, same, unknown = (
        int((main["verdict"] == word).sum()) for word in ("better", "worse", "equivalent", "undecided")
    )
    said = f"Mixing is ahead in {mixing} and merging in {merging} of the map's {len(main)} cells (a world and a budget) whose experts learned"
    return f"{said}; both are equivalent in {same}, and {unknown} are undecided."


def sentences(table: pd.DataFrame) -> list[str]:
    """Whether the predicted extremes came out at the largest budget."""
    last = table[table["budget"] == table["budget"].max()]
    found = []
    for end, expected in (("idxmax", True), ("idxmin", False)):
        point = last[last["world"] == last.loc[getattr(last["conflict"], end)(), "world"]].set_index("contrast")
        main, margin = point.loc[MAIN], point.loc[MAIN, "margin"]
        wanted = f"mixing ahead by {LARGE:g} points or more" if expected else "no more than the margin between them"
        size = f"{main['estimate']:+.1f} points [{main['low']:.1f}, {main['high']:.1f}]"
        reached = main["low"] > 0 and main["estimate"] >= LARGE if expected else max(-main["low90"], main["high90"]) < margin
        missed = main["high"] < LARGE if expected else main["low"] > margin or main["high"] < -margin
        said = "as predicted" if reached else "not as predicted" if missed else "undecided"
        said = said if main["learned"] else "not tested, as the experts did not learn"
        where = f"{100 * main['conflict']:.0f}% of words in conflict ({main['world']}, n = {main['n']} problems, seeds = {main['seeds']})"
        found.append(f"{where}: {MAIN} {size}, {main['verdict']}; predicted is {wanted}: {said}.")
    return found
