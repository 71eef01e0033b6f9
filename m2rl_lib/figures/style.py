"""How every figure looks: a journal's widths; series differ by marker, line and lightness before colour (Okabe–Ito)."""

import matplotlib
import seaborn
from matplotlib.figure import Figure

COLUMN, WIDE = 3.4, 7.0  # inches
STYLE = seaborn.axes_style("whitegrid") | {"font.family": "DejaVu Sans", "pdf.fonttype": 42, "ps.fonttype": 42}  # TrueType
STYLE |= {"savefig.dpi": 300, "figure.dpi": 150, "figure.titleweight": "bold"}
SIZES = ["font.size", "axes.labelsize", "axes.titlesize", "figure.titlesize", "figure.labelsize"]
STYLE |= dict.fromkeys([*SIZES, "xtick.labelsize", "ytick.labelsize", "legend.fontsize"], 7)  # points, as printed
STYLE |= {"axes.linewidth": 0.6, "grid.linewidth": 0.4, "hatch.linewidth": 0.5, "lines.linewidth": 1.1, "lines.markersize": 4}
STYLE |= {f"{axis}tick.major.{name}": size for axis in "xy" for name, size in (("pad", 1), ("size", 6), ("width", 1.25))}
STYLE |= {"axes.labelpad": 3}
BLACK, GREY, LIGHT = "#000000", "#777777", "#AAAAAA"
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
COLOURS = [BLACK, ORANGE, BLUE, GREEN, "#CC79A7", GREY]
FAMILIES = {  # marker, colour, filled, name in the legend
    "reference": ("o", GREY, False, "reference model"),
    "expert": ("s", BLUE, True, "expert (one domain)"),
    "mixed": ("D", BLACK, True, "mixed"),
    "merged": ("^", ORANGE, True, "merged"),
    "distilled": ("v", GREEN, False, "distilled"),
}
FILLED = {"outcome": False, "process": True}  # markers of the two modes of judging
LINES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2))]


def make_figure(width: float, height: float, *grid: int, **options) -> tuple:
    """An empty figure, in inches and unknown to pyplot, and its axes: an array where `grid` is rows and columns."""
    matplotlib.rcParams.update(STYLE)
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(*grid, squeeze=not grid, **options)


def make_panels(width: float, row: float, rest: float, count: int, across: int) -> tuple:
    """A figure, `row` inches per row and `rest` for the legend, and its `count` panels of shared axes, `across` in a row."""
    down = -(-count // across)
    figure, grid = make_figure(width, row * down + rest, down, min(across, count), sharex=True, sharey=True)
    for place in range(count, grid.size):
        grid.flat[place].set_axis_off()
        grid.flat[place - across].tick_params(labelbottom=True)
    return figure, list(grid.flat[:count])
