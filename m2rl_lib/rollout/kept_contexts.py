"""What a model has read and written, kept between the turns of a tool-using completion, so that only the tool's answer is read anew."""

from collections.abc import Sequence

import torch
from torch.nn.functional import pad


def remembers_all(model) -> bool:
    """Whether a model's cache holds the keys and values of every token: it has no sliding window and no recurrent state."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)


class Contexts:
    """The contexts of one turn's completions; those that leave a batch together are one part, padded and masked as they were."""

    def __init__(self):
        self.parts: list[tuple[list[tuple[torch.Tensor, torch.Tensor]], torch.Tensor]] = []  # layers' (keys, values), mask
        self.places: dict[tuple[int, ...], tuple[int, int]] = {}  # ids → part and row

    def keep(self, ids: list[list[int]], cache, mask: torch.Tensor, rows: torch.Tensor) -> None:
        """Keep the given rows of a cache, whose contexts are `ids`; what the cache holds after them is masked."""
        mask = mask[rows]
        beyond = mask.sum(dim=1, keepdim=True) - torch.tensor([[len(one)] for one in ids], device=mask.device)
        mask[torch.arange(mask.shape[1], 0, -1, device=mask.device) <= beyond] = 0
        self.places |= {tuple(one): (len(self.parts), row) for row, one in enumerate(ids)}
        self.parts.append(([(layer.keys[rows], layer.values[rows]) for layer in cache.layers], mask))

    def take(self, prompts: Sequence[Sequence[int]], cache) -> tuple[torch.Tensor, list[int]] | None:
        """Fill an empty cache with a context that each prompt begins with: its mask (B, L) and the contexts' lengths, or None."""
        lengths = sorted({len(ids) for ids in self.places}, reverse=True)
        known = [next((n for n in lengths if n < len(ids) and tuple(ids[:n]) in self.places), None) for ids in prompts]
        if None in known:
            return None
        places = [self.places[tuple(ids[:n])] for ids, n in zip(prompts, known)]
        used = sorted({part for part, _ in places})
        width = max(self.parts[part][1].shape[1] for part in used)
        start = dict(zip(used, torch.tensor([0, *(len(self.parts[part][1]) for part in used)]).cumsum(0).tolist()))
        order = torch.tensor([start[part] + row for part, row in places])

        def rows(tensors: list[torch.Tensor], dim: int) -> torch.Tensor:
            """The prompts' rows of the parts' tensors, padded on the left to the widest along `dim`."""
            behind = [0, 0] * (tensors[0].ndim - dim - 1)
            return torch.cat([pad(one, (*behind, width - one.shape[dim], 0)) for one in tensors])[order.to(tensors[0].device)]

        mask = rows([self.parts[part][1] for part in used], 1)
        there = mask.argsort(dim=1, stable=True)[:, -max(known) :]  # of each row its own tokens, side by side on the right
        for layer in range(len(self.parts[0][0])):
            both = [rows([self.parts[part][0][layer][i] for part in used], 2) for i in (0, 1)]
            cache.update(*(one.take_along_dim(there[:, None, :, None], dim=2) for one in both), layer)
        return mask.take_along_dim(there, dim=1), known
