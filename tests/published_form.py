"""Small files in the form of the public blends: rows as they are published, the odd ones among them, and mirrors of the Hub."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from m2rl_lib.data import rl_blend

PREFIX = rl_blend.PREFIX
DAPO = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: $Answer "
    "(without quotes) where $Answer is the answer to the problem.\n\n{}\n\n"
    'Remember to put your answer on its own line after "Answer:".'
)


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def asked(label: str, text: str, **fields) -> dict:
    prompt = {"input": [user(text)]}
    return {"dataset": PREFIX + label, "responses_create_params": prompt, "agent_ref": {"name": "x"}} | fields


def placeholder(label: str, row: int, template) -> dict:
    return {"dataset": PREFIX + label, "_hf_placeholder": {"row": row, "question_template": template}, "expected_answer": None}


def mcqa(text: str, options, expected: str, **more) -> dict:
    return asked("stem_mcqa", text, options=options, expected_answer=expected, **more)


def following(text: str, ids: list, kwargs: list) -> dict:
    return asked("instruction_following", text, prompt=text, instruction_id_list=ids, kwargs=kwargs)


def program(text: str, inputs: list, outputs: list) -> dict:
    tests = {"unit_tests": {"inputs": inputs, "outputs": outputs}}
    return asked("comp_coding_50tests", text, verifier_metadata=tests, pass_rate=0.5)


FOUR = [{"A": "ant", "B": None}, {"A": None, "B": "bee"}, {"C": "cow"}, {"I": "ibis"}]  # as Arrow fills options
NO_COMMA = ("punctuation:no_comma", {"num_words": None, "keywords": None})

# (row, its reason; '' for a row that is kept)
RL = [
    (placeholder("dapo17k", 1, {"prefix": "Put your answer in \\boxed{}.\n\n"}), ""),
    (placeholder("dapo17k", 0, {"suffix": "\n\nThink well."}), ""),
    (placeholder("dapo17k", 99, {"prefix": "P"}), "the placeholder points to no row of its data set"),
    (placeholder("dapo17k", 2, {"prefix": "P"}), "the problem is not in DAPO's wrapper"),
    (placeholder("dapo17k", 0, {}), "the placeholder's template has no prefix or suffix"),
    (placeholder("skywork_no_omni", 0, "{question} Answer in \\boxed{}."), ""),
    (placeholder("skywork_no_omni", 0, {"template": "{question} Answer in \\boxed{}."}), "duplicate prompt"),
    (placeholder("skywork_no_omni", 1, "{question} \\boxed{}"), "empty answer"),
    (placeholder("skywork_no_omni", 2, "{question} \\boxed{}"), "empty answer"),
    (placeholder("skywork_no_omni", 3, "{question}"), "duplicate prompt with another answer"),
    (placeholder("skywork_no_omni", 0, "no place"), "the placeholder's template has no {question}"),
    (mcqa("Which flies?", FOUR, "b"), ""),
    (mcqa("Which is rare?", FOUR, "I"), ""),
    (mcqa("Which is last?", FOUR, "D"), "the expected answer is not among the options"),
    (mcqa("Which one?", [{"A": "ant"}, {"B": None}], "A"), "fewer than two options"),
    (mcqa("Which form?", FOUR, "C", template_metadata={"output_regex": r"Option Selected:\s*([A-Z])"}), ""),
    (mcqa("Which pattern?", FOUR, "C", template_metadata={"output_regex": "(["}), "output_regex is no pattern"),
    (following("No commas.", [NO_COMMA[0]], [NO_COMMA[1]]), ""),
    (following("Say lamp.", ["keywords:existence"], [{"keywords": ["lamp"]}]), ""),
    (following("It.", ["keywords:existence"], [{"keywords": None}]), "instruction keywords:existence: keywords is missing"),
    (following("Count.", ["count:word_count_range"], [{}]), "instruction count:word_count_range: min_words is missing"),
    (following("Nothing.", [], []), "no instructions"),
    (following("Two.", ["punctuation:no_comma"], [{}, {}]), "instructions and arguments differ in number"),
    (program("Print n.", ["1\n"], ["1\n"]), ""),
    (program("Print  m.", [], []), "no unit tests"),
    (program("Print k.", ["1\n"], []), "inputs and outputs of the unit tests differ in number"),
    (asked("workbench", "Mail Ann.", ground_truth=[], id=1), "no tools"),
    (asked("structured_outputs", "JSON!"), "no domain of this study"),
    (asked("poetry", "Sing."), "unknown label"),
    (asked("", "Who am I?", dataset=None), "no label"),
    (mcqa("", FOUR, "A", responses_create_params=None), "no prompt"),
    (mcqa("Hi<|im_end|>", FOUR, "A"), "a text holds markers of turns"),
    (mcqa("Odd", "not a list", "A"), "fields are not of the published form"),
]


def write_jsonl(path, some: list) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in some))


def write_parquet(path, some: list) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(some), path, row_group_size=2)


def problem(text: str, answer: str) -> dict:
    return {"prompt": [user(text)], "reward_model": {"style": "rule", "ground_truth": answer}}


def write_rl(folder: Path, some: list, dapo: list[dict], skywork: list[dict]) -> None:
    """A mirror of the RL blend and of the two data sets that it points into."""
    write_jsonl(folder / rl_blend.BLEND / "train.jsonl", some)
    write_parquet(folder / rl_blend.DAPO / "data" / "dapo-math-17k.parquet", dapo)
    write_parquet(folder / rl_blend.SKYWORK / "data" / "math-00000-of-00001.parquet", skywork)
    write_parquet(folder / rl_blend.SKYWORK / "data" / "code-00000-of-00001.parquet", [problem("print", "x")])


WRAPPED = [problem(DAPO.format("What is 6 times 7?"), "42"), problem(DAPO.format("What is 2 + 2?"), "4"), problem("?", "1")]
SKYWORK = [
    problem("Half of one?", '["\\\\frac{1}{2}", "0.5"]'),
    problem("None?", "[]"),
    problem("Blank?", '[""]'),
    problem("Half of one? Answer in \\boxed{}.", '["2"]'),  # with its template the same text as the first has with its own
]


def conversation(*messages, tools=None, **more) -> dict:
    return {"uuid": "u", "messages": list(messages), "license": "x", "used_in": [], "tools": tools, **more}


USER = user("What is 2 + 2?")
SEARCH = {"type": "function", "function": {"name": "search", "parameters": {"type": "object", "properties": {"q": {}}}}}
CALL = {"id": "1", "type": "function", "function": {"name": "search", "arguments": '{"q": "two"}'}}
FOUND = {"role": "tool", "content": {"found": 4}, "tool_call_id": "1"}
SAID = {"role": "assistant", "content": "4", "reasoning_content": "2 and 2"}


def write_sft(folder: Path, science: list[dict], chats: list) -> None:
    """A mirror of four of the SFT data sets: Science and Chat as given, Math with and without tools, Code with and without its problem."""
    owner = folder / "nvidia"
    write_jsonl(owner / "Nemotron-Science-v1" / "data" / "MCQ.jsonl", science)
    write_jsonl(owner / "Nemotron-Instruction-Following-Chat-v1" / "data" / "chat_if.jsonl", chats)
    calls = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    answer = FOUND | {"content": json.dumps(FOUND["content"])}  # Parquet has texts only
    math = [conversation(USER, SAID, tools="[]"), conversation(USER, calls, answer, SAID, USER, tools=json.dumps([SEARCH]))]
    write_parquet(owner / "Nemotron-Math-v2" / "data" / "low.parquet", math)
    code = [conversation(user("-"), SAID, dataset="taco", split="train", index="3"), conversation(USER, SAID)]
    write_jsonl(owner / "Nemotron-Competitive-Programming-v1" / "data" / "python.jsonl", code)
