"""Run untrusted Python programs on text inputs and give back the bytes they wrote: what the coding verifier stands on.

The judge stays outside. A program gets a standard input, never an expected output; `run_programs` returns what it wrote and how it ended, and
the caller compares. Programs run in bubblewrap, in user, network, process, IPC and mount namespaces of their own, with no environment, under resource
limits and a system call filter; `worker.py` is the half inside. A sandbox that fails is never a verdict: its programs give `None`,
and one that cannot start or lets a canary out raises `SandboxError`. Namespaces and options: bwrap(1), user_namespaces(7), seccomp(2).
The remote choice speaks the `/run_code` interface of ByteDance's SandboxFusion.
"""

from __future__ import annotations

import atexit
import collections
import json
import logging
import os
import pathlib
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from m2rl_lib.sandbox import canaries, remote, seccomp

WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker.py")
STATUSES = {b"k": "ok", b"e": "error", b"t": "timeout", b"o": "output", b"m": "memory"}
START_SECONDS = 15.0  # a sandbox that is not ready by then has failed
GRACE_SECONDS = 10.0  # what a busy machine may add to the sum of a program's time limits


@dataclass(frozen=True)
class Run:
    """One program on one input: what it wrote to standard output (capped) and how it ended.

    `status` is "ok" (ended by itself, exit code 0), "error" (exception, other exit code, signal, too many processes), "timeout",
    "output" (wrote more than the cap) or "memory" (MemoryError, or more resident memory than allowed).
    """

    stdout: bytes
    status: str


class SandboxError(RuntimeError):
    """The sandbox itself is missing, cannot start, or let a canary out. Says nothing about any program."""


_log = logging.getLogger(__name__)


class _Broken(Exception):
    """A worker hung up or overran."""


# ---- one worker: a bubblewrap with a warm interpreter in it --------------------------------------------------------------------------


def _read_only_folders() -> list[str]:
    """What the interpreter needs to run: shared libraries, its own binary and its standard library."""
    binary = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    wanted = [
        "/usr/lib",
        "/usr/lib32",
        "/usr/lib64",
        "/lib",
        "/lib64",
        "/etc/ld.so.cache",
        os.path.join(sys.base_prefix, "lib"),
        os.path.dirname(os.__file__),
        binary,
    ]
    return [path for at, path in enumerate(wanted) if os.path.exists(path) and path not in wanted[:at]]


def _bubblewrap_command(info: int, block: int | None, filter_: int, script: int) -> list[str]:
    command = [
        "bwrap",
        "--unshare-user",
        "--unshare-ipc",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--as-pid-1",
        "--new-session",
        "--clearenv",
        "--setenv",
        "PYTHONHASHSEED",
        "0",
        "--info-fd",
        str(info),
        "--seccomp",
        str(filter_),
    ]
    command += ["--uid", "0", "--gid", "0"] if block is None else ["--userns-block-fd", str(block)]
    for capability in ("SYS_ADMIN", "SETUID", "SETGID", "KILL"):  # inside the user namespace, for the server only
        command += ["--cap-add", f"CAP_{capability}"]
    for path in _read_only_folders():
        for parent in list(pathlib.PurePosixPath(path).parents)[-2::-1]:  # without this only the server could walk them
            command += ["--perms", "0755", "--dir", str(parent)]
        command += (
            ["--symlink", os.readlink(path), path] if os.path.islink(path) and os.path.isdir(path) else ["--ro-bind", path, path]
        )
    for folder in [os.path.dirname(os.__file__), "/usr/lib/python3"]:
        for name in ("site-packages", "dist-packages"):
            if os.path.isdir(os.path.join(folder, name)):
                command += ["--tmpfs", os.path.join(folder, name)]
    binary = _read_only_folders()[-1]
    return (
        command
        + [
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--dir",
            "/tmp",
            "--remount-ro",
            "/dev",
            "--remount-ro",
            "/",
            "--chdir",
            "/",
            binary,
            "-s",
            "-S",
            f"/proc/self/fd/{script}",
            "isolated",
        ]
        + (["drop-uid"] if block is not None else [])
    )


