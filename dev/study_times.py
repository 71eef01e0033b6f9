"""Where a study's time went: each stage's wall and CPU seconds and peak memory (medians over seeds), the chain that decided its end, how busy
the cores were; then a run in which nothing changed, and what each notebook's imports cost.

    python dev/study_times.py params/study.yaml

Prints JSON. Reads the records `runs/<study>/done/seed-*/`, whose seconds are those of a stage's own process; a chain goes back from the last
stage to the stage that ended last before it began.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import statistics
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import nbformat
import pandas as pd

from m2rl_lib.config import locations, schedule, study

SLACK = 15.0  # seconds between two stages of a chain: a kernel's start
ONCE = {*schedule.READS, "data", "released", "paper", "claims"}  # run once for all seeds, in the folder of the study's own


def done_files(name: str) -> list[Path]:
    """The records of the finished stages of a study and of its other worlds, whose SFT is the study's own."""
    folders = [locations.study_folder(world) / "done" for world in (name, *(f"{name}-{world}" for world in schedule.WITHOUT))]
    files = [file for folder in folders for file in sorted(folder.glob("seed-*/*.json"))]
    return [file for file in files if file.parts[-4] == name or file.stem != "sft"]


def stages(name: str) -> list[dict]:
    """What each finished stage of a study, and of its other worlds, used, by the order of their ends.

    Keys: stage, seed (None for what runs once for all seeds), begun and ended in seconds since the first began, and the record's `spent`.
    """
    found = []
    for file in done_files(name):
        record = json.loads(file.read_text())
        world = file.parts[-4].removeprefix(name).replace("-", " in ", 1)
        if "spent" in record:
            ended = datetime.fromisoformat(record["finished"]).timestamp()
            seed = None if record["name"] in ONCE else int(file.parent.name.removeprefix("seed-"))
            begun = ended - record["spent"]["wall_seconds"]
            found.append({"stage": record["name"] + world, "seed": seed, "begun": begun, "ended": ended, **record["spent"]})
    first = min((stage["begun"] for stage in found), default=0)
    since = [{**stage, "begun": stage["begun"] - first, "ended": stage["ended"] - first} for stage in found]
    return sorted(since, key=lambda stage: stage["ended"])


def chain(found: list[dict]) -> list[str]:
    """The stages that decided the end, first to last; with their seed where there are several."""
    path = [found[-1]]
    while before := [stage for stage in found if stage["ended"] <= path[0]["begun"] + 1 and stage["ended"] > 0]:
        if path[0]["begun"] - before[-1]["ended"] > SLACK:
            break
        path.insert(0, before[-1])
    several = len(seeds(found)) > 1
    return [stage["stage"] + (f" [{stage['seed']}]" if several and stage["seed"] is not None else "") for stage in path]


def seeds(found: list[dict]) -> list[int]:
    """The seeds that the stages are of."""
    return sorted({stage["seed"] for stage in found} - {None})


def covered(found: list[dict]) -> float:
    """Seconds in which at least one stage ran."""
    total, reached = 0.0, 0.0
    for stage in sorted(found, key=lambda stage: stage["begun"]):
        total += max(0.0, stage["ended"] - max(reached, stage["begun"]))
        reached = max(reached, stage["ended"])
    return total


def stage_table(found: list[dict]) -> list[dict]:
    """One row per stage, in the order in which they first ended: medians of wall and CPU seconds over seeds, and the largest peak."""
    grouped = pd.DataFrame(found).groupby("stage", sort=False)
    rows = grouped.agg(
        seeds=("stage", "size"),
        **{"wall, s": ("wall_seconds", "median"), "CPU, s": ("cpu_seconds", "median"), "peak, GB": ("peak_memory_bytes", "max")},
    )
    return rows.assign(**{"peak, GB": rows["peak, GB"] / 1e9}).reset_index().to_dict("records")


