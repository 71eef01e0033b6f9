"""Figures of the paper's smaller tables: whole on the page, true to their frames, and the same function draws both sides."""

import numpy as np
import pandas as pd
import pytest
from test_figures import check_readable

from m2rl_lib.figures import our_tables, paper_tables, style
from m2rl_lib.paper import published_tables

DOMAINS = ["math", "coding", "science", "instruction_following", "agent"]


def our_costs() -> pd.DataFrame:
    rows = [(paradigm, f"rl-{domain}", 100.0) for paradigm in ("merged", "distilled") for domain in DOMAINS]
    rows += [("mixed", "rl-multi", 240.0), ("mixed", "choosing a checkpoint", 10.0), ("merged", "making the merges", 3.0)]
    rows += [("merged", "choosing a merge", 22.0), ("distilled", "mt-opd", 130.0)]
    return pd.DataFrame(rows, columns=["paradigm", "part", "spent"]).assign(unit="device-seconds")


def our_pairs() -> pd.DataFrame:
    rows = [("math", other, name, 2.5) for other in ("coding", "sft") for name in ("chain", "chain_long")]
    frame = pd.DataFrame(rows, columns=["target", "added", "benchmark", "estimate"])
    return frame.assign(low=frame["estimate"] - 3, high=frame["estimate"] + 3, n=50, seeds=1)


def our_overlaps() -> pd.DataFrame:
    pairs = [f"{one}-{other}" for place, one in enumerate(DOMAINS) for other in DOMAINS[:place]]
    rows = [(pair, mask, size, 0.05) for mask, size in (("η", 0.96), ("the tenth that changed most", 0.1)) for pair in pairs]
    return pd.DataFrame(rows, columns=["pair", "mask", "jaccard", "independent"]).assign(note="")


def our_judging() -> pd.DataFrame:
    rows = [("rl-multi", mode, domain, 70.0 + place) for domain in DOMAINS for place, mode in enumerate(("outcome", "process"))]
    frame = pd.DataFrame(rows, columns=["model", "mode", "benchmark", "accuracy"])
    return frame.assign(low=frame["accuracy"] - 4, high=frame["accuracy"] + 4, n=200)


def our_blend() -> pd.DataFrame:
    return pd.DataFrame({"part": ["Math", "Instruction following", "Judging"], "samples": [6000, 6000, 6000]})


CASES = {
    "costs": (paper_tables.plot_costs, our_tables.published_costs),
    "costs, ours": (paper_tables.plot_costs, our_costs),
    "pairs": (paper_tables.plot_pair_changes, our_tables.published_pairs),
    "pairs, ours": (paper_tables.plot_pair_changes, our_pairs),
    "overlap": (paper_tables.plot_overlap, our_tables.published_overlaps),
    "overlap, ours": (paper_tables.plot_overlap, our_overlaps),
    "judging": (paper_tables.plot_judging, published_tables.judging),
    "judging, ours": (paper_tables.plot_judging, our_judging),
    "blend": (paper_tables.plot_blend, published_tables.sft_blend),
    "blend, ours": (paper_tables.plot_blend, our_blend),
}


@pytest.mark.parametrize("case", CASES)
def test_one_column_with_no_text_cut_off_and_none_overlapping(case):
    plot, frame = CASES[case]
    figure = plot(frame())
    assert figure.get_size_inches()[0] == style.COLUMN
    check_readable(figure)


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
    lengths = {}
    for case in ("pairs", "pairs, ours"):
        plot, frame = CASES[case]
        figure = plot(frame())
        lengths[case] = [tuple(line.get_xdata()) for line in figure.axes[0].lines if line.get_linestyle() == "-"]
        assert ("interval" in figure.get_supxlabel()) == (case == "pairs, ours")
    assert lengths["pairs"] == [] and lengths["pairs, ours"] == [(-0.5, 5.5)] * 4


def test_overlap_draws_measured_and_independent():
    axes = paper_tables.plot_overlap(our_tables.published_overlaps()).axes[0]
    drawn = {line.get_marker(): list(line.get_xdata()) for line in axes.lines}
    assert drawn["D"] == [0.45, 0.48] and drawn["o"] == [0.18, 0.18]
    assert [text.get_text() for text in axes.texts] == ["about", "about"]


def test_shares_of_the_blend_are_the_papers_percentages():
    axes = paper_tables.plot_blend(published_tables.sft_blend()).axes[0]
    percent = sorted(published_tables.sft_blend()["percent"])  # it prints 16.04 for 2,263,340 of its 14,121,873
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(percent, abs=0.05)


@pytest.mark.parametrize(
    ("plot", "frame", "message"),
    [
        (paper_tables.plot_costs, our_costs().replace("rl-math", "mathrl"), "unknown model 'mathrl': allowed are base, sft"),
        (paper_tables.plot_costs, our_costs().replace("mixed", "blended"), r"paradigm \['blended'\]: allowed are mixed"),
        (paper_tables.plot_judging, our_judging().replace("rl-multi", "gpt"), "unknown model 'gpt': allowed are base, sft"),
        (paper_tables.plot_judging, our_judging().replace("process", "vibes"), "judging in mode 'vibes': allowed are outcome"),
        (paper_tables.plot_overlap, our_overlaps().drop(columns="independent"), "overlap of masks lacks independent"),
        (paper_tables.plot_blend, our_blend().iloc[:0], "SFT corpus is empty"),
    ],
)
def test_frames_that_cannot_be_drawn_are_refused(plot, frame, message):
    with pytest.raises(ValueError, match=message) as refused:
        plot(frame)
    assert "\n" not in str(refused.value)


def test_an_undefined_overlap_leaves_its_row_without_a_point():
    frame = our_overlaps()
    frame.loc[0, ["jaccard", "independent"]] = np.nan
    drawn = next(line for line in paper_tables.plot_overlap(frame).axes[0].lines if line.get_marker() == "D")
    assert np.isnan(drawn.get_xdata()).sum() == 1
