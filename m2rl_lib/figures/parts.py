"""What several figures draw: points with intervals, heat maps, names, counts, legends."""

import textwrap

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from m2rl_lib.figures.style import BLACK, COLUMN, FAMILIES, GREY, LINES, make_figure
from m2rl_lib.stats.comparisons import SHORT, display_domain, display_name, model_family
from m2rl_lib.stats.graded_samples import UNTRAINED

ORDER = ("math", "coding", "science", "instruction_following", "agent")  # of domains in every figure; then others, UNTRAINED last


def unique(frame: pd.DataFrame, column: str) -> list:
    """The values of a column in the order of the frame."""
    return list(pd.unique(frame[column]))


def domains_of(frame: pd.DataFrame) -> list[str]:
    """The domains of a frame in the order of all figures, `ORDER`; others as they come, those that RL never trains last."""
    places = {name: place for place, name in enumerate(ORDER)} | dict.fromkeys(UNTRAINED, len(ORDER) + 1)
    return sorted(unique(frame, "domain"), key=lambda name: places.get(name, len(ORDER)))


def short_domain(domain: str) -> str:
    """'instruction_following' → 'IF', where a figure has no room."""
    return SHORT.get(domain) or display_domain(domain)


def is_sampled(frame: pd.DataFrame) -> bool:
    """Whether the frame has intervals: columns low and high."""
    return {"low", "high"} <= set(frame.columns)


def span(numbers: pd.Series, dash: str = "–") -> str:
    """'200' or '200–400': the least and the most of whole numbers."""
    found = sorted(set(numbers.dropna().astype(int)))
    return f"{found[0]}" + (f"{dash}{found[-1]}" if len(found) > 1 else "")


def count_words(frame: pd.DataFrame, noun: str = "problems", before: str = " ") -> str:
    """' (95% interval, n = 200 problems, 1 seed)', or what of it the frame's columns can say."""
    words = ["95% interval"] if is_sampled(frame) and frame["low"].notna().any() else []
    if "n" in frame and frame["n"].notna().any():
        words.append(f"n = {span(frame['n'])} {noun}")
    if "seeds" in frame and frame["seeds"].notna().any():
        seeds = span(frame["seeds"])
        words.append(seeds + (" seed" if seeds == "1" else " seeds"))
    return f"{before}({', '.join(words)})" if words else ""


def size_words(frame: pd.DataFrame, noun: str = "problems") -> str:
    """' (n = 200 problems)': the counts of a frame whose intervals are not drawn."""
    return count_words(frame.drop(columns=["low", "high"], errors="ignore"), noun)


def change_words(row) -> str:
    """The row's `estimate` as a change, its interval below it."""
    span = f"[{row.low:z.1f}, {row.high:z.1f}]" if np.isfinite(row.low) else "[unknown]"
    return f"{row.estimate:+.1f}\n{span}".replace("-", "−")


def name_rows(models) -> tuple[list[str], float]:
    """Names for an axis, long ones on two lines, and the inches a row needs for them."""
    names = [textwrap.fill(display_name(model), 24) for model in models]
    return names, 0.145 + 0.075 * max(name.count("\n") for name in names)


def name_heights(axes: Axes, heights, names: list[str], low: float, high: float) -> None:
    """Names of rows at their heights, on an axis from `low` to `high`."""
    axes.set_yticks(heights, names)
    axes.set_ylim(low, high)
    axes.grid(axis="y", linewidth=0.25)


def pivot(frame: pd.DataFrame, row: str, column: str, rows: list, columns: list, *values: str) -> list[pd.DataFrame]:
    """Each of the columns `values` as a table of these rows and columns; empty where the frame has no such row."""
    table = frame.pivot(index=row, columns=column)
    return [table[value].reindex(index=rows, columns=columns) for value in values]


def draw_cells(
    axes: Axes, cells: pd.DataFrame, words, colours: str, norm: Normalize, size: float, bold=None, **options
) -> QuadMesh:
    """A heat map under the table's own labels; `words`, a table of texts or None, stand in the cells; white: no number."""
    numbers = cells.to_numpy(dtype=float)
    texts = None if words is None else pd.DataFrame(words).astype(object).fillna("").to_numpy()
    seaborn.heatmap(
        numbers, ax=axes, cmap=colours, norm=norm, annot=texts, fmt="", annot_kws={"fontsize": size},
        linewidths=0.7, linecolor="white", cbar=False, xticklabels=False, yticklabels=False,
    )  # fmt: skip
    if bold is not None:
        for text, sure in zip(axes.texts, pd.DataFrame(bold).eq(True).to_numpy()[np.isfinite(numbers)], strict=True):
            text.set_weight("bold" if sure else "normal")
    for row, column in np.argwhere(np.isnan(numbers)) if words is not None else ():
        axes.text(column + 0.5, row + 0.5, texts[row, column], ha="center", va="center", fontsize=size)
    axes.set(xlabel="", ylabel="")
    axes.grid(False)
    axes.set_xticks(np.arange(cells.shape[1]) + 0.5, list(cells.columns), **options)
    axes.set_yticks(np.arange(len(cells)) + 0.5, list(cells.index), rotation=0)
    axes.tick_params(length=0)
    return axes.collections[0]


