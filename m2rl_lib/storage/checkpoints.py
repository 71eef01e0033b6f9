"""Checkpoints read piece by piece: any part of any tensor of a Hugging Face folder, as float32, nothing held or mapped.

For analyses whose memory must not grow with the model. Files are read with plain reads at an offset that the header of a
safetensors file gives (8 bytes of length, JSON, data); `safe_open` would map the file, and mapped pages count as resident
memory. A folder is one `model.safetensors` or shards with an index. What cannot be compared is refused before work.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ONE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
STORED = {"BF16": np.dtype("<u2"), "F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
HEAD = "lm_head.weight"
TYPES = {
    "q_proj": "q",
    "k_proj": "k",
    "v_proj": "v",
    "o_proj": "o",
    "gate_proj": "gate",
    "up_proj": "up",
    "down_proj": "down",
    "embed_tokens": "embedding",
    "lm_head": "head",
}


@dataclass(frozen=True)
class Tensor:
    """Where a tensor is: `start` is the byte in `file` of its first value."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """Its number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's name and tensors. With `tied` the output head is the embedding, and a stored copy of it is left out."""

    name: str
    tied: bool
    tensors: dict[str, Tensor]


def open_checkpoint(name: str, folder: Path) -> Checkpoint:
    """The tensors of a model folder, in the order of their names; only headers are read.

    One line for a folder without weights (FileNotFoundError) and for a file that is cut short, is no safetensors file or
    holds numbers that are not BF16, F16, F32 or F64 (ValueError).
    """
    index, tensors = folder / INDEX, {}
    if index.is_file():
        placed = json.loads(index.read_text())["weight_map"]
        files = sorted(set(placed.values()))
    else:
        placed, files = None, [ONE_FILE]
    for file in files:
        if not (folder / file).is_file():
            wanted = f"{INDEX} lists it" if placed else f"a folder of weights has it or {INDEX}"
            raise FileNotFoundError(f"{name}: {folder / file} is missing; {wanted}")
        tensors |= _read_header(name, folder / file)
    lacking = sorted(set(placed or {}) - set(tensors))
    if lacking:
        raise ValueError(f"{name}: {_names(lacking)} in {INDEX} but in no shard of {folder}")
    config = json.loads((folder / "config.json").read_text()) if (folder / "config.json").is_file() else {}
    tied = config.get("tie_word_embeddings", HEAD not in tensors)
    return Checkpoint(name, tied, {key: tensors[key] for key in sorted(tensors) if not (tied and key == HEAD)})


def _read_header(name: str, file: Path) -> dict[str, Tensor]:
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        try:
            header = json.loads(opened.read(min(length, size)))
        except ValueError:
            raise ValueError(f"{name}: {file} is cut short or no safetensors file: its header cannot be read") from None
    header.pop("__metadata__", None)
    promised = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if promised != size:
        raise ValueError(f"{name}: {file} is damaged: its header promises {promised} bytes, the file has {size}")
    for key, entry in header.items():
        if entry["dtype"] not in STORED:
            raise ValueError(f"{name}: {key} in {file} is stored as {entry['dtype']}; allowed are {', '.join(STORED)}")
    return {
        key: Tensor(file, entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])
        for key, entry in header.items()
    }


def check_alike(reference: Checkpoint, others: list[Checkpoint]) -> None:
    """One line (ValueError) where a checkpoint does not have the tensors of `reference`, shape and precision included."""
    for other in others:
        if other.tied != reference.tied:
            own, shared = (reference, other) if other.tied else (other, reference)
            raise ValueError(
                f"{own.name} has an output head of its own ({HEAD}), {shared.name} ties it to the embedding: not comparable"
            )
        for one, two in ((reference, other), (other, reference)):
            lacking = [key for key in one.tensors if key not in two.tensors]
            if lacking:
                raise ValueError(f"{two.name} lacks {_names(lacking)}, which {one.name} has: shifts need the same tensors")
        for key, tensor in reference.tensors.items():
            found, expected = [(t.dtype, list(t.shape)) for t in (other.tensors[key], tensor)]
            if found != expected:
                told = [f"{dtype} {shape}" for dtype, shape in (found, expected)]
                raise ValueError(f"{key} is {told[0]} in {other.name} and {told[1]} in {reference.name}: shifts need the same")


def _names(names: list[str]) -> str:
    more = f" and {len(names) - 3} more tensors" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def read_values(tensor: Tensor, start: int, stop: int) -> np.ndarray:
    """Values `start` to `stop` of a tensor's flat order as float32, (stop − start,). ValueError if the file ends before."""
    stored = STORED[tensor.dtype]
    found = np.fromfile(tensor.file, stored, stop - start, offset=tensor.start + start * stored.itemsize)
    if len(found) != stop - start:
        raise ValueError(f"{tensor.file} was cut short while it was read")
    if tensor.dtype == "BF16":
        wide = found.astype(np.uint32)
        return np.left_shift(wide, 16, out=wide).view(np.float32)
    return found.astype(np.float32, copy=False)


def round_to_bf16(values: np.ndarray) -> np.ndarray:
    """Finite float32 values rounded to the nearest bfloat16 (ties to even), as float32: 1.003 → 1.0, 1.005 → 1.0078125."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def tensor_part(name: str) -> tuple[str, int | None]:
    """A tensor's type and the depth of its layer, None outside the layers.

    >>> tensor_part("model.layers.3.self_attn.q_proj.weight"), tensor_part("model.norm.weight")
    (('q', 3), ('norm', None))
    """
    layer = re.search(r"\blayers\.(\d+)\.", name)
    words = name.split(".")
    kind = next((TYPES[word] for word in words if word in TYPES), "norm" if "norm" in words[-2] else "other")
    return kind, int(layer[1]) if layer else None
