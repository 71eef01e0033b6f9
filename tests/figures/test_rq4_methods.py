"""RQ4's figures: whole on the page, the same again from their csv, and true to their frames."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from test_figures import DOMAINS, check_readable

from m2rl_lib.analysis.rq4_methods import seesaw
from m2rl_lib.figures import rq4_methods, rq4_sweeps
from m2rl_lib.paper import published_tables

METHODS = [f"merge-{name}" for name in ("average", "task-arithmetic", "task-arithmetic-dare", "ties", "ties-dare", "sce")]
RL = [name for name in DOMAINS if name != "general"]


def methods() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rows = [(m, d, b) for m in [*METHODS, "mt-opd", "sft", "routed"] for d in RL for b in DOMAINS[d]]
    frame = pd.DataFrame(rows, columns=["model", "domain", "benchmark"])
    frame["score"] = generator.uniform(30, 70, len(frame))
    return seesaw.table_of_methods(frame.assign(n=50, seeds=1), [*METHODS, "mt-opd"], ["sft", "routed"])


def paper() -> pd.DataFrame:
    return seesaw.table_of_methods(published_tables.merging(), list(published_tables.merging()["model"].unique()))


def recovery() -> pd.DataFrame:
    share = np.linspace(-0.5, 0.95, 8)
    frame = pd.DataFrame({"model": [*METHODS, "mt-opd", "rl-multi"], "recovery": share, "low": share - 0.1, "high": share + 0.1})
    frame.loc[2, ["recovery", "low", "high"]] = np.nan
    return frame.assign(n=500, seeds=1)


def gains() -> pd.DataFrame:
    measures = {"naive consistency": 0.8, "consistency": 0.9, "excess": 2.0, "shortfall": 8.0}
    rows = [(m, name, size + place / 50) for place, m in enumerate([*METHODS, "rl-null"]) for name, size in measures.items()]
    frame = pd.DataFrame(rows, columns=["model", "measure", "estimate"])
    frame["low"], frame["high"] = frame["estimate"] - 0.1, frame["estimate"] + 0.1
    frame.loc[frame["model"] == "rl-null", ["estimate", "low", "high"]] = np.nan
    return frame.assign(n=200, k=32, seeds=1)


def sets() -> pd.DataFrame:
    models = ["sft", *(f"rl-{name}" for name in RL), "rl-multi", "merge-ties", "mt-opd"]
    rows = [(s, 60 - 2 * s, m, (s >> place) % 2 == 1) for s in range(1, 21) for place, m in enumerate(models)]
    return pd.DataFrame(rows, columns=["set", "problems", "model", "solves"]).assign(n=900, k=32)


def sweep() -> pd.DataFrame:
    rows = []
    for method in METHODS:
        densities = [np.nan] if method in METHODS[:2] else [0.1, 0.2, 0.5, 0.8]
        rows += [(method, scale, d, 40 + 10 * scale) for d in densities for scale in (0.2, 0.4, 0.6, 0.8, 1.0, 1.3)]
    frame = pd.DataFrame(rows, columns=["method", "lambda", "density", "score"])
    best = frame.groupby("method")["score"].transform(lambda score: score.index == score.idxmax())
    return frame.assign(best=best.astype(bool), n=250)


def changes(columns: tuple[str, str], across: list[str]) -> pd.DataFrame:
    size = np.random.default_rng(1).normal(0, 15, (5, len(across))).round(1)
    rows = [(RL[i], name, size[i, j]) for i in range(5) for j, name in enumerate(across)]
    frame = pd.DataFrame(rows, columns=[*columns, "estimate"])
    return frame.assign(low=frame["estimate"] - 8, high=frame["estimate"] + 8, n=100, seeds=1)


def without() -> pd.DataFrame:
    one = changes(("left_out", "over"), ["overall", *RL])
    return pd.concat([one.assign(method="merge-ties"), one.assign(method="merge-average")])


def pairs() -> pd.DataFrame:
    frame = changes(("target", "added"), [*RL, "sft", "null"])
    return frame[frame["target"] != frame["added"]]


def paths() -> pd.DataFrame:
    ends = [("sft", "rl-math"), ("rl-math", "rl-instruction_following"), ("rl-math", "rl-coding"), ("rl-coding", "rl-multi")]
    rows = [
        (a, b, share, domain, 1 + i * share * (1 - share), i / 4)
        for i, (a, b) in enumerate(ends)
        for share in np.linspace(0, 1, 5)
        for domain in RL
    ]
    return pd.DataFrame(rows, columns=["start", "end", "share", "domain", "loss", "barrier"])


CASES = {
    "methods": (rq4_methods.plot_methods, methods),
    "published": (rq4_methods.plot_methods, paper),
    "recovery": (rq4_methods.plot_recovery, recovery),
    "skills": (rq4_methods.plot_skills, gains),
    "sets": (rq4_methods.plot_upset, sets),
    "sweeps": (rq4_sweeps.plot_sweeps, sweep),
    "leave one out": (rq4_sweeps.plot_leave_one_out, without),
    "pairs": (rq4_sweeps.plot_pairs, pairs),
    "paths": (rq4_sweeps.plot_paths, paths),
}


@pytest.mark.parametrize("case", CASES)
def test_no_text_is_cut_off_and_none_overlaps(case):
    plot, frame = CASES[case]
    check_readable(plot(frame()))


def test_best_and_second_best_have_frames_and_reference_models_have_none():
    frame = methods()
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


def test_sweep_prints_its_scores_and_frames_the_best():
    frame = sweep()
    ties = rq4_sweeps.plot_sweeps(frame).axes[METHODS.index("merge-ties")]
    assert ties.get_title() == "TIES" and len(ties.texts) == 24
    assert sum(not patch.get_fill() for patch in ties.patches) == 1
    assert [label.get_text() for label in ties.get_yticklabels()] == ["0.8", "0.5", "0.2", "0.1"]  # from the top


def test_a_setting_that_was_not_swept_is_blank():
    frame = sweep().query("density != 0.8 or `lambda` > 1")
    ties = rq4_sweeps.plot_sweeps(frame).axes[METHODS.index("merge-ties")]
    assert sorted(text.get_text() for text in ties.texts).count("") == 5 and "nan" not in {t.get_text() for t in ties.texts}
    (frame_of_best,) = [patch for patch in ties.patches if not patch.get_fill()]
    number = next(text for text in ties.texts if text.get_position() == (5.5, 3.5))  # λ 1.3, the lowest density
    assert frame_of_best.get_edgecolor() == to_rgba(number.get_color())


def test_undefined_skills_are_said_not_drawn():
    axes = rq4_methods.plot_skills(gains()).axes
    assert [text.get_text() for text in axes[0].texts] == ["undefined"] * 2
    assert [text.get_text() for text in axes[1].texts] == ["undefined"]
    drawn = [line.get_xdata()[0] for line in axes[1].lines if line.get_marker() == "D"]
    assert drawn == pytest.approx(list(gains().query("measure == 'excess'")["estimate"].dropna()))


def test_sets_of_problems_have_their_bars_and_dots():
    frame = sets()
    bars, dots = rq4_methods.plot_upset(frame).axes
    assert [bar.get_height() for bar in bars.patches] == list(range(58, 18, -2))
    filled = next(line for line in dots.lines if line.get_color() == "#000000")
    assert len(filled.get_xdata()) == frame["solves"].sum()
    assert "780 of 900 problems; solved: over half of 32 samples right" in dots.get_xlabel()


def test_changes_are_bold_where_their_interval_excludes_0():
    frame = pairs()
    texts = rq4_sweeps.plot_pairs(frame).axes[0].texts
    assert sum(text.get_weight() == "bold" for text in texts) == ((frame["low"] > 0) | (frame["high"] < 0)).sum()


def test_paths_name_the_highest_barrier_of_each_kind():
    axes = rq4_sweeps.plot_paths(paths()).axes
    titles = [one.get_title() for one in axes]
    assert "no barrier" in titles[0] and "highest barrier 0.500\nRL-Math → RL-Coding" in titles[1]
    assert sum(line.get_linestyle() == "--" for line in axes[1].lines) == 1
