"""RQ4's figures of sweeps: grids of λ and density, merges of fewer experts, paths."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from m2rl_lib.figures.parts import change_words, count_words, draw_cells, finish, handle, pivot, size_words, unique
from m2rl_lib.figures.style import BLACK, GREY, LIGHT, WIDE, make_figure
from m2rl_lib.stats.bootstrap import OVERALL
from m2rl_lib.stats.comparisons import MERGES, display_domain, display_name
from m2rl_lib.stats.graded_samples import require_columns

NO_DENSITY = 0.0  # of a method that has none
KINDS = ["SFT to expert", "expert to expert", "expert to mixed"]


def plot_sweeps(frame: pd.DataFrame) -> Figure:
    """One heat map per method: mean over domains at each λ and density (NaN: it has none); a frame around its best, a star at the
    published setting, the method's name."""
    require_columns(frame, ["model", "method", "lambda", "density", "score", "best"], "a sweep")
    frame = frame.assign(published=frame["model"] == frame["method"])
    methods, across = [name for name in MERGES if name in set(frame["method"])], 3
    parts = [frame[frame["method"] == method] for method in methods]
    heights = [max(part["density"].nunique(), 1) for part in parts]
    rows = [heights[first : first + across] for first in range(0, len(heights), across)]
    size = (WIDE, sum(0.24 * max(row) + 0.62 for row in rows) + 0.6)
    figure, grid = make_figure(*size, len(rows), across, height_ratios=[max(row) + 1.5 for row in rows])
    norm = Normalize(frame["score"].min(), frame["score"].max())
    for axes, method, part in zip(grid.flat, methods, parts, strict=False):
        part = part.assign(density=part["density"].fillna(NO_DENSITY))
        settings = [sorted(set(part["density"]), reverse=True), sorted(set(part["lambda"]))]
        cells, best, published = pivot(part, "density", "lambda", *settings, "score", "best", "published")
        words = cells.map(lambda score: f"{score:.0f}" if np.isfinite(score) else "")  # a setting may be missing
        words = words.where(~published.eq(True), words + "*")
        named = cells.rename(index=lambda density: "" if density == NO_DENSITY else f"{density:g}", columns="{:g}".format)
        draw_cells(axes, named, words, "cividis", norm, 7)
        inks = {text.get_position(): text.get_color() for text in axes.texts}
        for y, x in np.argwhere(best.eq(True)):
            ink = inks[x + 0.5, y + 0.5]
            axes.add_patch(Rectangle((x + 0.04, y + 0.06), 0.92, 0.88, fill=False, edgecolor=ink, linewidth=1.3))
        axes.set_title(display_name(method).replace(" merge", ""))
    for axes in grid.flat[len(methods) :]:
        axes.set_axis_off()
    handles = [Patch(fill=False, edgecolor=BLACK, linewidth=1.3, label="best"), handle("published setting", "$*$", BLACK)]
    words = "λ; the number is the mean over domains, points" + size_words(frame)
    return finish(figure, handles, 2, words, "density")


def _changes(axes: Axes, frame: pd.DataFrame, row: str, column: str, rows: list[str], columns: list[str], size: float) -> None:
    """A table of changes with their intervals as a heat map; bold where the interval excludes 0."""
    words = [change_words(change) if np.isfinite(change.estimate) else "" for change in frame.itertuples()]
    table = frame.assign(words=words, sure=(frame["low"] > 0) | (frame["high"] < 0))
    cells, words, sure = pivot(table, row, column, rows, columns, "estimate", "words", "sure")
    named = cells.rename(index=_name, columns=lambda name: _name(name).replace(" ", "\n"))
    draw_cells(axes, named, words, "PuOr_r", TwoSlopeNorm(0, -size, size), 7, sure)


def _name(name: str) -> str:
    return {"sft": "SFT", "null": "RL-Null", OVERALL: "Mean"}.get(name) or display_domain(name)


def plot_leave_one_out(frame: pd.DataFrame) -> Figure:
    """What a merge loses or gains without one expert (without − with), one panel per method: rows left out, columns tested on."""
    require_columns(frame, ["method", "left_out", "over", "estimate", "low", "high"], "merges without one expert")
    methods, size = unique(frame, "method"), max(float(frame["estimate"].abs().max()), 1e-9)
    left, over = unique(frame, "left_out"), unique(frame, "over")
    figure, grid = make_figure(WIDE, (0.32 * len(left) + 0.3) * len(methods) + 0.6, len(methods), 1, sharex=True)
    for axes, method in zip(grid[:, 0], methods, strict=True):
        _changes(axes, frame[frame["method"] == method], "left_out", "over", left, over, size)
        axes.set_title(display_name(method))
    figure.supxlabel("tested on; change in points" + count_words(frame) + "; bold: interval excludes 0")
    figure.supylabel("expert left out")
    return figure


