"""Merging experts by their weights, through mergekit: Average, Task Arithmetic, TIES, each with DARE, and SCE.

Settings are the published ones (shared by the paper's code): every expert's weight 1, λ = 1, TIES keeps the
largest 20%, DARE keeps 80% at random and rescales, SCE selects everything. Where mergekit's definition differs from
the paper's code, `@definition=paper` is the latter (both in `block_merges`). Arithmetic is in float32: in bfloat16 an RL
update is lost to rounding. What a merge is made of is in its name, which `recipe` reads.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd
import torch
from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge
from safetensors import safe_open

from m2rl_lib.config import locations, model_names, schedule
from m2rl_lib.config.study import Parameters
from m2rl_lib.merging import block_merges
from m2rl_lib.storage import artifacts, result_tables
from m2rl_lib.training.common import cost, write_costs

DARE = ("task-arithmetic-dare", "ties-dare")
METHODS = {
    "average": "linear",  # mergekit's
    "task-arithmetic": "m2rl_task_arithmetic",
    "task-arithmetic-dare": "m2rl_task_arithmetic",
    "ties": "m2rl_ties",
    "ties-dare": "m2rl_ties",
    "sce": "m2rl_sce",
}


@dataclass(frozen=True)
class Recipe:
    """What a merge is made of. `density` is SCE's share of selected elements, TIES's or DARE's of kept ones."""

    method: str
    experts: tuple[Path, ...]
    base: Path
    scale: float  # λ
    density: float
    paper: bool  # the paper's definition instead of mergekit's
    trim: float = 1.0  # the share that the paper's TIES keeps after DARE


def run(p: Parameters) -> list[Path]:
    """Make every merge of the schedule; their folders. Writes the tables `sce` and `costs`."""
    names, read = schedule.merges(p), read_by(p)
    folders = [locations.model_folder(p.study, p.seed, name) for name in names]
    if artifacts.is_done(p, "merges", folders, read):
        print(f"merges: this study has its {len(names)} already")
    else:
        with artifacts.stage(p, "merges"):
            _make(p, names, read)
    return folders


def _make(p: Parameters, names: list[str], read: list[Path]) -> None:
    base = locations.model_folder(p.study, p.seed, "sft")
    started = time.monotonic()
    costs = []
    for name in names:
        begun = time.monotonic()
        merge(p, recipe(p, name), name)
        stage = "merge" if name in schedule.candidates(p) else "analysis"
        costs.append(cost(name, stage, seconds=time.monotonic() - begun, threads=1))
    print(f"merges: {len(names)} made of {len(read)} models in {time.monotonic() - started:.0f} s")
    made_by = artifacts.record(p, read)
    experts = [locations.model_folder(p.study, p.seed, f"rl-{domain}") for domain in p.domains]
    result_tables.write_table(p, "sce", "merges", sce_branches(experts, base), made_by)
    write_costs(p, "merges", made_by, costs)


def read_by(p: Parameters) -> list[Path]:
    """The trained models that a study's merges are made of."""
    made = [recipe(p, name) for name in schedule.merges(p) if "norm=" not in name]
    return list(dict.fromkeys([locations.model_folder(p.study, p.seed, "sft"), *(expert for r in made for expert in r.experts)]))