def draw_estimate(
    axes: Axes, row, value: float, height: float, marker: str, colour: str, filled: bool, size: float = 3.6, width: float = 1
) -> None:
    """A marker at `value` and, where the row has finite `low` and `high`, its interval as a line."""
    ends = [getattr(row, "low", np.nan), getattr(row, "high", np.nan)]
    if np.isfinite(ends).all():
        axes.plot(ends, [height, height], color=colour, linewidth=width)
    axes.plot(value, height, marker, color=colour, markerfacecolor=colour if filled else "white", markersize=size)


def draw_note(axes: Axes, words: str, height: float) -> None:
    """Words in the middle of a row that has no number."""
    axes.annotate(words, (0.5, height), xycoords=("axes fraction", "data"), ha="center", va="center", color=GREY)


def draw_points(axes: Axes, rows: pd.DataFrame, heights) -> None:
    """Scores at the given heights with their intervals, the marker that of the model's family; a refused score as a note."""
    for row, height in zip(rows.itertuples(), heights, strict=True):
        if np.isnan(row.score):
            draw_note(axes, "refused", height)
        else:
            draw_estimate(axes, row, row.score, height, *FAMILIES[model_family(row.model)][:3])


def draw_reference(axes: Axes, rows: pd.DataFrame) -> bool:
    """A dashed line at SFT's score, if the frame has it."""
    sft = rows.loc[rows["model"] == "sft", "score"].dropna()
    for score in sft:
        axes.axvline(score, color=GREY, linestyle="--", linewidth=0.8, zorder=1)
    return len(sft) > 0


def make_forest(rows: pd.DataFrame, words: str, edges: dict[float, str] | None = None, marks=()) -> Figure:
    """Models by score, best on top, a line at each of `edges` (place: style) or SFT's score; `marks`: more columns, markers."""
    rows = rows.sort_values("score", kind="stable", na_position="first")
    names, inches = name_rows(rows["model"])
    figure, axes = make_figure(COLUMN, inches * len(rows) + 1.1)
    line = draw_reference(axes, rows) if edges is None else False
    for edge, style in (edges or {}).items():
        axes.axvline(edge, color=GREY, linestyle=style, linewidth=0.8, zorder=1)
    for column, marker in marks:
        axes.plot(rows[column], range(len(rows)), marker, color=BLACK, markersize=5, markeredgewidth=0.8)
    draw_points(axes, rows, range(len(rows)))
    name_heights(axes, range(len(rows)), names, -0.7, len(rows) - 0.3)
    handles = family_handles(rows["model"], line) + [handle(column, marker, BLACK) for column, marker in marks]
    return finish(figure, handles, 2, words + count_words(rows, before="\n"))


def handle(label: str, marker: str, colour: str, filled: bool = True, line: str = "", **more) -> Line2D:
    """An entry of a legend."""
    face = colour if filled else "white"
    return Line2D([], [], marker=marker, color=colour, markerfacecolor=face, linestyle=line, label=label, **more)


def family_handles(models, with_line: bool) -> list[Line2D]:
    """The legend's entries for the families of these models, and for SFT's line."""
    present = {model_family(model) for model in models}
    handles = [handle(name, *look) for family, (*look, name) in FAMILIES.items() if family in present]
    return handles + ([handle("score of SFT", "", GREY, line="--", linewidth=0.8)] if with_line else [])


def line_looks(models: list[str]) -> dict[str, dict]:
    """A line's look for each model: colour and marker of its family; a further model of the same family has another line."""
    families, looks = [model_family(model) for model in models], {}
    for place, (model, family) in enumerate(zip(models, families)):
        marker, colour, filled, _ = FAMILIES[family]
        line = LINES[families[:place].count(family) % len(LINES)]
        looks[model] = {"marker": marker, "color": colour, "markerfacecolor": colour if filled else "white", "linestyle": line}
    return looks


def finish(figure: Figure, handles: list, ncols: int, x: str = "", y: str = "", **more) -> Figure:
    """The figure with its labels and, above all panels, its legend."""
    if x:  # an empty label would take room
        figure.supxlabel(x)
    if y:
        figure.supylabel(y)
    figure.legend(handles=handles, loc="outside upper center", ncols=ncols, frameon=False, **more)
    return figure
