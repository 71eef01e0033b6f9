"""One worker: bare Python inside bubblewrap that runs programs (`inside/`), and the socket to it."""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from m2rl_lib.sandbox import seccomp
from m2rl_lib.sandbox.bounded import last_line

INSIDE = Path(__file__).with_name("inside")
STATUSES = {b"k": "ok", b"e": "error", b"t": "timeout", b"o": "output", b"m": "memory"}
START_SECONDS = 60.0  # a sandbox that is not ready by then has failed
GRACE_SECONDS = 10.0  # what a busy machine may add to the sum of a program's time limits


@dataclass(frozen=True)
class Run:
    """One program on one input: what it wrote to standard output (capped) and how it ended."""

    stdout: bytes
    status: str  # ok, error (also a signal, too many processes), timeout, output (more than the cap), memory


class SandboxError(RuntimeError):
    """The sandbox itself is missing, cannot start, or let a canary out. Says nothing about any program."""


class Broken(Exception):
    """A worker hung up or overran."""


def advice(problem: str) -> str:
    return (
        f"{' '.join(problem.split())}; choose one: install bubblewrap (apt-get install bubblewrap, dnf install "
        "bubblewrap) where user namespaces are allowed, give the address of a SandboxFusion server, or say "
        "`sandbox_kind: none` in the parameter file to run programs unprotected"
    )


def read_only_paths() -> list[str]:
    """What the interpreter needs to run: shared libraries, its standard library and, last, its own binary."""
    wanted = [
        *("/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache"),
        os.path.join(sys.base_prefix, "lib"),
        os.path.dirname(os.__file__),
        os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable),
    ]
    return [path for at, path in enumerate(wanted) if os.path.exists(path) and path not in wanted[:at]]


def command(info: int, block: int | None, filter_: int, script: int) -> list[str]:
    """The bwrap command; its arguments are descriptors. `block`: wait there until uids are mapped, one of the programs' own."""
    words = "bwrap --unshare-user --unshare-ipc --unshare-pid --unshare-net --unshare-uts --unshare-cgroup-try"
    words += " --as-pid-1 --new-session --clearenv"
    words += f" --setenv PYTHONHASHSEED 0 --info-fd {info} --seccomp {filter_}"
    words += " --uid 0 --gid 0" if block is None else f" --userns-block-fd {block}"
    for capability in ("SYS_ADMIN", "SETUID", "SETGID", "KILL"):  # inside the user namespace, for the server only
        words += f" --cap-add CAP_{capability}"
    built = words.split()
    for path in read_only_paths():
        for parent in list(PurePosixPath(path).parents)[-2::-1]:  # without this only the server could walk them
            built += ["--perms", "0755", "--dir", str(parent)]
        linked = os.path.islink(path) and os.path.isdir(path)
        built += ["--symlink", os.readlink(path), path] if linked else ["--ro-bind", path, path]
    for folder in (os.path.dirname(os.__file__), "/usr/lib/python3"):
        for name in ("site-packages", "dist-packages"):
            if os.path.isdir(os.path.join(folder, name)):
                built += ["--tmpfs", os.path.join(folder, name)]
    words = "--proc /proc --dev /dev --dir /tmp --remount-ro /dev --remount-ro / --chdir /"
    built += [*words.split(), read_only_paths()[-1], "-s", "-S", f"/proc/self/fd/{script}", "isolated"]
    return built + ["drop-uid"] if block is not None else built


