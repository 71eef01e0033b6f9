"""The public RL blend of the paper, made into the rows of our domains: problems filled in, checked, without duplicates.

`nvidia/Nemotron-3-Nano-RL-Training-Blend` labels each row with where it comes from; the domain modules name their labels and
`read` a row's fields. Math rows are placeholders: a row number in one of two other data sets and a template for the question.
What is not used is counted with its reason in `drops.csv`, and nothing is dropped silently. One pass, row by row, committed
every STRIDE rows: a run that was stopped goes on where it was. The paper's code keeps duplicates and trains on rows that its
graders cannot reward; ours counts both. Held-out problems are a share of the blend by a hash of the prompt, as in the micro
world, since the paper's code chose checkpoints on its final benchmarks.
"""

import hashlib
import json
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pandas as pd

from m2rl_lib import domains
from m2rl_lib.config import locations
from m2rl_lib.data import row_files
from m2rl_lib.domains import workplace
from m2rl_lib.domains.problems import Unusable, fraction_of, read_messages
from m2rl_lib.storage import hub
from m2rl_lib.storage.atomic import write_json

BLEND = "nvidia/Nemotron-3-Nano-RL-Training-Blend"
PREFIX = "nano_v3_sft_profiled_"
LEFT_OUT = ("structured_outputs",)  # no domain of the paper
DAPO, SKYWORK = "BytedTsinghua-SIA/DAPO-Math-17k", "Skywork/Skywork-OR1-RL-Data"
QUESTIONS = {"dapo17k": (DAPO, "data/*.parquet"), "skywork_no_omni": (SKYWORK, "data/math-*.parquet")}
WRAPPER = (
    "Answer: $Answer (without quotes) where $Answer is the answer to the problem.",
    'Remember to put your answer on its own line after "Answer:".',
)  # DAPO's own, of which the end of the first and the beginning of the second enclose the problem
HELD_OUT = {"selection": 0.02, "test": 0.04}  # shares of the prompts; the rest is `train`
RULES = 2  # raised when the rules below change, so that data made by others is not taken for theirs
STRIDE = 2000  # rows between commits
DIGEST = 16  # bytes of a prompt's identity
DUPLICATE, OTHER_ANSWER = "duplicate prompt", "duplicate prompt with another answer"


def prepare_rows(sources: list[str]) -> Path:
    """The folder of a study's RL rows, made of its `data_sources` where it is not there yet.

    `<domain>-<split>.jsonl` with an index, `drops.csv`, and `done.json` when it is whole. Agent rows need a folder of
    `data_sources` with the workplace's tables, and are dropped without. SourceError in one line where a data
    set is not named, cannot be had, or does not fit on the disk, or the tables are not the pinned ones.
    """
    wanted = {"blend": (BLEND, "train.jsonl"), **QUESTIONS}
    places = {label: (find_source(sources, name), pattern) for label, (name, pattern) in wanted.items()}
    tables = next(filter(None, (hub.find_dataset(sources, name) for name in workplace.NAMES)), None)
    folder = folder_of("rl", [*places.values(), *([(tables, "*")] if tables else [])])
    with row_files.locked(folder):
        if not (folder / row_files.DONE).is_file():
            digest = install_workplace(tables) if tables else None
            files = fetch_all(places, folder)
            _write(folder, files, {label: str(source) for label, (source, _) in places.items()}, digest)
    return folder


def install_workplace(tables: hub.Source) -> str:
    """The digest of the workplace that agent rows name; SourceError where its files are missing or not the pinned ones."""
    if tables.folder is None:
        raise hub.SourceError(f"{tables} is no folder: the workplace's tables are read from one, ./FOLDER/nemo-gym")
    try:
        return workplace.install(tables.folder)
    except workplace.WorkplaceError as error:
        raise hub.SourceError(str(error)) from None


def find_source(sources: list[str], name: str) -> hub.Source:
    """The source of data set `name`; SourceError where `data_sources` has none."""
    source = hub.find_dataset(sources, name)
    if source is None:
        raise hub.SourceError(f"data_sources has no {name}: name it with its revision, or give a folder that mirrors the Hub")
    return source


def fetch_all(places: dict[str, tuple[hub.Source, str]], folder: Path) -> dict[str, list[Path]]:
    """The files of each source that match its pattern, all here, once there is room for them and for what is made of them."""
    listed = {label: _matching(source, pattern) for label, (source, pattern) in places.items()}
    hub.check_disk(sum(sum(sizes.values()) for sizes in listed.values()), folder, "preparing data")
    at = {label: hub.fetch_files(source, list(listed[label])) for label, (source, _) in places.items()}
    return {label: [at[label] / name for name in sizes] for label, sizes in listed.items()}


