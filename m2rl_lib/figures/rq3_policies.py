"""Figures of RQ3's policies: the KL cross table as heat maps, and what was lost against how far the policy is."""

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from m2rl_lib.figures.parts import count_words, draw_cells, finish, handle, pivot, unique
from m2rl_lib.figures.style import FAMILIES, GREY, WIDE, make_figure, make_panels
from m2rl_lib.stats.bootstrap import require_columns
from m2rl_lib.stats.comparisons import display_domain, display_name, model_family

LEAST = 1e-3  # nats: smaller values are drawn as this


def plot_kl_table(frame: pd.DataFrame) -> Figure:
    """The KL cross table, one panel per domain: sampled from (rows), compared to (columns); the domain's own expert in bold."""
    require_columns(frame, ["domain", "source", "target", "kl", "se", "prompts", "completions", "truncated"], "KL cross table")
    domains, sources, targets = (unique(frame, column) for column in ("domain", "source", "target"))
    size = (WIDE, len(domains) * (0.235 * len(sources) + 0.28) + 1.3)
    figure, grid = make_figure(*size, len(domains), 1, sharex=True)
    positive = frame.loc[frame["kl"] > 0, "kl"]
    least = max(float(positive.min()), LEAST) if len(positive) else LEAST
    norm = LogNorm(least, max(float(frame["kl"].max()), 10 * least))
    for axes, domain in zip(grid[:, 0], domains, strict=True):
        rows = frame[frame["domain"] == domain]
        rows = rows.assign(words=[_cell_words(row) for row in rows.itertuples()])
        cells, words = pivot(rows, "source", "target", sources, targets, "kl", "words")
        own = np.repeat(cells.index.to_numpy()[:, None] == f"rl-{domain}", len(targets), axis=1)
        cells = cells.clip(lower=least).rename(index=display_name, columns=display_name)
        picture = draw_cells(axes, cells, words, "Purples", norm, 4.6, own, rotation=40, ha="right", fontsize=6)
        cut = rows.drop_duplicates("source")[["completions", "truncated"]].sum()
        sizes = sorted(set(rows["prompts"]), reverse=True)
        counted = f"n = {' or '.join(map(str, sizes))} prompts, {cut['truncated']} of {cut['completions']} completions cut off"
        axes.set_title(f"{display_domain(domain)} ({counted})", fontsize=6.5, pad=2)
    figure.supylabel("completions sampled from")
    figure.supxlabel("KL to, nats a sequence (± standard error, clustered by prompt)")
    figure.colorbar(picture, ax=list(grid[:, 0]), fraction=0.02, pad=0.01)
    return figure


def _cell_words(row) -> str:
    return "0" if row.source == row.target else f"{_short(row.kl)}\n±{_short(row.se)}"


def _short(value: float) -> str:
    """Two decimals, or one digit of a smaller number: 0.92, 0.004, 3e-06."""
    return f"{value:.2f}" if value >= 0.095 else f"{value:.1g}"


def plot_change_against_kl(frame: pd.DataFrame) -> Figure:
    """What a model lost against each domain's expert, against its KL from that expert (nats); filled: a neighbour is in it."""
    columns = ["target", "domain", "delta", "delta_low", "delta_high", "kl", "se", "neighbours"]
    require_columns(frame, columns, "changes against KL")
    domains = unique(frame, "domain")
    figure, panels = make_panels(WIDE, 1.75, 0.6, len(domains), 3)
    for axes, domain in zip(panels, domains, strict=True):
        axes.axhline(0, color=GREY, linestyle="--", linewidth=0.8, zorder=1)
        for row in frame[frame["domain"] == domain].itertuples():
            marker, colour, _, _ = FAMILIES[model_family(row.target)]
            at, *ends = (max(place, LEAST) for place in (row.kl, row.kl - row.se, row.kl + row.se))
            axes.plot([at, at], [row.delta_low, row.delta_high], color=colour, linewidth=0.6)
            axes.plot(ends, [row.delta] * 2, color=colour, linewidth=0.6)
            face = colour if row.neighbours > 0 else "white"
            axes.plot(at, row.delta, marker, color=colour, markerfacecolor=face, markersize=3.6)
        axes.set(xscale="log", title=display_domain(domain))
    counts = count_words(frame.rename(columns={"delta_low": "low", "delta_high": "high"}))
    families = (FAMILIES[family] for family in frame["target"].map(model_family).unique())
    handles = [handle(name, marker, colour) for marker, colour, _, name in families]
    handles += [handle("with a neighbour in it", "o", GREY), handle("without one", "o", GREY, filled=False)]
    words = "KL from the domain's expert, nats a sequence (± standard error)"
    return finish(figure, handles, len(handles), words, "change against the expert, points" + counts)
