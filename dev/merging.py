"""Merging five bfloat16 experts: our notebook's merges in one process, beside mergekit's command line.

    python dev/merging.py [--out dev/MERGING.md] [--peer mergelm=PATH] [--repeats 3] [--folder /tmp/merging]

Prints JSON, which `dev/run.py` collects; `--out` writes a page.

Random weights in Qwen3's architecture, five experts whose every weight is moved a little. Ours includes the checks (SHA-256 of
every file, NaN) and the publishing; mergekit's is `mergekit-yaml` with its own method of the same settings. Every run is a
process of its own: wall and CPU seconds from start to end, imports included, and peak memory, of
which what is not pages of mapped files (sampled every 20 ms) is a column of its own: those the kernel can drop.
Only the smallest size is run several times, in turns, to keep all of it short; a peer (`peers.py`) is timed at that size.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import peers
import torch
from common import table

from m2rl_lib.config import locations, study
from m2rl_lib.merging import merge
from m2rl_lib.storage import artifacts

DOMAINS = ["math", "coding", "science", "instruction_following", "agent"]
METHODS = ["average", "task-arithmetic", "task-arithmetic-dare", "ties", "ties-dare", "sce"]
WIDTH = 768
BIG, SMALL = 151_936, 32_768  # words: Qwen3's, whose embedding is half of the model, and a vocabulary of common size
MODELS = {"0.22 B, one tensor half of it": (BIG, 15), "0.10 B": (SMALL, 11), "0.05 B": (SMALL, 4)}
GROWTH = ["ties", "average"]  # measured at every size: the dearest for mergekit, and the cheapest
TINY = {"0.003 B": (2048, 1), "0.002 B": (1024, 1)}  # to see that all of it runs
COLUMNS = {"wall": "s", "cpu": "CPU s", "gb": "GB", "anonymous": "anonymous GB"}
LIBRARYS = {"task-arithmetic": "task_arithmetic", "task-arithmetic-dare": "dare_linear", "ties": "ties", "ties-dare": "dare_ties"}


def make_models(p: SimpleNamespace, vocabulary: int, layers: int) -> None:
    """SFT and five experts, random, published as a study's would be."""
    from safetensors.torch import save_file
    from transformers import Qwen3Config, Qwen3ForCausalLM

    shape = {"hidden_size": WIDTH, "intermediate_size": 3 * WIDTH, "num_hidden_layers": layers, "vocab_size": vocabulary}
    shape |= {"num_attention_heads": WIDTH // 64, "num_key_value_heads": 4, "head_dim": 64}
    config = Qwen3Config(tie_word_embeddings=True, **shape)
    config.architectures = ["Qwen3ForCausalLM"]
    with torch.device("meta"):
        shapes = {name: weight.shape for name, weight in Qwen3ForCausalLM(config).named_parameters()}
    generator = torch.Generator().manual_seed(0)
    start = {name: torch.randn(shape, generator=generator).mul_(0.02).bfloat16() for name, shape in shapes.items()}
    noise = torch.randn(max(weight.numel() for weight in start.values()), generator=generator).mul_(0.01)
    sft = locations.model_folder(p.study, p.seed, "sft")
    for expert, name in enumerate(["sft", *(f"rl-{domain}" for domain in DOMAINS)]):
        weights = start
        if expert:  # each expert reads the noise from another place
            moved = noise.roll(expert * 1_000_003)
            weights = {key: (moved[: w.numel()].view_as(w) + w).bfloat16() for key, w in start.items()}
        made_by = artifacts.record(SimpleNamespace(study=p.study, seed=p.seed), [sft] if expert else [])
        with artifacts.publish(locations.model_folder(p.study, p.seed, name), made_by) as fresh:
            save_file(weights, fresh / "model.safetensors", {"format": "pt"})
            config.save_pretrained(fresh)


def mergekits(recipe: merge.Recipe) -> dict:
    """The configuration of mergekit's own method with a recipe's settings."""
    given: dict = {"weight": 1.0}
    shared: dict = {"lambda": recipe.scale, "normalize": recipe.method.startswith("ties")}
    if recipe.method == "average":
        kind, shared = "linear", {}
    elif recipe.method == "sce":
        kind, shared, given = "sce", {"select_topk": recipe.density}, {}
    else:
        kind = LIBRARYS[recipe.method]
        given |= {} if recipe.method == "task-arithmetic" else {"density": recipe.density}
    models = [{"model": {"model": {"path": str(expert)}}, "parameters": given} for expert in recipe.experts]
    config = {"merge_method": kind, "models": models, "parameters": shared, "dtype": "float32", "out_dtype": "bfloat16"}
    return config if kind == "linear" else config | {"base_model": {"model": {"path": str(recipe.base)}}}


def watch(command: list[str]) -> dict:
    """A process from start to end: wall and CPU seconds, peak GB, peak GB of what is not pages of files; its last line."""
    begun, anonymous, whole = time.monotonic(), 0, 0
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    while not (ended := os.wait4(child.pid, os.WNOHANG))[0]:
        rows = dict(line.split(":", 1) for line in Path(f"/proc/{child.pid}/status").read_text().splitlines())
        if "VmHWM" in rows:
            whole = max(whole, int(rows["VmHWM"].split()[0]))
            anonymous = max(anonymous, int(rows["RssAnon"].split()[0]))
        time.sleep(0.02)
    child.returncode = os.waitstatus_to_exitcode(ended[1])
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}")
    printed = child.stdout.read().decode().splitlines()
    seconds = {"wall": time.monotonic() - begun, "cpu": ended[2].ru_utime + ended[2].ru_stime}
    return seconds | {"gb": whole * 1024 / 1e9, "anonymous": anonymous * 1024 / 1e9, "printed": printed[-1] if printed else ""}


