"""Figures of RQ1: the difference of mixing and merging, every model on every benchmark, scores against temperature and cost."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, MaxNLocator

from m2rl_lib.figures import parts
from m2rl_lib.figures.parts import count_words, domains_of, finish, handle, unique
from m2rl_lib.figures.style import BLACK, COLUMN, FAMILIES, GREY, LINES, WIDE, make_figure, make_panels
from m2rl_lib.stats.bootstrap import OVERALL
from m2rl_lib.stats.comparisons import display_domain, display_name, model_family
from m2rl_lib.stats.graded_samples import require_columns
from m2rl_lib.stats.three_scores import SCORES

MOST_NARROW = 10  # models that a figure of one column has room for
UNITS = {"prompts": "prompts", "generated_tokens": "generated tokens", "device_seconds": "device-seconds"}
MARKS = (("greedy", "|"), ("pass@K", "x"))  # columns of the overall figure beside Avg@K, and their markers
LEAST_SPAN = 4  # points that a panel of scores shows: less would make much of nothing


def plot_difference(frame: pd.DataFrame) -> Figure:
    """The paired difference model − reference under each score, in points: all seeds (`seed` is null) with 90% and 95% intervals,
    each seed a tick below; grey: within ±`margin`."""
    require_columns(frame, ["score", "seed", "model", "reference", "estimate", "low", "high", "margin", "verdict"], "differences")
    pooled, by_seed, margin = frame[frame["seed"].isna()], frame[frame["seed"].notna()], frame["margin"].iloc[0]
    several = by_seed["seed"].nunique() > 1
    figure, axes = make_figure(COLUMN, (0.5 if several else 0.38) * len(pooled) + 1.35)
    axes.axvspan(-margin, margin, color="#E8E8E8", linewidth=0, zorder=0)
    axes.axvline(0, color=BLACK, linewidth=0.8)
    for place, (_, row) in enumerate(pooled.iterrows()):
        axes.plot([row["low90"], row["high90"]], [-place, -place], color=BLACK, linewidth=2.4)
        parts.draw_estimate(axes, row, row["estimate"], -place, "o", BLACK, True, 5)
        seeds = by_seed.loc[by_seed["score"] == row["score"], "estimate"]
        if several:
            axes.plot(seeds, [-place - 0.35] * len(seeds), "|", color=GREY, markersize=6, markeredgewidth=1.2)
    said = {"better": "mixing better", "worse": "merging better"}
    names = [
        f"{SCORES[row.score]}\n{row.estimate:+.1f}: {_embolden(said.get(row.verdict, row.verdict))}".replace("-", "−")
        for row in pooled.itertuples()
    ]
    parts.name_heights(axes, -np.arange(len(pooled)), names, -len(pooled) + 0.35, 0.5)
    axes.grid(False, axis="y")
    reach = max(1.15 * float(np.nanmax(np.abs(frame[["estimate", "low", "high"]].to_numpy()))), 1.5 * margin)
    axes.set_xlim(-reach, reach)
    model, reference = (display_name(frame[column].iloc[0]) for column in ("model", "reference"))
    whole = "all seeds" if several else "difference"
    handles = [handle(f"{whole}; 90% interval thick, 95% thin", "o", BLACK, line="-")]
    handles += [handle("one seed", "|", GREY, markersize=6, markeredgewidth=1.2)] if several else []
    handles.append(Patch(color="#E8E8E8", label=f"equivalence zone, ±{margin:g} points"))
    counted = parts.size_words(pooled)
    return finish(figure, handles, 1, f"← merging better      mixing better →\n{model} − {reference}, points{counted}")


def plot_temperature(frame: pd.DataFrame) -> Figure:
    """Score against sampling temperature, a panel per `split`: SFT on selection problems; models greedily and at T = 1 on test."""
    require_columns(frame, ["split", "model", "temperature", "score", "low", "high"], "scores by temperature")
    splits, models = unique(frame, "split"), unique(frame, "model")
    figure, [grid] = make_figure(WIDE if len(splits) > 1 else COLUMN, 2.5, 1, len(splits), sharey=True)
    looks = parts.line_looks(models)
    for axes, split in zip(np.atleast_1d(grid), splits, strict=True):
        for place, (model, rows) in enumerate(frame[frame["split"] == split].groupby("model", sort=False)):
            rows, aside = rows.sort_values("temperature"), 0.012 * place
            axes.plot(rows["temperature"] + aside, rows["score"], **looks[model])
            axes.vlines(rows["temperature"] + aside, rows["low"], rows["high"], color=looks[model]["color"], linewidth=0.8)
        axes.set(title=f"{split.capitalize()} problems", xlim=(-0.08, None))
    handles = [Line2D([], [], label=display_name(model), **look) for model, look in looks.items()]
    words = "sampling temperature (0: greedy)" + count_words(frame)
    return finish(figure, handles, min(len(handles), 5), words, "mean over domains, points")


def plot_lengths(frame: pd.DataFrame) -> Figure:
    """Mean length of completions over the steps of each RL run, in tokens: a panel per run, a thin line per seed, their mean."""
    require_columns(frame, ["model", "seed", "step", "tokens"], "lengths in training")
    models = unique(frame, "model")
    figure, panels = make_panels(WIDE, 1.25, 0.35, len(models), 4)
    for axes, model in zip(panels, models, strict=True):
        rows, colour = frame[frame["model"] == model], FAMILIES[model_family(model)][1]
        seeds = rows.pivot(index="step", columns="seed", values="tokens")
        if seeds.shape[1] > 1:
            axes.plot(seeds.index, seeds, color=colour, linewidth=0.5, alpha=0.5)
        axes.plot(seeds.index, seeds.mean(axis=1), color=colour, linewidth=1.6)
        axes.set_title(display_name(model))
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    panels[0].set_ylim(0, None)
    figure.supxlabel("training step" + ("; thin: one seed" if frame["seed"].nunique() > 1 else ""))
    figure.supylabel("tokens of a completion")
    return figure


def plot_benchmark_scores(frame: pd.DataFrame) -> Figure:
    """Every model on every benchmark, one panel each; above MOST_NARROW two columns wide, a column of panels per domain."""
    require_columns(frame, ["model", "domain", "benchmark", "score"], "benchmark scores")
    frame = frame.sort_values("domain", kind="stable", key=pd.Index(domains_of(frame)).get_indexer)
    models, panels = unique(frame, "model"), frame.groupby(["domain", "benchmark"], sort=False)
    names, inches = parts.name_rows(models)
    narrow = len(models) <= MOST_NARROW
    if narrow:
        places = {divmod(number, 2): key for number, key in enumerate(panels.groups)}
    else:
        columns = enumerate(frame.groupby("domain", sort=False)["benchmark"].unique().items())
        places = {(row, column): (domain, name) for column, (domain, of_it) in columns for row, name in enumerate(of_it)}
    down, across = 1 + np.max(list(places), axis=0)
    size = (COLUMN if narrow else WIDE, down * (inches * len(models) + (0.62 if narrow else 0.5)) + 0.6)
    figure, grid = make_figure(*size, down, across, sharey=True)
    heights, letters = pd.Series(np.arange(len(models))[::-1], index=models), 22 if narrow else 96 // across
    for place, axes in np.ndenumerate(grid):
        if place not in places:
            axes.set_axis_off()
            continue
        domain, benchmark = places[place]
        rows = panels.get_group((domain, benchmark))
        line = parts.draw_reference(axes, rows)
        parts.draw_points(axes, rows, heights[rows["model"]])
        title = textwrap.fill(benchmark.replace("_", " "), letters)
        title += f"\nn = {int(rows['n'].max())}" if "n" in rows and rows["n"].notna().any() else ""
        first = narrow or place[0] == 0
        axes.set_title(f"{_embolden(textwrap.fill(display_domain(domain), letters))}\n{title}" if first else title)
        axes.margins(x=0.1)  # a whole marker at either end
        low, high = axes.get_xlim()
        spare = max(LEAST_SPAN - (high - low), 0) / 2
        axes.set_xlim(low - spare, high + spare)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        parts.name_heights(axes, heights, names, -0.7, len(models) - 0.3)
    words = "score, points" + count_words(frame.drop(columns="n", errors="ignore"))
    return finish(figure, parts.family_handles(models, line), 2 if narrow else 6, words)


def _embolden(words: str) -> str:
    """The words in bold, within a text that is not."""
    return "\n".join(" ".join(rf"$\bf{{{word}}}$" for word in line.split()) for line in words.splitlines())


def plot_overall(frame: pd.DataFrame) -> Figure:
    """Models by their score in the rows of 'overall', best on top; dashed: SFT; the scores of MARKS beside it where known."""
    require_columns(frame, ["model", "domain", "score"], "average scores")
    rows = frame[frame["domain"] == OVERALL]
    if rows.empty:
        raise ValueError(f"no row of domain {OVERALL}: there are {', '.join(sorted(set(frame['domain'])))}")
    marks = [mark for mark in MARKS if mark[0] in rows]
    return parts.make_forest(rows, ("Avg@K, " if marks else "") + "mean over domains, points", marks=marks)


def plot_budget(frame: pd.DataFrame) -> Figure:
    """Score against what was spent, one panel per unit, one line per model (at most six)."""
    require_columns(frame, ["model", "budget", "unit", "score", "low", "high"], "scores by budget")
    models, units = unique(frame, "model"), unique(frame, "unit")
    if len(models) > len(LINES):
        raise ValueError(f"{len(models)} models in one budget figure: at most {len(LINES)} can be distinguished")
    if unknown := [unit for unit in units if unit not in UNITS]:
        raise ValueError(f"unknown unit {unknown[0]!r}: allowed are {', '.join(UNITS)}")
    figure, [grid] = make_figure(COLUMN if len(units) == 1 else WIDE, 2.4, 1, len(units), sharey=True)
    looks = parts.line_looks(models)
    for axes, unit in zip(grid, units, strict=True):
        spent = frame[frame["unit"] == unit]
        largest = spent["budget"].max()
        for place, (model, look) in enumerate(looks.items()):
            rows = spent[spent["model"] == model].sort_values("budget")
            aside = 0.008 * largest * (place - (len(models) - 1) / 2)  # intervals at one budget side by side
            axes.plot(rows["budget"] + aside, rows["score"], label=display_name(model), **look)
            axes.vlines(rows["budget"] + aside, rows["low"], rows["high"], color=look["color"], linewidth=0.8)
        axes.set(xlabel=UNITS[unit], xlim=(-0.03 * largest, None))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(4))
    grid[0].set_ylabel("mean over domains, points")
    return finish(figure, grid[0].get_legend_handles_labels()[0], 3 if len(units) > 1 else 2, "spent" + count_words(frame))
