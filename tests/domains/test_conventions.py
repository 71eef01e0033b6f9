"""The world of two readings: what is shared, private and conflicting is so in problems, and demonstrations never tell which is right."""

import random

import pytest

from m2rl_lib import domains
from m2rl_lib.data import problem_sets
from m2rl_lib.domains import conventions, problems
from m2rl_lib.stats import graded_samples

DOMAINS = tuple(domains.DOMAINS)
COUNTS = {"shared": 2, "private": 2, "conflicting": 2}


def world(**changes) -> conventions.World:
    return conventions.read_world(COUNTS | changes, DOMAINS)


def test_kinds_of_words_are_what_they_are_called():
    readings = {domain: world().readings(domain) for domain in DOMAINS}
    shared, conflicting = world().shared, world().conflicting
    for word in shared:
        assert len({read[word] for read in readings.values()}) == 1
    for word in conflicting:
        assert [readings[domain][word] for domain in DOMAINS[:3]] in ([0, 1, 0], [1, 0, 1])
    for domain in DOMAINS:
        for word in world().private_words(domain):
            assert [other for other in DOMAINS if word in readings[other]] == [domain]
        assert sum(readings[domain].values()) == len(readings[domain]) / 2  # greedy decoding of SFT is right on half of them
    for row in world().table():
        right = [row[domain] for domain in DOMAINS if row[domain]]
        assert len(right) == (1 if row["kind"] == "private" else len(DOMAINS)) and {*right} <= {row["usual"], row["other"]}
        assert len({*right}) == (2 if row["kind"] == "conflicting" else 1)


@pytest.mark.parametrize("benchmark", [name for domain in DOMAINS for name in domains.DOMAINS[domain].BENCHMARKS])
def test_problems_of_a_world_use_its_words_and_are_graded_by_its_readings(benchmark):
    module = domains.ALL[domains.DOMAIN_OF[benchmark]]
    rng = random.Random(0)
    rows = problem_sets.benchmark_problems(benchmark, "test", 40, world())
    foreign = set(conventions.READINGS) - set(world().readings(module.NAME))
    assert not any(f" {word}{end}" in problems.prompt_of(row) for row in rows for word in foreign for end in ",.? ")
    assert module.verify([module.demonstrate(row, rng) for row in rows], rows) == [1.0] * 40
    for word, right in world().words(module.NAME).items():
        contrary = {word: sum(conventions.READINGS[word]) - right}
        graded = module.verify([module.demonstrate(conventions.reread(row, contrary), rng) for row in rows], rows)
        for row, reward in zip(rows, graded):
            said = [step[4] for step in row["chain"]] if "chain" in row else row["said"]
            assert reward == (word not in said)


def test_demonstrations_use_both_readings_and_never_two_domains_private_words():
    rng = random.Random(0)
    seen = [conventions.Demonstrated().words("math", rng) for _ in range(2000)]
    for word, (usual, _) in conventions.READINGS.items():
        read = [words[word] for words in seen if word in words]
        assert abs(sum(amount == usual for amount in read) / len(read) - conventions.USUAL) < 0.1
    assert all(sum(bool(words.keys() & bundle) for bundle in conventions.BUNDLES) == 1 for words in seen)


def test_composition_needs_the_private_words_of_two_domains():
    for row in problem_sets.benchmark_problems("composition", "test", 40, world()):
        said = {step[4] for step in row["chain"]}
        for domain in row["pair"]:
            assert set(world().private_words(domain)) <= said
        assert len(said & set(conventions.READINGS)) == 4


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"shared": 5}, "data_world asks for 2 conflicting words, 1 are left of"),
        ({"private": 3}, "data_world asks for 3 private words of each domain, allowed are 0 to 2"),
        ({"shared": ["a few"], "conflicting": ["a few"]}, "data_world: 'a few' is both shared and conflicting"),
        ({"shared": ["plenty"]}, "data_world: 'plenty' is both shared and private"),
        ({"conflicting": ["a gross"]}, "data_world: 'a gross' is not one of a few"),
    ],
)
def test_a_world_that_contradicts_itself_is_refused(given, line):
    with pytest.raises(ValueError, match=line):
        world(**given)


def test_averages_leave_out_the_domains_that_rl_never_trains():
    assert tuple(domains.UNTRAINED) == graded_samples.UNTRAINED
