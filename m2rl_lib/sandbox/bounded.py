"""A function in a process of its own, bounded in processor time and memory: for graders that a text can stall or crash."""

import atexit
import contextlib
import json
import logging
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parents[2]
WALL_SECONDS = 2.8  # of a question; after that the machine is to blame, not the question
LOST_SECONDS = 20.0  # without a word: the process is lost
START_SECONDS = 300.0  # imports, on a busy machine
MEMORY_BYTES = 2 << 30


class Overrun(Exception):
    """The question took all of its processor time or memory, or crashed the process."""


class Failed(Exception):
    """The grader could not start, failed of itself, or got no processor time. Says nothing about the question."""


def last_line(errors: BinaryIO) -> str:
    """The last line of a process's standard error."""
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


class Bounded:
    """The function that a script serves (see `serve`), asked from any thread, one question at a time."""

    def __init__(self, script: str):
        self.script = script
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        atexit.register(self._kill)
        os.register_at_fork(after_in_child=self._forget)

    def ask(self, question: object) -> object:
        """The answer to a question, both of them JSON values. Raises Overrun or Failed."""
        try:
            message = json.dumps(question).encode() + b"\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise Failed(f"{Path(self.script).name}: no JSON value: {error}") from None
        with self._lock:
            try:
                self._start()
                while self._readable(0):  # said by a process that died between two questions
                    self._line(0)
                while message:
                    message = message[self._process.stdin.write(message) :]
                reply = self._line(LOST_SECONDS)
            except (OSError, ValueError, Failed) as error:
                reason = f"{Path(self.script).name}: {error}; {last_line(self._errors)}"
                self._kill()
                raise Failed(reason) from None
            except BaseException:  # an interrupt: the answer is still to come, and is not the next question's
                self._kill()
                raise
        if "answer" in reply:
            return reply["answer"]
        raise Overrun if reply.get("overrun") else Failed(f"{Path(self.script).name}: {reply.get('failed')}")

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._kill()
        self._errors = tempfile.TemporaryFile()
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-P", self.script],  # -P: the script's folder shadows no library
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,
            bufsize=0,
        )
        self._poller = select.poll()
        self._poller.register(self._process.stdout, select.POLLIN)
        self._line(START_SECONDS)  # "ready", after its imports

    def _readable(self, seconds: float) -> bool:
        return bool(self._poller.poll(1000 * seconds))

    def _line(self, seconds: float) -> dict:
        """The next line of the process, read within `seconds`."""
        line, deadline = b"", time.monotonic() + seconds
        while not line.endswith(b"\n"):
            if not self._readable(max(0, deadline - time.monotonic())):
                raise Failed(f"no answer in {seconds} s")
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                raise Failed("the process ended")
            line += piece
        return json.loads(line.splitlines()[-1])

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._let_go()

    def _let_go(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process = None

    def _forget(self) -> None:
        """In a forked process: the parent's grader is not ours."""
        self._lock = threading.Lock()
        if self._process is not None:
            self._let_go()


def serve(answer: Callable, processor_seconds: float) -> None:
    """Answer questions, one JSON value a line, until standard input closes: a script calls it after its imports."""
    logging.disable()
    channel = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no answer
    _say(channel, ready=True)
    while True:
        pid = os.fork()
        if pid == 0:
            _work(answer, processor_seconds, channel)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code == 0:
            return
        if code in (-signal.SIGPROF, -signal.SIGSEGV, -signal.SIGABRT):
            _say(channel, overrun=True)
        elif code == -signal.SIGALRM:
            _say(channel, failed=f"the machine is too busy to grade in {WALL_SECONDS} s")
        else:
            _say(channel, failed=f"exit code {code}")


def _work(answer: Callable, processor_seconds: float, channel: int) -> None:
    with contextlib.suppress(ValueError, OSError):  # a lower limit is in force already, or macOS, which has none
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, processor_seconds)  # no handler: the signal ends the process, whatever it is doing
        signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
        try:
            reply = {"answer": answer(json.loads(line))}
        except (MemoryError, RecursionError):
            reply = {"overrun": True}
        except Exception as error:
            reply = {"failed": repr(error)[:500]}
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _say(channel, **reply)
    os._exit(0)


def _say(channel: int, **reply: object) -> None:
    os.write(channel, json.dumps(reply).encode() + b"\n")
