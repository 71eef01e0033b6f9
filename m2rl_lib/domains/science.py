"""Science: multiple choice about quantities that rise and fall; the answer is a letter.

The published rule tries ordered patterns for a letter A–H and falls back on the last lone capital: 'answer choices …
Answer: D' gives C, and gold I or J can never be right. Ours takes the last `Answer: <letter>` or box with a letter after
`</think>`. Two letters ('C or D') are no answer, nor is one that begins a formula or a word. A row's `output_regex` is read as
NeMo Gym's mcqa does: case ignored, the last match, an option's whole text for its letter, else the last box.
"""

import random
import re

import regex

from m2rl_lib.domains.chat import answer_part
from m2rl_lib.domains.problems import Unusable, arithmetic_chain, micro_row, operands, step_names, thinking, work_out

NAME = "science"
BENCHMARKS = {"quantities": 3, "quantities_shifted": 4}  # benchmark: number of changes
CHANCE = 1 / 10
LABELS = ("stem_mcqa",)  # of the public blend

# Which verbs raise and which lower a quantity is the domain's own knowledge.
QUANTITIES = {
    "temperature": ("degrees", ("is heated by", "absorbs"), ("is cooled by", "radiates")),
    "speed": ("metres per second", ("is pushed by", "falls for"), ("is braked by", "climbs for")),
    "charge": ("coulombs", ("collects", "ionises for"), ("leaks", "is earthed by")),
    "mass": ("grams", ("condenses", "oxidises by"), ("evaporates", "erodes by")),
    "pressure": ("pascals", ("is compressed by", "is filled by"), ("expands by", "is vented by")),
}
LETTERS = "ABCDEFGHIJ"  # an option for each last digit: a list in rising order, which a micro model can read
LONGEST_ANSWER = 2000  # characters, the last, in which an `output_regex` is looked for
MOST_SECONDS = 2.0  # that it may take there: no answer is found by a pattern that goes on for longer

MARKER = re.compile(r"(?i:(answer)[*_\s]*:)|\\f?box(?:ed)?\s*\{")
OPENING = r"(?:\\(?:text|math|bold|f?box|left|big|rm\b|bf\b)[a-z]*|\\[(\[,;! ]|[\s*_$(\[{~`'\":])*"
CLOSING = re.compile(r"(?:\\right\b|\\[)\],;! ]|[*_$)\]}`'\"~])*")
WORDS = r"(?:or|and|is|because|since)\b"  # that may follow 'A' or 'I' as letters
LETTER = rf"(?:[B-HJ-Z]|[AI](?!\s+(?!{WORDS})[a-z]))(?![A-Za-z0-9'’])"
STATED = re.compile(rf"{OPENING}({LETTER})")
OTHER = re.compile(rf"\s*(?:[,/&|;+-]|\\text\w*\{{|\s)*(?:\b(?:or|and)\b)?(?:\}}|{OPENING})*({LETTER})")
FORMULA = re.compile(r"[ \t]*(?:[=^<>≈≤≥+]|_\w|\\(?!f?box|text|right)[a-z])")
SEPARATOR = re.compile(r"[ \t]*(?:[,/&|;+-]|\\text\w*\{\s*(?:or|and)|(?:or|and)\b)")


def make(rng: random.Random, benchmark: str, world) -> dict:
    """One problem, with the words of a `conventions.World`: a quantity changes; on which digit does it end?"""
    chain = arithmetic_chain(rng, operands(rng, BENCHMARKS[benchmark], world.words(NAME, rng)))
    quantity = rng.choice(sorted(QUANTITIES))
    unit, raising, lowering = QUANTITIES[quantity]
    changes = (f"{rng.choice(raising if sign == '+' else lowering)} {said}" for _, sign, _, _, said in chain)
    text = f"The {quantity} is {chain[0][0]} {unit}. It {', then '.join(changes)}. On which digit does it end? "
    text += " ".join(f"{letter}{digit}" for digit, letter in enumerate(LETTERS))
    graded = {"options": [{letter: str(digit)} for digit, letter in enumerate(LETTERS)]}
    graded |= {"expected_answer": LETTERS[chain[-1][3] % 10], "template_metadata": {}}
    return micro_row(NAME, text, **graded, chain=chain, steps=[*step_names(chain), "letter"])


