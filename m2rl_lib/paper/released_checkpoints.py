"""The released checkpoints through this study's own merging, footprints, cosines and KL, as models of `<study>-released`."""

import os
import shutil
from pathlib import Path

import pandas as pd

from m2rl_lib.analysis.rq3_policies import policy_kl, policy_samples
from m2rl_lib.analysis.rq3_weights.footprints import PIECE
from m2rl_lib.analysis.rq3_weights.mask_overlap import whole
from m2rl_lib.config import locations, schedule, study
from m2rl_lib.config.study import Parameters
from m2rl_lib.paper import published_tables
from m2rl_lib.stats.comparisons import display_name
from m2rl_lib.storage import artifacts, hub
from m2rl_lib.training import base_models, model_shape

DOWNLOAD_BYTES = 50e6  # per second: assumed, not measured
SMALL = 10**8  # parameters that a CPU samples from in reasonable time; larger ones wait for a GPU
PASS_SECONDS = 9.5 / (6 * 0.21e9)  # per parameter and checkpoint: six of 0.21 B took 9.5 s (dev/WEIGHTS.md)


def names(p: Parameters) -> list[str]:
    """The model names of the released checkpoints, in the order of `released_models`."""
    return ["sft", *schedule.experts(p), "rl-multi"]


def sources(p: Parameters) -> dict[str, hub.Source]:
    """Model name -> where its checkpoint is; this study's own models where `released_models` is empty."""
    needed = names(p)
    given = p.released_models or [str(locations.model_folder(p.study, p.seed, name)) for name in needed]
    if len(given) != len(needed):
        wanted = f"{len(needed)} are needed, in this order: {', '.join(needed)}"
        raise study.ParameterError(f"released_models has {len(given)} checkpoints, {wanted}")
    return {name: hub.parse_source(source, "model") for name, source in zip(needed, given)}


def names_shown(p: Parameters) -> dict[str, str]:
    """Model name -> what it is, in words; paths from the repository root."""
    return {name: str(one) if one.folder is None else artifacts.relative(one.folder) for name, one in sources(p).items()}


def world(p: Parameters) -> Parameters:
    """The study that the released checkpoints are models of: this one's parameters under a name of its own."""
    return p.model_copy(update={"study": f"{p.study}-released"})


