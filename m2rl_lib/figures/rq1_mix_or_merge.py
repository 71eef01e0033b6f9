"""Figures of RQ1: every model on every benchmark, the overall score, score against what was spent."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from m2rl_lib.figures import parts
from m2rl_lib.figures.parts import count_words, finish, unique
from m2rl_lib.figures.style import COLOURS, COLUMN, LINES, WIDE, make_figure
from m2rl_lib.stats.bootstrap import OVERALL, require_columns
from m2rl_lib.stats.comparisons import display_domain, display_name

MOST_NARROW = 10  # models that a figure of one column has room for
UNITS = {"prompts": "prompts", "generated_tokens": "generated tokens", "device_seconds": "device-seconds"}
MARKS = (("greedy", "|"), ("pass@K", "x"))  # columns of the overall figure beside Avg@K, and their markers
LEAST_SPAN = 4  # points that a panel of scores shows: less would make much of nothing


def plot_benchmark_scores(frame: pd.DataFrame) -> Figure:
    """Every model on every benchmark, one panel each; above MOST_NARROW two columns wide, a column of panels per domain."""
    require_columns(frame, ["model", "domain", "benchmark", "score"], "benchmark scores")
    models, panels = unique(frame, "model"), frame.groupby(["domain", "benchmark"], sort=False)
    names, inches = parts.name_rows(models)
    narrow = len(models) <= MOST_NARROW
    if narrow:
        places = {divmod(number, 3): key for number, key in enumerate(panels.groups)}
    else:
        columns = enumerate(frame.groupby("domain", sort=False)["benchmark"].unique().items())
        places = {(row, column): (domain, name) for column, (domain, of_it) in columns for row, name in enumerate(of_it)}
    down, across = 1 + np.max(list(places), axis=0)
    size = (COLUMN if narrow else WIDE, down * (inches * len(models) + (0.62 if narrow else 0.5)) + 0.6)
    figure, grid = make_figure(*size, down, across, sharey=True)
    heights, letters = pd.Series(np.arange(len(models))[::-1], index=models), 14 if narrow else 96 // across
    for place, axes in np.ndenumerate(grid):
        if place not in places:
            axes.set_axis_off()
            continue
        domain, benchmark = places[place]
        rows = panels.get_group((domain, benchmark))
        line = parts.draw_reference(axes, rows)
        parts.draw_points(axes, rows, heights[rows["model"]])
        title = textwrap.fill(benchmark.replace("_", " "), letters)
        title += f"\nn = {int(rows['n'].max())}" if "n" in rows and rows["n"].notna().any() else ""
        first = narrow or place[0] == 0
        axes.set_title(f"{_embolden(textwrap.fill(display_domain(domain), letters))}\n{title}" if first else title)
        axes.margins(x=0.1)  # a whole marker at either end
        low, high = axes.get_xlim()
        spare = max(LEAST_SPAN - (high - low), 0) / 2
        axes.set_xlim(low - spare, high + spare)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        parts.name_heights(axes, heights, names, -0.7, len(models) - 0.3)
    words = "score, points" + count_words(frame.drop(columns="n", errors="ignore"))
    return finish(figure, parts.family_handles(models, line), 2 if narrow else 6, words)


def _embolden(words: str) -> str:
    """The words in bold, within a text that is not."""
    return "\n".join(" ".join(rf"$\bf{{{word}}}$" for word in line.split()) for line in words.splitlines())


def plot_overall(frame: pd.DataFrame) -> Figure:
    """Models by their score in the rows of 'overall', best on top; dashed: SFT; the scores of MARKS beside it where known."""
    require_columns(frame, ["model", "domain", "score"], "average scores")
    rows = frame[frame["domain"] == OVERALL]
    if rows.empty:
        raise ValueError(f"no row of domain {OVERALL}: there are {', '.join(sorted(set(frame['domain'])))}")
    marks = [mark for mark in MARKS if mark[0] in rows]
    return parts.make_forest(rows, ("Avg@K, " if marks else "") + "mean over domains, points", marks=marks)


def plot_budget(frame: pd.DataFrame) -> Figure:
    """Score against what was spent, one panel per unit, one line per model (at most six)."""
    require_columns(frame, ["model", "budget", "unit", "score"], "scores by budget")
    models, units = unique(frame, "model"), unique(frame, "unit")
    if len(models) > len(LINES):
        raise ValueError(f"{len(models)} models in one budget figure: at most {len(LINES)} can be distinguished")
    if unknown := [unit for unit in units if unit not in UNITS]:
        raise ValueError(f"unknown unit {unknown[0]!r}: allowed are {', '.join(UNITS)}")
    figure, [grid] = make_figure(COLUMN if len(units) == 1 else WIDE, 2.4, 1, len(units), sharey=True)
    for axes, unit in zip(grid, units, strict=True):
        spent = frame[frame["unit"] == unit]
        largest = spent["budget"].max()
        for place, model in enumerate(models):
            rows = spent[spent["model"] == model].sort_values("budget")
            aside = 0.008 * largest * (place - (len(models) - 1) / 2)  # intervals at one budget side by side
            look = {"linestyle": LINES[place], "marker": "Dos^vX"[place], "color": COLOURS[place], "markerfacecolor": "white"}
            axes.plot(rows["budget"] + aside, rows["score"], label=display_name(model), **look)
            if parts.is_sampled(rows):
                axes.vlines(rows["budget"] + aside, rows["low"], rows["high"], color=COLOURS[place], linewidth=0.8)
        axes.set(xlabel=UNITS[unit], xlim=(-0.03 * largest, None))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(4))
    grid[0].set_ylabel("mean over domains, points")
    words = ("spent" + count_words(frame)) if count_words(frame) else ""
    return finish(figure, grid[0].get_legend_handles_labels()[0], 3 if len(units) > 1 else 2, words)
