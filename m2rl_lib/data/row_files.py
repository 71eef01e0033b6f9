"""Rows in files larger than memory: read from a place on, converted and committed, read back by number."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from filelock import FileLock

from m2rl_lib.domains.problems import Unusable
from m2rl_lib.storage.atomic import write_json

PROGRESS, DONE = "progress.json", "done.json"
BATCH = 1024  # rows of a Parquet file in memory
STRIDE = 2000  # rows between commits


def read_rows(file: Path, start: int = 0) -> Iterator[tuple[int, dict | None]]:
    """(byte or number of the next row, row) of a .jsonl or .parquet file from `start`; None for a line that is no JSON object."""
    if file.suffix == ".parquet":
        table, place = pq.ParquetFile(file), 0
        for group in range(table.num_row_groups):
            end = place + table.metadata.row_group(group).num_rows
            for batch in table.iter_batches(BATCH, row_groups=[group]) if end > start else []:
                rest = batch.slice(min(max(0, start - place), len(batch)))
                yield from enumerate(rest.to_pylist(), place + len(batch) - len(rest) + 1)
                place += len(batch)
            place = end
    elif file.suffix == ".jsonl":
        with file.open("rb") as lines:
            lines.seek(start)
            for line in lines:
                if line.strip():
                    try:
                        row = json.loads(line)
                    except ValueError:
                        row = None
                    yield lines.tell(), row if isinstance(row, dict) else None
    else:
        raise ValueError(f"{file} is neither .jsonl nor .parquet")


class Store:
    """A folder of JSON-lines files with indices of their lines, and `counts` of the input's rows by their outcome.

    `position` is how far the input was read at the last commit; opened again, a store cuts off what came after it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        progress = json.loads((folder / PROGRESS).read_text()) if (folder / PROGRESS).is_file() else {}
        self.position: list[int] = progress.get("position", [0, 0])  # (number of the input file, place in it)
        self.counts = Counter(progress.get("counts"))
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
        file = self._file(f"{name}.jsonl")
        self._file(f"{name}.index").write(np.int64(file.tell()).tobytes())
        file.write(json.dumps(row).encode() + b"\n")

    def mark(self, name: str, digest: bytes) -> None:
        """Append a digest to `<name>.seen`."""
        self._file(f"{name}.seen").write(digest)

    def marked(self, name: str, length: int) -> set[bytes]:
        """The digests of `length` bytes in `<name>.seen`, as of the last commit."""
        file = self.folder / f"{name}.seen"
        digests = file.read_bytes() if file.is_file() else b""
        return {digests[at : at + length] for at in range(0, len(digests), length)}

    def convert(
        self, files: list[Path], label_of: Callable[[Path, dict], str], make: Callable[[str, dict], tuple[str, dict]]
    ) -> None:
        """Each row of the files from `position` on as `make(label, row)` gives it, (file name, row), or counted as dropped."""
        first, start = self.position
        for number, file in enumerate(files[first:], first):
            for count, (place, raw) in enumerate(read_rows(file, start), 1):
                label, reason = label_of(file, raw or {}), ""
                try:
                    if raw is None:
                        raise Unusable("not a JSON object")
                    name, row = make(label, raw)
                except Unusable as error:
                    reason = str(error)
                except (TypeError, ValueError, AttributeError, KeyError, IndexError):
                    reason = "fields are not of the published form"
                else:
                    self.add(name, row)
                self.counts[f"{label}|{reason}"] += 1
                if count % STRIDE == 0:
                    self.commit([number, place])
            self.commit([number + 1, 0])
            start = 0

    def drop_table(self, column: str) -> pd.DataFrame:
        """label (as `column`), reason ('kept' for rows that are), rows, share (of the label's rows); most rows first in a label."""
        rows = [(*key.split("|", 1), count) for key, count in self.counts.items()]
        frame = pd.DataFrame(rows, columns=[column, "reason", "rows"])
        frame["share"] = frame["rows"] / frame.groupby(column)["rows"].transform("sum")
        frame["reason"] = frame["reason"].replace("", "kept")
        return frame.sort_values([column, "rows"], ascending=[True, False], ignore_index=True)

    def commit(self, position: list[int]) -> None:
        """Everything so far is on disk, and the input was read up to `position`."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        self.position = position
        sizes = {file.name: file.stat().st_size for file in self._stored()}
        write_json(self.folder / PROGRESS, {"position": position, "sizes": sizes, "counts": self.counts})

    def finish(self, drops: pd.DataFrame, sources: dict[str, str], files: object) -> None:
        """All rows are converted: `drops.csv`, and the record of it."""
        for file in self._files.values():
            file.close()
        drops.to_csv(self.folder / "drops.csv", index=False)
        write_json(self.folder / DONE, {"sources": sources, "files": files, "counts": self.counts})


def locked(folder: Path) -> FileLock:
    """One process at a time in `folder`; the others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".lock")


class Rows(Sequence):
    """The rows of `<folder>/<name>.jsonl` by number, each read when it is asked for; none where there is no such file."""

    def __init__(self, folder: Path, name: str):
        self.file = folder / f"{name}.jsonl"
        index = folder / f"{name}.index"
        filled = index.is_file() and index.stat().st_size
        self.starts = np.memmap(index, np.int64, "r") if filled else np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, number: int) -> dict:
        start = int(self.starts[number])  # IndexError past the end
        with self.file.open("rb") as file:
            file.seek(start)
            return json.loads(file.readline())


def apportion(weights: list[int], count: int) -> list[int]:
    """`count` in whole parts in proportion to `weights`, by largest remainder; of equals the first get more (100: 34, 33, 33)."""
    shares, rests = zip(*(divmod(count * weight, max(1, sum(weights))) for weight in weights))
    first = sorted(range(len(weights)), key=lambda i: -rests[i])[: count - sum(shares)]
    return [share + (i in first) for i, share in enumerate(shares)]
