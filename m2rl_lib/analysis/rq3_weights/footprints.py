"""RQ3, weights: which weights RL changes and in which direction, measured in one pass over all checkpoints at once.

The paper: weight w is changed where |w_RL − w_SFT| > η·max(|w_RL|, |w_SFT|), η = 1e-3; masks are compared by Jaccard index, task
vectors by cosine in 256 dimensions. Every statistic is a sum over pieces of PIECE weights in a fixed order, in float64."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from m2rl_lib.analysis.rq3_weights.projection import project
from m2rl_lib.storage import artifacts
from m2rl_lib.storage.checkpoints import Checkpoint, check_alike, open_checkpoint, read_values, round_to_bf16, tensor_part

PAPER_ETA = 1e-3
ETAS = (1e-5, 1e-4, PAPER_ETA, 1e-2, 1e-1)
DENSITIES = (0.05, 0.10, 0.30)
ROUNDED = "sft@precision=bf16"  # SFT's weights after rounding: what 'changes' without any training
OCTAVES = np.arange(-10, 2)  # |w_SFT| in [2^o, 2^(o+1)); the first and last also hold what lies beyond
PIECE = 2**17  # weights read from each checkpoint at a time
SAMPLE, SEGMENT = 2**21, 2**10  # weights that place the thresholds of equal density, in runs of SEGMENT


@dataclass(frozen=True)
class Footprints:
    """What one pass found, of T tensors, M models, K masks, S octaves of |w_SFT|. `tensors`: tensor, type, layer, weights, sft
    (sum of squares of SFT's weights). `masks`: kind ('relative', 'density'), level (η, or the share asked for), precision."""

    models: list[str]
    tensors: pd.DataFrame
    masks: pd.DataFrame
    products: np.ndarray  # (T, M, M) inner products of task vectors
    projected: np.ndarray  # (T, M, 256) projected task vectors
    both: np.ndarray  # (T, K, M, M) weights in both masks; the diagonal counts one mask
    octaves: np.ndarray  # (T, S) weights in an octave
    changed: np.ndarray  # (T, K, M, S) changed weights in an octave


@dataclass(frozen=True)
class _Source:
    """What is read: checkpoints (SFT first), their tensors and sizes, and whether they hold more than bfloat16 does."""

    checkpoints: list[Checkpoint]
    tensors: list[str]
    sizes: list[int]
    wide: bool

    def read(self, tensor: int, start: int, stop: int) -> Iterator[np.ndarray]:
        """The weights of a piece: SFT's, each model's, and SFT's after rounding where that differs."""
        for place, checkpoint in enumerate(self.checkpoints):
            values = read_values(checkpoint.tensors[self.tensors[tensor]], start, stop)
            if place == 0:
                sft = values
            yield values
        if self.wide:
            yield round_to_bf16(sft)


def measure_footprints(models: dict[str, Path], sft: Path, seed: int = 0, threads: int = 1) -> Footprints:
    """Masks, their intersections, inner products and projections of the task vectors of `models` (name → folder) from `sft`."""
    if not models:
        raise ValueError("no models to compare with SFT: one or more are needed")
    for folder in (sft, *models.values()):
        if (folder / artifacts.MANIFEST).is_file():  # a released checkpoint has none
            artifacts.verify_model(folder)
    checkpoints = [open_checkpoint(name, folder) for name, folder in [("sft", sft), *models.items()]]
    check_alike(checkpoints[0], checkpoints[1:])
    names = list(checkpoints[0].tensors)
    wide = any(tensor.dtype != "BF16" for tensor in checkpoints[0].tensors.values())
    source = _Source(checkpoints, names, [checkpoints[0].tensors[name].size for name in names], wide)
    work = partial(_measure, source, _thresholds(source), seed)
    pieces = [(t, start) for t in range(len(names)) for start in range(0, source.sizes[t], PIECE)]
    sums: list[list] = [[0.0] * len(names) for _ in range(6)]
    with ThreadPoolExecutor(threads) as pool:
        for at in range(0, len(pieces), 64):  # so that results that wait to be added do not pile up
            batch = pieces[at : at + 64]
            for (tensor, _), found in zip(batch, pool.map(work, batch)):
                for total, part in zip(sums, found):
                    total[tensor] = total[tensor] + part
    squares, *statistics = (np.array(total) for total in sums)

    frame = pd.DataFrame([tensor_part(name) for name in names], columns=["type", "layer"]).astype({"layer": "Int64"})
    frame = frame.assign(tensor=names, weights=source.sizes, sft=squares)
    masks = [("relative", eta, "stored") for eta in ETAS] + [("relative", PAPER_ETA, "bf16")] * wide
    masks += [("density", density, "stored") for density in DENSITIES]
    table = pd.DataFrame(masks, columns=["kind", "level", "precision"])
    return Footprints([*models, *[ROUNDED] * wide], frame, table, *statistics)


def _measure(source: _Source, thresholds: np.ndarray, seed: int, piece: tuple[int, int]) -> tuple:
    """The sums of one piece (tensor, start): SFT's squares, then products … changed as in `Footprints`."""
    tensor, start = piece
    stop = min(start + PIECE, source.sizes[tensor])
    models = source.read(tensor, start, stop)
    sft = next(models)
    size = np.abs(sft)
    rounded = round_to_bf16(sft) if source.wide else None
    vectors = np.empty((len(thresholds), stop - start), np.float32)
    masks = []
    for vector, limits, weights in zip(vectors, thresholds, models):
        np.subtract(weights, sft, out=vector)
        distance = np.abs(vector)
        found = _changed(distance, np.maximum(size, np.abs(weights)), ETAS)
        if source.wide:
            weights = round_to_bf16(weights)
            found += _changed(np.abs(weights - rounded), np.maximum(np.abs(rounded), np.abs(weights)), (PAPER_ETA,))
        masks.append(found + [_pack(distance > limit) for limit in limits])
    if not np.isfinite(vectors).all():
        for checkpoint, values in zip(source.checkpoints, source.read(tensor, start, stop)):
            if not np.isfinite(values).all():
                where = f"{checkpoint.name}: tensor {source.tensors[tensor]}"
                raise ValueError(f"{where} has NaN or infinite values; nothing was measured")
    exponents = np.clip((size.view(np.uint32) >> 23).astype(np.uint8), *(OCTAVES[[0, -1]] + 127).astype(np.uint8))
    strata = np.array([_pack(exponents == octave + 127) for octave in OCTAVES])
    packed = np.array(masks).swapaxes(0, 1)  # (K, M, words)
    exact = vectors.astype(np.float64)
    products, both = np.zeros((len(exact), len(exact))), np.zeros(packed.shape[:2] + (len(exact),), np.uint32)
    for one in range(len(exact)):  # with the models after it: a product of few long rows is faster row by row
        products[one, one:] = products[one:, one] = exact[one:] @ exact[one]
        both[:, one, one:] = both[:, one:, one] = _count(packed[:, one, None] & packed[:, one:])
    octaves = _count(strata)
    present = np.flatnonzero(octaves)
    changed = np.zeros(packed.shape[:2] + (len(OCTAVES),), np.uint32)
    changed[..., present] = [[_count(bits & strata[present]) for bits in mask] for mask in packed]
    return np.dot(size.astype(np.float64), size), products, project(vectors, (seed, tensor, start)), both, octaves, changed


def _changed(distance: np.ndarray, size: np.ndarray, etas: tuple[float, ...]) -> list[np.ndarray]:
    """Packed masks of distance > η·size, for each η; 0 is not above 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = distance / size
        return [_pack(ratio > np.float32(eta)) for eta in etas]


def _pack(mask: np.ndarray) -> np.ndarray:
    """A boolean vector as bits in 64-bit words, zeros after its end."""
    words = np.zeros(-(-len(mask) // 64), np.uint64)
    words.view(np.uint8)[: -(-len(mask) // 8)] = np.packbits(mask)
    return words


def _count(words: np.ndarray) -> np.ndarray:
    """The number of set bits along the last axis."""
    return np.bitwise_count(words).sum(axis=-1, dtype=np.uint32)


def _thresholds(source: _Source) -> np.ndarray:
    """(M, densities): the |change| above which that share of a model's weights lies; from a sample beyond SAMPLE weights."""
    sizes = np.array(source.sizes)
    ends = np.cumsum(sizes)
    if ends[-1] <= SAMPLE:
        runs = [(t, start, size) for t, size in enumerate(sizes) for start in range(0, size, SEGMENT)]
    else:
        places = np.linspace(0, ends[-1] - SEGMENT, SAMPLE // SEGMENT).astype(np.int64)
        which = np.searchsorted(ends, places, side="right")
        runs = zip(which, places - (ends - sizes)[which], sizes[which])
    found = []
    for tensor, start, size in runs:
        sft, *models = source.read(int(tensor), int(start), int(min(start + SEGMENT, size)))
        found.append(np.abs(np.array(models) - sft))
    return np.array([[_threshold(row, density) for density in DENSITIES] for row in np.concatenate(found, axis=1)], np.float32)


def _threshold(distances: np.ndarray, density: float) -> np.float32:
    """Of 'above' and 'from' the value at that share, the one that keeps the nearer share; never what did not move."""
    place = len(distances) - 1 - round(density * len(distances))
    value = np.partition(distances, place)[place]
    below = np.nextafter(value, np.float32(0))
    above, upward = np.mean(distances > value), np.mean(distances > below)
    return below if abs(upward - density) < abs(above - density) else value
