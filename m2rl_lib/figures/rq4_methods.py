"""RQ4's figures: places of methods, recovery, skills. Sweeps are in `rq4_sweeps`."""

import re
import textwrap

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from m2rl_lib.figures.parts import (
    count_words,
    counts_below,
    draw_estimate,
    draw_points,
    family_handles,
    handle,
    legend_above,
    name_heights,
    name_rows,
    size_words,
    unique,
)
from m2rl_lib.figures.style import BLACK, COLUMN, GREY, LIGHT, WIDE, make_canvas
from m2rl_lib.stats.bootstrap import require_columns

FURTHEST = 10  # points behind the best, from which a cell has the darkest shade


def _frame(axes: Axes, column: float, row: float, style: str) -> None:
    axes.add_patch(Rectangle((column + 0.05, row + 0.07), 0.9, 0.86, fill=False, edgecolor=BLACK, linewidth=0.9, linestyle=style))


def _narrow(name: str) -> str:
    """A benchmark's name on lines of about twelve letters: 'LiveCodeBench v5' → 'LiveCode-', 'Bench v5'."""
    name = name.replace("_", " ")
    if max(map(len, name.split())) > 12:
        name = re.sub(r"^(.*[a-z])([A-Z][a-z]+)", r"\1-\2", name)
    return textwrap.fill(name, 12)


def plot_methods(frame: pd.DataFrame) -> Figure:
    """Methods × benchmarks: the score, a solid frame around the best and a dashed one around the second best of a column.

    Columns: model, domain, benchmark, score (points), place (1 is best; NaN for a model that is shown beside but does not
    compete). Models and benchmarks stand in the order of the frame. The darker a cell, the further behind the best.
    """
    require_columns(frame, ["model", "domain", "benchmark", "score", "place"], "places of methods")
    models, benchmarks = unique(frame, "model"), unique(frame, "benchmark")
    names, inches = name_rows(models)
    figure = make_canvas(WIDE, max(inches, 0.2) * len(models) + 1.1)
    axes = figure.subplots()
    shades, best = colormaps["Blues"], frame[frame["place"] == 1].groupby("benchmark")["score"].max()
    for row in frame.itertuples():
        x, y = benchmarks.index(row.benchmark), models.index(row.model)
        competes = not np.isnan(row.place)
        behind = min((best[row.benchmark] - row.score) / FURTHEST, 1) * 0.5 if competes else 0
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=shades(behind) if competes else "white", edgecolor="white"))
        axes.text(x + 0.5, y + 0.5, f"{row.score:.1f}", ha="center", va="center", fontsize=6.5,
                  weight="bold" if row.place == 1 else "normal", color="black" if competes else "#555555")  # fmt: skip
        if row.place in (1, 2):
            _frame(axes, x, y, "-" if row.place == 1 else ":")
    axes.set(xlim=(0, len(benchmarks)), ylim=(len(models), 0))
    axes.set_xticks(np.arange(len(benchmarks)) + 0.5, [_narrow(benchmark) for benchmark in benchmarks])
    axes.set_yticks(np.arange(len(models)) + 0.5, names)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(False)
    axes.set_xlabel("score, points" + size_words(frame))
    handles = [
        Patch(fill=False, edgecolor=BLACK, linestyle="-", label="best"),
        Patch(fill=False, edgecolor=BLACK, linestyle=":", label="second best"),
        Patch(facecolor=shades(0.5), label=f"{FURTHEST} points or more behind the best"),
    ]
    legend_above(figure, handles, 3)
    return figure