def demonstrate(row: dict, rng: random.Random, wrong: frozenset[int] = frozenset(), think: bool = True) -> str:
    lines, value = work_out(rng, row["chain"], wrong)
    letter = LETTERS[value % 10]
    if len(lines) in wrong:
        letter = rng.choice([other for other in LETTERS if other != letter])
    return f"{thinking(lines, think)}Answer: {letter}<|im_end|>"


def answer(completion: str, output_regex: str | None = None, options: list[dict] = ()) -> str | None:
    """The letter that is stated last after `</think>`, in the form that `output_regex` asks for where there is one."""
    part = answer_part(completion) or ""
    if not output_regex:
        return _last_stated(part)
    part = part[-LONGEST_ANSWER:]
    try:
        found = list(regex.finditer(output_regex, part, flags=regex.IGNORECASE, timeout=MOST_SECONDS))
    except TimeoutError:
        return None
    for match in reversed(found):
        group = next((group for group in range(1, len(match.groups()) + 1) if match[group]), 0)
        letter = _captured(match[group], part[match.end(group) :], options)
        if letter is not None:
            return letter or None
    return _last_stated(part, boxes_only=True)


def _captured(text: str, rest: str, options: list[dict]) -> str | None:
    """The letter in what a row's pattern captured; '' for two of them, None where it is no letter."""
    text = text.strip()
    if len(text) == 1:
        if re.match(r"[A-Za-z]", rest):
            return None  # the first letter of a word
        return "" if _another(rest) else text.upper()
    bare = STATED.fullmatch(CLOSING.sub("", text).upper().strip(" ."))
    if bare:
        return bare[1]
    listed = [pair for option in options for pair in option.items()]
    same = [letter for letter, text_of in listed if " ".join(str(text_of).split()).lower() == text.lower()]
    return same[0] if len(same) == 1 else None


def _last_stated(part: str, boxes_only: bool = False) -> str | None:
    found, end = None, 0
    for marker in MARKER.finditer(part):
        if marker.start() < end or boxes_only and marker[1]:
            continue
        stated = STATED.match(part, marker.end(), marker.end() + 200)
        if stated is None:
            continue
        closed = CLOSING.match(part, stated.end())
        rest = part[closed.end() : closed.end() + 200]
        another = _another(rest)
        if another:
            found, end = None, closed.end() + another.end()
        elif not FORMULA.match(part, stated.end()) and not (FORMULA.match(rest) and "}" not in closed[0]):
            found, end = stated[1], stated.end()
    return found


def _another(rest: str) -> re.Match | None:
    """Another letter joined to the one before `rest`, as in ' or D'."""
    return OTHER.match(rest) if SEPARATOR.match(rest) else None


def judge_features(completion: str, row: dict) -> list[str]:
    """What a judge compares: the letter."""
    return list(answer(completion) or "")


def verify(completions: list[str], rows: list[dict]) -> list[float | None]:
    """1.0 where the last stated letter is the expected one, else 0.0; None for a row without a usable key."""
    rewards: list[float | None] = []
    for text, row in zip(completions, rows):
        letters = {letter for option in row.get("options") or [] for letter, value in option.items() if value is not None}
        expected = row.get("expected_answer")
        try:
            given = answer(text, (row.get("template_metadata") or {}).get("output_regex"), row.get("options") or [])
        except (regex.error, TypeError):
            letters = set()  # such a row cannot be graded
        rewards.append(float(given == expected) if expected in letters else None)
    return rewards


def read(raw: dict, messages: list[dict]) -> dict:
    """The fields of a science row of the public blend; options without a text are left out."""
    listed = [pair for option in raw.get("options") or [] for pair in (option or {}).items()]
    options = [{letter.strip().upper(): text} for letter, text in listed if text is not None]
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
