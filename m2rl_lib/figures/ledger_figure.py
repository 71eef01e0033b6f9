"""The claim ledger in one picture: each estimate in its own unit, beside the region in which its claim holds."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from m2rl_lib.figures.parts import handle
from m2rl_lib.figures.style import BLACK, BLUE, COLUMN, GREY, ORANGE, make_figure
from m2rl_lib.paper.claim_ledger import CONTRADICTED, NOT_TESTABLE, POINTS, SUPPORTED, UNDECIDED, estimate_words, region_edges
from m2rl_lib.stats.graded_samples import require_columns

LOOKS = {SUPPORTED: ("o", BLUE, True), CONTRADICTED: ("X", ORANGE, True), UNDECIDED: ("o", BLACK, False)}
LOOKS |= {NOT_TESTABLE: ("_", GREY, False)}  # marker, colour, filled
BAND = "#E2E2E2"
# of the axes in a figure of one column, whose right half has the numbers; letters of a line
LEFT, RIGHT, LETTERS = 0.03, 0.42, 52
# inches: a line of text, a bar with its margin, the legend, an axis with its label
LINE, BAR, EDGE, FOOT = 0.115, 0.21, 0.5, 0.42
LIMIT = {True: 15.0, False: 1.5}  # in points or without a unit: beyond, a place is drawn as an arrow


def plot_ledger(frame: pd.DataFrame) -> Figure:
    """The ledger of `claim_ledger.ledger`, a claim (primary ones bold) above its bar; grey: where it holds. Claims in points come
    first, then those without a unit (ratios, correlations, overlaps)."""
    require_columns(frame, ["id", "role", "claim", "verdict", "estimate", "low", "high", "unit", "region"], "ledger")
    frame = frame.assign(words=[textwrap.wrap(f"{row.id}  {row.claim}", LETTERS) for row in frame.itertuples()])
    in_points = frame["unit"] == POINTS
    panels = [(rows, unit) for rows, unit in ((frame[in_points], True), (frame[~in_points], False)) if len(rows)]
    sizes = [float(sum(LINE * len(words) + BAR for words in rows["words"])) for rows, _ in panels]
    tall = EDGE + sum(sizes) + FOOT * len(sizes)
    figure, grid = make_figure(COLUMN, tall, len(panels), 1)
    figure.set_layout_engine("none")  # places are counted here: words stand above and beside the bars
    top = tall - EDGE
    for axes, (rows, unit), size in zip(grid[:, 0], panels, sizes, strict=True):
        axes.set_position([LEFT, (top - size) / tall, RIGHT - LEFT, size / tall])
        _draw(axes, rows, unit, size)
        top -= size + FOOT
    drawn = set(frame["verdict"]) - {NOT_TESTABLE}
    handles = [handle(verdict, *look, line="-", markersize=4.2) for verdict, look in LOOKS.items() if verdict in drawn]
    handles += [Patch(color=BAND, label="the claim holds here"), handle("the paper", "D", GREY, False, markersize=3)]
    figure.legend(handles=handles, loc="upper center", ncols=3, frameon=False, columnspacing=1, handletextpad=0.5)
    return figure


def _draw(axes: Axes, rows: pd.DataFrame, unit: bool, size: float) -> None:
    """The rows of one unit on an axis of `size` inches, whose heights are inches from the top."""
    ends = [rows.get(f"decides_{end}", rows[end]).fillna(rows[end]) for end in ("low", "high")]
    edges = np.array([region_edges(words) for words in rows["region"]])
    published = rows["published_value"] if "published_value" in rows else pd.Series(np.nan, rows.index)
    limit = LIMIT[unit]
    inside = np.concatenate([*ends, rows["estimate"], published, edges[np.isfinite(edges)], [0]]).astype(float)
    least, most = (np.clip(end(inside), -limit, limit) for end in (np.nanmin, np.nanmax))
    spare = 0.08 * (most - least) or 1.0
    least, most, height = least - spare, most + spare, 0.0
    for (_, row), low, high, (above, below), there in zip(rows.iterrows(), *ends, edges, published, strict=True):
        top, height = height, height - LINE * len(row["words"])
        weight = "bold" if row["role"] == "primary" else "normal"
        axes.text(least, top, "\n".join(row["words"]), fontsize=7, weight=weight, va="top", linespacing=1.05)
        bar = height - 0.09
        height -= BAR
        axes.fill_betweenx([bar - 0.055, bar + 0.055], max(above, least), min(below, most), color=BAND, linewidth=0, zorder=0)
        axes.plot([0, 0], [bar - 0.08, bar + 0.08], color=BLACK, linewidth=0.6, zorder=0.5)
        marker, colour, filled = LOOKS[row["verdict"]]
        beside = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 7, "color": colour}
        said = "" if row["verdict"] == NOT_TESTABLE else f" {estimate_words(row).replace(' points', '')}"
        axes.annotate(f"{row['verdict']}{said}", (1.03, bar), **beside)
        if np.isfinite(there):
            axes.plot(np.clip(there, least, most), bar, "D", color=GREY, markerfacecolor="white", markersize=3)
        if row["verdict"] == NOT_TESTABLE:
            continue
        for span, width in (((low, high), 0.7), ((row["low"], row["high"]), 1.8)):
            axes.plot(np.clip(span, least, most), [bar, bar], color=colour, linewidth=width, solid_capstyle="butt")
        place = np.clip(row["estimate"], least, most)
        marker = marker if place == row["estimate"] else ">" if place > 0 else "<"
        axes.plot(place, bar, marker, color=colour, markerfacecolor=colour if filled else "white", markersize=4.2)
    axes.set(xlim=(least, most), ylim=(-size, 0), yticks=[])
    axes.grid(False)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel("points" if unit else "ratio, correlation, overlap or cosine", loc="left")
