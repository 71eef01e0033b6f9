"""How every figure looks: one style, and the parts that several `plot_*` share (points with intervals, names, counts, legends).

Widths are a journal's: 3.4 inches for one column, 7 for grids that need two. Series are told apart by marker, line and
lightness before colour (Okabe–Ito), so that greyscale and colour blindness lose nothing. Fonts are embedded as TrueType.
Grids and heat maps are seaborn's; points with intervals that were computed elsewhere are drawn with matplotlib.
"""

import textwrap

import matplotlib
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from m2rl_lib.stats.comparisons import display_name, model_family

COLUMN, WIDE = 3.4, 7.0  # inches
STYLE = seaborn.axes_style("whitegrid") | {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.labelsize": 7,
    "axes.titlesize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "figure.titlesize": 7,
    "figure.titleweight": "bold",
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.4,
    "hatch.linewidth": 0.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 4,
    "xtick.major.pad": 1,
    "ytick.major.pad": 1,
    "xtick.major.size": 6,
    "ytick.major.size": 6,
    "xtick.major.width": 1.25,
    "ytick.major.width": 1.25,
    "axes.labelpad": 3,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "savefig.dpi": 300,
    "figure.dpi": 150,
}
BLACK, GREY, LIGHT = "#000000", "#777777", "#AAAAAA"
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
COLOURS = [BLACK, ORANGE, BLUE, GREEN, "#CC79A7", GREY]
FAMILIES = {  # marker, colour, filled, name in the legend
    "reference": ("o", GREY, False, "reference model"),
    "expert": ("s", BLUE, True, "expert (one domain)"),
    "mixed": ("D", BLACK, True, "mixed"),
    "merged": ("^", ORANGE, True, "merged"),
    "distilled": ("v", GREEN, False, "distilled"),
}
LINES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2))]


def make_canvas(width: float, height: float) -> Figure:
    """An empty figure in the one style, width and height in inches; not known to pyplot, so a notebook shows it once."""
    matplotlib.rcParams.update(STYLE)
    return Figure(figsize=(width, height), layout="constrained")


def is_sampled(frame: pd.DataFrame) -> bool:
    """Whether the frame has intervals: columns low and high."""
    return {"low", "high"} <= set(frame.columns)


def count_words(frame: pd.DataFrame, noun: str = "problems") -> str:
    """' (95% interval, n = 200 problems, 1 seed)', or what of it the frame's columns low, high, n and seeds can say."""
    words = ["95% interval"] if is_sampled(frame) and frame["low"].notna().any() else []
    if "n" in frame and frame["n"].notna().any():
        n = sorted(set(frame["n"].dropna().astype(int)))
        words.append(f"n = {n[0]}" + (f"–{n[-1]}" if len(n) > 1 else "") + f" {noun}")
    if "seeds" in frame and frame["seeds"].notna().any():
        seeds = sorted(set(frame["seeds"].dropna().astype(int)))
        words.append(f"{seeds[0]}" + (f"–{seeds[-1]}" if len(seeds) > 1 else "") + (" seed" if seeds == [1] else " seeds"))
    return f" ({', '.join(words)})" if words else ""


def size_words(frame: pd.DataFrame, noun: str = "problems") -> str:
    """' (n = 200 problems)': the counts of a frame whose intervals are not drawn."""
    return count_words(frame.drop(columns=["low", "high"], errors="ignore"), noun)


def name_rows(models) -> tuple[list[str], float]:
    """Names for an axis, long ones on two lines, and the inches a row needs for them."""
    names = [textwrap.fill(display_name(model), 24) for model in models]
    return names, 0.145 + 0.075 * max(name.count("\n") for name in names)


def embolden(words: str) -> str:
    """The words in bold, within a text that is not."""
    return "\n".join(" ".join(rf"$\bf{{{word}}}$" for word in line.split()) for line in words.splitlines())


def draw_cells(
    axes: Axes, cells: np.ndarray, words: np.ndarray | None, colours: str, norm: Normalize, size: float, bold=None
) -> QuadMesh:
    """A heat map of a table of numbers, first row on top; rows and columns are left for the caller to name.

    `words`, an array of texts as large as the table, stand in the cells in `size` points, bold where `bold` is true. A cell
    without a number is white.
    """
    seaborn.heatmap(
        cells, ax=axes, cmap=colours, norm=norm, annot=words, fmt="", annot_kws={"fontsize": size},
        linewidths=0.7, linecolor="white", cbar=False, xticklabels=False, yticklabels=False,
    )  # fmt: skip
    if words is not None and bold is not None:
        for text, sure in zip(axes.texts, bold[np.isfinite(cells)], strict=True):
            text.set_weight("bold" if sure else "normal")
    for row, column in np.argwhere(np.isnan(cells)) if words is not None else ():
        axes.text(column + 0.5, row + 0.5, words[row, column], ha="center", va="center", fontsize=size)
    axes.set(xlabel="", ylabel="")
    axes.grid(False)
    return axes.collections[0]


def name_cells(axes: Axes, rows: list[str], columns: list[str], **options) -> None:
    """Names at the middle of a heat map's rows and columns; `options` are those of the columns' tick labels."""
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, **options)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows, rotation=0)
    axes.tick_params(length=0)


def draw_points(axes: Axes, rows: pd.DataFrame, heights: np.ndarray) -> None:
    """Scores as markers at the given heights, intervals as lines, a family each its marker; a refused score as a note."""
    for (_, row), height in zip(rows.iterrows(), heights, strict=True):
        marker, colour, filled, _ = FAMILIES[model_family(row["model"])]
        if np.isnan(row["score"]):
            axes.annotate(
                "refused", (0.5, height), xycoords=("axes fraction", "data"), ha="center", va="center", fontsize=6, color=GREY
            )
            continue
        if is_sampled(rows) and np.isfinite([row["low"], row["high"]]).all():
            axes.plot([row["low"], row["high"]], [height, height], color=colour, linewidth=1)
        axes.plot(row["score"], height, marker, color=colour, markerfacecolor=colour if filled else "white", markersize=3.6)


def draw_reference(axes: Axes, rows: pd.DataFrame) -> bool:
    """A dashed line at SFT's score, if the frame has it."""
    sft = rows.loc[rows["model"] == "sft", "score"].dropna()
    for score in sft:
        axes.axvline(score, color=GREY, linestyle="--", linewidth=0.8, zorder=1)
    return len(sft) > 0


def family_handles(models, with_line: bool) -> list[Line2D]:
    """The legend's entries for the families of these models, and for SFT's line."""
    present = {model_family(model) for model in models}
    handles = [
        Line2D([], [], marker=marker, color=colour, markerfacecolor=colour if filled else "white", linestyle="", label=name)
        for family, (marker, colour, filled, name) in FAMILIES.items()
        if family in present
    ]
    return handles + ([Line2D([], [], color=GREY, linestyle="--", linewidth=0.8, label="score of SFT")] if with_line else [])
