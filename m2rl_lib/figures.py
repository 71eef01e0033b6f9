"""Figures from tidy frames, and nothing else: a `plot_*` takes a frame, returns a Figure, and draws published numbers as it
draws ours (a frame without low and high gets no error bars). One style: 3.4 inches wide, or 7 for grids; told apart by
marker and line before colour, so that it survives greyscale and colour blindness (Okabe–Ito); fonts embedded. `save` writes
png, pdf and the csv that the figure draws, all or none. The same frame gives the same png, byte for byte.
"""

import os
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import seaborn
from IPython.display import Image
from matplotlib import colormaps
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from m2rl_lib.statistics import OVERALL, require_columns
from m2rl_lib.verdicts import display_domain, display_name, model_family

COLUMN, WIDE = 3.4, 7.0  # inches
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.labelsize": 7,
    "axes.titlesize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.4,
    "lines.linewidth": 1.1,
    "lines.markersize": 4,
    "xtick.major.pad": 1,
    "ytick.major.pad": 1,
    "axes.labelpad": 3,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "savefig.dpi": 300,
    "figure.dpi": 150,
}
BLACK, GREY = "#000000", "#777777"
FAMILIES = {  # marker, colour, filled, name in the legend
    "reference": ("o", GREY, False, "before RL, or no RL signal"),
    "expert": ("s", "#0072B2", True, "expert (one domain)"),
    "mixed": ("D", BLACK, True, "mixed"),
    "merged": ("^", "#D55E00", True, "merged"),
    "distilled": ("v", "#009E73", False, "distilled"),
}
LINES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2))]
UNITS = {"prompts": "prompts", "generated_tokens": "generated tokens", "device_seconds": "device-seconds"}


def _canvas(width: float, height: float) -> Figure:
    """An empty figure in the one style, width and height in inches; not known to pyplot, so a notebook shows it once."""
    seaborn.set_theme(style="whitegrid", rc=STYLE)
    return Figure(figsize=(width, height), layout="constrained")


def _sampled(frame: pd.DataFrame) -> bool:
    return {"low", "high"} <= set(frame.columns)


def _counts(frame: pd.DataFrame) -> str:
    """' (95% interval, n = 200 problems)' or what of it the frame can say."""
    words = ["95% interval"] if _sampled(frame) else []
    if "n" in frame and frame["n"].notna().any():
        n = sorted(set(frame["n"].dropna().astype(int)))
        words.append(f"n = {n[0]}" + (f"–{n[-1]}" if len(n) > 1 else "") + " problems")
    if "seeds" in frame and frame["seeds"].notna().any():
        seeds = sorted(set(frame["seeds"].dropna().astype(int)))
        words.append(f"{seeds[0]}" + (f"–{seeds[-1]}" if len(seeds) > 1 else "") + (" seed" if seeds == [1] else " seeds"))
    return f" ({', '.join(words)})" if words else ""


def _labels(models) -> tuple[list[str], float]:
    """Names for an axis, long ones on two lines, and the inches a row needs for them."""
    names = [textwrap.fill(display_name(model), 24) for model in models]
    return names, 0.145 + 0.075 * max(name.count("\n") for name in names)


def _bold(words: str) -> str:
    return "\n".join(" ".join(rf"$\bf{{{word}}}$" for word in line.split()) for line in words.splitlines())


def _points(axes, rows: pd.DataFrame, heights: np.ndarray) -> None:
    """Scores as markers at the given heights, intervals as lines, a family each its marker; a refused score as a note."""
    for (_, row), height in zip(rows.iterrows(), heights, strict=True):
        marker, colour, filled, _ = FAMILIES[model_family(row["model"])]
        if np.isnan(row["score"]):
            axes.annotate(
                "refused", (0.5, height), xycoords=("axes fraction", "data"), ha="center", va="center", fontsize=6, color=GREY
            )
            continue
        if _sampled(rows) and np.isfinite([row["low"], row["high"]]).all():
            axes.plot([row["low"], row["high"]], [height, height], color=colour, linewidth=1)
        axes.plot(row["score"], height, marker, color=colour, markerfacecolor=colour if filled else "white", markersize=3.6)


