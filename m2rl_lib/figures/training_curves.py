"""Figures of training runs: loss, distance from the teachers, reward on selection problems."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from m2rl_lib.figures.parts import count_words, domains_of, finish, handle, unique
from m2rl_lib.figures.style import BLACK, BLUE, COLOURS, COLUMN, GREEN, GREY, LINES, WIDE, make_figure, make_panels
from m2rl_lib.stats.comparisons import display_domain, model_family
from m2rl_lib.stats.graded_samples import require_columns

KINDS = {  # name in the legend, colour, line, width
    "own": ("expert, on its own domain", BLUE, "-", 1.6),
    "other": ("expert, on a domain that it was not trained on", BLUE, (0, (1, 1)), 1.2),
    "mixed": ("mixed", BLACK, "-", 1.4),
    "distilled": ("distilled", GREEN, "-.", 1.4),
    "null": ("RL-Null (permuted rewards)", GREY, ":", 1.4),
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
    measures, domains = unique(frame, "measure"), domains_of(frame)
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
    """Which of `KINDS` a run is on a domain; a further run of an expert ('rl-math@repeat=1') as the expert."""
    kinds = {f"rl-{domain}": "own", "rl-null": "null"}
    family = model_family(model)
    return kinds.get(model.split("@")[0]) or (family if family in KINDS else "other")


def plot_learning_curves(frame: pd.DataFrame) -> Figure:
    """Reward (0 to 1) on the selection split over training, one panel per domain; each line says what kind of run it is there."""
    require_columns(frame, ["model", "step", "domain", "reward", "low", "high"], "learning curves")
    domains, found = domains_of(frame), set()
    wide = len(domains) > 1
    figure, panels = make_panels(WIDE if wide else COLUMN, 1.65, 0.5, len(domains), 3)
    for axes, domain in zip(panels, domains, strict=True):
        for model, rows in frame[frame["domain"] == domain].groupby("model", sort=False):
            kind = _kind(model, domain)
            _, colour, style, width = KINDS[kind]
            rows = rows.sort_values("step")
            axes.plot(rows["step"], rows["reward"], color=colour, linestyle=style, linewidth=width)
            axes.fill_between(rows["step"], rows["low"], rows["high"], color=colour, alpha=0.15, linewidth=0)
            found.add(kind)
        axes.set_title(display_domain(domain))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    looks = [look for kind, look in KINDS.items() if kind in found]
    handles = [handle(name, "", colour, line=style, linewidth=width) for name, colour, style, width in looks]
    return finish(figure, handles, 3 if wide else 1, "training step", "mean selection reward" + count_words(frame))
