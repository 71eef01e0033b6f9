"""Coding: Python programs that read standard input and print; graded by running every unit test.

The published rule cuts from the first fence to the last (two blocks break it), draws up to 20 tests at random each time,
and loses output after `sys.exit()`. Ours runs the first 50 tests of the last complete block marked as Python (else the last
unmarked one; fences are CommonMark's); the program has to end well, too. Output is compared outside the sandbox, line by line
without blanks at both ends, lines of numbers as decimals without a tolerance.
"""

import hashlib
import json
import random
import re
from decimal import Decimal, InvalidOperation

from m2rl_lib import sandbox
from m2rl_lib.domains.chat import answer_part
from m2rl_lib.domains.problems import Unusable, arithmetic_chain, micro_row, operands, step_names, thinking, work_out

NAME = "coding"
BENCHMARKS = {"programs": 2, "programs_shifted": 3}  # benchmark: constants to fold into the first
CHANCE = 0.0
N_TESTS = 5
MOST_TESTS = 50
LABELS = ("comp_coding_50tests",)  # of the public blend

LIMITS = {"timeout_seconds": 10.0, "memory_bytes": 4 << 30}  # for each test
MICRO_LIMITS = {"timeout_seconds": 2.0, "memory_bytes": 256 << 20}

LEAST_OUTPUT, MOST_OUTPUT = 64 << 10, 64 << 20  # bytes; the sandbox's own limit, and what a long expected output raises it to

FENCE = re.compile(r"(^[^\S\n]*(?:(?:[-*+]|\d{1,9}[.)])[^\S\n]+)?)?(`{3,}|~{3,})[^\S\n]*([^\n`]*)", re.MULTILINE)
PYTHON = re.compile(r"\{?\s*\.?py(?:thon)?[\d.]*(?![\w+#.-])", re.IGNORECASE)
NUMBER = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
SIGNS = {"+": "plus", "-": "minus", "*": "times"}  # as a judge writes them

# name: (what to print, program, a near miss of the program's expression, the expression in Python)
TASKS = {
    "shift": ("n", 1, "n + {c}", "n - {c}", lambda x, c: x[0] + c),
    "less": ("n with sign changed", 1, "{c} - n", "{c} + n", lambda x, c: c - x[0]),
    "twice": ("twice n", 1, "2 * n + {c}", "n + {c}", lambda x, c: 2 * x[0] + c),
    "sum": ("n and m", 2, "n + m + {c}", "n - m + {c}", lambda x, c: x[0] + x[1] + c),
    "larger": ("the larger of n and m", 2, "max(n, m) + {c}", "min(n, m) + {c}", lambda x, c: max(x) + c),
    "smaller": ("the smaller of n and m", 2, "min(n, m) + {c}", "max(n, m) + {c}", lambda x, c: min(x) + c),
}


def make(rng: random.Random, benchmark: str, world) -> dict:
    """One problem of a benchmark, with the words of a `conventions.World`."""
    chain = arithmetic_chain(rng, operands(rng, BENCHMARKS[benchmark], world.words(NAME, rng)))
    task = rng.choice(sorted(TASKS))
    what, n_inputs, _, _, function = TASKS[task]
    constant = chain[-1][3]
    added = f"{chain[0][0]} " + " ".join(f"{'plus' if sign == '+' else 'minus'} {said}" for _, sign, _, _, said in chain)
    names = "n and m, one a line" if n_inputs == 2 else "n"
    text = f"Read {names}. Take {added} and add {what}. Print it."
    numbers = random.Random(text)  # the tests belong to the text, not to the draw
    given = [[numbers.randrange(0, 100) for _ in range(n_inputs)] for _ in range(N_TESTS)]
    inputs, outputs = ["".join(f"{n}\n" for n in some) for some in given], [f"{function(some, constant)}\n" for some in given]
    graded = {"verifier_metadata": {"unit_tests": {"inputs": inputs, "outputs": outputs}, "limits": MICRO_LIMITS}}
    return micro_row(NAME, text, **graded, task=task, chain=chain, steps=[*step_names(chain), f"program {task}"])


def demonstrate(row: dict, rng: random.Random, wrong: frozenset[int] = frozenset(), think: bool = True) -> str:
    lines, value = work_out(rng, row["chain"], wrong)
    _, n_inputs, expression, near_miss, _ = TASKS[row["task"]]
    chosen = near_miss if len(lines) in wrong else expression
    reading = "".join(f"{name} = int(input())\n" for name in "nm"[:n_inputs])
    return f"{thinking(lines, think)}```python\n{reading}print({chosen.format(c=value)})\n```<|im_end|>"