def plot_pairs(frame: pd.DataFrame) -> Figure:
    """A domain's score when its expert is averaged with another model (a domain's, 'sft' or 'null'), against the expert alone."""
    require_columns(frame, ["target", "added", "estimate", "low", "high"], "merges of pairs")
    targets, added = unique(frame, "target"), unique(frame, "added")
    columns = [*(name for name in targets if name in added), *(name for name in added if name not in targets)]
    figure, axes = make_figure(WIDE, 0.32 * len(targets) + 0.9)
    _changes(axes, frame, "target", "added", targets, columns, max(float(frame["estimate"].abs().max()), 1e-9))
    words = "averaged with; change against the expert alone, points; bold: interval excludes 0"
    axes.set(xlabel=words + count_words(frame, before="\n"), ylabel="expert of, and tested on")
    return figure


def plot_paths(frame: pd.DataFrame) -> Figure:
    """Loss along straight paths between models (share 0 at start, 1 at end), mean over domains, each named at its end; the highest
    barrier of a kind of path in black."""
    require_columns(frame, ["start", "end", "share", "domain", "loss", "barrier"], "paths")
    mean = frame.groupby(["start", "end", "share"], sort=False, as_index=False)[["loss", "barrier"]].mean()
    kind = np.select([mean["start"] == "sft", mean["end"] == "rl-multi"], [KINDS[0], KINDS[2]], KINDS[1])
    kinds = [name for name in KINDS if name in kind]
    figure, [grid] = make_figure(WIDE, 2.6, 1, len(kinds), sharey=True)
    low, high = mean["loss"].min(), mean["loss"].max()
    for axes, name in zip(grid, kinds, strict=True):
        rows = mean[kind == name].sort_values("share")
        lines = {ends: line for ends, line in rows.groupby(["start", "end"], sort=False)}
        top = max(lines, key=lambda ends: lines[ends]["barrier"].iloc[0])
        barrier = round(lines[top]["barrier"].iloc[0], 3)
        ends = sorted(lines, key=lambda ends: lines[ends]["loss"].iloc[-1])
        heights = _spread([lines[pair]["loss"].iloc[-1] for pair in ends], low, high)
        for pair, height in zip(ends, heights, strict=True):
            line, first = lines[pair], pair == top and barrier > 0
            look = {"color": BLACK if first else GREY, "linestyle": "--" if first else "-"}
            axes.plot(line["share"], line["loss"], linewidth=1.5 if first else 0.8, zorder=3 if first else 2, **look)
            axes.plot([1, 1.07], [line["loss"].iloc[-1], height], color=LIGHT, linewidth=0.5)
            axes.text(1.09, height, _path_words(pair, name), va="center", color=look["color"])
        start, end = map(display_name, top)
        words = f"highest barrier {barrier:.3f}\n{start} → {end}" if barrier > 0 else "no barrier\n"
        axes.set_title(f"{name} ({len(lines)}): {words}")
        axes.set_xticks([0, 0.5, 1])
        axes.set_xlim(-0.03, 1.75 if name == KINDS[1] else 1.5)
    figure.supxlabel("share of the way" + size_words(frame, "problems a domain"))
    figure.supylabel("loss, nats a token")
    return figure


def _path_words(ends: tuple[str, str], kind: str) -> str:
    """A path's name where its panel says the other end: 'Math', 'Math–Coding'."""
    start, end = (display_name(model).removeprefix("RL-") for model in ends)
    return {KINDS[0]: end, KINDS[2]: start}.get(kind, f"{start}–{end}")


def _spread(heights: list[float], low: float, high: float) -> list[float]:
    """Rising heights of labels, moved so far that each has a thirteenth of low to high, and none is above `high`."""
    step, out = (high - low) / 13 or 1.0, []
    for height in heights:
        out.append(max(height, out[-1] + step) if out else height)
    for place in range(len(out) - 1, -1, -1):
        out[place] = min(out[place], (out[place + 1] - step) if place + 1 < len(out) else high)
    return out
