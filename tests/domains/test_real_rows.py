"""Rows of the environments that the public blend was made for, and completions with the reward that was published."""

import pytest

from m2rl_lib import domains
from m2rl_lib.domains import problems

ENVIRONMENTS = {"math_with_judge": "math", "mcqa": "science", "code_gen": "coding"}
OPTIONS = {"options": [{"A": "iron"}, {"B": "neon"}, {"C": "zinc"}], "expected_answer": "B"}
REGEX = {"template_metadata": {"output_regex": r"Final Choice:\s*([A-Za-z])\s*"}}
TESTS = {"verifier_metadata": {"unit_tests": {"inputs": ["2\n", "5\n"], "outputs": ["4\n", "10\n"]}}}
OWN = [  # rows of ours in the same form: environment, fields, rewards of completions
    ("math_with_judge", {"expected_answer": r"\(\frac{1}{2}\)"}, {r"\boxed{0.5}": 1, r"\boxed{2}": 0}),
    ("math_with_judge", {"expected_answer": "[2,5]"}, {r"\boxed{[2, 5]}": 1}),
    ("mcqa", OPTIONS | {"grading_mode": "strict_single_letter_boxed"}, {"So\n\\[\n\\boxed{B}\n\\]": 1, r"\boxed{A}": 0}),
    ("mcqa", OPTIONS | REGEX, {"Final Choice: b": 1}),
    ("code_gen", TESTS, {"```python\nprint(2 * int(input()))\n```": 1, "```python\nprint(4)\n```": 0}),
]


def check(environment: str, rows: list[dict], rollouts: list[dict]) -> None:
    """Every row is readable, and every rollout gets its published reward, twice."""
    module, by_prompt = domains.DOMAINS[ENVIRONMENTS[environment]], {}
    for raw in rows:
        asked = raw["responses_create_params"]["input"][0]["content"]
        by_prompt[asked] = module.read(raw, problems.read_messages(raw["responses_create_params"]))
    for given in rollouts:
        row = by_prompt[given["responses_create_params"]["input"][0]["content"]]
        messages = [part for part in given["response"]["output"] if part["type"] == "message"]
        text = f"</think>{''.join(part['text'] for message in messages for part in message['content'])}"
        assert module.verify([text, text], [row, row]) == [given["reward"]] * 2, text[-200:]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_published_rows_are_readable_and_their_rewards_equal(environment, real_rows):
    rows = real_rows(f"{environment}-example.jsonl") + real_rows(f"{environment}-example_with*.jsonl")
    rollouts = real_rows(f"{environment}-example_roll*.jsonl")
    assert len(rows) >= 5 and len(rollouts) >= 3
    check(environment, rows, rollouts)


@pytest.mark.parametrize(("environment", "fields", "rewards"), OWN)
def test_own_rows_of_the_same_form(environment, fields, rewards):
    asked = {"responses_create_params": {"input": [{"role": "user", "content": "Well?"}]}}
    messages = {text: {"type": "message", "content": [{"type": "output_text", "text": text}]} for text in rewards}
    rollouts = [
        asked | {"response": {"output": [{"type": "reasoning", "summary": []}, messages[text]]}, "reward": reward}
        for text, reward in rewards.items()
    ]
    check(environment, [asked | fields], rollouts)
