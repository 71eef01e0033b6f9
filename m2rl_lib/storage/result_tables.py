"""Result tables: one Parquet file per writer and seed, with what made it in its metadata and its SHA-256 beside it."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from m2rl_lib import sandbox
from m2rl_lib.config import locations
from m2rl_lib.config.study import Parameters
from m2rl_lib.storage import artifacts, atomic, processes

KEYS = ["seed", "model", "domain", "benchmark", "split", "problem_id", "sample"]  # of a sample in every table
CHECKSUM = ".parquet.sha256"  # as `sha256sum -c` reads it; committed tables have none


def table_file(parameters: Parameters, table: str, writer: str) -> Path:
    """`runs/<study>/results/<table>/<seed>-<writer>.parquet`."""
    return locations.study_folder(parameters.study) / "results" / table / f"{parameters.seed}-{writer}.parquet"


def write_table(parameters: Parameters, table: str, writer: str, frame: pd.DataFrame, made_by: dict) -> None:
    """The main process writes one writer's part of a table atomically, what made it in its metadata, its SHA-256 beside it."""
    path = table_file(parameters, table, writer)
    if not processes.is_main():
        return
    arrow = pa.Table.from_pandas(frame, preserve_index=False)
    metadata = (arrow.schema.metadata or {}) | {b"m2rl": json.dumps(made_by).encode()}
    sink = pa.BufferOutputStream()
    pq.write_table(arrow.replace_schema_metadata(metadata), sink)
    data = sink.getvalue().to_pybytes()
    checksum = path.with_suffix(CHECKSUM)
    checksum.unlink(missing_ok=True)  # a table without one is read as it is
    atomic.write(path, data)
    atomic.write(checksum, f"{hashlib.sha256(data).hexdigest()}  {path.name}\n".encode())


def _read(path: Path) -> pa.Table:
    data, checksum = path.read_bytes(), path.with_suffix(CHECKSUM)
    try:
        if not checksum.is_file() or checksum.read_text().split()[0] == hashlib.sha256(data).hexdigest():
            return pq.read_table(pa.BufferReader(data))
    except (ValueError, IndexError, NotImplementedError, OSError):  # what Arrow raises on broken files
        pass
    raise atomic.DamagedError(f"{path} is damaged: it is not what was written; run the stage again that makes it")


def read_folder(tables: Path, name: str) -> pd.DataFrame:
    """All parts of a table in a folder of tables (`results` of a run, or what is committed of one); empty where there is none."""
    parts = [pd.read_parquet(path) for path in sorted((tables / name).glob("*.parquet"))]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def read_table(
    parameters: Parameters, table: str, writers: Sequence[str] | None = None, seeds: Sequence[int] | None = None
) -> pd.DataFrame:
    """The parts of the given writers (all by default) and seeds (the parameters' own), concatenated; MixedResultsError if they differ."""
    folder = locations.study_folder(parameters.study) / "results" / table
    seeds = seeds or [parameters.seed]
    if writers is None:
        found = [path for seed in seeds for path in sorted(folder.glob(f"{seed}-*.parquet"))]
        paths = found or [folder / f"{seeds[0]}-*.parquet"]
    else:
        paths = [folder / f"{seed}-{writer}.parquet" for seed in seeds for writer in writers]
    if missing := [artifacts.relative(path) for path in paths if not path.is_file()]:
        command = f"make study PARAMS=params/{parameters.study}.yaml"
        raise FileNotFoundError(f"result table {missing[0]} is missing; `{command}` makes it")
    joined, frames = artifacts.shared_parameters(parameters), []
    for path in paths:
        arrow = _read(path)
        made_by = json.loads(arrow.schema.metadata[b"m2rl"])
        joined = artifacts.join(joined, made_by["parameters"], "this notebook", artifacts.relative(path))
        frames.append(arrow.to_pandas())
    return pd.concat(frames, ignore_index=True)


def write_headline(parameters: Parameters, lines: list[str]) -> None:
    """Write `runs/<study>/headline.txt`, which `make study` prints at its end: table, verdicts, where the rest is."""
    folder = locations.study_folder(parameters.study)
    scores = (folder / "results" / "scores").glob(f"{parameters.seed}-*.parquet")
    made_by = [json.loads(pq.read_schema(path).metadata[b"m2rl"]) for path in scores]
    stamps = sorted({sandbox.stamp(made["parameters"].get("sandbox_kind")) for made in made_by} - {""})
    places = {"figures": locations.figures_folder(parameters.study)}
    places |= {"notebooks": folder / "notebooks", "tables": folder / "results"}
    where = [f"{name + ':':11}{artifacts.relative(place)}/" for name, place in places.items()]
    atomic.write(folder / "headline.txt", ("\n".join([*lines, *stamps, *where]) + "\n").encode())
