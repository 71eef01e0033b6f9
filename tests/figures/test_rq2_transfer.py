"""RQ2's figures hold what their frames say."""

import numpy as np
import pandas as pd
from test_figures import committed

from m2rl_lib.figures import rq2_transfer


def test_cells_say_change_interval_and_label_and_sure_ones_are_bold():
    frame = pd.DataFrame({"model": ["rl-math"] * 3, "domain": ["math", "coding", "agent"], "change": [8.0, -1.04, 0.0]})
    frame = frame.assign(low=[4.0, -5, np.nan], high=[12.0, 2.96, np.nan])
    texts = rq2_transfer.plot_transfer(frame).axes[0].texts
    assert [text.get_text() for text in texts] == ["+8.0\n[4.0, 12.0]", "−1.0\n[−5.0, 3.0]", "+0.0\n[unknown]"]
    assert [text.get_weight() for text in texts] == ["bold", "normal", "normal"]
    texts = rq2_transfer.plot_transfer(frame.assign(label=["", "synergy", "undecided"])).axes[0].texts
    assert [text.get_text().split("\n")[2:] for text in texts] == [[], ["synergy"], ["undecided"]]


def test_a_refused_cosine_is_a_cross_and_no_point():
    frame = committed("study/gradient_cosines")
    for axes, (_, rows) in zip(rq2_transfer.plot_gradient_cosines(frame).axes, frame.groupby(["domain", "other"], sort=False)):
        counts = {line.get_marker(): len(line.get_xdata()) for line in axes.lines if line.get_marker() in "ox"}
        assert counts == {"o": rows["cosine"].notna().sum(), "x": rows["cosine"].isna().sum()}
    assert frame["cosine"].isna().any() and frame["cosine"].notna().any()


def test_a_thick_frame_is_a_trained_domain():
    frame = committed("study/every_curve")
    thick = [axes for axes in rq2_transfer.plot_every_curve(frame).axes if axes.spines["top"].get_linewidth() > 1]
    assert len(thick) == len(frame.query("kind == 'train'").groupby(["model", "domain"])) > 5


def test_bars_of_both_worlds_and_what_was_refused():
    frame = committed("study/manipulation_check")
    panels = rq2_transfer.plot_manipulation(frame).axes
    for axes, (_, rows) in zip(panels, frame.groupby("kind", sort=False), strict=True):
        assert [bar.get_height() for bar in axes.patches] == list(rows["estimate"].dropna())
    assert [[text.get_text() for text in axes.texts] for axes in panels] == [[], ["refused"]]
