r"""Equality of two mathematical answers, by math-verify in a bounded process (this file run as a script).

The answer is the content of the last `\boxed{…}` or `\fbox{…}`: boxes joined by nothing but a comma, 'and' or 'or' are one
list of answers, and a last box that is cut off is none. `\sqrt{2} \approx 1.414` is its exact first part; any other relation
sign is wrong where the key has none. `numbers.py` says when numbers are equal.
"""

import logging
import re
from fractions import Fraction
from functools import lru_cache

from m2rl_lib.sandbox.bounded import Bounded, Failed, Overrun, serve

LONGEST_ANSWER = 1000  # characters; a longer one is wrong
MOST_SECONDS = 0.5  # of processor time; a busy machine has to give them within 2.8 s

BOX = re.compile(r"\\(?:boxed|fbox)\s*\{|\\[{}]|\\\\(?!boxed|fbox)|[{}]")
JOINED = re.compile(
    r"(?:[\s$.]|\\[()\[\]]|\\q?quad)*(?:,|;|\\text\w*\{\s*(?:and|or)\s*\}|\band\b|\bor\b)+(?:[\s$]|\\[()\[\]]|\\q?quad)*(?:(?:and|or)\b[\s$]*)?"
)
RATIONAL = re.compile(r"(-?)(?:\\[dt]?frac\{([0-9]{1,15})\}\{([0-9]{1,15})\}|([0-9]{1,15})(?:/([0-9]{1,15}))?)")
RELATION = re.compile(r"\\(?:neq?|leq?|geq?|lt|gt|not|approx|sim)(?![a-zA-Z])|[<>≠≤≥≈]")
APPROXIMATELY = re.compile(r"\\approx(?![a-zA-Z])|≈")
WRAPPED = re.compile(r"\*\*(.*)\*\*|\$\$?([^$]*)\$\$?|\\\((.*)\\\)|\\\[(.*)\\\]", re.DOTALL)
SIGNS = str.maketrans(
    {"°": r"^\circ ", "−": "-", "π": r"\pi ", "∞": r"\infty ", "×": r"\times ", "·": r"\cdot ", "²": "^{2}", "³": "^{3}"}
)
ROOT = re.compile(r"√\s*(?:([0-9.]+|[A-Za-z])|\{([^{}]*)\}|\(([^()]*)\))")
WARM_UP = {"1/2": "0.5", "(x+1)^2": "x^2+2x+1", r"\sqrt{8}": r"2\sqrt{2}", "(1,2)": "[1,2]", r"\{1,2\}": "1 or 2", "x<2": "x>2"}

_log = logging.getLogger(__name__)
_grader = Bounded(__file__)


def last_boxed(text: str) -> str | None:
    """The answer in a text by the rules above, braces balanced; None where there is none. In linear time."""
    boxes, opened = [], []  # boxes: (where its command begins, content from, content to); opened: the same, without an end
    for match in BOX.finditer(text):
        sign = match.group()
        if sign == "}":
            begun = opened.pop() if opened else None
            if begun is not None:
                while boxes and boxes[-1][0] > begun[0]:
                    boxes.pop()
                boxes.append((*begun, match.start()))
        elif sign.endswith("{") and sign != r"\{":
            opened.append((match.start(), match.end()) if sign != "{" else None)
    if not boxes or any(begun is not None and begun[0] > boxes[-1][0] for begun in opened):
        return None
    last = len(boxes) - 1
    while last and JOINED.fullmatch(text, boxes[last - 1][2] + 1, boxes[last][0]):
        last -= 1
    return ", ".join(dict.fromkeys(text[start:end].strip() for _, start, end in boxes[last:]))


def clean(text: str) -> str:
    """`text` without markdown's bold and math delimiters around it, and with LaTeX for the signs that stand for it."""
    text = text.strip()
    while found := WRAPPED.fullmatch(text):
        text = next(part for part in found.groups() if part is not None).strip()
    return ROOT.sub(lambda root: rf"\sqrt{{{root[1] or root[2] or root[3]}}}", text.translate(SIGNS)).strip()


def readable(expected: str) -> bool | None:
    """Whether math-verify can compare other forms with this expected answer; None where the grader failed."""
    found = _ask(clean(expected), None)
    return None if found is None else bool(found)


def grade(expected: object, given: str | None) -> float | None:
    """1.0 where the two are equal, 0.0 where not, None where `expected` is unreadable or the grader fails."""
    if isinstance(expected, int | float) and not isinstance(expected, bool):
        expected = str(expected)
    if not isinstance(expected, str) or not expected.strip():
        return None
    if given == expected:
        return 1.0
    if not given or len(given) > LONGEST_ANSWER:
        return 0.0
    expected, given = clean(expected), clean(given)
    if given == expected:
        return 1.0
    plain = _rational(expected), _rational(given)
    if None not in plain:
        return float(plain[0] == plain[1])
    if any(sign.isdecimal() and not sign.isascii() for sign in given):
        return 0.0  # full-width and other scripts' digits, which Python and sympy would read
    if not RELATION.search(expected):
        given = APPROXIMATELY.split(given)[0].strip()
        if not given or RELATION.search(given):
            return 0.0  # math-verify would take the number out of `\neq 4`
    return _ask(expected, given)


def _rational(text: str) -> Fraction | None:
    """A whole number or a fraction of two, as most answers are; None for anything else."""
    found = RATIONAL.fullmatch(text)
    if not found:
        return None
    above, below = (found[2], found[3]) if found[2] else (found[4], found[5] or "1")
    return Fraction(int(f"{found[1]}{above}"), int(below)) if int(below) else None


def _ask(expected: str, given: str | None) -> float | None:
    """As `_serve`'s `equal`; None where the grader failed."""
    try:
        return _answer(expected, given)
    except Failed as error:
        _log.warning("%s", error)
        return None


@lru_cache(maxsize=100_000)
def _answer(expected: str, given: str | None) -> float | None:
    try:
        return _grader.ask([expected, given])
    except Overrun:  # on one of the two
        return 0.0 if given is None or _answer(expected, None) else None


def _serve() -> None:
    from math_verify import grader, parse, verify

    from m2rl_lib.domains import numbers

    numbers.install(grader)

    def equal(question: list | tuple) -> float | None:
        """Whether given equals expected, None where that cannot be read; without a given answer, whether it can be."""
        expected, given = question
        gold = parse(f"\\boxed{{{expected}}}", parsing_timeout=None)
        if given is None:
            return float(numbers.readable(gold))
        if not numbers.readable(gold):
            return None
        return float(verify(gold, parse(f"\\boxed{{{given}}}", parsing_timeout=None), timeout_seconds=None))

    for pair in WARM_UP.items():  # sympy loads much of itself on first use
        equal(pair)
    serve(equal, processor_seconds=MOST_SECONDS)


if __name__ == "__main__":
    _serve()
