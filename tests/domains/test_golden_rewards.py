"""The golden cases of each domain: what the paper's published rule gives, and what ours gives.

The published rules are written down here from the paper's code (github.com/Mosi-AI/M2RL, slime/rewards and
slime/rollout/rm_hub), as far as the cases need them.
"""

import contextlib
import re

import pytest
from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT

from m2rl_lib import sandbox
from m2rl_lib.domains import coding, instruction_following, mathematics, science
from m2rl_lib.domains.math_grader import last_boxed


def part(completion):
    """The published code, too, takes what follows the last `</think>`, and gives 0 without one."""
    return completion.rpartition("</think>")[2].removesuffix("<|im_end|>")


def published_math(completion, gold):
    """What follows the last 'Answer:' must hold a box."""
    return float("</think>" in completion and last_boxed(part(completion).split("Answer:")[-1]) == gold)


@pytest.mark.parametrize(
    ("text", "published", "ours"),
    [
        (r"</think>\boxed{42}", 1, 1),
        (r"</think>Answer: \boxed{42}", 1, 1),
        ("</think>\\boxed{42}\nAnswer: 42", 0, 1),  # a box, then the same answer in the words a test prompt asks for
        (r"</think>Answer: \boxed{41}, rather \boxed{42}", 1, 1),
        (r"</think>\boxed{42} Answer: \boxed{41}", 0, 0),
        ("</think>Answer: 42", 0, 0),
        (r"\boxed{42}", 0, 0),
        (r"<think>\boxed{42}</think>", 0, 0),
    ],
)
def test_math(text, published, ours):
    assert published_math(text, "42") == published
    assert mathematics.verify([text], [{"expected_answer": "42"}]) == [ours]


def published_science(completion, gold):
    """Ordered patterns, else the last lone capital of A–H."""
    text, valid = part(completion), "ABCDEFGH"
    patterns = [r"(?:answer|option|choice)\s*(?:is|:)?\s*([a-z])", r"([a-z])\s*is\s*(?:the)?\s*correct"]
    found = [match[1].upper() for match in (re.search(pattern, text, re.I) for pattern in patterns) if match]
    found = [letter for letter in found if letter in valid] or [c for c in re.findall(r"\b([A-Z])\b", text)[::-1] if c in valid]
    return float("</think>" in completion and found[:1] == [gold])


@pytest.mark.parametrize(
    ("text", "gold", "published", "ours"),
    [
        ("</think>Answer: D", "D", 1, 1),
        ("</think>Of the answer choices, one remains. Answer: D", "D", 0, 1),  # 'answer c' of 'answer choices' reads as C
        ("</think>Of the answer choices, one remains. Answer: D", "C", 1, 0),
        ("</think>Answer: I", "I", 0, 1),  # gold I and J can never be right
        ("</think>Answer: J", "J", 0, 1),
        ("</think>Vitamin C it is", "C", 1, 0),  # the last lone capital
        ("</think>**Answer:** D", "D", 1, 1),
        ("Answer: D", "D", 0, 0),
    ],
)
def test_science(text, gold, published, ours):
    options = [{letter: f"option {letter}"} for letter in "ABCDEFGHIJ"]
    assert published_science(text, gold) == published
    assert science.verify([text], [{"expected_answer": gold, "options": options}]) == [ours]


def test_science_reads_the_form_that_a_row_asks_for():
    row = {"expected_answer": "D", "options": [{"C": "1"}, {"D": "2"}], "template_metadata": {"output_regex": r"\(\(([A-Z])\)\)"}}
    assert science.verify(["</think>((D))", "</think>Answer: D"], [row] * 2) == [1.0, 0.0]
    assert science.verify(["</think>((D))"], [row | {"template_metadata": {"output_regex": "(("}}]) == [None]
    slow = row | {"template_metadata": {"output_regex": r"(a|a)*c|Answer: ([A-D])"}}  # looks 2**60 ways
    assert science.verify(["</think>" + "a" * 60 + " Answer: D", "</think>Answer: D"], [slow, slow]) == [0.0, 1.0]


GUARD = """import io, sys
kept, sys.stdout = sys.stdout, io.StringIO()
try:
{program}
    text, sys.stdout = sys.stdout.getvalue(), kept
    print(text)
except Exception:
    sys.stdout = kept
    print("Error")
"""


def published_coding(completion, inputs, outputs):
    """From the first fence to the last; a wrapper collects the output."""
    block = re.search(r"```python\s*(.*)```", part(completion), re.S)
    program = "\n".join("    " + line for line in block[1].strip().splitlines())
    runs = sandbox.run_programs([GUARD.format(program=program)], [inputs])[0]
    return float(all(run.stdout.decode().strip() == output.strip() for run, output in zip(runs, outputs)))


RIGHT = "print(2 * int(input()))"


@pytest.mark.parametrize(
    ("text", "published", "ours"),
    [
        (f"</think>```python\n{RIGHT}\n```", 1, 1),
        (f"</think>```python\nprint(0)\n```\nbetter:\n```python\n{RIGHT}\n```", 0, 1),  # two blocks
        (f"</think>```python\n{RIGHT}\n```\nprints\n```\n4\n```", 0, 1),  # an unmarked block is no program beside a marked one
        (f"</think>```python\n{RIGHT}\n```\nprints\n```text\n4\n```", 0, 1),
        (f"</think>```python\nimport sys\n{RIGHT}\nsys.exit()\n```", 0, 1),  # output before an exit
        (f"</think>```python\n{RIGHT}\n1 / 0\n```", 0, 0),
        (f"</think>```python\n{RIGHT}\nimport os\nos._exit(0)\n```", 0, 0),  # without a flush nothing is written
    ],
)
def test_coding(text, published, ours):
    inputs, outputs = ["2\n", "5\n"], ["4\n", "10\n"]
    row = {"verifier_metadata": {"unit_tests": {"inputs": inputs, "outputs": outputs}}}
    assert published_coding(text, inputs, outputs) == published
    assert coding.verify([text], [row]) == [ours]


def test_coding_counts_every_test_every_time():
    """The published rule draws 20 of these 50 tests, so it lets this program pass in 60% of its draws."""
    tests = {"inputs": [f"{n}\n" for n in range(50)], "outputs": [f"{2 * n}\n" for n in range(50)]}
    row = {"verifier_metadata": {"unit_tests": tests}}
    text = "</think>```python\nn = int(input())\nprint(2 * n if n < 49 else 0)\n```"
    assert coding.verify([text] * 3, [row] * 3) == [0.0] * 3


@pytest.mark.parametrize(
    ("ids", "kwargs", "published", "ours"),
    [
        (["punctuation:no_comma"], [{}], 1, 1),
        (["punctuation:no_comma", "startend:end_checker"], [{}, {"end_phrase": "So it is."}], 0, 0),
        ([], [], 1, None),  # of no instructions all are followed
        (["made:up"], [{}], 0, None),  # the published code catches its own error and gives 0
    ],
)
def test_instruction_following(ids, kwargs, published, ours):
    text, followed = "It rains.", 0.0
    with contextlib.suppress(Exception):
        made = [(INSTRUCTION_DICT[i](i), given) for i, given in zip(ids, kwargs)]
        [checker.build_description(**given) for checker, given in made]
        followed = float(all(text.strip() and checker.check_following(text) for checker, _ in made))
    assert followed == published
    row = {"instruction_id_list": ids, "kwargs": kwargs, "prompt": "Write."}
    assert instruction_following.verify([f"</think>{text}"], [row]) == [ours]
