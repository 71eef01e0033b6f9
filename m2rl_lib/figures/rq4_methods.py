"""RQ4's figures: the answer, places of methods, recovery, skills. Sweeps are in `rq4_sweeps`."""

import re
import textwrap

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from m2rl_lib.figures import parts
from m2rl_lib.figures.parts import finish, handle, unique
from m2rl_lib.figures.style import BLACK, COLUMN, GREY, LIGHT, WIDE, make_figure
from m2rl_lib.stats.bootstrap import OVERALL
from m2rl_lib.stats.comparisons import display_domain, display_name
from m2rl_lib.stats.graded_samples import require_columns

FURTHEST = 10  # points behind the best, from which a cell has the darkest shade
MEASURES = {"consistency": "cosine with the experts' union, within ±1", "excess": "excess over the union, points"}
MEASURES |= {"shortfall": "shortfall to the union, points"}


def plot_answer(frame: pd.DataFrame) -> Figure:
    """RQ4 at once. Panel 'means': each method's mean `value` and 95% interval, and on how many benchmarks it is the best (`best`);
    a mean below half of the highest is written at the edge, for it would squeeze the others.
    Panel 'gain': what choosing by benchmark gains (`value`), and `low` to `high`, what luck gives among equal methods."""
    require_columns(frame, ["panel", "row", "value", "low", "high", "best", "benchmarks"], "answer to RQ4")
    means, gains = (frame[frame["panel"] == name] for name in ("means", "gain"))
    size = (COLUMN, 0.17 * len(means) + 0.22 * len(gains) + 1.8)
    figure, ((above,), (below,)) = make_figure(*size, 2, 1, height_ratios=[len(means) + 1, 1.3 * len(gains) + 1])
    means = means.sort_values("value", kind="stable", na_position="first").rename(columns={"row": "model", "value": "score"})
    far = (means["score"] < means["score"].max() / 2).to_numpy()
    parts.draw_points(above, means[~far], np.flatnonzero(~far))
    for height, row in zip(np.flatnonzero(far), means[far].itertuples(), strict=True):
        above.annotate(f"← {row.score:.1f}", (0.02, height), xycoords=("axes fraction", "data"), va="center")
    for height, row in enumerate(means.itertuples()):
        above.annotate(f"{row.best:.2g}", (1.02, height), xycoords=("axes fraction", "data"), va="center", annotation_clip=False)
    above.annotate("best on", (1.02, len(means) - 0.2), xycoords=("axes fraction", "data"), annotation_clip=False)
    parts.name_heights(above, range(len(means)), parts.name_rows(means["model"])[0], -0.7, len(means) - 0.3)
    above.set_title("Is one method best?", loc="left", weight="bold")
    above.set_xlabel("mean over domains, points" + parts.count_words(means, before="\n"))
    for height, row in enumerate(gains.itertuples()):
        below.plot([row.low, row.high], [-height, -height], color=LIGHT, linewidth=6, solid_capstyle="butt")
        below.plot(row.value, -height, "D", color=BLACK, markersize=4.5)
    below.axvline(0, color=GREY, linewidth=0.8, zorder=1)
    parts.name_heights(below, -np.arange(len(gains)), list(gains["row"]), -len(gains) + 0.4, 0.6)
    below.set_title("Or a seesaw?", loc="left", weight="bold")
    below.set_xlabel("gain of the best method for each benchmark, points")
    handles = [handle("measured", "D", BLACK), handle("luck among equal methods, 95%", "", LIGHT, line="-", linewidth=6)]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _narrow(name: str) -> str:
    """A benchmark's name on lines of about ten letters: 'LiveCodeBench v5' → 'LiveCode-', 'Bench v5'; 'instruc-', 'tions'."""
    name = name.replace("_", " ")
    if max(map(len, name.split())) > 12:
        name = re.sub(r"^(.*[a-z])([A-Z][a-z]+)", r"\1-\2", name)
    name = re.sub(r"\b([a-z]{7})([a-z]{5,})", r"\1-\2", name)
    return textwrap.fill(name, 11)


