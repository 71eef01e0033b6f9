"""Rows of the environments that the public blend was made for, and completions with the reward that was published.

NVIDIA's files lie beside the repository (../shared/real_rows); `OWN` are rows of ours in the same form, which are always there.
"""

import json

import pytest

from m2rl_lib import domains
from m2rl_lib.config.locations import ROOT
from m2rl_lib.domains import problems

ENVIRONMENTS = {"math_with_judge": "math", "mcqa": "science", "code_gen": "coding"}
FOLDERS = [parent / "shared" / "real_rows" for parent in ROOT.parents]
FOLDER = next((folder for folder in FOLDERS if folder.is_dir()), None)
DEPARTURES = set()  # (environment, place of the rollout), each with its reason in docs/grading_real_rows.md


def prompt(question: str) -> dict:
    return {"responses_create_params": {"input": [{"role": "user", "content": question}]}}


def rollout(question: str, text: str, reward: float) -> dict:
    message = {"type": "message", "content": [{"type": "output_text", "text": text}]}
    return prompt(question) | {"response": {"output": [{"type": "reasoning", "summary": []}, message]}, "reward": reward}


OPTIONS = [{"A": "iron"}, {"B": "neon"}, {"C": "zinc"}]
REGEX = {"template_metadata": {"output_regex": r"Final Choice:\s*([A-Za-z])\s*"}}
TESTS = {"verifier_metadata": {"unit_tests": {"inputs": ["2\n", "5\n"], "outputs": ["4\n", "10\n"]}}}
OWN = {
    "math_with_judge": (
        [prompt("Half of one?") | {"expected_answer": r"\(\frac{1}{2}\)"}, prompt("Roots?") | {"expected_answer": "[2,5]"}],
        [rollout("Half of one?", r"\boxed{0.5}", 1), rollout("Half of one?", r"\boxed{2}", 0), rollout("Roots?", r"\boxed{[2, 5]}", 1)],
    ),
    "mcqa": (
        [
            prompt("Noble?") | {"options": OPTIONS, "expected_answer": "B", "grading_mode": "strict_single_letter_boxed"},
            prompt("Not a metal?") | {"options": OPTIONS, "expected_answer": "B"} | REGEX,
        ],
        [rollout("Noble?", "So\n\\[\n\\boxed{B}\n\\]", 1), rollout("Noble?", r"\boxed{A}", 0), rollout("Not a metal?", "Final Choice: b", 1)],
    ),
    "code_gen": (
        [prompt("Double it.") | TESTS],
        [
            rollout("Double it.", "```python\nprint(2 * int(input()))\n```", 1),
            rollout("Double it.", "```python\nprint(4)\n```", 0),
        ],
    ),
}  # fmt: skip


def stored(environment: str) -> tuple[list[dict], list[dict]]:
    def lines(pattern: str) -> list[dict]:
        return [json.loads(line) for path in sorted(FOLDER.glob(pattern)) for line in path.read_text().splitlines()]

    return lines(f"{environment}-example.jsonl") + lines(f"{environment}-example_with*.jsonl"), lines(
        f"{environment}-example_roll*.jsonl"
    )


def check(environment: str, rows: list[dict], rollouts: list[dict]) -> None:
    """Every row is readable, and every rollout gets its published reward, twice."""
    module = domains.DOMAINS[ENVIRONMENTS[environment]]
    by_prompt = {}
    for raw in rows:
        asked = raw["responses_create_params"]["input"][0]["content"]
        by_prompt[asked] = module.read(raw, problems.read_messages(raw["responses_create_params"]))
    for place, given in enumerate(rollouts):
        row = by_prompt[given["responses_create_params"]["input"][0]["content"]]
        messages = [part for part in given["response"]["output"] if part["type"] == "message"]
        text = f"</think>{''.join(part['text'] for message in messages for part in message['content'])}"
        rewards = module.verify([text, text], [row, row])
        assert rewards == [given["reward"]] * 2 or (environment, place) in DEPARTURES, (place, rewards, text[-200:])


@pytest.mark.skipif(FOLDER is None, reason="no folder shared/real_rows beside the repository")
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_published_rows_are_readable_and_their_rewards_equal(environment):
    rows, rollouts = stored(environment)
    assert len(rows) >= 5 and len(rollouts) >= 3
    check(environment, rows, rollouts)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_own_rows_of_the_same_form(environment):
    check(environment, *OWN[environment])
