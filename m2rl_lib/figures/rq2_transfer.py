"""Figures of RQ2: transfer, gradients along the run, every reward of every run, and the manipulation check."""

import numpy as np
import pandas as pd
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from m2rl_lib.figures.parts import (
    change_words,
    count_words,
    draw_cells,
    handle,
    is_sampled,
    legend_above,
    name_cells,
    panels,
    size_words,
    unique,
)
from m2rl_lib.figures.style import BLACK, BLUE, COLUMN, GREY, ORANGE, WIDE, make_canvas
from m2rl_lib.stats.bootstrap import require_columns
from m2rl_lib.stats.comparisons import SHORT, display_domain, display_name


def _short(domain: str) -> str:
    return SHORT.get(domain) or display_domain(domain)


def _cell_words(row, sampled: bool) -> str:
    """A change, its interval where there was sampling and its verdict where there is one, a line each."""
    if np.isnan(row.estimate):
        return "refused"
    label = getattr(row, "label", "")
    return change_words(row, sampled) + (f"\n{label}" if isinstance(label, str) and label else "")


def plot_transfer(frame: pd.DataFrame) -> Figure:
    """What training on one domain does to each: change against SFT in points, with its interval; bold where it excludes 0.

    Columns: model (trained on), domain (tested on), change, and low, high, n where there was sampling; label ('' for none), a
    word to stand under the numbers, if there are verdicts. The sign is printed in every cell, so greyscale loses nothing.
    """
    require_columns(frame, ["model", "domain", "change"], "changes by domain")
    models, domains = unique(frame, "model"), unique(frame, "domain")
    figure = make_canvas(WIDE, (0.48 if "label" in frame else 0.38) * len(models) + 1.0)
    axes = figure.subplots()
    size = max(float(frame["change"].abs().max()), 1e-9)
    rows = frame.rename(columns={"change": "estimate"}).itertuples()
    table = frame.assign(words=[_cell_words(row, is_sampled(frame)) for row in rows], sure=False)
    if is_sampled(frame):
        table["sure"] = (frame["low"] > 0) | (frame["high"] < 0)
    cells, words, sure = (
        table.pivot(index="model", columns="domain", values=column).loc[models, domains].to_numpy()
        for column in ("change", "words", "sure")
    )
    picture = draw_cells(axes, cells.astype(float), words, "PuOr_r", TwoSlopeNorm(0, -size, size), 6.5, sure)
    tested = [display_domain(domain).replace(" ", "\n") for domain in domains]
    name_cells(axes, [display_name(model) for model in models], tested)
    axes.set_xlabel("tested on" + (count_words(frame) + "; bold: interval excludes 0" if is_sampled(frame) else ""))
    axes.set_ylabel("trained as")
    figure.colorbar(picture, ax=axes, label="change against SFT, points", fraction=0.03, pad=0.01)
    return figure


