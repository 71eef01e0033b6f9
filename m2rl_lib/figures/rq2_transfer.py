"""Figures of RQ2: transfer, gradients along the run, every reward of every run, and the manipulation check."""

import numpy as np
import pandas as pd
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from m2rl_lib.figures import parts
from m2rl_lib.figures.parts import count_words, finish, handle, unique
from m2rl_lib.figures.style import BLACK, BLUE, COLUMN, GREY, ORANGE, WIDE, make_figure, make_panels
from m2rl_lib.stats.bootstrap import require_columns
from m2rl_lib.stats.comparisons import SHORT, display_domain, display_name


def _short(domain: str) -> str:
    return SHORT.get(domain) or display_domain(domain)


def _cell_words(row, sampled: bool) -> str:
    """A change, its interval where there was sampling and its verdict where there is one, one per line."""
    if np.isnan(row.estimate):
        return "refused"
    label = getattr(row, "label", "")
    return parts.change_words(row, sampled) + (f"\n{label}" if isinstance(label, str) and label else "")


def plot_transfer(frame: pd.DataFrame) -> Figure:
    """What training on one domain does to each: change against SFT, with its interval and its `label` (verdict) where known."""
    require_columns(frame, ["model", "domain", "change"], "changes by domain")
    models, domains, sampled = unique(frame, "model"), unique(frame, "domain"), parts.is_sampled(frame)
    figure, axes = make_figure(WIDE, (0.48 if "label" in frame else 0.38) * len(models) + 1.0)
    size = max(float(frame["change"].abs().max()), 1e-9)
    rows = frame.rename(columns={"change": "estimate"}).itertuples()
    table = frame.assign(words=[_cell_words(row, sampled) for row in rows], sure=False)
    if sampled:
        table["sure"] = (frame["low"] > 0) | (frame["high"] < 0)
    cells, words, sure = parts.pivot(table, "model", "domain", models, domains, "change", "words", "sure")
    cells.index, cells.columns = map(display_name, models), [display_domain(domain).replace(" ", "\n") for domain in domains]
    picture = parts.draw_cells(axes, cells, words, "PuOr_r", TwoSlopeNorm(0, -size, size), 6.5, sure)
    axes.set(xlabel="tested on" + (count_words(frame) + "; bold: interval excludes 0" if sampled else ""), ylabel="trained as")
    figure.colorbar(picture, ax=axes, label="change against SFT, points", fraction=0.03, pad=0.01)
    return figure


def plot_gradient_cosines(frame: pd.DataFrame) -> Figure:
    """Cosine (divided by √(r₁r₂)) of two domains' gradients along the run; NaN: refused as too noisy, a cross below."""
    require_columns(frame, ["step", "domain", "other", "cosine", "low", "high"], "gradient cosines")
    pairs = frame.groupby(["domain", "other"], sort=False)
    figure, panels = make_panels(WIDE if len(pairs) > 1 else COLUMN, 1.25, 0.6, len(pairs), 5)
    for axes, ((domain, other), rows) in zip(panels, pairs, strict=True):
        rows = rows.sort_values("step")
        found, refused = rows[rows["cosine"].notna()], rows[rows["cosine"].isna()]
        for height in (0, 1):
            axes.axhline(height, color=GREY, linestyle=":", linewidth=0.8, zorder=1)
        axes.vlines(found["step"], found["low"], found["high"], color=BLUE, linewidth=1)
        axes.plot(found["step"], found["cosine"], "o", color=BLUE, markersize=3.6)
        axes.plot(refused["step"], np.full(len(refused), -0.6), "x", color=GREY, markersize=3.6)
        axes.set(title=f"{_short(domain)}, {_short(other)}", ylim=(-0.75, 1.6))
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.margins(x=0.15)
    found = handle("noise divided out, 95% interval", "o", BLUE, line="-", markersize=3.6)
    refused = handle("refused: a gradient is mostly noise", "x", GREY, markersize=3.6)
    words = "cosine of gradients" + parts.size_words(frame, "prompts a domain")
    return finish(figure, [found, refused], 2 if len(pairs) > 1 else 1, "step of the mixed run (0: SFT)", words)


