"""The micro study with a larger model on one GPU: does every stage run there, how fast, and beside what. `make gpu`

    python dev/gpu_check.py [--out dev/GPU.md] [--tiny] [--budget 400] [--seeds 0 1 2]

SFT, two experts, the mixed run, two merges, evaluation and RQ1's comparison run in this process, without papermill or Snakemake: a
machine with a GPU and no network may lack them. Then an RLVR step of ours beside a bare TRL trainer's, in float32 and with bfloat16
autocast, with prompts read once for all their completions, and on this machine's CPU. What does not fit the budget of seconds is left
out and listed. The page has a picture of the steps beside it. `--tiny` rehearses all of it in a minute on a CPU. Programs are not run (domains math and science), so there is no sandbox.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pandas as pd
import torch
from common import stamp
from rlvr_step import train as time_step

from m2rl_lib.config import locations, study
from m2rl_lib.evaluation import avg_at_k
from m2rl_lib.merging import merge
from m2rl_lib.stats import averages, comparisons
from m2rl_lib.storage import artifacts, result_tables
from m2rl_lib.training import grpo, sft

DOMAINS = ["math", "science"]
MERGES = ["merge-average", "merge-ties"]
PARTS = ["generation", "log-probs", "backward", "optimizer"]  # of a step's seconds
SIZES = {
    "domains": DOMAINS, "sandbox_kind": "none", "merge_methods": ["average", "ties"],
    "micro_hidden_size": 512, "micro_layers": 10, "micro_heads": 8, "train_device_batch": 256,
    "sft_steps": 500, "sft_batch": 128, "sft_learning_rate": 1e-3,
    "rlvr_steps": 16, "rlvr_mixed_steps": 32, "rlvr_prompts_per_step": 32, "rlvr_completions": 8, "rlvr_learning_rate": 1e-4,
    "rlvr_selection_problems": 16, "evaluate_problems": 50, "evaluate_batch": 1024, "evaluate_sharpened_temperatures": [0, 1.0],
}  # fmt: skip
TINY = {
    "micro_hidden_size": 64, "micro_layers": 2, "micro_heads": 2, "train_device_batch": 16, "sft_steps": 8, "sft_batch": 16,
    "sft_demonstrations": 60, "sft_general": 30, "sft_judge": 5, "rlvr_steps": 4, "rlvr_mixed_steps": 8, "rlvr_prompts_per_step": 4,
    "rlvr_completions": 4, "rlvr_max_tokens": 16, "evaluate_max_tokens": 16, "rlvr_selection_problems": 2, "evaluate_problems": 4,
    "evaluate_selection_problems": 4, "analysis_draws": 200,
}  # fmt: skip

CPU_SECONDS = 90  # that the step on the CPU may take, with its start


class Budget:
    """Seconds that are left; what would start after them is left out."""

    def __init__(self, seconds: float):
        self.end, self.left_out = time.monotonic() + seconds, []

    def allows(self, name: str) -> bool:
        if time.monotonic() > self.end:
            self.left_out.append(name)
        return time.monotonic() <= self.end


def stages(p: study.Parameters) -> pd.DataFrame:
    """Every stage in turn: stage, seconds, and the GPU memory it had at most, in gigabytes."""
    rows = []

    def timed(name: str, work) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        started = time.monotonic()
        work()
        memory = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else float("nan")
        rows.append({"stage": name, "seconds": time.monotonic() - started, "GPU memory, GB": memory})
        print(f"{name}: {rows[-1]['seconds']:.0f} s", flush=True)

    timed("sft", lambda: sft.run(p))
    for domain in DOMAINS:
        run = p.model_copy(update={"domain": domain, "repeat": 0, "permute_rewards": False})
        timed(f"rl-{domain}", lambda run=run: grpo.run_expert(run))
    timed("rl-multi", lambda: grpo.run_mixed(p))
    for name in MERGES:
        timed(name, lambda name=name: merge.merge(p, merge.recipe(p, name), name))
    for group, models in (("sft", ["sft"]), ("all", [*(f"rl-{domain}" for domain in DOMAINS), "rl-multi", *MERGES])):
        asked = p.model_copy(update={"models": models, "group": group, "purpose": "scores"})
        timed(f"evaluate {group}", lambda asked=asked: avg_at_k.run(asked))
    return pd.DataFrame(rows)


def answer(p: study.Parameters, seeds: list[int]) -> tuple[pd.DataFrame, str]:
    """Avg@K of every model, mean over the two domains, and RQ1's sentence."""
    scores = result_tables.read_table(p, "scores", ["sft", "all"], seeds)
    test, selection = (scores[scores["split"] == split] for split in ("test", "selection"))
    best = averages.choose_on_selection(selection, MERGES)
    table = averages.average_table(test, draws=p.analysis_draws).query("domain == 'overall'")
    row = comparisons.compare(test, "rl-multi", best, margin=p.analysis_margin, draws=p.analysis_draws)
    return table[["model", "score", "low", "high"]], comparisons.verdict_sentence(row)


def step_rows(p: study.Parameters, budget: Budget, steps: int) -> pd.DataFrame:
    """Seconds of an RLVR step on math, of each kind that is asked for here."""
    folder, rows = locations.model_folder(p.study, p.seed, "sft"), []
    kinds = [("ours", "float32", False), ("bare TRL", "float32", False), ("ours", "bfloat16 autocast", False),
             ("bare TRL", "bfloat16 autocast", False), ("ours", "bfloat16 autocast, prompts shared", True)]  # fmt: skip
    for kind, numbers, shared in kinds:
        if not budget.allows(f"step: {kind}, {numbers}"):
            continue
        try:
            with settings(bf16=numbers.startswith("bfloat16"), shared=shared):
                found = time_step(kind, p, folder, "math", steps)
        except Exception as error:  # one kind that this machine cannot run does not take the others along
            failed = f"{type(error).__name__}: {error}"[:200]
            rows.append({"trainer": kind, "numbers": numbers, "seconds": float("nan"), "failed": failed})
            continue
        parts = {name: found["parts"].get(name) for name in PARTS}
        rows.append({"trainer": kind, "numbers": numbers, "seconds": found["seconds"], **parts,
                     "generated tokens/s": found["generated_tokens"] / found["seconds"]})  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
    return pd.DataFrame(rows)


