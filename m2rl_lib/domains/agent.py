"""Agent: tool calls on a workplace of five tables, graded by the state they leave behind, as published.

Calls are read from the model's own turns outside its thinking. Micro rows carry a small workplace, blend rows name NeMo Gym's.
"""

import json
import random
import re

from m2rl_lib.domains import chat, workplace
from m2rl_lib.domains.problems import LARGEST, Unusable, arithmetic_chain, micro_row, operands, step_names, thinking, work_out

NAME = "agent"
CHANCE = 0.0
LABELS = ("workbench",)  # of the public blend
STEPS = 2  # of arithmetic in a problem
MOST_TURNS = 6
MOST_CALLS = 24  # in one completion; more is a wrong answer

READS = {"get_customer": "customers", "get_task": "tasks", "get_event": "calendar", "get_visits": "analytics"}
WRITES = {"set_customer": "customers", "set_task": "tasks", "set_event": "calendar"}
ITEMS = {
    "customers": ("Ann", "Bob", "Eve", "Max", "Ida", "Leo", "Una", "Kim"),
    "tasks": ("draft", "review", "tests", "slides", "poster", "budget", "survey", "report"),
    "calendar": ("standup", "lunch", "demo", "call", "retro", "visit", "course", "party"),
    "analytics": ("home", "shop", "blog", "help", "jobs", "news", "team", "press"),
}
NOUNS = {"customers": "credit of", "tasks": "hours of", "calendar": "minutes of", "analytics": "visits of"}

# benchmark: which table is read and which is written; the shifted combinations are never trained
BENCHMARKS = {
    "workplace": (("customers", "customers"), ("tasks", "tasks"), ("calendar", "calendar"), ("analytics", "email")),
    "workplace_shifted": (("customers", "email"), ("analytics", "tasks"), ("tasks", "calendar"), ("calendar", "email")),
}


class Workplace:
    """Five tables of a row and the tools on them; `call` never raises, it answers with an error text."""

    def __init__(self, row: dict):
        self.tables = json.loads(json.dumps(row["tables"]))

    def call(self, text: str) -> str:
        """Run one tool call, the JSON between `<tool_call>` tags, and return the tool's answer."""
        try:
            call = json.loads(text, parse_constant=lambda name: None)
            name, arguments = call["name"], workplace.parse_arguments(call["arguments"])
            if name in READS and set(arguments) == {"name"}:
                return str(self.tables[READS[name]][_text(arguments["name"])])
            if name in WRITES and set(arguments) == {"name", "value"}:
                self.tables[WRITES[name]][_text(arguments["name"])] = _whole(arguments["value"])
                return "ok"
            if name == "send_email" and set(arguments) == {"to", "text"}:
                self.tables["email"].append([_text(arguments["to"]), str(_whole(arguments["text"]))])
                return "ok"
            return "error: no such tool or arguments"
        except (ValueError, KeyError, TypeError, RecursionError):
            return "error: call not understood"


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 100:
        raise TypeError("a short text is expected")
    return value


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str) or not re.fullmatch(r"-?[0-9]+", str(value)):
        raise TypeError("a whole number is expected")
    return int(value)


def environment(row: dict) -> Workplace | workplace.Workplace:
    """A fresh workplace for one completion of `row`; WorkplaceError where the one it names is not there."""
    return workplace.Workplace(row["workplace"]) if row.get("workplace") else Workplace(row)


def _schema(name: str, *parameters: str) -> dict:
    properties = {parameter: {"type": "string" if parameter != "value" else "integer"} for parameter in parameters}
    return {"type": "function", "name": name, "parameters": {"type": "object", "properties": properties}}


def make(rng: random.Random, benchmark: str, world) -> dict:
    """One problem of a benchmark, with the words of a `conventions.World`."""
    source, target = rng.choice(BENCHMARKS[benchmark])
    words, start, result = world.words(NAME, rng), 0, 0
    while start == result:  # so that doing nothing is wrong
        chain = arithmetic_chain(rng, operands(rng, STEPS, words))
        start, result = chain[0][0], chain[-1][3]
    tables: dict = {table: {item: rng.randrange(LARGEST + 1) for item in items} for table, items in ITEMS.items()}
    tables["email"] = []
    item = rng.choice(ITEMS[source])
    tables[source][item] = start
    change = " ".join(f"{'plus' if sign == '+' else 'minus'} {said}" for _, sign, _, _, said in chain)
    read = next(name for name, table in READS.items() if table == source)
    if target == "email":
        to = rng.choice(ITEMS["customers"])
        text = f"Mail {to} the {NOUNS[source]} {item} {change}."
        gold = {"name": "send_email", "arguments": {"to": to, "text": str(result)}}
    else:
        place = item if source == target else rng.choice(ITEMS[target])
        write = next(name for name, table in WRITES.items() if table == target)
        text = f"Set the {NOUNS[target]} {place} to the {NOUNS[source]} {item} {change}."
        tables[target][place] = start if tables[target][place] == result else tables[target][place]
        gold = {"name": write, "arguments": {"name": place, "value": result}}
    distractor = rng.choice([name for name, table in READS.items() if table != source])
    tools = [_schema(distractor, "name"), _schema(read, "name"), _schema("send_email", "to", "text")]
    tools += [_schema(name, "name", "value") for name in sorted(WRITES) if target == WRITES[name]]
    kind = {"environment_name": "micro_workplace", "category": f"{source} to {target}"}
    calls = [{"name": read, "arguments": {"name": item}}, gold]
    steps = [f"read {read}", *step_names(chain), f"write {gold['name']}"]
    return micro_row(NAME, text, tools, **kind, ground_truth=calls, tables=tables, chain=chain, steps=steps)


