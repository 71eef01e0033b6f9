"""Figures of RQ5: judges by domain and mode, where errors are found, calibration, and best of N by own judgement."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from m2rl_lib.figures.parts import count_words, draw_estimate, finish, handle, name_heights, name_rows, span, unique
from m2rl_lib.figures.style import BLACK, BLUE, COLUMN, GREEN, GREY, MODES, ORANGE, WIDE, make_figure
from m2rl_lib.stats.bootstrap import require_columns
from m2rl_lib.stats.comparisons import display_domain, display_name

CHOOSERS = {  # marker, colour, filled
    "single sample": ("v", GREY, True),
    "majority vote": ("D", BLACK, True),
    "own judgement, outcome": ("o", ORANGE, False),
    "own judgement, process": ("s", BLUE, True),
    "oracle": ("^", GREEN, False),
}


def _handles(dotted: str) -> list:
    """Entries of a legend: both modes, and what the dotted line is."""
    handles = [handle(mode, *look, linewidth=0.8) for mode, look in MODES.items()]
    return [*handles, handle(dotted, "", GREY, line=":", linewidth=0.8)]


def _seeds(frame: pd.DataFrame) -> str:
    """', 3 seeds', where the frame's column seeds can say it."""
    if "seeds" not in frame:
        return ""
    return count_words(frame.loc[frame["seeds"] > 0, ["seeds"]]).replace(" (", ", ").rstrip(")")


def plot_judges(frame: pd.DataFrame) -> Figure:
    """Accuracy of every judge in both modes; one row of panels per set, one column per domain; dotted: chance."""
    require_columns(frame, ["set", "judge", "domain", "mode", "estimate", "low", "high", "trajectories"], "judges")
    judges, names, sets = (unique(frame, column) for column in ("judge", "domain", "set"))
    labels, inches = name_rows(judges)
    size = (WIDE, len(sets) * (1.5 * inches * len(judges) + 0.4) + 0.6)
    figure, grid = make_figure(*size, len(sets), len(names), sharey=True, sharex=True)
    for place, name in enumerate(sets):
        for axes, domain in zip(grid[place], names, strict=True):
            rows = frame[(frame["set"] == name) & (frame["domain"] == domain)]
            axes.axvline(50, color=GREY, linestyle=":", linewidth=0.8)
            for row in rows.itertuples():
                height = len(judges) - 1 - judges.index(row.judge) + (0.16 if row.mode == "outcome" else -0.16)
                draw_estimate(axes, row, row.estimate, height, *MODES[row.mode][:3], size=3.4, width=0.9)
            size = f"n = {span(rows['trajectories'], ' to ')}" if len(rows) else "nothing to judge"
            axes.set_title(f"{display_domain(domain)}\n{size}", fontsize=6.5)
            name_heights(axes, np.arange(len(judges))[::-1], labels, -0.6, len(judges) - 0.4)
        beside = {"xy": (1.03, 0.5), "xycoords": "axes fraction", "rotation": 270, "ha": "left", "va": "center", "fontsize": 6.5}
        grid[place, -1].annotate({"shared": "SFT's trajectories"}.get(name, f"{name} trajectories"), **beside)
    words = "accuracy against the verifier, points (95% interval; n trajectories, half of them right"
    return finish(figure, _handles("chance"), 3, f"{words}{_seeds(frame)})")


