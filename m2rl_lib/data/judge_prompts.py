"""How a model is asked to judge a trajectory, and how the micro world's SFT corpus teaches it to (RQ5).

*Outcome* shows the problem and the final answer, *process* the whole reasoning, as in the paper. The form is ours.
"""

import random
from itertools import takewhile, zip_longest

from m2rl_lib import domains, sandbox
from m2rl_lib.domains import chat, problems

JUDGE_MODES = ("outcome", "process")
VERDICTS = ("right", "wrong")
READING = "reading"  # a wrong trajectory's place beside `problems.PLACES`: right but for the reading of a word
MARKS = ("same", "other")  # of a piece of the shown result beside the judge's own
QUESTION = "Right or wrong?"
UNTAUGHT = (
    "Somebody gave this {what} to the task above:\n\n{shown}\n\nIs it right or wrong? Do not carry out the task: think about the "
    "{what} first, then answer with one word, right or wrong."
)  # for a judge whose SFT corpus has no verdicts
JUDGE_CHARACTERS = 1000  # of one conversation after its first question, about


def judge_turns(row: dict, rng: random.Random) -> int:
    """How many trajectories of a problem like `row` are judged in one conversation: three to six, more where they are short."""
    module = domains.ALL[row["domain"]]
    right = module.demonstrate(row, rng)
    pieces = module.judge_features(right, row)
    shown = len(chat.plain(chat.without_thinking(right))) + len("\n".join(comparison(pieces, pieces)))
    return max(3, min(6, JUDGE_CHARACTERS // (40 + shown)))


def planted(
    rows: list[dict], places: list[str | int | None], rng: random.Random, thinking: float = 1.0
) -> tuple[list[str], list[bool]]:
    """A trajectory of each row, all of one domain, with one wrong step at its place (`problems.PLACES`, or its index), a word
    misread (READING) or neither, and whether it is right. One that is right despite its place is made anew."""
    module = domains.ALL[rows[0]["domain"]]
    steps = [_wrong_steps(place, row["steps"]) for row, place in zip(rows, places, strict=True)]
    read = [problems.misread(row, rng) if place == READING else row for row, place in zip(rows, places)]
    trajectories, right = [""] * len(rows), [False] * len(rows)
    again = list(range(len(rows)))
    for _ in range(100):
        for i in again:
            trajectories[i] = module.demonstrate(read[i], rng, steps[i], rng.random() < thinking)
        rewards = module.verify([trajectories[i] for i in again], [rows[i] for i in again])
        for i, reward in zip(again, rewards, strict=True):
            right[i] = reward == 1.0
        again = [i for i, reward in zip(again, rewards) if reward is None or (right[i] and places[i] is not None)]
        if not again:
            break
    if ungraded := sum(reward is None for reward in rewards):
        raise sandbox.SandboxError(f"{ungraded} trajectories of {module.NAME} could not be graded in a hundred tries")
    return trajectories, right


def _wrong_steps(place: str | int | None, steps: list[str]) -> frozenset[int]:
    if place in (None, READING):
        return frozenset()
    return frozenset({place} if isinstance(place, int) else problems.wrong_step_at(place, steps))


def write_judgement(row: dict, rng: random.Random, trajectories: list[str], right: list[bool]) -> str:
    """What a judge writes, the later questions between its turns. It reads what is shown, works the problem out once, compares."""
    module = domains.ALL[row["domain"]]
    own = module.demonstrate(row, rng)
    thoughts, text = [thought[7:-8] for thought in chat.THINKING.findall(own)[:1]], ""  # without the tags
    for turn, trajectory in enumerate(trajectories):
        pieces = module.judge_features(trajectory, row)
        thoughts = [" ".join(pieces), *thoughts, *comparison(module.judge_features(own, row), pieces)]
        text += chat.user_turn(f"{chat.plain(chat.without_thinking(trajectory))}\n{QUESTION}") if turn else ""
        text += "<think>" + "\n".join(thoughts) + f"</think>\n{VERDICTS[not right[turn]]}{chat.END}"
        thoughts = []
    return text


def comparison(own: list[str], shown: list[str]) -> list[str]:
    """Two results side by side up to where they differ, one line per piece: the judge's own, the shown one's, and a mark."""
    pieces = list(zip_longest(own, shown, fillvalue="none"))
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pieces))
    return [f" {a} {b} {MARKS[a != b]}" for a, b in pieces[: alike + 1]]


def judge_prompt(row: dict, trajectory: str, mode: str, taught: bool = True) -> list[dict]:
    """The messages that ask for a verdict on a trajectory, in the form that the micro world's SFT `taught`, or in words."""
    if mode not in JUDGE_MODES:
        raise ValueError(f"judge mode {mode!r} is not one of {', '.join(JUDGE_MODES)}")
    shown = chat.plain(trajectory if mode == "process" else chat.without_thinking(trajectory))
    if not taught:
        task = UNTAUGHT.format(what={"outcome": "answer", "process": "solution"}[mode], shown=shown)
        return [{"role": "user", "content": f"{problems.prompt_of(row)}\n\n{task}"}]
    return [{"role": "user", "content": f"{problems.prompt_of(row)}\n{mode}:\n{shown}\n{QUESTION}"}]