@contextlib.contextmanager
def settings(bf16: bool, shared: bool):
    """RLVR in bfloat16 autocast or in float32, or with prompts shared where there is a GPU, while the block runs."""
    make, shares = grpo.grpo_config, grpo.DomainTrainer.shares_prompts

    def config(*given):
        args = make(*given)
        args.bf16, args.mixed_precision = bf16, "bf16" if bf16 else "no"
        return args

    always = property(lambda trainer: True) if shared else shares
    with mock.patch.object(grpo, "grpo_config", config), mock.patch.object(grpo.DomainTrainer, "shares_prompts", always):
        yield


def draw(steps: pd.DataFrame, path: Path) -> None:
    """Seconds of a step by part, one bar a trainer; what ran on the CPU is said in words, it would dwarf the rest."""
    here = steps[~steps["numbers"].str.contains("CPU") & steps["seconds"].notna()]
    parts = here.set_index(here["trainer"] + "\n" + here["numbers"])[PARTS].astype(float)
    parts["other"] = (here["seconds"].to_numpy() - parts.sum(axis=1)).clip(lower=0)
    axes = parts.iloc[::-1].plot.barh(stacked=True, figsize=(7, 0.6 * len(parts) + 1.2), width=0.7)
    axes.set(xlabel="seconds of an RLVR step (median)", ylabel="")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(ncol=5, loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=8)
    axes.figure.savefig(path, dpi=150, bbox_inches="tight")


def on_cpu(arguments: list[str]) -> dict:
    """A step of ours on this machine's CPU, all cores, in a process that is shown no GPU."""
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, __file__, "--cpu-step", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=hidden, timeout=CPU_SECONDS)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {CPU_SECONDS} s"}
    return json.loads(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else {"failed": done.stderr.strip()[-200:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--budget", type=float, default=400, help="seconds")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0], help="beside the first, each at the same time in a process of its own"
    )
    parser.add_argument("--scores-only", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--cpu-step", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    p = study.Parameters.model_construct(**study.load(locations.ROOT / "params" / "study.yaml").model_dump())
    p = p.model_copy(update=SIZES | (TINY if given.tiny else {}) | {"study": "gpu-tiny" if given.tiny else "gpu"})
    if given.cpu_step:
        p = p.model_copy(update={"rlvr_threads": os.cpu_count()})
        found = time_step("ours", p, locations.model_folder(p.study, 0, "sft"), "math", 1)
        speed = found["generated_tokens"] / found["seconds"]
        print(json.dumps({"seconds": found["seconds"], "generated tokens/s": speed, **found["parts"]}))
        return
    if not given.tiny and not torch.cuda.is_available():
        sys.exit("gpu_check: no CUDA GPU here; --tiny rehearses it on the CPU")
    p, budget = p.model_copy(update={"seed": given.seeds[0]}), Budget(given.budget)
    alone = [sys.executable, __file__, "--scores-only", *["--tiny"] * given.tiny, "--seeds"]
    others = [subprocess.Popen([*alone, str(seed)]) for seed in given.seeds[1:]]
    spent = stages(p)
    if given.scores_only:
        return
    if failed := [seed for seed, other in zip(given.seeds[1:], others) if other.wait()]:
        sys.exit(f"gpu_check: seeds {failed} did not reach their end; their last lines are above")
    scores, sentence = answer(p, given.seeds)
    steps = step_rows(p, budget, 2 if given.tiny else 4)
    if budget.allows("step on the CPU"):
        cpu = {"trainer": "ours", "numbers": "float32, CPU", **on_cpu(["--tiny"] if given.tiny else [])}
        steps = pd.concat([steps, pd.DataFrame([cpu])])
    costs = result_tables.read_table(p, "costs")
    costs["trained tokens/s"] = costs["trained_tokens"] / costs["device_seconds"]
    costs["generated tokens/s"] = costs["generated_tokens"] / costs["device_seconds"]
    weights = sum(path.stat().st_size for path in locations.model_folder(p.study, p.seed, "sft").glob("*.safetensors")) / 4e6
    lines = [
        "# On one GPU", "",
        f"`make gpu` on {artifacts.device()}, a model of {weights:.1f} M parameters, domains {' and '.join(DOMAINS)}; torch "
        f"{torch.__version__}, {stamp()['date']}, commit {artifacts.commit()}. Programs did not run.", "",
        sentence, "", scores.round(1).to_markdown(index=False), "", spent.round(1).to_markdown(index=False), "",
        costs[["model", "stage", "device_seconds", "trained tokens/s", "generated tokens/s"]].round(0).to_markdown(index=False), "",
        f"An RLVR step on math of {p.rlvr_prompts_per_step} prompts × {p.rlvr_completions} completions, median seconds:", "", steps.round(3).to_markdown(index=False), "",
        f"Left out for want of time: {', '.join(budget.left_out) or 'nothing'}.", "",
    ]  # fmt: skip
    print("\n".join(lines))
    if given.out:
        given.out.write_text("\n".join([*lines, f"![seconds of a step by part]({given.out.stem}.png)", ""]))
        if len(steps):
            draw(steps, given.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
