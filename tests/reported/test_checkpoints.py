"""Checkpoints as public reports have them: malformed headers, stale shards, broken indices."""

import json
import struct

import numpy as np
import pytest

from m2rl_lib.storage import checkpoints


def write(path, header: object, values=()) -> None:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + np.array(values, "<f4").tobytes())


def entry(shape: list, start: int, end: int) -> dict:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


MALFORMED = {
    # ml-explore/mlx#3363, paiml/aprender#2055: the next tensor's values were read
    "shape larger than its offsets": ({"a": entry([4], 0, 8), "b": entry([2], 8, 16)}, [1, 2, 3, 4]),
    "Comfy-Org/ComfyUI#14657: a list": (b"[]", ()),
    "a tensor that is no object": ({"a": 1}, ()),
    "no offsets": ({"a": {"dtype": "F32", "shape": [1]}}, [1]),
    "negative offset": ({"a": entry([2], -8, 0)}, ()),
    "negative size": ({"a": entry([-1], 0, 4)}, [1]),
    "overlapping tensors": ({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, [1, 2, 3]),
    "unknown type": ({"a": entry([1], 0, 4) | {"dtype": "X32"}}, [1]),
    "type that is not compared": ({"a": entry([1], 0, 4) | {"dtype": "I32"}}, [1]),
    "cut header": (b'{"a": {', ()),
    "not text": (b"\xff\xfe\x00", ()),
}


@pytest.mark.parametrize(("header", "values"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_header_is_refused_in_one_line(tmp_path, header, values):
    write(tmp_path / "model.safetensors", header, values)
    with pytest.raises(ValueError, match="x: .*model.safetensors") as error:
        checkpoints.open_checkpoint("x", tmp_path)
    assert type(error.value) is ValueError and "\n" not in str(error.value)


def test_the_index_says_in_which_shard_a_tensor_is(tmp_path):
    """JustVugg/colibri#1479, syv-ai/qwen38-27b-rtx3090#123: a superseded copy is left in another shard."""
    one, two = (f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
    write(tmp_path / one, {"m.w": entry([2], 0, 8)}, [1, 1])
    write(tmp_path / two, {"m.w": entry([2], 0, 8), "m.b": entry([1], 8, 12)}, [9, 9, 0])
    (tmp_path / checkpoints.INDEX).write_text(json.dumps({"weight_map": {"m.w": one, "m.b": two}}))
    found = checkpoints.open_checkpoint("x", tmp_path).tensors
    assert checkpoints.read_values(found["m.w"], 0, 2).tolist() == [1.0, 1.0] and list(found) == ["m.b", "m.w"]


@pytest.mark.parametrize("text", ['{"weight_map": {', "[]", "{}", '{"weight_map": ["a"]}', '{"weight_map": {"a": 1}}'])
def test_a_broken_index_is_named(tmp_path, text):
    """Next to sgl-project/sglang#32279: a download that was cut."""
    (tmp_path / checkpoints.INDEX).write_text(text)
    with pytest.raises(ValueError, match="x: .*model.safetensors.index.json") as error:
        checkpoints.open_checkpoint("x", tmp_path)
    assert type(error.value) is ValueError and "\n" not in str(error.value)