class Worker:
    """One sandbox process (not `isolated`: an ordinary one) and the socket to it. SandboxError where it cannot start."""

    started = 0
    maps_uids = True  # until a user namespace takes no second user

    def __init__(self, isolated: bool) -> None:
        self.process: subprocess.Popen | None = None
        self.pid_inside: int | None = None
        self.errors = tempfile.TemporaryFile()
        Worker.started += 1
        self.socket, theirs = socket.socketpair()
        try:
            with theirs:
                self._launch(theirs, isolated)
            self.socket.settimeout(START_SECONDS)
            greeting = self.socket.recv(5, socket.MSG_WAITALL)
            problem = None if greeting == b"ready" else last_line(self.errors)
        except (OSError, NotImplementedError) as error:
            problem = str(error)
        if problem:
            self.stop()
            raise SandboxError(advice(f"the sandbox did not start ({problem})"))

    def _launch(self, stdin: socket.socket, isolated: bool) -> None:
        if not isolated:
            return self._start([sys.executable, "-s", "-S", str(INSIDE)], stdin, env={"PYTHONHASHSEED": "0"})
        if shutil.which("bwrap") is None:
            raise FileNotFoundError("bubblewrap, the program bwrap, is not installed")
        # the kernel does not count real root's processes: there, programs get a uid of the worker's own
        if not self._start_bubblewrap(stdin, as_root=Worker.maps_uids and os.getuid() == 0):
            Worker.maps_uids = False  # root of a container that owns few uids: not real root, whose processes are counted
            self._start_bubblewrap(stdin, as_root=False)

    def _start(self, words: list[str], stdin: socket.socket, **options) -> None:
        self.process = subprocess.Popen(
            words, stdin=stdin, stdout=subprocess.DEVNULL, stderr=self.errors, start_new_session=True, **options
        )

    def _start_bubblewrap(self, stdin: socket.socket, as_root: bool) -> bool:
        """False where the user namespace takes no second user."""
        info_read, info_write = os.pipe()
        block_read, block_write = os.pipe()
        open_ends = {info_read, info_write, block_read, block_write}
        try:
            with tempfile.TemporaryFile() as filter_, tempfile.TemporaryFile() as script:
                filter_.write(seccomp.program())
                filter_.seek(0)
                with zipfile.ZipFile(script, "w") as archive:  # Python runs it like the folder
                    for path in sorted(INSIDE.glob("*.py")):
                        archive.write(path, path.name)
                script.seek(0)
                words = command(info_write, block_read if as_root else None, filter_.fileno(), script.fileno())
                self._start(words, stdin, pass_fds=(info_write, block_read, filter_.fileno(), script.fileno()))
            os.close(info_write)
            open_ends.remove(info_write)
            information = b""  # a small JSON object, written in pieces
            while b"}" not in information and select.select([info_read], [], [], START_SECONDS)[0]:
                piece = os.read(info_read, 4096)
                if not piece:
                    break
                information += piece
            if b"}" in information:
                self.pid_inside = json.loads(information)["child-pid"]
            if as_root and self.pid_inside:
                try:
                    self._map_uids()
                except OSError:
                    self._kill()
                    return False
                os.write(block_write, b"x")
            return True
        finally:
            for descriptor in open_ends:
                os.close(descriptor)

    def _map_uids(self) -> None:
        """Give the sandbox two users: 0, the server (root outside, without rights there), and 1, the programs."""
        outside = 1_000_000 + os.getpid() % 4_000_000 * 100 + Worker.started % 100
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{self.pid_inside}/{kind}").write_text(f"0 0 1\n1 {outside} 1\n")

    def hung_up(self) -> bool:
        """True for an idle worker that has died: it has nothing to say until it is asked."""
        poller = select.poll()
        poller.register(self.socket, select.POLLIN)
        return bool(poller.poll(0))

    def run(self, program: str, inputs: Sequence[str], limits: dict) -> list[Run]:
        """The runs of one program. Raises Broken where the worker hangs up, or is not done in time."""
        message = json.dumps({"program": program, "inputs": list(inputs), "limits": limits}).encode()
        deadline = time.monotonic() + limits["timeout"] * len(inputs) + GRACE_SECONDS
        reply = bytearray()
        try:
            self.socket.settimeout(GRACE_SECONDS)
            self.socket.sendall(struct.pack("!I", len(message)) + message)
            while len(reply) < 4 or len(reply) < 4 + struct.unpack_from("!I", reply)[0]:
                self.socket.settimeout(max(0.001, deadline - time.monotonic()))
                chunk = self.socket.recv(1 << 20)
                if not chunk:
                    raise Broken
                reply += chunk
        except OSError as error:
            raise Broken from error
        runs, at = [], 4
        for _ in inputs:
            status, size = struct.unpack_from("!cI", reply, at)
            runs.append(Run(bytes(reply[at + 5 : at + 5 + size]), STATUSES[status]))
            at += 5 + size
        return runs

    def stop(self) -> None:
        """End the sandbox and everything in it."""
        self.socket.close()
        self._kill()

    def _kill(self) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            for pid in (self.pid_inside, self.process.pid):  # process 1 of the namespace: the kernel ends all others with it
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL) if pid else None
        self.process.wait()
