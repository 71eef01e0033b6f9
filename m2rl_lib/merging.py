"""Merging experts by their weights, through mergekit: Average, Task Arithmetic, TIES, each with DARE, and SCE.

Settings are the published ones (shared by the paper's code): every expert's weight 1, λ = 1, TIES keeps the
largest 20%, DARE keeps 80% at random and rescales, SCE selects everything. mergekit trims each tensor by
itself where the paper's code trims the whole model, and its DARE rescales to the same L1 norm where the
paper's multiplies by 1 / density. Arithmetic is in float32: in bfloat16 an RL update is lost to rounding.
"""

import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch
from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge
from safetensors import safe_open
from safetensors.torch import load_file

from m2rl_lib import artifacts, schedule, study
from m2rl_lib.training import cost, write_costs


def run(p: SimpleNamespace) -> list[Path]:
    """Make every merge of the schedule; their folders."""
    base = study.model_folder(p.study, p.seed, "sft")
    plan = {
        name: (method, [schedule.checkpoint_folder(p, expert, step, p.rlvr_steps) for expert, step in steps.items()])
        for name, (method, steps) in schedule.merges(p).items()
    }
    folders = [study.model_folder(p.study, p.seed, name) for name in plan]
    read = [base, *{expert: None for _, experts in plan.values() for expert in experts}]
    if artifacts.is_done(p, "merges", folders, read):
        print("merges: this study has them already")
        return folders
    started = time.monotonic()
    for name, (method, experts) in plan.items():
        merge(p, method, experts, base, name)
    spent = cost("merges", "merge", seconds=time.monotonic() - started, threads=1)
    write_costs(p, "merges", artifacts.record(p, read), [spent])
    return folders


def configuration(p: SimpleNamespace, method: str, experts: list[Path], base: Path) -> dict:
    """mergekit's configuration of one of the six methods, at the study's λ and densities."""
    per_model: dict = {"weight": 1.0}
    shared: dict = {}
    if method == "average":
        kind = "linear"
    elif method == "sce":
        kind, per_model, shared = "sce", {}, {"select_topk": p.merge_sce_topk}
    else:
        kind = {
            "task-arithmetic": "task_arithmetic",
            "task-arithmetic-dare": "dare_linear",
            "ties": "ties",
            "ties-dare": "dare_ties",
        }[method]
        shared = {"lambda": p.merge_lambda, "normalize": method.startswith("ties")}
        if method == "ties":
            per_model["density"] = p.merge_ties_density
        elif method != "task-arithmetic":
            per_model["density"] = p.merge_dare_density
    config = {
        "merge_method": kind,
        "models": [{"model": _reference(expert), "parameters": per_model} for expert in experts],
        "parameters": shared,
        "dtype": "float32",
        "out_dtype": "float32",
        "tokenizer_source": None,
    }
    if kind != "linear":
        config["base_model"] = _reference(base)
    return {key: value for key, value in config.items() if value is not None}


def _reference(folder: Path) -> dict:
    """mergekit's reference to a folder, spelled out: as a string, `rl-math@step=40` would be read as `rl-math`."""
    return {"model": {"path": str(folder.resolve())}}


def merge(p: SimpleNamespace, method: str, experts: list[Path], base: Path, name: str) -> Path:
    """Merge `experts`, trained from `base`, by `method`, and publish the result as `name`."""
    check_mergeable(experts, base)
    started = time.monotonic()
    folder = study.model_folder(p.study, p.seed, name)
    made_by = artifacts.record(p, [*experts, base])
    with artifacts.publish(folder, made_by) as fresh:
        config = MergeConfiguration.model_validate(configuration(p, method, experts, base))
        options = MergeOptions(quiet=True, write_model_card=False, copy_tokenizer=False, random_seed=p.seed)
        run_merge(config, str(fresh), options)
        for file in (*base.glob("tokenizer*"), *base.glob("*.jinja"), *base.glob("generation_config.json")):
            (fresh / file.name).write_bytes(file.read_bytes())
    print(f"{name}: {len(experts)} experts merged in {time.monotonic() - started:.1f} s", flush=True)
    return folder


def check_mergeable(experts: list[Path], base: Path) -> None:
    """One line where the experts were not trained from `base` or do not have its tensors, all of them finite."""
    if not experts:
        raise ValueError("no experts to merge")
    expected = _tensors(artifacts.verify_model(base))
    digest = artifacts.read_manifest(base)["digest"]
    for expert in experts:
        if digest not in artifacts.read_manifest(artifacts.verify_model(expert))["inputs"].values():
            raise ValueError(f"{expert.name} was not trained from {base.name}: their merge would mean nothing")
        tensors = _tensors(expert)
        for name in expected.keys() | tensors.keys():
            if expected.get(name) != tensors.get(name):
                raise ValueError(f"{expert.name}: tensor {name} is {tensors.get(name)}, in {base.name} {expected.get(name)}")
        _check_finite(expert)


def _tensors(folder: Path) -> dict[str, tuple]:
    shapes = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():
                shapes[name] = tuple(tensors.get_slice(name).get_shape())
    return shapes


def _check_finite(folder: Path) -> None:
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():
                if not torch.isfinite(tensors.get_tensor(name)).all():
                    raise ValueError(f"{folder.name}: tensor {name} has NaN or infinite values; nothing was merged")


def shifts(models: dict[str, Path], base: Path) -> pd.DataFrame:
    """How far each model is from `base`: `norm`, the L2 norm of its shift in units of the experts' mean,
    and `cosine <expert>`, the cosine of its shift with each expert's. Experts are the models named `rl-…`.
    """
    start = _flat(base)
    vectors = {name: _flat(folder) - start for name, folder in models.items()}
    experts = [name for name in vectors if name.startswith("rl-")]
    mean_norm = sum(vectors[name].norm() for name in experts) / len(experts)
    rows = []
    for name, vector in vectors.items():
        cosines = {f"cosine {expert}": float(torch.cosine_similarity(vector, vectors[expert], dim=0)) for expert in experts}
        rows.append({"model": name, "norm": float(vector.norm() / mean_norm), **cosines})
    return pd.DataFrame(rows)


def _flat(folder: Path) -> torch.Tensor:
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return torch.cat([tensors[name].double().flatten() for name in sorted(tensors)])
