"""The paper's nine benchmarks, and HumanEval: what each is called, where its rows are from, and its rows in their published form.
Commits are those of the paper's code where it names them. HLE is its text-only questions, as there; LiveCodeBench v5 and v6 are the problems
that each release added."""

import csv
import io
import json
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pyarrow.parquet as pq

from m2rl_lib.evaluation import live_code_bench
from m2rl_lib.storage import hub

TOOLS = ("bfcl_v3", "bfcl_v4", "tau_bench", "tau2_bench", "tau3_bench", "tool_bench", "toolathlon")


class BenchmarkError(ValueError):
    """A benchmark, server or judge that cannot be used; the message is one line that says what to do."""


@dataclass(frozen=True)
class Benchmark:
    """`name` and `domain` in the paper, evalscope's `task`, the `source` of its rows and a glob of the files."""

    name: str
    domain: str
    task: str
    source: str
    files: str = "*"


LIVE_CODE_BENCH = "livecodebench/code_generation_lite@0fe84c3912ea0c4d4a78037083943e8f0c4dd505"
IF = "instruction_following"
BENCHMARKS = {  # where no commit is written, it has to be given by --data
    "aime24": Benchmark("AIME'24", "math", "aime24", "math-ai/aime24@83a7f387baaa524a8bda0022eac0541582297103"),
    "aime25": Benchmark("AIME'25", "math", "aime25", "math-ai/aime25@563bb8404243c5f09de6ec262f2db674fe5bce9b"),
    "livecodebench_v5": Benchmark("LiveCodeBench v5", "coding", "live_code_bench", LIVE_CODE_BENCH, "test5.jsonl"),
    "livecodebench_v6": Benchmark("LiveCodeBench v6", "coding", "live_code_bench", LIVE_CODE_BENCH, "test6.jsonl"),
    "hle": Benchmark("HLE", "science", "hle", "cais/hle@5a81a4c7271a2a2a312b9a690f0c2fde837e4c29"),
    "gpqa_diamond": Benchmark("GPQA-Diamond", "science", "gpqa_diamond", "Idavidrein/gpqa", "gpqa_diamond.csv"),
    "ifeval": Benchmark("IFEval", IF, "ifeval", "google/IFEval@966cd89545d6b6acfd7638bc708b98261ca58e84"),
    "ifbench": Benchmark("IFBench", IF, "ifbench", "allenai/IFBench_test@2e8a48de45ff3bf41242f927254ca81b59ca3ae2"),
    "mmlu_redux": Benchmark("MMLU-Redux", "general", "mmlu_redux", "edinburgh-dawg/mmlu-redux-2.0"),
}
KNOWN = BENCHMARKS | {"humaneval": Benchmark("HumanEval", "coding", "humaneval", "openai/openai_humaneval")}  # asked by name only


def choose(names: list[str]) -> list[str]:
    """The benchmarks asked for, or BenchmarkError in one line."""
    for name in names:
        if name in TOOLS:
            why = "the paper's nine have no tool benchmark, and this one needs tools or a simulated user outside our sandbox"
            raise BenchmarkError(f"benchmark {name} is evalscope's but not run: {why}; the agent domain is scored by notebook 07")
        if name not in KNOWN:
            raise BenchmarkError(f"benchmark {name!r} is not one of {', '.join(KNOWN)}")
    return list(dict.fromkeys(names))


def read_rows(name: str, data: list[str]) -> tuple[list[dict], str]:
    """The rows of a benchmark in its published form, and their source; `data`, as `data_sources`, come before the commits here."""
    benchmark = KNOWN[name]
    repository = benchmark.source.partition("@")[0]
    source = hub.find_dataset(data, repository)
    if source is None and "@" not in benchmark.source:
        gate = " (gated: accept its terms on its page, then `hf auth login`)" if name == "gpqa_diamond" else ""
        give = f"give --data {repository}@<commit>, or --data ./FOLDER with FOLDER/{repository} in it"
        raise BenchmarkError(f"{name}: the commit of {repository}{gate} is not known here; {give}")
    source = source or hub.parse_source(benchmark.source)
    files = [file for file in hub.list_files(source) if fnmatch(file, benchmark.files) and Path(file).suffix in READERS]
    if not files:
        raise BenchmarkError(f"{name}: {source} has no {benchmark.files} of the kinds {', '.join(READERS)}")
    folder = hub.fetch_files(source, files)
    rows = [row for file in files for row in READERS[Path(file).suffix](folder / file)]
    if name == "hle":
        rows = [row | {"image": ""} for row in rows if not row.get("image")]
    if benchmark.task == "live_code_bench":  # so that evalscope has no pickle to read
        rows = [row | {"private_test_cases": live_code_bench.unpack_private_tests(row["private_test_cases"])} for row in rows]
    if not rows:
        raise BenchmarkError(f"{name}: {source} has no rows")
    return rows, str(source)


READERS = {
    ".parquet": lambda path: pq.read_table(path).to_pylist(),
    ".jsonl": lambda path: [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()],
    ".csv": lambda path: list(csv.DictReader(io.StringIO(path.read_bytes().decode()))),
}
