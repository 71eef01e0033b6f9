"""`make figures`, or `python -m m2rl_lib.figures.redraw [FOLDER ...]`: saved figures drawn again from csv and json alone."""

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from m2rl_lib.config.locations import ROOT
from m2rl_lib.figures import drawing


def find_plot(name: str, where: Path):
    """The function that a record names: 'm2rl_lib.figures.training_curves.plot_loss'. ValueError for anything else."""
    module, _, function = name.rpartition(".")
    if not module.startswith("m2rl_lib.figures.") or not function.startswith("plot_"):
        raise ValueError(f"{where} is drawn by {name!r}: only a plot_* of m2rl_lib.figures is allowed")
    try:
        return getattr(importlib.import_module(module), function)
    except (ModuleNotFoundError, AttributeError):
        raise ValueError(f"{where} is drawn by {name!r}: this version has no such function") from None


def redraw(csv: Path, folder: Path | None = None) -> Path:
    """Draw png and pdf of one saved figure again, into `folder` (default: where it is), both or none; returns the png."""
    record, folder = csv.with_suffix(".json"), folder or csv.parent
    if not record.is_file():
        raise ValueError(f"{csv} has no {record.name} beside it, which would say what drew it; its notebook makes both")
    drawn = json.loads(record.read_text())
    plot = find_plot(drawn["plot"], csv)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{csv.stem}-") as made:
        try:
            pictures = drawing.draw(plot, csv, Path(made), drawn["title"], **drawn["keywords"])
        except ValueError as error:
            raise ValueError(f"{csv}: {error}") from None
        for path in pictures:
            os.replace(path, folder / path.name)
    return folder / f"{csv.stem}.png"


def main() -> None:
    """Redraw every figure of the folders given, or of all folders of figures/, on all cores."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="default: every folder of figures/")
    folders = parser.parse_args().folders or sorted(path for path in (ROOT / "figures").iterdir() if path.is_dir())
    tables = [csv for folder in folders for csv in sorted(folder.glob("*.csv"))]
    if not tables:
        sys.exit(f"no csv of a figure in {', '.join(map(str, folders))}")
    started, workers = time.monotonic(), len(os.sched_getaffinity(0))
    try:
        with ProcessPoolExecutor(min(workers, len(tables))) as pool:
            drawn = list(pool.map(redraw, tables))
    except ValueError as error:
        sys.exit(f"{error}")
    for folder in folders:
        print(f"{folder}: {sum(png.parent == folder for png in drawn)} figures")
    print(f"redrawn in {time.monotonic() - started:.0f} s, torch {'was' if 'torch' in sys.modules else 'not'} imported")


if __name__ == "__main__":
    main()
