"""Atomic files and folders: written beside their place, flushed to the disk and renamed into it."""

import ctypes
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from m2rl_lib.storage import locks

AT_FDCWD, RENAME_EXCHANGE = -100, 2


class DamagedError(ValueError):
    """A file is not what was published; the message names it and says what to do."""


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(path: Path, data: bytes) -> Path:
    """Write `path` atomically: what was there before stays until then, and if writing fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    try:
        fresh.write_bytes(data)
        _flush(fresh)
        fresh.replace(path)
        _flush(path.parent)
    finally:
        fresh.unlink(missing_ok=True)
    return path


def write_json(path: Path, value: object) -> Path:
    """Write JSON to `path` atomically."""
    return write(path, (json.dumps(value, indent=1) + "\n").encode())


@contextmanager
def folder_in_place(folder: Path) -> Iterator[Path]:
    """A fresh folder to write into, which takes the place of `folder` when the block ends well; locked meanwhile."""
    with locks.hold(folder.with_name(f".{folder.name}.lock")):
        for leftover in folder.parent.glob(f".{folder.name}.fresh.*"):
            shutil.rmtree(leftover)
        fresh = folder.parent / f".{folder.name}.fresh.{os.getpid()}"
        fresh.mkdir()
        try:
            yield fresh
            for path in [*fresh.rglob("*"), fresh]:
                _flush(path)
            if folder.exists():
                _exchange(fresh, folder)  # so that at no moment there is none
            else:
                fresh.rename(folder)
            _flush(folder.parent)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def _flush(path: Path) -> None:
    """Have the kernel write a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders' names in one step where the file system can (Linux 3.15), else in two; `os` has no such call."""
    if ctypes.CDLL(None).renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) != 0:
        old = one.with_name(f"{one.name}.old")
        other.rename(old)
        one.rename(other)
        shutil.rmtree(old)
