"""Files and folders are written atomically, one owner works on an artifact at a time."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
import time
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from m2rl_lib.config import locations
from m2rl_lib.config.locations import ROOT
from m2rl_lib.storage import artifacts, atomic, locks


def test_a_full_disk_leaves_the_last_good_file(tmp_path, monkeypatch):
    path = atomic.write(tmp_path / "table", b"good")
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    with pytest.raises(OSError, match="No space left"):
        atomic.write(path, b"half")
    assert path.read_bytes() == b"good" and [p.name for p in tmp_path.iterdir()] == ["table"]


@pytest.mark.parametrize("exchange", [True, False], ids=["in one step", "in two"])
def test_a_folder_takes_the_place_of_the_last_one_and_what_a_killed_publisher_left_is_removed(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(atomic.ctypes, "CDLL", lambda _: SimpleNamespace(renameat2=lambda *_: -1))
    (tmp_path / ".model.fresh.12345").mkdir()
    (tmp_path / ".model@step=1.fresh.12345").mkdir()  # another model's
    for text in ("one", "two"):
        with atomic.folder_in_place(tmp_path / "model") as fresh:
            (fresh / "weights").write_text(text)
            if text == "two":
                assert (tmp_path / "model" / "weights").read_text() == "one"
    assert (tmp_path / "model" / "weights").read_text() == "two"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".model@step=1.fresh.12345", "model"]


HOLDER = """
import sys, time
from pathlib import Path
from m2rl_lib.storage import locks
with locks.hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_living_process_is_refused_and_a_killed_ones_is_taken_over(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(locks, "PATIENCE", 0.3)
    lock = tmp_path / "stage.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], cwd=ROOT, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(locks.LockedError) as error, locks.hold(lock):
        pass
    assert f"pid {holder.pid} on {socket.gethostname()}" in str(error.value) and "\n" not in str(error.value)
    holder.kill()
    holder.wait()
    with locks.hold(lock):
        assert f"pid {os.getpid()} on" in lock.read_text()
    assert "is stale" in capfd.readouterr().out and not lock.exists()


def test_a_lock_is_waited_for_a_little(tmp_path):
    lock = tmp_path / "stage.lock"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    pid = os.fork()
    if pid == 0:  # a dying owner: the descriptor that it inherits holds the lock a moment longer
        time.sleep(0.5)
        os._exit(0)
    os.close(descriptor)
    started = time.monotonic()
    with locks.hold(lock):
        assert time.monotonic() - started > 0.2
    os.waitpid(pid, 0)


def test_the_lock_of_another_host_is_not_taken_over(tmp_path):
    lock = tmp_path / "stage.lock"
    lock.write_text("pid 1 on elsewhere since 2026-01-01T00:00:00+00:00")
    with pytest.raises(locks.LockedError, match="elsewhere.*delete that file"), locks.hold(lock):
        pass


def test_a_folder_being_published_and_a_stage_are_locked_by_name(smoke, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    with atomic.folder_in_place(tmp_path / "model"), pytest.raises(locks.LockedError):
        atomic.folder_in_place(tmp_path / "model").__enter__()
    assert (tmp_path / "model").is_dir()
    with artifacts.stage(smoke, "rl-math@repeat=1"), artifacts.stage(smoke, "rl-math"), pytest.raises(locks.LockedError):
        artifacts.stage(smoke, "rl-math").__enter__()
    assert not list(locations.work_folder("smoke", 0, "x").parent.glob("*.lock"))
