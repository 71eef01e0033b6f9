"""Figures of RQ6: the map of mixing against merging, and its points against what could predict them."""

import numpy as np
import pandas as pd
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from m2rl_lib.figures.parts import change_words, count_words, draw_cells, finish, handle, pivot, unique
from m2rl_lib.figures.style import BLACK, COLOURS, COLUMN, GREY, WIDE, make_figure
from m2rl_lib.stats.graded_samples import require_columns

MARKERS = "osD^vP*X"
AXES = {
    "cosine": "cosine of two experts' task vectors",
    "overlap": "Jaccard index of two experts' masks",
    "transfer": "gain of an expert in another domain, points",
    "ratio": "KL to another expert / KL to SFT",
    "conflict": "planted share of words in conflict",
}


def world_words(world: str) -> str:
    """'s2p0c4' → '2 shared, 0 private, 4 conflicting'."""
    counts = dict(zip("spc", world[1:].replace("p", " ").replace("c", " ").split(), strict=True))
    return ",\n".join(f"{counts[kind[0]]} {kind}" for kind in ("shared", "private", "conflicting"))


def plot_map(frame: pd.DataFrame) -> Figure:
    """Mixing − merging in each world (row) at each budget (column), with its verdict, coloured where that is decided; hatched where the
    experts did not learn; a thick line where the sign changes between two points whose experts did."""
    require_columns(frame, ["world", "budget", "conflict", "estimate", "low", "high", "verdict", "learned"], "map")
    frame = frame.sort_values(["conflict", "budget"], kind="stable")
    worlds, budgets = unique(frame, "world"), sorted(set(frame["budget"]))
    ahead = {"better": "mixing ahead", "worse": "merging ahead"}
    frame = frame.assign(words=[f"{change_words(row)}\n{ahead.get(row.verdict, row.verdict)}" for row in frame.itertuples()])
    cells, words, learned = pivot(frame, "world", "budget", worlds, budgets, "estimate", "words", "learned")
    figure, axes = make_figure(COLUMN if len(budgets) <= 2 else WIDE, 0.5 * len(worlds) + 0.9)
    norm = CenteredNorm(halfrange=max(1.0, float(np.nanmax(np.abs(cells)))))
    decided = pivot(frame.assign(decided=frame["verdict"].isin(ahead)), "world", "budget", worlds, budgets, "decided")[0]
    shown = (
        cells.where(decided.eq(True), 0 * cells)
        .set_axis(map(world_words, worlds))
        .set_axis([f"{100 * budget:g}%" for budget in budgets], axis=1)
    )
    picture = draw_cells(axes, shown, words, "PuOr", norm, 7)
    known, sign = learned.eq(True).to_numpy(), np.sign(cells.to_numpy(float))
    for row, column in np.argwhere(~known):
        axes.add_patch(Rectangle((column, row), 1, 1, fill=False, hatch="///", edgecolor=GREY, linewidth=0))
    for row, column in np.argwhere(known):
        for down, right, line in ((0, 1, ([column + 1] * 2, [row, row + 1])), (1, 0, ([column, column + 1], [row + 1] * 2))):
            other = row + down, column + right
            if other[0] < len(worlds) and other[1] < len(budgets) and known[other] and sign[other] != sign[row, column]:
                axes.plot(*line, color=BLACK, linewidth=2.5, solid_capstyle="butt")
    if decided.eq(True).any(axis=None):  # else nothing is coloured
        figure.colorbar(picture, ax=axes, fraction=0.04, pad=0.02)
    handles = [Line2D([], [], color=BLACK, linewidth=2.5, label="equality: the sign changes")] * bool(axes.lines)
    handles += [Patch(fill=False, hatch="///", edgecolor=GREY, label="experts did not learn")] if not known.all() else []
    words = "mixing − the best merge, points" + count_words(frame).replace(" (", "\n(", 1)
    return finish(figure, handles, 1, f"share of the RL steps; {words}", "words of a domain")


def plot_predictors(frame: pd.DataFrame) -> Figure:
    """Mixing − merging of each point and seed against each measure of the experts alone; a marker is a world, filled: the last
    budget; a grey cross where `learned` says that the experts did not learn."""
    require_columns(frame, ["world", "budget", "difference", "conflict"], "points")
    frame = frame.sort_values("conflict", kind="stable")
    columns, worlds = [name for name in AXES if name in frame], unique(frame, "world")
    down = -(-len(columns) // 2)
    figure, grid = make_figure(COLUMN, 1.45 * down + 0.15 * len(worlds) + 0.3, down, min(2, len(columns)), sharey=True)
    for axes in grid.flat[len(columns) :]:
        axes.set_axis_off()
    for axes, column in zip(grid.flat, columns):
        axes.axhline(0, color=GREY, linestyle="--", linewidth=0.8, zorder=1)
        for (world, budget), part in frame.groupby(["world", "budget"]):
            marker, colour = MARKERS[worlds.index(world)], COLOURS[worlds.index(world) % len(COLOURS)]
            face = colour if budget == frame["budget"].max() else "white"
            if not part.get("learned", pd.Series([True])).all():
                marker, colour = "x", GREY
            axes.plot(part[column], part["difference"], marker, color=colour, markerfacecolor=face)
        axes.set_xlabel(AXES[column].replace(" of ", "\nof ", 1).replace(" in ", "\nin ", 1).replace(" / ", "\n/ "))
    handles = [handle(world_words(world).replace("\n", " "), *look) for world, *look in zip(worlds, MARKERS, COLOURS)]
    if not frame.get("learned", pd.Series([True])).all():
        handles.append(handle("experts did not learn: in no prediction", "x", GREY))
    return finish(figure, handles, 1, "", f"mixing − merging, points\n(a point: a seed, n = {frame['seed'].nunique()} seeds)")
