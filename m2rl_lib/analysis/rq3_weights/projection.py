"""An orthogonal random projection whose matrix is never stored: a subsampled randomised Hadamard transform. It is S·H·(R₁D₁x₁ +
R₂D₂x₂ + …) / √dimensions for the blocks x₁, x₂, … of a vector: random signs D, random rotations R, Hadamard matrix H, kept rows
S. Rows are orthogonal and E⟨y, y′⟩ = ⟨x, x′⟩ (Ailon and Chazelle 2009; Tropp, arXiv 1011.1595)."""

import numpy as np
from scipy.linalg import hadamard

DIMENSIONS = 256
BLOCK = 2**14  # adding blocks adds a relative variance of 1 / BLOCK to the 1 / DIMENSIONS of the projection itself


def project(vectors: np.ndarray, key: tuple[int, ...], dimensions: int = DIMENSIONS, block: int = BLOCK) -> np.ndarray:
    """Project (M, n) vectors to (M, dimensions), unbiased for their inner products; projections of the pieces of a vector add up.
    `key` is (seed, what names the piece …): the seed draws the kept rows, the whole key the signs, the same for all M."""
    count, n = vectors.shape
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
    blocks = -(-n // block)
    signs = np.unpackbits(np.frombuffer(generator.bytes(blocks * block // 8), np.uint8))[:n].astype(np.float32)
    signed = vectors * (2 * signs - 1)
    added = np.zeros((count, block), np.float32)
    for at, places in zip(range(0, n, block), generator.integers(0, block, blocks)):
        part = signed[:, at : at + block]
        stay = min(block - places, part.shape[1])  # what the rotation moves past the end comes in at the front
        added[:, places : places + stay] += part[:, :stay]
        added[:, : part.shape[1] - stay] += part[:, stay:]
    rows = np.random.default_rng([key[0], dimensions, block]).choice(block, dimensions, replace=False)
    return walsh_hadamard(added)[:, rows].astype(np.float64) / np.sqrt(dimensions)


def walsh_hadamard(vectors: np.ndarray) -> np.ndarray:
    """Each row of (M, B) times the Hadamard matrix of order B, a power of two: [1, 2] → [3, −1]; by factors of order near √B."""
    count, block = vectors.shape
    across = 1 << (block.bit_length() // 2)
    grid = vectors.reshape(count, block // across, across)
    down, over = (hadamard(order).astype(np.float32) for order in (block // across, across))
    return (down @ grid @ over).reshape(count, block)


def cosines(products: np.ndarray) -> np.ndarray:
    """Cosines of M vectors from their inner products (M, M); NaN in the rows and columns of a vector of length 0."""
    norms = np.sqrt(np.diag(products))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.clip(products / np.outer(norms, norms), -1, 1)
