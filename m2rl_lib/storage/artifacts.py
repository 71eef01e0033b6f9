"""Models with a manifest, published atomically, and the record of each stage that is done."""

import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from m2rl_lib import sandbox
from m2rl_lib.config import locations, model_names, study
from m2rl_lib.config.locations import ROOT
from m2rl_lib.config.study import Parameters
from m2rl_lib.storage import atomic, locks, processes, safety

MANIFEST = "manifest.json"
VERSIONED = ("torch", "transformers", "trl", "accelerate", "mergekit", "math-verify", "if-verifiable", "numpy", "pandas")
BEGUN = [time.time()]  # when this process first read the library, or was forked: a notebook's first cell
os.register_at_fork(after_in_child=lambda: BEGUN.append(time.time()))
# these may differ between results that are read together; joint models are made beside the others
UNSHARED = {"study", "seed", "joint_models", *study.Run.model_fields}


class MixedResultsError(ValueError):
    """Results of different parameters were about to be mixed; the message says which differ."""


@lru_cache
def versions() -> dict[str, str]:
    """Installed versions of the libraries that results depend on."""
    return {name: metadata.version(name) for name in VERSIONED}


def device() -> str:
    """What the computation ran on: the GPU's name, or the machine and its cores."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {os.cpu_count()} cores"


@lru_cache
def commit() -> str:
    """The repository's commit, with '+' where the work tree differs from it in more than drawn figures; 'unknown' without git."""
    status = ["status", "--porcelain", "--untracked-files=no", "--", ".", ":!figures"]
    try:
        head, changed = [
            subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout.strip()
            for arguments in (["rev-parse", "--short", "HEAD"], status)
        ]
        return head + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def record(parameters: Parameters, inputs: Sequence[Path] = ()) -> dict:
    """What made a result: parameters, joined with those of the model folders it reads (MixedResultsError if they differ), versions."""
    joined = shared_parameters(parameters)
    digests = {}
    for folder in inputs:
        manifest = read_manifest(folder)
        joined = join(joined, manifest["parameters"], "this run", str(folder))
        digests[relative(folder)] = manifest["digest"]
    given = {"parameters": joined, "seed": getattr(parameters, "seed", None), "inputs": digests, "versions": versions()}
    return given | {"commit": commit(), "device": device(), "created": datetime.now(UTC).isoformat(timespec="seconds")}


def join(one: dict, other: dict, name_of_one: str, name_of_other: str) -> dict:
    """Two sets of parameters as one; MixedResultsError where they differ in one that both have."""
    differing = sorted(key for key in one.keys() & other.keys() if one[key] != other[key])
    if differing:
        listed = "; ".join(f"{key} is {one[key]!r} in {name_of_one} and {other[key]!r} in {name_of_other}" for key in differing)
        raise MixedResultsError(
            f"results of different parameters cannot be mixed: {listed}. Run `make study`, or give the notebook another `study`."
        )
    return other | one


def shared_parameters(parameters: Parameters) -> dict:
    """The parameters that results which are read together must have alike."""
    return {name: value for name, value in vars(parameters).items() if name not in UNSHARED}