def _matching(source: hub.Source, pattern: str) -> dict[str, int]:
    found = {name: size for name, size in hub.list_files(source).items() if fnmatch(name, pattern)}
    if not found:
        raise hub.SourceError(f"{source} has no file that matches {pattern}")
    return found


def folder_of(kind: str, places: list[tuple[hub.Source, str]]) -> Path:
    """Where data made of these sources is: `runs/data/<kind>-<digest>`. A folder counts with its files' sizes, a commit by itself."""
    key = [[str(source), source.files, _matching(source, pattern) if source.folder else pattern] for source, pattern in places]
    return locations.RUNS / "data" / f"{kind}-{hashlib.sha256(json.dumps([RULES, key]).encode()).hexdigest()[:12]}"


def _write(folder: Path, files: dict[str, list[Path]], sources: dict[str, str], tables: str | None) -> None:
    questions = {label: read_questions(files[label], _wanted(files["blend"], label)) for label in QUESTIONS}
    store = row_files.Store(folder)
    seen = dict(_pair(digest) for digest in store.marked("prompts", DIGEST + 4))
    for number, file in enumerate(files["blend"]):
        if number < store.position[0]:
            continue
        start = store.position[1] if number == store.position[0] else 0
        for count, (place, raw) in enumerate(row_files.read_rows(file, start), 1):
            _take(store, seen, raw and {**raw, "workplace": tables}, questions)
            if count % STRIDE == 0:
                store.commit([number, place])
        store.commit([number + 1, 0])
    store.close()
    drop_table(store.counts).to_csv(folder / "drops.csv", index=False)
    read = {label: [file.name for file in some] for label, some in files.items()}
    write_json(folder / row_files.DONE, {"sources": sources, "files": read, "counts": store.counts})


def _pair(mark: bytes) -> tuple[bytes, bytes]:
    return mark[:DIGEST], mark[DIGEST:]


def _take(store: row_files.Store, seen: dict[bytes, bytes], raw: dict | None, questions: dict) -> None:
    """One row of the blend into the store, or into its counts: `<label>|<reason>`, '' for a row that is kept."""
    label = str((raw or {}).get("dataset") or "").removeprefix(PREFIX).replace("|", "/")
    try:
        row = _row_or_reason(raw, questions)
        key = hashlib.sha256(json.dumps(row["responses_create_params"], sort_keys=True).encode()).digest()[:DIGEST]
        answer = hashlib.sha256(json.dumps(_answer(row), sort_keys=True).encode()).digest()[:4]
        if key in seen:
            raise Unusable(DUPLICATE if seen[key] == answer else OTHER_ANSWER)
    except Unusable as reason:
        store.count(f"{label}|{reason}")
        return
    seen[key] = answer
    store.mark("prompts", key + answer)
    store.add(f"{row['domain']}-{row['split']}", row)
    store.count(f"{label}|")


def _row_or_reason(raw: dict | None, questions: dict) -> dict:
    try:
        return make_row(raw, questions)
    except Unusable:
        raise
    except (TypeError, ValueError, AttributeError, KeyError, IndexError):
        raise Unusable("fields are not of the published form") from None


def _answer(row: dict) -> object:
    """What a completion of a row is graded by, whatever its domain."""
    return [
        row.get(key)
        for key in ("expected_answer", "kwargs", "instruction_id_list", "verifier_metadata", "options", "ground_truth")
    ]


def labels() -> dict[str, object]:
    """Each label of the blend that a domain reads, with the domain's module."""
    return {label: module for module in domains.DOMAINS.values() for label in getattr(module, "LABELS", ())}


