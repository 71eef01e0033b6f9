"""Learning curves in a sentence: where each domain began and ended, the trained ones first."""

import pandas as pd

from m2rl_lib.stats import learning_curves


def test_a_run_is_told_by_its_ends():
    rows = [("math", 4, 0.9), ("math", 0, 0.2), ("coding", 0, 0.3), ("coding", 4, 0.4)]
    curves = pd.DataFrame(rows, columns=["domain", "step", "reward"]).assign(model="rl-math", kind="selection")
    said = learning_curves.gains_sentence(learning_curves.curve_table(curves, 40), ["math"])
    assert said.startswith(
        "**Reward on selection problems (n = 40 a domain).** Trained: math from 0.20 to 0.90 [0.77, 0.96]. Not"
    )
    assert "Not trained: coding from 0.30 to 0.40 [0.26, 0.55]." in said
    assert "Not trained" not in learning_curves.gains_sentence(learning_curves.curve_table(curves, 40), ["math", "coding"])


def test_a_student_comes_nearer_to_its_teachers():
    rows = pd.DataFrame({"step": [1, 1, 8, 8], "domain": ["math", "coding"] * 2, "kl": [0.2, 0.4, 0.05, 0.15]})
    assert "goes from 0.30 to 0.10 nats a token" in learning_curves.distance_sentence(rows)
