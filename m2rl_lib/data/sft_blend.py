"""The paper's SFT corpus at its published shares, from the six public Nemotron data sets, as far as `data_sources` names them.

A part's rows are gone through in random order, again and again: 'random sampling', 'use all' and 'repeated 10 times' in the CSV.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from m2rl_lib.data import rl_blend, row_files
from m2rl_lib.domains import chat
from m2rl_lib.domains.problems import Unusable, plain_text
from m2rl_lib.storage import hub

OWNER = "nvidia/"


def parts() -> pd.DataFrame:
    """The parts of the paper's SFT corpus, in part: part, samples, percent, source_dataset, sampling."""
    return pd.read_csv(Path(__file__).with_name("published_sft_blend.csv"))


def prepare_examples(sources: list[str]) -> Path:
    """The folder of a study's SFT examples, `<part>.jsonl` with an index each, made of `data_sources` where it is not there yet."""
    named = {name: hub.find_dataset(sources, name) for name in dict.fromkeys(OWNER + parts()["source_dataset"])}
    places = {name: (source, "data/*") for name, source in named.items() if source is not None}
    if not places:
        raise hub.SourceError(f"data_sources has none of the SFT data sets: name one or more of {', '.join(named)}")
    folder = rl_blend.folder_of("sft", list(places.values()))
    with row_files.locked(folder):
        if not (folder / row_files.DONE).is_file():
            _write(folder, rl_blend.fetch_all(places, folder), {name: str(source) for name, (source, _) in places.items()})
    return folder


def _write(folder: Path, files: dict[str, list[Path]], sources: dict[str, str]) -> None:
    names: dict[Path, str] = {}
    for name, some in files.items():  # some revisions hold the same rows in both forms
        kinds = ([file for file in some if file.suffix == suffix] for suffix in (".jsonl", ".parquet"))
        names |= dict.fromkeys(next(filter(None, kinds), []), name)
    part_of_source = dict(zip(OWNER + parts()["source_dataset"], parts()["part"]))

    def part_of(file: Path, raw: dict) -> str:
        if names[file] == OWNER + "Nemotron-Math-v2":
            return "Math with Tools" if _json(raw.get("tools")) else "Math"
        return part_of_source[names[file]]

    store = row_files.Store(folder)
    store.convert(list(names), part_of, lambda part, raw: (part, make_example(part, raw)))
    store.finish(store.drop_table("part"), sources, [f"{name}/{file.name}" for file, name in names.items()])


def _json(value: object) -> object:
    """Tools and calls come as lists, or as the JSON text of one."""
    return json.loads(value) if isinstance(value, str) and value.strip() else value


def make_example(part: str, raw: dict) -> dict:
    """An example as `sft_corpus.tokenise` takes it: the completion is all from the model's first turn on. Unusable says why not."""
    messages = [dict(message) for message in raw.get("messages") or []]
    first = next((i for i, message in enumerate(messages) if message.get("role") == "assistant"), None)
    if not first:
        raise Unusable("no turn of the model after a prompt")
    prompt = [{"role": message["role"], "content": _text(message)} for message in messages[:first]]
    if any(message["role"] == "user" and message["content"].strip() == "-" for message in prompt):
        raise Unusable(f"the problem is in another data set ({raw.get('dataset') or 'not named'})")
    if not any(message["role"] == "user" and message["content"].strip() for message in prompt):
        raise Unusable("no prompt")
    tools = _json(raw.get("tools")) or []
    row = {"domain": part, "responses_create_params": {"input": prompt, "tools": tools}}
    return {"kind": "demonstration", "row": row, "prompt": prompt, "completion": write_completion(messages[first:])}


def _text(message: dict) -> str:
    content = message.get("content")
    return plain_text("" if content is None else content if isinstance(content, str) else json.dumps(content))


def write_completion(messages: list[dict]) -> str:
    """The turns from the model's first on as one text: `<think>`, answer, tool calls, and what stands between two turns of the model."""
    text, answers = "", []
    for message in messages:
        if message["role"] == "tool":
            answers.append(_text(message))
        elif message["role"] == "assistant":
            if not answers and text.endswith(chat.END):
                raise Unusable("turns out of order")
            text += (chat.tool_turn(answers) if answers else "") + _turn(message)
            answers = []
        elif message["role"] == "user":
            if answers or not text.endswith(chat.END):
                raise Unusable("turns out of order")
            text += chat.user_turn(_text(message))
        else:
            raise Unusable("a turn that is neither the user's, the model's nor a tool's")
    if not text.endswith(chat.END):  # what follows the model's last turn teaches nothing
        text = text[: text.rfind(chat.END + "\n<|im_start|>user") + len(chat.END)]
    if not text.replace(chat.END, "").strip():
        raise Unusable("the model says nothing")
    return text


def _turn(message: dict) -> str:
    thought, content = plain_text(message.get("reasoning_content") or ""), _text(message)
    if thought.strip():
        content = f"<think>{thought.strip()}</think>\n{content.strip()}"
    for call in _json(message.get("tool_calls")) or []:
        function = call.get("function") or call
        arguments = json.dumps({"name": function["name"], "arguments": _json(function.get("arguments")) or {}})
        content = f"{content}\n<tool_call>\n{arguments}\n</tool_call>".lstrip("\n")
    return content + chat.END


class Corpus(Sequence):
    """The examples of a blend in the order of training, each read when it is asked for: N examples take 9 N bytes."""

    def __init__(self, kept: list[row_files.Rows], parts: np.ndarray, numbers: np.ndarray):
        self.kept, self.parts, self.numbers = kept, parts, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: int) -> dict:
        return self.kept[self.parts[place]][int(self.numbers[place])]


def draw_corpus(sources: list[str], count: int, seed: int) -> Corpus:
    """`count` examples at the published shares of the parts there are, shuffled; the same for the same seed."""
    kept = kept_rows(sources)
    shares = share_out(kept, count)
    rng = np.random.default_rng([seed, len(kept)])
    which, numbers = [], []
    for place, (name, some) in enumerate(kept.items()):
        size = shares.get(name, 0)
        rounds = [rng.permutation(len(some)) for _ in range(-(-size // max(1, len(some))))]
        numbers.append(np.concatenate([np.empty(0, np.int64), *rounds])[:size])
        which.append(np.full(size, place, np.int8))
    order = rng.permutation(count)
    return Corpus(list(kept.values()), np.concatenate(which)[order], np.concatenate(numbers).astype(np.int64)[order])


def kept_rows(sources: list[str]) -> dict[str, row_files.Rows]:
    folder = prepare_examples(sources)
    return {name: row_files.Rows(folder, name) for name in parts()["part"]}


def share_out(kept: Mapping[str, Sequence], count: int) -> dict[str, int]:
    """How many of `count` samples each part gives, in proportion to the published samples of the parts that have rows."""
    samples = {row.part: row.samples for row in parts().itertuples() if kept.get(row.part)}
    if not samples:
        raise hub.SourceError("no row of the SFT data sets can be used; drops.csv says why")
    return dict(zip(samples, row_files.apportion(list(samples.values()), count)))
