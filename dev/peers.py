"""A peer's merging beside ours, from a checkout whose path is given; none of its code is here.

    python dev/merging.py --peer mergelm=PATH

mergelm is the MergeLM repository (yule-BUAA), whose merging the paper's code goes back to. It merges models in memory: all experts are
loaded with transformers, in float32, and its `MergingMethod` is called with the settings of our recipe (weight 1, λ, densities). Each merge is
a process of its own; the seconds of the call alone stand beside those of the whole process. Where nothing is drawn at random, the share of
weights that differ from ours, of the same definition, is reported: in TIES those whose task vectors cancel exactly, where no sign is the sum's. It imports torch, transformers and tqdm, of any version that it gets along with.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from common import table

KNOWN = "mergelm"
PLACE = Path("model_merging_methods") / "merging_methods.py"
MERGES = {  # ours of the same definition: its name of the method, and what is applied after its mask
    "merge-average": ("average_merging", ""),
    "merge-task-arithmetic": ("task_arithmetic", ""),
    "merge-task-arithmetic-dare@definition=paper": ("mask_merging", "task_arithmetic"),
    "merge-ties@definition=paper": ("ties_merging", ""),
    "merge-ties-dare@definition=paper": ("mask_merging", "ties_merging"),
}


def read_peer(text: str) -> Path:
    """The checkout of `mergelm=PATH`. Exits in one line where the name is no peer, or the path is not its checkout or cannot be imported."""
    name, _, path = text.partition("=")
    if name != KNOWN or not path:
        sys.exit(f"--peer {text}: no such peer; allowed: {KNOWN}=PATH, a checkout of MergeLM")
    folder = Path(path).resolve()
    if not (folder / PLACE).is_file():
        sys.exit(f"--peer {text}: no checkout of MergeLM, it has no {PLACE}")
    tried = subprocess.run([sys.executable, __file__, str(folder)], capture_output=True, text=True)
    if tried.returncode:
        sys.exit(f"--peer {text}: cannot be imported here: {(tried.stderr.strip() or 'no message').splitlines()[-1]}")
    return folder


def command(folder: Path, recipe, name: str, ours: Path) -> list[str]:
    """The process that makes one merge with the peer and compares it with ours, which is published in `ours`."""
    settings = {
        "method": MERGES[name],
        "base": str(recipe.base),
        "experts": [str(expert) for expert in recipe.experts],
        "ours": str(ours),
        "scale": recipe.scale,
        "drop": 1 - recipe.density,  # DARE's, where the method has one
        "trim": 1 - (recipe.trim if recipe.method.endswith("dare") else recipe.density),
    }
    return [sys.executable, __file__, str(folder), json.dumps(settings)]


def merge(peer, given: dict) -> dict:
    """Seconds of the peer's merge of models in memory, and the share of weights that differ from ours (None where weights are drawn)."""
    import torch
    from transformers import AutoModelForCausalLM

    base, *experts = (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in [given["base"], *given["experts"]]
    )
    method, applied = given["method"]
    torch.manual_seed(0)
    begun = time.perf_counter()
    merged = peer(method).get_merged_model(
        merged_model=base,
        models_to_merge=experts,
        exclude_param_names_regex=[],
        scaling_coefficient=given["scale"],
        param_value_mask_rate=given["trim"],
        weight_mask_rates=[given["drop"]] * len(experts),
        mask_apply_method=applied,
    )
    seconds = time.perf_counter() - begun
    return {"call": seconds, "difference": None if applied else difference(merged, Path(given["ours"]))}


def difference(model, ours: Path) -> float:
    """The share of weights that differ by more than rounding to bfloat16 (8 bits) can explain."""
    from safetensors import safe_open

    differ, count, weights = 0, 0, dict(model.named_parameters())
    for file in sorted(ours.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():
                mine = tensors.get_tensor(name).float()
                differ += int(((weights[name].detach() - mine).abs() > mine.abs() / 100).sum())
                count += mine.numel()
    return differ / count


def rows(beside: dict[str, dict], used) -> list[dict]:
    """One row per merge: what ours and the peer's processes used, the peer's call alone, and how far the results differ."""
    found = []
    for name, both in beside.items():
        call, differ = both["peer"]["call"], both["peer"]["difference"]
        row = {"merge": name, **used(both["ours"], "ours, "), "mergelm's call, s": call, **used(both["peer"], "mergelm, ")}
        found.append(row | {"weights that differ": "drawn at random" if differ is None else differ})
    return found


def page(result: dict) -> list[str]:
    """The section of a peer in the result of the merging benchmark; nothing where none was given."""
    if not result["tables"]["peer"]:
        return []
    about = f"mergelm is MergeLM, from a checkout given by path: experts of {result['size']} in memory, in float32, by the same definitions."
    more = "Its call alone stands beside its whole process, which writes nothing; ours reads, checks and publishes. One run."
    return ["### Merging beside a peer", "", about, more, "", *table(result["tables"]["peer"])]


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    from model_merging_methods.merging_methods import MergingMethod

    if len(sys.argv) > 2:
        print(json.dumps(merge(MergingMethod, json.loads(sys.argv[2]))))
