"""Merges as named by the schedule, run through mergekit in float32; `@definition=paper` is a method as in the paper's code."""

import logging
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge

from m2rl_lib.config import locations, model_names, schedule
from m2rl_lib.config.study import Parameters
from m2rl_lib.merging import sce, task_arithmetic, task_vectors, ties, tsv  # each registers its method with mergekit
from m2rl_lib.storage import artifacts, costs, result_tables

# mergekit sets a configuration's `dtype` by its old name, of which transformers warns at every first merge
logging.getLogger("transformers.configuration_utils").addFilter(lambda record: "`torch_dtype`" not in record.getMessage())
DARE = ("task-arithmetic-dare", "ties-dare")
METHODS = {
    "average": "linear",  # mergekit's
    "task-arithmetic": "m2rl_task_arithmetic",
    "task-arithmetic-dare": "m2rl_task_arithmetic",
    "ties": "m2rl_ties",
    "ties-dare": "m2rl_ties",
    "sce": "m2rl_sce",
    "ram": "ram",  # mergekit's, in float32
    "ram-plus": "ramplus_tl",  # mergekit's, with its published r and alpha
    "tsv": tsv.NAME,
}


@dataclass(frozen=True)
class Recipe:
    """What a merge is made of."""

    method: str
    experts: tuple[Path, ...]
    base: Path
    scale: float  # λ
    density: float  # SCE's share of selected elements, TIES's or DARE's of kept ones
    paper: bool  # the paper's definition instead of mergekit's
    trim: float = 1.0  # the share that the paper's TIES keeps after DARE


def run(p: Parameters) -> list[Path]:
    """Make every merge of the schedule; their folders. Writes the tables `sce` and `costs`."""
    names, read, spent = schedule.merges(p), read_by(p), []
    folders = [locations.model_folder(p.study, p.seed, name) for name in names]
    if artifacts.is_done(p, "merges", folders, read):
        print(f"merges: this study has its {len(names)} already")
        return folders
    with artifacts.stage(p, "merges"):
        for name, folder in zip(names, folders):
            made = recipe(p, name)
            whole = artifacts.is_made(folder, artifacts.record(p, [*made.experts, made.base]))  # by a run that was broken off
            if not whole or "seconds" not in artifacts.read_manifest(folder):  # an earlier commit's says not what it cost
                merge(p, made, name)
            stage = "merge" if name in schedule.candidates(p) else "analysis"
            spent.append(costs.row(name, stage, seconds=artifacts.read_manifest(folder)["seconds"], threads=1))
        print(f"merges: {len(names)} made of {len(read)} models in {sum(c['wall_seconds'] for c in spent):.0f} s")
        made_by = artifacts.record(p, read)
        base, *experts = (locations.model_folder(p.study, p.seed, name) for name in ("sft", *schedule.experts(p)))
        result_tables.write_table(p, "sce", "merges", sce.branches(experts, base), made_by)
        costs.write(p, "merges", made_by, spent)
    return folders


def read_by(p: Parameters) -> list[Path]:
    """The trained models that a study's merges are made of."""
    made = [recipe(p, name) for name in schedule.merges(p) if "norm=" not in name]
    return list(dict.fromkeys([locations.model_folder(p.study, p.seed, "sft"), *(expert for r in made for expert in r.experts)]))


def recipe(p: Parameters, name: str) -> Recipe:
    """The recipe of a merge's name: `merge-<method>`, with lambda, density, definition, experts, lora, step or norm after an `@`.

    Experts are domains, `sft` or `null`, joined by `+`. `norm=equal`: the task vector is scaled to the experts' mean norm.
    """

    def folder(model: str) -> Path:
        return locations.model_folder(p.study, p.seed, model)

    base_name, variant = model_names.parse_model_name(name)
    base, method = folder("sft"), base_name.removeprefix("merge-")
    if variant.pop("norm", None):
        parent = folder(model_names.model_name(base_name, **variant))
        norms = task_vectors.norms_and_cosines({"parent": parent, **{name: folder(name) for name in schedule.experts(p)}}, base)
        scale = 1 / float(norms.set_index("model").loc["parent", "norm"])
        return Recipe("task-arithmetic", (parent,), base, scale, 1.0, False)
    step = int(variant.pop("step", p.rlvr_steps))
    named, rank = variant.pop("experts", "+".join(p.domains)).split("+"), variant.pop("lora", None)
    special, expert = {"sft": base, "null": folder("rl-null")}, lambda e: model_names.model_name(f"rl-{e}", lora=rank)
    densities = {"ties": p.merge_ties_density, "sce": p.merge_sce_topk, **dict.fromkeys(DARE, p.merge_dare_density)}
    made = Recipe(
        method=method,
        experts=tuple(special.get(e) or schedule.checkpoint_folder(p, expert(e), step, p.rlvr_steps) for e in named),
        base=base,
        scale=float(variant.pop("lambda", p.merge_lambda)),
        density=float(variant.pop("density", densities.get(method, 1.0))),
        paper=variant.pop("definition", "mergekit") == "paper",
        trim=p.merge_ties_density,
    )
    if variant:
        allowed = "lambda, density, definition, experts, lora, step, norm"
        raise ValueError(f"{name}: {', '.join(variant)} is nothing that a merge varies in; allowed: {allowed}")
    if not math.isfinite(made.scale):
        raise ValueError(f"{name}: lambda is {made.scale}, but must be a finite number")
    if not 0 < made.density <= 1:
        raise ValueError(f"{name}: density is {made.density}, but must be above 0 and at most 1")
    return made