class _Worker:
    """One sandbox process and the socket to it. Raises SandboxError where it cannot start."""

    started = 0

    def __init__(self) -> None:
        self.pid_inside = None
        self.socket, theirs = socket.socketpair()
        self.errors = tempfile.TemporaryFile()
        _Worker.started += 1
        with theirs, open(WORKER, "rb") as script:
            if _settings.kind == "none":
                command = [sys.executable, "-s", "-S", WORKER]
                self.process = subprocess.Popen(
                    command,
                    stdin=theirs,
                    stdout=subprocess.DEVNULL,
                    stderr=self.errors,
                    env={"PYTHONHASHSEED": "0"},
                    start_new_session=True,
                )
            else:
                self._start_bubblewrap(theirs, script.fileno())
        try:
            self.socket.settimeout(START_SECONDS)
            greeting = self.socket.recv(5, socket.MSG_WAITALL)
        except OSError:
            greeting = b""
        if greeting != b"ready":
            self.stop()
            raise SandboxError(_advice(f"the sandbox did not start ({self.last_error()})"))
        self.socket.setblocking(True)
        self._poller = select.poll()
        self._poller.register(self.socket, select.POLLIN)

    def _start_bubblewrap(self, stdin: socket.socket, script: int) -> None:
        if shutil.which("bwrap") is None:
            raise SandboxError(_advice("bubblewrap (the program bwrap) is not installed"))
        info_read, info_write = os.pipe()
        block_read, block_write = os.pipe()
        filter_ = tempfile.TemporaryFile()
        filter_.write(seccomp.program())
        filter_.seek(0)
        as_root = _settings.maps_uids and os.getuid() == 0
        try:
            self.process = subprocess.Popen(
                _bubblewrap_command(info_write, block_read if as_root else None, filter_.fileno(), script),
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=self.errors,
                start_new_session=True,
                pass_fds=(info_write, block_read, filter_.fileno(), script),
            )
            os.close(info_write)
            info_write = None
            information = b""  # a small JSON object, written in pieces
            while b"}" not in information and select.select([info_read], [], [], START_SECONDS)[0]:
                piece = os.read(info_read, 4096)
                if not piece:
                    break
                information += piece
            if b"}" in information:
                self.pid_inside = json.loads(information)["child-pid"]
            if as_root and self.pid_inside:
                self._map_uids()
                os.write(block_write, b"x")
        finally:
            filter_.close()
            for descriptor in (info_read, info_write, block_read, block_write):
                if descriptor is not None:
                    os.close(descriptor)

    def _map_uids(self) -> None:
        """Give the sandbox two users: 0, the server (root outside, without rights there), and 1, a uid of this worker's own for the programs:
        the kernel does not count the processes of real root."""
        outside = 1_000_000 + os.getpid() % 4_000_000 * 100 + _Worker.started % 100
        try:
            for kind in ("uid_map", "gid_map"):
                with open(f"/proc/{self.pid_inside}/{kind}", "w") as file:
                    file.write(f"0 0 1\n1 {outside} 1\n")
        except OSError as error:  # root of a container that owns few uids: not real root, whose processes are counted
            _settings.maps_uids = False
            self.stop()
            raise SandboxError(_advice(f"cannot map a user id for the programs ({error.strerror})")) from None

    def last_error(self) -> str:
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def hung_up(self) -> bool:
        """True for an idle worker that has died: it has nothing to say until it is asked."""
        return bool(self._poller.poll(0))

    def send(self, program: str, inputs: Sequence[str], limits: dict) -> None:
        """Hand over one program; its reply must be complete by `deadline`."""
        message = json.dumps({"program": program, "inputs": list(inputs), "limits": limits}).encode()
        self.expected, self.buffer = len(inputs), bytearray()
        self.deadline = time.monotonic() + limits["timeout"] * len(inputs) + GRACE_SECONDS
        try:
            self.socket.settimeout(GRACE_SECONDS)
            self.socket.sendall(struct.pack("!I", len(message)) + message)
            self.socket.setblocking(True)
        except OSError as error:
            raise _Broken from error

    def receive(self) -> list[Run] | None:
        """Take in what has arrived; the runs when the reply is complete."""
        try:
            chunk = self.socket.recv(1 << 20)
        except OSError as error:
            raise _Broken from error
        if not chunk:
            raise _Broken
        self.buffer += chunk
        if len(self.buffer) < 4 or len(self.buffer) < 4 + struct.unpack_from("!I", self.buffer)[0]:
            return None
        runs, at = [], 4
        for _ in range(self.expected):
            status, size = struct.unpack_from("!cI", self.buffer, at)
            runs.append(Run(bytes(self.buffer[at + 5 : at + 5 + size]), STATUSES[status]))
            at += 5 + size
        return runs

    def stop(self) -> None:
        """End the sandbox and everything in it."""
        self.socket.close()
        if self.process.poll() is None:
            for pid in (self.pid_inside, self.process.pid):  # process 1 of the namespace: the kernel ends all others with it
                try:
                    os.kill(pid, signal.SIGKILL) if pid else None
                except OSError:
                    pass
        self.process.wait()


