"""SCE: select elements by variance, weight experts by their mean squares, elect signs."""

from pathlib import Path

import pandas as pd
import torch
from mergekit.merge_methods.base import TensorGroup
from mergekit.merge_methods.easy_define import merge_method
from mergekit.merge_methods.generalized_task_arithmetic import get_mask
from mergekit.merge_methods.registry import register

from m2rl_lib.merging.task_vectors import CONTRACT, add, pairs, split, task_vector, whole

LEAST = 1e-6  # below this sum of mean squares mergekit's weights are uniform; the paper's code has no such limit


@merge_method(name="m2rl_sce", contract=CONTRACT)
def sce(group: TensorGroup, select_topk: float, paper: bool) -> torch.Tensor:
    """SFT + the merged task vector; experts that all equal SFT in a tensor leave it as it is."""
    shape = group.base.tensor.shape
    deltas = [task_vector(group.base.tensor, entry.tensor) for entry in group.non_base]
    if select_topk < 1:
        variance = whole((torch.stack(each).var(0, correction=0) for each in zip(*(d() for d in deltas))), shape).flatten()
        count = int(variance.count_nonzero() * select_topk)
        selected = torch.zeros(variance.numel(), dtype=torch.bool)
        selected[variance.topk(count).indices] = True
        deltas = [lambda d=d: (block * chosen for block, chosen in zip(d(), split(selected))) for d in deltas]
    weights = torch.stack([whole(delta(), shape).square_().mean() for delta in deltas])
    total = weights.sum().item()
    weights = weights / total if total > 0 and (paper or total >= LEAST) else torch.ones_like(weights) / len(weights)

    def elect(blocks: torch.Tensor) -> torch.Tensor:
        agreed = weights[:, None] * get_mask(blocks)
        of = agreed.sum(0)
        return (blocks * agreed).sum(0) / (of.masked_fill(of == 0, 1) if paper else of.clamp(min=LEAST))

    return add(group, deltas, elect)


register(sce)


def branches(experts: list[Path], base: Path) -> pd.DataFrame:
    """Which of mergekit's branches SCE takes in each tensor: tensor, mean_squares (the experts' sum), uniform (weights)."""
    total: dict[str, float] = {}
    for expert in experts:
        for name, start, end in pairs(base, expert):
            total[name] = total.get(name, 0.0) + float((end.float() - start.float()).square().mean())
    frame = pd.DataFrame({"tensor": list(total), "mean_squares": list(total.values())})
    return frame.assign(uniform=frame["mean_squares"] < LEAST)
