"""The paper's nine benchmarks: published rows, every refusal, programs in the sandbox, and evalscope (skipped where not
installed)."""

import base64
import json
import pickle
import re
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m2rl_lib.config import locations
from m2rl_lib.config.study import Parameters
from m2rl_lib.evaluation import live_code_bench, nine_benchmarks, served_model
from m2rl_lib.evaluation.nine_benchmarks import BenchmarkError
from m2rl_lib.paper import published_tables
from m2rl_lib.storage import hub, result_tables

TWICE = "n = int(input())\nprint(2 * n)"
FENCED = "<think>```python\nprint(0)\n```</think>\n```python\n{}\n```"

DOUBLE = {  # a task in HumanEval's form; its prompt imports what the answer uses
    "task_id": "HumanEval/0",
    "prompt": 'import math\n\n\ndef double(n):\n    """Give twice n."""\n',
    "entry_point": "double",
    "canonical_solution": "    return 2 * n\n",
    "test": "def check(candidate):\n    assert candidate(3) == 6\n    assert candidate(0) == 0\n",
}


def case(given, wanted):
    return {"input": given, "output": wanted, "testtype": "stdin"}


def packed(value) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def problem(private: str) -> dict:
    row = {"question_content": "Read n. Print twice n.", "starter_code": "", "contest_date": "2025-01-01T00:00:00"}
    return row | {"public_test_cases": json.dumps([case("3\n", "6\n")]), "private_test_cases": private, "metadata": "{}"}


def choices(question, answer, error="ok", correct=None):
    fixed = {"choices": ["a", "b", "c", "d"], "error_type": error, "correct_answer": correct}
    return {"question": question, "answer": answer} | fixed


def exam(question, image):
    row = {"id": "1", "question": question, "image": image, "answer": "2", "answer_type": "exactMatch", "category": "Math"}
    return row | {"author_name": "", "rationale": "", "raw_subject": ""}


ROWS = {  # repository/file: rows in the published columns
    "math-ai/aime24/data/test-00000-of-00001.parquet": [
        {"id": i, "problem": f"What is {i} plus 7?", "solution": rf"\boxed{{{i + 7}}}", "url": ""} for i in range(3)
    ],
    "math-ai/aime25/test.jsonl": [{"problem": f"What is {i} times 2?", "answer": str(2 * i), "id": str(i)} for i in (4, 5)],
    "livecodebench/code_generation_lite/test5.jsonl": [problem(json.dumps([case("5\n", "10\n")]))],
    "livecodebench/code_generation_lite/test6.jsonl": [problem(packed(json.dumps([case("5\n", "10\n")])))],
    "cais/hle/data/test.parquet": [exam("What is 1 plus 1?", ""), exam("What is seen?", "data:image/png;base64,A")],
    "Idavidrein/gpqa/gpqa_diamond.csv": [
        {"Question": "Which?", "Correct Answer": "right", **{f"Incorrect Answer {i}": f"wrong {i}" for i in (1, 2, 3)}}
    ],
    "google/IFEval/ifeval_input_data.jsonl": [
        {"key": 1, "prompt": "No commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
        {"key": 2, "prompt": "Lower case.", "instruction_id_list": ["change_case:english_lowercase"], "kwargs": [{}]},
    ],
    "openai/openai_humaneval/openai_humaneval/test.jsonl": [DOUBLE],
    "edinburgh-dawg/mmlu-redux-2.0/anatomy/data.parquet": [choices("First?", 1)],
    "edinburgh-dawg/mmlu-redux-2.0/virology/data.parquet": [choices("Second?", 0, "wrong_groundtruth", "2")],
}


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mirror")
    for name, rows in ROWS.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), file)
        elif file.suffix == ".csv":
            pd.DataFrame(rows).to_csv(file, index=False)
        else:
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def test_the_nine_are_the_papers():
    names = [benchmark.name for benchmark in nine_benchmarks.BENCHMARKS.values()]
    assert sorted(names) == sorted(published_tables.scores()["benchmark"].unique())


def test_rows_are_read_in_every_published_form(mirror):
    counts = {name: len(nine_benchmarks.read_rows(name, [mirror])[0]) for name in nine_benchmarks.KNOWN if name != "ifbench"}
    one = dict.fromkeys(
        ("livecodebench_v5", "livecodebench_v6", "hle", "gpqa_diamond", "humaneval"), 1
    )  # of HLE the one without an image
    assert counts == {"aime24": 3, "aime25": 2, "ifeval": 2, "mmlu_redux": 2, **one}


def test_gate_commit_and_network_are_refused_in_one_line(tmp_path):
    gated = r"commit of Idavidrein/gpqa \(gated: accept its terms.*--data Idavidrein/gpqa@<commit>"
    with pytest.raises(BenchmarkError, match=gated):
        nine_benchmarks.read_rows("gpqa_diamond", [])
    with pytest.raises(hub.SourceError, match="math-ai/aime24@83a7f387.* is not on this machine"):
        nine_benchmarks.read_rows("aime24", [])
    (tmp_path / "math-ai/aime24").mkdir(parents=True)
    with pytest.raises(BenchmarkError, match="aime24: folder .* has no"):
        nine_benchmarks.read_rows("aime24", [str(tmp_path)])


