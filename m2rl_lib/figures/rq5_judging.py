"""Figures of RQ5: whether the question can be asked and what is answered, judges by domain and mode, where errors are found,
calibration, and best of N by own judgement. A judge has its family's marker and colour: filled by process, open by outcome."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from m2rl_lib.analysis.rq2_transfer.transfer_matrix import INSTRUCTIONS, REASONING
from m2rl_lib.analysis.rq5_judging.best_of_n import MAJORITY, ORACLE, SINGLE
from m2rl_lib.analysis.rq5_judging.judge_accuracy import name_experts
from m2rl_lib.figures.parts import count_words, draw_estimate, draw_note, finish, handle, name_heights, span, unique
from m2rl_lib.figures.style import BLACK, COLUMN, FAMILIES, FILLED, GREY, make_figure, make_panels
from m2rl_lib.stats.comparisons import display_domain, display_name, model_family
from m2rl_lib.stats.graded_samples import require_columns

TICKS = {SINGLE: ("|", GREY), MAJORITY: ("x", BLACK), ORACLE: ("1", GREY)}  # ways of choosing without a judge
FEWEST = 20  # verdicts in a bin of P(right): below, its share is left out
DRAWN = ("sft", "expert", "rl-multi")  # judges of the smaller figures; the tables have all
HIDDEN = "not shown above chance"


def _family(judge: str) -> str:
    return "expert" if judge == "expert" else model_family(judge)


def _judges(frame: pd.DataFrame) -> list[str]:
    """The judges of a frame by family: SFT, the domain's expert, mixed, merged, distilled."""
    return sorted(unique(frame, "judge"), key=lambda judge: list(FAMILIES).index(_family(judge)))


def _name(judge: str) -> str:
    return "Domain's expert" if judge == "expert" else display_name(judge)


def _handles(*more) -> list:
    """Entries of a legend: both modes, then `more`."""
    return [handle(f"by {mode}", "o", BLACK, filled) for mode, filled in FILLED.items()] + [*more]


def _line(label: str):
    return handle(label, "", GREY, line=":", linewidth=0.8)


def _seeds(frame: pd.DataFrame) -> str:
    """', 3 seeds', where the frame's column seeds can say it."""
    if "seeds" not in frame:
        return ""
    return count_words(frame.loc[frame["seeds"] > 0, ["seeds"]]).replace(" (", ", ").rstrip(")")


def _draw_judges(axes: Axes, rows: pd.DataFrame, judges: list[str]) -> None:
    """Both modes of every judge, one row each, outcome above process."""
    for row in rows.itertuples():
        height = len(judges) - 1 - judges.index(row.judge) + (0.17 if row.mode == "outcome" else -0.17)
        marker, colour = FAMILIES[_family(row.judge)][:2]
        draw_estimate(axes, row, row.estimate, height, marker, colour, FILLED[row.mode], size=3.6, width=0.9)
    name_heights(axes, np.arange(len(judges))[::-1], [_name(judge) for judge in judges], -0.6, len(judges) - 0.4)


def plot_answer(frame: pd.DataFrame) -> Figure:
    """One row per domain. Left (`panel` accuracy): SFT's accuracy in both modes, dotted: chance. Right (difference), where a domain is
    `asked`: process − outcome of the judges, grey: the side that the paper's finding says; a domain that is not has a note instead."""
    require_columns(frame, ["panel", "domain", "judge", "mode", "estimate", "low", "high", "asked"], "answer of RQ5")
    names, differences = unique(frame, "domain"), frame[(frame["panel"] == "difference") & frame["asked"].eq(True)]
    heights = dict(zip(names, np.arange(len(names))[::-1]))
    figure, grid = make_figure(COLUMN, 0.3 * len(names) + 1.05, 1, 2 if len(differences) else 1, sharey=True)
    left, *others = grid.flat
    for row in frame[frame["panel"] == "accuracy"].itertuples():
        height = heights[row.domain] + (0.15 if row.mode == "outcome" else -0.15)
        draw_estimate(left, row, row.estimate, height, *FAMILIES[_family(row.judge)][:2], FILLED[row.mode])
    left.axvline(50, color=GREY, linestyle=":", linewidth=0.8)
    title = "Can SFT judge?" if others else "Can SFT judge? Not shown in any domain"
    left.set(title=title, xlabel="SFT's accuracy, points\n(chance: 50)")
    words = [display_domain(name).replace(" ", "\n") for name in names]
    name_heights(left, list(heights.values()), words, -0.6, len(names) - 0.4)
    handles = [handle(f"SFT by {mode}", *FAMILIES["reference"][:2], filled) for mode, filled in FILLED.items()]
    for right in others:
        handles += _draw_differences(right, differences, heights)
    return finish(figure, handles, 2)


