"""RQ4's figures of sweeps, in the one style of `figures`: grids of λ and density, merges of fewer experts, paths.

Nothing is told by colour alone: heat maps print their numbers, the line that matters is black and dashed.
"""

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from m2rl_lib.statistics import OVERALL, require_columns
from m2rl_lib.style import BLACK, LIGHT, WIDE, count_words, ink_on, make_canvas, size_words
from m2rl_lib.verdicts import display_domain, display_name

KINDS = ["SFT to expert", "expert to expert", "expert to mixed"]


def plot_sweeps(frame: pd.DataFrame) -> Figure:
    """A heat map a method: mean over domains at each λ and density, one scale for all; a frame around a method's best.

    Columns: method, lambda, density (NaN where the method has none), score (points), best.
    """
    require_columns(frame, ["method", "lambda", "density", "score", "best"], "a sweep")
    methods, across = list(pd.unique(frame["method"])), 3
    parts = [frame[frame["method"] == method] for method in methods]
    heights = [max(part["density"].nunique(), 1) for part in parts]
    rows = [heights[first : first + across] for first in range(0, len(heights), across)]
    figure = make_canvas(WIDE, sum(0.24 * max(row) + 0.62 for row in rows) + 0.35)
    grid = figure.subplots(len(rows), across, squeeze=False, height_ratios=[max(row) + 1.5 for row in rows])
    shades, norm = colormaps["cividis"], Normalize(frame["score"].min(), frame["score"].max())
    for axes, method, part in zip(grid.flat, methods, parts, strict=False):
        scales, densities = sorted(part["lambda"].unique()), sorted(part["density"].dropna().unique()) or [np.nan]
        for cell in part.to_dict("records"):
            x = scales.index(cell["lambda"])
            y = 0 if np.isnan(cell["density"]) else densities.index(cell["density"])
            colour = shades(norm(cell["score"]))
            axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white"))
            axes.text(x + 0.5, y + 0.5, f"{cell['score']:.0f}", ha="center", va="center", fontsize=6, color=ink_on(colour))
            if cell["best"]:
                axes.add_patch(Rectangle((x + 0.04, y + 0.06), 0.92, 0.88, fill=False, edgecolor=ink_on(colour), linewidth=1.3))
        axes.set(xlim=(0, len(scales)), ylim=(0, len(densities)))
        axes.set_xticks(np.arange(len(scales)) + 0.5, [f"{scale:g}" for scale in scales])
        axes.set_yticks(np.arange(len(densities)) + 0.5, ["" if np.isnan(d) else f"{d:g}" for d in densities])
        axes.set_title(display_name(method).replace(" merge", ""))
        axes.grid(False)
    for axes in grid.flat[len(methods) :]:
        axes.set_axis_off()
    figure.supxlabel(
        "λ; the number is the mean over domains, points" + size_words(frame),
        fontsize=7,
    )
    figure.supylabel("density", fontsize=7)
    return figure


def _changes(axes: Axes, frame: pd.DataFrame, row: str, column: str, rows: list[str], columns: list[str], size: float) -> None:
    """A table of changes with their intervals as a heat map; bold where the interval excludes 0."""
    shades, norm = colormaps["PuOr_r"], TwoSlopeNorm(0, -size, size)
    for cell in frame.to_dict("records"):
        if cell[row] not in rows or cell[column] not in columns:
            continue
        x, y, colour = columns.index(cell[column]), rows.index(cell[row]), shades(norm(cell["estimate"]))
        sure = cell["low"] > 0 or cell["high"] < 0
        words = f"{cell['estimate']:+.1f}\n[{cell['low']:z.1f}, {cell['high']:z.1f}]".replace("-", "−")
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white"))
        axes.text(x + 0.5, y + 0.5, words, ha="center", va="center", fontsize=6, color=ink_on(colour),
                  weight="bold" if sure else "normal")  # fmt: skip
    labels = {"sft": "SFT", "null": "RL-Null", OVERALL: "Mean"}
    axes.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
    axes.set_xticks(np.arange(len(columns)) + 0.5, [(labels.get(c) or display_domain(c)).replace(" ", "\n") for c in columns])
    axes.set_yticks(np.arange(len(rows)) + 0.5, [labels.get(r) or display_domain(r) for r in rows])
    axes.grid(False)


