"""Task vectors (an expert minus SFT), read in blocks of a tensor as often as needed: mergekit's numbers in less memory."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import torch
from mergekit.merge_methods.base import BasePolicy, InputContract, TensorGroup
from safetensors import safe_open

BLOCK = 1 << 18  # elements: 1 MB of float32; of a multiple of 64 torch's sum over experts rounds as over the whole tensor
CONTRACT = InputContract(base=BasePolicy.REQUIRED)
Blocks = Callable[[], Iterator[torch.Tensor]]  # a tensor's elements in order, in float32; each call reads them anew


def split(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tensor.flatten().split(BLOCK)


def task_vector(base: torch.Tensor, tensor: torch.Tensor) -> Blocks:
    """`tensor` - `base`, both cast to float32 first."""
    return lambda: (end.float() - start.float() for start, end in zip(split(base), split(tensor)))


def whole(blocks: Iterator[torch.Tensor], shape: torch.Size) -> torch.Tensor:
    """The float32 tensor of that shape that the blocks make up."""
    made = torch.empty(shape)
    for place, block in zip(split(made), blocks):
        place.copy_(block)
    return made


def add(group: TensorGroup, vectors: list[Blocks], combine: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """SFT + `combine` of the task vectors' blocks, stacked (experts, elements), in float32."""
    blocks = zip(split(group.base.tensor), zip(*(read() for read in vectors)))
    return whole((start.float() + combine(torch.stack(each)) for start, each in blocks), group.base.tensor.shape)


def tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of a model folder, one at a time."""
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():
                yield name, opened.get_tensor(name)


def pairs(base: Path, expert: Path) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """(name, base's tensor, expert's tensor) as they are stored, one at a time; they may be sharded differently."""
    where = {}
    for file in sorted(expert.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            where |= dict.fromkeys(opened.keys(), file)
    for name, start in tensors(base):
        with safe_open(where[name], "pt") as opened:
            yield name, start, opened.get_tensor(name)


def norms_and_cosines(models: dict[str, Path], base: Path) -> pd.DataFrame:
    """Each model's task vector: its L2 `norm` in units of the experts' mean, its `cosine <expert>` with each expert's (`rl-…`)."""
    vectors = {
        name: torch.cat([(end.float() - start.float()).double().flatten() for _, start, end in pairs(base, folder)])
        for name, folder in models.items()
    }
    experts = [name for name in vectors if name.startswith("rl-")]
    mean_norm = sum(vectors[name].norm() for name in experts) / len(experts)
    table = pd.DataFrame({"model": list(vectors), "norm": [float(vector.norm() / mean_norm) for vector in vectors.values()]})
    for expert in experts:
        table[f"cosine {expert}"] = [float(torch.cosine_similarity(one, vectors[expert], dim=0)) for one in vectors.values()]
    return table