def make_row(raw: dict | None, questions: dict[str, dict[int, tuple]]) -> dict:
    """A row of ours from one of the blend; `questions[label][number]` is (question, answer) of what placeholders point to.

    Unusable, with the reason, where it cannot be one.
    """
    if raw is None:
        raise Unusable("not a JSON object")
    label = str(raw.get("dataset") or "").removeprefix(PREFIX)
    if label in LEFT_OUT:
        raise Unusable("no domain of this study")
    if label not in labels():
        raise Unusable("unknown label" if label else "no label")
    module = labels()[label]
    if raw.get("_hf_placeholder"):
        raw = fill_placeholder(raw, label, questions.get(label, {}))
    messages = _tidy(read_messages(raw.get("responses_create_params")))
    fields = module.read(raw, messages)
    prompt = json.dumps(messages)
    share, split = fraction_of("split " + prompt), "train"
    if share < HELD_OUT["test"] + HELD_OUT["selection"]:
        split = "selection" if share < HELD_OUT["selection"] else "test"
    return {
        "domain": module.NAME,
        "dataset": str(raw["dataset"]),
        "benchmark": benchmark_of(module.NAME),
        "split": split,
        "problem_id": f"{label}-{hashlib.sha256(prompt.encode()).hexdigest()[:16]}",
        "responses_create_params": {"input": messages, "tools": (raw.get("responses_create_params") or {}).get("tools") or []},
        **fields,
        **{key: value for key, value in raw.items() if key.startswith("pass_rate") and value is not None},
    }


def _tidy(messages: list[dict]) -> list[dict]:
    """Without white space around a message, in which duplicates differ."""
    return [message | {"content": message["content"].strip()} for message in messages]


def benchmark_of(domain: str) -> str:
    """The name under which a domain's held-out problems of the blend stand in tables."""
    return f"{domain}_blend"


# --- placeholders --------------------------------------------------------------------------------------


def _wanted(files: list[Path], label: str) -> set[int]:
    """The row numbers that the placeholders with a label point to."""
    wanted = set()
    for file in files:
        for _, raw in row_files.read_rows(file):
            number = ((raw or {}).get("_hf_placeholder") or {}).get("row")
            if isinstance(number, int) and str(raw.get("dataset")) == PREFIX + label:
                wanted.add(number)
    return wanted


def read_questions(files: list[Path], wanted: set[int]) -> dict[int, tuple[str, object]]:
    """(question, answer) of the wanted rows, numbered through the files in order; numbers past their end are missing."""
    return {number: _question(raw) for number, raw in _numbered(files) if number in wanted}


def _numbered(files: list[Path]) -> Iterator[tuple[int, dict]]:
    number = 0
    for file in files:
        for _, raw in row_files.read_rows(file):
            yield number, raw
            number += 1


def _question(raw: dict) -> tuple[str, object]:
    prompt = raw.get("prompt") or [{}]
    return str(prompt[0].get("content") or ""), (raw.get("reward_model") or {}).get("ground_truth")


def fill_placeholder(raw: dict, label: str, questions: dict[int, tuple]) -> dict:
    """The row with its question and answer: DAPO's problem without its wrapper between prefix and suffix, Skywork's for `{question}`."""
    number, template = raw["_hf_placeholder"].get("row"), raw["_hf_placeholder"].get("question_template")
    if number not in questions:
        raise Unusable("the placeholder points to no row of its data set")
    question, answer = questions[number]
    if label == "dapo17k":
        begin, end = (question.find(part) for part in WRAPPER)
        if begin < 0 or end < begin:
            raise Unusable("the problem is not in DAPO's wrapper")
        problem = question[begin + len(WRAPPER[0]) : end].strip()
        if not isinstance(template, dict) or not (template.get("prefix") or template.get("suffix")):
            raise Unusable("the placeholder's template has no prefix or suffix")
        parts = (template.get("prefix"), problem, template.get("suffix"))
        text = "\n\n".join(part.strip() for part in parts if part and part.strip())
    else:
        template = template.get("template") if isinstance(template, dict) else template
        if not isinstance(template, str) or "{question}" not in template:
            raise Unusable("the placeholder's template has no {question}")
        problem, text = question.strip(), template.replace("{question}", question.strip())
    if not problem:
        raise Unusable("no prompt")
    parameters = (raw.get("responses_create_params") or {}) | {"input": [{"role": "user", "content": text}]}
    return raw | {"responses_create_params": parameters, "expected_answer": answer}


# --- what became of the rows ----------------------------------------------------------------------------


def drop_table(counts: dict[str, int]) -> pd.DataFrame:
    """label, domain, reason ('kept' for rows that are), rows, share (of the label's rows): most rows first within a label."""
    known = labels()
    frame = pd.DataFrame([(*key.split("|", 1), count) for key, count in counts.items()], columns=["label", "reason", "rows"])
    frame["domain"] = [known[label].NAME if label in known else "" for label in frame["label"]]
    frame["share"] = frame["rows"] / frame.groupby("label")["rows"].transform("sum")
    frame["reason"] = frame["reason"].replace("", "kept")
    frame = frame.sort_values(["domain", "label", "rows"], ascending=[True, True, False], ignore_index=True)
    return frame[["label", "domain", "reason", "rows", "share"]]
