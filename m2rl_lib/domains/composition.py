"""Composition: chains whose words are the private ones of two domains at once; never in SFT's or RL's training.

A demonstration never has two domains' private words, and an expert learns the right readings of its own alone: what joint models
solve here that no expert does is a new skill.
"""

import random

from m2rl_lib.domains import mathematics
from m2rl_lib.domains.mathematics import answer, verify  # noqa: F401  # the form is math's
from m2rl_lib.domains.problems import arithmetic_chain

NAME = "composition"
BENCHMARKS = {"composition": None}
CHANCE = 0.0


def make(rng: random.Random, benchmark: str, world) -> dict:
    """One problem: each private word of two domains once and a plain number, with the domains as `pair`."""
    pair = rng.sample(world.domains, 2)
    words = {word: world.words(domain)[word] for domain in pair for word in world.private_words(domain)}
    amounts = [*words.items(), (number := str(rng.randrange(2, 7)), int(number))]
    rng.shuffle(amounts)
    row = mathematics.problem(rng, arithmetic_chain(rng, amounts))
    return row | {"domain": NAME, "dataset": "micro_composition", "pair": sorted(pair)}
