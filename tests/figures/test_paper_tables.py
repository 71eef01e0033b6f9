"""Figures of the paper's smaller tables are true to their frames, and the same function draws both sides."""

import numpy as np
import pandas as pd
import pytest
from test_figures import committed

from m2rl_lib.figures import our_tables, paper_tables
from m2rl_lib.paper import published_tables

DOMAINS = ["math", "coding", "science", "instruction_following", "agent"]


def our_costs() -> pd.DataFrame:
    rows = [(paradigm, f"rl-{domain}", 100.0) for paradigm in ("merged", "distilled") for domain in DOMAINS]
    rows += [("mixed", "rl-multi", 240.0), ("mixed", "choosing a checkpoint", 10.0), ("merged", "making the merges", 3.0)]
    rows += [("merged", "choosing a merge", 22.0), ("distilled", "mt-opd", 130.0)]
    return pd.DataFrame(rows, columns=["paradigm", "part", "spent"]).assign(unit="device-seconds")


def test_the_ratio_of_gpu_hours_stands_beside_the_bar_of_mixing():
    axes = paper_tables.plot_costs(our_tables.published_costs()).axes[0]
    assert [text.get_text() for text in axes.texts] == ["2,166 (33.2%)", "6,525", "7,341 (112.5%)"]
    widths = [bar.get_width() for bar in axes.patches]
    assert sum(widths) == pytest.approx(2166.4 + 2 * 6524.8 + 816.0)


def test_our_shares_count_making_and_choosing():
    axes = paper_tables.plot_costs(our_costs()).axes[0]
    assert [text.get_text() for text in axes.texts] == [f"250 ({250 / 525:.1%})", "525", f"630 ({630 / 525:.1%})"]
    patches = axes.figure.legends[0].get_patches()
    fills = [(patch.get_facecolor(), patch.get_hatch()) for patch in patches]
    assert len(fills) == len(set(fills)) == 10


def test_published_pairs_have_no_error_bars_and_ours_have():
    for side, sampled in (("published/pairs", False), ("study/paper_pairs", True)):
        frame = committed(side)
        figure = paper_tables.plot_pair_changes(frame)
        bars = [tuple(line.get_xdata()) for line in figure.axes[0].lines if line.get_linestyle() == "-"]
        assert bars == ([tuple(ends) for ends in frame[["low", "high"]].to_numpy()] if sampled else [])
        assert ("interval" in figure.get_supxlabel()) == sampled


def test_overlap_draws_measured_and_independent():
    axes = paper_tables.plot_overlap(our_tables.published_overlaps()).axes[0]
    drawn = {line.get_marker(): list(line.get_xdata()) for line in axes.lines}
    assert drawn["D"] == [0.45, 0.48] and drawn["o"] == [0.18, 0.18]
    assert [text.get_text() for text in axes.texts] == ["about", "about"]


def test_shares_of_the_blend_are_the_papers_percentages():
    axes = paper_tables.plot_blend(published_tables.sft_blend()).axes[0]
    percent = sorted(published_tables.sft_blend()["percent"])  # it prints 16.04 for 2,263,340 of its 14,121,873
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(percent, abs=0.05)


def test_an_undefined_overlap_leaves_its_row_without_a_point():
    frame = committed("study/paper_mask_overlap")
    frame.loc[0, ["jaccard", "independent"]] = np.nan
    drawn = next(line for line in paper_tables.plot_overlap(frame).axes[0].lines if line.get_marker() == "D")
    assert np.isnan(drawn.get_xdata()).sum() == 1
