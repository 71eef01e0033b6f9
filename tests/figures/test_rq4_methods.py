"""RQ4's figures are true to their frames."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from test_figures import check_readable, committed

from m2rl_lib.figures import rq4_methods, rq4_sweeps, training_curves
from m2rl_lib.stats import learning_curves

METHODS = [f"merge-{name}" for name in ("average", "task-arithmetic", "task-arithmetic-dare", "ties", "ties-dare", "sce")]


def sweep() -> pd.DataFrame:
    rows = []
    for method in METHODS:
        densities = [np.nan] if method in METHODS[:2] else [0.1, 0.2, 0.5, 0.8]
        rows += [(method, scale, d, 40 + 10 * scale) for d in densities for scale in (0.2, 0.4, 0.6, 0.8, 1.0, 1.3)]
    frame = pd.DataFrame(rows, columns=["method", "lambda", "density", "score"])
    best = frame.groupby("method")["score"].transform(lambda score: score.index == score.idxmax())
    return frame.assign(best=best.astype(bool), model="merge-ties@lambda=0.2", n=250)


def paths() -> pd.DataFrame:
    ends = [("sft", "rl-math"), ("rl-math", "rl-instruction_following"), ("rl-math", "rl-coding"), ("rl-coding", "rl-multi")]
    rows = [
        (a, b, share, domain, 1 + i * share * (1 - share), i / 4)
        for i, (a, b) in enumerate(ends)
        for share in np.linspace(0, 1, 5)
        for domain in ("math", "coding")
    ]
    return pd.DataFrame(rows, columns=["start", "end", "share", "domain", "loss", "barrier"])


def test_a_sweep_frames_the_best_and_a_setting_that_was_not_swept_is_blank():
    frame = sweep().query("density != 0.8 or `lambda` > 1")
    ties = rq4_sweeps.plot_sweeps(frame).axes[METHODS.index("merge-ties")]
    assert ties.get_title() == "TIES" and len(ties.texts) == 24
    assert [label.get_text() for label in ties.get_yticklabels()] == ["0.8", "0.5", "0.2", "0.1"]  # from the top
    assert sorted(text.get_text() for text in ties.texts).count("") == 5 and "nan" not in {t.get_text() for t in ties.texts}
    (frame_of_best,) = [patch for patch in ties.patches if not patch.get_fill()]
    number = next(text for text in ties.texts if text.get_position() == (5.5, 3.5))  # λ 1.3, the lowest density
    assert frame_of_best.get_edgecolor() == to_rgba(number.get_color())


def test_a_sweep_marks_the_published_setting_whether_it_is_the_best_or_not():
    frame = sweep().assign(model=lambda table: table["method"].where(table["lambda"] == 1.0, table["method"] + "@lambda=0.2"))
    for axes in rq4_sweeps.plot_sweeps(frame[frame["density"].isna()]).axes[:2]:
        assert [text.get_text() for text in axes.texts] == ["42", "44", "46", "48", "50*", "53"]


def test_undefined_skills_are_said_not_drawn():
    """One without gains has no direction, whatever the unbiased number is; no cosine is drawn beyond ±1."""
    frame = committed("study/skills")
    frame.loc[frame["model"] == "rl-multi", ["estimate", "low", "high"]] = np.nan
    rows = frame["model"].eq("merge-ties") & frame["measure"].eq("consistency")
    frame.loc[rows, ["estimate", "low", "high"]] = -1.2, -1.6, 1.3
    axes = rq4_methods.plot_skills(frame).axes
    wide = frame.pivot(index="model", columns="measure", values="estimate")
    missing = wide.isna().assign(consistency=wide["consistency"].isna() | wide["naive consistency"].isna()).sum()
    assert [len(panel.texts) for panel in axes] == [missing["consistency"], missing["excess"], missing["shortfall"]]
    assert {text.get_text() for text in axes[0].texts} == {"undefined"}
    ends = np.concatenate(
        [line.get_xdata() for line in axes[0].lines if line.get_linewidth() == 1 or line.get_marker() != "None"]
    )
    assert ends.min() == -1 and ends.max() <= 1
    drawn = [line.get_xdata()[0] for line in axes[1].lines if line.get_marker() == "D"]
    assert drawn == pytest.approx(list(frame.query("measure == 'excess'")["estimate"].dropna()))


def test_paths_are_named_and_the_highest_barrier_of_each_kind():
    axes = rq4_sweeps.plot_paths(paths()).axes
    titles = [one.get_title() for one in axes]
    assert "no barrier" in titles[0] and "highest barrier 0.500\nRL-Math → RL-Coding" in titles[1]
    assert sum(line.get_linestyle() == "--" for line in axes[1].lines) == 1
    assert [{text.get_text() for text in one.texts} for one in axes] == [{"Math"}, {"Math–IF", "Math–Coding"}, {"Coding"}]
    check_readable(axes[0].figure)


def test_the_answer_has_every_method_and_what_luck_gives():
    rows = [("means", "merge-ties", 60, 55, 65, 3, 500, 1), ("means", "merge-average", 50, 45, 55, 1, 500, 1)]
    rows += [("means", "merge-task-arithmetic", 11, 9, 13, 0, 500, 1)]  # far behind: a number at the edge
    rows += [("means", "mt-opd", np.nan, np.nan, np.nan, 0, 500, 1), ("gain", "all 3 methods", 2.0, 1.0, 4.0, np.nan, 500, 1)]
    frame = pd.DataFrame(rows, columns=["panel", "row", "value", "low", "high", "best", "n", "seeds"]).assign(benchmarks=4)
    figure = rq4_methods.plot_answer(frame)
    above, below = figure.axes
    assert [label.get_text() for label in above.get_yticklabels()] == ["MT-OPD", "TA merge", "Average merge", "TIES merge"]
    assert [text.get_text() for text in above.texts if text.get_text().isdigit()] == ["0", "0", "1", "3"]
    assert "← 11.0" in [text.get_text() for text in above.texts] and above.get_xlim()[0] > 40
    (mark,) = (line for line in below.lines if line.get_marker() == "D")
    assert list(mark.get_xdata()) == [2.0] and [1.0, 4.0] in [list(line.get_xdata()) for line in below.lines]
    check_readable(figure)


def test_coverage_and_parts_of_a_run_draw_every_line_of_their_frame_apart():
    """As many models as a study with all its ways to one model has: a family's marker, a line of its own; a panel for each set."""
    models = ["sft", "routed", "rl-multi", "rl-multi@balance=rows", "cascade", *METHODS, "mt-opd", "mt-opd@round=2"]
    rows = [
        (over, model, k, 10 * k + i) for over in ("overall", "composition") for i, model in enumerate(models) for k in (1, 2, 4)
    ]
    frame = pd.DataFrame(rows, columns=["over", "model", "k", "score"])
    panels = rq4_methods.plot_coverage(frame).axes
    assert [axes.get_title() for axes in panels] == ["Mean over domains", "Composition"]
    for axes in panels:
        lines = axes.get_lines()
        looks = {(line.get_marker(), line.get_color(), str(line._dash_pattern)) for line in lines}
        assert len(looks) == len(models) and {line.get_marker() for line in lines[5:11]} == {"^"}
        assert [list(line.get_ydata()) for line in lines] == [[10 + i, 20 + i, 40 + i] for i in range(len(models))]
    log = pd.DataFrame({"step": [1, 2], "rewards/math/mean": [0.1, 0.2], "length/math": [9, 8], "length/agent": [np.nan, 5]})
    parts = learning_curves.by_domain(log, ["math", "agent"])
    first, second, *rest = training_curves.plot_domains(parts).axes
    assert [first.get_title(), second.get_title()] == ["Reward", "Completion length, tokens"] and not any(a.axison for a in rest)
    assert [list(line.get_ydata()) for line in second.get_lines()] == [[9, 8], [5]]
