"""`python dev/publish.py NOTEBOOKS TABLES`: makes copied notebooks and result tables fit to be committed (`make publish`).

Notebooks lose what libraries wrote to standard error, which names folders of this machine. Tables become one file each, with the same
rows in their order: a part of a run has its parameters in its own metadata, which is most of its size, and the notebooks have them too.
What stays is the parts' names and rows and the commits that made them.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


def drop_standard_error(path: Path) -> None:
    """A notebook without what was written to standard error."""
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    nbformat.write(notebook, path)


def pack(files: list[Path], packed: Path) -> None:
    """The files of a table as one, `packed`."""
    frames = [pd.read_parquet(part) for part in files]
    frame = pd.concat(frames, ignore_index=True)
    made_by = [json.loads(pq.read_schema(part).metadata[b"m2rl"]) for part in files]
    table = pa.Table.from_pandas(frame, preserve_index=False)
    kept = {
        "parts": {part.stem: len(one) for part, one in zip(files, frames)},
        "commits": sorted({one["commit"] for one in made_by}),
    }
    table = table.replace_schema_metadata((table.schema.metadata or {}) | {b"m2rl": json.dumps(kept).encode()})
    made = packed.with_suffix(".packed")
    pq.write_table(table, made, compression="zstd", compression_level=19)
    pd.testing.assert_frame_equal(pd.read_parquet(made), frame)
    for part in files:
        part.unlink()
    made.rename(packed)


def parts(packed: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """The parts that a file was made of: name (`<seed>-<writer>`) and rows."""
    frame, start = pd.read_parquet(packed), 0
    for name, rows in json.loads(pq.read_schema(packed).metadata[b"m2rl"])["parts"].items():
        yield name, frame.iloc[start : start + rows]
        start += rows


if __name__ == "__main__":
    for notebook in Path(sys.argv[1]).glob("*.ipynb"):
        drop_standard_error(notebook)
    for folder in sorted(path for path in Path(sys.argv[2]).iterdir() if path.is_dir()):
        found = [path for path in sorted(folder.glob("*.parquet")) if not path.stem.startswith("all")]
        skills = [path for path in found if path.stem.endswith("-skills")]  # other samples of the same models and problems
        for some, name in (([path for path in found if path not in skills], "all"), (skills, "all-skills")):
            if some:
                pack(some, folder / f"{name}.parquet")