# ---- the pool: warm workers, shared by all threads -----------------------------------------------------------------------------------


@dataclass
class _Settings:
    kind: str = "bubblewrap"
    url: str | None = None
    maps_uids: bool = True
    checked: bool = False


_settings = _Settings()
_lock = threading.Condition()
_check_lock = threading.RLock()
_idle: list[_Worker] = []
_alive: set[_Worker] = set()
_starting = 0


def _take(most: int, fresh: bool = False) -> _Worker | None:
    """An idle worker (a dead one is replaced, any one if `fresh`), or a new one while fewer than `most` live; None where all are at work."""
    global _starting
    with _lock:
        while _idle:
            worker = _idle.pop()
            if not fresh and not worker.hung_up():
                return worker
            _alive.discard(worker)
            worker.stop()
            if fresh:
                break
        if len(_alive) + _starting >= most:
            return None
        _starting += 1
    worker = None
    try:
        worker = _Worker()
    finally:
        with _lock:
            _starting -= 1
            if worker is not None:
                _alive.add(worker)
    return worker


def _give(worker: _Worker) -> None:
    with _lock:
        _idle.append(worker)
        _lock.notify()


def _discard(worker: _Worker) -> None:
    worker.stop()
    with _lock:
        _alive.discard(worker)
        _lock.notify()


def _stop_all() -> None:
    for worker in list(_alive):
        _discard(worker)
    _idle.clear()


def _forget_all() -> None:
    """In a forked process: the parent's workers are not ours; keep no end of their sockets open."""
    global _lock, _check_lock, _starting
    _lock, _check_lock, _starting = threading.Condition(), threading.RLock(), 0
    for worker in _alive:
        worker.socket.close()
    _alive.clear()
    _idle.clear()


atexit.register(_stop_all)
os.register_at_fork(after_in_child=_forget_all)


def _run_jobs(jobs: list[tuple], limits: dict, most: int) -> list[list[Run] | None]:
    """Run (program, inputs) jobs on at most `most` workers; None for a job whose sandbox failed twice."""
    results: list[list[Run] | None] = [None] * len(jobs)
    waiting = collections.deque((at, 0) for at in range(len(jobs)))
    busy: dict[socket.socket, tuple[_Worker, int, int]] = {}
    lost: list[tuple[_Worker | None, int, int]] = []
    try:
        while waiting or busy:
            while waiting and len(busy) < most:
                at, attempt = waiting.popleft()
                try:
                    worker = _take(most, fresh=attempt > 0)
                except SandboxError:
                    lost.append((None, at, attempt))
                    break
                if worker is None:
                    waiting.appendleft((at, attempt))
                    break
                busy[worker.socket] = worker, at, attempt
                try:
                    worker.send(*jobs[at], limits)
                except _Broken:
                    lost.append(busy.pop(worker.socket))
            if not busy and waiting and not lost:  # other threads have all the workers
                with _lock:
                    _lock.wait(0.05)
            poller = select.poll()
            for channel in busy:
                poller.register(channel, select.POLLIN)
            names = {channel.fileno(): channel for channel in busy}
            for descriptor, _ in poller.poll(50 if waiting else 500) if busy and not lost else []:
                worker, at, attempt = busy[names[descriptor]]
                try:
                    runs = worker.receive()
                except _Broken:
                    lost.append(busy.pop(names[descriptor]))
                    continue
                if runs is not None:
                    results[at] = runs
                    del busy[names[descriptor]]
                    _give(worker)
            now = time.monotonic()
            lost += [busy.pop(channel) for channel, (worker, *_) in list(busy.items()) if now > worker.deadline]
            for worker, at, attempt in lost:
                if worker is not None:
                    _log.warning(
                        "a sandbox failed (%s); %s",
                        worker.last_error(),
                        "its program runs again" if attempt == 0 else "its program gives None",
                    )
                    _discard(worker)
                if attempt == 0:
                    waiting.append((at, 1))
            lost = []
    finally:  # after an interrupt
        for worker, *_ in busy.values():
            _discard(worker)
    return results


