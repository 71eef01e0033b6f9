"""Figures of RQ3's policies: the KL cross table as heat maps, and what was lost against how far the policy is.

In the one style of `figures`, whose rules hold here too: tidy frames in, a Figure out, no model known.
"""

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from m2rl_lib.figures.style import FAMILIES, GREY, WIDE, count_words, draw_cells, make_canvas, name_cells
from m2rl_lib.stats.bootstrap import require_columns
from m2rl_lib.stats.comparisons import display_domain, display_name, model_family

FLOOR = 1e-3  # nats: smaller values are drawn as this


def plot_kl_table(frame: pd.DataFrame) -> Figure:
    """The KL cross table, a panel each domain: from whom was sampled (rows) to whom it is compared (columns), nats a sequence.

    Columns: domain, source, target, kl, se, prompts, completions, truncated. The domain's own expert is in bold; a cell without
    a value is blank; the shade is logarithmic. n (of the own expert first) and truncations stand beside each panel's title.
    """
    require_columns(frame, ["domain", "source", "target", "kl", "se", "prompts", "completions", "truncated"], "KL cross table")
    domains, sources, targets = (list(pd.unique(frame[column])) for column in ("domain", "source", "target"))
    figure = make_canvas(WIDE, len(domains) * (0.235 * len(sources) + 0.28) + 1.3)
    grid = figure.subplots(len(domains), 1, squeeze=False, sharex=True)[:, 0]
    positive = frame.loc[frame["kl"] > 0, "kl"]
    least = max(float(positive.min()), FLOOR) if len(positive) else FLOOR
    norm = LogNorm(least, max(float(frame["kl"].max()), 10 * least))
    for axes, domain in zip(grid, domains, strict=True):
        rows = frame[frame["domain"] == domain]
        told = rows.assign(words=[_cell_words(row) for row in rows.itertuples()])
        cells = rows.pivot(index="source", columns="target", values="kl").reindex(index=sources, columns=targets)
        words = told.pivot(index="source", columns="target", values="words").reindex_like(cells).astype(object).fillna("")
        own = np.repeat(cells.index.to_numpy()[:, None] == f"rl-{domain}", len(targets), axis=1)
        picture = draw_cells(axes, cells.clip(lower=least).to_numpy(), words.to_numpy(), "Purples", norm, 4.6, own)
        cut = rows.drop_duplicates("source")[["completions", "truncated"]].sum()
        sizes = sorted(set(rows["prompts"]), reverse=True)
        counted = f"n = {' or '.join(map(str, sizes))} prompts, {cut['truncated']} of {cut['completions']} completions cut off"
        axes.set_title(f"{display_domain(domain)} ({counted})", fontsize=6.5, pad=2)
        names = [[display_name(model) for model in models] for models in (sources, targets)]
        name_cells(axes, *names, rotation=40, ha="right", fontsize=6)
    figure.supylabel("completions sampled from", fontsize=7)
    figure.supxlabel("KL to, nats a sequence (± standard error, clustered by prompt)", fontsize=7)
    figure.colorbar(picture, ax=list(grid), fraction=0.02, pad=0.01)
    return figure


def _cell_words(row) -> str:
    return "0" if row.source == row.target else f"{_short(row.kl)}\n±{_short(row.se)}"


def _short(value: float) -> str:
    """Two decimals, or one digit of a smaller number: 0.92, 0.004, 3e-06."""
    return f"{value:.2f}" if value >= 0.095 else f"{value:.1g}"


def plot_change_against_kl(frame: pd.DataFrame) -> Figure:
    """What a multi-domain model lost against each domain's expert, against its KL from that expert; a panel each domain.

    Columns: target, domain, delta, delta_low, delta_high (points), kl, se (nats a sequence), neighbours (share of the other
    experts in the model that neighbour the domain's). A filled marker has at least one neighbour in it, an open one none; the
    shape is the kind of model. KL below 1e-3 nats is drawn there.
    """
    columns = ["target", "domain", "delta", "delta_low", "delta_high", "kl", "se", "neighbours"]
    require_columns(frame, columns, "changes against KL")
    domains = list(pd.unique(frame["domain"]))
    across = min(3, len(domains))
    down = -(-len(domains) // across)
    figure = make_canvas(WIDE, 1.75 * down + 0.6)
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    for axes, domain in zip(grid.flat, domains, strict=False):
        axes.axhline(0, color=GREY, linestyle="--", linewidth=0.8, zorder=1)
        for row in frame[frame["domain"] == domain].itertuples():
            marker, colour, _, _ = FAMILIES[model_family(row.target)]
            at, ends = max(row.kl, FLOOR), [max(row.kl - row.se, FLOOR), max(row.kl + row.se, FLOOR)]
            axes.plot([at, at], [row.delta_low, row.delta_high], color=colour, linewidth=0.6)
            axes.plot(ends, [row.delta] * 2, color=colour, linewidth=0.6)
            axes.plot(
                at, row.delta, marker, color=colour, markerfacecolor=colour if row.neighbours > 0 else "white", markersize=3.6
            )
        axes.set_xscale("log")
        axes.set_title(display_domain(domain))
    for place in range(len(domains), grid.size):
        grid.flat[place].set_axis_off()
        grid.flat[place - across].tick_params(labelbottom=True)
    counts = count_words(frame.rename(columns={"delta_low": "low", "delta_high": "high"}))
    figure.supxlabel("KL from the domain's expert, nats a sequence (± standard error)", fontsize=7)
    figure.supylabel("change against the expert, points" + counts, fontsize=7)
    families = dict.fromkeys(model_family(target) for target in frame["target"])
    kinds = [FAMILIES[family] for family in families]
    handles = [Line2D([], [], marker=marker, color=colour, linestyle="", label=name) for marker, colour, _, name in kinds]
    for filled, name in ((True, "with a neighbour in it"), (False, "without one")):
        face = GREY if filled else "white"
        handles.append(Line2D([], [], marker="o", color=GREY, markerfacecolor=face, linestyle="", label=name))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    return figure
