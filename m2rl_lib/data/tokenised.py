"""A corpus as token ids in a mapped file: what SFT trains on at any size."""

from collections.abc import Iterable
from pathlib import Path

from datasets import Dataset, Features, List, Value
from datasets.arrow_writer import ArrowWriter

from m2rl_lib.data.sft_corpus import tokenise

FEATURES = Features({"input_ids": List(Value("int32")), "labels": List(Value("int64"))})


def write_tokens(tokenizer, examples: Iterable[dict], path: Path, longest: int) -> tuple[Dataset, list[int]]:
    """The examples as `input_ids` and `labels`, cut off at `longest` tokens, and their lengths; written to `path` one by one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lengths = []
    with ArrowWriter(path=str(path), features=FEATURES, writer_batch_size=256) as writer:
        for example in examples:
            tokens = {key: ids[:longest] for key, ids in tokenise(tokenizer, example).items()}
            if any(label >= 0 for label in tokens["labels"]):  # else a prompt alone fills it, and there is nothing to learn
                lengths.append(len(tokens["input_ids"]))
                writer.write(tokens)
        writer.finalize()
    return Dataset.from_file(str(path)), lengths
