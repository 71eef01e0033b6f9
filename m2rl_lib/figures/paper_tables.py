"""Figures of the paper's tables: changes against SFT beside ours, costs, merges of pairs, overlap of masks, judging, SFT corpus."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from m2rl_lib.figures.parts import count_words, draw_estimate, finish, handle, is_sampled, name_heights, name_rows, unique
from m2rl_lib.figures.style import BLACK, COLUMN, FAMILIES, FILLED, GREY, make_figure, make_panels
from m2rl_lib.stats.bootstrap import OVERALL
from m2rl_lib.stats.comparisons import display_domain, display_name, model_family
from m2rl_lib.stats.graded_samples import require_columns

PARADIGMS = {"mixed": "Mixed", "merged": "Experts, merged", "distilled": "Experts, distilled"}
OVERHEAD = ("making the merges", "choosing a merge", "choosing a checkpoint")  # parts of a cost that are no model
FIXED = ["rl-multi", "mt-opd", *OVERHEAD]  # these have the first fills, experts the others, so that both figures agree
FILLS = [("#444444", ""), ("#FFFFFF", "----"), ("#BBBBBB", "||||"), ("#FFFFFF", "++++"), ("#999999", "oo"),
         ("#FFFFFF", "////"), ("#777777", ""), ("#DDDDDD", "...."), ("#FFFFFF", "\\\\\\\\"), ("#AAAAAA", "xxxx")]  # fmt: skip


def plot_changes(frame: pd.DataFrame) -> Figure:
    """Change against SFT by model (row) and domain (panel), first the mean over `domains` domains, on one axis: the paper's open,
    ours (`source`) filled with its interval."""
    require_columns(frame, ["source", "model", "domain", "change", "low", "high", "domains"], "changes against SFT")
    models, names = unique(frame[frame["source"] == "ours"], "model"), unique(frame, "domain")
    labels, inches = name_rows(models)
    figure, panels = make_panels(COLUMN, max(0.2, inches) * len(models) + 0.25, 0.85, len(names), min(2, len(names)))
    for axes, domain in zip(panels, names, strict=True):
        axes.axvline(0, color=GREY, linestyle="--", linewidth=0.8, zorder=1)
        for row in frame[frame["domain"] == domain].itertuples():
            ours, (marker, colour) = row.source == "ours", FAMILIES[model_family(row.model)][:2]
            height = len(models) - 1 - models.index(row.model) + (-0.17 if ours else 0.17)
            draw_estimate(axes, row, row.change, height, marker, colour, ours)
        axes.set_title(f"Mean of {frame['domains'].max()} domains" if domain == OVERALL else display_domain(domain))
        name_heights(axes, np.arange(len(models))[::-1], labels, -0.6, len(models) - 0.4)
    handles = [handle("published", "o", BLACK, False), handle("ours", "o", BLACK)]
    handles += [handle(FAMILIES[name][3], *FAMILIES[name][:2]) for name in dict.fromkeys(map(model_family, models))]
    return finish(figure, handles, 2, "change against SFT, points" + count_words(frame.drop(columns="n"), before="\n"))


def plot_costs(frame: pd.DataFrame) -> Figure:
    """What each paradigm spent, stacked by part (a model, or OVERHEAD), its sum, and that as a share of the merged one's."""
    require_columns(frame, ["paradigm", "part", "spent", "unit"], "costs")
    unknown = sorted(set(frame["paradigm"]) - set(PARADIGMS))
    if unknown or frame["unit"].nunique() > 1:
        raise ValueError(f"costs of paradigm {unknown or 'in several units'}: allowed are {', '.join(PARADIGMS)}, in one unit")
    parts = unique(frame, "part")
    totals = frame.groupby("paradigm")["spent"].sum().reindex([name for name in PARADIGMS if name in set(frame["paradigm"])])
    figure, axes = make_figure(COLUMN, 0.3 * len(totals) + 0.14 * -(-len(parts) // 3) + 0.7)
    whole = totals.get("merged", 0) or totals.max() or 1.0  # the axis is in percent of it, so that published and ours share one
    left = pd.Series(0.0, totals.index)
    experts = [part for part in parts if part not in FIXED]
    for part in parts:
        colour, hatch = FILLS[(FIXED.index(part) if part in FIXED else len(FIXED) + experts.index(part)) % len(FILLS)]
        rows = frame[frame["part"] == part].groupby("paradigm")["spent"].sum().reindex(totals.index, fill_value=0)
        rows = 100 * rows / whole
        look = {"color": colour, "hatch": hatch, "edgecolor": BLACK, "linewidth": 0.5}
        axes.barh(-np.arange(len(totals)), rows, 0.6, left, **look, label=part if part in OVERHEAD else display_name(part))
        left += rows
    for place, (paradigm, total) in enumerate(totals.items()):
        share = f" ({total / whole:.1%})" if paradigm != "merged" and totals.get("merged", 0) > 0 else ""
        at = {"xytext": (3, 0), "textcoords": "offset points", "va": "center", "fontsize": 7}
        axes.annotate(f"{total:,.0f}{share}", (100 * total / whole, -place), **at)
    axes.set_yticks(-np.arange(len(totals)), [PARADIGMS[name] for name in totals.index])
    axes.grid(axis="y", visible=False)
    runs = int(frame["seeds"].max()) if "seeds" in frame else 1
    counted = "one run each" if runs == 1 else f"mean of {runs} seeds"
    words = f"percent of what the merged experts took\n(numbers: {frame['unit'].iloc[0]}, {counted})"
    axes.set(xlim=(0, 1.5 * max(115, 100 * totals.max() / whole)), xlabel=words)
    return finish(figure, axes.get_legend_handles_labels()[0], 3, handlelength=1.2, columnspacing=0.7)


def plot_pair_changes(frame: pd.DataFrame) -> Figure:
    """Change of a benchmark's score when the domain's expert is averaged with `added` (a domain; 'sft', 'null': open markers)."""
    require_columns(frame, ["target", "added", "benchmark", "estimate"], "merges of pairs")
    labels = {"sft": "SFT", "null": "RL-Null"}
    figure, axes = make_figure(COLUMN, 0.17 * len(frame) + 0.75)
    names = []
    for height, row in zip(-np.arange(len(frame)), frame.itertuples()):
        look = ("o", GREY, False) if row.added in labels else ("D", BLACK, True)
        draw_estimate(axes, row, row.estimate, height, *look)
        added = labels.get(row.added) or display_domain(row.added)
        names.append(f"{row.benchmark.replace('_', ' ')}: {display_domain(row.target)} + {added}")
    axes.axvline(0, color=GREY, linestyle="--", linewidth=0.8, zorder=1)
    name_heights(axes, -np.arange(len(frame)), names, 0.6 - len(frame), 0.6)
    axes.margins(x=0.1)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    figure.supxlabel("change against the expert alone, points" + count_words(frame, before="\n"))
    return figure


def plot_overlap(frame: pd.DataFrame) -> Figure:
    """Overlap of two experts' changed weights, one row per pair ('math-coding'), one panel per mask; open: independent masks."""
    require_columns(frame, ["pair", "mask", "jaccard", "independent", "note"], "overlap of masks")
    masks = [frame[frame["mask"] == mask] for mask in pd.unique(frame["mask"])]
    size = (COLUMN, sum(0.15 * len(rows) + 0.35 for rows in masks) + 0.6)
    figure, grid = make_figure(*size, len(masks), 1, sharex=True, height_ratios=[len(rows) + 1 for rows in masks])
    for axes, rows in zip(grid[:, 0], masks, strict=True):
        heights = -np.arange(len(rows))
        axes.hlines(heights, rows["independent"], rows["jaccard"], color=GREY, linewidth=0.8)
        axes.plot(rows["independent"], heights, "o", color=GREY, markerfacecolor="white", markersize=6)  # shows around a diamond
        axes.plot(rows["jaccard"], heights, "D", color=BLACK, markersize=3.6)
        for height, row in zip(heights, rows.itertuples()):
            if isinstance(row.note, str) and row.note:
                axes.annotate(row.note, (row.jaccard, height), (5, 0), textcoords="offset points", va="center", fontsize=7)
        names = [" and ".join(display_domain(part) for part in pair.split("-")) for pair in rows["pair"]]
        name_heights(axes, heights, names, 0.6 - len(rows), 0.6)
        axes.set_title(rows["mask"].iloc[0])
    axes.set_xlim(0, 1.02)
    handles = [handle("two experts", "D", BLACK, markersize=3.6), handle("independent masks", "o", GREY, False)]
    return finish(figure, handles, 2, "overlap of changed weights (Jaccard)")


def plot_judging(frame: pd.DataFrame) -> Figure:
    """Accuracy of models as judges, percent: the model's marker, open by outcome, filled by process, on one axis for all tables."""
    require_columns(frame, ["model", "mode", "benchmark", "accuracy"], "judging")
    unknown = sorted(set(frame["mode"]) - set(FILLED))
    if unknown:
        raise ValueError(f"judging in mode {unknown[0]!r}: allowed are {', '.join(FILLED)}")
    keys = list(frame[["model", "benchmark"]].drop_duplicates().itertuples(index=False, name=None))
    figure, axes = make_figure(COLUMN, 0.19 * len(keys) + 0.85)
    for row in frame.itertuples():
        height = -keys.index((row.model, row.benchmark)) + (0.16 if row.mode == "outcome" else -0.16) * is_sampled(frame)
        marker, colour = FAMILIES[model_family(row.model)][:2]
        draw_estimate(axes, row, row.accuracy, height, marker, colour, FILLED[row.mode], size=3.8)
    names = [f"{display_name(model)}: {name.replace('_', ' ')}" for model, name in keys]
    name_heights(axes, -np.arange(len(keys)), names, 0.6 - len(keys), 0.6)
    axes.set_xlim(0, 100)
    handles = [handle(f"by {mode}", "o", BLACK, filled) for mode, filled in FILLED.items()]
    return finish(figure, handles, 2, "accuracy as a judge, percent" + count_words(frame, "trajectories", "\n"))


def plot_blend(frame: pd.DataFrame) -> Figure:
    """The parts of an SFT corpus, largest first, as shares of its samples."""
    require_columns(frame, ["part", "samples"], "SFT corpus")
    rows = frame.sort_values("samples", kind="stable")
    share, total = 100 * rows["samples"] / rows["samples"].sum(), rows["samples"].sum()
    thousands = EngFormatter(places=1, sep="")
    figure, axes = make_figure(COLUMN, 0.19 * len(rows) + 0.5)
    axes.barh(range(len(rows)), share, 0.65, color=GREY)
    axes.set_yticks(range(len(rows)), rows["part"])
    for place, (percent, samples) in enumerate(zip(share, rows["samples"])):
        words = f"{percent:.1f}% ({thousands(samples)})"
        axes.annotate(words, (percent, place), (2, 0), textcoords="offset points", va="center", fontsize=7)
    axes.grid(axis="y", visible=False)
    axes.set(xlim=(0, 1.5 * share.max()), xlabel=f"share of the {thousands(total)} samples, percent")
    return figure