def plot_upset(frame: pd.DataFrame) -> Figure:
    """Which models solve which problems: a column a set of models, its bar how many problems just these models solve.

    Columns: set, problems, model, solves, n (problems in all), k (samples a problem). A filled dot: the model solves them.
    """
    require_columns(frame, ["set", "problems", "model", "solves", "n", "k"], "sets of solved problems")
    models, sets = unique(frame, "model"), frame.drop_duplicates("set").sort_values("set")
    names, inches = name_rows(models)
    figure = make_canvas(WIDE, 1.5 + inches * len(models))
    bars, dots = figure.subplots(2, 1, sharex=True, height_ratios=[1.2, inches * len(models)])
    bars.bar(sets["set"], sets["problems"], width=0.6, color=GREY)
    for place, count in zip(sets["set"], sets["problems"], strict=True):
        bars.text(place, count, f"{count}", ha="center", va="bottom", fontsize=6)
    bars.set_ylim(0, 1.12 * sets["problems"].max())
    bars.set_ylabel("problems")
    bars.grid(axis="x", visible=False)
    height = frame["model"].map({model: -place for place, model in enumerate(models)})
    for solves, colour in ((False, "#DDDDDD"), (True, BLACK)):
        some = frame["solves"] == solves
        dots.plot(frame.loc[some, "set"], height[some], "o", color=colour, markersize=4)
    dots.set_yticks(-np.arange(len(models)), names)
    dots.set_ylim(-len(models) + 0.4, 0.6)
    dots.set_xticks([])
    dots.set_xlim(0.4, max(len(sets), 8) + 0.6)
    dots.grid(axis="x", visible=False)
    shown, n, k = int(sets["problems"].sum()), int(frame["n"].iloc[0]), int(frame["k"].iloc[0])
    dots.set_xlabel(
        f"sets of models that solve the same problems ({shown} of {n} problems; solved: over half of {k} samples right)"
    )
    return figure


def plot_recovery(frame: pd.DataFrame) -> Figure:
    """Share of the SFT→routed gap that each model closes, in percent; 0 is SFT, 100 every benchmark by its own expert.

    Columns: model, recovery, low, high (shares; NaN where refused), n, seeds.
    """
    require_columns(frame, ["model", "recovery", "low", "high"], "recovery")
    rows = frame.assign(score=100 * frame["recovery"], low=100 * frame["low"], high=100 * frame["high"])
    rows = rows.sort_values("score", kind="stable", na_position="first")
    names, inches = name_rows(rows["model"])
    figure = make_canvas(COLUMN, inches * len(rows) + 1.1)
    axes = figure.subplots()
    for edge, style in ((0, "--"), (100, "-")):
        axes.axvline(edge, color=GREY, linestyle=style, linewidth=0.8, zorder=1)
    draw_points(axes, rows, np.arange(len(rows)))
    name_heights(axes, np.arange(len(rows)), names, -0.7, len(rows) - 0.3)
    figure.supxlabel("recovered of the gap from SFT (dashed)\nto routed experts (solid), percent" + counts_below(rows))
    legend_above(figure, family_handles(rows["model"], False), 2)
    return figure


def plot_skills(frame: pd.DataFrame) -> Figure:
    """Consistency with the experts' union (the naive number and the unbiased one), excess over it and shortfall.

    Columns: model, measure ('naive consistency', 'consistency', 'excess', 'shortfall'), estimate, low, high, n, k. What is
    undefined is a word, not a point. One domain, or 'overall', a figure.
    """
    require_columns(frame, ["model", "measure", "estimate", "low", "high", "n", "k"], "skills")
    panels = [("consistency", "cosine with the experts' union"), ("excess", "excess over the union, points"),
              ("shortfall", "shortfall to the union, points")]  # fmt: skip
    frame = frame[frame["measure"].isin(["naive consistency", *(name for name, _ in panels)])]
    models = unique(frame, "model")
    names, inches = name_rows(models)
    figure = make_canvas(WIDE, inches * len(models) + 1.0)
    for axes, (measure, words) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
        for row in frame[frame["measure"].isin([measure, f"naive {measure}"])].itertuples():
            naive = row.measure.startswith("naive")
            height = -models.index(row.model) + (0.2 if naive else -0.1 if measure == "consistency" else 0)
            if np.isnan(row.estimate):
                place = {"xy": (0.03, height), "ha": "left"} if naive else {"xy": (0.97, height), "ha": "right"}
                axes.annotate("undefined", **place, xycoords=("axes fraction", "data"), va="center", fontsize=5.5, color=GREY)
                continue
            look = ("o", LIGHT, False) if naive else ("D", BLACK, True)
            draw_estimate(axes, row, row.estimate, height, *look, size=3.4)
        axes.axvline(0, color=GREY, linewidth=0.8, zorder=1)
        axes.set_xlabel(words)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        name_heights(axes, -np.arange(len(models)), names, -len(models) + 0.3, 0.7)
    handles = [handle("the paper's number (naive)", LIGHT, "o", False, "-"), handle("unbiased", BLACK, "D", line="-")]
    legend_above(figure, handles, 2)
    figure.supxlabel(count_words(frame).strip(" ()") + f", K = {int(frame['k'].iloc[0])} samples")
    return figure