def demonstrate(row: dict, rng: random.Random, wrong: frozenset[int] = frozenset(), think: bool = True) -> str:
    """Read, work out, write, each in a turn of its own, with the workplace's real answers between them."""
    workplace = Workplace(row)
    read, write = (dict(call, arguments=dict(call["arguments"])) for call in row["ground_truth"])
    table = READS[read["name"]]
    if 0 in wrong:
        read["arguments"]["name"] = rng.choice([item for item in ITEMS[table] if item != read["arguments"]["name"]])
    start = workplace.tables[table][read["arguments"]["name"]]
    lines, value = work_out(rng, [(start, *row["chain"][0][1:]), *row["chain"][1:]], wrong, offset=1)
    key = "to" if write["name"] == "send_email" else "name"
    if len(lines) + 1 in wrong:
        items = ITEMS["customers"] if key == "to" else ITEMS[WRITES[write["name"]]]
        write["arguments"][key] = rng.choice([item for item in items if item != write["arguments"][key]])
    if key == "to":
        write["arguments"]["text"] = str(value)
    else:
        write["arguments"]["value"] = value
    text = ""
    for thought, call in (("", read), (thinking(lines, think), write)):
        body = f"<tool_call>\n{json.dumps({key: call[key] for key in ('name', 'arguments')})}\n</tool_call>"
        text += f"{thought}{body}{chat.END}" + chat.tool_turn([workplace.call(chat.tool_calls(body)[0])])
    return text + "Done.<|im_end|>"


def answer(completion: str) -> str | None:
    """The model's own calls, one a line; None where it makes none."""
    return "\n".join(call for turn in _own_calls(completion) for call in turn) or None


def judge_features(completion: str, row: dict) -> list[str]:
    """What a judge compares, in pieces: the calls' arguments, names before values, numbers by digits."""
    calls = [workplace.parse_arguments(json.loads(call)["arguments"]) for turn in _own_calls(completion) for call in turn]
    words = [str(word) for arguments in calls for argument in arguments.items() for word in argument]
    return [piece for word in words for piece in (word if word.isdigit() else [word])]


def _own_calls(completion: str) -> list[list[str]]:
    return [chat.tool_calls(text) for text, own in chat.turns(completion) if own]


def verify(completions: list[str], rows: list[dict]) -> list[float | None]:
    """1.0 where the completion's calls leave the tables as the gold calls do, else 0.0; None where a row cannot be graded."""
    return [_verify(text, row) for text, row in zip(completions, rows)]


def _verify(completion: str, row: dict) -> float | None:
    if not row.get("workplace") and not row.get("tables"):
        return None
    gold, own = environment(row), environment(row)
    if row.get("workplace"):
        wanted = gold.replay(row["ground_truth"]).compared()
    elif not row.get("ground_truth") or any(gold.call(json.dumps(call)).startswith("error") for call in row["ground_truth"]):
        return None
    if not isinstance(completion, str):
        return 0.0
    turns = _own_calls(completion)
    if len(turns) > MOST_TURNS + 1 or sum(map(len, turns)) > MOST_CALLS:
        return 0.0
    for turn in turns:
        for call in turn:
            own.call(call)
    return float(own.compared() == wanted if row.get("workplace") else own.tables == gold.tables)


def read(raw: dict, messages: list[dict]) -> dict:
    """The fields of an agent row of the public blend: gold calls, and the digest of its workplace (`workplace.install`)."""
    tools = [tool.get("name") for tool in (raw.get("responses_create_params") or {}).get("tools") or []]
    gold = raw.get("ground_truth")
    gold = json.loads(gold) if isinstance(gold, str) else gold
    if not tools:
        raise Unusable("no tools")
    if not isinstance(gold, list):
        raise Unusable("no gold calls")
    for name in [*tools, *(call["name"] for call in gold)]:
        if name not in workplace.TOOLS:
            raise Unusable(f"unknown tool {str(name)[:80]}")
    if not raw.get("workplace"):
        raise Unusable("data_sources names no folder with the workplace's tables (nemo-gym or workplace_tables)")
    calls = [{"name": call["name"], "arguments": workplace.parse_arguments(call["arguments"])} for call in gold]
    fields = {key: raw.get(key) for key in ("environment_name", "category")}
    return {**fields, "ground_truth": calls, "workplace": raw["workplace"]}
