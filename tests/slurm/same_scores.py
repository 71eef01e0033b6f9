"""The smoke study as jobs of a one-node Slurm on loopback, beside the same study run locally: `make slurm-test`.

The local study is run first where it is not there already. Both train on one thread, so every model must be the same bytes
and every table of scores and samples equal value for value. While the first jobs run a second start of the same study must be
refused by the study's lock, although the Snakefile is read again inside every job. Writes what was seen as a Markdown table.
`--set domains=[math,coding]` changes values of the parameter file, `--only rq1` runs no more than RQ1 reads.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import yaml

from m2rl_lib.config import locations, study
from m2rl_lib.config.locations import ROOT
from m2rl_lib.storage import artifacts, atomic

HERE = Path(__file__).parent
QUIET = ["--rerun-triggers", "mtime", "params", "input", "--rerun-incomplete", "--nolock", "--quiet", "rules", "host", "progress"]
CLUSTER = ["--profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "2"]
TABLES = ("scores", "samples", "curves", "sft_curve", "rq1", "rq4")


def parameter_file(given: Path, name: str, changes: dict) -> Path:
    """The parameter file `given` as the study `name`, with `changes`, under runs/."""
    path = locations.RUNS / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(yaml.safe_load(given.read_text()) | changes | {"study": name}, sort_keys=False))
    study.load(path)
    return path


def start(params: Path, only: str, *how: str) -> list[str]:
    """The command that runs the study of `params` (of it, what `only` needs)."""
    target = [only] if only else []
    return [sys.executable, "-m", "snakemake", *target, *how, "--config", f"params={params}", *QUIET]


def run_on_slurm(command: list[str], name: str) -> tuple[int, str]:
    """Run `command` beside a Slurm of its own; its exit status, and what a second start was told while it ran."""
    lock = locations.study_folder(name) / ".lock"
    told = ""  # by a second start
    process = subprocess.Popen([HERE / "one_node.sh", *command], cwd=ROOT)
    while process.poll() is None and not told:
        if lock.exists() and any(locations.study_folder(name).glob("work/*/*")):  # a job is at work
            second = subprocess.run([part for part in command if part], cwd=ROOT, capture_output=True, text=True)
            told = next((line for line in (second.stdout + second.stderr).splitlines() if "is held by" in line), "not refused")
        time.sleep(1)
    return process.wait(), told


def compare(local: str, cluster: str) -> list[tuple[str, str]]:
    """(what, how many are the same of how many) of the models and of each table of two studies."""
    rows = []
    models = sorted(
        path.relative_to(locations.study_folder(cluster))
        for path in locations.study_folder(cluster).glob("models/**/*.safetensors")
    )
    same = [
        (locations.study_folder(local) / path).is_file()
        and atomic.sha256(locations.study_folder(local) / path) == atomic.sha256(locations.study_folder(cluster) / path)
        for path in models
    ]
    rows.append(("models, byte for byte", f"{sum(same)} of {len(same)}"))
    for table in TABLES:
        paths = sorted(locations.study_folder(cluster).glob(f"results/{table}/*.parquet"))
        pairs = [
            (
                pd.read_parquet(path),
                pd.read_parquet(locations.study_folder(local) / path.relative_to(locations.study_folder(cluster))),
            )
            for path in paths
        ]
        same = [one.equals(other) for one, other in pairs]
        cells = sum(one.size for one, _ in pairs)
        rows.append((f"`{table}`: files ({cells} values)", f"{sum(same)} of {len(same)}"))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--params", type=Path, default=ROOT / "params" / "smoke.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a changed value of it")
    parser.add_argument("--only", default="", metavar="RULE", help="what to make; without it the whole study")
    parser.add_argument("--out", type=Path, help="where to write what was seen")
    given = parser.parse_args()
    changes = {name: yaml.safe_load(value) for name, value in (one.split("=", 1) for one in given.set)}
    name = study.load(given.params).study + ("-changed" if changes else "")
    local = parameter_file(given.params, name, changes)
    cluster = parameter_file(given.params, f"{name}-slurm", changes)
    os.environ["OMP_NUM_THREADS"] = "1"

    begun = time.monotonic()
    subprocess.run(start(local, given.only, "--cores", "1"), cwd=ROOT, check=True)
    between = time.monotonic()
    status, told = run_on_slurm(start(cluster, given.only, *CLUSTER), f"{name}-slurm")
    ended = time.monotonic()
    rows = [
        ("study", f"{given.params.name}{', ' + ', '.join(given.set) if given.set else ''}, {given.only or 'all of it'}"),
        ("commit", f"{artifacts.commit()}"),
        ("local, one core, what was not there", f"{between - begun:.0f} s"),
        ("Slurm", f"exit {status}, {ended - between:.0f} s, {os.cpu_count()} cores"),
        ("a second start while it ran", told.replace(f"{ROOT}/", "") or "not tried: it ended first"),
        *compare(name, f"{name}-slurm"),
    ]
    text = "# The study under Slurm\n\n" + __doc__.split("\n\n")[1].strip() + "\n\n| | |\n|---|---|\n"
    text += "".join(f"| {what} | {seen} |\n" for what, seen in rows)
    print(text)
    if given.out:
        given.out.write_text(text)
    equal = not dict(rows)[next(what for what, _ in rows if what.startswith("`scores`"))].startswith("0 of")
    equal &= all(seen.split(" of ")[0] == seen.split(" of ")[1] for _, seen in rows[5:])
    return 0 if status == 0 and equal and "is held by" in told else 1


if __name__ == "__main__":
    sys.exit(main())
