"""Instruction following: reward 1 only where every instruction of IFEval, IFEvalG and IFBench is followed, as published.

The published loop also gives 1 for no instructions and 0 for an unknown id or a missing argument; here such a row gets None.
"""

import random
import re

from m2rl_lib.domains import constraints, instruction_checkers
from m2rl_lib.domains.chat import answer_part
from m2rl_lib.domains.problems import Unusable, micro_row, thinking

NAME = "instruction_following"
BENCHMARKS = {"instructions": 3, "instructions_shifted": 4}  # benchmark: instructions a problem
CHANCE = 0.0
LABELS = ("instruction_following",)  # of the public blend

TOPICS = {
    "rivers": ("clear and cold", "they run to the sea", "full of fish", "old as the hills"),
    "bread": ("warm and brown", "it feeds the town", "baked at dawn", "best with salt"),
    "trains": ("loud and fast", "they cross the land", "late at night", "made of steel"),
    "music": ("soft and slow", "it fills the room", "played by hand", "sung at dusk"),
}
WORDS = ("lamp", "stone", "garden", "silver", "window", "market", "winter", "paper")
ENDINGS = ("That is all.", "So it is.", "The end.", "Good night.")


def _counted(family: str, said: str, amount: int) -> dict:
    """An instruction about an amount, which the prompt may say in a word of two readings."""
    name, argument, ask = {
        "bullets": ("detectable_format:number_bullet_lists", "num_bullets", "Bullet points"),
        "numbers": ("count:numbers", "N", "Numbers"),
    }[family]
    return {"id": name, "kwargs": {argument: amount}, "ask": f"{ask}: {said}.", "plan": f"{amount} {family}", "said": said}


def _instruction(rng: random.Random, family: str) -> dict:
    """One instruction: IFEval id and kwargs, how the prompt asks for it, how a plan notes it."""
    if family == "word":
        word = rng.choice(WORDS)
        made = "keywords:existence", {"keywords": [word]}, f"Include the word {word}.", f"word {word}"
    elif family == "ending":
        end = rng.choice(ENDINGS)
        made = "startend:end_checker", {"end_phrase": end}, f'Finish with "{end}"', f"end {end}"
    else:
        made = FIXED[family]
    return dict(zip(("id", "kwargs", "ask", "plan"), made))


COUNTED = ("bullets", "numbers")  # in every problem: what conventions are about
FIXED = {
    "title": ("detectable_format:title", {}, "Add a title in <<angular brackets>>.", "title"),
    "postscript": (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        "Add a postscript starting with P.S.",
        "postscript",
    ),
    "commas": ("punctuation:no_comma", {}, "Use no commas.", "no commas"),
}
FAMILIES = ("word", "ending", *FIXED)


def make(rng: random.Random, benchmark: str, world) -> dict:
    """One problem of a benchmark, with the words of a `conventions.World`: two amounts and instructions of other kinds."""
    topic = rng.choice(sorted(TOPICS))
    words = world.words(NAME, rng) or {str(n): n for n in range(2, 7)}
    asked = {family: _counted(family, said, words[said]) for family in COUNTED for said in [rng.choice(sorted(words))]}
    asked |= {family: _instruction(rng, family) for family in rng.sample(FAMILIES, BENCHMARKS[benchmark] - len(COUNTED))}
    families = rng.sample(sorted(asked), len(asked))
    instructions = [asked[family] for family in families]
    text = f"Write about {topic}. " + " ".join(i["ask"] for i in instructions)
    plans = [i["plan"] for i in instructions]
    graded = {"instruction_id_list": [i["id"] for i in instructions], "kwargs": [i["kwargs"] for i in instructions]}
    own = {"topic": topic, "families": families, "plans": plans, "said": [i.get("said") for i in instructions]}
    steps = [f"{what} {plan}" for what in ("plan", "write") for plan in plans]
    return micro_row(NAME, text, prompt=text, **graded, **own, steps=steps)


def demonstrate(row: dict, rng: random.Random, wrong: frozenset[int] = frozenset(), think: bool = True) -> str:
    """Plan, then text. A wrong plan (intention) is carried out as planned; a wrong execution departs from its plan."""
    families, plans = row["families"], row["plans"]
    plans = [_other_plan(rng, *pair) if i in wrong else pair[1] for i, pair in enumerate(zip(families, plans))]
    done = [_other_plan(rng, *pair) if i in wrong else pair[1] for i, pair in enumerate(zip(families, plans), len(plans))]
    thought = thinking([plan or "free" for plan in plans], think)
    return f"{thought}{_write(rng, row['topic'], dict(zip(families, done)))}<|im_end|>"


