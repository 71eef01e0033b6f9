"""What problems of all domains share: seeded drawing with disjoint splits, chains of arithmetic, wrong steps, the blend's rows.

A row has the public RL blend's fields, `domain`, `benchmark`, `split`, `problem_id`, and `steps`: a demonstration's.
"""

import random
import zlib
from collections.abc import Callable, Sequence

from m2rl_lib.domains.conventions import READINGS, reread

SPLITS = ("train", "selection", "test")
PLACES = ("early", "late", "answer")


def fraction_of(text: str) -> float:
    """A number in [0, 1) that depends on `text` alone, the same in every process."""
    return zlib.crc32(text.encode()) / 2**32


def split_of(prompt: str) -> str:
    """The one split a prompt may appear in: 10% selection, 20% test, the rest train."""
    share = fraction_of("split " + prompt)
    return "selection" if share < 0.1 else "test" if share < 0.3 else "train"


def prompt_of(row: dict) -> str:
    """The text of the row's last user message."""
    return row["responses_create_params"]["input"][-1]["content"]


def draw(make: Callable, benchmark: str, split: str, count: int, seed: int, world) -> list[dict]:
    """`count` rows of a benchmark and split of a `conventions.World`, the same for the same arguments; held-out ones distinct."""
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    rng = random.Random(f"{benchmark} {split} {seed}")
    rows, seen = [], set()
    for _ in range(200 * count + 1000):
        if len(rows) == count:
            return rows
        row = make(rng, benchmark, world)
        prompt = prompt_of(row)
        if split_of(prompt) != split or (split != "train" and prompt in seen):
            continue
        seen.add(prompt)
        named = {"benchmark": benchmark, "split": split, "problem_id": f"{benchmark}-{zlib.crc32(prompt.encode()):08x}"}
        rows.append(row | named)
    raise ValueError(f"{benchmark}: only {len(rows)} distinct {split} problems, {count} asked for")


def micro_row(name: str, text: str, tools: Sequence[dict] = (), **fields) -> dict:
    """A problem of the micro world's domain `name` that is one user message, with the domain's own fields."""
    asked = {"input": [{"role": "user", "content": text}], "tools": list(tools)}
    return {"domain": name, "dataset": f"micro_{name}", "responses_create_params": asked, **fields}


LARGEST = 19  # of all numbers in a chain: small enough for a micro model to learn its sums
Step = tuple[int, str, int, int, str]  # (a, sign, b, a ± b, b as the prompt says it: '4' or 'a few')


def operands(rng: random.Random, length: int, words: dict[str, int]) -> list[tuple[str, int]]:
    """`length` amounts and how a prompt says them: one is a word where there are any, two of four or more."""
    said = [rng.choice(sorted(words))] if words else []
    if said and length >= 4 and len(words) > 1:  # readings that differ by 1 and by 2: two wrong ones never cancel
        others = [word for word in sorted(words) if word not in said]
        said.append(rng.choice([word for word in others if gap(word) != gap(said[0])] or others))
    amounts = [(word, words[word]) for word in said]
    amounts += [(str(number), number) for number in (rng.randrange(2, 7) for _ in range(length - len(amounts)))]
    rng.shuffle(amounts)
    return amounts


def gap(word: str) -> int:
    """How far a word's two readings lie from each other."""
    return abs(READINGS[word][0] - READINGS[word][1])


def arithmetic_chain(rng: random.Random, amounts: list[tuple[str, int]]) -> list[Step]:
    """A step for each amount; each starts where the last ended, all numbers within 0–LARGEST whichever way a word is read."""
    value = rng.randrange(LARGEST + 1)
    chain = []
    for said, amount in amounts:
        most = max(READINGS.get(said, (amount,)))
        sign = rng.choice([sign for sign, fits in (("+", value + most <= LARGEST), ("-", value >= most)) if fits])
        result = value + amount if sign == "+" else value - amount
        chain.append((value, sign, amount, result, said))
        value = result
    return chain


def wrong_number(rng: random.Random, right: int) -> int:
    """A number near `right` and different from it, within 0–LARGEST where `right` is."""
    return rng.choice([n for n in (right - 2, right - 1, right + 1, right + 2) if 0 <= n <= LARGEST] or [0])


def work_out(rng: random.Random, chain: list[Step], wrong: frozenset[int], offset: int = 0) -> tuple[list[str], int]:
    """The written lines of a chain and the number it ends at; line i is wrong where `offset + i` is in `wrong`."""
    value, lines = chain[0][0], []
    for index, (_, sign, operand, _, _) in enumerate(chain):
        result = value + operand if sign == "+" else value - operand
        result = wrong_number(rng, result) if offset + index in wrong else result
        lines.append(f"{value} {sign} {operand} = {result}")
        value = result
    return lines, value


def misread(row: dict, rng: random.Random) -> dict:
    """A row with a chain as it is to whoever takes the other reading of one of its words."""
    word, amount = rng.choice([(said, amount) for _, _, amount, _, said in row["chain"] if said in READINGS])
    return reread(row, {word: sum(READINGS[word]) - amount})


def step_names(chain: list[Step]) -> list[str]:
    """The names of a chain's steps, for `steps`."""
    return [f"{a}{sign}{b}" for a, sign, b, _, _ in chain]


def thinking(lines: list[str], think: bool) -> str:
    """The lines between thinking tags, or nothing between them: an answer at once."""
    return "<think>" + ("\n".join(lines) if think else "") + "</think>\n"


def noisy_steps(rng: random.Random, steps: list[str], share: float, kind: str) -> set[int]:
    """Which steps of a demonstration go wrong: each with probability `share`, or always the same ones (`systematic`)."""
    if kind == "systematic":
        return {index for index, step in enumerate(steps) if fraction_of("wrong " + step) < share}
    return {index for index in range(len(steps)) if rng.random() < share}


def wrong_step_at(place: str, steps: list[str]) -> set[int]:
    """The one step to get wrong: the first (`early`), the last before the answer (`late`), or the `answer`."""
    if place not in PLACES:
        raise ValueError(f"place {place!r} is not one of {', '.join(PLACES)}")
    return {{"early": 0, "late": max(0, len(steps) - 2), "answer": len(steps) - 1}[place]}


class Unusable(ValueError):
    """A row of the public blend that cannot be trained on; the message is the reason that the drop report counts."""


def plain_text(text: str) -> str:
    """`text` itself; Unusable where it holds a marker of turns, which would pass for the chat's own."""
    if "<|im_start|>" in text or "<|im_end|>" in text:
        raise Unusable("a text holds markers of turns")
    return text


def read_messages(parameters: dict | None) -> list[dict]:
    """The prompt of a blend's row, a text or messages (of a text or {type: input_text, text}), as messages of plain text."""
    given = (parameters or {}).get("input")
    messages = []
    for message in [{"role": "user", "content": given}] if isinstance(given, str) else given or []:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
            content = "".join(part["text"] for part in content)
        role = {"developer": "system"}.get(message.get("role"), message.get("role")) if isinstance(message, dict) else None
        if not isinstance(content, str) or role not in ("system", "user", "assistant"):
            raise Unusable("the prompt holds more than text")
        messages.append({"role": role, "content": plain_text(content)})
    if not any(message["role"] == "user" and message["content"].strip() for message in messages):
        raise Unusable("no prompt")
    return messages
