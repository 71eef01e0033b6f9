"""Task arithmetic, SFT + λ × the sum of the task vectors, and DARE (of TIES too): elements dropped at random, the rest rescaled."""

import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from mergekit.merge_methods.base import TensorGroup
from mergekit.merge_methods.easy_define import merge_method
from mergekit.merge_methods.registry import register

from m2rl_lib.merging.task_vectors import CONTRACT, Blocks, add, task_vector, whole


def drop(blocks: Blocks, density: float, generator: torch.Generator, rescale: Callable[[torch.Tensor], torch.Tensor]) -> Blocks:
    """Each element kept with probability `density`, drawn from `generator` as it is now, and rescaled."""
    state = generator.get_state()

    def read():
        generator.set_state(state)
        for block in blocks():
            yield rescale(block * (torch.rand(block.shape, generator=generator) < density))

    return read


def papers_dare(base: torch.Tensor, tensor: torch.Tensor, density: float, seed: int, expert: str, name: str) -> Blocks:
    """A task vector after the paper's DARE, divided by the density."""
    delta = task_vector(base, tensor)  # each reading draws the same mask: TIES's threshold is of what is merged
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {expert} {name}".encode()))
    return delta if density == 1 else drop(delta, density, generator, lambda kept: kept / density)


def mergekits_dare(base: torch.Tensor, tensor: torch.Tensor, density: float) -> Blocks:
    """A task vector after mergekit's DARE: the same L1 norm, masks from torch's global generator."""
    delta = task_vector(base, tensor)
    if density == 1:
        return delta
    generator = torch.Generator()
    generator.set_state(torch.get_rng_state())
    before = whole(delta(), base.shape).abs_().sum()
    after = whole(drop(delta, density, torch.default_generator, torch.abs)(), base.shape).sum()  # the next masks go on from here
    factor = 1.0 if min(before, after) < 1e-7 else before / after
    return drop(delta, density, generator, lambda kept: kept * factor)


def task_vectors_after_dare(group: TensorGroup, density: float, seed: int, paper: bool) -> list[Blocks]:
    """Each expert's task vector of one tensor, after DARE; density 1 keeps all."""
    base, name = group.base.tensor, group.metadata.name
    if paper:
        return [papers_dare(base, e.tensor, density, seed, Path(e.id.model.path).name, name) for e in group.non_base]
    return [mergekits_dare(base, e.tensor, density) for e in group.non_base]


@merge_method(name="m2rl_task_arithmetic", contract=CONTRACT)
def task_arithmetic(group: TensorGroup, scale: float, density: float, seed: int, paper: bool) -> torch.Tensor:
    return add(group, task_vectors_after_dare(group, density, seed, paper), lambda deltas: scale * deltas.sum(0))


register(task_arithmetic)
