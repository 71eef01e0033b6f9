"""Merging five experts of 0.22 B bfloat16 parameters: our notebook's merges in one process, beside mergekit's command line.

    python benchmarks/merging.py [--out benchmarks/MERGING.md] [--methods ties average ...] [--folder /tmp/merging]

Random weights in Qwen3's architecture, five experts whose every weight is moved a little. Ours includes the checks (SHA-256 of
every file, NaN) and the publishing; mergekit's is `mergekit-yaml` with the same configuration. Wall seconds and peak memory.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch

from m2rl_lib import artifacts, merging, schedule, study

DOMAINS = ["math", "coding", "science", "instruction_following", "agent"]
METHODS = ["average", "task-arithmetic", "task-arithmetic-dare", "ties", "ties-dare", "sce"]


def make_models(p: SimpleNamespace) -> float:
    """SFT and five experts, published as a study's would be; billions of parameters."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 768, "intermediate_size": 2304, "num_hidden_layers": 13, "num_attention_heads": 12}
    config = Qwen3Config(vocab_size=151_936, num_key_value_heads=4, head_dim=64, tie_word_embeddings=True, **shape)
    model = Qwen3ForCausalLM(config).to(torch.bfloat16)
    sft = study.model_folder(p.study, p.seed, "sft")
    start = {name: weight.clone() for name, weight in model.state_dict().items()}
    for name in ["sft", *(f"rl-{domain}" for domain in DOMAINS)]:
        folder = study.model_folder(p.study, p.seed, name)
        with torch.no_grad():
            for key, weight in model.named_parameters():
                weight.copy_(start[key] if name == "sft" else start[key] + 0.01 * torch.randn_like(weight))
        inputs = [] if name == "sft" else [sft]
        with artifacts.publish(folder, artifacts.record(SimpleNamespace(study=p.study, seed=p.seed), inputs)) as fresh:
            model.save_pretrained(fresh)
    return sum(weight.numel() for weight in model.parameters()) / 1e9


def ours(p: SimpleNamespace, names: list[str]) -> dict[str, float]:
    """Wall seconds of each merge, all in this process."""
    seconds = {}
    for name in names:
        begun = time.monotonic()
        merging.merge(p, merging.recipe(p, name), name)
        seconds[name] = time.monotonic() - begun
    return seconds


def command_line(p: SimpleNamespace, name: str, folder: Path) -> tuple[float, float]:
    """Wall seconds and peak GB of `mergekit-yaml` on the same configuration."""
    config = folder / "config.yaml"
    config.write_text(json.dumps(merging.configuration(merging.recipe(p, name), p.merge_dtype, p.seed)))
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    begun = time.monotonic()
    command = [
        str(Path(sys.executable).parent / "mergekit-yaml"),
        str(config),
        str(out),
        "--quiet",
        "--no-write-model-card",
        "--no-copy-tokenizer",
    ]
    child = subprocess.Popen(command, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise RuntimeError(f"mergekit-yaml ended with {status} for {name}")
    return time.monotonic() - begun, usage.ru_maxrss / 1e6


def in_one_process(folder: Path, names: list[str]) -> dict:
    """`ours` in a fresh process of its own: seconds of each merge, of the whole, and the peak memory in GB."""
    begun = time.monotonic()
    child = [sys.executable, __file__, "--folder", str(folder), "--merges", *names]
    made = json.loads(subprocess.run(child, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    return made | {"whole": time.monotonic() - begun}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("--folder", type=Path, default=Path("/tmp/m2rl-merging"))
    arguments.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    arguments.add_argument("--merges", nargs="+", help=argparse.SUPPRESS)  # this file as its own child
    given = arguments.parse_args()
    study.RUNS = given.folder
    p = SimpleNamespace(**study.load(study.ROOT / "params" / "study.yaml").model_dump() | {"merge_dtype": "bfloat16"})
    if given.merges:
        seconds = ours(p, given.merges)
        print(json.dumps({"seconds": seconds, "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}))
        return
    shutil.rmtree(given.folder, ignore_errors=True)
    size = make_models(p)
    defaults = [f"merge-{method}" for method in given.methods]
    papers = [f"merge-{method}@definition=paper" for method in given.methods if method in schedule.TWO_DEFINITIONS]
    together, theirs = in_one_process(given.folder, defaults), {name: command_line(p, name, given.folder) for name in defaults}
    alone, paper = in_one_process(given.folder, ["merge-ties"]), in_one_process(given.folder, papers)
    shutil.rmtree(given.folder)
    lines = [
        f"Five experts of {size:.2f} B bfloat16 parameters on {artifacts.device()}, torch threads {torch.get_num_threads()}, mergekit "
        f"{artifacts.versions()['mergekit']}, commit {artifacts.commit()}. One run. Written by `python benchmarks/merging.py`.",
        "",
        "| merge | ours, s | mergekit's command line, s | its peak, GB |",
        "|---|---|---|---|",
        *(f"| {n} | {together['seconds'][n]:.0f} | {theirs[n][0]:.0f} | {theirs[n][1]:.1f} |" for n in defaults),
        f"| all, one process, start to end | {together['whole']:.0f} | {sum(s for s, _ in theirs.values()):.0f} | |",
        *(f"| {n} | {paper['seconds'][n]:.0f} | | |" for n in papers),
        "",
        f"Peak memory of ours: {together['gb']:.1f} GB all in one process, {alone['gb']:.1f} GB TIES alone ({alone['whole']:.0f} s "
        f"start to end), {paper['gb']:.1f} GB the paper's definitions.",
    ]
    print("\n".join(lines))
    if given.out:
        given.out.write_text("# Merging\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
