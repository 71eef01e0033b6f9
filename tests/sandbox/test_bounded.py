"""A bounded function: answers from any thread, and hostile questions cost their asker little."""

import os
import threading
import time

import pytest

from m2rl_lib.sandbox.bounded import Bounded, Failed, Overrun

SCRIPT = """
import ctypes, json, os, signal, sys, time
from m2rl_lib.sandbox.bounded import serve
def answer(question):
    kind, value = question
    if kind == "loop":
        while True:
            try:
                while True: pass
            except BaseException: pass
    if kind == "power": return len(str(9 ** 9 ** 9 ** 2))
    if kind == "memory": return len(" " * (value << 30))
    if kind == "deep": return answer(question)
    if kind == "crash": ctypes.string_at(0)
    if kind == "abort": os.abort()
    if kind == "killed": os.kill(os.getpid(), signal.SIGKILL)
    if kind == "gone": os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)
    if kind == "raise": raise ValueError(value)
    if kind == "sleep": time.sleep(value)
    if kind == "pid": return os.getpid()
    print(value)
    return value
serve(answer, processor_seconds=0.3)
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    script = tmp_path_factory.mktemp("bounded") / "script.py"
    script.write_text(SCRIPT)
    bounded = Bounded(str(script))
    yield bounded
    bounded._kill()


def test_answers_in_order_and_from_threads(asked):
    found = {}
    threads = [threading.Thread(target=lambda n=n: found.update({n: asked.ask(["echo", [n, "é\n", None]])})) for n in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert found == {n: [n, "é\n", None] for n in range(8)}


@pytest.mark.parametrize("question", [["loop", 0], ["power", 0], ["memory", 4], ["deep", 0], ["crash", 0], ["abort", 0]])
def test_a_hostile_question_overruns_and_the_next_is_answered(asked, question):
    asked.ask(["echo", 0])
    started = time.monotonic()
    with pytest.raises(Overrun):
        asked.ask(question)
    assert time.monotonic() - started < 3
    assert asked.ask(["echo", "after"]) == "after"


@pytest.mark.parametrize(
    ("question", "reported"),
    [(["raise", "of itself"], "of itself"), (["killed", 0], "exit code -9"), (["gone", 0], "ended"), (["sleep", 60], "too busy")],
)
def test_a_failure_of_the_grader_is_not_the_questions_fault(asked, question, reported):
    with pytest.raises(Failed, match=reported):
        asked.ask(question)
    assert asked.ask(["echo", "after"]) == "after"


def test_large_questions_and_questions_that_are_no_json(asked):
    assert asked.ask(["echo", "x" * 1_000_000]) == "x" * 1_000_000
    with pytest.raises(Failed, match="no JSON value"):
        asked.ask(["echo", {1, 2}])
    assert asked.ask(["echo", "after"]) == "after"


def test_a_script_that_cannot_start_says_why(tmp_path):
    script = tmp_path / "broken.py"
    script.write_text("import no_such_library")
    with pytest.raises(Failed, match="broken.py.*No module named 'no_such_library'"):
        Bounded(str(script)).ask(1)


def test_a_forked_process_starts_its_own(asked):
    parents = asked.ask(["pid", 0])
    pid = os.fork()
    if pid == 0:
        other = asked.ask(["pid", 0])
        asked._kill()
        os._exit(0 if other != parents else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert asked.ask(["pid", 0]) == parents
