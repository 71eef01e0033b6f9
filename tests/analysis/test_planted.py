"""Planted relations: what the world's parameters alone say of transfer, and how an instrument's calls are scored against it."""

import pytest

from m2rl_lib.analysis.rq2_transfer import planted


@pytest.fixture
def study(smoke):
    nothing, thinking = {"shared": 0, "private": 0, "conflicting": 0}, {"math": 0.4, "coding": 0.4}
    return lambda **counts: smoke.model_copy(update={"data_world": nothing | counts, "data_thinking": thinking})


def change(p, trained: str, tested: str) -> tuple[float, str]:
    row = planted.expected_changes(p).set_index(["trained", "tested"]).loc[(trained, tested)]
    return row["expected"], row["predicted"]


def test_what_is_shared_lifts_what_conflicts_lowers_and_what_is_private_does_nothing(study):
    thinks, plans = ("math", "coding"), ("science", "agent")
    assert change(study(shared=2), *thinks) == (pytest.approx(80), planted.RISES)  # from 0.4 × ½ to 1
    assert change(study(private=2), *thinks) == (pytest.approx(30), planted.RISES)  # thinking alone: from 0.4 × ½ to ½
    assert change(study(conflicting=2), *thinks) == (pytest.approx(-20), planted.FALLS)  # thinking helps no wrong reading
    assert change(study(shared=2), *plans)[1] == planted.RISES
    assert change(study(conflicting=2), "coding", "agent") == (pytest.approx(-50), planted.FALLS)
    assert change(study(private=2), *plans) == (0, "") == change(study(private=2), *reversed(plans))
    for words in ({"shared": 2}, {"conflicting": 2}):  # counts in a text and terms of a sum
        counts, terms = ("instruction_following", "agent"), ("agent", "instruction_following")
        assert change(study(**words), *counts) == (0, "") == change(study(**words), *terms)


def test_relation_counts_words_read_alike_and_thinking(study):
    worlds = {"shared": study(shared=2), "private": study(private=2), "conflicting": study(conflicting=2)}
    related = {name: planted.relation(p).set_index(["one", "other"])["relation"] for name, p in worlds.items()}
    assert related["shared"]["math", "coding"] == 2 and related["shared"]["math", "agent"] == 1
    assert related["conflicting"]["coding", "science"] == -1 and related["private"]["math", "agent"] == 0


def test_of_a_blend_nothing_is_planted(study):
    assert planted.expected_changes(study().model_copy(update={"data_sources": ["owner/name@1"]})).empty
