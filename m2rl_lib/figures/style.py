"""How every figure looks. Widths are a journal's: 3.4 inches for one column, 7 for grids that need two.

Series differ by marker, line and lightness before colour (Okabe–Ito), so that greyscale and colour blindness lose nothing. Fonts
are embedded as TrueType. What several figures draw is in `parts`.
"""

import matplotlib
import seaborn
from matplotlib.figure import Figure

COLUMN, WIDE = 3.4, 7.0  # inches
STYLE = seaborn.axes_style("whitegrid") | {"font.family": "DejaVu Sans", "pdf.fonttype": 42, "ps.fonttype": 42}
STYLE |= {"savefig.dpi": 300, "figure.dpi": 150, "figure.titleweight": "bold"}
STYLE |= dict.fromkeys(["font.size", "axes.labelsize", "axes.titlesize", "figure.titlesize", "figure.labelsize"], 7)
STYLE |= dict.fromkeys(["xtick.labelsize", "ytick.labelsize", "legend.fontsize"], 6.5)
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
MODES = {"outcome": ("o", ORANGE, False, "--"), "process": ("s", BLUE, True, "-")}  # of judging: marker, colour, filled, line
LINES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2))]


def make_canvas(width: float, height: float) -> Figure:
    """An empty figure in the one style, width and height in inches; not known to pyplot, so a notebook shows it once."""
    matplotlib.rcParams.update(STYLE)
    return Figure(figsize=(width, height), layout="constrained")