def _other_plan(rng: random.Random, family: str, plan: str | None) -> str | None:
    """A plan that does not do what `plan` does; None leaves the instruction out."""
    if plan is None:
        return FIXED[family][-1] if family in FIXED else None
    if family in COUNTED:
        return f"{rng.choice([n for n in range(2, 7) if n != int(plan[0])])} {family}"
    if family == "word":
        return "word " + rng.choice([word for word in WORDS if word != plan[5:]])
    if family == "ending":
        return "end " + rng.choice([end for end in ENDINGS if end != plan[4:]])
    return None


def _write(rng: random.Random, topic: str, plans: dict[str, str | None]) -> str:
    """A short text about `topic` that carries out the plans, in a fixed order of parts."""
    phrases = rng.sample(TOPICS[topic], len(TOPICS[topic]))
    joint = " and" if plans.get("commas") else ","
    lines = [f"<<{topic}>>"] if plans.get("title") else []
    if plans.get("bullets"):
        lines += [f"* {phrases[i % len(phrases)]}" for i in range(int(plans["bullets"][0]))]
    else:
        lines.append(f"{topic}{joint} {phrases[0]}.")
    if "commas" in plans and "bullets" in plans:
        lines.append(f"{topic}{joint} {phrases[-1]}.")
    if plans.get("word"):
        lines.append(f"see the {plans['word'][5:]}.")
    if plans.get("numbers"):
        lines.append("numbers" + " 7" * int(plans["numbers"][0]) + ".")
    if plans.get("postscript"):
        lines.append("P.S. thanks.")
    if plans.get("ending"):
        lines.append(plans["ending"][4:])
    return "\n".join(lines)


def answer(completion: str) -> str | None:
    """The text after `</think>`, None where there is none."""
    return answer_part(completion) or None


def judge_features(completion: str, row: dict) -> list[str]:
    """What a judge compares: for each instruction its name, and one word on what the text does of it."""
    text = answer(completion) or ""
    found = {
        "bullets": str(len(re.findall(r"^\* ", text, re.MULTILINE))),
        "word": next((word for word in WORDS if word in text), "none"),
        "ending": ([""] + text.splitlines())[-1].split(" ")[0] or "none",
        "numbers": str(len(re.findall(r"\b\d+\b", text))),
        "title": "title" if "<<" in text else "none",
        "postscript": "postscript" if "P.S." in text else "none",
        "commas": "comma" if "," in text else "none",
    }
    return [piece for family in row["families"] for piece in ("end" if family == "ending" else family, found[family])]


def verify(completions: list[str], rows: list[dict]) -> list[float | None]:
    """1.0 where every instruction is followed by the text after `</think>`, else 0.0; None where the row cannot be graded."""
    return [
        instruction_checkers.follows_all(row.get("instruction_id_list") or [], row.get("kwargs") or [], answer(text) or "")
        for text, row in zip(completions, rows)
    ]


def read(raw: dict, messages: list[dict]) -> dict:
    """The fields of an instruction-following row of the public blend, which stand in the row or in its `verifier_metadata`."""
    raw = {**raw, **(raw.get("verifier_metadata") or {})}
    ids, kwargs = raw.get("instruction_id_list") or [], raw.get("kwargs") or []
    if not ids:
        raise Unusable("no instructions")
    if len(ids) != len(kwargs):
        raise Unusable("instructions and arguments differ in number")
    kwargs = [constraints.read_arguments(*pair) for pair in zip(ids, kwargs)]
    if instruction_checkers.follows_all(ids, kwargs, ".") is None:
        if instruction_checkers.follows_all(["punctuation:no_comma"], [{}], ".") is None:
            raise RuntimeError("the instruction checkers do not answer: no row can be checked; is the machine overloaded?")
        raise Unusable("an instruction's arguments are not what its checker takes")
    return {"prompt": raw.get("prompt") or messages[-1]["content"], "instruction_id_list": ids, "kwargs": kwargs}
