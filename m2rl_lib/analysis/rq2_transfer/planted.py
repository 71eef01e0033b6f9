"""The planted truth of the micro world: what training on one domain must do to another, from the world's parameters alone.

A problem is solved where the model works it out and reads all of its words rightly. Training teaches thinking, which all domains
share, and the domain's readings; docs/world.md has the rules."""

from itertools import combinations, product

import pandas as pd

from m2rl_lib.data import problem_sets
from m2rl_lib.domains import conventions, problems

LEAST = 10.0  # points: a smaller expected change is no prediction
RISES, FALLS = "rises", "falls"
COUNTED = "instruction_following"  # the domain whose words count things in a text; elsewhere they are terms of a sum


def _carried(world: conventions.World, trained: str, tested: str) -> dict[str, int]:
    """The readings of one domain that are carried to another: all, or none where one says words in sums and one in counts."""
    return world.readings(trained) if (trained == COUNTED) == (tested == COUNTED) else {}


def read_rightly(world: conventions.World, trained: str, tested: str) -> float:
    """The share of a domain's words that a model reads rightly after training on another, by the world's table."""
    known, asked = _carried(world, trained, tested), world.readings(tested)
    return sum(float(known[word] == right) if word in known else 0.5 for word, right in asked.items()) / max(1, len(asked))


def expected_changes(p) -> pd.DataFrame:
    """What training on `trained` changes on `tested`'s first benchmark: trained, tested, expected (points), predicted ('rises' or
    'falls' where `LEAST` points or more are expected, else ''), of each ordered pair and diagonal cell; of a blend nothing."""
    columns = ["trained", "tested", "expected", "predicted"]
    if not problem_sets.is_micro(p.data_sources):
        return pd.DataFrame(columns=columns)
    world, thinking, said, rows = problem_sets.world_of(p), p.data_thinking, {}, []
    for name in p.domains:
        drawn = problem_sets.benchmark_problems(problem_sets.benchmarks(name)[0], "selection", 20, world)
        texts = [problems.prompt_of(row) for row in drawn]
        said[name] = round(sum(text.count(word) for text in texts for word in conventions.READINGS) / len(drawn))
    for trained, tested in product(p.domains, repeat=2):
        before = thinking.get(tested, 1.0)
        after = 1.0 if trained == tested or thinking.get(trained, 1.0) < 1 else before
        change = 100 * (after * read_rightly(world, trained, tested) ** said[tested] - before * 0.5 ** said[tested])
        rows.append((trained, tested, change, RISES if change >= LEAST else FALLS if change <= -LEAST else ""))
    return pd.DataFrame(rows, columns=columns)


def relation(p) -> pd.DataFrame:
    """How much two domains have in common: the share of words that they read alike less the share read differently (0 between
    COUNTED and another), and 1 more where both learn to think (`think`)."""
    world, rows = problem_sets.world_of(p), []
    for one, other in combinations(p.domains, 2):
        mine, theirs = world.readings(one), world.readings(other)
        both = [word for word in _carried(world, one, other) if word in theirs]
        alike = sum(mine[word] == theirs[word] for word in both)
        rarely = all(p.data_thinking.get(name, 1.0) < 1 for name in (one, other))
        share = (2 * alike - len(both)) / max(1, len(mine.keys() | theirs.keys()))
        rows.append({"one": one, "other": other, "relation": share + rarely, "think": rarely})
    return pd.DataFrame(rows)
