"""The public blends from small files of the published form, every odd row of which is told by its reason."""

import json
import os
import signal
import subprocess
import sys
import tracemalloc
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m2rl_lib import chat, datasets, domains, hub, sft, study
from m2rl_lib.datasets import blend, report, rows, sft_blend
from m2rl_lib.domains import mathematics, science

PREFIX = blend.PREFIX
DAPO = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: $Answer "
    "(without quotes) where $Answer is the answer to the problem.\n\n{}\n\n"
    'Remember to put your answer on its own line after "Answer:".'
)


def asked(text: str, **more) -> dict:
    return {"responses_create_params": {"input": [{"role": "user", "content": text}], **more}, "agent_ref": {"name": "x"}}


def placeholder(label: str, row: int, template) -> dict:
    return {"dataset": PREFIX + label, "_hf_placeholder": {"row": row, "question_template": template}, "expected_answer": None}


def mcqa(text: str, options, expected: str, **more) -> dict:
    return {"dataset": PREFIX + "stem_mcqa", **asked(text), "options": options, "expected_answer": expected, **more}


def following(text: str, ids: list, kwargs: list) -> dict:
    fields = {"prompt": text, "instruction_id_list": ids, "kwargs": kwargs}
    return {"dataset": PREFIX + "instruction_following", **asked(text), **fields}


