"""RQ2's figures: whole on the page, and they hold what their frames say."""

import itertools

import numpy as np
import pandas as pd
import pytest
from test_figures import check_readable, transfer

from m2rl_lib.figures import rq2_transfer

DOMAINS = ["math", "coding", "science", "instruction_following", "agent"]


def labelled() -> pd.DataFrame:
    return transfer().assign(label=["synergy", "interference", "neither", "undecided", "", ""] * 6)


def gradients() -> pd.DataFrame:
    rows = [(step, a, b, 0.2, 0.1, 0.3) for step in (0, 80, 160) for a, b in itertools.combinations(DOMAINS, 2)]
    frame = pd.DataFrame(rows, columns=["step", "domain", "other", "cosine", "low", "high"])
    frame.loc[frame["other"] == "agent", ["cosine", "low", "high"]] = np.nan
    return frame


def curves() -> pd.DataFrame:
    models = [*(f"rl-{domain}" for domain in DOMAINS), "rl-null", "rl-math@repeat=1", "rl-multi", "mt-opd"]
    rows = [
        (model, step, domain, "selection", 0.5, 0.4, 0.6, 40) for model in models for domain in DOMAINS for step in (0, 80, 160)
    ]
    rows += [(f"rl-{domain}", step, domain, "train", 0.5, np.nan, np.nan, np.nan) for domain in DOMAINS for step in (6, 160)]
    return pd.DataFrame(rows, columns=["model", "step", "domain", "kind", "reward", "low", "high", "n"])


def manipulation() -> pd.DataFrame:
    names = [("math → coding", "points", 3.0), ("coding → math", "points", 3.0), ("math → math", "points", np.nan)]
    names += [("coding → coding", "points", np.nan), ("weight shifts", "cosine", 0.1), ("gradients at SFT", "cosine", 0.1)]
    rows = [
        (name, kind, world, size, 0.8 * size, 1.2 * size, reach, 100 if kind == "points" else np.nan)
        for name, kind, reach in names
        for world, size in (("shared", 20.0 if kind == "points" else 0.5), ("apart", 2.0 if kind == "points" else 0.05))
    ]
    frame = pd.DataFrame(rows, columns=["quantity", "kind", "world", "estimate", "low", "high", "reach", "n"])
    frame.loc[frame.index[-1], ["estimate", "low", "high"]] = np.nan
    return frame


CASES = {
    "transfer": (rq2_transfer.plot_transfer, labelled),
    "gradients": (rq2_transfer.plot_gradient_cosines, gradients),
    "curves": (rq2_transfer.plot_every_curve, curves),
    "manipulation": (rq2_transfer.plot_manipulation, manipulation),
}


@pytest.mark.parametrize("case", CASES)
def test_no_text_is_cut_off_and_none_overlaps(case):
    plot, frame = CASES[case]
    check_readable(plot(frame()))


def test_labels_stand_in_the_cells_and_an_unknown_interval_is_said():
    frame = pd.DataFrame({"model": ["rl-math"] * 3, "domain": ["math", "coding", "agent"], "change": [8.0, 5.0, 0.0]})
    frame = frame.assign(low=[4.0, 3.5, np.nan], high=[12.0, 6.5, np.nan], label=["", "synergy", "undecided"])
    texts = [text.get_text() for text in rq2_transfer.plot_transfer(frame).axes[0].texts]
    assert texts == ["+8.0\n[4.0, 12.0]", "+5.0\n[3.5, 6.5]\nsynergy", "+0.0\n[unknown]\nundecided"]


def test_a_refused_cosine_is_a_cross_and_no_point():
    frame = gradients()
    figure = rq2_transfer.plot_gradient_cosines(frame)
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert len(panels) == 10
    for title, refused in (("Math, Coding", 0), ("IF, Agent", 3)):
        counts = {line.get_marker(): len(line.get_xdata()) for line in panels[title].lines if line.get_marker() in "ox"}
        assert counts == {"o": 3 - refused, "x": refused}


def test_a_thick_frame_is_a_trained_domain():
    figure = rq2_transfer.plot_every_curve(curves())
    thick = [axes for axes in figure.axes if axes.spines["top"].get_linewidth() > 1]
    assert len(figure.axes) == 5 * 9 and len(thick) == 5


def test_bars_of_both_worlds_and_what_was_predicted():
    points, cosines = rq2_transfer.plot_manipulation(manipulation()).axes
    assert [bar.get_height() for bar in points.patches] == [20, 2] * 4
    assert [bar.get_height() for bar in cosines.patches] == [0.5, 0.05, 0.5]
    assert [text.get_text() for text in cosines.texts] == ["refused"]
