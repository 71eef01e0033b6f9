"""A study's SFT model, experts and RL-Multi as if they were downloads: in bfloat16, in pieces, with a tied head. Notebook 22's merges of
them beside those of MergeKit's own command line, tensor by tensor, and what rounding does to the cosines: dev/CHECKPOINTS.json.

    python dev/real_checkpoints.py [--params params/real.yaml] [--out runs/real-sharded]
    make released PARAMS=runs/real-sharded/real-sharded.yaml        # then: notebook 22 itself on them
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import yaml
from common import stamp
from merging import mergekits
from transformers import AutoModelForCausalLM

from m2rl_lib.config import locations, schedule, study
from m2rl_lib.merging import merge, task_vectors
from m2rl_lib.paper import released_checkpoints
from m2rl_lib.storage import artifacts

PIECE = "100MB"
METHODS = ["average", "task-arithmetic", "ties", "sce"]  # those that MergeKit has too, and that draw nothing at random


def save_in_pieces(models: dict[str, Path], folder: Path) -> dict[str, Path]:
    """The models, by name, as folders of bfloat16 files of at most PIECE."""
    for name, source in models.items():
        AutoModelForCausalLM.from_pretrained(source, dtype="bfloat16").save_pretrained(folder / name, max_shard_size=PIECE)
        for file in (*source.glob("tokenizer*"), *source.glob("*.jinja")):
            shutil.copyfile(file, folder / name / file.name)
    return {name: folder / name for name in models}


def difference(one: Path, other: Path) -> dict:
    """Tensors of two checkpoints, those that are equal in every bit, and the largest difference of a number."""
    left, right = (AutoModelForCausalLM.from_pretrained(folder, dtype="auto").state_dict() for folder in (one, other))
    if left.keys() != right.keys():
        sys.exit(f"{one} and {other} have different tensors")
    far = [float((left[name].float() - right[name].float()).abs().max()) for name in left]
    numbers = sum(tensor.numel() for tensor in left.values())
    unequal = sum(int((left[name] != right[name]).sum()) for name in left)
    return {"tensors": len(far), "equal": sum(not one for one in far), "unequal numbers": unequal / numbers, "largest": max(far)}


def mean_cosines(folders: dict[str, Path], experts: list[str]) -> dict[str, float]:
    """The mean cosine of two experts' task vectors, and of an expert's and RL-Null's."""
    table = task_vectors.norms_and_cosines({name: folders[name] for name in (*experts, "rl-null")}, folders["sft"])
    columns = table.set_index("model")[[f"cosine {name}" for name in experts]]
    two = columns.loc[experts].to_numpy()[~np.eye(len(experts), dtype=bool)]
    return {"two experts": float(two.mean()), "expert and RL-Null": float(columns.loc["rl-null"].mean())}


def main() -> None:
    """Print what both made."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--params", default="params/real.yaml")
    parser.add_argument("--out", type=Path, default=Path("runs/real-sharded"))
    given = parser.parse_args()
    p = study.load(given.params)
    shutil.rmtree(given.out, ignore_errors=True)
    released, experts = released_checkpoints.names(p), schedule.experts(p)
    stored = {name: artifacts.verify_model(locations.model_folder(p.study, p.seed, name)) for name in [*released, "rl-null"]}
    rounded = save_in_pieces(stored, given.out / "downloads")
    changed = {"study": given.out.name, "released_models": [f"./{rounded[name]}" for name in released]}
    changed |= {"merge_methods": METHODS, "merge_dtype": "bfloat16"}
    (given.out / f"{given.out.name}.yaml").write_text(yaml.safe_dump(yaml.safe_load(Path(given.params).read_text()) | changed))
    p = p.model_copy(update=changed)
    pieces = sum(len([*rounded[name].glob("*.safetensors")]) for name in released)
    released_checkpoints.adopt(p)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, time.monotonic()
    made = released_checkpoints.merge_all(p)
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{len(p.released_models)} checkpoints in {pieces} files; {len(made)} merges of ours in {seconds:.0f} s")
    print(f"largest memory {before:.2f} GB before, {after:.2f} GB after")
    rows = {}
    for method in METHODS:
        recipe = merge.recipe(released_checkpoints.world(p), f"merge-{method}")
        config, out = given.out / f"{method}.json", given.out / "mergekit" / method
        config.write_text(json.dumps(mergekits(recipe)))
        program = Path(sys.executable).with_name("mergekit-yaml")
        subprocess.run([program, config, out, "--quiet"], check=True, capture_output=True)
        rows[method] = difference(made[f"merge-{method}"], out)
    cosines = {"float32": mean_cosines(stored, experts), "bfloat16": mean_cosines(rounded, experts)}
    found = {"merges": rows, "cosines": cosines, "stamp": stamp()}
    print(json.dumps(found, indent=1))
    (Path(__file__).parent / "CHECKPOINTS.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