def test_hle_without_a_judge_and_ifbench_without_word_lists_are_refused(monkeypatch):
    monkeypatch.setattr(served_model.util, "find_spec", lambda name: None)
    with pytest.raises(BenchmarkError, match="evalscope 1.14.1 is not installed"):
        served_model.check(["aime24"], None)
    monkeypatch.setattr(served_model.util, "find_spec", lambda name: name)
    monkeypatch.setattr(served_model.metadata, "version", lambda name: served_model.EVALSCOPE)
    with pytest.raises(BenchmarkError, match="hle is graded by a model: give --judge"):
        served_model.check(["hle"], None)
    monkeypatch.setattr("nltk.data.find", lambda path: (_ for _ in ()).throw(LookupError(path)))
    with pytest.raises(BenchmarkError, match="ifbench needs NLTK's punkt_tab"):
        served_model.check(["ifbench"], None)


@pytest.mark.parametrize(
    ("name", "line"), [("bfcl_v3", "bfcl_v3 is evalscope's but not run"), ("aime23", "'aime23' is not one of aime24, aime25")]
)
def test_command_line_refuses_other_benchmarks_in_one_line(name, line):
    with pytest.raises(SystemExit, match=line):
        served_model.main(["params/smoke.yaml", "sft", "--server", "http://127.0.0.1:9/v1", "--benchmarks", name])


def test_a_server_that_is_none_is_refused():
    with pytest.raises(BenchmarkError, match="server http://127.0.0.1:9/v1: ConnectError"):
        served_model.served_name("http://127.0.0.1:9/v1")


@pytest.mark.parametrize(
    "program, passes", [(TWICE, 1), (TWICE.replace("2 *", "3 *"), 0), ("print(6)", 0), ("1 / 0", 0), ("", 0)]
)
def test_programs_read_standard_input(program, passes):
    tests = {"inputs": ["3\n", "5\n"], "outputs": ["6\n", "10\n"], "fn_name": None}
    assert live_code_bench.grade_program(program, tests) == passes


@pytest.mark.parametrize(
    "body, passes",
    [("return a + b", 1.0), ("print('chatter'); return tuple(a + b)", 1.0), ("return b + a", 0.0), ("return {1}", 0.0)],
)
def test_methods_are_called_on_json(body, passes):
    program = f"class Solution:\n    def join(self, a: List[int], b: List[int]) -> List[int]:\n        {body}\n"
    tests = {"inputs": ["[1, 2]\n[3]", "[]\n[4]"], "outputs": ["[1, 2, 3]", "[4]"], "fn_name": "join"}
    assert live_code_bench.grade_program(program, tests) == passes


def test_numbers_are_compared_as_numbers_and_no_tests_give_no_grade():
    tests = {"inputs": [""], "outputs": ["1.5 2.0\n"], "fn_name": None}
    assert [live_code_bench.grade_program(f"print('{text}')", tests) for text in ("1.50 2", "1.51 2")] == [1.0, 0.0]
    assert live_code_bench.grade_program("print(1)", tests | {"inputs": []}) is None


@pytest.mark.parametrize(
    "program, passes",
    [
        ("def double(n):\n    return math.floor(2 * n)", 1),
        ("    return 2 * n", 1),  # goes on where the prompt stops
        ("def double(n):\n    return 6", 0),
        ("", 0),
        ("import sys\nsys.exit()", 0),  # ends well before the test
        ("def check(candidate):\n    pass", 0),  # the test's own comes after it
    ],
)
def test_a_function_passes_humanevals_own_test(program, passes):
    assert live_code_bench.grade_function(program, DOUBLE) == passes


def test_a_pickle_of_more_than_text_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "trap"), "w"))

    with pytest.raises(ValueError, match="where a text is expected"):
        live_code_bench.unpack_private_tests(packed(Trap()))
    assert not (tmp_path / "trap").exists()


def reply(prompt: str, count: int) -> tuple[str, str]:
    """What the scripted model says to a prompt the `count`-th time, and why it stopped."""
    option = re.search(r"([A-D])\) right", prompt)  # GPQA's options are shuffled
    known = {
        "Judge whether": '{"reasoning": "", "verdict": "C"}',
        "0 plus 7": r"<think>\boxed{99}</think> So \boxed{7}.",  # right each time; the thought is not read
        "1 plus 7": [r"It is \boxed{8}.", r"It is \boxed{9}."][count % 2],  # right every other time
        "4 times 2": r"\boxed{8}",
        "No commas": "None here." if count % 2 == 0 else "One, here.",
        "Lower case": "this is a simple sentence that was written in plain english.",
        "Give twice n": "Here:\n```python\ndef double(n):\n    return 2 * n\n```",
        "twice n": FENCED.format(TWICE),
        "First?": "ANSWER: B",
        "Second?": "ANSWER: A",
        "1 plus 1": "Exact Answer: 2",
        "Which?": f"ANSWER: {option and option[1]}",
    }
    said = next((text for key, text in known.items() if key in prompt), "I do not")
    return said, "length" if said == "I do not" else "stop"


