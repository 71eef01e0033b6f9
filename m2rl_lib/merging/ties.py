"""TIES: trim each task vector, elect a sign for each element, average those that agree; with or without DARE.

mergekit trims each tensor (the first of equals stay) or has DARE instead; the paper's code trims the whole model, after DARE.
"""

from collections.abc import Iterator

import torch
from mergekit.merge_methods.base import PerNonBase, TensorGroup
from mergekit.merge_methods.easy_define import merge_method
from mergekit.merge_methods.generalized_task_arithmetic import get_mask
from mergekit.merge_methods.registry import register

from m2rl_lib.merging.task_arithmetic import task_vectors_after_dare
from m2rl_lib.merging.task_vectors import CONTRACT, Blocks, add


def largest(magnitudes: Blocks, share: float) -> tuple[float, int]:
    """The magnitude that the largest `share` of all elements reach, and how many of just that size are among them."""
    # exact: the bits of a float32 ≥ 0 sort as it does, so histograms of its upper and lower 16 bits find an element by its rank
    upper = torch.zeros(1 << 16, dtype=torch.long)
    for block in magnitudes():
        upper += torch.bincount(block.flatten().view(torch.int32) >> 16, minlength=1 << 16)
    bucket, rest = _from_the_top(upper, max(1, int(share * int(upper.sum()))))
    lower = torch.zeros(1 << 16, dtype=torch.long)
    for block in magnitudes():
        bits = block.flatten().view(torch.int32)
        lower += torch.bincount(bits[bits >> 16 == bucket] & 0xFFFF, minlength=1 << 16)
    low, rest = _from_the_top(lower, rest)
    return float(torch.tensor([bucket << 16 | low], dtype=torch.int32).view(torch.float32)), rest


def _from_the_top(histogram: torch.Tensor, rank: int) -> tuple[int, int]:
    """The bin of the element of that rank (1: the largest), and its rank within the bin."""
    above = histogram.flip(0).cumsum(0)
    place = int((above >= rank).nonzero()[0])
    return len(histogram) - 1 - place, rank - (int(above[place - 1]) if place else 0)


def trim(blocks: Blocks, threshold: float, equal: int | None = None) -> Blocks:
    """What is smaller than `threshold` set to 0, and of what equals it all but the first `equal` (None: nothing)."""

    def read() -> Iterator[torch.Tensor]:
        left = equal
        for block in blocks():
            size = block.abs()
            kept = size >= threshold
            if left is not None:
                tied = size == threshold
                kept &= ~tied | (tied.cumsum(0) <= left)
                left -= min(left, int(tied.count_nonzero()))
            yield block * kept

    return read


@merge_method(name="m2rl_ties", contract=CONTRACT)
def ties(
    group: TensorGroup, scale: float, density: float, seed: int, paper: bool, share: float, threshold: PerNonBase[float]
) -> torch.Tensor:
    """SFT + scale × the mean of what agrees with the sum's sign, after DARE and trimming to `threshold` (paper) or `share`."""
    deltas = task_vectors_after_dare(group, density, seed, paper)
    if paper:
        deltas = [trim(delta, threshold[entry.id]) for delta, entry in zip(deltas, group.non_base)]
    elif share < 1:
        deltas = [trim(delta, *largest(lambda d=delta: (block.abs() for block in d()), share)) for delta in deltas]

    def elect(blocks: torch.Tensor) -> torch.Tensor:
        agree = get_mask(blocks).float()
        return scale * ((blocks * agree).sum(0) / agree.sum(0).clamp(min=1))

    return add(group, deltas, elect)


register(ties)