def plot_gradient_cosines(frame: pd.DataFrame) -> Figure:
    """Cosine of two domains' gradients along the run, a panel a pair; a cross below where it was refused as too noisy.

    Columns: step, domain, other, cosine (divided by √(r₁r₂); NaN where refused), low, high (95%); n (prompts a domain) if known. Dotted
    lines at 0 and 1.
    """
    require_columns(frame, ["step", "domain", "other", "cosine", "low", "high"], "gradient cosines")
    pairs = list(frame[["domain", "other"]].drop_duplicates().itertuples(index=False, name=None))
    figure = make_canvas(WIDE if len(pairs) > 1 else COLUMN, 1.25 * -(-len(pairs) // 5) + 0.6)
    for axes, (domain, other) in zip(panels(figure, len(pairs), 5, sharex=True, sharey=True), pairs, strict=True):
        rows = frame[(frame["domain"] == domain) & (frame["other"] == other)].sort_values("step")
        found, refused = rows[rows["cosine"].notna()], rows[rows["cosine"].isna()]
        for height in (0, 1):
            axes.axhline(height, color=GREY, linestyle=":", linewidth=0.8, zorder=1)
        axes.vlines(found["step"], found["low"], found["high"], color=BLUE, linewidth=1)
        axes.plot(found["step"], found["cosine"], "o", color=BLUE, markersize=3.6)
        axes.plot(refused["step"], np.full(len(refused), -0.6), "x", color=GREY, markersize=3.6)
        axes.set_title(f"{_short(domain)}, {_short(other)}")
        axes.set_ylim(-0.75, 1.6)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.margins(x=0.15)
    figure.supxlabel("step of the mixed run (0: SFT)")
    figure.supylabel("cosine of gradients" + size_words(frame, "prompts a domain"))
    handles = [
        handle("noise divided out, 95% interval", BLUE, "o", line="-", markersize=3.6),
        handle("refused: a gradient is mostly noise", GREY, "x", markersize=3.6),
    ]
    legend_above(figure, handles, 2 if len(pairs) > 1 else 1)
    return figure


def plot_every_curve(frame: pd.DataFrame) -> Figure:
    """Every reward of every run: a column a run, a row a domain; on selection problems with intervals, in training as a line.

    Columns: model, step, domain, kind ('train' or 'selection'), reward (0 to 1), low, high, n. A panel's frame is thick where
    the run trains on the domain, which is where it has training rewards.
    """
    require_columns(frame, ["model", "step", "domain", "kind", "reward", "low", "high"], "curves")
    models, domains = unique(frame, "model"), unique(frame, "domain")
    figure = make_canvas(WIDE, 0.85 * len(domains) + 0.8)
    grid = figure.subplots(len(domains), len(models), squeeze=False, sharex="col", sharey=True)
    for row, domain in enumerate(domains):
        for column, model in enumerate(models):
            axes = grid[row, column]
            rows = frame[(frame["model"] == model) & (frame["domain"] == domain)].sort_values("step")
            train, selection = (rows[rows["kind"] == kind] for kind in ("train", "selection"))
            axes.plot(train["step"], train["reward"], color=ORANGE, linewidth=0.7)
            axes.vlines(selection["step"], selection["low"], selection["high"], color=BLUE, linewidth=0.8)
            axes.plot(selection["step"], selection["reward"], "o-", color=BLUE, linewidth=0.8, markersize=1.8)
            axes.set_ylim(0, 1)
            axes.xaxis.set_major_locator(MaxNLocator(2, integer=True))
            for side in axes.spines.values():
                side.set(color=BLACK if len(train) else "#CCCCCC", linewidth=1.2 if len(train) else 0.6)
        grid[row, 0].set_ylabel(_short(domain))
    for column, model in enumerate(models):
        grid[0, column].set_title(display_name(model).replace(" (", "\n("), fontsize=6.5)
    figure.supxlabel("training step")
    figure.supylabel("mean reward" + count_words(frame.loc[frame["kind"] == "selection"]))
    handles = [
        handle("selection problems", BLUE, "o", line="-", linewidth=0.8, markersize=1.8),
        handle("in training (thick frame: a trained domain)", ORANGE, line="-", linewidth=0.7),
    ]
    legend_above(figure, handles, 2)
    return figure


def plot_manipulation(frame: pd.DataFrame) -> Figure:
    """Each quantity in the world with shared arithmetic and in the world without, beside what was predicted of the latter.

    Columns: quantity, kind ('points' or 'cosine'; a panel each), world ('shared' or 'apart'), estimate (NaN where refused), low,
    high, reach (predicted of the world apart: within ±reach of 0; NaN where a gain is predicted), n where there were problems.
    """
    require_columns(frame, ["quantity", "kind", "world", "estimate", "low", "high", "reach"], "manipulation check")
    kinds = unique(frame, "kind")
    widths = [frame.loc[frame["kind"] == kind, "quantity"].nunique() for kind in kinds]
    figure = make_canvas(WIDE, 2.3)
    grid = figure.subplots(1, len(kinds), squeeze=False, width_ratios=widths)[0]
    looks = {"shared": (-0.17, "#BBBBBB", "arithmetic shared"), "apart": (0.17, BLUE, "arithmetic apart")}
    for axes, kind in zip(grid, kinds, strict=True):
        rows = frame[frame["kind"] == kind]
        names = unique(rows, "quantity")
        for row in rows.itertuples():
            aside, colour, _ = looks[row.world]
            place = names.index(row.quantity) + aside
            if row.world == "apart" and np.isfinite(row.reach):
                axes.hlines([-row.reach, row.reach], place - 0.2, place + 0.2, color=ORANGE, linewidth=1.4)
            if np.isnan(row.estimate):
                above = np.nan_to_num(1.2 * row.reach)
                axes.text(place, above, "refused", rotation=90, ha="center", va="bottom", fontsize=6, color=GREY)
                continue
            axes.bar(place, row.estimate, 0.3, color=colour)
            axes.vlines(place, row.low, row.high, color=BLACK, linewidth=1)
        axes.axhline(0, color=BLACK, linewidth=0.6)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_xticks(range(len(names)), names)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel("change against SFT, points" if kind == "points" else "cosine of math and coding")
    grid[0].set_xlabel(("trained → tested" + count_words(frame[frame["kind"] == "points"])) if kinds[0] == "points" else "")
    handles = [handle(name, colour, line="-", linewidth=5) for _, colour, name in looks.values()]
    handles.append(handle("predicted: between these lines", ORANGE, line="-", linewidth=1.4))
    legend_above(figure, handles, 3)
    return figure
