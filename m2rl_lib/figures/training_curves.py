"""Figures of training runs: loss, distance from the teachers, reward on selection problems."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from m2rl_lib.figures.style import (
    BLACK,
    BLUE,
    COLOURS,
    COLUMN,
    LIGHT,
    LINES,
    ORANGE,
    WIDE,
    count_words,
    is_sampled,
    make_canvas,
)
from m2rl_lib.stats.bootstrap import require_columns
from m2rl_lib.stats.comparisons import display_domain, model_family


def plot_loss(frame: pd.DataFrame) -> Figure:
    """Training loss of one run. Columns: step, loss (mean over the model's own tokens, nats)."""
    require_columns(frame, ["step", "loss"], "training loss")
    figure = make_canvas(COLUMN, 2.2)
    axes = figure.subplots()
    axes.plot(frame["step"], frame["loss"], color=BLACK)
    axes.set(xlabel="training step", ylabel="loss, nats a token", ylim=(0, None))
    return figure


def plot_distillation(frame: pd.DataFrame) -> Figure:
    """The student's distance from the teacher of each domain, a line each. Columns: step, domain, kl (nats a token)."""
    require_columns(frame, ["step", "domain", "kl"], "distillation")
    figure = make_canvas(COLUMN, 2.4)
    axes = figure.subplots()
    for number, (domain, rows) in enumerate(frame.groupby("domain", sort=False)):
        style = {"linestyle": LINES[number % len(LINES)], "color": COLOURS[number % len(COLOURS)]}
        axes.plot(rows["step"], rows["kl"], label=display_domain(domain), **style)
    axes.set(xlabel="training step", ylabel="KL(student ‖ its teacher), nats a token", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def plot_learning_curves(frame: pd.DataFrame) -> Figure:
    """Reward on the selection split over training, a panel each domain: its own expert, the mixed run, the rest in grey.

    Columns: model, step, domain, reward (0 to 1); low, high, n where known. The expert of a domain is 'rl-<domain>'.
    """
    require_columns(frame, ["model", "step", "domain", "reward"], "learning curves")
    domains = list(pd.unique(frame["domain"]))
    across = min(3, len(domains))
    down = -(-len(domains) // across)
    figure = make_canvas(WIDE if len(domains) > 1 else COLUMN, 1.65 * down + 0.5)
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    kinds = {
        "own": ("this domain's expert", BLUE, "-", 1.6),
        "mixed": ("mixed", BLACK, "--", 1.4),
        "null": ("RL-Null (permuted rewards)", ORANGE, ":", 1.4),
        "other": ("other runs", LIGHT, "-", 0.8),
    }
    seen = set()
    for axes, domain in zip(grid.flat, domains, strict=False):
        for model, rows in frame[frame["domain"] == domain].groupby("model", sort=False):
            kind = (
                "own"
                if model == f"rl-{domain}"
                else "mixed"
                if model_family(model) == "mixed"
                else "null"
                if model == "rl-null"
                else "other"
            )
            _, colour, style, width = kinds[kind]
            rows, order = rows.sort_values("step"), 2 if kind == "other" else 3
            axes.plot(rows["step"], rows["reward"], color=colour, linestyle=style, linewidth=width, zorder=order)
            if is_sampled(rows) and kind != "other":
                axes.fill_between(rows["step"], rows["low"], rows["high"], color=colour, alpha=0.15, linewidth=0)
            seen.add(kind)
        axes.set_title(display_domain(domain))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    for place in range(len(domains), grid.size):
        grid.flat[place].set_axis_off()
        grid.flat[place - across].tick_params(labelbottom=True)
    figure.supxlabel("training step", fontsize=7)
    figure.supylabel("mean selection reward" + count_words(frame), fontsize=7)
    handles = [
        Line2D([], [], color=colour, linestyle=style, linewidth=width, label=name)
        for kind, (name, colour, style, width) in kinds.items()
        if kind in seen
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4 if len(domains) > 1 else 2, frameon=False)
    return figure
