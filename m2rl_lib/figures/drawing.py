"""A figure drawn from its csv, saved with png, pdf and the record of what drew it, and shown in a notebook."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pandas as pd
import PIL.Image

from m2rl_lib.figures.style import STYLE


def read_drawn(csv: str | Path) -> pd.DataFrame:
    """The frame of a saved figure, to the last digit; only an empty cell is missing ('null' is a model's name)."""
    return pd.read_csv(csv, keep_default_na=False, na_values=[""])


def draw(plot: Callable, csv: Path, folder: Path, title: str = "", **keywords) -> list[Path]:
    """Draw `plot` of the frame in a csv file, and write png (300 dpi) and pdf of the same name into `folder`; returns both."""
    figure = plot(read_drawn(csv), **keywords)
    if figure.legends and title:  # legends stand above all panels, where a title of the figure would lie on them
        figure.legends[0].set_title(title, {"weight": "bold", "size": STYLE["figure.titlesize"]})
    elif title:
        figure.suptitle(title)
    png, pdf = (folder / f"{csv.stem}{ending}" for ending in (".png", ".pdf"))
    with matplotlib.rc_context(STYLE):
        figure.savefig(png, dpi=300, metadata={"Software": None})
        figure.set_layout_engine("none")  # laid out already
        figure.savefig(pdf, metadata={"CreationDate": None, "Creator": None, "Producer": None})
    with PIL.Image.open(png) as drawn:  # 256 colours: a third of the size, in git and in every notebook
        drawn.convert("RGB").quantize(256, dither=PIL.Image.Dither.NONE).save(png, optimize=True, dpi=(300, 300))
    return [png, pdf]


def save(plot: Callable, frame: pd.DataFrame, folder: str | Path, name: str, title: str = "", **keywords) -> list[Path]:
    """Draw `plot(frame, **keywords)` and write `name`.png, .pdf, .csv (the frame) and .json (what drew it) into `folder`."""
    if not name or set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789_-@="):
        raise ValueError(f"figure name {name!r}: lower-case letters, digits and any of _-@= are allowed")
    if not getattr(plot, "__name__", "").startswith("plot_"):
        raise ValueError(f"figure {name} is drawn by a {type(plot).__name__}: give the plot_* function itself, and its frame")
    if frame.empty:
        raise ValueError(f"figure {name}: the frame it draws is empty")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-") as made:
        csv, record = Path(made) / f"{name}.csv", Path(made) / f"{name}.json"
        frame.to_csv(csv, index=False)
        record.write_text(json.dumps({"plot": f"{plot.__module__}.{plot.__name__}", "keywords": keywords, "title": title}) + "\n")
        paths = [*draw(plot, csv, Path(made), title, **keywords), csv, record]
        for path in paths:
            os.replace(path, folder / path.name)
    return [folder / path.name for path in paths]


def show(plot: Callable, frame: pd.DataFrame, folder: str | Path, name: str, title: str = "", **keywords):
    """Save the figure as `save` does, and return its png for a notebook to display."""
    from IPython.display import Image  # here: drawing alone needs no notebook

    png = save(plot, frame, folder, name, title, **keywords)[0]
    with PIL.Image.open(png) as drawn:
        return Image(data=png.read_bytes(), width=round(110 * drawn.width / 300))
