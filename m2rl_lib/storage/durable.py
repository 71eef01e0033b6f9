"""Files and folders that survive: whole or not at all, sealed against damage, locked by one owner.

What is published is written beside its place, flushed to the disk, and renamed into place, so that a `kill -9` or a full
disk leaves the last good version. A file that has no manifest beside it carries its own SHA-256 (`seal`). A lock is the
kernel's `flock`, which ends with its owner however that ends, on a file that names the owner's pid and host.
"""

import ctypes
import fcntl
import hashlib
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

PATIENCE = 5.0  # seconds that a lock is waited for: a killed notebook's kernel ends within one or two
OPEN_SEAL = b"sealed-sha256:" + b"0" * 64  # what a sealed file's hash is taken over
SEAL = re.compile(rb"sealed-sha256:([0-9a-f]{64})")
AT_FDCWD, RENAME_EXCHANGE = -100, 2


Parsed = TypeVar("Parsed")


class LockedError(RuntimeError):
    """Another process is at work on the same artifact; the message says which."""


class DamagedError(ValueError):
    """A file is not what was published; the message names it and says what to do."""


# --- whole or not at all ------------------------------------------------------------------------------


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(path: Path, data: bytes) -> Path:
    """Write `path` whole or not at all; what was there before stays until then, and if writing fails."""
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


@contextmanager
def folder_in_place(folder: Path) -> Iterator[Path]:
    """A fresh folder to write into, which takes the place of `folder` when the block ends well.

    Two processes cannot publish the same folder at once, and what one that was killed left behind is removed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with hold(folder.with_name(f".{folder.name}.lock")):
        for leftover in folder.parent.glob(f".{folder.name}.fresh.*"):
            shutil.rmtree(leftover)
        fresh = folder.parent / f".{folder.name}.fresh.{os.getpid()}"
        fresh.mkdir()
        try:
            yield fresh
            for path in [*fresh.rglob("*"), fresh]:
                _flush(path)
            if not folder.exists():
                fresh.rename(folder)
            else:
                _exchange(fresh, folder)  # so that at no moment there is none
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
    """Swap two folders' names in one step where the file system can (Linux 3.15), else in two."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) != 0:
        old = one.with_name(f"{one.name}.old")
        other.rename(old)
        one.rename(other)
        shutil.rmtree(old)


# --- seals --------------------------------------------------------------------------------------------


def seal(data: bytes) -> bytes:
    """`data`, its `OPEN_SEAL` (the last, if there are several) replaced by the SHA-256 of `data` as given.

    >>> check_seal(seal(b"rows " + OPEN_SEAL))
    True
    >>> check_seal(seal(b"rows " + OPEN_SEAL).replace(b"rows", b"rovs"))
    False
    """
    start = data.rindex(OPEN_SEAL)
    mark = b"sealed-sha256:" + hashlib.sha256(data).hexdigest().encode()
    return data[:start] + mark + data[start + len(mark) :]


def check_seal(data: bytes) -> bool | None:
    """Whether sealed `data` is as it was sealed; None where it has no seal."""
    marks = list(SEAL.finditer(data))
    if not marks:
        return None
    start, end = marks[-1].span()
    return hashlib.sha256(data[:start] + OPEN_SEAL + data[end:]).hexdigest().encode() == marks[-1][1]


def read_sealed(path: Path, parse: Callable[[bytes], Parsed], remedy: str) -> Parsed:
    """What `parse` makes of a file's bytes. Raises DamagedError, with the `remedy`, where they are not what was written."""
    data = path.read_bytes()
    try:
        if check_seal(data) is not False:
            return parse(data)
    except (ValueError, KeyError, NotImplementedError, OSError):  # what JSON and Arrow say of broken files
        pass
    raise DamagedError(f"{path} is damaged: it is not what was written; {remedy}")


# --- locks --------------------------------------------------------------------------------------------


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Own the lock file `path` for as long as the block runs.

    Raises LockedError where a living process owns it, or one on another host did not release it: from here nobody can
    tell whether that one lives. The lock of a process of this host that died is taken over, with a line that says so.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _acquire(path)
    try:
        left = os.pread(descriptor, 1000, 0).decode(errors="replace").strip()
        if left and f" on {socket.gethostname()} " not in left:
            raise LockedError(f"{path} is held by {left}: if nothing runs there any more, delete that file, then run this again")
        if left:
            print(f"lock: {path.name} of {left} is stale, that process has ended; it is taken over", flush=True)
        _sign(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is still owned
        os.close(descriptor)


def _sign(descriptor: int) -> None:
    owner = f"pid {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC).isoformat(timespec='seconds')}"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, owner.encode(), 0)


def _acquire(path: Path) -> int:
    """An open, locked descriptor of the file that is `path` now."""
    deadline = time.monotonic() + PATIENCE
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor  # and not a file that its last owner has just removed
        except BlockingIOError:
            if time.monotonic() > deadline:
                owner = os.pread(descriptor, 1000, 0).decode(errors="replace").strip()
                os.close(descriptor)
                raise LockedError(f"{path} is held by {owner}: wait for it, or end that process, then run this again") from None
            time.sleep(0.2)
        except FileNotFoundError:
            pass
        os.close(descriptor)
