"""Tables as a reader of a notebook sees them: plain names, units, few rows; long ones folded under their title."""

import pandas as pd
from IPython.display import HTML

from m2rl_lib.stats import comparisons

ROWS = 12  # shown without a fold
MODELS = ("model", "reference", "start", "end", "judge", "method", "source")  # columns whose values name models
P_VALUES = ("p", "p_adjusted")
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
        elif name in P_VALUES:
            shown[name] = ["–" if pd.isna(p) else "< 0.001" if p < 0.001 else f"{p:.3f}" for p in shown[name]]
        elif pd.api.types.is_integer_dtype(shown[name]):
            shown[name] = ["–" if pd.isna(count) else f"{count:,}" for count in shown[name]]
    how = {"index": False, "border": 0, "na_rep": "–", "float_format": f"{{:,.{decimals}f}}".format}
    table = shown.rename(columns=columns or {}).to_html(**how)
    if folded or len(shown) > ROWS:
        table = f"<details><summary>{folded or 'The table'} ({len(shown)} rows)</summary>{table}</details>"
    return HTML(f'<div class="table">{table}</div>')


def show_costs(costs: pd.DataFrame) -> HTML:
    """Rows of the `costs` table: time in minutes, memory in GB."""
    units = {"minutes": costs["wall_seconds"] / 60, "memory, GB": costs["peak_memory_bytes"] / 1e9}
    names = {"model": "run", "stage": "stage", "minutes": "minutes", "prompts": "prompts"}
    names |= {"generated_tokens": "tokens generated", "trained_tokens": "tokens trained on", "memory, GB": "memory, GB"}
    return show(costs.assign(**units), 1, names)


def show_log(log: pd.DataFrame) -> HTML:
    """About ten rows of TRL's log of an RL run, the last among them."""
    names = {"step": "step", "reward": "reward", "reward_std": "sd of rewards", "frac_reward_zero_std": "groups of equal rewards"}
    names |= {"entropy": "entropy, nats", "completions/mean_length": "length, tokens"}
    names |= {"completions/clipped_ratio": "share cut off", "grad_norm": "gradient norm"}
    kept = sorted({*range(0, len(log), max(1, len(log) // 10)), len(log) - 1})
    return show(log.iloc[kept], 2, names, folded="TRL's log")


def _readable(value, read) -> str:
    try:
        return read(value)
    except (ValueError, AttributeError):  # a name of something else, such as a paradigm's
        return value