def program(text: str, inputs: list, outputs: list) -> dict:
    return {
        "dataset": PREFIX + "comp_coding_50tests",
        **asked(text),
        "verifier_metadata": {"unit_tests": {"inputs": inputs, "outputs": outputs}},
        "pass_rate": 0.5,
    }


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
    (
        following("Say it.", ["keywords:existence"], [{"keywords": None}]),
        "an instruction's arguments are missing or not what its checker takes",
    ),
    (following("Count.", ["count:word_count_range"], [{}]), "instruction count:word_count_range is not one of IFEval's"),
    (following("Nothing.", [], []), "no instructions"),
    (following("Two.", ["punctuation:no_comma"], [{}, {}]), "instructions and arguments differ in number"),
    (program("Print n.", ["1\n"], ["1\n"]), ""),
    (program("Print  m.", [], []), "no unit tests"),
    (program("Print k.", ["1\n"], []), "inputs and outputs of the unit tests differ in number"),
    (
        {"dataset": PREFIX + "workbench", **asked("Mail Ann."), "ground_truth": [], "id": 1},
        "the workplace's tables and tools are not in the row (NeMo-Gym's workplace_assistant has them)",
    ),
    ({"dataset": PREFIX + "structured_outputs", **asked("JSON!")}, "no domain of this study"),
    ({"dataset": PREFIX + "poetry", **asked("Sing.")}, "unknown label"),
    (asked("Who am I?"), "no label"),
    ({"dataset": PREFIX + "stem_mcqa", "responses_create_params": None, "options": FOUR}, "no prompt"),
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
    return {"prompt": [{"role": "user", "content": text}], "reward_model": {"style": "rule", "ground_truth": answer}}


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder that mirrors the Hub, with the RL blend and the two data sets that it points into."""
    monkeypatch.setattr(study, "RUNS", tmp_path / "runs")
    folder = tmp_path / "mirror"
    write_jsonl(folder / blend.BLEND / "train.jsonl", [row for row, _ in RL] + ["{not json"])
    wrapped = [problem(DAPO.format("What is 6 times 7?"), "42"), problem(DAPO.format("What is 2 + 2?"), "4"), problem("?", "1")]
    write_parquet(folder / blend.DAPO / "data" / "dapo-math-17k.parquet", wrapped)
    skywork = [problem("Half of one?", '["\\\\frac{1}{2}", "0.5"]'), problem("None?", "[]"), problem("Blank?", '[""]')]
    # with its template the same text as the first has with its own
    skywork.append(problem("Half of one? Answer in \\boxed{}.", '["2"]'))
    write_parquet(folder / blend.SKYWORK / "data" / "math-00000-of-00001.parquet", skywork)
    write_parquet(folder / blend.SKYWORK / "data" / "code-00000-of-00001.parquet", [problem("print", "x")])
    return folder


def kept(folder) -> list[dict]:
    return [
        row
        for name in domains.DOMAINS
        for split in ("train", "selection", "test")
        for row in rows.Rows(folder, f"{name}-{split}")
    ]


def test_every_row_is_kept_or_dropped_for_its_reason(mirror):
    expected = [reason for _, reason in RL] + ["not a JSON object"]
    folder = blend.prepare_rows([str(mirror)])
    table = pd.read_csv(folder / "drops.csv", keep_default_na=False)
    counted = {reason: int(n) for reason, n in table.groupby("reason")["rows"].sum().items()}
    assert counted == {reason or "kept": expected.count(reason) for reason in expected}
    assert table["rows"].sum() == len(RL) + 1
    assert len(kept(folder)) == expected.count("")


def by_prompt(some: list[dict], text: str) -> dict:
    return next(row for row in some if text in row["responses_create_params"]["input"][0]["content"])


def test_rows_are_in_our_form_and_graded_by_our_verifiers(mirror):
    some = kept(blend.prepare_rows([str(mirror)]))
    four, answer = by_prompt(some, "2 + 2"), by_prompt(some, "6 times 7")
    assert four["responses_create_params"] == {
        "input": [{"role": "user", "content": four["responses_create_params"]["input"][0]["content"]}],
        "tools": [],
    }
    assert four["responses_create_params"]["input"][0]["content"] == "Put your answer in \\boxed{}.\n\nWhat is 2 + 2?"
    assert answer["responses_create_params"]["input"][0]["content"] == "What is 6 times 7?\n\nThink well." + mathematics.BOX
    assert by_prompt(some, "Half of one")["expected_answer"] == "\\frac{1}{2}"  # the first of a JSON list
    rare, form = by_prompt(some, "rare"), by_prompt(some, "form")
    assert rare["options"] == [{"A": "ant"}, {"B": "bee"}, {"C": "cow"}, {"I": "ibis"}]
    assert by_prompt(some, "lamp")["kwargs"] == [{"keywords": ["lamp"]}] and by_prompt(some, "commas")["kwargs"] == [{}]
    told = by_prompt(some, "Print n.")
    right = [
        (four, "\\boxed{4}", "\\boxed{5}"),
        (by_prompt(some, "Half"), "\\boxed{0.5}", "\\boxed{2}"),
        (rare, "Answer: I", "Answer: A"),
        (form, "Option Selected: C", "Answer: C"),  # the row's own form is what its prompt asks for
        (by_prompt(some, "lamp"), "A lamp.", "Dark."),
    ]
    for row, good, bad in right:
        assert domains.verify([f"<think>…</think>{text}<|im_end|>" for text in (good, bad)], [row] * 2) == [1.0, 0.0], row
    assert told["verifier_metadata"]["unit_tests"] == {"inputs": ["1\n"], "outputs": ["1\n"]} and told["pass_rate"] == 0.5
    assert len({row["problem_id"] for row in some}) == len(some)
    assert all(row["benchmark"] == f"{row['domain']}_blend" for row in some)


def test_an_output_regex_is_searched_at_the_end_only():
    row = {"expected_answer": "B", "options": [{"A": "1"}, {"B": "2"}], "template_metadata": {"output_regex": "pick ([A-Z])"}}
    far = "<think></think>pick B" + "." * science.LONGEST_ANSWER
    assert science.verify(["<think></think>pick A, no, pick B", far, "pick B"], [row] * 3) == [1.0, 0.0, 0.0]


def test_the_same_keys_choose_micro_or_paper_data(mirror):
    sources = [str(mirror)]
    world = (True, sources)
    train = [row for row in kept(blend.prepare_rows(sources)) if row["split"] == "train"]
    sizes = datasets.pool_sizes(["math", "science"], sources)
    assert sizes == [sum(row["domain"] == name for row in train) for name in ("math", "science")]
    drawn = datasets.prompts(["math", "science"], 7 * sum(sizes), 0, *world)  # seven times through all of them
    assert sorted(row["problem_id"] for row in drawn) == sorted(
        7 * [row["problem_id"] for row in train if row["domain"] in ("math", "science")]
    )
    assert drawn == datasets.prompts(["math", "science"], 7 * sum(sizes), 0, *world)
    assert drawn != datasets.prompts(["math", "science"], 7 * sum(sizes), 1, *world)
    assert datasets.benchmarks("math", sources) == ["math_blend"] and datasets.benchmarks("general", sources) == []
    with pytest.raises(ValueError, match="0 usable train problems of agent"):
        datasets.train_problems("agent", 1, 0, *world[:1], sources=sources)
    with pytest.raises(ValueError, match=r"allowed is \[micro\] alone"):
        datasets.prompts(["math"], 1, 0, True, ["micro", str(mirror)])


def test_held_out_shares(monkeypatch):
    def split(number):
        return blend.make_row(mcqa(f"Question {number}?", FOUR, "A"), {})["split"]

    splits = pd.Series([split(number) for number in range(4000)]).value_counts(normalize=True)
    assert abs(splits["selection"] - 0.02) < 0.007 and abs(splits["test"] - 0.04) < 0.01  # three standard errors


def big_mirror(folder, count: int) -> None:
    write_jsonl(folder / blend.BLEND / "train.jsonl", [mcqa(f"Question {i % (count - 50)}?", FOUR, "A") for i in range(count)])
    for name, file in ((blend.DAPO, "a.parquet"), (blend.SKYWORK, "math-0.parquet")):
        write_parquet(folder / name / "data" / file, [problem("?", "1")])


KILLED = """
import os, signal, sys
from pathlib import Path
from m2rl_lib import study
from m2rl_lib.datasets import blend, rows
study.RUNS = Path(sys.argv[2])
blend.STRIDE = 100
commit = rows.Store.commit
def committed(store, position):
    commit(store, position)
    if position[1] and store.counts["stem_mcqa|"] >= 300:
        store.add("science-train", {"torn": True})   # written, not committed
        for file in store._files.values():
            file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