def plot_methods(frame: pd.DataFrame) -> Figure:
    """Methods × benchmarks: the score, the darker the further behind the best of its column; place NaN: does not compete."""
    require_columns(frame, ["model", "domain", "benchmark", "score", "place"], "places of methods")
    models, benchmarks = unique(frame, "model"), unique(frame, "benchmark")
    names, inches = parts.name_rows(models)
    figure, axes = make_figure(WIDE, max(inches, 0.2) * len(models) + 1.1)
    shades, best = colormaps["Blues"], frame[frame["place"] == 1].groupby("benchmark")["score"].max()
    frames = {1: "-", 2: ":"}
    for row in frame.itertuples():
        x, y = benchmarks.index(row.benchmark), models.index(row.model)
        competes = not np.isnan(row.place)
        behind = min((best[row.benchmark] - row.score) / FURTHEST, 1) * 0.5 if competes else 0
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=shades(behind) if competes else "white", edgecolor="white"))
        axes.text(x + 0.5, y + 0.5, f"{row.score:.1f}", ha="center", va="center", fontsize=7,
                  weight="bold" if row.place == 1 else "normal", color="black" if competes else "#555555")  # fmt: skip
        if row.place in frames:
            axes.add_patch(Rectangle((x + 0.05, y + 0.07), 0.9, 0.86, fill=False, edgecolor=BLACK, linewidth=0.9,
                                     linestyle=frames[row.place]))  # fmt: skip
    axes.set(xlim=(0, len(benchmarks)), ylim=(len(models), 0), xlabel="score, points" + parts.size_words(frame))
    axes.set_xticks(np.arange(len(benchmarks)) + 0.5, [_narrow(benchmark) for benchmark in benchmarks])
    axes.set_yticks(np.arange(len(models)) + 0.5, names)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(False)
    words = {"-": "best", ":": "second best"}
    handles = [Patch(fill=False, edgecolor=BLACK, linestyle=style, label=label) for style, label in words.items()]
    return finish(figure, [*handles, Patch(facecolor=shades(0.5), label=f"{FURTHEST} points or more behind the best")], 3)


def plot_upset(frame: pd.DataFrame) -> Figure:
    """Which models solve which problems: a column is a set of models (filled dots), its bar how many just these solve."""
    require_columns(frame, ["set", "problems", "model", "solves", "n", "k"], "sets of solved problems")
    models, sets = unique(frame, "model"), frame.drop_duplicates("set").sort_values("set")
    names, inches = parts.name_rows(models)
    ratios = [1.2, inches * len(models)]
    figure, ((bars,), (dots,)) = make_figure(WIDE, 1.5 + inches * len(models), 2, 1, sharex=True, height_ratios=ratios)
    bars.bar(sets["set"], sets["problems"], width=0.6, color=GREY)
    for place, count in zip(sets["set"], sets["problems"], strict=True):
        bars.text(place, count, f"{count}", ha="center", va="bottom", fontsize=7)
    bars.set(ylim=(0, 1.12 * sets["problems"].max()), ylabel="problems")
    bars.grid(axis="x", visible=False)
    height = frame["model"].map({model: -place for place, model in enumerate(models)})
    for solves, colour in ((False, "#DDDDDD"), (True, BLACK)):
        some = frame["solves"] == solves
        dots.plot(frame.loc[some, "set"], height[some], "o", color=colour, markersize=4)
    dots.set_yticks(-np.arange(len(models)), names)
    dots.set(ylim=(-len(models) + 0.4, 0.6), xticks=[], xlim=(0.4, max(len(sets), 8) + 0.6))
    dots.grid(axis="x", visible=False)
    shown, n, k = int(sets["problems"].sum()), int(frame["n"].iloc[0]), int(frame["k"].iloc[0])
    counts = f"({shown} of {n} problems; solved: over half of {k} samples right)"
    dots.set_xlabel(f"sets of models that solve the same problems {counts}")
    return figure


