"""`python -m m2rl_lib.evaluation.served_model PARAMS MODEL --server URL`: the paper's nine benchmarks, asked of a served model.

evalscope asks and grades; data sets are read at a commit, programs run in our sandbox only, what could not be graded is null."""

import argparse
import copy
import json
import os
import shutil
import sys
import zlib
from importlib import metadata, util
from pathlib import Path

import httpx
import pandas as pd

from m2rl_lib import sandbox
from m2rl_lib.config import locations, model_names, study
from m2rl_lib.config.study import Parameters
from m2rl_lib.domains import chat
from m2rl_lib.evaluation import live_code_bench
from m2rl_lib.evaluation.nine_benchmarks import BENCHMARKS, KNOWN, BenchmarkError, choose, read_rows
from m2rl_lib.storage import artifacts, atomic, hub, result_tables

EVALSCOPE = "1.14.1"
GRADES = ("prompt_level_strict", "accuracy", "acc")  # as evalscope calls a sample's grade, by benchmark
GRADERS = {  # task: the grade of a program, from what evalscope keeps of its problem
    "live_code_bench": lambda program, kept: live_code_bench.grade_program(program, json.loads(kept["evaluation_sample"])),
    "humaneval": live_code_bench.grade_function,
}
GRADED = ["correct", "parsed", "truncated", "completion_tokens", "thought"]
KEY = os.environ.get("OPENAI_API_KEY", "EMPTY")
READ = ["evaluate_samples", "evaluate_temperature", "evaluate_max_tokens", "evaluate_batch", "sandbox_kind"]


def served_name(server: str, wanted: str | None = None) -> str:
    """What the server calls the model: `wanted` where it serves that, else its only one; BenchmarkError in one line."""
    try:
        answer = httpx.get(f"{server.rstrip('/')}/models", headers={"Authorization": f"Bearer {KEY}"}, timeout=30)
        answer.raise_for_status()
        names = [model["id"] for model in answer.json()["data"]]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        wrong = f"server {server}: {type(error).__name__} when asked for /models; give the address up to /v1 of one that speaks"
        raise BenchmarkError(f"{wrong} OpenAI's protocol, such as `vllm serve FOLDER --generation-config vllm`") from None
    if wanted in names or len(names) == 1:
        return wanted if wanted in names else names[0]
    there = f"server {server} serves {', '.join(names) or 'nothing'}"
    raise BenchmarkError(f"{there}: serve one model, one named {wanted}, or say which by --served")


def check(names: list[str], judge: str | None) -> None:
    """BenchmarkError in one line where evalscope, a judge or a checker's word lists are missing."""
    if util.find_spec("evalscope") is None or metadata.version("evalscope") != EVALSCOPE:
        raise BenchmarkError(f"evalscope {EVALSCOPE} is not installed: pip install -e '.[benchmarks]'")
    if "hle" in names and judge is None:
        raise BenchmarkError("hle is graded by a model: give --judge the address of a server that serves it, or leave hle out")
    if "ifbench" in names:
        import nltk

        for path in ("tokenizers/punkt_tab", "taggers/averaged_perceptron_tagger_eng", "corpora/stopwords"):
            try:
                nltk.data.find(path)
            except LookupError:
                name = path.split("/")[1]
                line = f"ifbench needs NLTK's {name}, which is not here: with network, python -m nltk.downloader {name}"
                raise BenchmarkError(line) from None


def ask(p: Parameters, name: str, rows: list[dict], server: str, served: str, judge: dict | None, work: Path) -> pd.DataFrame:
    """Every sample of a benchmark, as `read_samples` gives them. What an earlier call left in `work` is not asked again."""
    from evalscope import TaskConfig, run_task

    task = _register(name, rows)
    config = TaskConfig(
        model=served,
        api_url=server,
        api_key=KEY,
        eval_type="openai_api",
        datasets=[task],
        dataset_args={task: {"filters": {"remove_until": "</think>"}}},
        repeats=p.evaluate_samples,
        generation_config={"temperature": p.evaluate_temperature, "top_p": 1.0, "max_tokens": p.evaluate_max_tokens},
        eval_batch_size=p.evaluate_batch,
        judge={"strategy": "llm", "models": [judge]} if name == "hle" else {"strategy": "rule"},
        work_dir=str(work),
        use_cache=str(work) if work.is_dir() else None,
        no_timestamp=True,
        seed=p.seed,
    )
    run_task(config)
    return read_samples(work, name, p.evaluate_samples, len(rows))


def _register(name: str, rows: list[dict]) -> str:
    """Give evalscope the benchmark on rows of ours, under a name of its own; programs with our grading."""
    from evalscope.api.dataset import DictDataLoader
    from evalscope.api.metric import Score
    from evalscope.api.registry import BENCHMARK_REGISTRY

    task = KNOWN[name].task
    meta = copy.deepcopy(BENCHMARK_REGISTRY.get(task))

    class OnRows(meta.data_adapter):
        def __init__(self, **given):
            super().__init__(**given)
            self.reformat_subset, self.subset_list = False, ["default"]

        def load_subset(self, subset, data_loader):
            return DictDataLoader(copy.deepcopy(rows), sample_fields=self.record_to_sample, repeats=self.repeats).load()

        if task in GRADERS:

            def match_score(self, original_prediction, filtered_prediction, reference, task_state):
                passed = GRADERS[task](filtered_prediction, task_state.metadata)
                value = {} if passed is None else {"acc": passed}
                return Score(extracted_prediction=filtered_prediction, prediction=original_prediction, value=value)

    meta.name, meta.data_adapter = f"m2rl_{name}", OnRows
    BENCHMARK_REGISTRY[meta.name] = meta
    return meta.name


