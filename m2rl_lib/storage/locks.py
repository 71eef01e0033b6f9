"""The kernel's file locks, which end with their owner, and the owner's name in the file, for messages."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

PATIENCE = 5.0  # seconds that a lock is waited for: a killed notebook's kernel ends within one or two


class LockedError(RuntimeError):
    """Another process is at work on the same artifact; the message says which."""


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Own the lock file `path` while the block runs; the lock of a dead process of this host is taken over, with a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(path, thread_local=False, fallback_to_soft=False).acquire(timeout=PATIENCE, poll_interval=0.2)
    except Timeout:
        raise LockedError(f"{path} is held by {_owner(path)}: wait for it, or end that process, then run this again") from None
    with lock:
        left = _owner(path)
        if left and f" on {socket.gethostname()} " not in left:  # it may be alive
            raise LockedError(f"{path} is held by {left}: if nothing runs there any more, delete that file, then run this again")
        if left:
            print(f"lock: {path.name} of {left} is stale, that process has ended; it is taken over", flush=True)
        path.write_text(f"pid {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC).isoformat(timespec='seconds')}")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is still owned


def _owner(path: Path) -> str:
    """What the lock file says of its owner; it may just have been removed."""
    return path.read_text(errors="replace").strip() if path.is_file() else ""
