"""Planted relations: what the world's parameters alone say of transfer, and how an instrument's calls are scored against it."""

import pytest

from m2rl_lib.analysis.rq2_transfer import planted


@pytest.fixture
def study(smoke):
    return lambda **counts: smoke.model_copy(
        update={
            "data_world": {"shared": 0, "private": 0, "conflicting": 0} | counts,
            "data_thinking": {"math": 0.4, "coding": 0.4},
        }
    )


def change(p, trained: str, tested: str) -> tuple[float, str]:
    row = planted.expected_changes(p).set_index(["trained", "tested"]).loc[(trained, tested)]
    return row["expected"], row["predicted"]


def test_what_is_shared_lifts_what_conflicts_lowers_and_what_is_private_does_nothing(study):
    thinks, plans = ("math", "coding"), ("instruction_following", "agent")
    assert change(study(shared=2), *thinks) == (pytest.approx(80), planted.RISES)  # from 0.4 × ½ to 1
    assert change(study(private=2), *thinks) == (pytest.approx(30), planted.RISES)  # thinking alone: from 0.4 × ½ to ½
    assert change(study(conflicting=2), *thinks) == (pytest.approx(-20), planted.FALLS)  # thinking helps no wrong reading
    assert change(study(shared=2), *plans)[1] == planted.RISES and change(study(conflicting=2), *plans)[1] == planted.FALLS
    assert change(study(private=2), *plans) == (0, "") == change(study(shared=1, conflicting=1), *plans)


def test_relation_counts_words_read_alike_and_thinking(study):
    def related(p):
        return planted.relation(p).set_index(["one", "other"])["relation"]

    assert related(study(shared=2))["math", "coding"] == 2 and related(study(shared=2))["math", "agent"] == 1
    assert (
        related(study(conflicting=2))["instruction_following", "agent"] == -1 and related(study(private=2))["math", "agent"] == 0
    )


def test_of_a_blend_nothing_is_planted(study):
    assert planted.expected_changes(study().model_copy(update={"data_sources": ["owner/name@1"]})).empty
