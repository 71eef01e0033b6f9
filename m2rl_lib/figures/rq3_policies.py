"""Figures of RQ3's policies: the answer, the KL from each domain's expert, and what was lost against how far the policy is."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from m2rl_lib.figures import parts
from m2rl_lib.figures.parts import count_words, draw_estimate, finish, handle, name_heights, pivot, span, unique
from m2rl_lib.figures.style import BLACK, BLUE, COLUMN, FAMILIES, GREY, LIGHT, WIDE, make_figure, make_panels
from m2rl_lib.stats.comparisons import display_domain, display_name, model_family
from m2rl_lib.stats.graded_samples import require_columns
from m2rl_lib.stats.rank_correlation import NEGLIGIBLE

LEAST = 1e-3  # nats: smaller values are drawn as this
QUESTIONS = {  # of the answer's panels: title, what is on the axis
    "overlap": ("The same weights?", "overlap of 10% largest changes"),
    "cosine": ("The same direction?", "cosine of task vectors"),
    "rank": ("What predicts the loss?", "rank correlation with ΔPerf"),
}
SERIES = {"two experts": ("s", BLUE, True), "matched random masks": ("X", GREY, False)}  # marker, colour, filled
SERIES |= {"expert and RL-Null": ("o", GREY, False), "one domain, 2 seeds": ("s", BLUE, False)}


def plot_answer(frame: pd.DataFrame) -> Figure:
    """RQ3 at once, a panel for each of QUESTIONS: `value` of each `row`, its 95% interval (of experts: of the difference from
    their controls), and in grey least to most of all pairs; a correlation inside the shaded zone is negligible."""
    require_columns(frame, ["panel", "row", "value", "low", "high", "least", "most"], "answer to RQ3")
    panels = [name for name in QUESTIONS if name in set(frame["panel"])]
    counts = [int((frame["panel"] == name).sum()) for name in panels]
    figure, grid = make_figure(COLUMN, 0.21 * sum(counts) + 0.55 * len(panels) + 0.3, len(panels), 1, height_ratios=counts)
    for axes, name, count in zip(grid[:, 0], panels, counts, strict=True):
        rows, (title, words) = frame[frame["panel"] == name], QUESTIONS[name]
        axes.axvline(0, color=GREY, linewidth=0.8, zorder=1)
        if name == "rank":
            axes.axvspan(-NEGLIGIBLE, NEGLIGIBLE, color=LIGHT, alpha=0.35, linewidth=0, zorder=0)
        for place, row in enumerate(rows.itertuples()):
            axes.plot([row.least, row.most], [-place, -place], color=LIGHT, linewidth=4, solid_capstyle="butt")
            draw_estimate(axes, row, row.value, -place, *SERIES.get(row.row, ("o", BLACK, True)), size=4.5, width=1.4)
            if np.isnan(row.value):
                parts.draw_note(axes, "undefined", -place)
        axes.set_title(title, loc="left", weight="bold")
        axes.set_xlabel(words)
        axes.margins(x=0.08)
        if name == "rank":
            axes.set_xlim(-1, 1)
        name_heights(axes, -np.arange(count), [textwrap.fill(name, 20) for name in rows["row"]], -count + 0.4, 0.6)
    handles = [handle("95% interval", "", BLACK, line="-"), handle("least to most pair", "", LIGHT, line="-", linewidth=4)]
    handles += [Patch(facecolor=LIGHT, alpha=0.35, label="negligible")]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, columnspacing=1, handlelength=1.5)
    return figure


def plot_kl_table(frame: pd.DataFrame) -> Figure:
    """KL from each domain's own expert (columns; its prompts, its completions) to each model (rows), nats a sequence."""
    require_columns(frame, ["domain", "source", "target", "kl", "prompts"], "KL cross table")
    own = frame[(frame["source"] == "rl-" + frame["domain"]) & (frame["source"] != frame["target"])]
    domains, targets = unique(own, "domain"), [name for name in unique(frame, "target") if name in set(own["target"])]
    cells, words = pivot(own.assign(words=own["kl"].map(_short)), "target", "domain", targets, domains, "kl", "words")
    cells = cells.clip(lower=LEAST).rename(index=display_name, columns=lambda domain: display_name(f"rl-{domain}"))
    least = max(float(np.nanmin(cells)), LEAST)
    norm = LogNorm(least, max(float(np.nanmax(cells)), 10 * least))
    figure, axes = make_figure(COLUMN, 0.17 * len(targets) + 0.9)
    parts.draw_cells(axes, cells, words.fillna("–"), "Purples", norm, 7)
    axes.xaxis.tick_top()
    axes.set_xticks(axes.get_xticks(), [name.replace("-", "-\n") for name in cells.columns])
    axes.set_xlabel(f"nats a sequence (n = {span(own['prompts'])} prompts a domain)")
    axes.set_title("KL from this domain's expert")
    return figure


def _short(value: float) -> str:
    """Two decimals, or one digit of a smaller number: 0.92, 0.004, 3e-06."""
    return f"{value:.2f}" if value >= 0.095 else f"{value:.1g}"


def plot_change_against_kl(frame: pd.DataFrame) -> Figure:
    """What a model lost against each domain's expert, against its KL from that expert (nats); their intervals are in the table."""
    require_columns(frame, ["target", "domain", "delta", "kl", "n", "seeds"], "changes against KL")
    domains = unique(frame, "domain")
    figure, panels = make_panels(WIDE, 1.75, 0.6, len(domains), 3)
    for axes, domain in zip(panels, domains, strict=True):
        axes.axhline(0, color=GREY, linestyle="--", linewidth=0.8, zorder=1)
        for row in frame[frame["domain"] == domain].itertuples():
            marker, colour, _, name = FAMILIES[model_family(row.target)]
            order = 2 if name == "merged" else 3  # the few above the many
            axes.plot(max(row.kl, LEAST), row.delta, marker, color=colour, markersize=3.6, zorder=order)
        axes.set(xscale="log", title=display_domain(domain))
    families = (FAMILIES[family] for family in frame["target"].map(model_family).unique())
    handles = [handle(name, marker, colour) for marker, colour, _, name in families]
    below, beside = "KL from the domain's expert, nats a sequence", "change against the expert, points"
    return finish(figure, handles, len(handles), below, beside + count_words(frame, before="\n"))