def recipe(p: Parameters, name: str) -> Recipe:
    """The recipe that a merge's name tells: `merge-<method>`, with λ, density, definition, experts or step after an `@`.

    Experts are the study's domains, `sft` or `null`, joined by `+`; without them all the study's. `norm=equal` is the merge
    without it, its shift scaled to the mean norm of the experts' shifts. Raises ValueError for what is out of range.
    """
    base_name, variant = model_names.parse_model_name(name)
    method = base_name.removeprefix("merge-")
    base = locations.model_folder(p.study, p.seed, "sft")
    if variant.pop("norm", None):
        parent = locations.model_folder(p.study, p.seed, model_names.model_name(base_name, **variant))
        shift = shifts(
            {"parent": parent, **{f"rl-{d}": locations.model_folder(p.study, p.seed, f"rl-{d}") for d in p.domains}}, base
        )
        scale = 1 / float(shift.set_index("model").loc["parent", "norm"])
        return Recipe("task-arithmetic", (parent,), base, scale, 1.0, False)
    step = int(variant.pop("step", p.rlvr_steps))
    named = variant.pop("experts", "+".join(p.domains)).split("+")
    special = {"sft": base, "null": locations.model_folder(p.study, p.seed, "rl-null")}
    experts = tuple(special.get(e) or schedule.checkpoint_folder(p, f"rl-{e}", step, p.rlvr_steps) for e in named)
    densities = {"ties": p.merge_ties_density, "sce": p.merge_sce_topk, **dict.fromkeys(DARE, p.merge_dare_density)}
    made = Recipe(
        method=method,
        experts=experts,
        base=base,
        scale=float(variant.pop("lambda", p.merge_lambda)),
        density=float(variant.pop("density", densities.get(method, 1.0))),
        paper=variant.pop("definition", "mergekit") == "paper",
        trim=p.merge_ties_density,
    )
    if variant:
        raise ValueError(
            f"{name}: {', '.join(variant)} is nothing that a merge varies in; allowed: lambda, density, definition, experts, step, norm"
        )
    if not math.isfinite(made.scale):
        raise ValueError(f"{name}: lambda is {made.scale}, but must be a finite number")
    if not 0 < made.density <= 1:
        raise ValueError(f"{name}: density is {made.density}, but must be above 0 and at most 1")
    return made


def configuration(recipe: Recipe, out_dtype: str, seed: int) -> dict:
    """mergekit's configuration of a recipe by our methods (`block_merges`), which compute in float32 whatever they read."""
    if recipe.paper and recipe.method not in schedule.TWO_DEFINITIONS:
        allowed = ", ".join(schedule.TWO_DEFINITIONS)
        raise ValueError(f"{recipe.method} has one definition; allowed with definition=paper: {allowed}")
    kind = METHODS[recipe.method]
    per_model: list[dict] = [{} for _ in recipe.experts]
    shared = {"scale": recipe.scale, "density": recipe.density if recipe.method in DARE else 1.0, "seed": seed}
    if kind == "linear":
        per_model = [{"weight": 1.0} for _ in recipe.experts]
    elif kind == "m2rl_sce":
        shared = {"select_topk": recipe.density}
    elif kind == "m2rl_ties":
        shared["share"] = recipe.density if recipe.method == "ties" else 1.0
        per_model = [{"threshold": _threshold(recipe, expert, seed) if recipe.paper else 0.0} for expert in recipe.experts]
    config = {
        "merge_method": kind,
        "models": [{"model": _reference(e), "parameters": given} for e, given in zip(recipe.experts, per_model)],
        "out_dtype": out_dtype,
    }
    if kind == "linear":
        return config | {"dtype": "float32"}
    return config | {"base_model": _reference(recipe.base), "parameters": shared | {"paper": recipe.paper}}


def _threshold(recipe: Recipe, expert: Path, seed: int) -> float:
    """Where the paper's TIES cuts an expert's shift, over the whole model, after DARE if there is any."""
    keep, share = (recipe.density, recipe.trim) if recipe.method in DARE else (1.0, recipe.density)

    def magnitudes() -> Iterator[torch.Tensor]:
        for name, start, end in _pairs(recipe.base, expert):
            for block in block_merges.dare(start, end, keep, seed, expert.name, name)():
                yield block.abs()

    return block_merges.largest(magnitudes, share)[0]


def _reference(folder: Path) -> dict:
    """mergekit's reference to a folder, spelled out: as a string, `rl-math@step=40` would be read as `rl-math`."""
    return {"model": {"path": str(folder.resolve())}}


