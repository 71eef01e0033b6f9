"""Figures of the paper's smaller tables are true to their frames, and the same function draws both sides."""

import pytest

from m2rl_lib.figures import our_tables, paper_tables
from m2rl_lib.paper import published_tables


def test_the_ratio_of_gpu_hours_stands_beside_the_bar_of_mixing():
    axes = paper_tables.plot_costs(our_tables.published_costs()).axes[0]
    assert [text.get_text() for text in axes.texts] == ["2,166 (33.2%)", "6,525", "7,341 (112.5%)"]
    widths = [bar.get_width() for bar in axes.patches]
    assert sum(widths) == pytest.approx(2166.4 + 2 * 6524.8 + 816.0)


def test_overlap_draws_measured_and_independent():
    axes = paper_tables.plot_overlap(our_tables.published_overlaps()).axes[0]
    drawn = {line.get_marker(): list(line.get_xdata()) for line in axes.lines}
    assert drawn["D"] == [0.45, 0.48] and drawn["o"] == [0.18, 0.18]
    assert [text.get_text() for text in axes.texts] == ["about", "about"]


def test_shares_of_the_blend_are_the_papers_percentages():
    axes = paper_tables.plot_blend(published_tables.sft_blend()).axes[0]
    percent = sorted(published_tables.sft_blend()["percent"])  # it prints 16.04 for 2,263,340 of its 14,121,873
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(percent, abs=0.05)
