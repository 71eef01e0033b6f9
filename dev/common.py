"""What the benchmarks share: which model they use, at which settings, and on what machine they ran."""

from __future__ import annotations

import os
import platform
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

from m2rl_lib.config import locations, study
from m2rl_lib.storage import artifacts


def model_folder(given: Path | None) -> Path:
    """The SFT model given, or that of the default study, or that of the smoke study."""
    folders = [given] if given else [locations.model_folder(name, 0, "sft") for name in ("study", "smoke")]
    for folder in folders:
        if (folder / "config.json").is_file():
            return folder
    sys.exit(
        f"no model in {' or '.join(map(str, folders))}; run `make study PARAMS=params/smoke.yaml` first, or give --model FOLDER"
    )


def parameters(file: Path = locations.ROOT / "params" / "study.yaml") -> SimpleNamespace:
    """The parameters of a study, by default the default study's."""
    return SimpleNamespace(**study.load(file).model_dump())


def stamp() -> dict:
    """The machine, its load before the run, the commit, the libraries and the time."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", info.read_text() if info.is_file() else "")
    return {
        "machine": f"{platform.machine()}, {named[1] if named else 'processor not named'}, {os.cpu_count()} cores",
        "load_average": round(os.getloadavg()[0], 2),
        "commit": artifacts.commit(),
        "python": platform.python_version(),
        "versions": artifacts.versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def shown(value: object) -> str:
    """A cell: numbers to three digits."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def table(rows: list[dict]) -> list[str]:
    """Rows of equal keys as a Markdown table."""
    head = list(rows[0])
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return [*lines, *(f"| {' | '.join(shown(row[key]) for key in head)} |" for row in rows), ""]
