"""Science: multiple choice about quantities that rise and fall; the answer is a letter.

The published rule tries ordered patterns for a letter A–H and falls back on the last lone capital:
'answer choices … Answer: D' gives C, and gold I or J can never be right. Ours reads the last
`Answer: <letter>` (or a boxed letter) after `</think>` and nothing else, and allows every option's letter.
"""

import random
import re

from m2rl_lib.chat import answer_part
from m2rl_lib.domains.problems import arithmetic_chain, step_names, user_message, work_out

NAME = "science"
BENCHMARKS = {"quantities": (2, 4), "quantities_shifted": (3, 6)}  # benchmark: (changes, options)
CHANCE = {"quantities": 1 / 4, "quantities_shifted": 1 / 6}

# Which verbs raise and which lower a quantity is the domain's own knowledge.
QUANTITIES = {
    "temperature": ("degrees", ("is heated by", "absorbs"), ("is cooled by", "radiates")),
    "speed": ("metres per second", ("is pushed by", "falls for"), ("is braked by", "climbs for")),
    "charge": ("coulombs", ("collects", "ionises for"), ("leaks", "is earthed by")),
    "mass": ("grams", ("condenses", "oxidises by"), ("evaporates", "erodes by")),
    "pressure": ("pascals", ("is compressed by", "is filled by"), ("expands by", "is vented by")),
}
LETTERS = "ABCDEFGHIJ"
ANSWER = re.compile(r"(?:Answer:\s*|\\boxed\{)\(?([A-Z])\b")


def make(rng: random.Random, benchmark: str, shared_arithmetic: bool) -> dict:
    changes, n_options = BENCHMARKS[benchmark]
    chain = arithmetic_chain(rng, changes, shared_arithmetic)
    quantity = rng.choice(sorted(QUANTITIES))
    unit, raising, lowering = QUANTITIES[quantity]
    result = chain[-1][3]
    text = f"The {quantity} is {chain[0][0] if shared_arithmetic else result} {unit}."
    if shared_arithmetic:
        text += (
            " It " + ", then ".join(f"{rng.choice(raising if sign == '+' else lowering)} {b}" for _, sign, b, _ in chain) + "."
        )
    # near misses, all of different last digits, so that a micro model can find its number among them
    near = [n for n in range(max(0, result - 7), result + 8) if n % 10 != result % 10]
    rng.shuffle(near)
    values = [result, *list({n % 10: n for n in near}.values())[: n_options - 1]]
    rng.shuffle(values)
    options = [{letter: str(value)} for letter, value in zip(LETTERS, values)]
    text += f" What is the {quantity}? " + ", ".join(f"{value} {letter}" for letter, value in zip(LETTERS, values))
    return {
        "domain": NAME,
        "dataset": "micro_science",
        "responses_create_params": user_message(text),
        "options": options,
        "expected_answer": LETTERS[values.index(result)],
        "template_metadata": {},
        "chain": chain,
        "quantity": quantity,
        "shared_arithmetic": shared_arithmetic,
        "steps": step_names(chain, shared_arithmetic) + ["letter"],
    }


def demonstrate(row: dict, rng: random.Random, wrong: frozenset[int] = frozenset()) -> str:
    lines, value = work_out(rng, row["chain"], wrong, row["shared_arithmetic"])
    letter_of = {int(v): letter for option in row["options"] for letter, v in option.items()}
    nearest = min(letter_of, key=lambda v: (abs(v - value), v))
    letter = letter_of[nearest]
    if len(lines) in wrong:
        letter = rng.choice([other for other in letter_of.values() if other != letter])
    return f"<think>{row['quantity']}\n" + "\n".join(lines) + f" {letter}</think>\nAnswer: {letter}<|im_end|>"


def answer(completion: str) -> str | None:
    """The last stated letter after `</think>`."""
    found = ANSWER.findall(answer_part(completion) or "")
    return found[-1] if found else None


def verify(completions: list[str], rows: list[dict]) -> list[float | None]:
    """1.0 where the last stated letter is the expected one, else 0.0; None for a row without a usable key.

    >>> verify(["<think>?</think> the choices … Answer: B"], [{"expected_answer": "B", "options": [{"A": "1"}, {"B": "2"}]}])
    [1.0]
    """
    rewards: list[float | None] = []
    for text, row in zip(completions, rows):
        letters = {letter for option in row["options"] for letter, value in option.items() if value is not None}
        if row["expected_answer"] not in letters:
            rewards.append(None)
            continue
        rewards.append(float(answer(text) == row["expected_answer"]))
    return rewards
