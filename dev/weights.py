"""The weight analysis at three sizes up to six bfloat16 checkpoints of 0.2 B parameters, beside a plain read of the files and
beside the script one would write first: every state dict loaded whole, every mask of all weights at once.

    python dev/weights.py [--out dev/WEIGHTS.md]

Prints JSON, which `dev/run.py` collects; `--out` writes a page. Writes the checkpoints (2.5 GB) into a temporary folder
and deletes them. Each repeat reads the files plainly from end to end and then measures masks, all pair overlaps, exact and
projected cosines in a process of its own, whose peak resident memory is the kernel's (`ru_maxrss`; files are read, not mapped).
The script runs once, at the smallest size, to keep all of it short, and answers less: the same masks, overlaps and cosines of whole models, without parts of them,
null overlaps or projections. How far they differ is reported. Medians are over repeats, the load stands beside them.
"""

import argparse
import json
import math
import multiprocessing
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections import ChainMap
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations
from pathlib import Path

from common import table

SIZE = 1024
MODELS_OF = {"0.05 B": (26_624, 2), "0.10 B": (40_960, 5), "0.21 B": (65_536, 11)}  # vocabulary and layers
TINY = {"0.0003 B": (256, 0), "0.0005 B": (512, 0)}  # to see that all of it runs
MODELS = ["sft", "rl-math", "rl-coding", "rl-science", "rl-agent", "rl-multi"]
SHARDS = 2


def shapes(vocabulary: int, layers: int) -> dict[str, tuple[int, ...]]:
    """The tensors of a Qwen3-like model with tied embeddings."""
    found = {"model.embed_tokens.weight": (vocabulary, SIZE), "model.norm.weight": (SIZE,)}
    for layer in range(layers):
        attention, mlp = f"model.layers.{layer}.self_attn.", f"model.layers.{layer}.mlp."
        found |= {f"{attention}{name}_proj.weight": (SIZE, SIZE) for name in "qo"}
        found |= {f"{attention}{name}_proj.weight": (SIZE // 2, SIZE) for name in "kv"}
        found |= {f"{mlp}{name}_proj.weight": (3 * SIZE, SIZE) for name in ("gate", "up")}
        found |= {f"{mlp}down_proj.weight": (SIZE, 3 * SIZE), f"model.layers.{layer}.input_layernorm.weight": (SIZE,)}
    return found


def write_checkpoints(folder: Path, shape: tuple[int, int]) -> None:
    """Random checkpoints, the five others being SFT with a random task vector."""
    import torch
    from safetensors.torch import save_file

    tensors = list(shapes(*shape).items())
    for place, model in enumerate(MODELS):
        (folder / model).mkdir()
        placed = {}
        for shard in range(SHARDS):
            values = {}
            for t, (name, shape) in list(enumerate(tensors))[shard::SHARDS]:
                weights = 0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(t))
                if place:
                    weights += 3e-4 * torch.randn(shape, generator=torch.Generator().manual_seed(1000 * place + t))
                values[name] = weights.bfloat16()
            file = f"model-{shard + 1:05d}-of-{SHARDS:05d}.safetensors"
            save_file(values, folder / model / file)
            placed |= dict.fromkeys(values, file)
        (folder / model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))


def read_plainly(folder: Path) -> dict:
    """Seconds to read every file once, from end to end, into one buffer."""
    buffer, size, started = bytearray(2**22), 0, time.perf_counter()
    for file in sorted(folder.glob("*/*.safetensors")):
        with file.open("rb", buffering=0) as opened:
            while read := opened.readinto(buffer):
                size += read
    return {"seconds": time.perf_counter() - started, "bytes": size}


