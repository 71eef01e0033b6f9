"""Figures of RQ3's weights: sweeps of masks, heat maps of pairs, heat maps by type and depth."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from m2rl_lib.figures.parts import draw_cells, pivot, unique
from m2rl_lib.figures.style import BLACK, BLUE, COLUMN, GREY, LINES, WIDE, make_figure
from m2rl_lib.stats.comparisons import display_name
from m2rl_lib.stats.graded_samples import require_columns

PANELS = {"changed": ("η", "share of weights changed"), "relative": ("η", "overlap (Jaccard)")}
PANELS |= {"density": ("share of weights in the mask", "overlap (Jaccard)")}
WORDS = {"jaccard": "measured", "chance": "independent masks", "matched": "matched random masks"}
WORDS |= {"cosine": "exact", "projected": "projected to 256 dimensions"}
EXPERTS, NULL, OTHER = ("s", BLUE, True, "-"), ("o", GREY, False, "--"), ("X", GREY, False, ":")  # marker, colour, filled, line
LOOKS = {"experts": EXPERTS, "pairs of experts": EXPERTS, "RL-Null": NULL, "an expert and RL-Null": NULL}
LOOKS |= {"SFT rounded to bfloat16": OTHER, "matched random masks": OTHER, "RL-Multi": ("D", BLACK, True, "-.")}
LOOKS |= {"one domain, two seeds": ("s", BLUE, False, LINES[4])}
MOST_NUMBERS, MOST_NARROW = 16, 8  # columns with a number in each cell; models that fit into one column of a page


def plot_sweep(frame: pd.DataFrame) -> Figure:
    """Shares and overlaps over the levels of a mask, one panel per entry of PANELS; low to high is shaded where known."""
    require_columns(frame, ["panel", "series", "level", "value", "low", "high"], "sweep of masks")
    figure, [grid] = make_figure(WIDE, 2.7, 1, len(PANELS))
    for axes, (panel, (level, value)) in zip(grid, PANELS.items(), strict=True):
        for name, line in frame[frame["panel"] == panel].groupby("series", sort=False):
            line, (marker, colour, filled, style) = line.sort_values("level"), LOOKS[name]
            look = {"color": colour, "linestyle": style, "marker": marker, "markerfacecolor": colour if filled else "white"}
            axes.plot(line["level"], line["value"], label=name, **look)
            axes.fill_between(line["level"], line["low"], line["high"], color=colour, alpha=0.15, linewidth=0)
        scale = {"xlim": (0, None)} if panel == "density" else {"xscale": "log"}
        axes.set(xlabel=level, ylabel=value, ylim=(0, None), **scale)
        if panel == "density":
            axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, handlelength=2.6)
    figure.supxlabel("shaded: from the least to the most")
    return figure


def plot_pairs(frame: pd.DataFrame, label: str, below: str, above: str) -> Figure:
    """One number for each pair of models: the column `below` (of WORDS) below the diagonal, `above` above it; missing: a dash."""
    require_columns(frame, ["model", "other", below, above], "pairs of models")
    models = pd.unique(pd.concat([frame["model"], frame["other"]]))
    names = [display_name(model) for model in models]
    rows, columns = (pd.Index(models).get_indexer(frame[column]) for column in ("model", "other"))
    cells = np.full((len(models), len(models)), np.nan)
    cells[np.maximum(rows, columns), np.minimum(rows, columns)] = frame[below]
    cells[np.minimum(rows, columns), np.maximum(rows, columns)] = frame[above]
    narrow = len(models) <= MOST_NARROW
    names = [textwrap.fill(name, 10) if narrow else name for name in names]
    size = (COLUMN, 0.3 * len(models) + 0.95) if narrow else (WIDE, 0.235 * len(models) + 1.7)
    figure, axes = make_figure(*size)
    picture = _heat_map(axes, pd.DataFrame(cells, names, names), blank=np.eye(len(models), dtype=bool), rotation=90)
    axes.set_xlabel(f"below the diagonal: {WORDS[below]};\nabove it: {WORDS[above]}")
    if narrow:  # every cell has its number
        axes.set_title(label)
    else:
        figure.colorbar(picture, ax=axes, label=label, fraction=0.03, pad=0.01)
    return figure


def plot_parts(frame: pd.DataFrame, label: str) -> Figure:
    """One number for each `row`, by type of tensor ('all': the whole model) and by depth (`layer`; missing: all)."""
    require_columns(frame, ["row", "type", "layer", "value"], "values by type and layer")
    names = unique(frame, "row")
    whole = frame[frame["layer"].isna()].assign(part=frame["type"].replace("all", "whole"))
    deep = frame[frame["layer"].notna() & (frame["type"] == "all")]
    deep = deep.assign(part=deep["layer"].astype(int).astype(str))
    parts = [unique(rows, "part") for rows in (whole, deep)]
    widths = [len(part) + 0.01 for part in parts]
    figure, [panels] = make_figure(WIDE, 0.2 * len(names) + 1.2, 1, 2, sharey=True, width_ratios=widths)
    largest, numbered = float(frame["value"].abs().max()), max(map(len, parts)) <= MOST_NUMBERS
    signed = bool((frame["value"] < 0).any())
    for axes, rows, part, words, turn in zip(panels, (whole, deep), parts, ("type of tensor", "layer"), (90, 0), strict=True):
        (cells,) = pivot(rows, "row", "part", names, part, "value")
        every = -(-len(part) // MOST_NUMBERS)
        cells.columns = [name if i % every == 0 else "" for i, name in enumerate(part)]
        picture = _heat_map(axes, cells, largest, signed, numbered=numbered, rotation=turn)
        axes.set_xlabel(words)
    figure.colorbar(picture, ax=panels, label=label, fraction=0.03, pad=0.01)
    return figure


def _heat_map(axes, cells: pd.DataFrame, largest=0.0, signed: bool | None = None, blank=False, numbered: bool = True, **options):
    """Draw the cells, with numbers where they can be read; signed values around 0; a missing one is a dash, but `blank`."""
    numbers = cells.to_numpy(dtype=float)
    largest = largest or max(float(np.nanmax(np.abs(numbers), initial=0)), 1e-9)
    signed = bool(np.nanmin(numbers, initial=0) < 0) if signed is None else signed
    norm = TwoSlopeNorm(0, -largest, largest) if signed else Normalize(0, largest)
    numbered = numbered and cells.shape[1] <= MOST_NUMBERS
    words = cells.map(lambda value: "–" if np.isnan(value) else f"{value:z.2f}".replace("-", "−"))
    words = words.mask(np.broadcast_to(blank, cells.shape), "")
    colours = "Blues" if not signed else "PuOr_r" if numbered else "cividis"
    return draw_cells(axes, cells, words if numbered else None, colours, norm, 7, **options)
