"""Task arithmetic: SFT + λ × the sum of the task vectors, with or without DARE."""

import torch
from mergekit.merge_methods.base import TensorGroup
from mergekit.merge_methods.easy_define import merge_method
from mergekit.merge_methods.registry import register

from m2rl_lib.merging.dare import task_vectors_after_dare
from m2rl_lib.merging.task_vectors import CONTRACT, add


@merge_method(name="m2rl_task_arithmetic", contract=CONTRACT)
def task_arithmetic(group: TensorGroup, scale: float, density: float, seed: int, paper: bool) -> torch.Tensor:
    return add(group, task_vectors_after_dare(group, density, seed, paper), lambda deltas: scale * deltas.sum(0))


register(task_arithmetic)
