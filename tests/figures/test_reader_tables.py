import pandas as pd
import pytest

from m2rl_lib.figures import tables


def test_a_readers_table_has_plain_names_and_units_and_folds_where_it_is_long():
    frame = pd.DataFrame(
        {"model": ["rl-instruction_following", "routed"], "over": ["overall", "math"], "estimate": [1234.56, None]}
    )
    html = tables.show(frame.set_index("model"), columns={"model": "model", "estimate": "difference, points"}).data
    assert "RL-IF" in html and "Routed experts" in html and "difference, points" in html and "overall" not in html
    assert "1,234.6" in html and "–" in html and "<details>" not in html
    pivoted = frame.pivot(index="model", columns="over", values="estimate")
    assert tables.show(pivoted).data.count("<th>") == 3  # model, math, overall: the columns' own name is no column
    long = tables.show(pd.concat([frame] * 7), folded="Every pair").data
    assert "<summary>Every pair (14 rows)</summary>" in long and long.count("RL-IF") == 7
    counted = pd.DataFrame({"p": [0.0004, 0.04, None], "n": pd.array([1500, 2, None], dtype="Int64")})
    html = tables.show(counted).data
    assert all(f"<td>{value}</td>" in html for value in ("&lt; 0.001", "0.040", "1,500", "–")) and "NA" not in html
    with pytest.raises(KeyError, match="no column low: the table has model, over, estimate"):
        tables.show(frame, columns={"low": "low"})


def test_costs_are_in_minutes_and_gigabytes():
    row = {
        "model": "rl-math",
        "stage": "rl",
        "wall_seconds": 90.0,
        "device_seconds": 90.0,
        "prompts": 1536,
        "generated_tokens": 500_000,
    }
    shown = tables.show_costs(pd.DataFrame([row | {"trained_tokens": 400_000, "peak_memory_bytes": 1.1e9}])).data
    assert all(f"<td>{value}</td>" in shown for value in ("RL-Math", "1.5", "1,536", "1.1")) and "peak_memory" not in shown


def test_a_log_ends_with_its_last_step():
    columns = [
        "reward",
        "reward_std",
        "frac_reward_zero_std",
        "entropy",
        "completions/mean_length",
        "completions/clipped_ratio",
        "grad_norm",
    ]
    shown = tables.show_log(pd.DataFrame({"step": range(2, 66, 2)} | dict.fromkeys(columns, 0.5))).data
    assert "<td>64</td>" in shown and "<td>2</td>" in shown and "<td>4</td>" not in shown and "groups of equal rewards" in shown