def plot_every_curve(frame: pd.DataFrame) -> Figure:
    """Every reward of every run, 0 to 1, by `kind` ('train': a line, 'selection': intervals); thick frame: a trained domain."""
    require_columns(frame, ["model", "step", "domain", "kind", "reward", "low", "high"], "curves")
    models, domains = unique(frame, "model"), unique(frame, "domain")
    size = (WIDE, 0.85 * len(domains) + 0.8)
    figure, grid = make_figure(*size, len(domains), len(models), sharex="col", sharey=True)
    for (row, column), axes in np.ndenumerate(grid):
        rows = frame[(frame["model"] == models[column]) & (frame["domain"] == domains[row])].sort_values("step")
        train, selection = (rows[rows["kind"] == kind] for kind in ("train", "selection"))
        axes.plot(train["step"], train["reward"], color=ORANGE, linewidth=0.7)
        axes.vlines(selection["step"], selection["low"], selection["high"], color=BLUE, linewidth=0.8)
        axes.plot(selection["step"], selection["reward"], "o-", color=BLUE, linewidth=0.8, markersize=1.8)
        axes.set_ylim(0, 1)
        axes.xaxis.set_major_locator(MaxNLocator(2, integer=True))
        for side in axes.spines.values():
            side.set(color=BLACK if len(train) else "#CCCCCC", linewidth=1.2 if len(train) else 0.6)
        if row == 0:
            axes.set_title(display_name(models[column]).replace(" (", "\n("), fontsize=6.5)
        if column == 0:
            axes.set_ylabel(_short(domains[row]))
    selection = handle("selection problems", "o", BLUE, line="-", linewidth=0.8, markersize=1.8)
    train = handle("in training (thick frame: a trained domain)", "", ORANGE, line="-", linewidth=0.7)
    words = "mean reward" + count_words(frame.loc[frame["kind"] == "selection"])
    return finish(figure, [selection, train], 2, "training step", words)


def plot_manipulation(frame: pd.DataFrame) -> Figure:
    """Each quantity in each world of the manipulation check (the study's own first), a panel per `kind`; arrows: `predicted`."""
    require_columns(frame, ["quantity", "kind", "world", "estimate", "low", "high"], "manipulation check")
    kinds, worlds = unique(frame, "kind"), unique(frame, "world")
    widths = list(frame.groupby("kind", sort=False)["quantity"].nunique())
    figure, [grid] = make_figure(WIDE, 2.3, 1, len(kinds), width_ratios=widths)
    colours, width = dict(zip(worlds, ("#BBBBBB", BLUE, ORANGE))), 0.8 / len(worlds)
    arrows = {"rises": "↑", "falls": "↓"}
    for axes, kind in zip(grid, kinds, strict=True):
        rows = frame[frame["kind"] == kind]
        names = unique(rows, "quantity")
        for row in rows.itertuples():
            place = names.index(row.quantity) + (worlds.index(row.world) - (len(worlds) - 1) / 2) * width
            if np.isnan(row.estimate):
                axes.text(place, 0, "refused", rotation=90, ha="center", va="bottom", fontsize=6, color=GREY)
                continue
            axes.bar(place, row.estimate, 0.9 * width, color=colours[row.world])
            axes.vlines(place, row.low, row.high, color=BLACK, linewidth=1)
            if getattr(row, "predicted", "") in arrows:
                above = (place, max(row.high, 0))
                axes.annotate(arrows[row.predicted], above, (0, 1), textcoords="offset points", ha="center", fontsize=8)
        axes.axhline(0, color=BLACK, linewidth=0.6)
        axes.margins(y=0.15)
        axes.set_xticks(range(len(names)), names)
        axes.grid(axis="x", visible=False)
        words = "change against SFT, points" if kind == "points" else "cosine of math and coding"
        axes.set(xlim=(-0.5, len(names) - 0.5), ylabel=words)
    words = "; arrows: predicted against the study's" if {*frame.get("predicted", ())} & {*arrows} else ""
    if kinds[0] == "points":
        grid[0].set_xlabel("trained → tested" + count_words(frame[frame["kind"] == "points"]) + words)
    return finish(figure, [handle(world, "", colour, line="-", linewidth=5) for world, colour in colours.items()], 3)