def ours(folder: Path, names: list[str]) -> dict:
    """Our merges in one fresh process, watched; with the seconds of each."""
    used = watch([sys.executable, __file__, "--folder", str(folder), "--merges", *names])
    return used | {"each": json.loads(used.pop("printed"))}


def command_line(p: SimpleNamespace, folder: Path, name: str) -> dict:
    """`mergekit-yaml` on the same, watched."""
    config, out = folder / "config.yaml", folder / "out"
    config.write_text(json.dumps(mergekits(merge.recipe(p, name))))
    shutil.rmtree(out, ignore_errors=True)
    program = str(Path(sys.executable).with_name("mergekit-yaml"))
    return watch([program, str(config), str(out), "--quiet", "--no-write-model-card", "--no-copy-tokenizer"])


def pair(p: SimpleNamespace, folder: Path, name: str, repeats: int) -> dict:
    """One merge by both, in turn: medians."""
    runs = [(ours(folder, [name]), command_line(p, folder, name)) for _ in range(repeats)]
    made, theirs = ({key: statistics.median(run[side][key] for run in runs) for key in COLUMNS} for side in (0, 1))
    ratio = statistics.median(run[1]["wall"] / run[0]["wall"] for run in runs)
    return {"runs": repeats, "ours": made, "mergekit": theirs, "ratio": ratio}


def beside_peer(p: SimpleNamespace, folder: Path, peer: Path) -> dict[str, dict]:
    """Every merge that the peer has, by ours and by the peer, once each."""
    found = {}
    for name in peers.MERGES:
        made = ours(folder, [name])
        published = locations.model_folder(p.study, p.seed, name)
        theirs = watch(peers.command(peer, merge.recipe(p, name), name, published))
        found[name] = {"ours": made, "peer": theirs | json.loads(theirs.pop("printed"))}
    return found


def measure(p: SimpleNamespace, folder: Path, repeats: int, models: dict[str, tuple[int, int]], peer: Path | None) -> dict:
    """All of it; the models of one size are on disk at a time. All six methods at the first size, two of them at the others."""
    load, methods, growth, beside = os.getloadavg()[0], {}, {}, {}
    for place, (size, shape) in enumerate(models.items()):
        last, counts = place == len(models) - 1, {f"{size}, 5 experts": ""}
        watch([sys.executable, __file__, "--folder", str(folder), "--make", *map(str, shape)])
        if place == 0:
            names = [f"merge-{method}" for method in METHODS]
            methods = {"command": {name: command_line(p, folder, name) for name in names}, "together": ours(folder, names)}
        if place == 1:
            counts[f"{size}, 2 experts"] = f"@experts={'+'.join(DOMAINS[:2])}"
        for method, (label, variant) in product(GROWTH, counts.items()):
            name = f"merge-{method}{variant}"
            if place == 0:  # mergekit's was measured just now
                made, known = ours(folder, [name]), methods["command"][name]
                growth[f"{method}: {label}"] = {"runs": 1, "ours": made, "mergekit": known, "ratio": known["wall"] / made["wall"]}
            else:
                growth[f"{method}: {label}"] = pair(p, folder, name, repeats if last else 1)
        if last and peer:
            beside = beside_peer(p, folder, peer)
        shutil.rmtree(folder)
    result = {"load": [load, os.getloadavg()[0]], "methods": methods, "growth": growth, "size": size, "beside peer": beside}
    return result | {"tables": tables(result)}