# ---- what others call ----------------------------------------------------------------------------------------------------------------


def run_programs(
    programs: Sequence[str],
    inputs: Sequence[Sequence[str]],
    *,
    timeout_seconds: float = 2.0,
    memory_bytes: int = 256 << 20,
    output_bytes: int = 64 << 10,
    workers: int | None = None,
) -> list[list[Run] | None]:
    """Run each Python source `programs[i]` once for each standard input in `inputs[i]`, every time in fresh state.

    Returns one entry a program: a list of `Run`, one an input, in order; or None where the sandbox failed twice (the second time a fresh one).
    A program that overruns `timeout_seconds` (of wall clock, for each input) is not run on its further inputs; they are "timeout" too.
    `memory_bytes` bounds the address space of a process and the resident memory of all processes of a program; `output_bytes` the standard output
    of one run. At most `workers` sandboxes (default: the cores this process may use) work at once; they stay warm between calls. Equal programs
    with equal inputs run once. Callable from any thread. Raises SandboxError where there is no sandbox (see `check`).

    >>> run_programs(["print(int(input()) ** 2)"], [["3", "x"]])  # doctest: +SKIP
    [[Run(stdout=b'9\\n', status='ok'), Run(stdout=b'', status='error')]]
    """
    if len(programs) != len(inputs):
        raise ValueError(f"run_programs: {len(programs)} programs but {len(inputs)} lists of inputs; give one list a program")
    check()
    keys = [(program, tuple(texts)) for program, texts in zip(programs, inputs)]
    jobs = list(dict.fromkeys(keys))
    limits = {"timeout": timeout_seconds, "memory": memory_bytes, "output": output_bytes}
    most = max(1, workers or _cores())
    if _settings.kind == "sandboxfusion":
        answers = remote.run_jobs(_settings.url, jobs, limits, most)
        found = [None if runs is None else [Run(*run) for run in runs] for runs in answers]
    else:
        found = _run_jobs(jobs, limits, most)
    by_job = dict(zip(jobs, found))
    return [None if by_job[key] is None else list(by_job[key]) for key in keys]


def check() -> None:
    """Once a process: start a sandbox and send canaries that try to get out. Raises SandboxError, one line: what is missing, what the choices are."""
    with _check_lock:
        if _settings.checked:
            return
        _settings.checked = True  # the canaries go through run_programs themselves
        try:
            if _settings.kind == "bubblewrap":
                try:
                    _give(_take(1 << 30))
                except SandboxError:
                    if _settings.maps_uids or os.getuid() != 0:
                        raise
                    _give(_take(1 << 30))  # as root with few uids: once more, with one user
            fault = canaries.fault(run_programs, protected=_settings.kind == "bubblewrap")
            if fault:
                raise SandboxError(_advice(fault))
        except BaseException:
            _settings.checked = False
            raise


def configure(kind: str, url: str | None = None) -> None:
    """Choose where programs run: "bubblewrap" (default), "sandboxfusion" (the server at `url`), or "none" (unprotected: only when the
    parameter file says so). Stops the warm workers. Raises ValueError for any other kind, or a missing `url`."""
    if kind not in ("bubblewrap", "none", "sandboxfusion"):
        raise ValueError(f"coding sandbox is {kind!r}; allowed: bubblewrap, none, sandboxfusion")
    if (kind == "sandboxfusion") != bool(url):
        raise ValueError(
            f"coding sandbox {kind!r} with url {url!r}: sandboxfusion needs the http address of its server, the others none"
        )
    with _check_lock:
        _stop_all()
        _settings.kind, _settings.url, _settings.checked, _settings.maps_uids = kind, url, False, True


def kind() -> str:
    """What is in force, to be stamped on results: "bubblewrap", "sandboxfusion" or "none"."""
    return _settings.kind


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _advice(problem: str) -> str:
    return (
        f"{' '.join(problem.split())}; choose one: install bubblewrap (apt-get install bubblewrap, dnf install bubblewrap) where user namespaces are "
        "allowed, give the address of a SandboxFusion server, or say `sandbox_kind: none` in the parameter file to run programs unprotected"
    )
