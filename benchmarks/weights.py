"""The weight analysis at scale: six bfloat16 checkpoints of 0.2 B parameters, all measures in one pass, beside a plain read.

    python benchmarks/weights.py --out benchmarks/WEIGHTS.md

Writes the checkpoints (2.5 GB) into a temporary folder and deletes them. Each repeat reads the files plainly from end to end
and then measures masks, all pair overlaps, exact and projected cosines in a process of its own, whose peak resident memory is
the kernel's (`ru_maxrss`; files are read, not mapped). Medians are over repeats, the machine's load stands beside them.
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
from pathlib import Path

SIZE, LAYERS, VOCABULARY = 1024, 11, 65_536
MODELS = ["sft", "rl-math", "rl-coding", "rl-science", "rl-agent", "rl-multi"]
SHARDS = 2


def shapes() -> dict[str, tuple[int, ...]]:
    """The tensors of a Qwen3-like model with tied embeddings."""
    found = {"model.embed_tokens.weight": (VOCABULARY, SIZE), "model.norm.weight": (SIZE,)}
    for layer in range(LAYERS):
        attention, mlp = f"model.layers.{layer}.self_attn.", f"model.layers.{layer}.mlp."
        found |= {f"{attention}{name}_proj.weight": (SIZE, SIZE) for name in "qo"}
        found |= {f"{attention}{name}_proj.weight": (SIZE // 2, SIZE) for name in "kv"}
        found |= {f"{mlp}{name}_proj.weight": (3 * SIZE, SIZE) for name in ("gate", "up")}
        found |= {f"{mlp}down_proj.weight": (SIZE, 3 * SIZE), f"model.layers.{layer}.input_layernorm.weight": (SIZE,)}
    return found


def write_checkpoints(folder: Path) -> None:
    """Random checkpoints, the five others being SFT with a random shift."""
    import torch
    from safetensors.torch import save_file

    tensors = list(shapes().items())
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


def analyse(folder: Path, threads: int, results) -> None:
    """The whole analysis, in a fresh process: seconds (with and without imports), CPU seconds, peak memory."""
    begun = time.perf_counter()
    from m2rl_lib import overlaps, weights

    started, spent = time.perf_counter(), time.process_time()
    found = weights.measure_footprints({name: folder / name for name in MODELS[1:]}, folder / "sft", threads=threads)
    tables = {
        f.__name__: f(found) for f in (overlaps.shift_table, overlaps.mask_table, overlaps.pair_table, overlaps.cosine_table)
    }
    ended = time.perf_counter()
    masks = tables["mask_table"]
    whole = masks[(masks["type"] == "all") & masks["layer"].isna() & (masks["kind"] == "density")]
    results.put(
        {
            "seconds": ended - started,
            "imports": started - begun,
            "cpu_seconds": time.process_time() - spent,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "rows": {name: len(table) for name, table in tables.items()},
            "density_error": float((whole["changed"] - whole["level"]).abs().max()),
        }
    )


def run(arguments: argparse.Namespace) -> dict:
    """All repeats; the checkpoints are deleted whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix="m2rl-weights-", dir=arguments.folder))
    process = multiprocessing.get_context("spawn")
    try:
        writer = process.Process(target=write_checkpoints, args=(folder,))  # a child begins with its parent's peak memory
        writer.start()
        writer.join()
        repeats: list[dict] = []
        for _ in range(arguments.repeats):
            results = process.Queue()
            read, load = read_plainly(folder), os.getloadavg()[0]
            child = process.Process(target=analyse, args=(folder, arguments.threads, results))
            child.start()
            repeats.append({"load": load, "read": read, "analysis": results.get()})
            child.join()
    finally:
        shutil.rmtree(folder)
    parameters = sum(math.prod(shape) for shape in shapes().values())
    return {"parameters": parameters, "models": len(MODELS), "threads": arguments.threads, "repeats": repeats}


def report(result: dict) -> str:
    """The result as a page: medians over repeats, with the least and the most."""
    repeats = result["repeats"]
    size = repeats[0]["read"]["bytes"]
    rows = {
        "analysis, seconds (target: 20)": [r["analysis"]["seconds"] for r in repeats],
        "analysis, CPU seconds": [r["analysis"]["cpu_seconds"] for r in repeats],
        "imports before it, seconds": [r["analysis"]["imports"] for r in repeats],
        "peak resident memory, GB (target: 1)": [r["analysis"]["peak_bytes"] / 1e9 for r in repeats],
        "analysis, GB a second": [size / r["analysis"]["seconds"] / 1e9 for r in repeats],
        "plain read of the same files, GB a second": [size / r["read"]["seconds"] / 1e9 for r in repeats],
        "analysis over plain read, times": [r["analysis"]["seconds"] / r["read"]["seconds"] for r in repeats],
        "equal density: largest error of a share (bfloat16 shifts have few sizes)": [
            r["analysis"]["density_error"] for r in repeats
        ],
        "load average before it": [r["load"] for r in repeats],
    }
    lines = [f"| {name} | {statistics.median(v):.4g} | {min(v):.4g} | {max(v):.4g} |" for name, v in rows.items()]
    return "\n".join(
        [
            "# The weight analysis at scale",
            "",
            "Written by `python benchmarks/weights.py --out benchmarks/WEIGHTS.md`.",
            f"{result['models']} random bfloat16 checkpoints of {result['parameters'] / 1e9:.2f} B parameters, {size / 1e9:.2f} GB, files in",
            "the page cache; masks at five η and three densities, all pair overlaps with their null, exact and projected cosines, by",
            f"tensor, in one pass with {result['threads']} threads on {os.cpu_count()} cores shared with other work; {len(repeats)} repeats.",
            "Peak memory is the kernel's `ru_maxrss` of a fresh process, libraries included; files are read, not mapped.",
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
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    for library in ("OMP", "OPENBLAS", "MKL"):  # the pass has its own threads
        os.environ[f"{library}_NUM_THREADS"] = "1"
    result = run(arguments)
    print(json.dumps(result))
    print(report(result))
    if arguments.out:
        arguments.out.write_text(report(result))


if __name__ == "__main__":
    main()
