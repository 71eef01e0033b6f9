"""Files and folders appear whole or not at all, damage is seen, one owner works on an artifact at a time."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pandas as pd
import pytest

from m2rl_lib.config import locations
from m2rl_lib.config.locations import ROOT
from m2rl_lib.config.study import Parameters
from m2rl_lib.storage import artifacts, durable


def parameters(**values):
    return Parameters.model_construct(study="smoke", seed=0, **values)


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_last_good_file(tmp_path, monkeypatch):
    path = durable.write(tmp_path / "table", b"good")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        durable.write(path, b"half")
    assert path.read_bytes() == b"good" and [p.name for p in tmp_path.iterdir()] == ["table"]


@pytest.mark.parametrize("exchange", [True, False], ids=["in one step", "in two"])
def test_a_folder_takes_the_place_of_the_last_one(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(durable.ctypes, "CDLL", lambda *_, **__: SimpleNamespace(renameat2=lambda *_: -1))
    for text in ("one", "two"):
        with durable.folder_in_place(tmp_path / "model") as fresh:
            (fresh / "weights").write_text(text)
            if text == "two":
                assert (tmp_path / "model" / "weights").read_text() == "one"
    assert (tmp_path / "model" / "weights").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_what_a_killed_publisher_left_is_removed(tmp_path):
    (tmp_path / ".model.fresh.12345").mkdir()
    (tmp_path / ".model@step=1.fresh.12345").mkdir()  # another model's
    with durable.folder_in_place(tmp_path / "model") as fresh:
        (fresh / "weights").write_text("whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".model@step=1.fresh.12345", "model"]


def test_every_flipped_bit_of_a_sealed_file_is_seen():
    sealed = durable.seal(b"abc" + durable.OPEN_SEAL + b"xyz")
    assert durable.check_seal(sealed) is True
    for place in range(len(sealed)):
        for bit in range(8):
            flipped = bytearray(sealed)
            flipped[place] ^= 1 << bit
            # a bit flipped in the words before the hash takes the seal away: then the content is untouched
            assert not durable.check_seal(bytes(flipped)) or place in range(3, 17)


@pytest.mark.parametrize("damage", ["flip", "zero tail", "truncate"])
def test_a_damaged_table_is_named(smoke, damage):
    p = parameters()
    path = artifacts.write_table(p, "scores", "sft", pd.DataFrame({"correct": [0.0, 1.0] * 500}), artifacts.record(p))
    assert artifacts.read_table(p, "scores", ["sft"])["correct"].sum() == 500
    for where in range(4, path.stat().st_size - 8, 97):
        data = bytearray(path.read_bytes())
        whole = bytes(data)
        if damage == "flip":
            data[where] ^= 4
        elif damage == "zero tail":
            data[where:] = bytes(len(data) - where)
        else:
            del data[where:]
        path.write_bytes(data)
        if bytes(data) != whole:
            try:
                frame = artifacts.read_table(p, "scores", ["sft"])
                assert frame["correct"].tolist() == [0.0, 1.0] * 500  # only the seal's own name was hit
                assert durable.check_seal(bytes(data)) is None
            except durable.DamagedError as error:
                assert str(path) in str(error) and "\n" not in str(error)
        path.write_bytes(whole)


def test_a_damaged_manifest_and_a_foreign_file_are_named(smoke, model, publish_model):
    folder = publish_model("sft", model)
    (folder / "extra.safetensors").write_bytes(b"stale shard")
    with pytest.raises(durable.DamagedError, match="extra.safetensors was not published with this model"):
        artifacts.verify_model(folder)
    (folder / "extra.safetensors").unlink()
    assert artifacts.verify_model(folder) == folder
    manifest = folder / artifacts.MANIFEST
    manifest.write_text(manifest.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(durable.DamagedError, match="manifest.json is damaged.*rm .*done/seed-0/sft.json; make study"):
        artifacts.verify_model(folder)


def test_a_model_is_hashed_once_unless_it_changes(smoke, model, publish_model, monkeypatch):
    folder = publish_model("sft", model)
    hashed = []
    original = durable.sha256
    monkeypatch.setattr(durable, "sha256", lambda path: hashed.append(path.name) or original(path))
    artifacts.verify_model(folder)
    count = len(hashed)
    artifacts.verify_model(folder)
    assert len(hashed) == count > 0
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    with pytest.raises(durable.DamagedError, match="config.json is damaged"):
        artifacts.verify_model(folder)


# --- locks --------------------------------------------------------------------------------------------

HOLDER = "import sys, time; from m2rl_lib.storage import durable; from pathlib import Path\nwith durable.hold(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def test_the_lock_of_a_living_process_is_refused_and_a_killed_ones_is_taken_over(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(durable, "PATIENCE", 0.3)
    lock = tmp_path / "stage.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], cwd=ROOT, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(durable.LockedError) as error, durable.hold(lock):
        pass
    assert f"pid {holder.pid} on {socket.gethostname()}" in str(error.value) and "\n" not in str(error.value)
    holder.kill()
    holder.wait()
    with durable.hold(lock):
        assert f"pid {os.getpid()} on" in lock.read_text()
    assert "is stale" in capfd.readouterr().out
    assert not lock.exists()


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
    with durable.hold(lock):
        assert time.monotonic() - started > 0.2
    os.waitpid(pid, 0)


def test_the_lock_of_another_host_is_not_taken_over(tmp_path):
    lock = tmp_path / "stage.lock"
    lock.write_text("pid 1 on elsewhere since 2026-01-01T00:00:00+00:00")
    with pytest.raises(durable.LockedError, match="elsewhere.*delete that file"), durable.hold(lock):
        pass


def test_a_folder_being_published_is_locked(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "PATIENCE", 0.1)
    with durable.folder_in_place(tmp_path / "model") as fresh:
        (fresh / "x").write_text("x")
        with pytest.raises(durable.LockedError), durable.folder_in_place(tmp_path / "model"):
            pass
    assert (tmp_path / "model" / "x").exists()


def test_a_stage_is_locked_by_its_name(smoke, monkeypatch):
    monkeypatch.setattr(durable, "PATIENCE", 0.1)
    p = parameters()
    with artifacts.stage(p, "rl-math@repeat=1"), artifacts.stage(p, "rl-math"), pytest.raises(durable.LockedError):
        artifacts.stage(p, "rl-math").__enter__()
    assert not list(locations.work_folder("smoke", 0, "x").parent.glob("*.lock"))
