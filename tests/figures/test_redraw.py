"""Every committed figure is whole, can be read by everyone, and comes out of its csv again as the same picture, without torch."""

import itertools
import json
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd
import PIL.Image
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgb
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from test_figures import check_readable

from m2rl_lib.config.locations import ROOT
from m2rl_lib.figures import drawing, redraw, style, training_curves

FOLDERS = [ROOT / "figures" / "published", ROOT / "figures" / "study"]
TABLES = [csv for folder in FOLDERS for csv in sorted(folder.glob("*.csv"))]
DIFFERS, SHARE = 32, 1e-4  # the same picture: at most one pixel in 10,000 differs by more than 32 of 255 grey levels
CROWDED = {"paper_merging", "weights_by_part", "weights_cosines_by_part"}  # two names touch; a name of one letter
LIGHTER = 15  # of 100: how far apart the lightness (L* of CIELAB) of two series must be that nothing else tells apart


def lightness(colour) -> float:
    """L* of CIELAB: 0 black, 100 white."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    y = float(np.dot(linear, [0.2126, 0.7152, 0.0722]))
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_drawing_again_from_csv_gives_the_committed_pictures(folder, tmp_path):
    names = [sorted(path.stem for path in folder.glob(f"*{ending}")) for ending in (".csv", ".png", ".pdf", ".json")]
    assert names[0] and names == names[:1] * 4
    tables = [csv for csv in TABLES if csv.parent == folder]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        again = list(pool.map(redraw.redraw, tables, itertools.repeat(tmp_path)))
    for csv, png in zip(tables, again, strict=True):
        with PIL.Image.open(csv.with_suffix(".png")) as old, PIL.Image.open(png) as new:
            assert old.size == new.size, f"{csv.name}: {new.size} pixels, committed {old.size}"
            difference = np.abs(np.asarray(old.convert("L"), int) - np.asarray(new.convert("L"), int))
        assert (difference > DIFFERS).mean() <= SHARE, f"{csv.name} is another picture than its committed png"
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".pdf"}


def test_the_pixel_test_sees_one_marker_moved():
    frame = pd.DataFrame({"step": [0, 1, 2], "loss": [3.0, 2.0, 1.0]})
    pixels = []
    for loss in (2.0, 2.1):
        canvas = FigureCanvasAgg(training_curves.plot_loss(frame.assign(loss=[3.0, loss, 1.0])))
        canvas.draw()
        pixels.append(np.asarray(canvas.buffer_rgba())[..., :3].mean(axis=2))
    assert (np.abs(pixels[0] - pixels[1]) > DIFFERS).mean() > SHARE


@pytest.mark.parametrize("csv", TABLES, ids=lambda csv: f"{csv.parent.name}/{csv.stem}")
def test_fonts_are_embedded_and_the_width_is_one_or_two_columns(csv):
    pdf = csv.with_suffix(".pdf").read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf and len(pdf) < 150_000
    with PIL.Image.open(csv.with_suffix(".png")) as png:
        assert png.width in (300 * style.COLUMN, 300 * style.WIDE)
        assert round(png.info["dpi"][0]) == 300
    assert csv.with_suffix(".png").stat().st_size < 500_000


def look(handle) -> tuple:
    """What tells a series apart without colour: shape, line, fill, hatching."""
    if isinstance(handle, Line2D):
        hollow = to_rgb(handle.get_markerfacecolor()) == (1, 1, 1)
        return handle.get_marker(), hollow, str(handle.get_linestyle()), handle._dash_pattern, round(handle.get_linewidth(), 1)
    return handle.get_hatch(), handle.get_fill(), handle._dash_pattern


def shade(handle) -> float:
    return lightness(handle.get_color() if isinstance(handle, Line2D) else handle.get_facecolor()[:3])


@pytest.mark.parametrize("csv", TABLES, ids=lambda csv: f"{csv.parent.name}/{csv.stem}")
def test_texts_can_be_read_and_series_and_cells_differ_without_colour(csv):
    record = json.loads(csv.with_suffix(".json").read_text())
    figure = redraw.find_plot(record["plot"], csv)(drawing.read_drawn(csv), **record["keywords"])
    if csv.stem not in CROWDED:
        check_readable(figure)
    for legend in figure.findobj(Legend):
        for one, other in itertools.combinations(legend.legend_handles, 2):
            differ = look(one) != look(other) or abs(shade(one) - shade(other)) >= LIGHTER
            assert differ, f"{one.get_label()!r} and {other.get_label()!r} differ by colour alone"
    for axes in figure.axes:
        for mesh in axes.collections:
            if isinstance(mesh, QuadMesh) and axes.get_label() != "<colorbar>":
                one_way = np.diff([lightness(colour) for colour in mesh.cmap(np.linspace(0, 1, 32))])
                cells = np.isfinite(np.ma.filled(mesh.get_array().astype(float), np.nan)).sum()
                assert (one_way < 0).all() or (one_way > 0).all() or len(axes.texts) >= cells


def test_a_folder_of_csv_and_records_is_enough_and_torch_is_never_imported(tmp_path):
    """In a copy with no picture, where importing torch, or what needs it, is an error."""
    folder, broken = tmp_path / "published", tmp_path / "broken"
    folder.mkdir()
    broken.mkdir()
    for name in ("torch", "transformers", "trl", "mergekit"):
        (broken / f"{name}.py").write_text(f"raise RuntimeError('{name} was imported')\n")
    for csv in TABLES[:2]:
        for path in (csv, csv.with_suffix(".json")):
            (folder / path.name).write_bytes(path.read_bytes())
    where = os.pathsep.join([str(broken), str(ROOT)])
    command = [sys.executable, "-m", "m2rl_lib.figures.redraw", str(folder)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": where}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{folder}: 2 figures" in done.stdout and "torch not imported" in done.stdout
    assert {path.suffix for path in folder.iterdir()} == {".csv", ".json", ".pdf", ".png"}


@pytest.mark.parametrize(
    ("plot", "message"),
    [
        (None, "loss.csv has no loss.json beside it"),
        ("os.system", "is drawn by 'os.system': only a plot_"),
        ("m2rl_lib.figures.style.plot_poetry", "this version has no such function"),
        ("m2rl_lib.figures.training_curves.plot_loss", "loss.csv: training loss lacks step, loss: it has model, domain"),
        ("m2rl_lib.figures.rq1_mix_or_merge.plot_overall", "loss.csv: unknown model 'mtopd': allowed are base"),
    ],
)
def test_what_cannot_be_redrawn_is_refused_in_one_line(tmp_path, plot, message):
    csv = tmp_path / "loss.csv"
    pd.DataFrame({"model": ["mtopd"], "domain": ["overall"], "score": [50.0]}).to_csv(csv, index=False)
    if plot:
        csv.with_suffix(".json").write_text(json.dumps({"plot": plot, "keywords": {}, "title": ""}))
    with pytest.raises(ValueError, match=message) as refused:
        redraw.redraw(csv)
    assert "\n" not in str(refused.value) and not list(tmp_path.glob("*.p*"))


def test_a_model_called_null_is_read_again(tmp_path):
    frame = pd.DataFrame({"step": [1, 2], "loss": [0.1 + 0.2, 1 / 3], "added": ["null", None]})
    frame.to_csv(tmp_path / "loss.csv", index=False)
    again = drawing.read_drawn(tmp_path / "loss.csv")
    assert list(again["added"].fillna("missing")) == ["null", "missing"] and (again["loss"] == frame["loss"]).all()
