"""Task Arithmetic, TIES, DARE and SCE, a block of a tensor at a time, as methods of mergekit, in two definitions.

mergekit's own hold all task vectors of a tensor in float32 several times over and sort whole tensors. Here a task vector
is read in blocks, as often as needed; beside the (mapped) checkpoints only the result is whole. The numbers are mergekit's
to the last bit; of equal magnitudes at TIES's threshold the first are kept (mergekit's sort picks any). The paper's code
differs: TIES keeps the largest share of the *whole model* (mergekit: of each tensor). DARE rescales what it keeps by
1 / density (mergekit: to the same L1 norm), and before TIES comes on top of its trimming (mergekit: instead of it). SCE's
weights follow the mean squares however small (mergekit: uniform where they sum to less than 1e-6). The paper's DARE mask
depends on seed, expert and tensor alone, so the pass that finds TIES's threshold and the merge see the same one.
"""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from mergekit.merge_methods.base import BasePolicy, InputContract, PerNonBase, TensorGroup
from mergekit.merge_methods.easy_define import merge_method
from mergekit.merge_methods.generalized_task_arithmetic import get_mask
from mergekit.merge_methods.registry import register

BLOCK = 1 << 18  # elements: 1 MB of float32; of a multiple of 64 torch's sum over experts rounds as over the whole tensor
SCE_FLOOR = 1e-6  # mergekit's: SCE's weights are uniform where the experts' mean squares sum to less
CONTRACT = InputContract(base=BasePolicy.REQUIRED)
Blocks = Callable[[], Iterator[torch.Tensor]]  # a tensor's elements in order, in float32; each call reads them anew


def task_vector(base: torch.Tensor, tensor: torch.Tensor) -> Blocks:
    """`tensor` - `base`, both cast to float32 first."""

    def read() -> Iterator[torch.Tensor]:
        for start, end in zip(base.flatten().split(BLOCK), tensor.flatten().split(BLOCK)):
            yield end.float() - start.float()

    return read


def whole(blocks: Iterator[torch.Tensor], shape: torch.Size) -> torch.Tensor:
    """The float32 tensor of that shape that the blocks make up."""
    made = torch.empty(shape)
    for place, block in zip(made.flatten().split(BLOCK), blocks):
        place.copy_(block)
    return made


def largest(magnitudes: Blocks, share: float) -> tuple[float, int]:
    """The magnitude that the largest `share` of all elements reach, exactly, and how many of just that size are among them.

    `largest` of [3, 1, 2, 2, 2] and 0.6 is (2.0, 2). The blocks, float32 ≥ 0, are read twice: the bits of a non-negative
    float32 sort as it does, so a histogram of its upper and one of its lower 16 bits find the element of rank
    k = max(1, ⌊share · elements⌋).
    """
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
    """TIES: what is smaller than `threshold` set to 0, and of what equals it all but the first `equal` (None: nothing)."""

    def read() -> Iterator[torch.Tensor]:
        left = equal
        for block in blocks():
            size = block.abs()
            kept = size > threshold if left == 0 else size >= threshold
            if left:
                tied = size == threshold
                found = int(tied.count_nonzero())
                if found > left:
                    kept &= ~tied | (tied.cumsum(0) <= left)
                left = max(0, left - found)
            yield block * kept

    return read


def drop(blocks: Blocks, density: float, generator: torch.Generator, rescale: Callable[[torch.Tensor], torch.Tensor]) -> Blocks:
    """DARE: each element kept with probability `density`, drawn from `generator` as it is now, and rescaled."""
    state = generator.get_state()

    def read() -> Iterator[torch.Tensor]:
        generator.set_state(state)
        for block in blocks():
            yield rescale(block * (torch.rand(block.shape, generator=generator) < density))

    return read


def dare(base: torch.Tensor, tensor: torch.Tensor, density: float, seed: int, expert: str, name: str) -> Blocks:
    """A task vector after the paper's DARE: masks from the seed and both names, what is kept divided by `density`."""
    delta = task_vector(base, tensor)
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {expert} {name}".encode()))
    return delta if density == 1 else drop(delta, density, generator, lambda kept: kept / density)


