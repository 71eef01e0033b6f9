"""The merging methods as the paper's code defines them, where mergekit's own differ; registered with mergekit.

TIES keeps the largest share of the *whole model* by magnitude (mergekit: of each tensor). DARE rescales what it keeps
by 1 / density (mergekit: to the same L1 norm), and before TIES comes on top of its trimming (mergekit: instead of it).
SCE's weights are proportional to the mean squares however small (mergekit: uniform where they sum to less than 1e-6).
Average and Task Arithmetic are alike. A DARE mask depends on seed, expert and tensor alone, so the pass that finds
TIES's threshold and the merge see the same one.
"""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from mergekit.merge_methods.base import BasePolicy, InputContract, PerNonBase, TensorGroup
from mergekit.merge_methods.easy_define import merge_method
from mergekit.merge_methods.generalized_task_arithmetic import get_mask
from mergekit.merge_methods.registry import register
from mergekit.merge_methods.sce import sce_mask

CONTRACT = InputContract(base=BasePolicy.REQUIRED)
Tensors = Callable[[], Iterator[tuple[str, torch.Tensor]]]


def drop_and_rescale(delta: torch.Tensor, density: float, seed: int, expert: str, tensor: str) -> torch.Tensor:
    """DARE: each element kept with probability `density`, what is kept divided by it."""
    if density == 1:
        return delta
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {expert} {tensor}".encode()))
    return delta * (torch.rand(delta.shape, generator=generator) < density) / density


def largest(magnitudes: Tensors, share: float) -> float:
    """The magnitude that the largest `share` of all elements reach, exactly, without holding them together.

    `magnitudes()` gives (name, float32 tensor ≥ 0) and is read twice: the bits of a non-negative float32 sort as it
    does, so a histogram of its upper and one of its lower 16 bits find the element of rank k = ⌊share · elements⌋.
    """
    upper = torch.zeros(1 << 16, dtype=torch.long)
    for _, tensor in magnitudes():
        upper += torch.bincount(tensor.flatten().view(torch.int32) >> 16, minlength=1 << 16)
    rank = max(1, int(share * int(upper.sum())))
    above = upper.flip(0).cumsum(0)
    place = int((above >= rank).nonzero()[0])
    bucket, rest = (1 << 16) - 1 - place, rank - (int(above[place - 1]) if place else 0)
    lower = torch.zeros(1 << 16, dtype=torch.long)
    for _, tensor in magnitudes():
        bits = tensor.flatten().view(torch.int32)
        lower += torch.bincount(bits[bits >> 16 == bucket] & 0xFFFF, minlength=1 << 16)
    low = (1 << 16) - 1 - int((lower.flip(0).cumsum(0) >= rest).nonzero()[0])
    return float(torch.tensor([bucket << 16 | low], dtype=torch.int32).view(torch.float32))


def _deltas(group: TensorGroup, density: float, seed: int) -> torch.Tensor:
    """The task vectors of one tensor, after DARE: (experts, *shape)."""
    base = group.base.tensor
    return torch.stack(
        [
            drop_and_rescale(entry.tensor - base, density, seed, Path(entry.id.model.path).name, group.metadata.name)
            for entry in group.non_base
        ]
    )


@merge_method(name="m2rl_task_arithmetic", contract=CONTRACT)
def task_arithmetic(group: TensorGroup, scale: float, density: float, seed: int) -> torch.Tensor:
    """SFT + scale × the sum of the task vectors after DARE."""
    return group.base.tensor + scale * _deltas(group, density, seed).sum(0)


@merge_method(name="m2rl_ties", contract=CONTRACT)
def ties(group: TensorGroup, scale: float, density: float, seed: int, threshold: PerNonBase[float]) -> torch.Tensor:
    """TIES with a threshold for each expert (`largest`): trim, elect the sign of the sum, mean of those that agree."""
    deltas = _deltas(group, density, seed)
    for delta, entry in zip(deltas, group.non_base):
        delta *= delta.abs() >= threshold[entry.id]
    agree = get_mask(deltas)
    return group.base.tensor + scale * (deltas * agree).sum(0) / agree.sum(0).clamp(min=1)


@merge_method(name="m2rl_sce", contract=CONTRACT)
def sce(group: TensorGroup, select_topk: float) -> torch.Tensor:
    """SCE without the floor under its weights; experts that are all SFT in a tensor leave it as it is."""
    base = group.base.tensor
    deltas = torch.stack([entry.tensor - base for entry in group.non_base])
    deltas = deltas * sce_mask(deltas, select_topk)
    weights = deltas.square().flatten(1).mean(1)
    weights = (weights / weights.sum() if weights.sum() > 0 else weights).reshape(-1, *[1] * base.dim())
    agreed = weights * get_mask(deltas)
    total = agreed.sum(0)
    return base + (deltas * agreed).sum(0) / total.masked_fill(total == 0, 1)


for method in (task_arithmetic, ties, sce):
    register(method)