def plot_leave_one_out(frame: pd.DataFrame) -> Figure:
    """What a merge loses or gains without one expert, a panel a method: rows are left out, columns are tested on.

    Columns: method, left_out, over ('overall' or a domain), estimate, low, high (points, without − with), n.
    """
    require_columns(frame, ["method", "left_out", "over", "estimate", "low", "high"], "merges without one expert")
    methods, size = list(pd.unique(frame["method"])), max(float(frame["estimate"].abs().max()), 1e-9)
    left, over = list(pd.unique(frame["left_out"])), list(pd.unique(frame["over"]))
    figure = make_canvas(WIDE, (0.32 * len(left) + 0.3) * len(methods) + 0.6)
    for axes, method in zip(figure.subplots(len(methods), 1, squeeze=False, sharex=True)[:, 0], methods, strict=True):
        _changes(axes, frame[frame["method"] == method], "left_out", "over", left, over, size)
        axes.set_title(display_name(method))
    figure.supxlabel("tested on; change in points" + count_words(frame) + "; bold: interval excludes 0", fontsize=7)
    figure.supylabel("expert left out", fontsize=7)
    return figure


def plot_pairs(frame: pd.DataFrame) -> Figure:
    """A domain's score when its expert is averaged with another model, against the expert alone.

    Columns: target, added (a domain, 'sft' or 'null'), estimate, low, high (points), n.
    """
    require_columns(frame, ["target", "added", "estimate", "low", "high"], "merges of pairs")
    targets, added = list(pd.unique(frame["target"])), list(pd.unique(frame["added"]))
    columns = [*(name for name in targets if name in added), *(name for name in added if name not in targets)]
    figure = make_canvas(WIDE, 0.32 * len(targets) + 0.9)
    axes = figure.subplots()
    _changes(axes, frame, "target", "added", targets, columns, max(float(frame["estimate"].abs().max()), 1e-9))
    axes.set_xlabel(
        "averaged with; change against the expert alone, points; bold: interval excludes 0"
        + count_words(frame).replace(" (", "\n(")
    )
    axes.set_ylabel("expert of, and tested on")
    return figure


def plot_paths(frame: pd.DataFrame) -> Figure:
    """Loss along straight paths between models, mean over domains, a panel a kind of path; the highest barrier in black.

    Columns: start, end, share (0 at start, 1 at end), domain, loss, barrier (of the path, the same in all its rows), n if known.
    """
    require_columns(frame, ["start", "end", "share", "domain", "loss", "barrier"], "paths")
    mean = frame.groupby(["start", "end", "share"], sort=False, as_index=False)[["loss", "barrier"]].mean()
    mean["path"] = mean["start"] + " " + mean["end"]
    kind = np.select([mean["start"] == "sft", mean["end"] == "rl-multi"], [KINDS[0], KINDS[2]], KINDS[1])
    kinds = [name for name in KINDS if name in kind]
    figure = make_canvas(WIDE, 2.3)
    for axes, name in zip(figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0], kinds, strict=True):
        rows = mean[kind == name]
        top = rows.loc[rows["barrier"].idxmax()]
        for path, line in rows.groupby("path", sort=False):
            line, first = line.sort_values("share"), path == top["path"] and top["barrier"] > 0
            axes.plot(line["share"], line["loss"], color=BLACK if first else LIGHT, linewidth=1.5 if first else 0.8,
                      linestyle="--" if first else "-", zorder=3 if first else 2)  # fmt: skip
        ends = f"{display_name(top['start'])} → {display_name(top['end'])}"
        said = f"highest barrier {top['barrier']:.3f}\n{ends}" if top["barrier"] > 0 else "no barrier\n"
        axes.set_title(f"{name} ({rows['path'].nunique()}): {said}")
        axes.xaxis.set_major_locator(MaxNLocator(5))
    figure.supxlabel("share of the way" + size_words(frame, "problems a domain"), fontsize=7)
    figure.supylabel("loss, nats a token", fontsize=7)
    return figure
