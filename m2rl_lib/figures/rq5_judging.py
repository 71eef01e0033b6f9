"""Figures of RQ5: judges by domain and mode, where errors are seen, calibration, and best of N by own judgement.

In the one style of `figures`, whose rules hold here too: tidy frames in, a Figure out, no model known. Outcome is an open
marker with a dashed line, process a filled one with a full line, everywhere.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from m2rl_lib.figures.style import BLACK, COLUMN, GREY, WIDE, count_words, make_canvas, name_rows
from m2rl_lib.stats.bootstrap import require_columns
from m2rl_lib.stats.comparisons import display_domain, display_name

MODES = {"outcome": ("o", "#D55E00", "white", "--"), "process": ("s", "#0072B2", "#0072B2", "-")}
CHOOSERS = {  # marker, colour, filled
    "single sample": ("v", GREY, True),
    "majority vote": ("D", BLACK, True),
    "own judgement, outcome": ("o", "#D55E00", False),
    "own judgement, process": ("s", "#0072B2", True),
    "oracle": ("^", "#009E73", False),
}


def _handles(extra: list[Line2D] = ()) -> list[Line2D]:
    modes = [
        Line2D([], [], marker=marker, color=colour, markerfacecolor=face, linestyle=line, label=mode, linewidth=0.8)
        for mode, (marker, colour, face, line) in MODES.items()
    ]
    return [*modes, *extra]


def _seeds(frame: pd.DataFrame) -> str:
    """', 3 seeds', where the frame's column seeds can say it."""
    if "seeds" not in frame:
        return ""
    return count_words(frame.loc[frame["seeds"] > 0, ["seeds"]]).replace(" (", ", ").rstrip(")")


CHANCE_LINE = Line2D([], [], color=GREY, linestyle=":", linewidth=0.8, label="chance")


def plot_judges(frame: pd.DataFrame) -> Figure:
    """Accuracy of every judge in both modes with its interval; a row of panels a set, a column a domain; dotted: chance.

    Columns: set, judge, domain, mode, estimate, low, high (points), trajectories, and seeds where it is told. A judge that has no
    set in a domain has no point there.
    """
    require_columns(frame, ["set", "judge", "domain", "mode", "estimate", "low", "high", "trajectories"], "judges")
    judges, names, sets = (list(pd.unique(frame[column])) for column in ("judge", "domain", "set"))
    labels, inches = name_rows(judges)
    figure = make_canvas(WIDE, len(sets) * (1.5 * inches * len(judges) + 0.4) + 0.6)
    grid = figure.subplots(len(sets), len(names), squeeze=False, sharey=True, sharex=True)
    for place, name in enumerate(sets):
        for axes, domain in zip(grid[place], names, strict=True):
            rows = frame[(frame["set"] == name) & (frame["domain"] == domain)]
            axes.axvline(50, color=GREY, linestyle=":", linewidth=0.8)
            for row in rows.itertuples():
                marker, colour, face, line = MODES[row.mode]
                height = len(judges) - 1 - judges.index(row.judge) + (0.16 if row.mode == "outcome" else -0.16)
                axes.plot([row.low, row.high], [height, height], color=colour, linewidth=0.9)
                axes.plot(row.estimate, height, marker, color=colour, markerfacecolor=face, markersize=3.4)
            sizes = sorted(set(rows["trajectories"]))
            told = f"n = {sizes[0]}" + (f" to {sizes[-1]}" if len(sizes) > 1 else "") if sizes else "nothing to judge"
            axes.set_title(f"{display_domain(domain)}\n{told}", fontsize=6.5)
            axes.set_yticks(np.arange(len(judges))[::-1], labels)
            axes.set_ylim(-0.6, len(judges) - 0.4)
            axes.grid(axis="y", linewidth=0.25)
        grid[place, -1].annotate(
            {"shared": "SFT's trajectories"}.get(name, f"{name} trajectories"),
            (1.03, 0.5),
            xycoords="axes fraction",
            rotation=270,
            ha="left",
            va="center",
            fontsize=6.5,
        )
    told = f"accuracy against the verifier, points (95% interval; n trajectories, half of them right{_seeds(frame)})"
    figure.supxlabel(told, fontsize=7)
    figure.legend(handles=_handles([CHANCE_LINE]), loc="outside upper center", ncols=3, frameon=False)
    return figure