def _draw_differences(axes: Axes, rows: pd.DataFrame, heights: dict[str, int]) -> list:
    """Process − outcome of every judge in its domain's row; entries of the legend."""
    judges, values = _judges(rows), rows[["estimate", "low", "high"]].to_numpy(float)
    reach = 1.1 * max(10.0, float(np.nanmax(np.abs(values))))
    for row in rows.itertuples():
        height = heights[row.domain] + (0.15 - 0.3 * judges.index(row.judge) if len(judges) > 1 else 0)
        draw_estimate(axes, row, row.estimate, height, *FAMILIES[_family(row.judge)][:3])
    for domain, height in heights.items():
        if domain in rows["domain"].to_numpy():
            side = (0, reach) if domain in REASONING else (-reach, 0) if domain == INSTRUCTIONS else (0, 0)
            axes.fill_betweenx([height - 0.45, height + 0.45], *side, color="#E2E2E2", linewidth=0, zorder=0)
        else:
            draw_note(axes, HIDDEN, height)
    axes.set(title="Which mode is better?", xlim=(-reach, reach), xlabel="process − outcome, points\n← outcome    process →")
    axes.axvline(0, color=GREY, linestyle="--", linewidth=0.8)
    shown = [handle(_name(judge), *FAMILIES[_family(judge)][:3]) for judge in judges]
    return [*shown, Patch(color="#E2E2E2", label="the paper's side")]


def plot_judges(frame: pd.DataFrame, which: str = "shared") -> Figure:
    """Accuracy of every judge in both modes on the set `which`, one panel per domain; dotted: chance."""
    require_columns(frame, ["set", "judge", "domain", "mode", "estimate", "low", "high", "trajectories"], "judges")
    frame = name_experts(frame[frame["set"] == which])
    judges, names = _judges(frame), unique(frame, "domain")
    figure, panels = make_panels(COLUMN, 0.23 * len(judges) + 0.4, 0.7, len(names), min(2, len(names)))
    for axes, domain in zip(panels, names, strict=True):
        rows = frame[frame["domain"] == domain]
        axes.axvline(50, color=GREY, linestyle=":", linewidth=0.8)
        _draw_judges(axes, rows, judges)
        axes.set_title(f"{display_domain(domain)}\nn = {span(rows['trajectories'], ' to ')}")
    words = f"accuracy against the verifier, points\n(95% interval; n trajectories, half of them right{_seeds(frame)})"
    return finish(figure, _handles(_line("chance")), 3, words)


