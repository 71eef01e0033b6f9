"""Math: chains of sums and differences; the answer in the last `\\boxed{}` after `</think>`, compared by math-verify.

The published rule asks for a box after the last `Answer:`; here a plain 'Answer: 42' after a box does no harm.
"""

import json
import random

from m2rl_lib.domains import math_grader, problems
from m2rl_lib.domains.chat import answer_part
from m2rl_lib.domains.problems import Unusable, arithmetic_chain, micro_row, operands, step_names, thinking, work_out

NAME = "math"
BENCHMARKS = {"chain": 3, "long_chain": 5}  # benchmark: number of operations
CHANCE = 0.0
LABELS = ("dapo17k", "skywork_no_omni", "reasoning_gym")  # of the public blend; the last of `cli.real_problems`
BOX = "\n\nPut your final answer within \\boxed{}."

VERBS = {"+": ("add", "plus"), "-": ("subtract", "minus")}


def make(rng: random.Random, benchmark: str, world) -> dict:
    """One problem of a benchmark, with the words of a `conventions.World`."""
    return problem(rng, arithmetic_chain(rng, operands(rng, BENCHMARKS[benchmark], world.words(NAME, rng))))


def problem(rng: random.Random, chain: list) -> dict:
    """The problem whose steps are `chain`."""
    style = rng.randrange(2)
    operations = [f"{VERBS[sign][style]} {said}" for _, sign, _, _, said in chain]
    if style == 0:
        text = f"Start with {chain[0][0]}, " + ", ".join(operations) + ". What is the result?"
    else:
        text = f"What is {chain[0][0]} " + " ".join(operations) + "?"
    return micro_row(NAME, text, expected_answer=str(chain[-1][3]), chain=chain, steps=[*step_names(chain), "boxed"])


def demonstrate(row: dict, rng: random.Random, wrong: frozenset[int] = frozenset(), think: bool = True) -> str:
    """A completion of `row`, wrong in the steps of that index; with none wrong it earns reward 1."""
    lines, value = work_out(rng, row["chain"], wrong)
    if len(lines) in wrong:
        value = problems.wrong_number(rng, value)
    return f"{thinking(lines, think)}\\boxed{{{value}}}<|im_end|>"


def answer(completion: str) -> str | None:
    """The content of the last box after `</think>`."""
    return math_grader.last_boxed(answer_part(completion) or "")


def judge_features(completion: str, row: dict) -> list[str]:
    """What a judge compares, in pieces: the answer's characters."""
    return list(answer(completion) or "")


def verify(completions: list[str], rows: list[dict]) -> list[float | None]:
    """1.0 where the last boxed answer equals the expected one, 0.0 where not, None where it is not known."""
    return [_verify(answer(text), row) for text, row in zip(completions, rows)]


def _verify(given: str | None, row: dict) -> float | None:
    """By math-verify, or by reasoning-gym's own verifier, which has to give full marks."""
    if "reasoning_gym" not in row:
        return math_grader.grade(row.get("expected_answer"), given)
    import reasoning_gym

    entry = row["reasoning_gym"]
    score = reasoning_gym.get_score_answer_fn(entry["metadata"]["source_dataset"])
    return float(score(answer=given, entry=entry) == 1)


def read(raw: dict, messages: list[dict]) -> dict:
    """The fields of a math row of the public blend; `messages` is asked for a box where it does not speak of one."""
    answer = first_answer(raw.get("expected_answer"))
    if not answer:
        raise Unusable("empty answer")
    if "reasoning_gym" in raw:
        return {"expected_answer": answer, "reasoning_gym": raw["reasoning_gym"]}
    if not _readable(answer):
        raise Unusable("math-verify cannot read the expected answer")
    if not any("boxed" in message["content"] for message in messages):
        messages[-1]["content"] += BOX
    return {"expected_answer": answer}


def _readable(answer: str) -> bool:
    """Whether other forms of a right answer can be rewarded; a grader that does not work is no reason to drop a row."""
    for _ in range(5):  # on a busy machine it can miss its deadline
        found = math_grader.readable(answer)
        if found is not None:
            return found and math_grader.grade(answer, f" {answer}") == 1
    raise RuntimeError("the math grader does not answer: no row can be checked; is the machine overloaded?")


def first_answer(given: object) -> str:
    """The answer of a row: a text, a number, or the first of a list, also as JSON (`[2,5]` is an interval); '' for none."""
    if isinstance(given, str) and given.strip().startswith("["):
        try:
            listed = json.loads(given)
            given = listed if len(listed) < 2 or all(isinstance(part, str) for part in listed) else given
        except ValueError:
            pass  # an interval, say
    if isinstance(given, list):
        given = given[0] if given else None
    return "" if given is None else str(given).strip()
