"""Figures of RQ1: every model on every benchmark, the overall score, score against what was spent."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from m2rl_lib.figures.parts import (
    count_words,
    counts_below,
    draw_points,
    draw_reference,
    embolden,
    family_handles,
    is_sampled,
    legend_above,
    name_heights,
    name_rows,
    unique,
)
from m2rl_lib.figures.style import COLOURS, COLUMN, LINES, WIDE, make_canvas
from m2rl_lib.stats.bootstrap import OVERALL, require_columns
from m2rl_lib.stats.comparisons import display_domain, display_name

MOST_NARROW = 10  # models that a figure of one column has room for
UNITS = {"prompts": "prompts", "generated_tokens": "generated tokens", "device_seconds": "device-seconds"}
LEAST_SPAN = 4  # points that a panel of scores shows: less would make much of nothing


def plot_benchmark_scores(frame: pd.DataFrame) -> Figure:
    """Every model on every benchmark, a panel each; a row of points is a model.

    Columns: model, domain, benchmark, score (points) and, where there was sampling, low, high, n, seeds. Models stand in
    the order of the frame, the first on top. Up to MOST_NARROW models, panels stand three across in one column; more take
    two, a column of panels a domain. Each panel has its own scale. ValueError: no rows, no such column, unknown model.
    """
    require_columns(frame, ["model", "domain", "benchmark", "score"], "benchmark scores")
    models, panels = unique(frame, "model"), frame.groupby(["domain", "benchmark"], sort=False)
    names, inches = name_rows(models)
    narrow = len(models) <= MOST_NARROW
    if narrow:
        places = {divmod(number, 3): key for number, key in enumerate(panels.groups)}
    else:
        domains = {domain: unique(rows, "benchmark") for domain, rows in frame.groupby("domain", sort=False)}
        places = {(row, column): (domain, benchmark) for column, (domain, of_it) in enumerate(domains.items())
                  for row, benchmark in enumerate(of_it)}  # fmt: skip
    down, across = 1 + max(row for row, _ in places), 1 + max(column for _, column in places)
    figure = make_canvas(COLUMN if narrow else WIDE, down * (inches * len(models) + (0.62 if narrow else 0.5)) + 0.6)
    heights, letters = pd.Series(np.arange(len(models))[::-1], index=models), 14 if narrow else 96 // across
    for place, axes in np.ndenumerate(figure.subplots(down, across, squeeze=False, sharey=True)):
        if place not in places:
            axes.set_axis_off()
            continue
        domain, benchmark = places[place]
        rows = panels.get_group((domain, benchmark))
        line = draw_reference(axes, rows)
        draw_points(axes, rows, heights[rows["model"]].to_numpy())
        title = textwrap.fill(benchmark.replace("_", " "), letters)
        title += f"\nn = {int(rows['n'].max())}" if "n" in rows and rows["n"].notna().any() else ""
        first = narrow or place[0] == 0
        axes.set_title(f"{embolden(textwrap.fill(display_domain(domain), letters))}\n{title}" if first else title)
        _widen(axes)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        name_heights(axes, heights, names, -0.7, len(models) - 0.3)
    figure.supxlabel("score, points" + count_words(frame.drop(columns="n", errors="ignore")))
    legend_above(figure, family_handles(models, line), 2 if narrow else 6)
    return figure


def _widen(axes: Axes) -> None:
    """Room for a whole marker at either end, and at least LEAST_SPAN points from end to end."""
    axes.margins(x=0.1)
    low, high = axes.get_xlim()
    spare = max(LEAST_SPAN - (high - low), 0) / 2
    axes.set_xlim(low - spare, high + spare)


def plot_overall(frame: pd.DataFrame) -> Figure:
    """Forest plot: models by their overall score, best on top, SFT's score as a dashed line.

    Columns: model, domain, score and, where there was sampling, low, high, n, seeds; rows of domain 'overall' are drawn.
    """
    require_columns(frame, ["model", "domain", "score"], "average scores")
    rows = frame[frame["domain"] == OVERALL].sort_values("score", kind="stable", na_position="first")
    if rows.empty:
        raise ValueError(f"no row of domain {OVERALL}: there are {', '.join(sorted(set(frame['domain'])))}")
    names, inches = name_rows(rows["model"])
    figure = make_canvas(COLUMN, inches * len(rows) + 1.1)
    axes = figure.subplots()
    line = draw_reference(axes, rows)
    draw_points(axes, rows, np.arange(len(rows)))
    name_heights(axes, np.arange(len(rows)), names, -0.7, len(rows) - 0.3)
    figure.supxlabel("mean over domains, points" + counts_below(rows))
    legend_above(figure, family_handles(rows["model"], line), 2)
    return figure


def plot_budget(frame: pd.DataFrame) -> Figure:
    """Score against what was spent, a panel each unit, a line each model (at most six).

    Columns: model, budget, unit ('prompts', 'generated_tokens', 'device_seconds'), score (points), low, high; n if known.
    """
    require_columns(frame, ["model", "budget", "unit", "score"], "scores by budget")
    models, units = unique(frame, "model"), unique(frame, "unit")
    if len(models) > len(LINES):
        raise ValueError(f"{len(models)} models in one budget figure: at most {len(LINES)} can be told apart")
    unknown = [unit for unit in units if unit not in UNITS]
    if unknown:
        raise ValueError(f"unknown unit {unknown[0]!r}: allowed are {', '.join(UNITS)}")
    figure = make_canvas(COLUMN if len(units) == 1 else WIDE, 2.4)
    grid, largest = figure.subplots(1, len(units), squeeze=False, sharey=True)[0], frame.groupby("unit")["budget"].max()
    for axes, unit in zip(grid, units, strict=True):
        for place, model in enumerate(models):
            rows = frame[(frame["model"] == model) & (frame["unit"] == unit)].sort_values("budget")
            aside = 0.008 * largest[unit] * (place - (len(models) - 1) / 2)  # intervals at one budget side by side
            look = {"linestyle": LINES[place], "marker": "Dos^vX"[place], "color": COLOURS[place], "markerfacecolor": "white"}
            axes.plot(rows["budget"] + aside, rows["score"], label=display_name(model), **look)
            if is_sampled(rows):
                axes.vlines(rows["budget"] + aside, rows["low"], rows["high"], color=COLOURS[place], linewidth=0.8)
        axes.set_xlabel(UNITS[unit])
        axes.set_xlim(left=-0.03 * largest[unit])
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(4))
    grid[0].set_ylabel("mean over domains, points")
    figure.supxlabel(("spent" + count_words(frame)) if count_words(frame) else "")
    legend_above(figure, grid[0].get_legend_handles_labels()[0], 3 if len(units) > 1 else 2)
    return figure
