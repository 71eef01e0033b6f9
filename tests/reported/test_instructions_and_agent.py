"""Cases from public reports and their relatives: instructions, and calls of an agent.

Sources: google-research 3427 (IFEval's key 1122), NeMo Skills 1375 (arguments drawn at random, patterns from arguments),
scitix/sieval 104 and open-instruct 1778 (blank paragraphs), olmo-eval 325 (numbers as floats); verl 4757 (calls in the
thinking), smolagents 1003 (arguments as text), agentscope 2222 (numbers in other scripts).
"""

import json

import pytest

from m2rl_lib.domains import agent, chat, conventions, instruction_following, problems

NTH = "length_constraints:nth_paragraph_first_word"
LETTER = "keywords:letter_frequency"


@pytest.mark.parametrize(
    ("name", "arguments", "text", "reward"),
    [
        (LETTER, {"letter": "#", "let_frequency": 4, "let_relation": "at least"}, "#a #b #c #d ok", 1.0),
        (LETTER, {"letter": "é", "let_frequency": 2, "let_relation": "less than"}, "É é", 0.0),
        (NTH, {"num_paragraphs": 2, "nth_paragraph": 3, "first_word": "weekend"}, "One here.\n\nWeekend two.", None),
        ("new:copy_span_idx", {"prompt_to_repeat": "Say it.", "n_start": 0, "n_end": 3}, "Say", 1.0),
        ("punctuation:no_comma", {"frequency": None}, "Say it.", 1.0),
        ("keywords:existence", {"keywords": ["C++"]}, "Cats are nice", 0.0),
        ("keywords:existence", {"keywords": ["("]}, "Open (", 1.0),
        ("keywords:forbidden_words", {"forbidden_words": ["a.b"]}, "an axb here", 1.0),
        ("detectable_format:multiple_sections", {"section_spliter": "S*", "num_sections": 2}, "S 1 SS 2", 0.0),
        ("detectable_content:postscript", {"postscript_marker": "[PS]"}, "spa", 0.0),
        (NTH, {"num_paragraphs": 3, "nth_paragraph": 2, "first_word": "weekend"}, "One.\n\n\n\nWeekend two.\n\nThree.", 1.0),
        (NTH, {"num_paragraphs": 3.0, "nth_paragraph": 2.0, "first_word": "weekend"}, "One.\n\nWeekend two.\n\nThree.", 1.0),
    ],
)
def test_instructions(name, arguments, text, reward):
    row = {"prompt": "Say it.", "instruction_id_list": [name], "kwargs": [arguments]}
    assert set(instruction_following.verify([f"<think>t</think>\n{text}<|im_end|>"] * 10, [row] * 10)) == {reward}


@pytest.fixture
def row():
    drawn = problems.draw(agent.make, "workplace", "train", 50, 0, conventions.Demonstrated())
    last = ((row, row["ground_truth"][1]) for row in drawn)
    return next(row for row, call in last if call["name"] == "set_task" and call["arguments"]["value"] > 9)  # two digits


def body(call: dict) -> str:
    return f"<tool_call>\n{json.dumps(call)}\n</tool_call>"


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("<think>I could use {} later.</think>\nDone.", 0.0),
        ("I could use {} later.</think>\nDone.", 0.0),  # where the prompt has opened the thinking
        ("<think>I could use {}", 0.0),
        ("<think>no</think>Well.<think>{}</think>Done.", 0.0),
        ("<think>A <tool_call> tag.</think>{}", 1.0),
        ("A <tool_call> tag.</think>{}", 1.0),
        ("Think.</think>{}", 1.0),
        ("{}<think>Done.", 1.0),
        ("<think>a</think>{}<|im_end|>" + chat.tool_turn(["ok"]) + "<think>b</think>Done.", 1.0),
    ],
)
def test_drafts_are_no_calls(row, text, reward):
    assert agent.verify([text.replace("{}", body(row["ground_truth"][1])) + "<|im_end|>"], [row]) == [reward]


def test_forms_of_arguments(row):
    name, arguments = row["ground_truth"][1]["name"], row["ground_truth"][1]["arguments"]
    value = str(arguments["value"])
    forms = {
        json.dumps(arguments): 1.0,  # OpenAI's form
        '"text"': 0.0,
        json.dumps(arguments | {"value": value}): 1.0,
        json.dumps(arguments | {"value": "_".join(value)}): 0.0,
        json.dumps(arguments | {"value": "".join(chr(0x0660 + int(sign)) for sign in value)}): 0.0,
        json.dumps(arguments | {"value": f" {value}"}): 0.0,
    }
    assert len(value) > 1
    texts = [body({"name": name, "arguments": form}) + "<|im_end|>" for form in forms]
    assert agent.verify(texts, [row] * len(texts)) == list(forms.values())
