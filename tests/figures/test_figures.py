"""Figures: drawn from the frame alone, the same every time, whole on the page, and saved atomically."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from m2rl_lib.config.locations import ROOT
from m2rl_lib.figures import (
    completions,
    drawing,
    ledger_figure,
    paper_tables,
    parts,
    redraw,
    rq1_mix_or_merge,
    rq2_transfer,
    style,
    training_curves,
)
from m2rl_lib.stats.averages import averages
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
    for axes, rows in ((points, frame[frame["unit"] == "points"]), (others, frame[frame["unit"] != "points"])):
        drawn = [line.get_xdata()[0] for line in axes.lines if line.get_markersize() == 4.2]
        shown = rows[rows["verdict"] != "not testable"]
        assert drawn == pytest.approx(shown["estimate"].clip(*axes.get_xlim()).tolist())  # one beyond the axis is an arrow
        widths = [line.get_linewidth() for line in axes.lines]  # thin: the interval that decides; thick: the usual one
        assert widths.count(0.7) == widths.count(1.8) == len(shown)
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


MINE = (
    "overall",
    "benchmark_scores",
    "score_by_budget",
    "transfer",
    "every_curve",
    "gradient_cosines",
    "curves_rl-math",
    "sft_loss",
)


@pytest.mark.parametrize("name", MINE)
def test_every_text_has_seven_points_or_more(name):
    record = json.loads((ROOT / "figures" / "study" / f"{name}.json").read_text())
    figure = redraw.find_plot(record["plot"], Path(f"{name}.csv"))(committed(f"study/{name}"), **record["keywords"])
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()) >= 7


def differences(seeds: int) -> pd.DataFrame:
    """What `three_scores.differences` gives, made up: better, equivalent, undecided."""
    found = [("T=1", 6.0, 1.5, "better"), ("greedy", 0.5, 1.5, "equivalent"), ("pass@K", -2.0, 4.0, "undecided")]
    rows = [(score, value, half, verdict, seed) for score, value, half, verdict in found for seed in [np.nan, *range(seeds)]]
    frame = pd.DataFrame(rows, columns=["score", "estimate", "half", "verdict", "seed"])
    frame = frame.assign(low=frame["estimate"] - frame["half"], high=frame["estimate"] + frame["half"], margin=3.0, n=500)
    frame = frame.assign(low90=frame["low"] + 0.2, high90=frame["high"] - 0.2, model="rl-multi", reference="merge-ties")
    return frame.assign(seeds=np.where(frame["seed"].isna(), seeds, 1))


@pytest.mark.parametrize("seeds", [1, 6])
def test_the_difference_is_drawn_for_all_seeds_and_each_beside_the_margin(seeds):
    figure = rq1_mix_or_merge.plot_difference(differences(seeds))
    check_readable(figure)
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert "mixing" in names[0] and "equivalent" in names[1] and "−2.0" in names[2]
    zone = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (zone.x0, zone.x1) == pytest.approx((-3, 3))
    ticks = [line for line in axes.lines if line.get_marker() == "|"]
    assert [len(line.get_xdata()) for line in ticks] == ([6] * 3 if seeds > 1 else [])
    low, high = axes.get_xlim()
    assert low == -high and high > 7.5


def test_scores_by_temperature_and_lengths_of_completions_can_be_read():
    rows = [("selection", "sft", heat) for heat in (0, 0.5, 1)] + [
        ("test", name, heat) for name in ("sft", "rl-multi") for heat in (0, 1)
    ]
    frame = pd.DataFrame(rows, columns=["split", "model", "temperature"]).assign(score=50.0, low=45.0, high=55.0, n=200, seeds=6)
    check_readable(rq1_mix_or_merge.plot_temperature(frame))
    rows = [(name, seed, step, 20.0 + step) for name in (*EXPERTS, "rl-multi") for seed in (0, 1) for step in (2, 4)]
    figure = rq1_mix_or_merge.plot_lengths(pd.DataFrame(rows, columns=["model", "seed", "step", "tokens"]))
    check_readable(figure)
    assert [len(axes.lines) for axes in figure.axes[:6]] == [3] * 6  # two seeds and their mean


def test_a_model_looks_the_same_in_every_figure_whatever_stands_beside_it():
    budget = BUDGET.replace(r"^merge-[\w-]+$", "merge-ties", regex=True)
    for frame in (budget, budget.iloc[::-1]):
        figure = rq1_mix_or_merge.plot_budget(frame)
        looks = {line.get_label(): (line.get_marker(), line.get_color()) for line in figure.axes[0].lines}
        assert looks["RL-Multi"] == style.FAMILIES["mixed"][:2] and looks["TIES merge"] == style.FAMILIES["merged"][:2]


def test_domains_stand_in_one_order_and_untrained_ones_last():
    frame = pd.DataFrame({"domain": ["general", "agent", "own", "math"]})
    assert parts.domains_of(frame) == ["math", "agent", "own", "general"]
    figure = rq1_mix_or_merge.plot_benchmark_scores(study_scores().iloc[::-1])
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert "Math" in titles[0] and "Coding" in titles[1]


@pytest.mark.parametrize(
    ("model", "domain", "kind"),
    [
        ("rl-math", "math", "own"),
        ("rl-math@repeat=1", "math", "own"),
        ("rl-math", "agent", "other"),
        ("rl-multi", "math", "mixed"),
        ("mt-opd", "math", "distilled"),
        ("rl-null", "math", "null"),
    ],
)
def test_a_learning_curve_says_what_the_run_is_on_each_domain_and_has_its_interval(model, domain, kind):
    frame = pd.DataFrame(
        {"model": model, "step": [0, 2], "domain": domain, "reward": [0.2, 0.4], "low": [0.1, 0.3], "high": [0.3, 0.5]}
    )
    figure = training_curves.plot_learning_curves(frame)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [training_curves.KINDS[kind][0]]
    assert len(figure.axes[0].collections) == 1


def test_completions_are_marked_escaped_and_their_thinking_folded():
    texts = ["<think>1 < 2</think>\n\\boxed{2}<|im_end|>", "<think>never ends", "no <b>thought</b>"]
    frame = pd.DataFrame(
        {"domain": "math", "prompt": "1 & 1?", "model": ["sft", "rl-math", "rl-multi"], "correct": [1.0, 0.0, np.nan]}
    )
    page = completions.show(frame.assign(text=texts)).data
    assert "1 &amp; 1?" in page and "<summary>thinking</summary>1 &lt; 2</details>\\boxed{2}</pre>" in page
    assert "<summary>thinking</summary>never ends</details>" in page and "no &lt;b&gt;thought" in page
    assert "<b>SFT</b>: ✓ right" in page and "<b>RL-Math</b>: ✗ wrong" in page and "<b>RL-Multi</b>: not graded" in page
