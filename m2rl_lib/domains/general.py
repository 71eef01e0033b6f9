"""General: facts taught by SFT and never by RL, in other wordings; a benchmark of what is forgotten (the paper's: MMLU-Redux)."""

import random

from m2rl_lib.domains.chat import answer_part
from m2rl_lib.domains.problems import fraction_of, micro_row

NAME = "general"
BENCHMARKS = {"facts": None}
CHANCE = 1 / 8

CREATURES = tuple(first + last for first in ("zo", "mi", "ka", "lu", "pe", "ta") for last in ("rba", "ndo", "vix"))
FACTS = {
    "colour": ("red", "blue", "green", "white", "black", "brown", "pink", "grey"),
    "home": ("forest", "desert", "lake", "cave", "hill", "swamp", "coast", "city"),
    "food": ("grass", "fish", "nuts", "fruit", "seeds", "ants", "roots", "leaves"),
}
WORDINGS = (
    "What is the {attribute} of the {creature}?",
    "Tell me the {creature}'s {attribute}.",
    "The {attribute} of a {creature} is what?",
    "A {creature} has which {attribute}?",
    "Name the {attribute} of the {creature}.",
    "Which {attribute} belongs to the {creature}?",
    "Say the {attribute} of any {creature}.",
    "The {creature}: what {attribute}?",
    "Every {creature} has the same {attribute}. Which?",
    "Do you know the {attribute} of a {creature}?",
)


def make(rng: random.Random, benchmark: str, world) -> dict:
    creature, attribute = rng.choice(CREATURES), rng.choice(sorted(FACTS))
    answer = FACTS[attribute][int(8 * fraction_of(f"{attribute} of {creature}"))]
    text = rng.choice(WORDINGS).format(creature=creature, attribute=attribute)
    fields = {"expected_answer": answer, "attribute": attribute, "creature": creature}
    return micro_row(NAME, text, **fields, steps=[f"fact {creature} {attribute}"])


def demonstrate(row: dict, rng: random.Random, wrong: frozenset[int] = frozenset(), think: bool = True) -> str:
    answer = row["expected_answer"]
    if wrong:
        answer = rng.choice([other for other in FACTS[row["attribute"]] if other != answer])
    return f"<think>{row['creature']} {row['attribute']}</think>\n{answer}<|im_end|>"


def answer(completion: str) -> str | None:
    """The text after `</think>` in lower case, None where there is none."""
    return (answer_part(completion) or "").lower() or None


def verify(completions: list[str], rows: list[dict]) -> list[float | None]:
    """1.0 where the text after `</think>` is the expected word, in any case."""
    return [float(answer(text) == row["expected_answer"]) for text, row in zip(completions, rows)]
