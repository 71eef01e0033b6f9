"""RAM and RAM+ (arXiv 2601.13572) are mergekit's: what only one expert moves is kept whole, what several move is averaged."""

from pathlib import Path

import pandas as pd

from m2rl_lib.merging.task_vectors import pairs

MOVED = 1e-5  # mergekit's epsilon: a smaller difference from SFT counts as none


def movers(experts: list[Path], base: Path) -> pd.Series:
    """The share of all elements that 0, 1, … of the experts move; where nearly all experts move all of them, RAM is Average."""
    counts = {}
    for expert in experts:
        for name, start, end in pairs(base, expert):
            counts[name] = counts.get(name, 0) + ((end.float() - start.float()).abs() > MOVED).int().flatten()
    found = pd.concat([pd.Series(count.numpy()) for count in counts.values()])
    shares = found.value_counts(normalize=True).reindex(range(len(experts) + 1), fill_value=0.0)
    return shares.rename_axis("experts").rename("share")
