"""TSV-Merge (Gargiulo et al. 2025, "Task Singular Vectors"): of each matrix's task vectors the first 1/T singular directions, made
orthogonal among the T experts, then summed; what is no matrix is averaged, as published."""

import torch
from mergekit.merge_methods.base import TensorGroup
from mergekit.merge_methods.easy_define import merge_method
from mergekit.merge_methods.registry import register

from m2rl_lib.merging.task_vectors import CONTRACT

NAME = "m2rl_tsv"  # mergekit's registry has it under this


def nearest_orthogonal(columns: torch.Tensor) -> torch.Tensor:
    """The matrix with orthonormal columns next to `columns` (m, k): U Vᵀ of its SVD. Directions that are not there (two experts with
    the same one) stay out, where the published code takes what its SVD happens to fill in."""
    left, size, right = torch.linalg.svd(columns, full_matrices=False)
    there = size > 1e-5 * size.max()
    return left[:, there] @ right[there]


def merged_matrix(vectors: list[torch.Tensor]) -> torch.Tensor:
    """The merged task vector of one matrix (m, n) from the experts' (float32)."""
    kept = max(1, min(vectors[0].shape) // len(vectors))
    parts = [torch.linalg.svd(vector, full_matrices=False) for vector in vectors if vector.any()]
    if not parts:
        return torch.zeros_like(vectors[0])
    left = torch.cat([u[:, :kept] for u, _, _ in parts], dim=1)
    size = torch.cat([s[:kept] for _, s, _ in parts])
    right = torch.cat([v[:kept] for _, _, v in parts])
    return nearest_orthogonal(left) * size @ nearest_orthogonal(right.T).T


@merge_method(name=NAME, contract=CONTRACT)
def tsv(group: TensorGroup, scale: float) -> torch.Tensor:
    """SFT + scale × the merged task vector, in float32."""
    base = group.base.tensor.float()
    vectors = [entry.tensor.float() - base for entry in group.non_base]
    return base + scale * (merged_matrix(vectors) if base.dim() == 2 else torch.stack(vectors).mean(0))


register(tsv)
