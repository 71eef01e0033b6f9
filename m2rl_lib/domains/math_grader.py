"""Equality of two mathematical answers, by math-verify in a bounded process (this file run as a script).

Answers that are equal as text or as whole numbers need no library. The published rule normalises strings, then tries
sympy, within 10 s of wall clock, and gives 0 where that fails. Here an answer is wrong if it has more than 1000
characters or takes more than half a second of processor time (honest ones take a tenth) or 2 GB; an expected answer
that cannot be read, or a machine too busy to decide, gives None.
"""

import logging
import re

from m2rl_lib.sandbox.bounded import Bounded, Failed, Overrun, serve

LONGEST_ANSWER = 1000  # characters; a longer one is wrong
MOST_KNOWN = 100_000

BOX = re.compile(r"\\boxed\s*\{|[{}]")
WHOLE = re.compile(r"-?[0-9]{1,15}")
RELATION = re.compile(r"\\(?:neq?|leq?|geq?|lt|gt|not|approx|sim)(?![a-zA-Z])|[<>≠≤≥≈]")
WARM_UP = (
    ["1/2", "0.5"],
    ["(x+1)^2", "x^2+2x+1"],
    [r"\sqrt{8}", r"2\sqrt{2}"],
    ["(1,2)", "[1,2]"],
    [r"\{1,2\}", "1 or 2"],
    ["x<2", "x>2"],
)

_log = logging.getLogger(__name__)
_grader = Bounded(__file__)
_known: dict[tuple[str, str | None], float] = {}


def last_boxed(text: str) -> str | None:
    """The content of the last complete `\\boxed{…}`, braces balanced; None where there is none. In linear time.

    >>> last_boxed("\\\\boxed{5} or \\\\boxed{\\\\frac{1}{2}}")
    '\\\\frac{1}{2}'
    """
    found, opened = (-1, -1), []  # opened: where the content of each brace begins, or None for a brace that is no box
    for match in BOX.finditer(text):
        if match.group() == "}":
            start = opened.pop() if opened else None
            if start is not None and start > found[0]:
                found = start, match.start()
        else:
            opened.append(match.end() if match.group().startswith("\\") else None)
    return text[found[0] : found[1]].strip() if found[0] >= 0 else None


def grade(pairs: list[tuple[str, str | None]]) -> list[float | None]:
    """One reward for each (expected, given): 1.0 equal, 0.0 not; a missing or endless answer is 0.0.

    None where the expected answer is no text or number, cannot be parsed, or the grader itself fails. From any thread.
    """
    return [_grade(expected, given) for expected, given in pairs]


def _grade(expected: object, given: str | None) -> float | None:
    if isinstance(expected, int | float) and not isinstance(expected, bool):
        expected = str(expected)
    if not isinstance(expected, str) or not expected.strip():
        return None
    if given == expected:
        return 1.0
    if not given or len(given) > LONGEST_ANSWER:
        return 0.0
    if WHOLE.fullmatch(expected) and WHOLE.fullmatch(given):
        return float(int(expected) == int(given))
    if any(sign.isdecimal() and not sign.isascii() for sign in given):
        return 0.0  # full-width and other scripts' digits, which Python and sympy would read
    if RELATION.search(given) and not RELATION.search(expected):
        return 0.0  # math-verify would take the number out of `\neq 4`
    if not _ask(expected, None):
        return None
    return _ask(expected, given)


def _ask(expected: str, given: str | None) -> float | None:
    """Whether the given answer equals the expected one, or without one, whether the expected one can be read; None
    where the grader failed."""
    if (expected, given) not in _known:
        try:
            answer = _grader.ask([expected, given])
        except Overrun:
            answer = 0.0
        except Failed as error:
            _log.warning("%s", error)
            return None
        if len(_known) >= MOST_KNOWN:
            _known.clear()
        _known[expected, given] = answer
    return _known[expected, given]


def _serve() -> None:
    from math_verify import parse, verify

    def equal(question: list) -> float:
        expected, given = question
        gold = parse(f"\\boxed{{{expected}}}", parsing_timeout=None)
        if given is None or not gold:
            return float(bool(gold))
        return float(verify(gold, parse(f"\\boxed{{{given}}}", parsing_timeout=None), timeout_seconds=None))

    for pair in WARM_UP:  # sympy loads much of itself on first use
        equal(pair)
    serve(equal, processor_seconds=0.5)


if __name__ == "__main__":
    _serve()
