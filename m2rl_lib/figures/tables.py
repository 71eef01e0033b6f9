"""Tables as a reader of a notebook sees them: plain names, units, few rows; long ones folded under their title."""

import pandas as pd
from IPython.display import HTML

from m2rl_lib.stats import comparisons

ROWS = 12  # shown without a fold
MODELS = ("model", "reference", "start", "end", "judge", "method", "source")  # columns whose values name models
DOMAINS = ("domain", "over", "benchmark", "first", "second")


def show(frame: pd.DataFrame, decimals: int = 1, columns: dict[str, str] | None = None, folded: str | None = None) -> HTML:
    """`frame` for a notebook's reader. `columns`: those shown, in order, by the name that each gets (default: all, as they are);
    numbers have `decimals` digits; models and domains their display names. A table of more than `ROWS` rows, or with a title in
    `folded`, opens by a click. KeyError names a column that the frame lacks."""
    shown = frame.reset_index() if any(frame.index.names) else frame
    if columns and (lacking := [name for name in columns if name not in shown]):
        raise KeyError(f"no column {', '.join(lacking)}: the table has {', '.join(map(str, shown.columns))}")
    shown = shown[list(columns or shown.columns)].rename_axis(columns=None)  # the name of a pivot's columns is no column
    for name in shown.columns:
        read = comparisons.display_name if name in MODELS else comparisons.display_domain if name in DOMAINS else None
        if read:
            shown[name] = [_readable(value, read) for value in shown[name]]
    how = {"index": False, "border": 0, "na_rep": "–", "float_format": f"{{:,.{decimals}f}}".format}
    table = shown.rename(columns=columns or {}).to_html(**how)
    if folded or len(shown) > ROWS:
        table = f"<details><summary>{folded or 'The table'} ({len(shown)} rows)</summary>{table}</details>"
    return HTML(f'<div class="table">{table}</div>')


def _readable(value, read) -> str:
    try:
        return read(value)
    except (ValueError, AttributeError):  # a name of something else, such as a paradigm's
        return value