def mergekits_dare(base: torch.Tensor, tensor: torch.Tensor, density: float) -> Blocks:
    """A task vector after mergekit's DARE: masks from torch's global generator, what is kept rescaled to the L1 norm."""
    delta = task_vector(base, tensor)
    if density == 1:
        return delta
    generator = torch.Generator()
    generator.set_state(torch.get_rng_state())
    before = whole(delta(), base.shape).abs_().sum()
    after = whole(drop(delta, density, torch.default_generator, torch.abs)(), base.shape).sum()  # the next masks go on from here
    factor = 1.0 if min(before, after) < 1e-7 else before / after
    return drop(delta, density, generator, lambda kept: kept * factor)


def _task_vectors(group: TensorGroup, density: float, seed: int, paper: bool) -> list[Blocks]:
    """Each expert's task vector of one tensor, after DARE."""
    base, name = group.base.tensor, group.metadata.name
    if paper:
        return [dare(base, e.tensor, density, seed, Path(e.id.model.path).name, name) for e in group.non_base]
    return [mergekits_dare(base, e.tensor, density) for e in group.non_base]


def _add(group: TensorGroup, deltas: list[Blocks], combine: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """SFT + `combine` of the task vectors' blocks, stacked (experts, elements), in float32."""
    starts = group.base.tensor.flatten().split(BLOCK)
    blocks = zip(starts, zip(*(read() for read in deltas)))
    return whole((start.float() + combine(torch.stack(each)) for start, each in blocks), group.base.tensor.shape)


@merge_method(name="m2rl_task_arithmetic", contract=CONTRACT)
def task_arithmetic(group: TensorGroup, scale: float, density: float, seed: int, paper: bool) -> torch.Tensor:
    """SFT + scale × the sum of the task vectors after DARE."""
    return _add(group, _task_vectors(group, density, seed, paper), lambda deltas: scale * deltas.sum(0))


@merge_method(name="m2rl_ties", contract=CONTRACT)
def ties(
    group: TensorGroup, scale: float, density: float, seed: int, paper: bool, share: float, threshold: PerNonBase[float]
) -> torch.Tensor:
    """DARE, trim, elect the sign of the sum; SFT + scale × the mean of those that agree.

    Trimming: the paper's to each expert's `threshold`, mergekit's to the largest `share` of the tensor.
    """
    deltas = _task_vectors(group, density, seed, paper)
    if paper:
        deltas = [trim(delta, threshold[entry.id]) for delta, entry in zip(deltas, group.non_base)]
    elif share < 1:
        deltas = [trim(delta, *largest(lambda d=delta: (block.abs() for block in d()), share)) for delta in deltas]

    def elect(blocks: torch.Tensor) -> torch.Tensor:
        agree = get_mask(blocks).float()
        return scale * ((blocks * agree).sum(0) / agree.sum(0).clamp(min=1))

    return _add(group, deltas, elect)


@merge_method(name="m2rl_sce", contract=CONTRACT)
def sce(group: TensorGroup, select_topk: float, paper: bool) -> torch.Tensor:
    """Select by variance, weight by mean squares, elect the sign; experts that are all SFT in a tensor leave it as it is."""
    shape = group.base.tensor.shape
    deltas = [task_vector(group.base.tensor, entry.tensor) for entry in group.non_base]
    if select_topk < 1:
        variance = whole((torch.stack(each).var(0, correction=0) for each in zip(*(d() for d in deltas))), shape).flatten()
        count = int(variance.count_nonzero() * select_topk)
        selected = torch.zeros(variance.numel(), dtype=torch.bool)
        selected[variance.topk(count).indices] = True
        deltas = [lambda d=d: (block * chosen for block, chosen in zip(d(), selected.split(BLOCK))) for d in deltas]
    weights = torch.stack([whole(delta(), shape).square_().mean() for delta in deltas])
    total, floor = weights.sum().item(), 0.0 if paper else SCE_FLOOR
    weights = weights / total if total > 0 and total >= floor else torch.ones_like(weights) / len(weights)

    def elect(blocks: torch.Tensor) -> torch.Tensor:
        agreed = weights[:, None] * get_mask(blocks)
        of = agreed.sum(0)
        return (blocks * agreed).sum(0) / (of.masked_fill(of == 0, 1) if paper else of.clamp(min=SCE_FLOOR))

    return _add(group, deltas, elect)


for method in (task_arithmetic, ties, sce):
    register(method)