def plot_horizon(frame: pd.DataFrame) -> Figure:
    """A measure against the distance of the error from the end, in steps; one row of panels per judge, one column per domain."""
    require_columns(frame, ["judge", "domain", "mode", "distance", "estimate", "low", "high", "problems"], "horizon")
    judges, names = (unique(frame, column) for column in ("judge", "domain"))
    figure, grid = make_figure(WIDE, 1.15 * len(judges) + 0.7, len(judges), len(names), sharex=True, sharey=True)
    for place, judge in enumerate(judges):
        for axes, domain in zip(grid[place], names, strict=True):
            rows = frame[(frame["judge"] == judge) & (frame["domain"] == domain)]
            axes.axhline(50, color=GREY, linestyle=":", linewidth=0.8)
            for mode, part in rows.groupby("mode", sort=False):
                marker, colour, filled, line = MODES[mode]
                part = part.sort_values("distance")
                at = part["distance"] + (-0.06 if mode == "outcome" else 0.06)
                look = {"color": colour, "linestyle": line, "marker": marker, "markerfacecolor": colour if filled else "white"}
                axes.plot(at, part["estimate"], **look, markersize=3.2, linewidth=0.9)
                axes.vlines(at, part["low"], part["high"], color=colour, linewidth=0.7)
            if place == 0:
                axes.set_title(display_domain(domain), fontsize=6.5)
            if rows.empty:
                axes.annotate("not its domain", (0.5, 0.5), xycoords="axes fraction", ha="center", fontsize=6, color=GREY)
        grid[place, 0].set_ylabel(display_name(judge) if judge != "expert" else "domain's expert")
    grid[0, 0].set_xticks(range(int(frame["distance"].max()) + 1))
    words = f"balanced accuracy, points (95% interval, n = {span(frame['problems'])} problems{_seeds(frame)})"
    return finish(figure, _handles("chance"), 3, "steps from the wrong one to the end", words)


def plot_reliability(frame: pd.DataFrame) -> Figure:
    """The share of right trajectories against the judge's probability of it (mean of the bin); the area is the count."""
    require_columns(frame, ["judge", "mode", "probability", "share", "n"], "reliability")
    judges = unique(frame, "judge")
    figure, [grid] = make_figure(WIDE if len(judges) > 2 else COLUMN, 2.1, 1, len(judges), sharey=True)
    for axes, judge in zip(grid, judges, strict=True):
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=0.8)
        for mode, rows in frame[frame["judge"] == judge].groupby("mode", sort=False):
            marker, colour, filled, line = MODES[mode]
            axes.plot(rows["probability"], rows["share"], color=colour, linestyle=line, linewidth=0.8)
            look = {"marker": marker, "edgecolors": colour, "facecolors": colour if filled else "white"}
            sizes = 2 + 60 * rows["n"] / frame["n"].max()
            axes.scatter(rows["probability"], rows["share"], s=sizes, **look, linewidths=0.8, zorder=3)
        axes.set_title(display_name(judge) if judge != "expert" else "each domain's expert", fontsize=6.5)
        axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
    return finish(figure, _handles("calibrated"), 3, "P(right) by the judge, mean of the bin", "share that is right")


def plot_best_of_n(frame: pd.DataFrame) -> Figure:
    """Every way of choosing one of N samples, one panel per domain, one row per model."""
    require_columns(frame, ["judge", "domain", "chooser", "score", "low", "high", "n", "samples"], "best of N")
    judges, names = (unique(frame, column) for column in ("judge", "domain"))
    labels, inches = name_rows(judges)
    figure, [grid] = make_figure(WIDE, 2.2 * inches * len(judges) + 1.0, 1, len(names), sharey=True)
    for axes, domain in zip(grid, names, strict=True):
        rows = frame[frame["domain"] == domain]
        for row in rows.itertuples():
            height = len(judges) - 1 - judges.index(row.judge) + 0.14 * (2 - list(CHOOSERS).index(row.chooser))
            draw_estimate(axes, row, row.score, height, *CHOOSERS[row.chooser], size=3, width=0.7)
        sizes = f"\nn = {rows['n'].max()} × {rows['samples'].max()}" if len(rows) else ""
        axes.set_title(f"{display_domain(domain)}{sizes}", fontsize=6.5)
        name_heights(axes, np.arange(len(judges))[::-1], labels, -0.6, len(judges) - 0.4)
    words = f"score of the chosen sample, points (95% interval; n problems × N samples{_seeds(frame)})"
    return finish(figure, [handle(name, *look) for name, look in CHOOSERS.items()], 5, words)