def _reference_line(axes, rows: pd.DataFrame) -> bool:
    """A dashed line at SFT's score, if the frame has it."""
    sft = rows.loc[rows["model"] == "sft", "score"].dropna()
    for score in sft:
        axes.axvline(score, color=GREY, linestyle="--", linewidth=0.8, zorder=1)
    return len(sft) > 0


def _legend_handles(models, with_line: bool) -> list[Line2D]:
    present = {model_family(model) for model in models}
    handles = [
        Line2D([], [], marker=marker, color=colour, markerfacecolor=colour if filled else "white", linestyle="", label=name)
        for family, (marker, colour, filled, name) in FAMILIES.items()
        if family in present
    ]
    return handles + ([Line2D([], [], color=GREY, linestyle="--", linewidth=0.8, label="score of SFT")] if with_line else [])


def plot_benchmark_scores(frame: pd.DataFrame) -> Figure:
    """Every model on every benchmark, a panel each; a column of panels is a domain, a row of points a model.

    Columns: model, domain, benchmark, score (points) and, where there was sampling, low, high, n, seeds. Models stand in
    the order of the frame, the first on top. Each panel has its own scale. ValueError: no rows, no such column, unknown model.
    """
    require_columns(frame, ["model", "domain", "benchmark", "score"], "benchmark scores")
    models, domains = list(pd.unique(frame["model"])), list(pd.unique(frame["domain"]))
    names, inches = _labels(models)
    panels = {domain: list(pd.unique(frame.loc[frame["domain"] == domain, "benchmark"])) for domain in domains}
    deep = max(len(benchmarks) for benchmarks in panels.values())
    figure = _canvas(WIDE, deep * (inches * len(models) + 0.5) + 0.6)
    grid = figure.subplots(deep, len(domains), squeeze=False, sharey=True)
    heights = pd.Series(np.arange(len(models))[::-1], index=models)
    for column, domain in enumerate(domains):
        for row in range(deep):
            axes = grid[row, column]
            if row >= len(panels[domain]):
                axes.set_axis_off()
                continue
            rows = frame[(frame["domain"] == domain) & (frame["benchmark"] == panels[domain][row])]
            line = _reference_line(axes, rows)
            _points(axes, rows, heights[rows["model"]].to_numpy())
            title = textwrap.fill(panels[domain][row].replace("_", " "), 96 // len(domains))
            title += f"\nn = {int(rows['n'].max())}" if "n" in rows and rows["n"].notna().any() else ""
            axes.set_title(f"{_bold(textwrap.fill(display_domain(domain), 96 // len(domains)))}\n{title}" if row == 0 else title)
            axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
            axes.set_ylim(-0.7, len(models) - 0.3)
            axes.set_yticks(heights, names)
            axes.grid(axis="y", linewidth=0.25)
    figure.supxlabel("score, points" + _counts(frame.drop(columns="n", errors="ignore")), fontsize=7)
    figure.legend(handles=_legend_handles(models, line), loc="outside upper center", ncols=6, frameon=False)
    return figure


def plot_overall(frame: pd.DataFrame) -> Figure:
    """Forest plot: models by their overall score, best on top, SFT's score as a dashed line.

    Columns: model, domain, score and, where there was sampling, low, high, n, seeds; rows of domain 'overall' are drawn.
    """
    require_columns(frame, ["model", "domain", "score"], "average scores")
    rows = frame[frame["domain"] == OVERALL].sort_values("score", kind="stable", na_position="first")
    if rows.empty:
        raise ValueError(f"no row of domain {OVERALL}: there are {', '.join(sorted(set(frame['domain'])))}")
    names, inches = _labels(rows["model"])
    figure = _canvas(COLUMN, inches * len(rows) + 1.1)
    axes = figure.subplots()
    line = _reference_line(axes, rows)
    _points(axes, rows, np.arange(len(rows)))
    axes.set_yticks(np.arange(len(rows)), names)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    figure.supxlabel("mean over domains, points" + _counts(rows).replace(" (", "\n("), fontsize=7)
    axes.grid(axis="y", linewidth=0.25)
    figure.legend(handles=_legend_handles(rows["model"], line), loc="outside upper center", ncols=2, frameon=False)
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
    colours = [BLACK, "#D55E00", "#0072B2", "#009E73", "#CC79A7", GREY]
    figure = _canvas(COLUMN if len(units) == 1 else WIDE, 2.4)
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
                color=colours[place],
                markerfacecolor="white",
                label=display_name(model),
            )
            if _sampled(rows):
                axes.vlines(rows["budget"] + aside, rows["low"], rows["high"], color=colours[place], linewidth=0.8)
        axes.set_xlabel(UNITS[unit])
        axes.set_xlim(left=-0.03 * largest[unit])
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(4))
    grid[0].set_ylabel("mean over domains, points")
    figure.supxlabel(("spent" + _counts(frame)) if _counts(frame) else "", fontsize=7)
    figure.legend(
        *grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=3 if len(units) > 1 else 2, frameon=False
    )
    return figure


