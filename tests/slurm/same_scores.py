"""The smoke study as jobs of a one-node Slurm on loopback, beside the same study run locally: `make slurm-test`.

The local study is run first where it is not there already. Both train on one thread, so every model must be the same bytes
and every table of scores and samples equal value for value. While the first jobs run a second start of the same study must be
refused by the study's lock, although the Snakefile is read again inside every job.
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
TABLES = ("scores", "samples", "greedy", "curves", "sft_curve", "rq1", "rq4")


def command(given: Path, name: str, changes: dict, only: str, *how: str) -> list[str]:
    """What runs the parameter file `given` with `changes` as the study `name` (of it, what `only` needs)."""
    path = locations.RUNS / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(yaml.safe_load(given.read_text()) | changes | {"study": name}, sort_keys=False))
    study.load(path)
    return [sys.executable, "-m", "snakemake", *filter(None, [only]), *how, "--config", f"params={path}", *QUIET]


def run_on_slurm(line: list[str], name: str) -> tuple[int, str]:
    """Run a command beside a Slurm of its own; its exit status, and what a second start printed while it ran."""
    folder, refusal = locations.study_folder(name), ""
    process = subprocess.Popen([HERE / "one_node.sh", *line], cwd=ROOT)
    while process.poll() is None and not refusal:
        if (folder / ".lock").exists() and any(folder.glob("work/*/*")):  # a job is at work
            second = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
            refusal = next((text for text in (second.stdout + second.stderr).splitlines() if "is held by" in text), "not refused")
        time.sleep(1)
    return process.wait(), refusal


def compare(local: Path, cluster: Path) -> list[tuple[str, str]]:
    """(what, how many are the same of how many) of the models and of each table of two studies' folders."""
    rows = []
    for what, pattern in (("models, byte for byte", "models/**/*.safetensors"), *((t, f"results/{t}/*.parquet") for t in TABLES)):
        paths = sorted(cluster.glob(pattern))
        pairs = [(path, local / path.relative_to(cluster)) for path in paths]
        if what in TABLES:
            frames = [(pd.read_parquet(one), pd.read_parquet(other)) for one, other in pairs]
            same = [one.equals(other) for one, other in frames]
            what = f"`{what}`: files ({sum(one.size for one, _ in frames)} values)"
        else:
            same = [other.is_file() and atomic.sha256(one) == atomic.sha256(other) for one, other in pairs]
        rows.append((what, f"{sum(same)} of {len(same)}"))
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
    os.environ["OMP_NUM_THREADS"] = "1"

    begun = time.monotonic()
    subprocess.run(command(given.params, name, changes, given.only, "--cores", "1"), cwd=ROOT, check=True)
    between = time.monotonic()
    status, refusal = run_on_slurm(command(given.params, f"{name}-slurm", changes, given.only, *CLUSTER), f"{name}-slurm")
    ended = time.monotonic()
    rows = [
        ("study", f"{given.params.name}{', ' + ', '.join(given.set) if given.set else ''}, {given.only or 'all of it'}"),
        ("commit", str(artifacts.commit())),
        ("local, one core, what was not there", f"{between - begun:.0f} s"),
        ("Slurm", f"exit {status}, {ended - between:.0f} s, {os.cpu_count()} cores"),
        ("a second start while it ran", refusal.replace(f"{ROOT}/", "") or "not tried: it ended first"),
        *compare(locations.study_folder(name), locations.study_folder(f"{name}-slurm")),
    ]
    text = "# The study under Slurm\n\n" + __doc__.split("\n\n")[1].strip() + "\n\n| | |\n|---|---|\n"
    text += "".join(f"| {what} | {seen} |\n" for what, seen in rows)
    print(text)
    if given.out:
        given.out.write_text(text)
    counts = {what: seen.split(" of ") for what, seen in rows[5:]}
    equal = all(same == total for same, total in counts.values())
    scored = any(what.startswith("`scores`") and same != "0" for what, (same, _) in counts.items())
    return 0 if status == 0 and equal and scored and "is held by" in refusal else 1


if __name__ == "__main__":
    sys.exit(main())
