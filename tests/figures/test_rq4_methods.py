"""RQ4's figures are true to their frames."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from test_figures import committed

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
    return frame.assign(best=best.astype(bool), n=250)


def paths() -> pd.DataFrame:
    ends = [("sft", "rl-math"), ("rl-math", "rl-instruction_following"), ("rl-math", "rl-coding"), ("rl-coding", "rl-multi")]
    rows = [
        (a, b, share, domain, 1 + i * share * (1 - share), i / 4)
        for i, (a, b) in enumerate(ends)
        for share in np.linspace(0, 1, 5)
        for domain in ("math", "coding")
    ]
    return pd.DataFrame(rows, columns=["start", "end", "share", "domain", "loss", "barrier"])


def test_best_and_second_best_have_frames_and_reference_models_have_none():
    frame = committed("study/methods")
    axes = rq4_methods.plot_methods(frame).axes[0]
    framed = {"-": set(), ":": set()}
    for patch in axes.patches:
        if not patch.get_fill():
            framed[patch.get_linestyle()].add((int(patch.get_x()), int(patch.get_y())))
    models, benchmarks = list(frame["model"].unique()), list(frame["benchmark"].unique())
    for edge, place in (("-", 1), (":", 2)):
        rows = frame[frame["place"] == place]
        assert framed[edge] == {(benchmarks.index(r.benchmark), models.index(r.model)) for r in rows.itertuples()}
    bold = sorted(text.get_text() for text in axes.texts if text.get_weight() == "bold")
    assert bold == sorted(f"{score:.1f}" for score in frame.loc[frame["place"] == 1, "score"])


def test_a_sweep_frames_the_best_and_a_setting_that_was_not_swept_is_blank():
    frame = sweep().query("density != 0.8 or `lambda` > 1")
    ties = rq4_sweeps.plot_sweeps(frame).axes[METHODS.index("merge-ties")]
    assert ties.get_title() == "TIES" and len(ties.texts) == 24
    assert [label.get_text() for label in ties.get_yticklabels()] == ["0.8", "0.5", "0.2", "0.1"]  # from the top
    assert sorted(text.get_text() for text in ties.texts).count("") == 5 and "nan" not in {t.get_text() for t in ties.texts}
    (frame_of_best,) = [patch for patch in ties.patches if not patch.get_fill()]
    number = next(text for text in ties.texts if text.get_position() == (5.5, 3.5))  # λ 1.3, the lowest density
    assert frame_of_best.get_edgecolor() == to_rgba(number.get_color())


def test_undefined_skills_are_said_not_drawn():
    frame = committed("study/skills")
    frame.loc[frame["model"] == "rl-multi", ["estimate", "low", "high"]] = np.nan
    axes = rq4_methods.plot_skills(frame).axes
    missing = frame[frame["estimate"].isna()].groupby("measure").size()
    assert [len(panel.texts) for panel in axes] == [
        missing["consistency"] + missing["naive consistency"], missing["excess"], missing["shortfall"]
    ]  # fmt: skip
    assert {text.get_text() for text in axes[0].texts} == {"undefined"}
    drawn = [line.get_xdata()[0] for line in axes[1].lines if line.get_marker() == "D"]
    assert drawn == pytest.approx(list(frame.query("measure == 'excess'")["estimate"].dropna()))


def test_paths_name_the_highest_barrier_of_each_kind():
    axes = rq4_sweeps.plot_paths(paths()).axes
    titles = [one.get_title() for one in axes]
    assert "no barrier" in titles[0] and "highest barrier 0.500\nRL-Math → RL-Coding" in titles[1]
    assert sum(line.get_linestyle() == "--" for line in axes[1].lines) == 1


def test_coverage_and_parts_of_a_run_draw_every_line_of_their_frame_apart():
    """As many models as a study with all its ways to one model has: each with a marker of its own; a panel for each set."""
    models = ["sft", "routed", "rl-multi", *METHODS, "merge-ram", "merge-ram-plus", "merge-tsv", "cascade", "mt-opd@round=2"]
    rows = [
        (over, model, k, 10 * k + i) for over in ("overall", "composition") for i, model in enumerate(models) for k in (1, 2, 4)
    ]
    frame = pd.DataFrame(rows, columns=["over", "model", "k", "score"])
    panels = rq4_methods.plot_coverage(frame).axes
    assert [axes.get_title() for axes in panels] == ["Mean over domains", "Composition"]
    for axes in panels:
        lines = axes.get_lines()
        assert len({line.get_marker() for line in lines}) == len(models)
        assert [list(line.get_ydata()) for line in lines] == [[10 + i, 20 + i, 40 + i] for i in range(len(models))]
    log = pd.DataFrame({"step": [1, 2], "rewards/math/mean": [0.1, 0.2], "length/math": [9, 8], "length/agent": [np.nan, 5]})
    parts = learning_curves.by_domain(log, ["math", "agent"])
    first, second, *rest = training_curves.plot_domains(parts).axes
    assert [first.get_title(), second.get_title()] == ["Reward", "Completion length, tokens"] and not any(a.axison for a in rest)
    assert [list(line.get_ydata()) for line in second.get_lines()] == [[9, 8], [5]]
