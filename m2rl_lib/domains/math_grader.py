"""math-verify behind a deadline: equality of two mathematical answers, decided in a worker process.

math-verify limits its own time by `signal.alarm`, which works on a main thread only and swallows
what it interrupts, so it runs here as the main thread of a process of its own (this
file as a script), which is killed at a deadline and has a memory limit.
"""

import atexit
import json
import re
import select
import subprocess
import sys
import threading
from functools import lru_cache

SECONDS = 3.0  # per answer, parsing and comparison together
MEMORY_BYTES = 2 * 2**30
LONGEST_ANSWER = 1000  # characters; a longer one is wrong

BOXED = re.compile(r"\\boxed\s*\{")

_lock = threading.Lock()
_worker: subprocess.Popen | None = None


def last_boxed(text: str) -> str | None:
    """The content of the last complete `\\boxed{…}`, braces balanced; None where there is none.

    >>> last_boxed("\\\\boxed{5} or \\\\boxed{\\\\frac{1}{2}}")
    '\\\\frac{1}{2}'
    """
    for match in reversed(list(BOXED.finditer(text))):
        depth = 1
        for end in range(match.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                return text[match.end() : end].strip()
    return None


def grade(pairs: list[tuple[str, str | None]]) -> list[float | None]:
    """One reward for each (expected, given): 1.0 equal, 0.0 not; a missing or endless answer is 0.0.

    None where the expected answer cannot be parsed or the grader itself fails. From any thread.
    """
    return [_grade(expected, given) if given else 0.0 for expected, given in pairs]


@lru_cache(maxsize=100_000)
def _grade(expected: str, given: str) -> float | None:
    if not given.isascii() or len(given) > LONGEST_ANSWER:
        return 0.0
    if given == expected:
        return 1.0
    if re.fullmatch(r"-?\d{1,15}", expected) and re.fullmatch(r"-?\d{1,15}", given):
        return float(int(expected) == int(given))
    with _lock:
        return _ask(expected, given)


def _ask(expected: str, given: str) -> float | None:
    """One question to the worker; a deadline missed is a wrong answer, a worker that cannot start is None."""
    global _worker
    if _worker is None or _worker.poll() is not None:
        _worker = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        atexit.register(_worker.kill)
        if not _answer(_worker, 60.0):  # its 'ready', after the imports
            return None
    try:
        _worker.stdin.write(json.dumps([expected, given]) + "\n")
        _worker.stdin.flush()
    except BrokenPipeError:
        return None
    line = _answer(_worker, SECONDS)
    if line:
        return json.loads(line)
    _worker.kill()
    _worker.wait()
    return 0.0


def _answer(worker: subprocess.Popen, seconds: float) -> str:
    ready, _, _ = select.select([worker.stdout], [], [], seconds)
    return worker.stdout.readline() if ready else ""


def _serve() -> None:
    import resource

    from math_verify import parse, verify

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    print("ready", flush=True)
    for line in sys.stdin:
        expected, given = json.loads(line)
        try:
            gold = parse(f"\\boxed{{{expected}}}", parsing_timeout=1)
            reward = None
            if gold:
                prediction = parse(f"\\boxed{{{given}}}", parsing_timeout=1)
                reward = float(verify(gold, prediction, timeout_seconds=1))
        except (Exception, RecursionError, MemoryError):
            reward = 0.0
        print(json.dumps(reward), flush=True)


if __name__ == "__main__":
    _serve()
