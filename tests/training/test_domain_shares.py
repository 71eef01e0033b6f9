"""Each domain's part of a rollout, and equal shares of the gradient: by hand, and in real runs of a tiny mixed RL."""

import pandas as pd
import pytest
from tiny import parity, weights

from m2rl_lib.config import locations
from m2rl_lib.stats import learning_curves
from m2rl_lib.storage import result_tables
from m2rl_lib.training import domain_shares, grpo, sft

ROWS = pd.DataFrame(
    [
        *(("math", a, 30, 0) for a in (1.0, -1.0, 1.0, -1.0)),
        *(("math", 0.0, 50, 1) for _ in range(4)),  # no variance
        *(("form", a, 5, 2) for a in (1.5, -0.5, -0.5, -0.5)),
        *(("form", a, 5, 3) for a in (0.5, 0.5, 0.5, -1.5)),
        *(("tools", 0.0, 9, 4) for _ in range(4)),
    ],
    columns=["domain", "advantage", "tokens", "group"],
)


def test_parts_by_hand():
    table = domain_shares.by_domain(ROWS)
    assert table["length"].to_dict() == {"form": 5, "math": 40, "tools": 9}
    assert table["zero_std"].to_dict() == {"form": 0, "math": 0.5, "tools": 1}
    assert table["rows"].to_dict() == pytest.approx({"math": 4 / 12, "form": 8 / 12, "tools": 0})
    assert table["tokens"].to_dict() == pytest.approx({"math": 120 / 160, "form": 40 / 160, "tools": 0})
    assert (domain_shares.by_domain(ROWS.assign(advantage=0.0))[["rows", "tokens"]] == 0).all(axis=None)


@pytest.mark.parametrize("unit", domain_shares.UNITS)
def test_weighted_domains_have_equal_shares_and_the_mean_weight_is_1(unit):
    found = domain_shares.weights(ROWS, unit)
    learned = ROWS[ROWS["advantage"] != 0].assign(rows=1)
    weight = learned["domain"].map(found)
    assert set(found.index) == {"math", "form"} and weight.mean() == pytest.approx(1)
    sums = (weight * learned[unit]).groupby(learned["domain"]).sum()
    assert sums["math"] == pytest.approx(sums["form"])
    assert domain_shares.weights(ROWS.assign(advantage=0.0), unit).empty


def test_a_mixed_run_logs_its_domains_and_balance_changes_what_is_learned(smoke, monkeypatch):
    smoke.domains, smoke.sft_steps, smoke.rlvr_mixed_steps, smoke.rlvr_prompts_per_step = ["math", "agent"], 4, 4, 6
    monkeypatch.setattr(grpo, "reward_function", parity)  # an untrained model is never right
    sft.run(smoke)
    ends = {}
    for balance in ("prompts", "rows", "tokens"):
        ends[balance] = weights(grpo.run_mixed(smoke.model_copy(update={"balance": balance}))[-1])
        name = grpo.mixed_name(balance)
        parts = learning_curves.by_domain(result_tables.read_table(smoke, "training", [name]), smoke.domains)
        table = parts.pivot(index=["measure", "step"], columns="domain", values="value")
        assert set(parts["measure"]) == set(learning_curves.PARTS.values())
        assert table.loc["share of completions with an advantage"].sum(axis=1).tolist() == pytest.approx([1] * 4)
        assert (table.loc["entropy, nats a token"] > 0).all(axis=None)
    assert not ends["prompts"].equal(ends["rows"]) and not ends["rows"].equal(ends["tokens"])
    assert locations.model_folder(smoke.study, smoke.seed, "rl-multi@balance=rows").is_dir()
