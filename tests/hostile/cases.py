"""The hostile programs beside this file, and how one is thrown at the sandbox.

Each program is asked to read a whole number and print its square. The two comment lines that open its file say what it does instead and what
must come of it: F graded fail; K killed within its limit + 0.5 s, nothing left running; FK either; P the right answer passes and the effect is blocked (a program whose
effect succeeds prints ESCAPED and so fails). {TOKEN} {PORT} {PID} {HOME} {REPO} become things of this machine that no program may reach.
To add a case, add a file; the number that opens its name is the case's.
"""
from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

from m2rl_lib import sandbox

FOLDER = pathlib.Path(__file__).parent
INPUTS, ANSWERS = ["3", "12"], [b"9", b"144"]
LIMIT = 1.0    # seconds a program may take for one input
SLACK = 0.5    # seconds within which it must be dead after that


@dataclass(frozen=True)
class Case:
    name: str      # file stem, such as "09_fork_bomb"
    what: str      # what it does
    expect: str    # F, K, FK or P
    source: str


def load_cases() -> list[Case]:
    """All programs of this folder, in order of name."""
    cases = []
    for path in sorted(FOLDER.glob("[0-9][0-9]_*.py")):
        source = path.read_text()
        first, second = source.splitlines()[:2]
        cases.append(Case(path.stem, first.partition(": ")[2], second.removeprefix("# expect: "), source))
    return cases


@contextlib.contextmanager
def bait() -> Iterator[dict[str, str]]:
    """What programs try to reach: a secret file, a listening port, a Unix socket, this process."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix, socket.socket(socket.AF_UNIX) as abstract:
        token = os.path.join(folder, "token")
        pathlib.Path(token).write_text("secret")
        for server, address in ((tcp, ("127.0.0.1", 0)), (unix, token + ".socket"), (abstract, "\0m2rl-hostile")):
            server.bind(address)
            server.listen()
        yield {"{TOKEN}": token, "{PORT}": str(tcp.getsockname()[1]), "{PID}": str(os.getpid()), "{HOME}": os.path.expanduser("~"), "{REPO}": str(FOLDER.parents[1])}


def fill(source: str, values: dict[str, str]) -> str:
    for mark, value in values.items():
        source = source.replace(mark, value)
    return source


def passes(runs: list[sandbox.Run], answers: list[bytes] = ANSWERS) -> bool:
    """The judge: every run ended well and wrote its answer."""
    return all(run.status == "ok" and run.stdout.strip() == answer for run, answer in zip(runs, answers, strict=True))


def survivors() -> list[int]:
    """Processes that programs have left and that still run after SLACK seconds."""
    end = time.monotonic() + SLACK
    while (left := descendants()) and time.monotonic() < end:
        time.sleep(0.01)
    return left


def descendants() -> list[int]:
    """All living descendants of the sandboxes' own first processes."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                fields = pathlib.Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    parents[int(entry)] = int(fields[1])
    servers = {worker.pid_inside for worker in sandbox._alive}
    return [pid for pid in parents if any(ancestor in servers for ancestor in ancestors(pid, parents))]


def ancestors(pid: int, parents: dict[int, int]) -> Iterator[int]:
    while (pid := parents.get(pid, 0)) > 1:
        yield pid


def throw(case: Case, values: dict[str, str]) -> dict:
    """Throw one case; keep what the judge made of it and whether that is as expected."""
    started = time.monotonic()
    runs = sandbox.run_programs([fill(case.source, values)], [INPUTS], timeout_seconds=LIMIT)[0]
    seconds = time.monotonic() - started
    if runs is None:
        return {"case": case, "outcome": "sandbox failed", "good": False, "passed": False, "seconds": seconds, "survivors": len(survivors())}
    statuses, passed, left = [run.status for run in runs], passes(runs), len(survivors())
    untouched = pathlib.Path(values["{TOKEN}"]).read_text() == "secret" and not os.path.exists(values["{TOKEN}"] + ".pickle")
    in_time = seconds < len(INPUTS) * LIMIT + SLACK
    killed = "ok" not in statuses
    good = {"F": not passed, "K": killed, "FK": not passed, "P": passed}[case.expect] and untouched and in_time and not left
    return {"case": case, "outcome": "passed" if passed else " ".join(dict.fromkeys(statuses)), "good": good, "passed": passed, "seconds": seconds, "survivors": left}
