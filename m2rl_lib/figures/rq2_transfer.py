"""Figures of RQ2: transfer, gradients along the run, every reward of every run, and the manipulation check."""

import numpy as np
import pandas as pd
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator

from m2rl_lib.figures import parts
from m2rl_lib.figures.parts import count_words, domains_of, finish, handle, short_domain, unique
from m2rl_lib.figures.style import BLACK, COLUMN, FAMILIES, GREY, WIDE, make_figure
from m2rl_lib.stats.comparisons import display_domain, display_name, model_family
from m2rl_lib.stats.graded_samples import require_columns

ARROWS = {"rises": "↑", "falls": "↓"}  # what was predicted


def _cell_words(row) -> str:
    """A change, its interval and its verdict where there is one, one per line; an arrow if planted."""
    if np.isnan(row.estimate):
        return "refused"
    label = getattr(row, "label", "")
    arrow = ARROWS.get(getattr(row, "predicted", ""), "")
    return parts.change_words(row) + (f"\n{label} {arrow}".rstrip() if isinstance(label, str) and label else "")


def plot_transfer(frame: pd.DataFrame) -> Figure:
    """What training on one domain does to each: change against SFT, with its interval, and its `label` (verdict) where known."""
    require_columns(frame, ["model", "domain", "change", "low", "high"], "changes by domain")
    models, domains = unique(frame, "model"), domains_of(frame)
    figure, axes = make_figure(WIDE, (0.48 if "label" in frame else 0.38) * len(models) + 1.0)
    size = max(float(frame["change"].abs().max()), 1e-9)
    rows = frame.rename(columns={"change": "estimate"}).itertuples()
    table = frame.assign(words=list(map(_cell_words, rows)), sure=(frame["low"] > 0) | (frame["high"] < 0))
    cells, words, sure = parts.pivot(table, "model", "domain", models, domains, "change", "words", "sure")
    cells.index, cells.columns = map(display_name, models), [display_domain(domain).replace(" ", "\n") for domain in domains]
    picture = parts.draw_cells(axes, cells, words, "PuOr_r", TwoSlopeNorm(0, -size, size), 7, sure)
    marks = "; bold: interval excludes 0" + "; arrow: planted" * bool({*frame.get("predicted", ())} & {*ARROWS})
    axes.set(xlabel=f"tested on{count_words(frame)}{marks}", ylabel="trained as")
    figure.colorbar(picture, ax=axes, label="change against SFT, points", fraction=0.03, pad=0.01)
    return figure


def plot_gradient_cosines(frame: pd.DataFrame) -> Figure:
    """Cosine (divided by √(r₁r₂)) of two domains' gradients, a row per pair, at SFT and at kept steps of the mixed run; one that
    is refused as too noisy (NaN) is not drawn."""
    require_columns(frame, ["step", "domain", "other", "cosine", "low", "high"], "gradient cosines")
    steps, pairs = sorted(frame["step"].unique()), list(frame.groupby(["domain", "other"], sort=False))
    figure, axes = make_figure(COLUMN, 0.26 * len(pairs) + 1.3)
    for height in (0, 1):
        axes.axvline(height, color=GREY, linestyle=":", linewidth=0.8, zorder=1)
    looks = {step: ("oDds^"[place % 5], *(FAMILIES["mixed" if step else "reference"][1:3])) for place, step in enumerate(steps)}
    for place, (_, rows) in enumerate(pairs):
        found = rows[rows["cosine"].notna()].sort_values("step")
        for row, aside in zip(found.itertuples(), 0.28 * (np.arange(len(found)) - (len(found) - 1) / 2)):
            parts.draw_estimate(axes, row, row.cosine, -place - aside, *looks[row.step])
        if found.empty:
            axes.annotate("refused", (0.5, -place), ha="center", va="center", color=GREY)
    names = [f"{short_domain(one)}, {short_domain(other)}" for (one, other), _ in pairs]
    parts.name_heights(axes, -np.arange(len(pairs)), names, 0.6 - len(pairs), 0.6)
    axes.set_xlim(min(-0.6, axes.get_xlim()[0]), max(1.2, axes.get_xlim()[1]))
    axes.xaxis.set_major_locator(MultipleLocator(0.5))
    refused = frame["cosine"].isna().groupby(frame["step"]).sum()
    names = [f"step {step} of the mixed run" if step else "SFT" for step in steps]
    words = [name + f" ({refused[step]} of {len(pairs)} refused)" * bool(refused[step]) for step, name in zip(steps, names)]
    handles = [handle(label, *look, line="-", markersize=3.6) for label, look in zip(words, looks.values())]
    return finish(figure, handles, 1, "cosine of gradients, noise divided out\n" + count_words(frame, "prompts a domain", ""))


