"""The hostile cases beside this file, and how each is thrown. To add a case, add a file; its name begins with its number.

`NN_name.py` is a program that is asked to read a whole number and print its square. The two comment lines that open
it say what it does instead and what must come of it: F graded fail; K killed within its limit + 0.5 s, nothing left
running; FK either; P the right answer passes and the effect is blocked (a program whose effect succeeds prints
ESCAPED and so fails). {TOKEN} {PORT} {PID} {HOME} {REPO} become things of this machine that no program may reach.

`NN_name.yaml` is data. With `texts`: completions of a `domain`, verified against each of `rows` (or the one `row`),
which must come to the reward `expect` (0, 1, or null where the row cannot be graded), within 3 s each, from any
thread, the same twice. A text is a string, or a list of strings and [string, times]. With `rewards`: what two groups
of four completions are rewarded with in training; `expect` is E, an error, or the signs of the eight advantages.
"""

import contextlib
import os
import pathlib
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import yaml

from m2rl_lib import sandbox

FOLDER = pathlib.Path(__file__).parent
INPUTS, ANSWERS = ["3", "12"], [b"9", b"144"]
LIMIT = 1.0  # seconds a program may take for one input
SLACK = 0.5  # seconds within which it must be dead after that
TEXT_LIMIT = 3.0  # seconds a verifier may take for one completion


@dataclass(frozen=True)
class Case:
    name: str  # file stem, such as "09_fork_bomb"
    what: str  # what it does
    expect: str  # F, K, FK or P
    source: str


def load_cases() -> list[Case]:
    """All programs of this folder, in order of name."""
    cases = []
    for path in sorted(FOLDER.glob("[0-9][0-9]_*.py")):
        source = path.read_text()
        first, second = source.splitlines()[:2]
        cases.append(Case(path.stem, first.partition(": ")[2], second.removeprefix("# expect: "), source))
    return cases


def load_data(key: str) -> dict[str, dict]:
    """The cases of this folder that are data and have `key` ("texts" or "rewards"), by file stem."""
    found = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("[0-9][0-9]_*.yaml"))}
    return {name: case for name, case in found.items() if key in case}


@contextlib.contextmanager
def bait() -> Iterator[dict[str, str]]:
    """What programs try to reach: a secret file, a listening port, a Unix socket, this process."""
    unix_socket = (socket.AF_UNIX, socket.SOCK_STREAM)
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket() as tcp,
        socket.socket(*unix_socket) as unix,
        socket.socket(*unix_socket) as abstract,
    ):
        token = os.path.join(folder, "token")
        pathlib.Path(token).write_text("secret")
        for server, address in ((tcp, ("127.0.0.1", 0)), (unix, token + ".socket"), (abstract, f"\0m2rl-hostile-{os.getpid()}")):
            server.bind(address)
            server.listen()
        reached = {"{TOKEN}": token, "{PORT}": str(tcp.getsockname()[1]), "{PID}": str(os.getpid())}
        yield reached | {"{HOME}": os.path.expanduser("~"), "{REPO}": str(FOLDER.parents[1])}


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
    alive = (process.info for process in psutil.process_iter(["pid", "ppid", "status"]))
    parents = {info["pid"]: info["ppid"] for info in alive if info["status"] != psutil.STATUS_ZOMBIE}
    servers = {worker.pid_inside for worker in sandbox._pool.alive}
    return [pid for pid in parents if any(ancestor in servers for ancestor in ancestors(pid, parents))]


def ancestors(pid: int, parents: dict[int, int]) -> Iterator[int]:
    while (pid := parents.get(pid, 0)) > 1:
        yield pid


def throw(case: Case, values: dict[str, str]) -> dict:
    """Throw a program; keep what the judge made of it and whether that is as expected."""
    source, started = case.source, time.monotonic()
    for mark, value in values.items():
        source = source.replace(mark, value)
    runs = sandbox.run_programs([source], [INPUTS], timeout_seconds=LIMIT)[0]
    seconds = time.monotonic() - started
    left = len(survivors())
    thrown = {"name": case.name, "what": case.what, "expect": case.expect, "seconds": seconds, "survivors": left}
    if runs is None:
        return thrown | {"outcome": "sandbox failed", "good": False, "passed": False}
    statuses, passed = [run.status for run in runs], passes(runs)
    untouched = pathlib.Path(values["{TOKEN}"]).read_text() == "secret" and not os.path.exists(values["{TOKEN}"] + ".pickle")
    in_time = seconds < len(INPUTS) * LIMIT + SLACK
    as_expected = {"F": not passed, "K": "ok" not in statuses, "FK": not passed, "P": passed}[case.expect]
    good = as_expected and untouched and in_time and not left
    return thrown | {"outcome": "passed" if passed else " ".join(dict.fromkeys(statuses)), "good": good, "passed": passed}


def _result(name: str, case: dict, **found: object) -> dict:
    return {"name": name, "what": case["what"], "survivors": 0, "passed": False, **found}


def text_of(parts: object) -> object:
    """A text from its parts; what is no list is taken as it is."""
    return "".join(p if isinstance(p, str) else p[0] * p[1] for p in parts) if isinstance(parts, list) else parts


def throw_texts(name: str, case: dict, limit: float = TEXT_LIMIT) -> dict:
    """Throw completions at a verifier, from a thread and here; `passed` where one that is wrong got a reward."""
    from m2rl_lib import domains

    module, rows = domains.ALL[case["domain"]], case.get("rows") or [case["row"]]
    pairs = [(text_of(parts), row) for row in rows for parts in case["texts"]]
    found: list[list[float | None]] = [[], []]
    slowest = 0.0

    def verify(into: list[float | None]) -> None:
        nonlocal slowest
        for text, row in pairs:
            started = time.monotonic()
            into += module.verify([text], [row])
            slowest = max(slowest, time.monotonic() - started)

    module.verify(["</think>\\boxed{warm}"], rows[:1])  # starts its process
    thread = threading.Thread(target=verify, args=(found[0],))
    thread.start()
    thread.join()
    verify(found[1])
    expected, rewards = case["expect"], found[0] + found[1]
    return _result(
        name,
        case,
        expect=str(expected),
        outcome=", ".join(sorted({"None" if reward is None else f"{reward:g}" for reward in rewards})),
        seconds=slowest,
        passed=expected == 0 and 1.0 in rewards,
        good=rewards == [expected] * 2 * len(pairs) and slowest < limit,
    )


def throw_rewards(name: str, case: dict) -> dict:
    """Train a tiny model on the given rewards for two steps; what came of the advantages and the weights."""
    from hostile import training

    started, expect = time.monotonic(), " ".join(map(str, case["expect"]))
    outcome, good = training.throw(case["rewards"], case.get("completions"), case["expect"])
    return _result(name, case, expect=expect, outcome=outcome, seconds=time.monotonic() - started, good=good)
