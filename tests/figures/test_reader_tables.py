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
    with pytest.raises(KeyError, match="no column low: the table has model, over, estimate"):
        tables.show(frame, columns={"low": "low"})
