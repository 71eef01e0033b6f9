"""DARE: elements of a task vector dropped at random, the rest rescaled; before task arithmetic or TIES.

mergekit rescales what is kept to the same L1 norm and draws masks from torch's global generator. The paper's code divides by the
density; its mask depends on seed, expert and tensor alone, so the pass that finds TIES's threshold and the merge see the same one.
"""

import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from mergekit.merge_methods.base import TensorGroup

from m2rl_lib.merging.task_vectors import Blocks, task_vector, whole


def drop(blocks: Blocks, density: float, generator: torch.Generator, rescale: Callable[[torch.Tensor], torch.Tensor]) -> Blocks:
    """Each element kept with probability `density`, drawn from `generator` as it is now, and rescaled."""
    state = generator.get_state()

    def read():
        generator.set_state(state)
        for block in blocks():
            yield rescale(block * (torch.rand(block.shape, generator=generator) < density))

    return read


def papers_dare(base: torch.Tensor, tensor: torch.Tensor, density: float, seed: int, expert: str, name: str) -> Blocks:
    """A task vector after the paper's DARE."""
    delta = task_vector(base, tensor)
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {expert} {name}".encode()))
    return delta if density == 1 else drop(delta, density, generator, lambda kept: kept / density)


def mergekits_dare(base: torch.Tensor, tensor: torch.Tensor, density: float) -> Blocks:
    """A task vector after mergekit's DARE."""
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
