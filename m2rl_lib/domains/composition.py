"""Composition: chains whose words are the private ones of two domains at once; never in SFT's or RL's training."""

import random

from m2rl_lib.domains import mathematics
from m2rl_lib.domains.conventions import READINGS
from m2rl_lib.domains.mathematics import answer, demonstrate, verify  # noqa: F401  # the form is math's
from m2rl_lib.domains.problems import arithmetic_chain

NAME = "composition"
BENCHMARKS = {"composition": None}
CHANCE = 0.0


def make(rng: random.Random, benchmark: str, world) -> dict:
    """One problem: each private word of a `pair` of domains once and a plain number; two wrong readings never cancel."""
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