rows.Store.commit = committed
blend.prepare_rows([sys.argv[1]])
"""


def test_a_killed_preparation_goes_on_where_it_was(tmp_path, monkeypatch):
    mirror = tmp_path / "mirror"
    big_mirror(mirror, 500)
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    monkeypatch.setattr(study, "RUNS", whole)
    expected = blend.prepare_rows([str(mirror)])
    done = subprocess.run([sys.executable, "-c", KILLED, str(mirror), str(torn)], cwd=study.ROOT, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    monkeypatch.setattr(study, "RUNS", torn)
    read = []
    monkeypatch.setattr(
        blend, "_take", lambda store, seen, raw, q, take=blend._take: (read.append(raw), take(store, seen, raw, q))
    )
    found = blend.prepare_rows([str(mirror)])
    assert len(read) == 200  # of 500: the first 300 were not read again
    for file in sorted(expected.glob("*.jsonl")) + [expected / "drops.csv"]:
        assert (found / file.name).read_bytes() == file.read_bytes(), file.name
    drops = pd.read_csv(found / "drops.csv").set_index("reason")["rows"]
    assert drops.to_dict() == {"kept": 450, "duplicate prompt": 50}  # duplicates of rows from before the kill are found
    read.clear()
    assert blend.prepare_rows([str(mirror)]) == found and not read  # nor is anything done twice


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "RUNS", tmp_path / "runs")
    peaks = []
    for count in (400, 1600):
        mirror = tmp_path / str(count)
        big_mirror(mirror, count)
        long = [mcqa(f"{i} " + "x" * 20_000, FOUR, "A") for i in range(count)]
        write_jsonl(mirror / blend.BLEND / "train.jsonl", long)
        tracemalloc.start()
        blend.prepare_rows([str(mirror)])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2e6 < 20e6  # the larger file alone is 32 MB


def test_what_is_missing_is_told_in_one_line(mirror, tmp_path):
    with pytest.raises(hub.SourceError, match="no nvidia/Nemotron-3-Nano-RL-Training-Blend") as error:
        blend.prepare_rows([f"{blend.DAPO}@{'a' * 40}"])
    assert "\n" not in str(error.value)
    (mirror / blend.BLEND / "train.jsonl").unlink()
    with pytest.raises(hub.SourceError, match="no file that matches"):
        blend.prepare_rows([str(mirror)])
    with pytest.raises(hub.SourceError, match="does not exist"):
        blend.prepare_rows([str(tmp_path / "absent")])


# --- SFT --------------------------------------------------------------------------------------------------


def told(*messages, tools=None, **more) -> dict:
    return {"uuid": "u", "messages": list(messages), "license": "x", "used_in": [], "tools": tools, **more}


USER = {"role": "user", "content": "What is 2 + 2?"}
SEARCH = {"type": "function", "function": {"name": "search", "parameters": {"type": "object", "properties": {"q": {}}}}}
CALL = {"id": "1", "type": "function", "function": {"name": "search", "arguments": '{"q": "two"}'}}
FOUND = {"role": "tool", "content": {"found": 4}, "tool_call_id": "1"}


@pytest.fixture
def corpus_mirror(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "RUNS", tmp_path / "runs")
    folder = tmp_path / "mirror" / "nvidia"
    said = {"role": "assistant", "content": "4", "reasoning_content": "2 and 2"}
    science_rows = [told({"role": "user", "content": f"Q{i}"}, said) for i in range(5)]
    write_jsonl(folder / "Nemotron-Science-v1" / "data" / "MCQ.jsonl", science_rows)
    chats = [told({"role": "system", "content": "Be kind."}, USER, said, {"role": "user", "content": "And?"}, said)]
    chats += [
        told(USER),
        told({"role": "user", "content": " "}, said),
        told(USER, {"role": "assistant", "content": None}),
        told(USER, said, said),
    ]
    write_jsonl(folder / "Nemotron-Instruction-Following-Chat-v1" / "data" / "chat_if.jsonl", [*chats, "{torn"])
    calls = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    math = [told(USER, said, tools="[]"), told(USER, calls, FOUND, said, USER, tools=json.dumps([SEARCH]))]
    math = [
        row
        | {
            "messages": [
                m
                | {"content": m["content"] if m["content"] is None or isinstance(m["content"], str) else json.dumps(m["content"])}
                for m in row["messages"]
            ]
        }
        for row in math
    ]
    write_parquet(folder / "Nemotron-Math-v2" / "data" / "low.parquet", math)
    code = [told({"role": "user", "content": "-"}, said, dataset="taco", split="train", index="3"), told(USER, said)]
    write_jsonl(folder / "Nemotron-Competitive-Programming-v1" / "data" / "python.jsonl", code)
    return tmp_path / "mirror"


def test_sft_rows_become_prompts_and_completions(corpus_mirror):
    folder = sft_blend.prepare_examples([str(corpus_mirror)])
    drops = pd.read_csv(folder / "drops.csv").set_index(["part", "reason"])["rows"].to_dict()
    assert drops == {
        ("Chat", "kept"): 1,
        ("Chat", "not a JSON object"): 1,
        ("Chat", "no prompt"): 1,
        ("Chat", "no turn of the model after a prompt"): 1,
        ("Chat", "the model says nothing"): 1,
        ("Chat", "turns out of order"): 1,
        ("Code", "kept"): 1,
        ("Code", "the problem is in another data set (taco)"): 1,
        ("Math", "kept"): 1,
        ("Math with Tools", "kept"): 1,
        ("Science", "kept"): 5,
    }
    chatted = rows.Rows(folder, "Chat")[0]
    assert [message["role"] for message in chatted["prompt"]] == ["system", "user"]
    turn = "<think>2 and 2</think>\n4<|im_end|>"
    assert chatted["completion"] == turn + "\n<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n" + turn
    assert [own for _, own in chat.turns(chatted["completion"])] == [True, False, True]
    tooled = rows.Rows(folder, "Math with Tools")[0]
    call = '<tool_call>\n{"name": "search", "arguments": {"q": "two"}}\n</tool_call><|im_end|>'
    assert tooled["completion"] == call + chat.tool_turn(['{"found": 4}']) + turn  # the user's last turn teaches nothing
    assert tooled["row"]["responses_create_params"]["tools"] == [SEARCH]


def test_the_published_shares(corpus_mirror):
    assert sft_blend.share_out({"Science": 1, "Chat": 1, "Math": 0}, 1000) == {"Science": 344, "Chat": 656}
    whole = sft_blend.share_out(dict.fromkeys(sft_blend.parts()["part"], 1), int(sft_blend.parts()["samples"].sum()))
    assert whole == dict(zip(sft_blend.parts()["part"], sft_blend.parts()["samples"]))
    corpus = sft_blend.draw_corpus([str(corpus_mirror)], 2000, 0)
    parts = pd.Series([example["row"]["domain"] for example in corpus]).value_counts()
    assert parts.to_dict() == sft_blend.share_out(dict.fromkeys(["Science", "Chat", "Math", "Math with Tools", "Code"], 1), 2000)
    used = pd.Series([e["prompt"][0]["content"] for e in corpus if e["row"]["domain"] == "Science"]).value_counts()
    assert used.max() - used.min() <= 1  # every row as often as the others
    again = sft_blend.draw_corpus([str(corpus_mirror)], 2000, 0)
    assert [corpus[i] for i in range(50)] == [again[i] for i in range(50)]
    assert [corpus[i] for i in range(50)] != [sft_blend.draw_corpus([str(corpus_mirror)], 2000, 1)[i] for i in range(50)]


def test_sft_trains_on_the_published_form(corpus_mirror, smoke, tokenizer, model):
    smoke = SimpleNamespace(**vars(smoke) | {"data_sources": [str(corpus_mirror)], "sft_steps": 2, "sft_batch": 4})
    base = study.model_folder(smoke.study, smoke.seed, "base")
    from m2rl_lib import artifacts

    with artifacts.publish(base, artifacts.record(smoke)) as fresh:
        model.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
    examples = sft.corpus(smoke)
    assert len(examples) == 8
    folder = sft.train(smoke, base, examples)
    spent = artifacts.read_table(smoke, "costs", ["sft"]).iloc[0]
    assert spent["prompts"] == 8 and spent["trained_tokens"] > 0 and (folder / "model.safetensors").is_file()


def test_the_report_of_a_parameter_file(mirror, tmp_path, smoke_values, capsys):
    import yaml

    path = tmp_path / "paper.yaml"
    path.write_text(yaml.safe_dump(smoke_values | {"study": "paper", "data_sources": [str(mirror)]}))
    told = report.main([str(path)])
    assert "duplicate prompt" in told and "stem_mcqa" in told
    assert (report.source_table(["math"], ["micro"])["reason"] == "kept: drawn as needed").all()