def configuration(recipe: Recipe, out_dtype: str, seed: int) -> dict:
    """mergekit's configuration of a recipe by our methods, which compute in float32 whatever they read."""
    if recipe.paper and recipe.method not in schedule.TWO_DEFINITIONS:
        allowed = ", ".join(schedule.TWO_DEFINITIONS)
        raise ValueError(f"{recipe.method} has one definition; allowed with definition=paper: {allowed}")
    kind = METHODS[recipe.method]
    per_model: list[dict] = [{"weight": 1.0} if kind == "linear" else {} for _ in recipe.experts]
    shared = {"scale": recipe.scale, "density": recipe.density if recipe.method in DARE else 1.0, "seed": seed}
    if kind == "m2rl_sce":
        shared = {"select_topk": recipe.density}
    elif kind == "m2rl_ties":
        shared["share"] = recipe.density if recipe.method == "ties" else 1.0
        per_model = [{"threshold": _threshold(recipe, expert, seed) if recipe.paper else 0.0} for expert in recipe.experts]
    models = [{"model": _reference(e), "parameters": given} for e, given in zip(recipe.experts, per_model)]
    config = {"merge_method": kind, "models": models, "out_dtype": out_dtype}
    if kind == "linear":
        return config | {"dtype": "float32"}
    config |= {"base_model": _reference(recipe.base)}
    if kind.startswith("ram"):
        return config | {"dtype": "float32"}
    given = {"scale": recipe.scale} if kind == tsv.NAME else shared | {"paper": recipe.paper}
    return config | {"parameters": given}


def _threshold(recipe: Recipe, expert: Path, seed: int) -> float:
    """Where the paper's TIES cuts an expert's task vector, over the whole model, after any DARE."""
    keep, share = (recipe.density, recipe.trim) if recipe.method in DARE else (1.0, recipe.density)

    def magnitudes() -> Iterator[torch.Tensor]:
        for name, start, end in task_vectors.pairs(recipe.base, expert):
            for block in task_arithmetic.papers_dare(start, end, keep, seed, expert.name, name)():
                yield block.abs()

    return ties.largest(magnitudes, share)[0]


def _reference(folder: Path) -> dict:
    """mergekit's reference to a folder, spelled out: as a string, `rl-math@step=40` would be read as `rl-math`."""
    return {"model": {"path": str(folder.resolve())}}


def merge(p: Parameters, recipe: Recipe, name: str) -> Path:
    """Merge by `recipe` and publish the result, atomically, as `name`."""
    begun = time.monotonic()
    check_mergeable(recipe.experts, recipe.base)
    folder = locations.model_folder(p.study, p.seed, name)
    made_by = artifacts.record(p, [*recipe.experts, recipe.base])
    with artifacts.publish(folder, made_by) as fresh:
        config = MergeConfiguration.model_validate(configuration(recipe, p.merge_dtype, p.seed))
        run_merge(config, str(fresh), MergeOptions(quiet=True, write_model_card=False, copy_tokenizer=False, random_seed=p.seed))
        for pattern in ("tokenizer*", "*.jinja", "generation_config.json"):
            for file in recipe.base.glob(pattern):
                shutil.copyfile(file, fresh / file.name)
        made_by["seconds"] = time.monotonic() - begun
    return folder


def check_mergeable(experts: tuple[Path, ...], base: Path) -> None:
    """ValueError in one line where the experts were not trained from `base` or lack its tensors, all of them finite."""
    if not experts:
        raise ValueError("no experts to merge")
    digest = artifacts.read_manifest(base)["digest"]
    expected = _checked_shapes(base, digest)
    for expert in experts:
        manifest = artifacts.read_manifest(expert)
        if expert != base and digest not in manifest["inputs"].values():
            raise ValueError(f"{expert.name} was not trained from {base.name}: their merge would mean nothing")
        shapes = _checked_shapes(expert, manifest["digest"])
        for name in sorted(expected.keys() | shapes.keys()):
            if name not in shapes:
                raise ValueError(f"{expert.name} has no tensor {name}, which {base.name} has; nothing was merged")
            if (wanted := expected.get(name)) != shapes[name]:
                raise ValueError(f"{expert.name}: tensor {name} is {shapes[name]}, in {base.name} {wanted}; nothing was merged")


@lru_cache
def _checked_shapes(folder: Path, digest: str) -> dict[str, tuple]:
    """Shapes of a folder's tensors, read once: files as in the manifest, every number finite."""
    artifacts.verify_model(folder)
    shapes = {}
    for name, tensor in task_vectors.tensors(folder):
        if not all(block.isfinite().all() for block in task_vectors.split(tensor)):
            raise ValueError(f"{folder.name}: tensor {name} has NaN or infinite values; nothing was merged")
        shapes[name] = tuple(tensor.shape)
    return shapes
