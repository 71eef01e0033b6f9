"""The workplace of NeMo Gym's `workplace_assistant` (nemo-gym 0.7.0, Apache-2.0), to which the blend's agent rows belong."""

import csv
import hashlib
import io
import json
import zipfile
from functools import cache
from pathlib import Path

from m2rl_lib.config import locations
from m2rl_lib.domains import workplace_mail, workplace_records
from m2rl_lib.domains.workplace_state import NUMBER, State
from m2rl_lib.storage import atomic

NAMES = ("nemo-gym", "workplace_tables")  # of the folder with the files, in a folder of `data_sources`
FAULTS = (ValueError, KeyError, TypeError, AttributeError, RecursionError, ArithmeticError)  # of a call
ANY_CASE_BUT = ("status", "list_name", "board")
PUBLISHED = {  # SHA-256 of the files of nemo-gym 0.7.0, resources_servers/workplace_assistant/csv_data
    "analytics_data.csv": "4a0df10aabc07980f1cc074dc9ab36406ce98dead7e14fe11f72a9f1ba788688",
    "calendar_events.csv": "6c9df1872d54d0b0d068d1b066766a8ddbc29c3933f1d56c9efd554926312295",
    "customer_relationship_manager_data.csv": "599057e4eec3a7c25ac04b4d655ea2c034b7b7782205dc367a28122756e04c41",
    "email_addresses.csv": "1f3465b92eb41b90a973a9b00f35757a23d16839652b5e352e9d217d8e404b0b",
    "emails.csv": "1809e341a0e4f1fd78cf1b759964a42abd28db8c9b9dca364456efc31f82bb31",
    "project_tasks.csv": "fa0c05d5609f49e905342bd12592b09f23eff6147dcf607b808703f45ddbeaeb",
}
SETS = ("company_directory_", "email_", "calendar_", "analytics_", "project_management_", "customer_relationship_manager_")
TOOLS = {
    name: tool for name, tool in (vars(workplace_mail) | vars(workplace_records)).items() if name.startswith(SETS)
}  # 27, as rows list them


class WorkplaceError(ValueError):
    """Workplace files that are missing or not the pinned ones; one line."""


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest(contents: dict[str, bytes]) -> str:
    """One digest of all files."""
    return _sha256("\n".join(f"{name} {_sha256(contents[name])}" for name in sorted(contents)).encode())[:16]


def _place(digest: str) -> Path:
    return locations.RUNS / "data" / f"workplace-{digest}"


def install(folder: Path) -> str:
    """The digest of the workplace in `folder` (csv files or the package's wheel, at any depth), copied to `runs/data`."""
    contents = {name: _find(folder, name) for name in PUBLISHED}
    for name, pinned in PUBLISHED.items():
        if (given := _sha256(contents[name])) != pinned:
            raise WorkplaceError(f"{folder}: {name} has SHA-256 {given[:16]}…, that of nemo-gym 0.7.0 is {pinned[:16]}…")
    digest = _digest(contents)
    for name, content in contents.items():
        if not (_place(digest) / name).is_file():
            atomic.write(_place(digest) / name, content)
    return digest


def _find(folder: Path, name: str) -> bytes:
    for file in sorted(folder.rglob(name)):
        return file.read_bytes()
    for file in sorted(folder.rglob("nemo_gym-*.whl")):
        with zipfile.ZipFile(file) as wheel:
            for inner in wheel.namelist():
                if inner.endswith((f"workplace_assistant/csv_data/processed/{name}", f"csv_data/raw/{name}")):
                    return wheel.read(inner)
    raise WorkplaceError(f"{folder} lacks {name}: put the wheel of nemo-gym 0.7.0 there, or the csv files in it")


@cache
def _tables(digest: str) -> dict[str, list[dict]]:
    """The rows of each file; an empty cell is None."""
    try:
        contents = {name: (_place(digest) / name).read_bytes() for name in PUBLISHED}
    except OSError:
        raise WorkplaceError(f"{_place(digest)} is missing: prepare the data again (its rows need this workplace)") from None
    if _digest(contents) != digest:
        raise WorkplaceError(f"{_place(digest)} was changed: delete it and prepare the data again")
    return {name: _read(name, content.decode()) for name, content in contents.items()}


def _read(name: str, text: str) -> list[dict]:
    head = ["email_address"] if name == "email_addresses.csv" else None
    rows = csv.DictReader(io.StringIO(text, newline=""), fieldnames=head)
    return [{NUMBER: i, **{key: value or None for key, value in row.items()}} for i, row in enumerate(rows)]


class Workplace:
    """Fresh tables and the tools on them; `call` never raises, it answers with an error text."""

    def __init__(self, digest: str):
        self.state = State(_tables(digest))

    def call(self, text: str) -> str:
        """Run one tool call, the JSON between `<tool_call>` tags, and return the tool's answer as the published server does."""
        name = "?"
        try:
            call = json.loads(text)
            name, arguments = str(call["name"]), parse_arguments(call["arguments"])
            answer = self.run(name, {key: value for key, value in arguments.items() if value is not None})
        except FAULTS as error:
            answer = f"Error executing tool '{name[:80]}': {str(error)[:200]}"
        return json.dumps({"output": answer}, ensure_ascii=False, separators=(",", ":"))

    def replay(self, calls: list[dict]) -> "Workplace":
        """The workplace after `calls` ({name, arguments}); one that fails changes nothing, as published."""
        for call in calls:
            try:
                self.run(call["name"], parse_arguments(call["arguments"]))
            except FAULTS:
                continue
        return self

    def run(self, name: str, arguments: dict) -> object:
        """What the tool returns; raises where it fails."""
        if any(isinstance(value, list | dict) for value in arguments.values()):
            raise TypeError("an argument is no text or number")
        return TOOLS[name](self.state, **arguments)

    def compared(self) -> dict[str, list[dict]]:
        """The five tables, in the form in which two of them are compared."""
        names = ("events", "emails", "plots", "tasks", "customers")
        return {name: [_any_case(row) for row in getattr(self.state, name)] for name in names}


def _any_case(row: dict) -> dict:
    """Lower case where case does not count; there, what is no text counts as missing, as published."""
    return {
        key: value if key in ANY_CASE_BUT or key == NUMBER else value.lower() if isinstance(value, str) else None
        for key, value in row.items()
    }


def parse_arguments(given: object) -> dict:
    """A call's arguments: an object, or one as JSON text (OpenAI's form)."""
    arguments = json.loads(given) if isinstance(given, str) else given
    if not isinstance(arguments, dict):
        raise TypeError("arguments are no object")
    return arguments