def estimate(p: Parameters) -> pd.DataFrame:
    """What is ahead: use, download_gb, disk_gb, memory_gb, hours, of configurations and file lists alone; SourceError."""
    found = sources(p)
    first = base_models.check_checkpoint(found["sft"])
    for source in list(found.values())[1:]:
        base_models.check_checkpoint(source, like=first)
    shape, files = model_shape.read_shape(first), {source: hub.list_files(source) for source in {*found.values()}}
    remote = sum(files[source][name] for source in files if source.folder is None for name in base_models.wanted_files(source))
    made, experts, count = [*schedule.defaults(p), *schedule.definitions(p)], len(p.domains), shape.parameters
    written = count * (2 if p.merge_dtype == "bfloat16" else 4) * len(made)
    # the largest tensor of all experts, of SFT and of the merge, each in float32, three times over in TIES
    merging = 12 * shape.vocabulary * shape.hidden * (experts + 2)
    # completions of one expert: all prompts of its own domain, a third of them (two or more) of the others
    others = max(2, p.analysis_kl_problems // policy_samples.OTHERS) * (experts - 1)
    completions = experts * p.analysis_kl_samples * (p.analysis_kl_problems + others)
    targets = 2 + experts + len(schedule.defaults(p))
    sampling = completions * p.plan_completion_tokens / p.plan_generated_tokens_per_second
    reading = targets * completions * p.plan_example_tokens / (3 * p.plan_trained_tokens_per_second)
    rows = [
        ("checkpoints", remote, remote, 0, remote / DOWNLOAD_BYTES),
        ("merges", 0, written, merging, len(made) * count * experts * model_shape.MERGE_SECONDS),
        ("footprints and cosines", 0, 0, 64 * PIECE * len(found), count * len(found) * PASS_SECONDS),
        ("KL" + ("" if can_sample(count) else ", left out: no GPU"), 0, 0, 4 * count * targets, sampling + reading),
    ]
    frame = pd.DataFrame(rows, columns=["use", "download_gb", "disk_gb", "memory_gb", "hours"])
    hub.check_disk(int(frame["disk_gb"].sum()), locations.RUNS, f"{len(found)} checkpoints and {len(made)} merges")
    return frame.assign(**frame[["download_gb", "disk_gb", "memory_gb"]] / 1e9, hours=frame["hours"] / 3600)


def adopt(p: Parameters) -> dict[str, Path]:
    """Model name -> its folder among the models of `world(p)`, downloaded and linked there where needed."""
    released, folders = world(p), {}
    unknown = Parameters.model_construct(study=released.study, seed=released.seed)  # parameters of what made them
    for name, source in sources(p).items():
        folder = folders[name] = locations.model_folder(released.study, released.seed, name)
        made_by = artifacts.record(unknown, [folders["sft"]] if name != "sft" else []) | {"source": str(source)}
        wanted = base_models.wanted_files(source)
        fetched = hub.fetch_files(source, wanted)
        if folder.is_dir() and _is_linked(folder, fetched, wanted, made_by):
            continue
        with artifacts.publish(folder, made_by) as fresh:
            for file in wanted:
                try:
                    os.link((fetched / file).resolve(), fresh / file)
                except OSError:  # another disk
                    shutil.copyfile(fetched / file, fresh / file)
    return folders


def _is_linked(folder: Path, fetched: Path, wanted: list[str], made_by: dict) -> bool:
    """Whether a folder holds these very files, and names the same SFT."""
    manifest = artifacts.read_manifest(folder)
    if (manifest.get("source"), manifest["inputs"]) != (made_by["source"], made_by["inputs"]):
        return False
    return all((folder / file).is_file() and (folder / file).samefile(fetched / file) for file in wanted)


def merge_all(p: Parameters) -> dict[str, Path]:
    """The merges of the released experts at published settings, in both definitions, made where they are missing."""
    from m2rl_lib.merging import merge  # brings mergekit, which the rest of the analysis does without

    released, folders = world(p), {}
    for name in [*schedule.defaults(p), *schedule.definitions(p)]:
        folder = folders[name] = locations.model_folder(released.study, released.seed, name)
        recipe = merge.recipe(released, name)
        if not folder.is_dir() or not _is_made_by(folder, recipe, released):
            merge.merge(released, recipe, name)
    return folders


def _is_made_by(folder: Path, recipe, released: Parameters) -> bool:
    """Whether a merge was made as `recipe` says, from the same checkpoints and parameters."""
    manifest = artifacts.read_manifest(folder)
    read = sorted(artifacts.read_manifest(expert)["digest"] for expert in (*recipe.experts, recipe.base))
    same = all(value == vars(released).get(key, value) for key, value in manifest["parameters"].items())
    return read == sorted(manifest["inputs"].values()) and same


def can_sample(parameters: int) -> bool:
    """Whether completions are sampled here: on a GPU, or from a model as small as the micro one."""
    import torch

    return parameters < SMALL or torch.cuda.is_available()


def kl_table(p: Parameters) -> pd.DataFrame:
    """`policy_kl.kl_table` of the released experts to SFT, each other, RL-Multi and the merges; empty where there is no GPU."""
    config = base_models.check_checkpoint(sources(p)["sft"])
    if not can_sample(model_shape.read_shape(config).parameters):
        return pd.DataFrame({"domain": [""], "source": "", "target": "", "kl": 0.0}).head(0)
    experts = schedule.experts(p)
    targets = policy_kl.kl_targets([*names(p), *schedule.defaults(p)], p.domains)
    return policy_kl.kl_table(policy_samples.kl_rows(world(p), experts, targets))


def norm_table(vectors: pd.DataFrame, cosines: pd.DataFrame, experts: list[str]) -> pd.DataFrame:
    """By whole model: norm of its task vector in units of the experts' mean, and its cosine with each expert's."""
    far = whole(vectors).set_index("model")["norm"]
    far = far[[not name.startswith("sft") for name in far.index]]
    pairs = whole(cosines)[["model", "other", "cosine"]].itertuples(index=False)
    value = {frozenset(pair): cosine for *pair, cosine in pairs}
    table = (far / far[experts].mean()).to_frame("norm")
    for expert in experts:
        table[f"cosine {expert}"] = [1.0 if name == expert else value[frozenset((name, expert))] for name in table.index]
    return table


def against_published(norms: pd.DataFrame) -> pd.DataFrame:
    """Version 3's scores by domain (`published_tables.domains_v3`), beside the cosines of RL-Multi's and the TIES merge's task
    vectors with that domain's expert, from `norm_table`; only the domains and models that it has."""
    table, joint = published_tables.domains_v3(), {"mixed": "rl-multi", "merged": "merge-ties"}
    table = table[[f"cosine rl-{domain}" in norms for domain in table["domain"]]]
    for column, model in joint.items():
        found = [norms[f"cosine rl-{domain}"].get(model) for domain in table["domain"]]
        table = table.assign(**{f"{column} cosine": pd.Series(found, table.index, dtype=float)})
    return table


def answer(p: Parameters, norms: pd.DataFrame) -> list[str]:
    """Whether released weights were measured, and how far each way to one model moves the weights, a sentence each."""
    whose = f"Not answered: no released weights were measured. This study's own checkpoints of seed {p.seed} stand in for them, "
    whose += "to test that folders go in and numbers come out; the rest is about those."
    joint = norms.loc[[name for name in norms.index if not name.startswith("rl-") or name == "rl-multi"], "norm"]
    ends = [joint.idxmin(), joint.idxmax()]
    least, most = (f"{display_name(name)} ({joint[name]:.2f})" for name in ends)
    far = f"Of the ways to one model, {least} moves least from SFT and {most} most, in units of the experts' mean distance."
    return ["Measured are the checkpoints that `released_models` names." if p.released_models else whose, far]