def read_samples(work: Path, name: str, k: int, problems: int) -> pd.DataFrame:
    """The samples that evalscope wrote under `work`: problem_id, sample, GRADED, text; a missing grade is null."""
    asked, graded = (_by_index(work / kind, f"m2rl_{name}_default.jsonl") for kind in ("predictions", "reviews"))
    if len(asked) != problems * k:
        raise BenchmarkError(f"{name}: {len(asked)} of {problems * k} completions came; the same command asks for the rest")
    found = []
    for index, prediction in sorted(asked.items()):
        output = prediction["model_output"]
        choice, tokens = output["choices"][0], (output.get("usage") or {}).get("output_tokens", 0)
        score = graded.get(index, {}).get("sample_score", {}).get("score", {})
        value, parsed = score.get("value") or {}, bool(score.get("extracted_prediction"))
        grade = float(next((value[key] for key in GRADES if key in value), "nan"))
        truncated = choice["stop_reason"] in ("max_tokens", "model_length")
        text = _text(choice["message"]["content"])
        found.append([f"{name}/{index // k}", index % k, grade, parsed, truncated, tokens, chat.thought(text), text])
    return pd.DataFrame(found, columns=["problem_id", "sample", *GRADED, "text"])


def _by_index(folder: Path, file: str) -> dict[int, dict]:
    lines = [line for path in folder.glob(f"**/{file}") for line in path.read_text(encoding="utf-8").split("\n") if line]
    return {item["index"]: item for item in map(json.loads, lines)}


def _text(content: str | list[dict]) -> str:
    """A message in one text; thoughts that the server cut out are put back between their marks."""
    if isinstance(content, str):
        return content
    parts = [f"<think>{part['reasoning']}</think>\n" if part.get("reasoning") else part.get("text") or "" for part in content]
    return "".join(parts)


def score(p: Parameters, model: str, names: list[str], server: str, served=None, judge=None, data: list[str] = ()) -> None:
    """Ask the served model the benchmarks `names` and write each to both tables. Refusals come before the first question."""
    model_names.parse_model_name(model)
    check(choose(names), judge)
    rows = {name: read_rows(name, list(data)) for name in choose(names)}
    served = served or served_name(server, model)
    judged = {"model_id": served_name(judge), "api_url": judge, "api_key": KEY} if judge and "hle" in names else None
    if any(KNOWN[name].task in GRADERS for name in rows):
        sandbox.configure(p.sandbox_kind)
        sandbox.check()
    folder = locations.model_folder(p.study, p.seed, model)
    made_by = artifacts.record(p, [folder] if folder.is_dir() else [])
    for name, (problems, source) in rows.items():
        provenance = {"source": source, "server": server, "served": served, "evalscope": EVALSCOPE}
        provenance |= {"judge": judged["model_id"]} if name == "hle" else {}
        asked = json.dumps([provenance, {key: vars(p)[key] for key in READ}, made_by["inputs"]], sort_keys=True)
        work = locations.work_folder(p.study, p.seed, f"{name}-{model}") / f"{zlib.crc32(asked.encode()):08x}"
        benchmark = KNOWN[name]
        fixed = {"seed": p.seed, "model": model, "domain": benchmark.domain, "benchmark": benchmark.name, "split": "test"}
        frame = ask(p, name, problems, server, served, judged, work).assign(**fixed)
        for table, columns in {"scores": GRADED, "samples": ["text"]}.items():
            result_tables.write_table(
                p, table, f"{name}-{model}", frame[[*result_tables.KEYS, *columns]], made_by | {"benchmark": provenance}
            )
        shutil.rmtree(work)
        mean, lost = 100 * frame.groupby("problem_id")["correct"].mean().mean(), int(frame["correct"].isna().sum())
        ungraded = f", {lost} samples not graded" if lost else ""
        line = f"{benchmark.name} Avg@{p.evaluate_samples} {mean:.1f}, n = {len(problems)} problems{ungraded}"
        print(f"{model}: {line}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """The command line; ends with one line that says what is wrong."""
    parser = argparse.ArgumentParser("python -m m2rl_lib.evaluation.served_model", description="The paper's nine benchmarks.")
    parser.add_argument("params", help="the parameter file: study, seed, K, temperature, tokens, sandbox")
    parser.add_argument("model", help="the model's name in the study's tables: sft, rl-math, merge-ties, ...")
    parser.add_argument("--server", required=True, help="the address of the server, up to /v1")
    parser.add_argument("--served", help="what the server calls the model, where it serves several and none by MODEL's name")
    parser.add_argument("--benchmarks", nargs="+", default=list(BENCHMARKS), metavar="NAME", help=" ".join(KNOWN))
    parser.add_argument("--judge", help="the address of the server of HLE's judge")
    parser.add_argument("--data", nargs="+", metavar="SOURCE", help="owner/name@<commit>, or a folder that mirrors the Hub")
    asked = parser.parse_args(arguments)
    try:
        values = study.load(asked.params).model_dump()
        p = Parameters.model_construct(**{name: values[name] for name in ("study", "seed", *READ)})
        score(p, asked.model, asked.benchmarks, asked.server, asked.served, asked.judge, asked.data or [])
    except (ValueError, hub.SourceError, study.ParameterError, sandbox.SandboxError, atomic.DamagedError) as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main()
