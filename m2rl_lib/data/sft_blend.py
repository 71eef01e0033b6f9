"""The paper's SFT corpus at its published shares, from the six public Nemotron data sets.

`published_sft_blend.csv` lists its parts: data set, number of samples, how they were drawn ('random sampling', 'use all',
'repeated 10 times'). One rule gives all three: a part's rows are gone through in random order, again and again. Parts that
`data_sources` does not name are left out, and the shares of the others grow. Math-v2 is cut in two by whether a row brings
tools. Competitive-programming rows whose user's text is '-' belong to data sets that are not read and are dropped. A row
becomes the prompt (all messages before the model's first turn) and the completion, thinking and tool turns included.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from m2rl_lib.data import rl_blend, row_files
from m2rl_lib.domains import chat
from m2rl_lib.domains.problems import Unusable, plain_text
from m2rl_lib.storage import hub
from m2rl_lib.storage.atomic import write_json

OWNER = "nvidia/"
TOOLS = "Math with Tools"  # of the rows of Math-v2 those with tools
MATH = "Math"
KIND = "demonstration"


def published_parts() -> pd.DataFrame:
    """The parts of the paper's SFT corpus, in part: part, samples, percent, source_dataset, sampling."""
    return pd.read_csv(Path(__file__).with_name("published_sft_blend.csv"))


def parts() -> pd.DataFrame:
    """part, samples (of the full corpus), source_dataset (with its owner), sampling: the published table."""
    frame = published_parts()
    return frame.assign(source_dataset=OWNER + frame["source_dataset"])


def prepare_examples(sources: list[str]) -> Path:
    """The folder of a study's SFT examples, `<part>.jsonl` with an index each, made of `data_sources` where it is not there yet."""
    named = {name: hub.find_dataset(sources, name) for name in dict.fromkeys(parts()["source_dataset"])}
    places = {name: (source, "data/*") for name, source in named.items() if source is not None}
    if not places:
        raise hub.SourceError(f"data_sources has none of the SFT data sets: name one or more of {', '.join(named)}")
    folder = rl_blend.folder_of("sft", list(places.values()))
    with row_files.locked(folder):
        if not (folder / row_files.DONE).is_file():
            files = rl_blend.fetch_all(places, folder)
            _write(folder, files, {name: str(source) for name, (source, _) in places.items()})
    return folder


def _write(folder: Path, files: dict[str, list[Path]], sources: dict[str, str]) -> None:
    store = row_files.Store(folder)
    every = [(name, file) for name, some in files.items() for file in _one_form(some)]
    for number, (name, file) in enumerate(every):
        if number < store.position[0]:
            continue
        start = store.position[1] if number == store.position[0] else 0
        for count, (place, raw) in enumerate(row_files.read_rows(file, start), 1):
            _take(store, name, raw)
            if count % rl_blend.STRIDE == 0:
                store.commit([number, place])
        store.commit([number + 1, 0])
    store.close()
    drop_table(store.counts).to_csv(folder / "drops.csv", index=False)
    read = [f"{name}/{file.name}" for name, file in every]
    write_json(folder / row_files.DONE, {"sources": sources, "files": read, "counts": store.counts})


def _one_form(files: list[Path]) -> list[Path]:
    """The JSON-lines files, or the Parquet files where there are none: some revisions hold the same rows in both."""
    return [f for f in files if f.suffix == ".jsonl"] or [f for f in files if f.suffix == ".parquet"]


def _take(store: row_files.Store, name: str, raw: dict | None) -> None:
    part = part_of(name, raw or {})
    try:
        example = make_example(part, raw)
    except Unusable as reason:
        store.count(f"{part}|{reason}")
    except (TypeError, ValueError, AttributeError, KeyError, IndexError):
        store.count(f"{part}|fields are not of the published form")
    else:
        store.add(part, example)
        store.count(f"{part}|")


def part_of(name: str, raw: dict) -> str:
    """The part of the published table that a row of data set `name` belongs to."""
    if name == OWNER + "Nemotron-Math-v2":
        return TOOLS if _json(raw.get("tools")) else MATH
    return next(row.part for row in parts().itertuples() if row.source_dataset == name)


def _json(value: object) -> object:
    """Tools and calls come as lists, or as the JSON text of one."""
    return json.loads(value) if isinstance(value, str) and value.strip() else value


def make_example(part: str, raw: dict | None) -> dict:
    """An example as `sft_corpus.tokenise` takes it: kind, row, prompt, completion. Unusable, with the reason, where it is none."""
    if raw is None:
        raise Unusable("not a JSON object")
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
    return {"kind": KIND, "row": row, "prompt": prompt, "completion": write_completion(messages[first:])}


def _text(message: dict) -> str:
    content = message.get("content")
    text = "" if content is None else content if isinstance(content, str) else json.dumps(content)
    return plain_text(text)


def write_completion(messages: list[dict]) -> str:
    """The turns from the model's first on as one text: `<think>`, answer, tool calls, and what stands between two turns of the model.

    >>> write_completion([{"role": "assistant", "reasoning_content": "2 + 2", "content": "4"}])
    '<think>2 + 2</think>\\n4<|im_end|>'
    """
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
            text += f"\n<|im_start|>user\n{_text(message)}{chat.END}\n<|im_start|>assistant\n"
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


# --- the corpus -----------------------------------------------------------------------------------------


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
    kept = _kept(sources)
    names, kept, shares = list(kept), list(kept.values()), shares_of(sources, count)
    rng = np.random.default_rng([seed, len(names)])
    which, numbers = [], []
    for place, (name, some) in enumerate(zip(names, kept)):
        size = shares.get(name, 0)
        rounds = [rng.permutation(len(some)) for _ in range(-(-size // max(1, len(some))))]
        numbers.append(np.concatenate([np.empty(0, np.int64), *rounds])[:size])
        which.append(np.full(size, place, np.int8))
    order = rng.permutation(count)
    return Corpus(kept, np.concatenate(which)[order], np.concatenate(numbers).astype(np.int64)[order])


def _kept(sources: list[str]) -> dict[str, row_files.Rows]:
    """The usable examples of each part."""
    folder = prepare_examples(sources)
    return {name: row_files.Rows(folder, name) for name in parts()["part"]}


def shares_of(sources: list[str], count: int) -> dict[str, int]:
    """How many of `count` examples each part of the study's corpus gives."""
    return share_out({name: len(some) for name, some in _kept(sources).items()}, count)


def share_out(sizes: dict[str, int], count: int) -> dict[str, int]:
    """How many of `count` samples each part gives, in proportion to the published samples of the parts that have rows.

    1000 samples of Science and Chat alone: 344 and 656 (2,263,340 and 4,309,780).
    """
    samples = {row.part: row.samples for row in parts().itertuples() if sizes.get(row.part)}
    if not samples:
        raise hub.SourceError("no row of the SFT data sets can be used; drops.csv says why")
    return dict(zip(samples, row_files.apportion(list(samples.values()), count)))


def drop_table(counts: dict[str, int]) -> pd.DataFrame:
    """part, reason ('kept' for rows that are), rows, share (of the part's rows)."""
    frame = pd.DataFrame([(*key.split("|", 1), count) for key, count in counts.items()], columns=["part", "reason", "rows"])
    frame["share"] = frame["rows"] / frame.groupby("part")["rows"].transform("sum")
    return frame.assign(reason=frame["reason"].replace("", "kept")).sort_values(
        ["part", "rows"], ascending=[True, False], ignore_index=True
    )
