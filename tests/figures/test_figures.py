"""Figures: drawn from the frame alone, the same every time, whole on the page, and saved atomically."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from m2rl_lib.config.locations import ROOT
from m2rl_lib.figures import drawing, ledger_figure, paper_tables, rq1_mix_or_merge, rq2_transfer, style
from m2rl_lib.stats.bootstrap import averages
from m2rl_lib.stats.comparisons import display_name

DOMAINS = {
    "math": ("arithmetic", "arithmetic_long"),
    "coding": ("programs", "programs_long"),
    "science": ("units", "units_shifted"),
    "instruction_following": ("instructions", "instructions_many"),
    "agent": ("workplace", "workplace_unseen"),
    "general": ("general",),
}
EXPERTS = [f"rl-{domain}" for domain in list(DOMAINS)[:5]]
MODELS = ["sft", "sft-sharpened", "rl-null", *EXPERTS, "rl-multi", "merge-ties", "merge-average@experts=math+coding", "mt-opd"]


def study_scores() -> pd.DataFrame:
    """Twelve models on eleven benchmarks, made up, with intervals."""
    generator = np.random.default_rng(0)
    rows = [(model, domain, benchmark) for model in MODELS for domain, names in DOMAINS.items() for benchmark in names]
    frame = pd.DataFrame(rows, columns=["model", "domain", "benchmark"])
    frame["score"] = generator.uniform(30, 70, len(frame))
    return frame.assign(low=frame["score"] - 4, high=frame["score"] + 4, n=200, seeds=1)


def overall_scores() -> pd.DataFrame:
    frame = averages(study_scores())
    return frame.assign(low=frame["score"] - 1.5, high=frame["score"] + 1.5, n=2000, seeds=1)


def committed(name: str) -> pd.DataFrame:
    """The frame of a committed figure: 'study/transfer'."""
    return drawing.read_drawn(ROOT / "figures" / f"{name}.csv")


def _texts(figure):
    """Every text that shows, with its box in pixels."""
    FigureCanvasAgg(figure).draw()
    found = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    found = [text for text in found if text.get_rotation() % 90 == 0]  # the boxes of others say nothing
    hidden = {
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_major_ticks()
        for label in (tick.label1, tick.label2)
        if not axes.axison
        or not label.get_visible()
        or not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }
    return [(text.get_text(), text.get_window_extent()) for text in found if text not in hidden]


def check_readable(figure):
    """One or two columns wide, and no text is cut off, too small, or over another."""
    assert figure.get_size_inches()[0] in (style.COLUMN, style.WIDE)
    texts, (width, height) = _texts(figure), figure.get_size_inches() * figure.dpi
    for words, box in texts:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, f"{words!r} is cut off"
        assert box.height >= 0.06 * figure.dpi, f"{words!r} is too small to read"
    for i, (words, box) in enumerate(texts):
        for others, other in texts[i + 1 :]:
            common = (min(box.x1, other.x1) - max(box.x0, other.x0), min(box.y1, other.y1) - max(box.y0, other.y0))
            assert min(common) <= 1, f"{words!r} overlaps {others!r}"


def test_drawing_again_from_the_saved_csv_gives_the_same_picture(tmp_path):
    plot, frame = rq1_mix_or_merge.plot_benchmark_scores, study_scores()
    png, pdf, csv, record = paths = drawing.save(plot, frame, tmp_path / "first", "scores")
    again = drawing.save(plot, drawing.read_drawn(csv), tmp_path / "again", "scores")
    assert [path.name for path in paths] == ["scores.png", "scores.pdf", "scores.csv", "scores.json"]
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]
    assert sorted(png.parent.iterdir()) == sorted(paths)


def test_benchmark_panels_hold_the_scores_and_intervals_of_the_frame():
    frame = study_scores()
    panel = next(axes for axes in rq1_mix_or_merge.plot_benchmark_scores(frame).axes if "programs long" in axes.get_title())
    rows = frame[frame["benchmark"] == "programs_long"]
    markers = [line.get_xdata()[0] for line in panel.lines if line.get_marker() not in ("None", "", None)]
    bars = [tuple(line.get_xdata()) for line in panel.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 2]
    assert markers == pytest.approx(list(rows["score"]))
    assert bars == [tuple(pair) for pair in rows[["low", "high"]].to_numpy()]
    assert "n = 200" in panel.get_title()


def test_a_refused_score_is_said_not_drawn():
    frame = study_scores()
    frame.loc[frame["model"] == "mt-opd", ["score", "low", "high"]] = np.nan
    assert [text.get_text() for text in rq1_mix_or_merge.plot_benchmark_scores(frame).axes[0].texts] == ["refused"]


def test_overall_is_sorted_and_has_the_line_of_sft():
    frame = overall_scores()
    axes = rq1_mix_or_merge.plot_overall(frame).axes[0]
    rows = frame[frame["domain"] == "overall"].sort_values("score")
    names = [label.get_text().replace("\n", " ") for label in axes.get_yticklabels()]
    assert names == [display_name(model) for model in rows["model"]]
    line = next(line for line in axes.lines if line.get_linestyle() == "--")
    assert set(line.get_xdata()) == set(rows.loc[rows["model"] == "sft", "score"])
    figure = rq1_mix_or_merge.plot_overall(frame.assign(greedy=frame["score"] + 7))
    (marks,) = (line for line in figure.axes[0].lines if line.get_marker() == "|")
    assert list(marks.get_xdata()) == pytest.approx(list(rows["score"] + 7))
    check_readable(figure)


def test_saving_writes_no_partial_set_and_keeps_the_old_one(tmp_path):
    frame = overall_scores()
    old = [path.read_bytes() for path in drawing.save(rq1_mix_or_merge.plot_overall, frame, tmp_path, "overall")]

    class NoCsv(pd.DataFrame):
        def to_csv(self, *args, **kwargs):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        drawing.save(rq1_mix_or_merge.plot_overall, NoCsv(frame), tmp_path, "overall")
    assert [(tmp_path / f"overall{ending}").read_bytes() for ending in (".png", ".pdf", ".csv", ".json")] == old
    assert len(list(tmp_path.iterdir())) == 4
    assert drawing.show(rq1_mix_or_merge.plot_overall, frame, tmp_path, "overall").data == old[0]
    with pytest.raises(ValueError, match="figure name '../overall'"):
        drawing.save(rq1_mix_or_merge.plot_overall, frame, tmp_path, "../overall")
    with pytest.raises(ValueError, match="drawn by a Figure: give the plot_"):
        drawing.save(rq1_mix_or_merge.plot_overall(frame), frame, tmp_path, "overall")
    with pytest.raises(ValueError, match="is empty"):
        drawing.save(rq1_mix_or_merge.plot_overall, frame.iloc[:0], tmp_path, "overall")


def test_cells_say_change_interval_and_label_and_sure_ones_are_bold():
    frame = pd.DataFrame({"model": ["rl-math"] * 3, "domain": ["math", "coding", "agent"], "change": [8.0, -1.04, 0.0]})
    frame = frame.assign(low=[4.0, -5, np.nan], high=[12.0, 2.96, np.nan])
    texts = rq2_transfer.plot_transfer(frame).axes[0].texts
    assert [text.get_text() for text in texts] == ["+8.0\n[4.0, 12.0]", "−1.0\n[−5.0, 3.0]", "+0.0\n[unknown]"]
    assert [text.get_weight() for text in texts] == ["bold", "normal", "normal"]
    texts = rq2_transfer.plot_transfer(frame.assign(label=["", "synergy", "undecided"])).axes[0].texts
    assert [text.get_text().split("\n")[2:] for text in texts] == [[], ["synergy"], ["undecided"]]


def test_the_ledger_draws_each_claim_in_its_own_unit_with_its_region():
    frame = committed("study/claims")
    points, others = ledger_figure.plot_ledger(frame).axes
    assert ledger_figure.region_edges("above −3 points") == (-3, np.inf) and ledger_figure.region_edges("below 1") == (-np.inf, 1)
    assert ledger_figure.region_edges("between −0.3 and 0.3") == (-0.3, 0.3)
    for axes, rows in ((points, frame[frame["unit"] == "points"]), (others, frame[frame["unit"] != "points"])):
        drawn = [line.get_xdata()[0] for line in axes.lines if line.get_markersize() == 4.2]
        assert drawn == pytest.approx(rows.loc[rows["verdict"] != "not testable", "estimate"].tolist())
        assert len(axes.collections) == len(rows)
    check_readable(ledger_figure.plot_ledger(frame))
    check_readable(ledger_figure.plot_ledger(frame[frame["role"] == "primary"]))


COSTS, JUDGING, BUDGET = committed("study/paper_costs"), committed("study/paper_judging"), committed("study/score_by_budget")


@pytest.mark.parametrize(
    ("plot", "frame", "message"),
    [
        (rq1_mix_or_merge.plot_benchmark_scores, study_scores().drop(columns="score"), "scores lacks score: it has model"),
        (rq1_mix_or_merge.plot_overall, study_scores(), "no row of domain overall: there are agent, coding"),
        (rq1_mix_or_merge.plot_budget, BUDGET.replace("prompts", "hours"), "unknown unit 'hours': allowed are prompts"),
        (rq1_mix_or_merge.plot_budget, pd.concat([BUDGET.assign(model=f"rl-x@step={i}") for i in range(7)]), "at most 6"),
        (rq2_transfer.plot_transfer, committed("study/transfer").iloc[:0], "changes by domain is empty"),
        (paper_tables.plot_costs, COSTS.replace("rl-math", "mathrl"), "unknown model 'mathrl': allowed are base, sft"),
        (paper_tables.plot_costs, COSTS.replace("mixed", "blended"), r"paradigm \['blended'\]: allowed are mixed"),
        (paper_tables.plot_judging, JUDGING.replace("process", "vibes"), "judging in mode 'vibes': allowed are outcome"),
    ],
)
def test_frames_that_cannot_be_drawn_are_refused_in_one_line(plot, frame, message):
    with pytest.raises(ValueError, match=message) as refused:
        plot(frame)
    assert "\n" not in str(refused.value)
