"""Model folders and result tables that appear whole or not at all, and say what made them.

A folder is written beside its place, given a manifest (SHA-256 of each file, parameters, seed, inputs' digests,
versions, commit) and renamed into place (`durable`); a table carries the same in its own file. A stage's parameters are joined with those of its inputs, so that
results of different parameters are never mixed: whoever reads two that disagree is told where.
"""

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
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from m2rl_lib import sandbox
from m2rl_lib.config import locations, model_names, study
from m2rl_lib.config.locations import ROOT
from m2rl_lib.config.study import Parameters
from m2rl_lib.storage import durable, processes, safety

STARTED = time.time()  # when this process first read the library: a notebook's first cell
MANIFEST = "manifest.json"
VERSIONED = ("torch", "transformers", "trl", "accelerate", "mergekit", "math-verify", "if-verifiable", "numpy", "pandas")
UNSHARED = {"study", "seed", *study.Run.model_fields}  # these may differ between results that are read together


class MixedResultsError(ValueError):
    """Results of different parameters were about to be mixed; the message says which differ."""


# --- what made it -----------------------------------------------------------------------------------


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
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        status = [*git, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!figures"]
        changed = subprocess.run(status, capture_output=True, text=True).stdout
        return head + ("+" if changed.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def record(parameters: Parameters, inputs: Sequence[Path] = ()) -> dict:
    """The parameters of a stage joined with those of the model folders it reads, versions and commit.

    Raises MixedResultsError where two of them disagree.
    """
    joined = {name: value for name, value in vars(parameters).items() if name not in UNSHARED}
    digests = {}
    for folder in inputs:
        manifest = read_manifest(folder)
        _agree(joined, manifest["parameters"], "this run", str(folder))
        joined = manifest["parameters"] | joined
        digests[_relative(folder)] = manifest["digest"]
    return {
        "parameters": joined,
        "seed": getattr(parameters, "seed", None),
        "inputs": digests,
        "versions": versions(),
        "commit": commit(),
        "device": device(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _agree(one: dict, other: dict, name_of_one: str, name_of_other: str) -> None:
    differing = [key for key in one.keys() & other.keys() if one[key] != other[key]]
    if differing:
        told = "; ".join(
            f"{key} is {one[key]!r} in {name_of_one} and {other[key]!r} in {name_of_other}" for key in sorted(differing)
        )
        raise MixedResultsError(
            f"results of different parameters cannot be mixed: {told}. Run `make study`, or give the notebook another `study`."
        )


def _relative(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


# --- model folders ------------------------------------------------------------------------------------


@contextmanager
def publish(folder: Path, made_by: dict) -> Iterator[Path]:
    """A fresh folder to write into, which becomes `folder`, with its manifest, when the block ends well.

    Several processes get the same fresh folder, and the main one publishes it when all have written.
    """
    if not processes.is_main():
        yield processes.from_main(Path)
        processes.wait()  # all have written
        processes.wait()  # it is published
        return
    with durable.folder_in_place(folder) as fresh:
        fresh = processes.from_main(lambda: fresh)
        yield fresh
        processes.wait()
        files = {str(p.relative_to(fresh)): durable.sha256(p) for p in sorted(fresh.rglob("*")) if p.is_file()}
        digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
        manifest = {"name": folder.name, "digest": digest, "files": files, **made_by, "seal": durable.OPEN_SEAL.decode()}
        (fresh / MANIFEST).write_bytes(durable.seal(json.dumps(manifest, indent=1).encode()))
    processes.wait()


@contextmanager
def stage(parameters: Parameters, name: str) -> Iterator[None]:
    """Own stage `name` of a study while the block runs: two runs of it would only do the same work twice.

    Raises durable.LockedError, naming the other run, where there is one. Of several processes the main one owns it.
    """
    if not processes.is_main():
        processes.wait()
        yield
        return
    with durable.hold(locations.work_folder(parameters.study, parameters.seed, f"{name}.lock")):
        processes.wait()
        yield


def read_manifest(folder: Path) -> dict:
    """The manifest of a published model. One line where the folder is missing or is not one."""
    if not folder.is_dir():
        raise FileNotFoundError(f"model folder {_relative(folder)} is missing; `make study` makes it")
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(f"{_relative(folder)} is not a published model: it has no {MANIFEST}")
    return durable.read_sealed(folder / MANIFEST, json.loads, _remedy(folder))


def verify_model(folder: Path) -> Path:
    """`folder`, once its files are those of its manifest, each with its SHA-256, and it is safe to load."""
    safety.check_files(folder, read_manifest(folder)["files"], MANIFEST, _remedy(folder))
    safety.refuse_unsafe(folder)
    return folder


def _remedy(folder: Path) -> str:
    """What makes a damaged model again: without its stage's record, `make study` does."""
    if folder.parents[1].name != "models":
        return "an earlier one is taken"  # of a run's checkpoints
    base, variant = model_names.parse_model_name(folder.name)
    variant.pop("step", None)
    name = "merges" if base.startswith("merge-") else model_names.model_name("sft" if base == "base" else base, **variant)
    record = folder.parents[2] / "done" / folder.parent.name / f"{name}.json"
    return f"to make the model again: rm {_relative(record)}; make study"


# --- stages that are done -------------------------------------------------------------------------------


def finish(parameters: Parameters, name: str, made: list[Path], read: list[Path], seeds: Sequence[int] | None = None) -> None:
    """Say that a stage is done: what a notebook's last cell calls, and what Snakemake watches.

    `seeds` are those that an analysis speaks of; of a stage, its own alone.

    A record that already says so is left as it is, with its time, so that nothing after it runs again.
    """
    if not is_done(parameters, name, made, read):
        record = {
            "name": name,
            "parameters": vars(parameters),
            "seeds": list(seeds or [parameters.seed]),
            "made": {_relative(folder): read_manifest(folder)["digest"] for folder in made},
            "read": {_relative(folder): read_manifest(folder)["digest"] for folder in read},
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "spent": spent(),
        }
        write_json(locations.done_file(parameters.study, parameters.seed, name), record)
    for checkpoint in locations.work_folder(parameters.study, parameters.seed, name).glob("checkpoint-*"):
        shutil.rmtree(checkpoint)  # they have served
    installed = ", ".join(f"{library} {version}" for library, version in versions().items())
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    if told := sandbox.stamp(getattr(parameters, "sandbox_kind", None)):
        print(f"{name}: {told}")
    spoken = f"seeds {', '.join(map(str, seeds))}" if seeds and len(seeds) > 1 else f"seed {parameters.seed}"
    print(f"{name}: done, {now}, commit {commit()}, {spoken}, on {device()}; Python {platform.python_version()}, {installed}")


def spent() -> dict[str, float]:
    """What this process has used so far: wall seconds, CPU seconds (ended children included), its peak memory in bytes."""
    return {
        "wall_seconds": round(time.time() - STARTED, 1),
        "cpu_seconds": round(sum(os.times()[:4]), 1),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def is_done(parameters: Parameters, name: str, made: list[Path], read: list[Path]) -> bool:
    """Whether stage `name` stands: same parameters, same models read, everything made still there.

    Raises MixedResultsError where it stands with other parameters: a notebook opened alone neither mixes nor
    overwrites. `make study` deletes the record of a stage that it runs again.
    """
    file = locations.done_file(parameters.study, parameters.seed, name)
    if not file.is_file():
        return False
    done = json.loads(file.read_text())
    _agree(json.loads(json.dumps(vars(parameters))), done["parameters"], "this notebook", _relative(file))
    try:
        return all(
            folder.is_dir() and read_manifest(folder)["digest"] == done[kind].get(_relative(folder))
            for kind, folders in (("made", made), ("read", read))
            for folder in folders
        )
    except durable.DamagedError:
        return False


# --- result tables --------------------------------------------------------------------------------------


def write_json(path: Path, value: object) -> None:
    """Write `path` whole or not at all."""
    durable.write(path, (json.dumps(value, indent=1) + "\n").encode())


def table_file(parameters: Parameters, table: str, writer: str) -> Path:
    """`runs/<study>/results/<table>/<seed>-<writer>.parquet`."""
    return locations.study_folder(parameters.study) / "results" / table / f"{parameters.seed}-{writer}.parquet"


def write_table(parameters: Parameters, table: str, writer: str, frame: pd.DataFrame, made_by: dict) -> Path:
    """Write one writer's part of a table, whole or not at all, with what made it in the file's metadata; by the main process."""
    path = table_file(parameters, table, writer)
    if not processes.is_main():
        return path
    arrow = pa.Table.from_pandas(frame, preserve_index=False)
    added = {b"m2rl": json.dumps(made_by).encode(), b"seal": durable.OPEN_SEAL}
    arrow = arrow.replace_schema_metadata((arrow.schema.metadata or {}) | added)
    sink = pa.BufferOutputStream()
    pq.write_table(arrow, sink)
    return durable.write(path, durable.seal(sink.getvalue().to_pybytes()))


def read_table(
    parameters: Parameters, table: str, writers: Sequence[str] | None = None, seeds: Sequence[int] | None = None
) -> pd.DataFrame:
    """A result table: the parts of the given writers (all by default) and seeds (the parameters' own), put together.

    Raises FileNotFoundError where a part is missing, MixedResultsError where parts, or the parameters
    given, disagree, DamagedError where one is not what was written.
    """
    folder = locations.study_folder(parameters.study) / "results" / table
    seeds = seeds or [parameters.seed]
    if writers is None:
        paths = [path for seed in seeds for path in sorted(folder.glob(f"{seed}-*.parquet"))]
    else:
        paths = [folder / f"{seed}-{writer}.parquet" for seed in seeds for writer in writers]
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        what = _relative(missing[0] if missing else folder / f"{seeds[0]}-*.parquet")
        raise FileNotFoundError(f"result table {what} is missing; `make study PARAMS=params/{parameters.study}.yaml` makes it")
    joined = {name: value for name, value in vars(parameters).items() if name not in UNSHARED}
    frames = []
    for path in paths:
        arrow = durable.read_sealed(path, lambda data: pq.read_table(pa.BufferReader(data)), "run the stage again that makes it")
        made_by = json.loads(arrow.schema.metadata[b"m2rl"])
        _agree(joined, made_by["parameters"], "this notebook", _relative(path))
        joined = made_by["parameters"] | joined
        frames.append(arrow.to_pandas())
    return pd.concat(frames, ignore_index=True)


def write_headline(parameters: Parameters, lines: list[str]) -> None:
    """Write `runs/<study>/headline.txt`, what `make study` ends by printing: the table, the verdicts, where the rest is."""
    folder = locations.study_folder(parameters.study)
    scores = (folder / "results" / "scores").glob(f"{parameters.seed}-*.parquet")
    made_by = [json.loads(pq.read_schema(path).metadata[b"m2rl"]) for path in scores]
    stamps = sorted({sandbox.stamp(made["parameters"].get("sandbox_kind")) for made in made_by} - {""})
    where = [
        f"figures:   {_relative(locations.figures_folder(parameters.study))}/",
        f"notebooks: {_relative(folder / 'notebooks')}/",
        f"tables:    {_relative(folder / 'results')}/",
    ]
    durable.write(folder / "headline.txt", ("\n".join([*lines, *stamps, *where]) + "\n").encode())
