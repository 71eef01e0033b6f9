"""Checkpoints read piece by piece: any part of any tensor of a Hugging Face folder, as float32."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

ONE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
STORED = {"BF16": np.dtype("<u2"), "F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
HEAD = "lm_head.weight"
TYPES = {f"{kind}_proj": kind for kind in ("q", "k", "v", "o", "gate", "up", "down")}
TYPES |= {"embed_tokens": "embedding", "lm_head": "head"}


@dataclass(frozen=True)
class Tensor:
    """Where a tensor is: `start` is the byte in `file` of its first value."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's name and tensors. With `tied` the output head is the embedding, and a stored copy of it is left out."""

    name: str
    tied: bool
    tensors: dict[str, Tensor]


def open_checkpoint(name: str, folder: Path) -> Checkpoint:
    """The tensors of a model folder by name, from headers alone; of several shards with a tensor the one that the index names."""
    placed, tensors = None, {}
    if (folder / INDEX).is_file():
        placed = _read_json(name, folder / INDEX).get("weight_map")
        if not isinstance(placed, dict) or not all(isinstance(file, str) for file in placed.values()):
            raise ValueError(f"{name}: {folder / INDEX} has no weight_map of tensors to files")
    for file in [ONE_FILE] if placed is None else sorted(set(placed.values())):
        if not (folder / file).is_file():
            wanted = f"{INDEX} lists it" if placed else f"a folder of weights has it or {INDEX}"
            raise FileNotFoundError(f"{name}: {folder / file} is missing; {wanted}")
        found = _read_header(name, folder / file)
        tensors |= {key: tensor for key, tensor in found.items() if placed is None or placed.get(key) == file}
    if lacking := sorted(set(placed or {}) - set(tensors)):
        raise ValueError(f"{name}: {_names(lacking)} in {INDEX} but in no shard of {folder}")
    config = _read_json(name, folder / "config.json") if (folder / "config.json").is_file() else {}
    tied = config.get("tie_word_embeddings", HEAD not in tensors)
    return Checkpoint(name, tied, {key: tensors[key] for key in sorted(tensors) if not (tied and key == HEAD)})


def _read_json(name: str, file: Path) -> dict:
    try:
        value = json.loads(file.read_text())
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{name}: {file} is damaged: it is no JSON object")
    return value


def _read_header(name: str, file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(file, "np"):  # shapes, types and offsets fit each other and the file
            pass
    except SafetensorError as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{name}: {file} is cut short, damaged or no safetensors file: {why}") from None
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
    header.pop("__metadata__", None)
    tensors = {}
    for key, entry in header.items():
        if entry["dtype"] not in STORED:
            raise ValueError(f"{name}: {key} in {file} is stored as {entry['dtype']}; allowed are {', '.join(STORED)}")
        tensors[key] = Tensor(file, entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])
    return tensors


def check_alike(reference: Checkpoint, others: list[Checkpoint]) -> None:
    """One line (ValueError) where a checkpoint does not have the tensors of `reference`, shape and precision included."""
    for other in others:
        if other.tied != reference.tied:
            own, shared = (reference, other) if other.tied else (other, reference)
            raise ValueError(
                f"{own.name} has an output head of its own ({HEAD}), {shared.name} ties it to the embedding: not comparable"
            )
        for one, two in ((reference, other), (other, reference)):
            if lacking := [key for key in one.tensors if key not in two.tensors]:
                raise ValueError(f"{two.name} lacks {_names(lacking)}, which {one.name} has: task vectors need the same tensors")
        for key, tensor in reference.tensors.items():
            found, expected = [f"{t.dtype} {list(t.shape)}" for t in (other.tensors[key], tensor)]
            if found != expected:
                where = f"{found} in {other.name} and {expected} in {reference.name}"
                raise ValueError(f"{key} is {where}: task vectors need the same")


def _names(names: list[str]) -> str:
    more = f" and {len(names) - 3} more tensors" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def read_values(tensor: Tensor, start: int, stop: int) -> np.ndarray:
    """Values `start` to `stop` of a tensor's flat order, float32 (stop − start,)."""
    stored = STORED[tensor.dtype]  # read at their offset: `get_slice` maps the file, whose pages count as resident memory
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
    """A tensor's type and the depth of its layer, None outside the layers."""
    layer = re.search(r"\blayers\.(\d+)\.", name)
    words = name.split(".")
    kind = next((TYPES[word] for word in words if word in TYPES), "norm" if "norm" in words[-2] else "other")
    return kind, int(layer[1]) if layer else None
