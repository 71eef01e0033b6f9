"""Figures from tidy frames, and nothing else: a `plot_*` takes a frame, returns a Figure, and draws published numbers as it
draws ours (a frame without low and high gets no error bars). Here are those of scores, budgets and training runs; those of a
research question are in `figures_*`; how they look is `style`. `save` writes the frame as csv, draws what it reads back from
there, and notes beside it which `plot_*` drew it, so that `redraw` can make the same png again, byte for byte.
"""

import json
import os
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import PIL.Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from m2rl_lib.statistics import OVERALL, require_columns
from m2rl_lib.style import (
    BLACK,
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    LIGHT,
    LINES,
    ORANGE,
    STYLE,
    WIDE,
    count_words,
    draw_points,
    draw_reference,
    embolden,
    family_handles,
    is_sampled,
    make_canvas,
    name_rows,
)
from m2rl_lib.verdicts import display_domain, display_name, model_family

COLOURS = [BLACK, ORANGE, BLUE, GREEN, "#CC79A7", GREY]
LEAST_SPAN = 4  # points that a panel of scores shows: less would make much of nothing
MOST_NARROW = 10  # models that a figure of one column has room for
UNITS = {"prompts": "prompts", "generated_tokens": "generated tokens", "device_seconds": "device-seconds"}


def plot_benchmark_scores(frame: pd.DataFrame) -> Figure:
    """Every model on every benchmark, a panel each; a row of points is a model.

    Columns: model, domain, benchmark, score (points) and, where there was sampling, low, high, n, seeds. Models stand in
    the order of the frame, the first on top. Up to MOST_NARROW models, panels stand three across in one column; more take
    two, a column of panels a domain. Each panel has its own scale. ValueError: no rows, no such column, unknown model.
    """
    require_columns(frame, ["model", "domain", "benchmark", "score"], "benchmark scores")
    models, panels = list(pd.unique(frame["model"])), frame.groupby(["domain", "benchmark"], sort=False)
    names, inches = name_rows(models)
    narrow = len(models) <= MOST_NARROW
    if narrow:
        places = {divmod(number, 3): key for number, key in enumerate(panels.groups)}
    else:
        domains = {domain: list(pd.unique(rows["benchmark"])) for domain, rows in frame.groupby("domain", sort=False)}
        places = {(row, column): (domain, benchmark) for column, (domain, of_it) in enumerate(domains.items())
                  for row, benchmark in enumerate(of_it)}  # fmt: skip
    down, across = 1 + max(row for row, _ in places), 1 + max(column for _, column in places)
    figure = make_canvas(COLUMN if narrow else WIDE, down * (inches * len(models) + (0.62 if narrow else 0.5)) + 0.6)
    heights, letters = pd.Series(np.arange(len(models))[::-1], index=models), 14 if narrow else 96 // across
    for place, axes in np.ndenumerate(figure.subplots(down, across, squeeze=False, sharey=True)):
        if place not in places:
            axes.set_axis_off()
            continue
        domain, benchmark = places[place]
        rows = panels.get_group((domain, benchmark))
        line = draw_reference(axes, rows)
        draw_points(axes, rows, heights[rows["model"]].to_numpy())
        title = textwrap.fill(benchmark.replace("_", " "), letters)
        title += f"\nn = {int(rows['n'].max())}" if "n" in rows and rows["n"].notna().any() else ""
        first = narrow or place[0] == 0
        axes.set_title(f"{embolden(textwrap.fill(display_domain(domain), letters))}\n{title}" if first else title)
        _widen(axes)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.set_ylim(-0.7, len(models) - 0.3)
        axes.set_yticks(heights, names)
        axes.grid(axis="y", linewidth=0.25)
    figure.supxlabel("score, points" + count_words(frame.drop(columns="n", errors="ignore")), fontsize=7)
    handles = family_handles(models, line)
    figure.legend(handles=handles, loc="outside upper center", ncols=2 if narrow else 6, frameon=False)
    return figure


def _widen(axes: Axes) -> None:
    """Room for a whole marker at either end, and at least LEAST_SPAN points from end to end."""
    axes.margins(x=0.1)
    low, high = axes.get_xlim()
    spare = max(LEAST_SPAN - (high - low), 0) / 2
    axes.set_xlim(low - spare, high + spare)


def plot_overall(frame: pd.DataFrame) -> Figure:
    """Forest plot: models by their overall score, best on top, SFT's score as a dashed line.

    Columns: model, domain, score and, where there was sampling, low, high, n, seeds; rows of domain 'overall' are drawn.
    """
    require_columns(frame, ["model", "domain", "score"], "average scores")
    rows = frame[frame["domain"] == OVERALL].sort_values("score", kind="stable", na_position="first")
    if rows.empty:
        raise ValueError(f"no row of domain {OVERALL}: there are {', '.join(sorted(set(frame['domain'])))}")
    names, inches = name_rows(rows["model"])
    figure = make_canvas(COLUMN, inches * len(rows) + 1.1)
    axes = figure.subplots()
    line = draw_reference(axes, rows)
    draw_points(axes, rows, np.arange(len(rows)))
    axes.set_yticks(np.arange(len(rows)), names)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    figure.supxlabel("mean over domains, points" + count_words(rows).replace(" (", "\n("), fontsize=7)
    axes.grid(axis="y", linewidth=0.25)
    figure.legend(handles=family_handles(rows["model"], line), loc="outside upper center", ncols=2, frameon=False)
    return figure