def plot_loss(frame: pd.DataFrame) -> Figure:
    """Training loss of one run. Columns: step, loss (mean over the model's own tokens, nats)."""
    require_columns(frame, ["step", "loss"], "training loss")
    figure = _canvas(COLUMN, 2.2)
    axes = figure.subplots()
    axes.plot(frame["step"], frame["loss"], color=BLACK)
    axes.set(xlabel="training step", ylabel="loss, nats a token", ylim=(0, None))
    return figure


def plot_distillation(frame: pd.DataFrame) -> Figure:
    """The student's distance from the teacher of each domain, a line each. Columns: step, domain, kl (nats a token)."""
    require_columns(frame, ["step", "domain", "kl"], "distillation")
    figure = _canvas(COLUMN, 2.4)
    axes = figure.subplots()
    for number, (domain, rows) in enumerate(frame.groupby("domain", sort=False)):
        style = {"linestyle": LINES[number % len(LINES)], "color": seaborn.color_palette("colorblind")[number]}
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
    figure = _canvas(WIDE if len(domains) > 1 else COLUMN, 1.65 * down + 0.5)
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    kinds = {
        "own": ("this domain's expert", "#0072B2", "-", 1.6),
        "mixed": ("mixed", BLACK, "--", 1.4),
        "null": ("RL-Null (permuted rewards)", "#D55E00", ":", 1.4),
        "other": ("other runs", "#AAAAAA", "-", 0.8),
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
            if _sampled(rows) and kind != "other":
                axes.fill_between(rows["step"], rows["low"], rows["high"], color=colour, alpha=0.15, linewidth=0)
            seen.add(kind)
        axes.set_title(display_domain(domain))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    for place in range(len(domains), grid.size):
        grid.flat[place].set_axis_off()
        grid.flat[place - across].tick_params(labelbottom=True)
    figure.supxlabel("training step", fontsize=7)
    figure.supylabel("mean selection reward" + _counts(frame), fontsize=7)
    handles = [
        Line2D([], [], color=colour, linestyle=style, linewidth=width, label=name)
        for kind, (name, colour, style, width) in kinds.items()
        if kind in seen
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4 if len(domains) > 1 else 2, frameon=False)
    return figure


def plot_transfer(frame: pd.DataFrame) -> Figure:
    """What training on one domain does to each: change against SFT in points, with its interval; bold where it excludes 0.

    Columns: model (trained on), domain (tested on), change, and low, high, n where there was sampling; label ('' for none), a
    word to stand under the numbers, if there are verdicts. The sign is printed in every cell, so greyscale loses nothing.
    """
    require_columns(frame, ["model", "domain", "change"], "changes by domain")
    models, domains = list(pd.unique(frame["model"])), list(pd.unique(frame["domain"]))
    figure = _canvas(WIDE, (0.48 if "label" in frame else 0.38) * len(models) + 1.0)
    axes = figure.subplots()
    size = max(float(frame["change"].abs().max()), 1e-9)
    norm, colours = TwoSlopeNorm(0, -size, size), colormaps["PuOr_r"]
    cells = frame.pivot(index="model", columns="domain", values="change").loc[models, domains].to_numpy(dtype=float)
    picture = axes.pcolormesh(cells, cmap=colours, norm=norm, edgecolors="white", linewidth=1)
    for row in frame.itertuples():
        if np.isnan(row.change):
            axes.text(
                domains.index(row.domain) + 0.5, models.index(row.model) + 0.5, "refused", ha="center", va="center", fontsize=6.5
            )
            continue
        red, green, blue, _ = colours(norm(row.change))
        text, sure = f"{row.change:+.1f}", False
        if _sampled(frame):
            span = f"[{row.low:z.1f}, {row.high:z.1f}]" if np.isfinite(row.low) else "[unknown]"
            text, sure = f"{text}\n{span}", row.low > 0 or row.high < 0
        text = text.replace("-", "−") + (
            f"\n{row.label}" if "label" in frame and isinstance(row.label, str) and row.label else ""
        )
        axes.text(
            domains.index(row.domain) + 0.5,
            models.index(row.model) + 0.5,
            text,
            ha="center",
            va="center",
            fontsize=6.5,
            weight="bold" if sure else "normal",
            color="white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else "black",
        )
    axes.set_xticks(np.arange(len(domains)) + 0.5, [display_domain(domain).replace(" ", "\n") for domain in domains])
    axes.set_yticks(np.arange(len(models)) + 0.5, [display_name(model) for model in models])
    axes.invert_yaxis()
    axes.grid(False)
    axes.set_xlabel("tested on" + (_counts(frame) + "; bold: interval excludes 0" if _sampled(frame) else ""))
    axes.set_ylabel("trained as")
    figure.colorbar(picture, ax=axes, label="change against SFT, points", fraction=0.03, pad=0.01)
    return figure


def save(figure: Figure, frame: pd.DataFrame, folder: str | Path, name: str) -> list[Path]:
    """Write `name`.png (300 dpi), .pdf and .csv (the frame it draws) into `folder`; returns the three paths.

    All three are made first and then renamed into place, so a failure leaves the old set whole. ValueError for a name that
    is not lower-case letters, digits and any of _-@=, or a frame without rows.
    """
    if not name or set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789_-@="):
        raise ValueError(f"figure name {name!r}: lower-case letters, digits and any of _-@= are allowed")

    if frame.empty:
        raise ValueError(f"figure {name}: the frame it draws is empty")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    seaborn.set_theme(style="whitegrid", rc=STYLE)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-") as made:
        paths = [Path(made) / f"{name}{ending}" for ending in (".png", ".pdf", ".csv")]
        figure.savefig(paths[0], dpi=300, metadata={"Software": None})
        with PIL.Image.open(paths[0]) as drawn:  # 256 colours: a third of the size, in git and in every notebook
            drawn.convert("RGB").quantize(256, dither=PIL.Image.Dither.NONE).save(paths[0], optimize=True, dpi=(300, 300))
        figure.savefig(paths[1], metadata={"CreationDate": None, "Creator": None, "Producer": None})
        frame.to_csv(paths[2], index=False)
        for path in paths:
            os.replace(path, folder / path.name)
    return [folder / path.name for path in paths]


def show(figure: Figure, frame: pd.DataFrame, folder: str | Path, name: str) -> Image:
    """Save the figure as `save` does, and return its png for a notebook to display: what is seen is what was saved."""
    png = save(figure, frame, folder, name)[0]
    return Image(data=png.read_bytes(), width=round(110 * figure.get_size_inches()[0]))