@pytest.fixture
def server():
    asked: dict[str, int] = {}
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self, value):
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self):
            self.answer({"object": "list", "data": [{"id": "scripted", "object": "model"}]})

        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            content = request["messages"][-1]["content"]
            prompt = content if isinstance(content, str) else "".join(part["text"] for part in content)
            with lock:
                asked[prompt] = asked.get(prompt, -1) + 1
                text, why = reply(prompt, asked[prompt])
            message = {"role": "assistant", "content": text}
            usage = {"prompt_tokens": 5, "completion_tokens": len(text.split()), "total_tokens": 5 + len(text.split())}
            choice = {"index": 0, "message": message, "finish_reason": why}
            whole = {"id": "1", "object": "chat.completion", "created": 0, "model": request["model"]}
            self.answer(whole | {"choices": [choice], "usage": usage})

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}/v1"
    http.shutdown()


@pytest.fixture
def p(tmp_path, monkeypatch):
    monkeypatch.setattr(locations, "RUNS", tmp_path / "runs")
    values = {"evaluate_samples": 2, "evaluate_temperature": 1.0, "evaluate_max_tokens": 32, "evaluate_batch": 2}
    return Parameters.model_construct(study="nine", seed=0, sandbox_kind="bubblewrap", **values)


def test_every_sample_of_a_served_model_is_in_both_tables(p, server, mirror, monkeypatch):
    pytest.importorskip("evalscope")
    for name in ("live_code_bench.evaluate_utils.codegen_metrics", "humaneval.utils.check_correctness"):
        monkeypatch.setattr(f"evalscope.benchmarks.{name}", lambda *_, **__: pytest.fail("evalscope ran a program"))
    names = ["aime24", "aime25", "livecodebench_v5", "livecodebench_v6", "hle", "ifeval", "mmlu_redux", "gpqa_diamond"]
    names += ["humaneval"]
    served_model.score(p, "rl-math", names, server, judge=server, data=[mirror])
    scores = result_tables.read_table(p, "scores")
    means = (100 * scores.groupby("benchmark", sort=False)["correct"].mean()).to_dict()
    # AIME: 2, 1 and 0 of 2, then 2 and 0; IFEval 1 and 2 of 2; MMLU-Redux's second key is wrong, as its row says: C, not A
    solved = dict.fromkeys(["LiveCodeBench v5", "LiveCodeBench v6", "HLE", "GPQA-Diamond", "HumanEval"], 100)
    assert means == solved | {"AIME'24": 50, "AIME'25": 50, "IFEval": 75, "MMLU-Redux": 50}
    assert set(scores["model"]) == {"rl-math"} and set(scores["split"]) == {"test"}
    assert scores.groupby("problem_id")["sample"].agg(list).map(sorted).eq([[0, 1]] * scores["problem_id"].nunique()).all()
    homes = published_tables.scores().drop_duplicates("benchmark").set_index("benchmark")["domain"].to_dict() | {
        "HumanEval": "coding"
    }
    assert (scores["domain"] == scores["benchmark"].map(homes)).all()
    samples = result_tables.read_table(p, "samples")
    both = samples.merge(scores, on=result_tables.KEYS, validate="one_to_one")
    assert len(both) == len(scores) == len(samples) == 2 * 14
    assert (both["truncated"] == (both["text"] == "I do not")).all() and both["truncated"].any()
    assert (both["completion_tokens"] == both["text"].str.split().str.len()).all()
    aime = both[both["benchmark"] == "AIME'24"].set_index("problem_id").loc["aime24/1"]
    assert (aime["correct"] == aime["text"].str.contains("8").astype(float)).all() and aime["correct"].sum() == 1


def test_what_could_not_be_graded_is_null(tmp_path):
    for kind, items in {"predictions": [0, 1], "reviews": [0]}.items():
        file = tmp_path / kind / "m" / "m2rl_aime24_default.jsonl"
        file.parent.mkdir(parents=True)
        choice = {"stop_reason": "stop", "message": {"content": [{"reasoning": "so"}, {"text": "7"}]}}
        output = {"model_output": {"choices": [choice], "usage": {"output_tokens": 4}}}
        score = {"sample_score": {"score": {"value": {"acc": 1.0}, "extracted_prediction": "7"}}}
        file.write_text("".join(json.dumps({"index": i} | output | score) + "\n" for i in items))
    frame = served_model.read_samples(tmp_path, "aime24", 2, 1)
    assert frame["correct"].tolist()[0] == 1.0 and pd.isna(frame["correct"][1])
    assert frame["text"].tolist() == ["<think>so</think>\n7"] * 2 and frame["parsed"].tolist() == [True, False]
    with pytest.raises(BenchmarkError, match="aime24: 2 of 4 completions came"):
        served_model.read_samples(tmp_path, "aime24", 2, 2)