def merge(p: Parameters, recipe: Recipe, name: str) -> Path:
    """Merge by `recipe` and publish the result as `name`, whole or not at all."""
    check_mergeable(recipe.experts, recipe.base)
    folder = locations.model_folder(p.study, p.seed, name)
    made_by = artifacts.record(p, [*recipe.experts, recipe.base])
    with artifacts.publish(folder, made_by) as fresh:
        config = MergeConfiguration.model_validate(configuration(recipe, p.merge_dtype, p.seed))
        options = MergeOptions(quiet=True, write_model_card=False, copy_tokenizer=False, random_seed=p.seed)
        run_merge(config, str(fresh), options)
        for file in (*recipe.base.glob("tokenizer*"), *recipe.base.glob("*.jinja"), *recipe.base.glob("generation_config.json")):
            (fresh / file.name).write_bytes(file.read_bytes())
    return folder


# --- what is merged ------------------------------------------------------------------------------------


def check_mergeable(experts: tuple[Path, ...], base: Path) -> None:
    """One line where the experts were not trained from `base` or do not have its tensors, all of them finite."""
    if not experts:
        raise ValueError("no experts to merge")
    expected = _checked_tensors(base, artifacts.read_manifest(base)["digest"])
    digest = artifacts.read_manifest(base)["digest"]
    for expert in experts:
        manifest = artifacts.read_manifest(expert)
        if expert != base and digest not in manifest["inputs"].values():
            raise ValueError(f"{expert.name} was not trained from {base.name}: their merge would mean nothing")
        tensors = _checked_tensors(expert, manifest["digest"])
        for name in sorted(expected.keys() | tensors.keys()):
            if name not in tensors:
                raise ValueError(f"{expert.name} has no tensor {name}, which {base.name} has; nothing was merged")
            if expected.get(name) != tensors[name]:
                raise ValueError(
                    f"{expert.name}: tensor {name} is {tensors[name]}, in {base.name} {expected.get(name)}; nothing was merged"
                )


@lru_cache
def _checked_tensors(folder: Path, digest: str) -> dict[str, tuple]:
    """Shapes of a folder's tensors, read once: files as in the manifest, every number finite."""
    artifacts.verify_model(folder)
    for name, tensor in _tensors(folder):
        if not all(block.isfinite().all() for block in tensor.flatten().split(block_merges.BLOCK)):
            raise ValueError(f"{folder.name}: tensor {name} has NaN or infinite values; nothing was merged")
    return {name: tuple(tensor.shape) for name, tensor in _tensors(folder)}


def _tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():
                yield name, tensors.get_tensor(name)


def _pairs(base: Path, expert: Path) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """(name, base's tensor, expert's tensor) as they are stored, one at a time; they may be cut into files differently."""
    where = {}
    for file in sorted(expert.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            where |= dict.fromkeys(tensors.keys(), file)
    for name, start in _tensors(base):
        with safe_open(where[name], "pt") as tensors:
            yield name, start, tensors.get_tensor(name)


def sce_branches(experts: list[Path], base: Path) -> pd.DataFrame:
    """Which of mergekit's branches SCE takes in each tensor: tensor, mean_squares (the experts' sum), uniform (weights)."""
    total: dict[str, float] = {}
    for expert in experts:
        for name, start, end in _pairs(base, expert):
            total[name] = total.get(name, 0.0) + float((end.float() - start.float()).square().mean())
    frame = pd.DataFrame({"tensor": list(total), "mean_squares": list(total.values())})
    return frame.assign(uniform=frame["mean_squares"] < block_merges.SCE_FLOOR)


def shifts(models: dict[str, Path], base: Path) -> pd.DataFrame:
    """How far each model is from `base`: `norm`, the L2 norm of its shift in units of the experts' mean,
    and `cosine <expert>`, the cosine of its shift with each expert's. Experts are the models named `rl-…`.
    """
    vectors = {
        name: torch.cat([(end.float() - start.float()).double().flatten() for _, start, end in _pairs(base, f)])
        for name, f in models.items()
    }
    experts = [name for name in vectors if name.startswith("rl-")]
    mean_norm = sum(vectors[name].norm() for name in experts) / len(experts)
    rows = []
    for name, vector in vectors.items():
        cosines = {f"cosine {expert}": float(torch.cosine_similarity(vector, vectors[expert], dim=0)) for expert in experts}
        rows.append({"model": name, "norm": float(vector.norm() / mean_norm), **cosines})
    return pd.DataFrame(rows)