def relative(path: Path) -> str:
    """A path for messages and records: from the repository's root where it is inside."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


@contextmanager
def publish(folder: Path, made_by: dict) -> Iterator[Path]:
    """A fresh folder, the same in all processes, which becomes `folder`, with its manifest, when the block ends well in all."""
    with atomic.folder_in_place(folder) if processes.is_main() else nullcontext() as fresh:
        fresh = processes.from_main(lambda: fresh)
        yield fresh
        processes.wait()  # all have written
        if processes.is_main():
            files = {str(p.relative_to(fresh)): atomic.sha256(p) for p in sorted(fresh.rglob("*")) if p.is_file()}
            manifest = {"name": folder.name, "digest": _digest(files), "files": files, **made_by}
            (fresh / MANIFEST).write_text(json.dumps(manifest | {"checksum": _digest(manifest)}, indent=1))
    processes.wait()  # it is published


def _digest(value: dict) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@contextmanager
def stage(parameters: Parameters, name: str) -> Iterator[None]:
    """The main process owns stage `name` of a study while the block runs; locks.LockedError names another run that has it."""
    lock = locations.work_folder(parameters.study, parameters.seed, f"{name}.lock")
    with locks.hold(lock) if processes.is_main() else nullcontext():
        processes.wait()
        yield


def read_manifest(folder: Path) -> dict:
    """The manifest of a published model; one line where the folder is missing, is not one, or its manifest is damaged."""
    if not folder.is_dir():
        raise FileNotFoundError(f"model folder {relative(folder)} is missing; `make study` makes it")
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(f"{relative(folder)} is not a published model: it has no {MANIFEST}")
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if manifest.pop("checksum") == _digest(manifest):
            return manifest
    except (ValueError, KeyError, AttributeError, TypeError):
        pass
    raise atomic.DamagedError(f"{folder / MANIFEST} is damaged: it is not what was written; {_remedy(folder)}")


def is_made(folder: Path, made_by: dict) -> bool:
    """Whether a whole model is published there that was made of the same: parameters, seed, inputs and versions."""
    try:
        manifest = read_manifest(folder) if folder.is_dir() else {}
        given = json.loads(json.dumps(made_by))
        same = all(manifest.get(name) == given[name] for name in ("parameters", "seed", "inputs", "versions"))
        return same and bool(verify_model(folder))
    except atomic.DamagedError:
        return False


def verify_model(folder: Path) -> Path:
    """`folder`, once its files are those of its manifest, each with its SHA-256, and it is safe to load."""
    safety.check_files(folder, read_manifest(folder)["files"], MANIFEST, _remedy(folder))
    safety.refuse_unsafe(folder)
    return folder


def _remedy(folder: Path) -> str:
    """What makes a damaged model again: `make study`, once its stage's record is deleted."""
    if folder.parents[1].name != "models":
        return "an earlier one is taken"  # of a run's checkpoints
    base, variant = model_names.parse_model_name(folder.name)
    variant.pop("step", None)
    name = "merges" if base.startswith("merge-") else model_names.model_name("sft" if base == "base" else base, **variant)
    record = folder.parents[2] / "done" / folder.parent.name / f"{name}.json"
    return f"to make the model again: rm {relative(record)}; make study"


def finish(parameters: Parameters, name: str, made: list[Path], read: list[Path], seeds: Sequence[int] | None = None) -> None:
    """Record that a stage is done, unless its record stands, whose time Snakemake watches; `seeds` are those of an analysis."""
    now = datetime.now(UTC)
    seeds = list(seeds or [parameters.seed])
    if not is_done(parameters, name, made, read):
        record = {"name": name, "parameters": vars(parameters), "seeds": seeds}
        for kind, folders in (("made", made), ("read", read)):
            record[kind] = {relative(folder): read_manifest(folder)["digest"] for folder in folders}
        record |= {"finished": now.isoformat(timespec="seconds"), "spent": spent()}
        atomic.write_json(locations.done_file(parameters.study, parameters.seed, name), record)
    for run in {name, *(folder.name for folder in made)}:  # a cascade trains each of its models under its own name
        for checkpoint in locations.work_folder(parameters.study, parameters.seed, run).glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
    if stamp := sandbox.stamp(getattr(parameters, "sandbox_kind", None)):
        print(f"{name}: {stamp}")
    installed = ", ".join(f"{library} {version}" for library, version in versions().items())
    of_seeds = f"seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {parameters.seed}"
    where = f"commit {commit()}, {of_seeds}, on {device()}; Python {platform.python_version()}, {installed}"
    print(f"{name}: done, {now:%Y-%m-%d %H:%M} UTC, {where}")


def spent() -> dict[str, float]:
    """What this process has used so far; CPU seconds include those of its ended children."""
    return {
        "wall_seconds": round(time.time() - BEGUN[-1], 1),
        "cpu_seconds": round(sum(os.times()[:4]), 1),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def is_done(parameters: Parameters, name: str, made: list[Path], read: list[Path]) -> bool:
    """Whether stage `name` is recorded with these models, all there; MixedResultsError if it is with other parameters."""
    file = locations.done_file(parameters.study, parameters.seed, name)
    if not file.is_file():
        return False
    done = json.loads(file.read_text())
    join(json.loads(json.dumps(vars(parameters))), done["parameters"], "this notebook", relative(file))
    try:
        return all(
            folder.is_dir() and read_manifest(folder)["digest"] == done[kind].get(relative(folder))
            for kind, folders in (("made", made), ("read", read))
            for folder in folders
        )
    except atomic.DamagedError:
        return False