def answer(completion: str) -> str | None:
    """The last complete code block after `</think>` that is marked as Python; the last unmarked one where none is."""
    text = answer_part(completion) or ""
    found: dict[str, str] = {}
    opening, opened = None, ""  # the fence of the open block, and what it is marked as
    for fence in FENCE.finditer(text):
        mark = fence[3].strip()
        kind = "python" if PYTHON.match(mark) else mark and "other"
        ends_line = fence.end() == len(text) or text[fence.end()] == "\n"
        if opening is not None:
            starts_line = fence[1] is not None
            if not fence[2].startswith(opening[2]) or not starts_line and not (ends_line and kind != "other"):
                continue  # backticks within the program
            indentation = (opening[1] if opening.start() else fence[1]) or ""  # what stands before the answer is stripped
            program = text[opening.end() + 1 : fence.start()]
            found[opened] = re.sub(rf"^[^\S\n]{{0,{len(indentation)}}}", "", program, flags=re.MULTILINE)
            opening = None
            if kind != "python":
                continue
        if ends_line:
            opening, opened = fence, kind
    return found.get("python", found.get(""))


def judge_features(completion: str, row: dict) -> list[str]:
    """What a judge compares, in pieces: the expression that the program prints last."""
    printed = re.findall(r"print\((.*)\)", answer(completion) or "")
    return [SIGNS.get(piece, piece) for piece in re.findall(r"\d|[a-z]+|[-+*]", printed[-1])] if printed else []


def verify(completions: list[str], rows: list[dict]) -> list[float | None]:
    """1.0 where the program passes every unit test, else 0.0; None where a row has no usable tests or the sandbox failed."""
    rewards: list[float | None] = []
    programs: dict[tuple, list[tuple]] = {}  # by limits, since the sandbox takes one set of them a call
    for index, (text, row) in enumerate(zip(completions, rows)):
        tests, limits = _tests(row)
        rewards.append(0.0 if tests else None)
        program = answer(text)
        if tests and program is not None:
            longest = max(len(output.encode(errors="replace")) for _, output in tests)
            if longest > LEAST_OUTPUT // 2:
                limits = {"output_bytes": min(2 * longest, MOST_OUTPUT)} | limits
            unit_tests = row["verifier_metadata"]["unit_tests"]
            program = unit_tests.get("before", "") + program + "\n\n" * ("after" in unit_tests) + unit_tests.get("after", "")
            programs.setdefault(tuple(sorted(limits.items())), []).append((index, program, *zip(*tests)))
    for limits, jobs in programs.items():
        indices, sources, inputs, outputs = zip(*jobs)
        for index, runs, expected in zip(indices, sandbox.run_programs(sources, inputs, **dict(limits)), outputs):
            if runs is None:
                rewards[index] = None
            elif all(run.status == "ok" and same_output(run.stdout, out) for run, out in zip(runs, expected, strict=True)):
                rewards[index] = 1.0
    return rewards


def _tests(row: dict) -> tuple[list[tuple[str, str]], dict]:
    """A row's (input, output) pairs, none where they cannot be used, and its limits."""
    metadata = row.get("verifier_metadata") or {}
    tests = metadata.get("unit_tests") or {}
    inputs, outputs = tests.get("inputs") or [], tests.get("outputs") or []
    if len(inputs) != len(outputs) or not all(isinstance(text, str) for text in [*inputs, *outputs]):
        return [], LIMITS
    return list(zip(inputs, outputs))[:MOST_TESTS], metadata.get("limits") or LIMITS


def human_eval_tests(task: dict) -> dict:
    """The unit tests of a HumanEval task: its test runs after the program, and ends by printing a word that stands nowhere else."""
    word = hashlib.sha256(task["test"].encode()).hexdigest()[:16]
    after = f"{task['test']}\ncheck({task['entry_point']})\nprint('{word}')\n"
    return {"inputs": [""], "outputs": [f"{word}\n"], "after": after}


def same_output(stdout: bytes, expected: str) -> bool:
    """Whether all lines are alike but for blanks at both ends, or are numbers of equal value ('007' is none)."""
    try:
        lines = [[line.strip() for line in text.strip().split("\n")] for text in (stdout.decode(), expected)]
    except UnicodeDecodeError:
        return False
    return len(lines[0]) == len(lines[1]) and all(one == other or _same_numbers(one, other) for one, other in zip(*lines))


def _same_numbers(one: str, other: str) -> bool:
    words = one.split(), other.split()
    if len(words[0]) != len(words[1]) or not all(NUMBER.fullmatch(word) for word in (*words[0], *words[1])):
        return False
    try:
        return all(Decimal(a) == Decimal(b) for a, b in zip(*words))
    except InvalidOperation:  # an exponent beyond all bounds
        return False


def read(raw: dict, messages: list[dict]) -> dict:
    """The fields of a coding row of the public blend: programs that read standard input and print."""
    tests = (raw.get("verifier_metadata") or {}).get("unit_tests") or {}
    tests = json.loads(tests) if isinstance(tests, str) else tests
    inputs, outputs = tests.get("inputs") or [], tests.get("outputs") or []
    if not inputs:
        raise Unusable("no unit tests")
    if len(inputs) != len(outputs):
        raise Unusable("inputs and outputs of the unit tests differ in number")
    if not all(isinstance(text, str) for text in (*inputs, *outputs)) or tests.get("fn_name"):
        raise Unusable("unit tests that are not standard input and output")
    around = {key: tests[key] for key in ("before", "after") if key in tests}  # of tests that call a function, as HumanEval's
    return {"verifier_metadata": {"unit_tests": {"inputs": inputs[:MOST_TESTS], "outputs": outputs[:MOST_TESTS], **around}}}
