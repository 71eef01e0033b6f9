"""RQ3's figures are true to their frames."""

import numpy as np
import pandas as pd
import pytest
from test_figures import check_readable, committed

from m2rl_lib.figures import rq3_policies, rq3_weights

COLUMNS = ["panel", "row", "value", "low", "high", "least", "most"]
ROWS = [
    ("overlap", "two experts", 0.13, 0.06, 0.2, 0.08, 0.18),
    ("overlap", "matched random masks", 0.06, np.nan, np.nan, np.nan, np.nan),
    ("cosine", "two experts", np.nan, np.nan, np.nan, np.nan, np.nan),
    ("rank", "KL", -0.8, -0.9, -0.7, np.nan, np.nan),
    ("rank", "neighbours, the paper's rule", np.nan, np.nan, np.nan, np.nan, np.nan),
]


def test_the_answer_shows_intervals_and_says_what_is_undefined():
    figure = rq3_policies.plot_answer(pd.DataFrame(ROWS, columns=COLUMNS))
    overlap, cosine, rank = figure.axes
    drawn = [list(line.get_xdata()) for line in overlap.lines]
    assert [0.06, 0.2] in drawn and [0.08, 0.18] in drawn and [0.13] in drawn
    assert [text.get_text() for text in (*cosine.texts, *rank.texts)] == ["undefined", "undefined"]
    assert rank.get_xlim() == (-1, 1)
    check_readable(figure)


def test_the_kl_table_has_each_domains_own_expert_alone():
    frame = committed("study/kl_table")
    axes = rq3_policies.plot_kl_table(frame).axes[0]
    own = frame[(frame["source"] == "rl-" + frame["domain"]) & (frame["source"] != frame["target"])]
    assert len(axes.texts) == own["target"].nunique() * own["domain"].nunique()
    numbers = [text.get_text() for text in axes.texts if text.get_text() != "–"]
    assert len(numbers) == len(own) and f"{own['kl'].iloc[0]:.2f}" in numbers
    assert {text.get_fontsize() for text in axes.texts} == {7}


def test_few_models_fit_into_one_column_with_every_number():
    pairs = committed("study/weights_cosines").query("model.str.startswith('rl-') and other.str.startswith('rl-')")
    figure = rq3_weights.plot_pairs(pairs, "cosine", "cosine", "projected")
    models = pd.unique(pd.concat([pairs["model"], pairs["other"]]))
    assert figure.get_size_inches()[0] == pytest.approx(3.4) and len(figure.axes) == 1 and len(models) <= rq3_weights.MOST_NARROW
    assert len([text for text in figure.axes[0].texts if text.get_text()]) == len(models) * (len(models) - 1)
    check_readable(figure)
