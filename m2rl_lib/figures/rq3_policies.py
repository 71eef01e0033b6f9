"""Figures of RQ3's policies: the KL cross table as heat maps, and what was lost against how far the policy is."""

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from m2rl_lib.figures.parts import count_words, draw_cells, handle, legend_above, name_cells, panels, unique
from m2rl_lib.figures.style import FAMILIES, GREY, WIDE, make_canvas
from m2rl_lib.stats.bootstrap import require_columns
from m2rl_lib.stats.comparisons import display_domain, display_name, model_family

LEAST = 1e-3  # nats: smaller values are drawn as this


def plot_kl_table(frame: pd.DataFrame) -> Figure:
    """The KL cross table, a panel each domain: from whom was sampled (rows) to whom it is compared (columns), nats a sequence.

    Columns: domain, source, target, kl, se, prompts, completions, truncated. The domain's own expert is in bold; a cell without
    a value is blank; the shade is logarithmic. n (of the own expert first) and truncations stand beside each panel's title.
    """
    require_columns(frame, ["domain", "source", "target", "kl", "se", "prompts", "completions", "truncated"], "KL cross table")
    domains, sources, targets = (unique(frame, column) for column in ("domain", "source", "target"))
    figure = make_canvas(WIDE, len(domains) * (0.235 * len(sources) + 0.28) + 1.3)
    grid = figure.subplots(len(domains), 1, squeeze=False, sharex=True)[:, 0]
    positive = frame.loc[frame["kl"] > 0, "kl"]
    least = max(float(positive.min()), LEAST) if len(positive) else LEAST
    norm = LogNorm(least, max(float(frame["kl"].max()), 10 * least))
    for axes, domain in zip(grid, domains, strict=True):
        rows = frame[frame["domain"] == domain]
        rows = rows.assign(words=[_cell_words(row) for row in rows.itertuples()])
        cells = rows.pivot(index="source", columns="target", values="kl").reindex(index=sources, columns=targets)
        words = rows.pivot(index="source", columns="target", values="words").reindex_like(cells).astype(object).fillna("")
        own = np.repeat(cells.index.to_numpy()[:, None] == f"rl-{domain}", len(targets), axis=1)
        picture = draw_cells(axes, cells.clip(lower=least).to_numpy(), words.to_numpy(), "Purples", norm, 4.6, own)
        cut = rows.drop_duplicates("source")[["completions", "truncated"]].sum()
        sizes = sorted(set(rows["prompts"]), reverse=True)
        counted = f"n = {' or '.join(map(str, sizes))} prompts, {cut['truncated']} of {cut['completions']} completions cut off"
        axes.set_title(f"{display_domain(domain)} ({counted})", fontsize=6.5, pad=2)
        names = [[display_name(model) for model in models] for models in (sources, targets)]
        name_cells(axes, *names, rotation=40, ha="right", fontsize=6)
    figure.supylabel("completions sampled from")
    figure.supxlabel("KL to, nats a sequence (± standard error, clustered by prompt)")
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
    domains = unique(frame, "domain")
    figure = make_canvas(WIDE, 1.75 * -(-len(domains) // 3) + 0.6)
    for axes, domain in zip(panels(figure, len(domains), 3, sharex=True, sharey=True), domains, strict=True):
        axes.axhline(0, color=GREY, linestyle="--", linewidth=0.8, zorder=1)
        for row in frame[frame["domain"] == domain].itertuples():
            marker, colour, _, _ = FAMILIES[model_family(row.target)]
            at, ends = max(row.kl, LEAST), [max(row.kl - row.se, LEAST), max(row.kl + row.se, LEAST)]
            axes.plot([at, at], [row.delta_low, row.delta_high], color=colour, linewidth=0.6)
            axes.plot(ends, [row.delta] * 2, color=colour, linewidth=0.6)
            face = colour if row.neighbours > 0 else "white"
            axes.plot(at, row.delta, marker, color=colour, markerfacecolor=face, markersize=3.6)
        axes.set_xscale("log")
        axes.set_title(display_domain(domain))
    counts = count_words(frame.rename(columns={"delta_low": "low", "delta_high": "high"}))
    figure.supxlabel("KL from the domain's expert, nats a sequence (± standard error)")
    figure.supylabel("change against the expert, points" + counts)
    families = dict.fromkeys(model_family(target) for target in frame["target"])
    handles = [handle(name, colour, marker) for marker, colour, _, name in (FAMILIES[family] for family in families)]
    handles += [handle("with a neighbour in it", GREY, "o"), handle("without one", GREY, "o", filled=False)]
    legend_above(figure, handles, len(handles))
    return figure
