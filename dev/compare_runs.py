"""Whether a change of the code changed any result: the smoke study at two commits, compared file by file and value by value.

    python dev/compare_runs.py COMMIT COMMIT            # runs both in temporary clones, about 8 minutes each on 2 cores
    python dev/compare_runs.py --runs FOLDER FOLDER     # compares two runs/ folders that are there already

Models are compared by the SHA-256 of their weights, tables row by row. Seconds, memory, dates and commits differ between any two runs,
so the columns in TIMES are left out. Exit status 1 where anything differs, with a line for each.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
TIMES = ("seconds", "step_time", "memory", "commit", "created", "device")  # a column with one of these in its name


def run_study(commit: str, folder: Path) -> Path:
    """The `runs` folder of the smoke study at a commit, in a clone of this repository under `folder`."""
    clone = folder / commit.replace("/", "-")
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    subprocess.run(["git", "checkout", "-q", commit], cwd=clone, check=True)
    # the clone's own library, in this environment
    environment = os.environ | {"PYTHONPATH": str(clone)}
    (clone / ".venv").symlink_to(Path(sys.prefix), target_is_directory=True)
    command = ["make", "study", "PARAMS=params/smoke.yaml", "-o", ".venv/ready"]
    subprocess.run(command, cwd=clone, env=environment, check=True, stdout=subprocess.DEVNULL)
    return clone / "runs"


def digests(runs: Path) -> dict[str, str]:
    """SHA-256 of every file of weights, by its path under `runs`."""
    found = sorted(runs.glob("*/models/**/*.safetensors"))
    return {str(path.relative_to(runs)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def tables(runs: Path) -> dict[str, pd.DataFrame]:
    """Every result table without what differs between any two runs, by its path under `runs`."""
    frames = {}
    for path in sorted(runs.glob("*/results/**/*.parquet")):
        frame = pd.read_parquet(path)
        frames[str(path.relative_to(runs))] = frame[[name for name in frame if not any(word in name for word in TIMES)]]
    return frames


def compare(one: Path, other: Path) -> list[str]:
    """A line for each model and table that differs or is in one run alone."""
    lines, counted = [], []
    for kind, read in (("models", digests), ("tables", tables)):
        ours, theirs = read(one), read(other)
        lines += [f"{name}: only in {one if name in ours else other}" for name in sorted(ours.keys() ^ theirs.keys())]
        both = sorted(ours.keys() & theirs.keys())
        same = [name for name in both if (ours[name].equals(theirs[name]) if kind == "tables" else ours[name] == theirs[name])]
        lines += [f"{name}: differs" for name in both if name not in same]
        counted.append(f"{len(same)} of {len(both)} {kind} equal")
    print("; ".join(counted))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs=2)
    parser.add_argument("--runs", action="store_true", help="the two are runs/ folders, not commits")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pair = [Path(one) if given.runs else run_study(one, Path(folder)) for one in given.what]
        lines = compare(*pair)
    print("\n".join(lines) or "no difference")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