def plot_budget(frame: pd.DataFrame) -> Figure:
    """Score against what was spent, a panel each unit, a line each model (at most six).

    Columns: model, budget, unit ('prompts', 'generated_tokens', 'device_seconds'), score (points), low, high; n if known.
    """
    require_columns(frame, ["model", "budget", "unit", "score"], "scores by budget")
    models, units = list(pd.unique(frame["model"])), list(pd.unique(frame["unit"]))
    if len(models) > len(LINES):
        raise ValueError(f"{len(models)} models in one budget figure: at most {len(LINES)} can be told apart")
    unknown = [unit for unit in units if unit not in UNITS]
    if unknown:
        raise ValueError(f"unknown unit {unknown[0]!r}: allowed are {', '.join(UNITS)}")
    figure = make_canvas(COLUMN if len(units) == 1 else WIDE, 2.4)
    grid, largest = figure.subplots(1, len(units), squeeze=False, sharey=True)[0], frame.groupby("unit")["budget"].max()
    for axes, unit in zip(grid, units, strict=True):
        for place, model in enumerate(models):
            rows = frame[(frame["model"] == model) & (frame["unit"] == unit)].sort_values("budget")
            aside = 0.008 * largest[unit] * (place - (len(models) - 1) / 2)  # so that intervals at one budget stay apart
            axes.plot(
                rows["budget"] + aside,
                rows["score"],
                linestyle=LINES[place],
                marker="Dos^vX"[place],
                color=COLOURS[place],
                markerfacecolor="white",
                label=display_name(model),
            )
            if is_sampled(rows):
                axes.vlines(rows["budget"] + aside, rows["low"], rows["high"], color=COLOURS[place], linewidth=0.8)
        axes.set_xlabel(UNITS[unit])
        axes.set_xlim(left=-0.03 * largest[unit])
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(4))
    grid[0].set_ylabel("mean over domains, points")
    figure.supxlabel(("spent" + count_words(frame)) if count_words(frame) else "", fontsize=7)
    figure.legend(
        *grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=3 if len(units) > 1 else 2, frameon=False
    )
    return figure


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


def read_drawn(csv: str | Path) -> pd.DataFrame:
    """The frame of a saved figure, to the last digit; only an empty cell is missing ('null' is a model's name)."""
    return pd.read_csv(csv, keep_default_na=False, na_values=[""])


def draw(plot: Callable, csv: Path, folder: Path, title: str = "", **keywords) -> list[Path]:
    """Draw `plot` of the frame in a csv file, and write png (300 dpi) and pdf of the same name into `folder`; returns both."""
    figure = plot(read_drawn(csv), **keywords)
    if figure.legends and title:  # legends stand above all panels, where a title of the figure would lie on them
        figure.legends[0].set_title(title, {"weight": "bold", "size": STYLE["figure.titlesize"]})
    elif title:
        figure.suptitle(title)
    png, pdf = (folder / f"{csv.stem}{ending}" for ending in (".png", ".pdf"))
    with matplotlib.rc_context(STYLE):
        figure.savefig(png, dpi=300, metadata={"Software": None})
        figure.set_layout_engine("none")  # laid out already
        figure.savefig(pdf, metadata={"CreationDate": None, "Creator": None, "Producer": None})
    with PIL.Image.open(png) as drawn:  # 256 colours: a third of the size, in git and in every notebook
        drawn.convert("RGB").quantize(256, dither=PIL.Image.Dither.NONE).save(png, optimize=True, dpi=(300, 300))
    return [png, pdf]


def save(plot: Callable, frame: pd.DataFrame, folder: str | Path, name: str, title: str = "", **keywords) -> list[Path]:
    """Draw `plot(frame, **keywords)` and write it as `name`.png, .pdf, .csv (the frame it draws) and .json (what drew it: plot,
    keywords, title) into `folder`; returns the four paths. A title stands above the figure.

    What is drawn is read from the csv. All four are made first and then renamed into place, so a failure leaves the old set
    whole. ValueError: a name other than of lower-case letters, digits and any of _-@=; a frame without rows; no `plot_*`.
    """
    if not name or set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789_-@="):
        raise ValueError(f"figure name {name!r}: lower-case letters, digits and any of _-@= are allowed")
    if not getattr(plot, "__name__", "").startswith("plot_"):
        raise ValueError(
            f"figure {name} is to be drawn by a {type(plot).__name__}: give the plot_* function itself, and its frame"
        )
    if frame.empty:
        raise ValueError(f"figure {name}: the frame it draws is empty")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-") as made:
        csv, record = Path(made) / f"{name}.csv", Path(made) / f"{name}.json"
        frame.to_csv(csv, index=False)
        record.write_text(json.dumps({"plot": f"{plot.__module__}.{plot.__name__}", "keywords": keywords, "title": title}) + "\n")
        paths = [*draw(plot, csv, Path(made), title, **keywords), csv, record]
        for path in paths:
            os.replace(path, folder / path.name)
    return [folder / path.name for path in paths]


def show(plot: Callable, frame: pd.DataFrame, folder: str | Path, name: str, title: str = "", **keywords):
    """Save the figure as `save` does, and return its png for a notebook to display: what is seen is what was saved."""
    from IPython.display import Image  # here: drawing alone needs no notebook

    png = save(plot, frame, folder, name, title, **keywords)[0]
    with PIL.Image.open(png) as drawn:
        return Image(data=png.read_bytes(), width=round(110 * drawn.width / 300))
