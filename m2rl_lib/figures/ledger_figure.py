"""The claim ledger in one picture: distance inside the claimed region's edge, in half-widths of the interval that decides."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from m2rl_lib.figures.parts import finish, handle
from m2rl_lib.figures.style import BLACK, BLUE, GREY, ORANGE, WIDE, make_figure
from m2rl_lib.paper.claim_ledger import CONTRADICTED, NOT_TESTABLE, SUPPORTED, UNDECIDED, estimate_words
from m2rl_lib.stats.bootstrap import require_columns

LOOKS = {SUPPORTED: ("o", BLUE, True), CONTRADICTED: ("X", ORANGE, True), UNDECIDED: ("o", BLACK, False)}
LOOKS |= {NOT_TESTABLE: ("_", GREY, False)}  # marker, colour, filled
REACH = 4.0  # half-widths beyond which a place is drawn as an arrow


def plot_ledger(frame: pd.DataFrame) -> Figure:
    """The ledger of `claim_ledger.ledger`, one row per claim; primary claims bold, the paper's value a small diamond."""
    needed = ["id", "question", "role", "claim", "verdict", "estimate", "low", "high", "unit"]
    require_columns(frame, [*needed, "position", "position_low", "position_high", "published_position"], "ledger")
    names = [textwrap.fill(f"{row.id}  {row.claim}", 52, subsequent_indent="      ") for row in frame.itertuples()]
    tall = np.array([1.0 + 0.75 * name.count("\n") for name in names]) + 0.3 * (frame["question"] != frame["question"].shift())
    heights = -(np.cumsum(tall) - tall / 2)
    figure, axes = make_figure(WIDE, 0.165 * tall.sum() + 0.85)
    axes.axvspan(0, REACH + 0.4, color="#EEEEEE", zorder=0)
    axes.axvline(0, color=BLACK, linewidth=0.8)
    for (_, row), height in zip(frame.iterrows(), heights, strict=True):
        marker, colour, filled = LOOKS[row["verdict"]]
        if row["verdict"] == NOT_TESTABLE:
            axes.text(0, height, "not testable", ha="center", va="center", fontsize=6, color=GREY, backgroundcolor="white")
            continue
        words = f"{row['verdict']}, {estimate_words(row)}"
        axes.annotate(words, (1.01, height), xycoords=("axes fraction", "data"), va="center", fontsize=6, color=colour)
        ends = np.clip([row["position_low"], row["position_high"]], -REACH, REACH)
        axes.plot(ends, [height, height], color=colour, linewidth=1.3)
        place = np.clip(row["position"], -REACH, REACH)
        if place != row["position"]:
            marker = ">" if place > 0 else "<"
        axes.plot(place, height, marker, color=colour, markerfacecolor=colour if filled else "white", markersize=4.2)
        if np.isfinite(row["published_position"]):
            there = np.clip(row["published_position"], -REACH, REACH)
            axes.plot(there, height + 0.33, "D", color=GREY, markerfacecolor="white", markersize=2.4, markeredgewidth=0.7)
    axes.set_yticks(heights, names, fontsize=6.2, ha="left")
    axes.tick_params(axis="y", pad=196)
    for text, role in zip(axes.get_yticklabels(), frame["role"], strict=True):
        text.set_fontweight("bold" if role == "primary" else "normal")
    axes.set(xlim=(-REACH - 0.4, REACH + 0.4), ylim=(-tall.sum(), 0), xticks=range(int(-REACH), int(REACH) + 1, 2))
    axes.grid(False)
    axes.set_xlabel("from the edge of the claim, half-widths of its interval\n← against the claim      for it →")
    drawn = set(frame["verdict"]) - {NOT_TESTABLE}
    handles = [handle(verdict, *look, line="-", markersize=4.2) for verdict, look in LOOKS.items() if verdict in drawn]
    return finish(figure, [*handles, handle("the paper", "D", GREY, False, markersize=2.4)], 4)
