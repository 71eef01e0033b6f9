"""The decision table of RQ6: what to do with experts, data or both, with few or many prompts, with and without conflict."""

from collections.abc import Mapping

import pandas as pd

from m2rl_lib.analysis.rq6_when.points import GAIN, MIX, Point, conflict_shares, with_matched
from m2rl_lib.config.study import Parameters
from m2rl_lib.stats.averages import choose_on_selection
from m2rl_lib.stats.comparisons import BEST_MERGE, compare, display_name

SITUATIONS = {  # what a person has: the ways that are open
    "experts only": [BEST_MERGE, "routed"],
    "data only": [MIX, BEST_MERGE],  # of as many prompts, where the map has such a budget
    "experts and data": [MIX, BEST_MERGE, "mt-opd", "routed"],
}
NOTHING, EITHER, UNDECIDED = "no advice: the experts did not learn", "either", "undecided"


def decision_table(frames: Mapping[Point, pd.DataFrame], p: Parameters, table: pd.DataFrame) -> pd.DataFrame:
    """A row for each situation and point: the two ways that are best on selection problems (`first`, `second`), their difference
    on test problems, and what to use: the better one, 'either' where they are equivalent, or 'undecided'. Adds equal_prompts
    (data only: whether both sides saw as many)."""
    learned = table[table["contrast"] == GAIN].set_index(["world", "budget"])["learned"]
    rows = []
    for (world, budget), frame in frames.items():
        matched = with_matched(frames, p, (world, budget))
        for situation, ways in SITUATIONS.items():
            equal = situation == "data only" and matched is not None
            first, second, found = _best_two(matched if equal else frame, ways, p)
            verdicts = {"better": display_name(first), "worse": display_name(second), "equivalent": EITHER}
            use = verdicts.get(found["verdict"], UNDECIDED) if learned[world, budget] else NOTHING
            row = {"you have": situation, "world": world, "conflict": conflict_shares(p)[world], "budget": budget, "use": use}
            row |= {"first": first, "second": second} | found[["estimate", "low", "high", "verdict", "n", "seeds"]].to_dict()
            rows.append(row | {"equal_prompts": equal})
    order = list(SITUATIONS)
    return pd.DataFrame(
        sorted(rows, key=lambda row: (order.index(row["you have"]), row["conflict"], row["world"], row["budget"]))
    )


def sentence(table: pd.DataFrame) -> str:
    """What to use at the largest budget, by what one has: in how many worlds of a `decision_table` each way is better, and by how much
    (the least and the most of them)."""
    last, said = table[table["budget"] == table["budget"].max()], []
    for situation, rows in last.groupby("you have", sort=False):
        counts = []
        for use, part in sorted(rows.groupby("use"), key=lambda found: -len(found[1])):
            words = f"{use} in {len(part)}"
            if part["verdict"].isin(["better", "worse"]).all() and use != NOTHING:
                ends = part.loc[part["estimate"].abs().sort_values().index[:: max(1, len(part) - 1)]]
                words += f" (by {' to '.join(_size(row) for _, row in ends.iterrows())} points)"
            counts.append(words)
        said.append(f"with {situation}: {', '.join(counts)}")
    counted = f"{last['world'].nunique()} worlds, seeds: {last['seeds'].max()}"
    return f"What to use ({counted}) after all RL steps, {'; '.join(said)}."


def _size(row: pd.Series) -> str:
    """'8.5 [4.8, 12.2]': by how much the better way is ahead."""
    return f"{abs(row['estimate']):.1f} [{', '.join(f'{end:.1f}' for end in sorted(row[['low', 'high']].abs()))}]"


def _best_two(frame: pd.DataFrame, ways: list[str], p: Parameters) -> tuple[str, str, pd.Series]:
    """The two best of `ways` on selection problems, and the first − the second on test problems."""
    selection, test = (frame[(frame["split"] == split) & frame["model"].isin(ways)] for split in ("selection", "test"))
    first = choose_on_selection(selection, ways)
    second = choose_on_selection(selection, [way for way in ways if way != first])
    both = test[test["model"].isin([first, second])]
    return first, second, compare(both, first, second, margin=p.analysis_margin, draws=p.analysis_draws)
