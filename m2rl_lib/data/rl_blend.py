"""The public RL blend of the paper, made into the rows of our domains: problems filled in, checked, without duplicates.

Math rows are placeholders: a row number in one of two other data sets and a template. `drops.csv` counts what is dropped.
"""

import hashlib
import json
from collections import defaultdict
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path

from m2rl_lib import domains
from m2rl_lib.config import locations
from m2rl_lib.data import row_files
from m2rl_lib.domains import workplace
from m2rl_lib.domains.problems import Unusable, fraction_of, read_messages
from m2rl_lib.storage import hub

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
DIGEST = 16  # bytes of a prompt's identity
GRADED_BY = ("expected_answer", "kwargs", "instruction_id_list", "verifier_metadata", "options", "ground_truth")
LABELS = {label: module for module in domains.DOMAINS.values() for label in getattr(module, "LABELS", ())}


def prepare_rows(sources: list[str]) -> Path:
    """The folder of a study's RL rows, `<domain>-<split>.jsonl`, made of its `data_sources` where it is not there yet."""
    places = {"blend": (find_source(sources, BLEND), "train.jsonl")}
    for label, (name, pattern) in QUESTIONS.items():  # which a blend without placeholders can do without
        places |= {label: (source, pattern)} if (source := hub.find_dataset(sources, name)) else {}
    tables = next(filter(None, (hub.find_dataset(sources, name) for name in workplace.NAMES)), None)
    if tables and tables.folder is None:
        raise hub.SourceError(f"{tables} is no folder: the workplace's tables are read from one, ./FOLDER/nemo-gym")
    folder = folder_of("rl", [*places.values(), *([(tables, "*")] if tables else [])])
    with row_files.locked(folder):
        if not (folder / row_files.DONE).is_file():
            digest = workplace.install(tables.folder) if tables else None
            _write(folder, fetch_all(places, folder), {label: str(source) for label, (source, _) in places.items()}, digest)
    return folder


def find_source(sources: list[str], name: str) -> hub.Source:
    """The source of data set `name`; SourceError where `data_sources` has none."""
    if source := hub.find_dataset(sources, name):
        return source
    raise hub.SourceError(f"data_sources has no {name}: name it with its revision, or give a folder that mirrors the Hub")


def fetch_all(places: dict[str, tuple[hub.Source, str]], folder: Path) -> dict[str, list[Path]]:
    """The files of each source that match its pattern, fetched once there is room for them and for what is made of them."""
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
    """Where data made of these sources is: `runs/data/<kind>-<digest>`. A folder counts with its files' sizes and times, a commit by itself."""

    def what(source: hub.Source, pattern: str) -> str | dict:
        found = _matching(source, pattern) if source.folder else {}
        return {name: [size, (source.folder / name).stat().st_mtime_ns] for name, size in found.items()} or pattern

    key = [[str(source), source.files, what(source, pattern)] for source, pattern in places]
    return locations.RUNS / "data" / f"{kind}-{hashlib.sha256(json.dumps([RULES, key]).encode()).hexdigest()[:12]}"


def _write(folder: Path, files: dict[str, list[Path]], sources: dict[str, str], tables: str | None) -> None:
    questions = read_questions(files)
    store = row_files.Store(folder)
    seen = {mark[:DIGEST]: mark[DIGEST:] for mark in store.marked("prompts", DIGEST + 4)}

    def make(label: str, raw: dict) -> tuple[str, dict]:
        row = make_row({**raw, "workplace": tables}, questions)
        key = hashlib.sha256(json.dumps(row["responses_create_params"], sort_keys=True).encode()).digest()[:DIGEST]
        answer = hashlib.sha256(json.dumps([row.get(name) for name in GRADED_BY], sort_keys=True).encode()).digest()[:4]
        if key in seen:
            raise Unusable("duplicate prompt" if seen[key] == answer else "duplicate prompt with another answer")
        seen[key] = answer
        store.mark("prompts", key + answer)
        return f"{row['domain']}-{row['split']}", row

    store.convert(files["blend"], lambda _, raw: _label(raw).replace("|", "/"), make)
    drops = store.drop_table("label")
    drops.insert(1, "domain", [LABELS[label].NAME if label in LABELS else "" for label in drops["label"]])
    drops = drops.sort_values(["domain", "label"], kind="stable", ignore_index=True)
    store.finish(drops, sources, {label: [file.name for file in some] for label, some in files.items()})


def _label(raw: dict) -> str:
    return str(raw.get("dataset") or "").removeprefix(PREFIX)


def make_row(raw: dict, questions: dict[str, dict[int, tuple]]) -> dict:
    """A row of ours from one of the blend, or Unusable with the reason; `questions` are those of `read_questions`."""
    label = _label(raw)
    if label in LEFT_OUT:
        raise Unusable("no domain of this study")
    if label not in LABELS:
        raise Unusable("unknown label" if label else "no label")
    module = LABELS[label]
    if raw.get("_hf_placeholder"):
        raw = fill_placeholder(raw, label, questions.get(label, {}))
    messages = read_messages(raw.get("responses_create_params"))
    messages = [message | {"content": message["content"].strip()} for message in messages]  # duplicates differ in white space
    fields = module.read(raw, messages)
    prompt = json.dumps(messages)
    share, split = fraction_of("split " + prompt), raw.get("split") or "train"
    if "split" not in raw and share < HELD_OUT["test"] + HELD_OUT["selection"]:
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


def benchmark_of(domain: str) -> str:
    """The name under which a domain's held-out problems of the blend stand in tables."""
    return f"{domain}_blend"


def read_questions(files: dict[str, list[Path]]) -> dict[str, dict[int, tuple[str, object]]]:
    """(question, answer) of the rows that the blend's placeholders point to, by label and number through the label's files."""
    wanted = defaultdict(set)
    for _, raw in chain.from_iterable(map(row_files.read_rows, files["blend"])):
        number = ((raw or {}).get("_hf_placeholder") or {}).get("row")
        if isinstance(number, int):
            wanted[str(raw.get("dataset"))].add(number)
    found = {label: {} for label in QUESTIONS}
    for label, (name, _) in QUESTIONS.items():
        if wanted[PREFIX + label] and label not in files:
            find_source([], name)  # refuses
        for number, (_, raw) in enumerate(chain.from_iterable(map(row_files.read_rows, files.get(label, [])))):
            if number in wanted[PREFIX + label]:
                prompt = raw.get("prompt") or [{}]
                answer = (raw.get("reward_model") or {}).get("ground_truth")
                found[label][number] = str(prompt[0].get("content") or ""), answer
    return found


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