def plot_horizon(frame: pd.DataFrame) -> Figure:
    """A measure against the distance of the error from the end; a row of panels a judge, a column a domain, a line a mode.

    Columns: judge, domain, mode, distance (steps), estimate, low, high (points), problems.
    """
    require_columns(frame, ["judge", "domain", "mode", "distance", "estimate", "low", "high", "problems"], "horizon")
    judges, names = (list(pd.unique(frame[column])) for column in ("judge", "domain"))
    figure = make_canvas(WIDE, 1.15 * len(judges) + 0.7)
    grid = figure.subplots(len(judges), len(names), squeeze=False, sharex=True, sharey=True)
    for place, judge in enumerate(judges):
        for axes, domain in zip(grid[place], names, strict=True):
            rows = frame[(frame["judge"] == judge) & (frame["domain"] == domain)]
            axes.axhline(50, color=GREY, linestyle=":", linewidth=0.8)
            for mode, part in rows.groupby("mode", sort=False):
                marker, colour, face, line = MODES[mode]
                part, aside = part.sort_values("distance"), -0.06 if mode == "outcome" else 0.06
                axes.plot(
                    part["distance"] + aside,
                    part["estimate"],
                    marker=marker,
                    color=colour,
                    linestyle=line,
                    markerfacecolor=face,
                    markersize=3.2,
                    linewidth=0.9,
                )
                axes.vlines(part["distance"] + aside, part["low"], part["high"], color=colour, linewidth=0.7)
            if place == 0:
                axes.set_title(display_domain(domain), fontsize=6.5)
            if rows.empty:
                axes.annotate("not its domain", (0.5, 0.5), xycoords="axes fraction", ha="center", fontsize=6, color=GREY)
        grid[place, 0].set_ylabel(display_name(judge) if judge != "expert" else "domain's expert")
    grid[0, 0].set_xticks(range(int(frame["distance"].max()) + 1))
    figure.supxlabel("steps from the wrong one to the end", fontsize=7)
    sizes = sorted(set(frame["problems"]))
    told = f"{sizes[0]}" + (f"–{sizes[-1]}" if len(sizes) > 1 else "")
    figure.supylabel(f"balanced accuracy, points (95% interval, n = {told} problems{_seeds(frame)})", fontsize=7)
    figure.legend(handles=_handles([CHANCE_LINE]), loc="outside upper center", ncols=3, frameon=False)
    return figure


def plot_reliability(frame: pd.DataFrame) -> Figure:
    """The share of right trajectories against the judge's probability of it, a panel each judge; the area is the count.

    Columns: judge, mode, probability (mean of the bin), share (right among them), n.
    """
    require_columns(frame, ["judge", "mode", "probability", "share", "n"], "reliability")
    judges = list(pd.unique(frame["judge"]))
    figure = make_canvas(WIDE if len(judges) > 2 else COLUMN, 2.1)
    for axes, judge in zip(figure.subplots(1, len(judges), squeeze=False, sharey=True)[0], judges, strict=True):
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=0.8)
        for mode, rows in frame[frame["judge"] == judge].groupby("mode", sort=False):
            marker, colour, face, line = MODES[mode]
            axes.plot(rows["probability"], rows["share"], color=colour, linestyle=line, linewidth=0.8)
            axes.scatter(
                rows["probability"],
                rows["share"],
                s=2 + 60 * rows["n"] / frame["n"].max(),
                marker=marker,
                edgecolors=colour,
                facecolors=face,
                linewidths=0.8,
                zorder=3,
            )
        axes.set_title(display_name(judge) if judge != "expert" else "each domain's expert", fontsize=6.5)
        axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
    figure.supxlabel("P(right) by the judge, mean of the bin", fontsize=7)
    figure.supylabel("share that is right", fontsize=7)
    calibrated = Line2D([], [], color=GREY, linestyle=":", linewidth=0.8, label="calibrated")
    figure.legend(handles=_handles([calibrated]), loc="outside upper center", ncols=3, frameon=False)
    return figure


def plot_best_of_n(frame: pd.DataFrame) -> Figure:
    """Every way of choosing one of N samples, a panel a domain, a row a model. Columns: judge, domain, chooser, score, low, high,
    n, samples."""
    require_columns(frame, ["judge", "domain", "chooser", "score", "low", "high", "n", "samples"], "best of N")
    judges, names = (list(pd.unique(frame[column])) for column in ("judge", "domain"))
    labels, inches = name_rows(judges)
    figure = make_canvas(WIDE, 2.2 * inches * len(judges) + 1.0)
    grid = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for axes, domain in zip(grid, names, strict=True):
        rows = frame[frame["domain"] == domain]
        for row in rows.itertuples():
            marker, colour, filled = CHOOSERS[row.chooser]
            height = len(judges) - 1 - judges.index(row.judge) + 0.14 * (2 - list(CHOOSERS).index(row.chooser))
            axes.plot([row.low, row.high], [height, height], color=colour, linewidth=0.7)
            axes.plot(row.score, height, marker, color=colour, markerfacecolor=colour if filled else "white", markersize=3)
        sizes = f"\nn = {rows['n'].max()} × {rows['samples'].max()}" if len(rows) else ""
        axes.set_title(f"{display_domain(domain)}{sizes}", fontsize=6.5)
        axes.set_yticks(np.arange(len(judges))[::-1], labels)
        axes.set_ylim(-0.6, len(judges) - 0.4)
        axes.grid(axis="y", linewidth=0.25)
    figure.supxlabel(f"score of the chosen sample, points (95% interval; n problems × N samples{_seeds(frame)})", fontsize=7)
    handles = [
        Line2D([], [], marker=marker, color=colour, markerfacecolor=colour if filled else "white", linestyle="", label=name)
        for name, (marker, colour, filled) in CHOOSERS.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=5, frameon=False)
    return figure