def tables(result: dict) -> dict[str, list[dict]]:
    """The tables of the page: both on the same merges, and all six methods."""

    def used(run: dict, side: str = "") -> dict:
        return {side + column: run[key] for key, column in COLUMNS.items()}

    growth = []
    for label, both in result["growth"].items():
        sides = used(both["ours"], "ours, ") | used(both["mergekit"], "mergekit, ")
        growth.append({"merge": label, "runs": both["runs"], **sides, "wall, mergekit over ours": both["ratio"]})
    command, together = result["methods"]["command"], result["methods"]["together"]
    methods = [{"merge": name, "ours, s": together["each"][name], **used(run, "mergekit, ")} for name, run in command.items()]
    six = {key: (sum if key in ("wall", "cpu") else max)(run[key] for run in command.values()) for key in COLUMNS}
    totals = {"ours, one process": together, "mergekit, six processes": six}
    whole = [{"in all, start to end": label, **used(run)} for label, run in totals.items()]
    return {"growth": growth, "methods": methods, "whole": whole, "peer": peers.rows(result["beside peer"], used)}


def report(result: dict) -> str:
    """The result as a page."""
    before, after = result["load"]
    return "\n".join(
        [
            "# Merging",
            "",
            f"Written by `python dev/merging.py`. Random bfloat16 models on {artifacts.device()}, torch "
            f"threads {torch.get_num_threads()}, mergekit {artifacts.versions()['mergekit']}, commit {artifacts.commit()}; load average "
            f"{before:.1f} before and {after:.1f} after: where other work shares the cores, compare the CPU seconds.",
            "Memory is the peak of the resident set; anonymous memory is that without the pages of mapped files. Imports and start",
            "are included.",
            "",
            "## Two methods: ours beside mergekit's command line",
            "",
            "Where there were several runs, in turns, medians.",
            "",
            *table(result["tables"]["growth"]),
            "## Six methods",
            "",
            "One process of ours (seconds of each merge within it) beside six command lines, at the first size; one run.",
            "",
            *table(result["tables"]["methods"]),
            *table(result["tables"]["whole"]),
            *peers.page(result),
        ]
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("--folder", type=Path, default=Path("/tmp/m2rl-merging"))
    arguments.add_argument("--repeats", type=int, default=3, help="runs at the smallest size")
    arguments.add_argument("--peer", help="a peer's checkout to be timed beside ours: mergelm=PATH")
    arguments.add_argument("--tiny", action="store_true", help="models too small to be timed, to see that all of it runs")
    arguments.add_argument("--merges", nargs="+", help=argparse.SUPPRESS)  # this file as its own child
    arguments.add_argument("--make", nargs=2, type=int, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    locations.RUNS = given.folder
    p = SimpleNamespace(**study.load(locations.ROOT / "params" / "study.yaml").model_dump() | {"merge_dtype": "bfloat16"})
    if given.make:
        make_models(p, *given.make)
    elif given.merges:
        seconds = {}
        for name in given.merges:
            begun = time.monotonic()
            merge.merge(p, merge.recipe(p, name), name)
            seconds[name] = time.monotonic() - begun
        print(json.dumps(seconds))
    else:
        peer = peers.read_peer(given.peer) if given.peer else None
        result = measure(p, given.folder, given.repeats, TINY if given.tiny else MODELS, peer)
        print(json.dumps(result, indent=1))
        if given.out:
            given.out.write_text(report(result))


if __name__ == "__main__":
    main()
