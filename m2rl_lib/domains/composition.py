"""Composition: chains whose words are the private ones of two domains at once; never in SFT's or RL's training.

A demonstration never has two domains' private words, and an expert learns the right readings of its own alone: what joint models
solve here that no expert does is a new skill.
"""

import random

from m2rl_lib.domains import mathematics
from m2rl_lib.domains.conventions import READINGS
from m2rl_lib.domains.mathematics import answer, demonstrate, verify  # noqa: F401  # the form is math's
from m2rl_lib.domains.problems import arithmetic_chain

NAME = "composition"
BENCHMARKS = {"composition": None}
CHANCE = 0.0


def make(rng: random.Random, benchmark: str, world) -> dict:
    """One problem: each private word of two domains once and a plain number, with the domains as `pair`.

    Every wrong reading moves the result the same way, so two of them never cancel.
    """
    pair = rng.sample(world.domains, 2)
    words = {word: world.words(domain)[word] for domain in pair for word in world.private_words(domain)}
    number = rng.randrange(2, 7)
    amounts, chain = [*words.items(), (str(number), number)], []
    while not chain or len({_pushed(step) for step in chain if step[4] in words}) > 1:
        rng.shuffle(amounts)
        chain = arithmetic_chain(rng, amounts)
    return mathematics.problem(rng, chain) | {"domain": NAME, "dataset": "micro_composition", "pair": sorted(pair)}


def _pushed(step) -> bool:
    """Whether the other reading of a step's word makes the result larger."""
    _, sign, amount, _, said = step
    return (sum(READINGS[said]) > 2 * amount) == (sign == "+")
