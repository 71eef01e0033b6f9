"""No damage or foreign code comes in with a model, no secret goes out with a notebook or log."""

import json
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from m2rl_lib.storage import atomic

PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE)
SECRET_FORM = re.compile(
    r"\bhf_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{20,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}"
    r"|\bxox[abp]-[A-Za-z0-9-]{10,}|\bAKIA[A-Z0-9]{16}\b|\bglpat-[A-Za-z0-9_-]{20}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
SHORTEST = 8  # characters: a shorter value, such as TOKENIZERS_PARALLELISM's, is no secret and would be found everywhere


class UnsafeError(ValueError):
    """A model folder whose loading could run code that came with it."""


def check_files(folder: Path, files: Mapping[str, str], manifest: str, remedy: str) -> None:
    """Raise DamagedError, with the `remedy`, where a folder's files are not the `files` (name: SHA-256) of its `manifest`."""
    found = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if not path.is_dir()}
    if missing := [name for name in files if name not in found]:
        raise FileNotFoundError(f"{folder / missing[0]} is missing, though {manifest} lists it; {remedy}")
    found.pop(manifest, None)
    for name, path in found.items():
        if name not in files:
            raise atomic.DamagedError(f"{path} was not published with this model: {manifest} does not list it; {remedy}")
        state = path.stat()
        if _sha256(path, state.st_size, state.st_mtime_ns, state.st_ino) != files[name]:
            raise atomic.DamagedError(f"{path} is damaged: its SHA-256 is not the one in {manifest}; {remedy}")


@lru_cache(maxsize=10_000)  # hashed once per process, unless a file changes
def _sha256(path: Path, *state: int) -> str:
    return atomic.sha256(path)


def refuse_unsafe(folder: Path) -> None:
    """Raise UnsafeError where loading `folder` could run code: pickled weights, or a model with code of its own."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in PICKLED:
            raise UnsafeError(f"{path} may be a pickle, which can run code when it is loaded; allowed are safetensors")
        if path.suffix == ".json" and '"auto_map"' in path.read_text():
            raise UnsafeError(f"{path} has auto_map: the model would bring code of its own (trust_remote_code), which never runs")


def find_secrets(text: str, environment: Mapping[str, str] = os.environ) -> list[str]:
    """What looks like a secret in `text`, each named without its value: a token's form, or the value of a secret variable."""
    values = {name: value for name, value in environment.items() if SECRET_NAME.search(name) and len(value) >= SHORTEST}
    # json.dumps: as a notebook's file has it
    named = [f"the value of {name}" for name, value in values.items() if value in text or json.dumps(value)[1:-1] in text]
    return named + [f"something that begins like {match[:3]}" for match in SECRET_FORM.findall(text)]