def plot_every_curve(frame: pd.DataFrame) -> Figure:
    """Every reward of every run, 0 to 1, by `kind` ('train': a line, 'selection': intervals); thick frame: a trained domain."""
    require_columns(frame, ["model", "step", "domain", "kind", "reward", "low", "high"], "curves")
    models, domains = unique(frame, "model"), domains_of(frame)
    size = (WIDE, 0.85 * len(domains) + 0.8)
    figure, grid = make_figure(*size, len(domains), len(models), sharex="col", sharey=True)
    for (row, column), axes in np.ndenumerate(grid):
        rows = frame[(frame["model"] == models[column]) & (frame["domain"] == domains[row])].sort_values("step")
        train, selection = (rows[rows["kind"] == kind] for kind in ("train", "selection"))
        colour = FAMILIES[model_family(models[column])][1]
        axes.plot(train["step"], train["reward"], color="#BBBBBB", linewidth=1.4)
        axes.vlines(selection["step"], selection["low"], selection["high"], color=colour, linewidth=0.8)
        axes.plot(selection["step"], selection["reward"], "o-", color=colour, linewidth=0.8, markersize=1.8)
        axes.set_ylim(0, 1)
        axes.xaxis.set_major_locator(MaxNLocator(2, integer=True))
        for side in axes.spines.values():
            side.set(color=BLACK if len(train) else "#CCCCCC", linewidth=1.2 if len(train) else 0.6)
        if row == 0:
            axes.set_title(display_name(models[column]).replace(" (", "\n("))
        if column == 0:
            axes.set_ylabel(short_domain(domains[row]))
    selection = handle("selection problems", "o", BLACK, line="-", linewidth=0.8, markersize=1.8)
    train = handle("in training (thick frame: a trained domain)", "", "#BBBBBB", line="-", linewidth=1.4)
    words = "mean reward" + count_words(frame.loc[frame["kind"] == "selection"])
    return finish(figure, [selection, train], 2, "training step", words)


def plot_manipulation(frame: pd.DataFrame) -> Figure:
    """Each quantity in each world of the manipulation check (the study's own first), a panel per `kind`; arrows: `predicted`."""
    require_columns(frame, ["quantity", "kind", "world", "estimate", "low", "high"], "manipulation check")
    kinds, worlds = unique(frame, "kind"), unique(frame, "world")
    widths = list(frame.groupby("kind", sort=False)["quantity"].nunique())
    figure, [grid] = make_figure(WIDE, 2.3, 1, len(kinds), width_ratios=widths)
    colours, width = dict(zip(worlds, ("#D5D5D5", "#999999", "#555555"))), 0.8 / len(worlds)
    for axes, kind in zip(grid, kinds, strict=True):
        rows = frame[frame["kind"] == kind]
        names = unique(rows, "quantity")
        for row in rows.itertuples():
            place = names.index(row.quantity) + (worlds.index(row.world) - (len(worlds) - 1) / 2) * width
            if np.isnan(row.estimate):
                axes.text(place, 0, "refused", rotation=90, ha="center", va="bottom", fontsize=7, color=GREY)
                continue
            axes.bar(place, row.estimate, 0.9 * width, color=colours[row.world])
            axes.vlines(place, row.low, row.high, color=BLACK, linewidth=1)
            if getattr(row, "predicted", "") in ARROWS:
                above = (place, max(row.high, 0))
                axes.annotate(ARROWS[row.predicted], above, (0, 1), textcoords="offset points", ha="center", fontsize=8)
        axes.axhline(0, color=BLACK, linewidth=0.6)
        axes.margins(y=0.15)
        axes.set_xticks(range(len(names)), names)
        axes.grid(axis="x", visible=False)
        words = "change against SFT, points" if kind == "points" else "cosine of math and coding"
        axes.set(xlim=(-0.5, len(names) - 0.5), ylabel=words)
    words = "; arrows: predicted against the study's" if {*frame.get("predicted", ())} & {*ARROWS} else ""
    if kinds[0] == "points":
        grid[0].set_xlabel("trained → tested" + count_words(frame[frame["kind"] == "points"]) + words)
    return finish(figure, [handle(world, "", colour, line="-", linewidth=5) for world, colour in colours.items()], 3)
