"""Rows in files larger than memory: read from a place on, appended and committed, read back by number.

A `Store` is a folder of JSON-lines files, each with an index of where its lines begin. `commit` also records how far the
input was read; opened again, a store cuts off what came after its last commit.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from filelock import FileLock

from m2rl_lib.storage.atomic import write_json

PROGRESS, DONE = "progress.json", "done.json"
BATCH = 1024  # rows of a Parquet file in memory


def read_rows(file: Path, start: int = 0) -> Iterator[tuple[int, dict | None]]:
    """(where the next row begins, row) of a .jsonl or .parquet file from `start` on; None for a line that is no JSON object.

    A place is a byte of a .jsonl file, the number of a row of a .parquet file; nothing but one batch is held.
    """
    if file.suffix == ".parquet":
        table, place = pq.ParquetFile(file), 0
        for group in range(table.num_row_groups):
            size = table.metadata.row_group(group).num_rows
            if place + size <= start:
                place += size
                continue
            for batch in table.iter_batches(BATCH, row_groups=[group]):
                for row in batch.to_pylist() if place + len(batch) > start else [None] * len(batch):
                    place += 1
                    if place > start:
                        yield place, row
    elif file.suffix == ".jsonl":
        with file.open("rb") as lines:
            lines.seek(start)
            for line in lines:
                if line.strip():
                    yield lines.tell(), _object(line)
    else:
        raise ValueError(f"{file} is neither .jsonl nor .parquet")


def _object(line: bytes) -> dict | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


class Store:
    """Files of rows in `folder`, appended and committed; `counts` and `position` are the caller's, as of the last commit."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        progress = json.loads((folder / PROGRESS).read_text()) if (folder / PROGRESS).is_file() else {}
        self.position: list[int] = progress.get("position", [0, 0])  # (number of the input file, place in it)
        self.counts: dict[str, int] = progress.get("counts", {})
        sizes = progress.get("sizes", {})
        for file in self._stored():
            if file.name in sizes:
                os.truncate(file, sizes[file.name])
            else:
                file.unlink()
        self._files: dict[str, object] = {}

    def _stored(self) -> list[Path]:
        return [file for file in self.folder.iterdir() if file.suffix in (".jsonl", ".index", ".seen")]

    def _file(self, name: str):
        if name not in self._files:
            self._files[name] = (self.folder / name).open("ab")
        return self._files[name]

    def add(self, name: str, row: dict) -> None:
        """Append a row to `<name>.jsonl`."""
        file = self._file(f"{name}.jsonl")
        self._file(f"{name}.index").write(np.int64(file.tell()).tobytes())
        file.write(json.dumps(row).encode() + b"\n")

    def mark(self, name: str, digest: bytes) -> None:
        """Append a digest of fixed length to `<name>.seen`."""
        self._file(f"{name}.seen").write(digest)

    def marked(self, name: str, length: int) -> set[bytes]:
        """The digests of `length` bytes in `<name>.seen`, as of the last commit."""
        file = self.folder / f"{name}.seen"
        held = file.read_bytes() if file.is_file() else b""
        return {held[at : at + length] for at in range(0, len(held), length)}

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def commit(self, position: list[int]) -> None:
        """Everything so far is on disk, and the input was read up to `position`."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        self.position = position
        sizes = {file.name: file.stat().st_size for file in self._stored()}
        write_json(self.folder / PROGRESS, {"position": position, "sizes": sizes, "counts": self.counts})

    def close(self) -> None:
        for file in self._files.values():
            file.close()


def locked(folder: Path) -> FileLock:
    """One process at a time in `folder`; the others wait. The lock ends with the process that holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".lock")


class Rows(Sequence):
    """The rows of `<folder>/<name>.jsonl` by number, each read when it is asked for; empty where there is no such file."""

    def __init__(self, folder: Path, name: str):
        self.file = folder / f"{name}.jsonl"
        index = folder / f"{name}.index"
        held = index.is_file() and index.stat().st_size
        self.starts = np.memmap(index, np.int64, "r") if held else np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, number: int) -> dict:
        start = int(self.starts[number])  # IndexError past the end
        with self.file.open("rb") as file:
            file.seek(start)
            return json.loads(file.readline())


def apportion(weights: list[int], count: int) -> list[int]:
    """`count` in whole parts in proportion to `weights`, by largest remainder; of equals the first get more.

    >>> apportion([1, 1, 1], 100), apportion([3, 1], 10)
    ([34, 33, 33], [8, 2])
    """
    shares, rests = zip(*(divmod(count * weight, max(1, sum(weights))) for weight in weights))
    first = sorted(range(len(weights)), key=lambda i: -rests[i])[: count - sum(shares)]
    return [share + (i in first) for i, share in enumerate(shares)]
