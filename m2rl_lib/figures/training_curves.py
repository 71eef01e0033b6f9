"""Figures of training runs: loss, distance from the teachers, reward on selection problems."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from m2rl_lib.figures.parts import count_words, finish, handle, is_sampled, unique
from m2rl_lib.figures.style import BLACK, BLUE, COLOURS, COLUMN, LIGHT, LINES, ORANGE, WIDE, make_figure, make_panels
from m2rl_lib.stats.bootstrap import require_columns
from m2rl_lib.stats.comparisons import display_domain, model_family

KINDS = {  # name in the legend, colour, line, width
    "own": ("this domain's expert", BLUE, "-", 1.6),
    "mixed": ("mixed", BLACK, "--", 1.4),
    "null": ("RL-Null (permuted rewards)", ORANGE, ":", 1.4),
    "other": ("other runs", LIGHT, "-", 0.8),
}


def plot_loss(frame: pd.DataFrame) -> Figure:
    """Training loss of one run, nats a token."""
    require_columns(frame, ["step", "loss"], "training loss")
    figure, axes = make_figure(COLUMN, 2.2)
    axes.plot(frame["step"], frame["loss"], color=BLACK)
    axes.set(xlabel="training step", ylabel="loss, nats a token", ylim=(0, None))
    return figure


def plot_distillation(frame: pd.DataFrame) -> Figure:
    """The student's KL from the teacher of each domain, nats a token."""
    require_columns(frame, ["step", "domain", "kl"], "distillation")
    figure, axes = make_figure(COLUMN, 2.4)
    for number, (domain, rows) in enumerate(frame.groupby("domain", sort=False)):
        style = {"linestyle": LINES[number % len(LINES)], "color": COLOURS[number % len(COLOURS)]}
        axes.plot(rows["step"], rows["kl"], label=display_domain(domain), **style)
    axes.set(xlabel="training step", ylabel="KL(student ‖ its teacher), nats a token", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def plot_domains(frame: pd.DataFrame) -> Figure:
    """Numbers of a training run by domain, one panel per measure, one line per domain."""
    require_columns(frame, ["step", "domain", "measure", "value"], "parts of a run")
    measures, domains = unique(frame, "measure"), unique(frame, "domain")
    figure, grid = make_figure(WIDE, 1.6 * -(-len(measures) // 3) + 0.5, -(-len(measures) // 3), 3, sharex=True)
    looks = {domain: (COLOURS[place % len(COLOURS)], LINES[place % len(LINES)]) for place, domain in enumerate(domains)}
    for axes, measure in zip(grid.flat, measures, strict=False):
        for domain, rows in frame[frame["measure"] == measure].groupby("domain", sort=False):
            colour, line = looks[domain]
            axes.plot(rows["step"], rows["value"], color=colour, linestyle=line)
        axes.set(title=measure.capitalize(), ylim=(0, 1) if "share" in measure else (0, None))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    for axes in grid.flat[len(measures) :]:
        axes.set_axis_off()
    handles = [handle(display_domain(domain), "", colour, line=line) for domain, (colour, line) in looks.items()]
    return finish(figure, handles, len(domains), "training step")


def _kind(model: str, domain: str) -> str:
    kinds = {f"rl-{domain}": "own", "rl-null": "null"}
    return kinds.get(model) or ("mixed" if model_family(model) == "mixed" else "other")


def plot_learning_curves(frame: pd.DataFrame) -> Figure:
    """Reward (0 to 1) on the selection split over training, one panel per domain: its expert, the mixed run, the rest in grey."""
    require_columns(frame, ["model", "step", "domain", "reward"], "learning curves")
    domains, found = unique(frame, "domain"), set()
    wide = len(domains) > 1
    figure, panels = make_panels(WIDE if wide else COLUMN, 1.65, 0.5, len(domains), 3)
    for axes, domain in zip(panels, domains, strict=True):
        for model, rows in frame[frame["domain"] == domain].groupby("model", sort=False):
            kind = _kind(model, domain)
            _, colour, style, width = KINDS[kind]
            rows, order = rows.sort_values("step"), 2 if kind == "other" else 3
            axes.plot(rows["step"], rows["reward"], color=colour, linestyle=style, linewidth=width, zorder=order)
            if is_sampled(rows) and kind != "other":
                axes.fill_between(rows["step"], rows["low"], rows["high"], color=colour, alpha=0.15, linewidth=0)
            found.add(kind)
        axes.set_title(display_domain(domain))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    looks = [look for kind, look in KINDS.items() if kind in found]
    handles = [handle(name, "", colour, line=style, linewidth=width) for name, colour, style, width in looks]
    return finish(figure, handles, 4 if wide else 2, "training step", "mean selection reward" + count_words(frame))