def plot_horizon(frame: pd.DataFrame) -> Figure:
    """Balanced accuracy by process against the distance of the error from the end, in steps: a line per judge of DRAWN, a panel per
    domain; dotted: chance."""
    require_columns(frame, ["judge", "domain", "mode", "distance", "estimate", "low", "high", "problems"], "horizon")
    frame = name_experts(frame[frame["mode"] == "process"])
    frame = frame[frame["judge"].isin(DRAWN)]
    judges, names = _judges(frame), unique(frame, "domain")
    figure, panels = make_panels(COLUMN, 1.1, 0.8, len(names), min(2, len(names)))
    for axes, domain in zip(panels, names, strict=True):
        axes.axhline(50, color=GREY, linestyle=":", linewidth=0.8)
        for place, judge in enumerate(judges):
            part = frame[(frame["judge"] == judge) & (frame["domain"] == domain)].sort_values("distance")
            at, (marker, colour, filled, _) = part["distance"] + 0.07 * (place - 1), FAMILIES[_family(judge)]
            axes.plot(at, part["estimate"], marker=marker, color=colour, markerfacecolor=colour if filled else "white")
            axes.vlines(at, part["low"], part["high"], color=colour, linewidth=0.7)
        axes.set_title(display_domain(domain))
    panels[0].set_xticks(range(int(frame["distance"].max()) + 1))
    handles = [handle(_name(judge), *FAMILIES[_family(judge)][:3], line="-") for judge in judges]
    words = f"steps from the wrong one to the end\n(95% interval, n = {span(frame['problems'])} problems{_seeds(frame)})"
    return finish(figure, [*handles, _line("chance")], 2, words, "balanced accuracy by process, points")


def plot_reliability(frame: pd.DataFrame) -> Figure:
    """The share of right trajectories against the judge's probability of it (mean of the bin), for the judges of DRAWN; the area is
    the count; bins of fewer than FEWEST verdicts are left out."""
    require_columns(frame, ["judge", "mode", "probability", "share", "n"], "reliability")
    kept = frame[frame["judge"].isin(DRAWN)]
    frame = kept[kept["n"] >= FEWEST] if (kept["n"] >= FEWEST).any() else kept
    judges = _judges(frame)
    figure, [grid] = make_figure(COLUMN, 2.0, 1, len(judges), sharey=True)
    for axes, judge in zip(grid, judges, strict=True):
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=0.8)
        marker, colour = FAMILIES[_family(judge)][:2]
        for mode, rows in frame[frame["judge"] == judge].groupby("mode", sort=False):
            look = {"marker": marker, "edgecolors": colour, "facecolors": colour if FILLED[mode] else "white"}
            axes.scatter(rows["probability"], rows["share"], s=4 + 40 * rows["n"] / frame["n"].max(), **look, linewidths=0.8)
        axes.set_title(_name(judge))
        axes.set(xlim=(-0.08, 1.08), ylim=(-0.08, 1.08), xticks=[0, 0.5, 1], xticklabels=["0", "0.5", "1"])
    return finish(figure, _handles(_line("calibrated")), 3, "P(right) by the judge, mean of the bin", "share that is right")


def plot_best_of_n(frame: pd.DataFrame) -> Figure:
    """Every way of choosing one of N samples, one panel per domain, one row per model."""
    require_columns(frame, ["judge", "domain", "chooser", "score", "low", "high", "n", "samples"], "best of N")
    frame = name_experts(frame)
    judges, names = _judges(frame), unique(frame, "domain")
    figure, panels = make_panels(COLUMN, 0.25 * len(judges) + 0.4, 0.85, len(names), min(2, len(names)))
    for axes, domain in zip(panels, names, strict=True):
        rows = frame[frame["domain"] == domain]
        own = rows[rows["chooser"].str.startswith("own")].rename(columns={"score": "estimate"})
        _draw_judges(axes, own.assign(mode=own["chooser"].str.split(", ").str[1]), judges)
        for row in rows[rows["chooser"].isin(TICKS)].itertuples():
            height = len(judges) - 1 - judges.index(row.judge)
            marker, colour = TICKS[row.chooser]
            axes.plot(row.score, height, marker, color=colour, markersize=5, markeredgewidth=1)
        axes.set_title(f"{display_domain(domain)}\nn = {rows['n'].max()} × {rows['samples'].max()}")
    handles = [handle(f"chosen by {mode}", "o", BLACK, filled) for mode, filled in FILLED.items()]
    handles += [handle(name, *look, markeredgewidth=1) for name, look in TICKS.items()]
    words = f"score of the chosen sample, points\n(95% interval; n problems × N samples{_seeds(frame)})"
    return finish(figure, handles, 3, words)
