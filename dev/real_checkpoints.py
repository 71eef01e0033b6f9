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

import pandas as pd
import torch
import yaml
from common import stamp
from merging import mergekits
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from m2rl_lib.config import locations, study
from m2rl_lib.merging import merge
from m2rl_lib.paper import released_checkpoints
from m2rl_lib.storage import artifacts

PIECE = "100MB"
METHODS = ["average", "task-arithmetic", "ties", "sce"]  # those that MergeKit has too, and that draw nothing at random


def save_in_pieces(p, folder: Path) -> list[str]:
    """The study's checkpoints as folders of bfloat16 files of at most PIECE, in the order of `released_models`."""
    made = []
    for name in released_checkpoints.names(p):
        source = artifacts.verify_model(locations.model_folder(p.study, p.seed, name))
        AutoModelForCausalLM.from_pretrained(source, dtype="bfloat16").save_pretrained(folder / name, max_shard_size=PIECE)
        for file in (*source.glob("tokenizer*"), *source.glob("*.jinja")):
            shutil.copyfile(file, folder / name / file.name)
        made.append(f"./{folder / name}")
    return made


def difference(one: Path, other: Path) -> dict:
    """Tensors of two checkpoints, those that are equal in every bit, and the largest difference of a number."""
    left, right = (AutoModelForCausalLM.from_pretrained(folder, dtype="auto").state_dict() for folder in (one, other))
    if left.keys() != right.keys():
        sys.exit(f"{one} and {other} have different tensors")
    far = [float((left[name].float() - right[name].float()).abs().max()) for name in left]
    numbers = sum(tensor.numel() for tensor in left.values())
    unequal = sum(int((left[name] != right[name]).sum()) for name in left)
    return {"tensors": len(far), "equal": sum(not one for one in far), "unequal numbers": unequal / numbers, "largest": max(far)}


def cosines(p) -> pd.DataFrame:
    """Mean cosine of two experts' task vectors, and of an expert's and RL-Null's, of float32 weights and of the same in bfloat16."""
    names = ["rl-null", *(f"rl-{domain}" for domain in p.domains)]
    files = {
        name: safe_open(locations.model_folder(p.study, p.seed, name) / "model.safetensors", "pt") for name in ["sft", *names]
    }
    rows = {}
    for dtype in (torch.float32, torch.bfloat16):
        products = torch.zeros(len(names), len(names), dtype=torch.double)
        for key in files["sft"].keys():
            base, *rest = (file.get_tensor(key).to(dtype).float().flatten() for file in files.values())
            vectors = torch.stack(rest) - base
            products += (vectors @ vectors.T).double()
        norms = products.diag().sqrt()
        between = products / norms[:, None] / norms
        experts = between[1:, 1:][~torch.eye(len(p.domains), dtype=torch.bool)]
        rows[str(dtype)] = {"two experts": experts.mean().item(), "expert and RL-Null": between[0, 1:].mean().item()}
    return pd.DataFrame(rows).T


def main() -> None:
    """Print what both made."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--params", default="params/real.yaml")
    parser.add_argument("--out", type=Path, default=Path("runs/real-sharded"))
    given = parser.parse_args()
    p = study.load(given.params)
    shutil.rmtree(given.out, ignore_errors=True)
    changed = {"study": given.out.name, "released_models": save_in_pieces(p, given.out / "downloads")}
    changed |= {"merge_methods": METHODS, "merge_dtype": "bfloat16"}
    (given.out / f"{given.out.name}.yaml").write_text(yaml.safe_dump(yaml.safe_load(Path(given.params).read_text()) | changed))
    p = p.model_copy(update=changed)
    pieces = len([*given.out.glob("downloads/*/*.safetensors")])
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
    found = {"merges": rows, "cosines": cosines(study.load(given.params)).T.to_dict(), "stamp": stamp()}
    print(json.dumps(found, indent=1))
    (Path(__file__).parent / "CHECKPOINTS.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
