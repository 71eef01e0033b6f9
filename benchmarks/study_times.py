"""Where a study's time went: each stage's wall and CPU seconds and peak memory, the chain that decided its end, how busy the cores were;
then a run in which nothing changed, and what each notebook's imports cost.

    python benchmarks/study_times.py params/study.yaml

Prints JSON. Reads the records `runs/<study>/done/`; a chain goes back from the last stage to the stage that ended last before it began.
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

from m2rl_lib import study

SLACK = 15.0  # seconds between two stages of a chain: a kernel's start


def stages(name: str) -> list[dict]:
    """What each finished stage of a study, and of its second world, used; begun and ended in seconds since the first began."""
    files = [file for world in (name, f"{name}-apart") for file in (study.study_folder(world) / "done").glob("seed-*/*.json")]
    found = []
    for file in files:
        record = json.loads(file.read_text())
        if "spent" in record:
            ended = datetime.fromisoformat(record["finished"]).timestamp()
            place = "" if f"/{name}/" in str(file) else " (apart)"
            spent = record["spent"]
            found.append({"stage": record["name"] + place, "begun": ended - spent["wall_seconds"], "ended": ended, **spent})
    first = min((stage["begun"] for stage in found), default=0)
    return sorted(
        ({**s, "begun": s["begun"] - first, "ended": s["ended"] - first} for s in found), key=lambda stage: stage["ended"]
    )


def chain(found: list[dict]) -> list[str]:
    """The stages that decided the end, first to last."""
    path = [found[-1]]
    while before := [stage for stage in found if stage["ended"] <= path[0]["begun"] + 1 and stage["ended"] > 0]:
        if path[0]["begun"] - before[-1]["ended"] > SLACK:
            break
        path.insert(0, before[-1])
    return [stage["stage"] for stage in path]


def covered(found: list[dict]) -> float:
    """Seconds in which at least one stage ran."""
    total, reached = 0.0, 0.0
    for stage in sorted(found, key=lambda stage: stage["begun"]):
        total += max(0.0, stage["ended"] - max(reached, stage["begun"]))
        reached = max(reached, stage["ended"])
    return total


def no_op(params: Path, repeats: int) -> float:
    """Seconds of `make study` where all is done: the median. Exits where a stage would run."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        run = subprocess.run(["make", "study", f"PARAMS={params}"], cwd=study.ROOT, capture_output=True, text=True)
        seconds.append(time.perf_counter() - started)
        if run.returncode or "papermill" in run.stdout + run.stderr:
            sys.exit(f"make study PARAMS={params} is not a run in which nothing changes: {run.stderr[-300:]}")
    return statistics.median(seconds)


def imports(notebook: Path) -> str:
    """The import statements of a notebook's code, a line each."""
    cells = [cell.source for cell in nbformat.read(notebook, 4).cells if cell.cell_type == "code"]
    lines = [
        ast.unparse(node) for cell in cells for node in ast.parse(cell).body if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    return "\n".join(dict.fromkeys(lines))


def start_up(repeats: int) -> list[dict]:
    """Seconds of a fresh interpreter that runs a notebook's imports: the median; and whether a trainer came along."""
    found = []
    for notebook in sorted((study.ROOT / "notebooks").glob("*.ipynb")):
        code = imports(notebook) + "\nimport sys; print(int('trl' in sys.modules))"
        seconds, trainer = [], ""
        for _ in range(repeats):
            started = time.perf_counter()
            trainer = subprocess.run(
                [sys.executable, "-c", code], cwd=study.ROOT, capture_output=True, text=True, check=True
            ).stdout
            seconds.append(time.perf_counter() - started)
        found.append(
            {"notebook": notebook.stem, "seconds": statistics.median(seconds), "imports a trainer": trainer.strip() == "1"}
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("params", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    found = stages(study.load(arguments.params).study)
    if not found:
        sys.exit(f"no finished stage of {arguments.params}; run `make study PARAMS={arguments.params}` first")
    span = covered(found)
    result = {
        "stages": found,
        "minutes": span / 60,
        "cores": os.cpu_count(),
        "cores kept busy": sum(stage["cpu_seconds"] for stage in found) / span / os.cpu_count(),
        "peak memory of a process, GB": max(stage["peak_memory_bytes"] for stage in found) / 1e9,
        "chain": chain(found),
        "nothing changed, seconds": no_op(arguments.params, arguments.repeats),
        "start-up": start_up(arguments.repeats),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
