"""What several figures draw: points with intervals, heat maps, panels, names, counts, legends."""

import textwrap

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from m2rl_lib.figures.style import FAMILIES, GREY
from m2rl_lib.stats.comparisons import display_name, model_family

# --- words ------------------------------------------------------------------------------------------------


def unique(frame: pd.DataFrame, column: str) -> list:
    """The values of a column in the order of the frame."""
    return list(pd.unique(frame[column]))


def is_sampled(frame: pd.DataFrame) -> bool:
    """Whether the frame has intervals: columns low and high."""
    return {"low", "high"} <= set(frame.columns)


def span(numbers: pd.Series, dash: str = "–") -> str:
    """'200' or '200–400': the least and the most of whole numbers."""
    found = sorted(set(numbers.dropna().astype(int)))
    return f"{found[0]}" + (f"{dash}{found[-1]}" if len(found) > 1 else "")


def count_words(frame: pd.DataFrame, noun: str = "problems") -> str:
    """' (95% interval, n = 200 problems, 1 seed)', or what of it the frame's columns low, high, n and seeds can say."""
    words = ["95% interval"] if is_sampled(frame) and frame["low"].notna().any() else []
    if "n" in frame and frame["n"].notna().any():
        words.append(f"n = {span(frame['n'])} {noun}")
    if "seeds" in frame and frame["seeds"].notna().any():
        seeds = span(frame["seeds"])
        words.append(seeds + (" seed" if seeds == "1" else " seeds"))
    return f" ({', '.join(words)})" if words else ""


def counts_below(frame: pd.DataFrame, noun: str = "problems") -> str:
    """`count_words` on a line of their own."""
    return count_words(frame, noun).replace(" (", "\n(")


def size_words(frame: pd.DataFrame, noun: str = "problems") -> str:
    """' (n = 200 problems)': the counts of a frame whose intervals are not drawn."""
    return count_words(frame.drop(columns=["low", "high"], errors="ignore"), noun)


def change_words(row, sampled: bool = True) -> str:
    """A change (the row's `estimate`) and, where there was sampling, its interval below it."""
    words = f"{row.estimate:+.1f}"
    if sampled:
        words += f"\n[{row.low:z.1f}, {row.high:z.1f}]" if np.isfinite(row.low) else "\n[unknown]"
    return words.replace("-", "−")


def name_rows(models) -> tuple[list[str], float]:
    """Names for an axis, long ones on two lines, and the inches a row needs for them."""
    names = [textwrap.fill(display_name(model), 24) for model in models]
    return names, 0.145 + 0.075 * max(name.count("\n") for name in names)


def embolden(words: str) -> str:
    """The words in bold, within a text that is not."""
    return "\n".join(" ".join(rf"$\bf{{{word}}}$" for word in line.split()) for line in words.splitlines())


# --- axes -------------------------------------------------------------------------------------------------


def panels(figure: Figure, count: int, across: int, **shared) -> list[Axes]:
    """`count` panels, `across` in a row; of the last row, places that are left over are blank and those above them are labelled."""
    across = min(across, count)
    grid = figure.subplots(-(-count // across), across, squeeze=False, **shared)
    for place in range(count, grid.size):
        grid.flat[place].set_axis_off()
        grid.flat[place - across].tick_params(labelbottom=True)
    return list(grid.flat[:count])


def name_heights(axes: Axes, heights, names: list[str], low: float, high: float) -> None:
    """Names of rows at their heights, on an axis from `low` to `high`."""
    axes.set_yticks(heights, names)
    axes.set_ylim(low, high)
    axes.grid(axis="y", linewidth=0.25)


def name_cells(axes: Axes, rows: list[str], columns: list[str], **options) -> None:
    """Names at the middle of a heat map's rows and columns; `options` are those of the columns' tick labels."""
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, **options)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows, rotation=0)
    axes.tick_params(length=0)


# --- marks ------------------------------------------------------------------------------------------------


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


def draw_estimate(
    axes: Axes, row, value: float, height: float, marker: str, colour: str, filled: bool, size: float = 3.6, width: float = 1
) -> None:
    """A marker at `value` and, where the row has finite `low` and `high`, its interval as a line."""
    ends = [getattr(row, "low", np.nan), getattr(row, "high", np.nan)]
    if np.isfinite(ends).all():
        axes.plot(ends, [height, height], color=colour, linewidth=width)
    axes.plot(value, height, marker, color=colour, markerfacecolor=colour if filled else "white", markersize=size)


def draw_points(axes: Axes, rows: pd.DataFrame, heights: np.ndarray) -> None:
    """Scores at the given heights with their intervals, the marker that of the model's family; a refused score as a note."""
    for row, height in zip(rows.itertuples(), heights, strict=True):
        marker, colour, filled, _ = FAMILIES[model_family(row.model)]
        if np.isnan(row.score):
            middle = {"xy": (0.5, height), "xycoords": ("axes fraction", "data"), "ha": "center", "va": "center"}
            axes.annotate("refused", **middle, fontsize=6, color=GREY)
        else:
            draw_estimate(axes, row, row.score, height, marker, colour, filled)


def draw_reference(axes: Axes, rows: pd.DataFrame) -> bool:
    """A dashed line at SFT's score, if the frame has it."""
    sft = rows.loc[rows["model"] == "sft", "score"].dropna()
    for score in sft:
        axes.axvline(score, color=GREY, linestyle="--", linewidth=0.8, zorder=1)
    return len(sft) > 0


# --- legends ----------------------------------------------------------------------------------------------


def handle(label: str, colour: str, marker: str = "", filled: bool = True, line: str = "", **more) -> Line2D:
    """An entry of a legend."""
    face = colour if filled else "white"
    return Line2D([], [], marker=marker, color=colour, markerfacecolor=face, linestyle=line, label=label, **more)


def family_handles(models, with_line: bool) -> list[Line2D]:
    """The legend's entries for the families of these models, and for SFT's line."""
    present = {model_family(model) for model in models}
    handles = [handle(name, colour, marker, filled) for key, (marker, colour, filled, name) in FAMILIES.items() if key in present]
    return handles + ([handle("score of SFT", GREY, line="--", linewidth=0.8)] if with_line else [])


def legend_above(figure: Figure, handles: list, ncols: int, **more) -> None:
    """The legend of a figure, above all panels."""
    figure.legend(handles=handles, loc="outside upper center", ncols=ncols, frameon=False, **more)