def analyse(folder: Path, threads: int) -> dict:
    """The whole analysis, in a fresh process: seconds (with and without imports), CPU seconds, peak memory."""
    begun = time.perf_counter()
    from m2rl_lib.analysis.rq3_weights import footprints, mask_overlap

    started, spent = time.perf_counter(), time.process_time()
    found = footprints.measure_footprints({name: folder / name for name in MODELS[1:]}, folder / "sft", threads=threads)
    tables = {name: make(found) for name, make in mask_overlap.TABLES.items()}
    used, whole = {"imports": started - begun, **spent_since(started, spent)}, {}
    for name, column in (("weights_masks", "changed"), ("weights_pairs", "jaccard"), ("weights_cosines", "cosine")):
        rows = tables[name].query("type == 'all' and layer.isna()")
        keys = [key for key in ("model", "other", "kind", "level") if key in rows]
        whole |= {" ".join(map(str, row[:-1])): float(row[-1]) for row in rows[[*keys, column]].itertuples(index=False)}
    dense = tables["weights_masks"].query("type == 'all' and layer.isna() and kind == 'density'")
    error = float((dense["changed"] - dense["level"]).abs().max())
    return used | {"rows": {name: len(table) for name, table in tables.items()}, "density_error": error, "whole": whole}


def spent_since(started: float, spent: float) -> dict:
    """Seconds and CPU seconds since these two, and this process's peak memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - spent, "peak_bytes": peak}


def straightforward(folder: Path, threads: int) -> dict:
    """The script one would write first, in a fresh process: whole state dicts, whole vectors, a mask of all weights after the other."""
    import torch
    from safetensors.torch import load_file

    from m2rl_lib.analysis.rq3_weights.footprints import DENSITIES, ETAS

    def weights(model: str) -> torch.Tensor:
        state = dict(ChainMap(*map(load_file, (folder / model).glob("*.safetensors"))))
        return torch.cat([state[name].float().flatten() for name in sorted(state)])

    torch.set_num_threads(threads)
    started, spent = time.perf_counter(), time.process_time()
    sft, names, whole = weights("sft"), MODELS[1:], {}
    models = {name: weights(name) for name in names}
    vectors = {name: model - sft for name, model in models.items()}
    for kind, levels in (("relative", ETAS), ("density", DENSITIES)):
        for level in levels:
            masks = {}
            for name, vector in vectors.items():
                if kind == "relative":
                    masks[name] = vector.abs() > level * torch.maximum(sft.abs(), models[name].abs())
                else:
                    kept = round(level * len(vector))
                    masks[name] = vector.abs() > vector.abs().kthvalue(len(vector) - kept).values
                whole[f"{name} {kind} {level}"] = float(masks[name].sum() / len(vector))
            for one, two in combinations(names, 2):
                both, either = (masks[one] & masks[two]).sum(), (masks[one] | masks[two]).sum()
                whole[f"{one} {two} {kind} {level}"] = float(both / either)
    for one, two in combinations(names, 2):
        whole[f"{one} {two}"] = float(torch.cosine_similarity(vectors[one], vectors[two], dim=0))
    return spent_since(started, spent) | {"whole": whole}


def in_process(work, *arguments):
    """What `work` returns in a fresh process, whose peak memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def measure(shape: tuple[int, int], arguments: argparse.Namespace, with_script: bool) -> dict:
    """All repeats of one size; the checkpoints are deleted whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix="m2rl-weights-", dir=arguments.folder))
    try:
        in_process(write_checkpoints, folder, shape)
        repeats: list[dict] = []
        for _ in range(arguments.repeats):
            read, load = read_plainly(folder), os.getloadavg()[0]
            repeats.append({"load": load, "read": read, "analysis": in_process(analyse, folder, arguments.threads)})
        script = in_process(straightforward, folder, arguments.threads) if with_script else None
    finally:
        shutil.rmtree(folder)
    answers = [repeat["analysis"].pop("whole") for repeat in repeats]
    if script:
        script["largest difference"] = max(abs(answers[0][key] - value) for key, value in script.pop("whole").items())
    parameters = sum(math.prod(shape) for shape in shapes(*shape).values())
    return {"parameters": parameters, "repeats": repeats, "script": script}


def run(arguments: argparse.Namespace) -> dict:
    """Every size, smallest first, and the table of them."""
    shapes_of = TINY if arguments.tiny else MODELS_OF
    sizes = {size: measure(shape, arguments, place == 0) for place, (size, shape) in enumerate(shapes_of.items())}
    return {"models": len(MODELS), "threads": arguments.threads, "sizes": sizes, "table": [row(*item) for item in sizes.items()]}


def row(size: str, measured: dict) -> dict:
    """Medians of one size: a row of the table."""
    repeats, script = measured["repeats"], measured["script"]
    analysis = {key: statistics.median(r["analysis"][key] for r in repeats) for key in ("seconds", "cpu_seconds", "peak_bytes")}
    read = statistics.median(r["read"]["seconds"] for r in repeats)
    file_bytes = repeats[0]["read"]["bytes"]
    beside = dict.fromkeys(
        ("script, s", "script's CPU s", "script's peak, GB", "script over ours", "largest difference"), "not run"
    )
    if script:
        ratio, peak = script["seconds"] / analysis["seconds"], script["peak_bytes"] / 1e9
        beside = dict(zip(beside, (script["seconds"], script["cpu_seconds"], peak, ratio, script["largest difference"])))
    return {
        "checkpoints of": size,
        "GB": file_bytes / 1e9,
        "ours, s": analysis["seconds"],
        "CPU s": analysis["cpu_seconds"],
        "GB a second": file_bytes / analysis["seconds"] / 1e9,
        "peak, GB": analysis["peak_bytes"] / 1e9,
        "plain read, GB a second": file_bytes / read / 1e9,
    } | beside


def report(result: dict) -> str:
    """The result as a page: medians over repeats at every size, and more of the largest, with the least and the most."""
    largest = list(result["sizes"].values())[-1]
    repeats = largest["repeats"]
    size = repeats[0]["read"]["bytes"]
    rows = {
        "analysis, seconds (target: 20)": [r["analysis"]["seconds"] for r in repeats],
        "analysis, CPU seconds": [r["analysis"]["cpu_seconds"] for r in repeats],
        "imports before it, seconds": [r["analysis"]["imports"] for r in repeats],
        "peak resident memory, GB (target: 1)": [r["analysis"]["peak_bytes"] / 1e9 for r in repeats],
        "analysis, GB a second": [size / r["analysis"]["seconds"] / 1e9 for r in repeats],
        "plain read of the same files, GB a second": [size / r["read"]["seconds"] / 1e9 for r in repeats],
        "analysis over plain read, times": [r["analysis"]["seconds"] / r["read"]["seconds"] for r in repeats],
        "equal density: largest error of a share (bfloat16 vectors have few sizes)": [
            r["analysis"]["density_error"] for r in repeats
        ],
        "load average before it": [r["load"] for r in repeats],
    }
    lines = [f"| {name} | {statistics.median(v):.4g} | {min(v):.4g} | {max(v):.4g} |" for name, v in rows.items()]
    return "\n".join(
        [
            "# The weight analysis at scale",
            "",
            "Written by `python dev/weights.py --out dev/WEIGHTS.md`.",
            f"{result['models']} random bfloat16 checkpoints, at most of {largest['parameters'] / 1e9:.2f} B parameters, {size / 1e9:.2f} GB, files in",
            "the page cache; masks at five η and three densities, all pair overlaps with their null, exact and projected cosines, by",
            f"tensor, in one pass with {result['threads']} threads on {os.cpu_count()} cores shared with other work; {len(repeats)} repeats.",
            "Peak memory is the kernel's `ru_maxrss` of a fresh process, libraries included; files are read, not mapped. The script",
            "loads whole state dicts and answers of whole models only; run once, at the smallest size, with as many threads. Where its answers differ from",
            "ours, the largest difference of a share, overlap or cosine stands in the last column.",
            "",
            *table(result["table"]),
            f"The largest, {len(repeats)} repeats:",
            "",
            "| | median | least | most |",
            "|---|---|---|---|",
            *lines,
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the page here")
    parser.add_argument("--folder", help="where the temporary checkpoints are written")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="models too small to be timed, to see that all of it runs")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    for library in ("OMP", "OPENBLAS", "MKL"):  # the pass has its own threads
        os.environ[f"{library}_NUM_THREADS"] = "1"
    result = run(arguments)
    print(json.dumps(result, indent=1))
    if arguments.out:
        arguments.out.write_text(report(result))


if __name__ == "__main__":
    main()
