"""Science: multiple choice about quantities that rise and fall; the answer is a letter.

The published rule tries ordered patterns for a letter A–H and falls back on the last lone capital:
'answer choices … Answer: D' gives C, and gold I or J can never be right. Ours reads the last
`Answer: <letter>` (or a boxed letter) after `</think>` and nothing else, and allows every option's letter;
where a row of the public blend asks for another form and says so by its `output_regex`, that is read instead.
"""

import random
import re

import regex

from m2rl_lib.domains.chat import answer_part
from m2rl_lib.domains.problems import LARGEST, Unusable, arithmetic_chain, step_names, user_message, work_out

NAME = "science"
BENCHMARKS = {"quantities": 3, "quantities_shifted": 4}  # benchmark: number of changes
CHANCE = 1 / 4
LABELS = ("stem_mcqa",)  # of the public blend

# Which verbs raise and which lower a quantity is the domain's own knowledge.
QUANTITIES = {
    "temperature": ("degrees", ("is heated by", "absorbs"), ("is cooled by", "radiates")),
    "speed": ("metres per second", ("is pushed by", "falls for"), ("is braked by", "climbs for")),
    "charge": ("coulombs", ("collects", "ionises for"), ("leaks", "is earthed by")),
    "mass": ("grams", ("condenses", "oxidises by"), ("evaporates", "erodes by")),
    "pressure": ("pascals", ("is compressed by", "is filled by"), ("expands by", "is vented by")),
}
# The options are ranges in rising order: finding a number among shuffled ones is beyond a micro model
# (tried: it stayed at chance after an SFT that solved everything else).
RANGES = {"A": (0, 9), "B": (10, 19), "C": (20, 29), "D": (30, LARGEST)}
ANSWER = re.compile(r"(?:Answer:[\s*]*|\\boxed\{(?:\\text\{)?)\(?([A-Z])\b")
LONGEST_ANSWER = 500  # characters, the last, in which an `output_regex` is looked for
MOST_SECONDS = 2.0  # that it may take there: no answer is found by a pattern that goes on for longer


def make(rng: random.Random, benchmark: str, shared_arithmetic: bool) -> dict:
    """One problem: a quantity changes, in which range does it end? Without shared arithmetic it only starts."""
    chain = arithmetic_chain(rng, BENCHMARKS[benchmark])
    if not shared_arithmetic:
        start = rng.randrange(LARGEST + 1)
        chain = [(start, "+", 0, start)]
    quantity = rng.choice(sorted(QUANTITIES))
    unit, raising, lowering = QUANTITIES[quantity]
    text = f"The {quantity} is {chain[0][0]} {unit}."
    if not shared_arithmetic:
        text = rng.choice(("", "Read: ", "Today: ", "Look: ")) + text
    else:
        changes = (f"{rng.choice(raising if sign == '+' else lowering)} {operand}" for _, sign, operand, _ in chain)
        text += f" It {', then '.join(changes)}."
    options = [{letter: f"{low} to {high}"} for letter, (low, high) in RANGES.items()]
    text += f" What is the {quantity}? " + ", ".join(f"{letter} {told}" for option in options for letter, told in option.items())
    return {
        "domain": NAME,
        "dataset": "micro_science",
        "responses_create_params": user_message(text),
        "options": options,
        "expected_answer": _letter(chain[-1][3]),
        "template_metadata": {},
        "chain": chain,
        "quantity": quantity,
        "shared_arithmetic": shared_arithmetic,
        "steps": [*step_names(chain, shared_arithmetic), "letter"],
    }


def _letter(value: int) -> str:
    """The option whose range holds `value`, or is nearest to it."""
    return next((letter for letter, (_, high) in RANGES.items() if value <= high), "D")


def demonstrate(row: dict, rng: random.Random, wrong: frozenset[int] = frozenset()) -> str:
    lines, value = work_out(rng, row["chain"], wrong, row["shared_arithmetic"])
    letter = _letter(value)
    if len(lines) in wrong:
        letter = rng.choice([other for other in RANGES if other != letter])
    return f"<think>{row['quantity']}\n" + "\n".join(lines) + f"</think>\nAnswer: {letter}<|im_end|>"


def answer(completion: str, output_regex: str | None = None) -> str | None:
    """The last stated letter after `</think>`."""
    part = answer_part(completion) or ""
    try:
        found = (
            regex.findall(output_regex, part[-LONGEST_ANSWER:], timeout=MOST_SECONDS) if output_regex else ANSWER.findall(part)
        )
    except TimeoutError:
        return None
    if not found:
        return None
    return next(filter(None, found[-1]), None) if isinstance(found[-1], tuple) else found[-1]


def gist(completion: str, row: dict) -> list[str]:
    """What a judge compares: the letter."""
    return list(answer(completion) or "")


def verify(completions: list[str], rows: list[dict]) -> list[float | None]:
    """1.0 where the last stated letter is the expected one, else 0.0; None for a row without a usable key.

    >>> verify(["<think>?</think> the choices … Answer: B"], [{"expected_answer": "B", "options": [{"A": "1"}, {"B": "2"}]}])
    [1.0]
    """
    rewards: list[float | None] = []
    for text, row in zip(completions, rows):
        letters = {letter for option in row.get("options") or [] for letter, value in option.items() if value is not None}
        expected = row.get("expected_answer")
        try:
            given = answer(text, (row.get("template_metadata") or {}).get("output_regex"))
        except (regex.error, TypeError):
            letters = set()  # such a row cannot be graded
        rewards.append(float(given == expected) if expected in letters else None)
    return rewards


def read(raw: dict, messages: list[dict]) -> dict:
    """The fields of a science row of the public blend; options without a text are left out.

    Unusable with fewer than two options, with an answer that is none of them, or an `output_regex` that is no pattern.
    """
    options = [
        {letter.strip().upper(): text}
        for option in raw.get("options") or []
        for letter, text in (option or {}).items()
        if text is not None
    ]
    letters = [letter for option in options for letter in option]
    expected = str(raw.get("expected_answer") or "").strip().upper()
    if not expected:
        raise Unusable("empty answer")
    if len(letters) < 2:
        raise Unusable("fewer than two options")
    if expected not in letters:
        raise Unusable("the expected answer is not among the options")
    asked = (raw.get("template_metadata") or {}).get("output_regex")
    try:
        regex.compile(asked or "")
    except (regex.error, TypeError):
        raise Unusable("output_regex is no pattern") from None
    return {"options": options, "expected_answer": expected, "template_metadata": {"output_regex": asked} if asked else {}}