def part_table(found: list[dict], cores: int) -> list[dict]:
    """One row per seed, one for what runs once for all seeds and one in all.

    Minutes in which one of its stages ran, CPU minutes, and both as the share of the cores that its own stages kept busy. Seeds overlap where one
    begins while the other ends, so minutes add up to more than those in all, and a seed's share is less.
    """
    parts = {f"seed {seed}": [stage for stage in found if stage["seed"] == seed] for seed in seeds(found)}
    parts |= {"once for all seeds": [stage for stage in found if stage["seed"] is None], "in all": found}
    rows = []
    for part, own in parts.items():
        if own:
            span, used = covered(own), sum(stage["cpu_seconds"] for stage in own)
            busy = 100 * used / span / cores
            rows.append({"part": part, "stages": len(own), "minutes": span / 60, "CPU minutes": used / 60, "cores busy, %": busy})
    return rows


def say(times: dict) -> str:
    """The sentence of the README that says how long the study takes; `make bench` prints it into RESULTS.md."""
    *parts, whole = times["parts"]
    several, took = [part["minutes"] for part in parts if part["part"].startswith("seed")], "`make study` took"
    if len(several) > 1:
        took = f"seeds took {min(several):.0f} to {max(several):.0f} minutes each and all of it"
    return (
        f"On {times['cores']} cores {took} {whole['minutes']:.0f} minutes, the cores busy {whole['cores busy, %']:.0f}% of them, "
        f"and no process had more than {times['peak memory of a process, GB']:.1f} GB."
    )


def no_op(params: Path, repeats: int) -> float:
    """Seconds of `make study` where all is done: the median. Exits where a stage ran."""
    name, seconds = study.load(params).study, []
    before = {file: file.stat().st_mtime_ns for file in done_files(name)}
    for _ in range(repeats):
        started = time.perf_counter()
        run = subprocess.run(["make", "study", f"PARAMS={params}"], cwd=locations.ROOT, capture_output=True, text=True)
        seconds.append(time.perf_counter() - started)
        if run.returncode:
            sys.exit(f"make study PARAMS={params} failed: {(run.stderr.strip() or 'no message').splitlines()[-1]}")
        if ran := [file.stem for file in done_files(name) if file.stat().st_mtime_ns != before.get(file)]:
            sys.exit(f"make study PARAMS={params} was not done yet: it ran {', '.join(ran)}; start this again")
    return statistics.median(seconds)


def imports(notebook: Path) -> str:
    """The import statements of a notebook's code, a line each."""
    cells = [cell.source for cell in nbformat.read(notebook, 4).cells if cell.cell_type == "code"]
    nodes = [node for cell in cells for node in ast.parse(cell).body if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(dict.fromkeys(map(ast.unparse, nodes)))


def start_up(repeats: int) -> list[dict]:
    """Seconds of a fresh interpreter that runs a notebook's imports, and whether a trainer came along.

    The median of `repeats` runs; of one run where a trainer came along, which takes long and is no analysis.
    """
    found = []
    for notebook in sorted((locations.ROOT / "notebooks").glob("*.ipynb")):
        code = imports(notebook) + "\nimport sys; print(int('trl' in sys.modules))"
        seconds, trainer = [], False
        while len(seconds) < (1 if trainer else repeats):
            started = time.perf_counter()
            ran = subprocess.run([sys.executable, "-c", code], cwd=locations.ROOT, capture_output=True, text=True, check=True)
            seconds.append(time.perf_counter() - started)
            trainer = ran.stdout.strip() == "1"
        runs = {"runs": len(seconds), "imports a trainer": trainer}
        found.append({"notebook": notebook.stem, "seconds": statistics.median(seconds)} | runs)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("params", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    found = stages(study.load(arguments.params).study)
    if not found:
        sys.exit(f"no finished stage of {arguments.params}; run `make study PARAMS={arguments.params}` first")
    result = {
        "records": found,
        "stages": stage_table(found),
        "parts": part_table(found, os.cpu_count()),
        "cores": os.cpu_count(),
        "peak memory of a process, GB": max(stage["peak_memory_bytes"] for stage in found) / 1e9,
        "chain": chain(found),
        "nothing changed, seconds": no_op(arguments.params, arguments.repeats),
        "start-up": start_up(arguments.repeats),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