def plot_recovery(frame: pd.DataFrame) -> Figure:
    """Share of the SFT→routed gap that each model closes; 0 is SFT, 1 every benchmark by its own expert; NaN: refused."""
    require_columns(frame, ["model", "recovery", "low", "high"], "recovery")
    rows = frame.assign(score=100 * frame["recovery"], low=100 * frame["low"], high=100 * frame["high"])
    words = "recovered of the gap from SFT (dashed)\nto routed experts (solid), percent"
    return parts.make_forest(rows, words, {0: "--", 100: "-"})


def plot_coverage(frame: pd.DataFrame) -> Figure:
    """pass@k over k, a panel for each of `over`, one line per model: its family's marker, and a style of its own in the family."""
    require_columns(frame, ["over", "model", "k", "score"], "coverage")
    models, overs, ks = unique(frame, "model"), unique(frame, "over"), sorted(set(frame["k"]))
    figure, [grid] = make_figure(WIDE, 2.6, 1, len(overs), sharey=True)
    for axes, over in zip(grid, overs, strict=True):
        part = frame[frame["over"] == over]
        for model, look in parts.line_looks(models).items():
            rows = part[part["model"] == model].sort_values("k")
            axes.plot(rows["k"], rows["score"], label=display_name(model), **look)
        axes.set(xscale="log", xlabel="k" + parts.size_words(part))
        axes.set_title("Mean over domains" if over == OVERALL else display_domain(over))
        axes.set_xticks(ks, ks)
        axes.minorticks_off()
    grid[0].set_ylabel("pass@k, points")
    figure.legend(handles=grid[0].get_lines(), loc="outside right center", frameon=False, handlelength=3)
    return figure


def plot_skills(frame: pd.DataFrame) -> Figure:
    """Consistency with the experts' union (naive and unbiased; what noise carries beyond ±1 is drawn there), excess over it and
    shortfall. NaN: undefined; a model whose naive consistency is undefined has no gains, so no direction is drawn."""
    require_columns(frame, ["model", "measure", "estimate", "low", "high", "n", "k"], "skills")
    frame = frame[frame["measure"].isin(["naive consistency", *MEASURES])]
    cosine = frame["measure"].isin(["naive consistency", "consistency"])
    numbers, still = ["estimate", "low", "high"], frame.loc[cosine & frame["estimate"].isna(), ["model", "measure"]]
    still = set(still.loc[still["measure"] == "naive consistency", "model"])
    frame = frame.assign(**frame[numbers].mask(cosine, frame[numbers].clip(-1, 1)).mask(cosine & frame["model"].isin(still)))
    models = unique(frame, "model")
    names, inches = parts.name_rows(models)
    figure, [grid] = make_figure(WIDE, inches * len(models) + 1.0, 1, 3, sharey=True)
    for axes, (measure, words) in zip(grid, MEASURES.items(), strict=True):
        for row in frame[frame["measure"].isin([measure, f"naive {measure}"])].itertuples():
            naive = row.measure.startswith("naive")
            height = -models.index(row.model) + (0.2 if naive else -0.1 if measure == "consistency" else 0)
            if np.isnan(row.estimate):
                if not naive:  # said once a model
                    place = {"xy": (0.03, -models.index(row.model)), "xycoords": ("axes fraction", "data"), "va": "center"}
                    axes.annotate("undefined", **place, color=GREY)
                continue
            look = ("o", LIGHT, False) if naive else ("D", BLACK, True)
            parts.draw_estimate(axes, row, row.estimate, height, *look, size=3.4)
        axes.axvline(0, color=GREY, linewidth=0.8, zorder=1)
        axes.set_xlabel(words)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        parts.name_heights(axes, -np.arange(len(models)), names, -len(models) + 0.3, 0.7)
    handles = [handle("the paper's number (naive)", "o", LIGHT, False, "-"), handle("unbiased", "D", BLACK, line="-")]
    return finish(figure, handles, 2, parts.count_words(frame).strip(" ()") + f", K = {int(frame['k'].iloc[0])} samples")
