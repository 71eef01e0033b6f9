"""The sandbox: honest programs pass, hostile ones come to what their files say, its own failures are loud."""

import http.server
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # tests/hostile, wherever pytest starts
from hostile import cases, known_good  # noqa: E402

from m2rl_lib import sandbox
from m2rl_lib.sandbox import bubblewrap, canaries, seccomp  # noqa: E402

needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


@pytest.fixture(autouse=True)
def default_sandbox():
    yield
    if sandbox.kind() != "bubblewrap":
        sandbox.configure("bubblewrap")


@pytest.fixture
def unchecked():
    """The sandbox is tried anew in the test."""
    sandbox.configure("bubblewrap")


def ran(programs, inputs, **limits):
    """(stdout, status) of each run; None where the sandbox failed."""
    found = sandbox.run_programs(programs, inputs, **{"timeout_seconds": 10} | limits)
    return [runs and [(run.stdout, run.status) for run in runs] for runs in found]


@pytest.fixture(scope="module")
def values():
    with cases.bait() as found:
        yield found


@needs_bubblewrap
@pytest.mark.parametrize("case", cases.load_cases(), ids=lambda case: case.name)
def test_hostile_program_comes_to_what_its_file_says(case, values):
    thrown = cases.throw(case, values)
    assert thrown["good"], thrown


@needs_bubblewrap
def test_honest_programs_of_every_style_pass():
    made = known_good.make_programs(len(known_good.STYLES), 3, seed=1)
    found = sandbox.run_programs([program for program, _, _ in made], [inputs for _, inputs, _ in made], timeout_seconds=10)
    assert not [(program, runs) for (program, _, answers), runs in zip(made, found) if not cases.passes(runs, answers)]


@needs_bubblewrap
def test_output_status_and_cap_by_hand():
    expected = {
        "print('é' + input())": ("éü\n".encode(), "ok"),
        "print('x' * 10)": (b"x" * 10, "output"),
        "print('x' * 9)": (b"x" * 9 + b"\n", "ok"),
        **dict.fromkeys(["raise SystemExit('no')", "1 / 0", "syntax error", "a\0b"], (b"", "error")),
        "kept = ' ' * (1 << 30)": (b"", "memory"),
    }
    assert ran(list(expected), [["ü\n"]] * len(expected), output_bytes=10) == [[run] for run in expected.values()]


@needs_bubblewrap
def test_every_input_meets_fresh_state():
    """Modules, names, recursion limit, files, finalizers' output: each test has its own, whether or not it shares its process."""
    modules = "import random, sys\nassert not hasattr(random, 'mark')\nrandom.mark = 1\n"
    modules += "if input() == 'leave': sys.exit()\nprint('stayed')"
    stayed = (b"stayed\n", "ok")
    assert ran([modules], [["a", "leave", "b"]]) == [[stayed, (b"", "ok"), stayed]]
    names = "import sys\nassert 'mark' not in globals() and sys.getrecursionlimit() == 1000\nmark = sys.setrecursionlimit(5000)\n"
    generator = "def late():\n    try: yield\n    finally: print('late', x)\nx = input()\ng = late()\nnext(g)\nprint(x)"
    files = "print(open('/tmp/left').read() if input() == 'look' else open('/tmp/left', 'w').write('left'))"
    assert ran([names + "print(input())", generator, files], [["a", "b"], ["a", "b"], ["leave", "look"]]) == [
        [(b"a\n", "ok"), (b"b\n", "ok")],
        [(b"a\nlate a\n", "ok"), (b"b\nlate b\n", "ok")],
        [(b"4\n", "ok"), (b"", "error")],
    ]


@needs_bubblewrap
def test_a_program_cannot_report_for_itself():
    """One that opens the pipe to the server by its number: a report too many is an error of the next test, no success."""
    forge = "\nfor d in range(3, 32):\n    try:\n        pipe = open(d, 'wb', 0, closefd=False)\n"
    forge += "        pipe.seekable() or pipe.write(b'k')\n    except OSError: pass\n"
    programs = ["print(input())" + forge + end for end in ("", "1 / 0", "while True: pass")]
    found = ran(programs, [["a", "b", "c"]] * 3, timeout_seconds=1)
    assert all(runs[-1][1] != "ok" for runs in found), found


@needs_bubblewrap
def test_after_a_timeout_the_other_inputs_are_not_run():
    started = time.monotonic()
    [runs] = ran(["n = int(input())\nwhile n == 2: pass\nprint(n)"], [["1", "2", "3", "4"]], timeout_seconds=0.5)
    assert runs == [(b"1\n", "ok")] + [(b"", "timeout")] * 3
    assert time.monotonic() - started < 1.5


@needs_bubblewrap
def test_large_input_many_tests_no_tests_and_equal_programs():
    long = "7 " * 500_000
    numbers = [str(n) for n in range(150)]
    echoed = [(f"{n}\n".encode(), "ok") for n in numbers]
    programs = ["print(len(input()))", "print(input())", "print(1)", "print(input())"]
    assert ran(programs, [[long], numbers, [], numbers]) == [[(b"1000000\n", "ok")], echoed, [], echoed]


@needs_bubblewrap
def test_threads_share_the_pool():
    found = {}

    def work(n):
        found[n] = ran([f"print({n} + int(input()))"] * 3, [["1", "2"]] * 3, workers=2)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert found == {n: [[(f"{n + 1}\n".encode(), "ok"), (f"{n + 2}\n".encode(), "ok")]] * 3 for n in range(8)}
    assert len(sandbox._pool.alive) <= 2


@needs_bubblewrap
def test_a_dead_worker_is_replaced():
    sandbox.run_programs(["print(1)"], [[""]])
    for worker in list(sandbox._pool.alive):
        os.kill(worker.pid_inside, signal.SIGKILL)
    assert ran(["print(2)"], [[""]]) == [[(b"2\n", "ok")]]


@needs_bubblewrap
def test_a_sandbox_that_dies_twice_gives_none(monkeypatch):
    sandbox.check()

    def run(worker, program, *rest):
        if "doomed" in program:
            os.kill(worker.pid_inside, signal.SIGKILL)
        return original(worker, program, *rest)

    original = bubblewrap.Worker.run
    monkeypatch.setattr(bubblewrap.Worker, "run", run)
    assert ran(["print(1)", "'doomed'"], [[""], [""]]) == [[(b"1\n", "ok")], None]


@needs_bubblewrap
def test_an_error_of_our_own_on_any_thread_reaches_the_caller(monkeypatch):
    def fails(*_):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(bubblewrap.Worker, "run", fails)
    with pytest.raises(ZeroDivisionError, match="ours"):
        sandbox.run_programs(["print(1)", "print(2)"], [["1\n"], ["1\n"]])


@needs_bubblewrap
def test_works_in_a_forked_process_and_leaves_the_parents_workers():
    sandbox.run_programs(["print(1)"], [[""]])
    pid = os.fork()
    if pid == 0:
        good = ran(["print(3)"], [[""]]) == [[(b"3\n", "ok")]]
        sandbox._pool.close()
        os._exit(0 if good else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert ran(["print(4)"], [[""]]) == [[(b"4\n", "ok")]]


@needs_bubblewrap
@pytest.mark.parametrize("end", ["exit", "killed"])
def test_nothing_outlives_the_process_that_grades(end):
    script = (
        "import sys, threading, time\nfrom m2rl_lib import sandbox\nsandbox.run_programs(['print(1)'] , [['']], workers=1)\n"
        "threading.Thread(target=sandbox.run_programs, args=(['while True: pass'], [['']]), kwargs=dict(timeout_seconds=30), daemon=True).start()\n"
        "time.sleep(0.5)\nprint(*[worker.pid_inside for worker in sandbox._pool.alive], flush=True)\n"
        + ("" if end == "exit" else "time.sleep(60)\n")
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=pathlib.Path(__file__).parents[2]
    ) as process:
        inside = [int(pid) for pid in process.stdout.readline().split()]
        if end == "killed":
            process.kill()
    deadline = time.monotonic() + 3
    while (left := [pid for pid in inside if os.path.exists(f"/proc/{pid}/exe")]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert inside and not left


def test_without_bubblewrap_an_error_of_one_line_names_the_choices(monkeypatch, unchecked):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(sandbox.SandboxError) as raised:
        sandbox.run_programs(["print(1)"], [[""]])
    message = str(raised.value)
    assert "\n" not in message and all(word in message for word in ("bwrap", "apt-get", "SandboxFusion", "sandbox_kind: none"))


def test_a_bubblewrap_that_may_not_start_is_an_error_in_its_own_words(monkeypatch, tmp_path, unchecked):
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(sandbox.SandboxError, match="did not start .bwrap: No permissions.*sandbox_kind: none") as raised:
        sandbox.check()
    assert "\n" not in str(raised.value)


def test_a_machine_without_a_system_call_filter_is_an_error(monkeypatch, unchecked):
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "riscv64")
    with pytest.raises(sandbox.SandboxError, match="no system call filter for riscv64"):
        sandbox.check()


@needs_bubblewrap
def test_a_canary_that_gets_out_is_an_error(monkeypatch, unchecked):
    monkeypatch.setattr(canaries, "ESCAPE", canaries.ESCAPE.replace('"/canary"', '"/tmp/canary"'))
    with pytest.raises(sandbox.SandboxError, match="a canary got out of the sandbox: write to the root folder"):
        sandbox.check()


def test_unprotected_only_when_asked_for_and_stamped():
    sandbox.configure("none")
    assert "UNPROTECTED" in sandbox.stamp(sandbox.kind()) and not sandbox.stamp("bubblewrap")
    found = ran(["print(int(input()) + 1)", "while True: pass"], [["1", "2"], [""]], timeout_seconds=1)
    assert found == [[(b"2\n", "ok"), (b"3\n", "ok")], [(b"", "timeout")]]


@pytest.mark.parametrize("kind", ["docker", "", "ftp://127.0.0.1"])
def test_unknown_kinds_and_mismatched_lengths_are_refused(kind):
    with pytest.raises(ValueError, match="2 programs but 1 lists"):
        sandbox.run_programs(["", ""], [[""]])
    with pytest.raises(ValueError, match="allowed: bubblewrap, none, or the http address"):
        sandbox.configure(kind)


class StandIn(http.server.BaseHTTPRequestHandler):
    """SandboxFusion's POST /run_code, as its sandbox_api.py answers it: a bare interpreter behind HTTP."""

    faults = 0

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/run_code" and body["language"] == "python"
        answer = {"status": "SandboxError", "message": "no runner", "run_result": None}
        if "broken" in body["code"] or StandIn.faults > 0:
            StandIn.faults -= 1
        else:
            given = {"input": body["stdin"], "capture_output": True, "text": True, "timeout": body["run_timeout"]}
            try:
                done = subprocess.run([sys.executable, "-c", body["code"]], **given)
                result = {"status": "Finished", "return_code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
            except subprocess.TimeoutExpired:
                result = {"status": "TimeLimitExceeded", "stdout": "", "stderr": ""}
            answer = {"status": "Failed" if result.get("return_code", 1) else "Success", "message": "", "run_result": result}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *arguments):
        pass


def test_sandboxfusion_gives_the_same_answers():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), StandIn) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sandbox.configure(f"http://127.0.0.1:{server.server_port}/")
        programs = ["print(int(input()) ** 2)", "1 / 0", "while input(): pass", "'broken'", "print('x' * 99)"]
        found = ran(programs, [["3", "x"], [""], ["go\ngo", "go"], [""], [""]], timeout_seconds=2, output_bytes=50)
        StandIn.faults = 1
        assert ran(["print(5)"], [[""]]) == [[(b"5\n", "ok")]]
        server.shutdown()
    error = (b"", "error")
    assert found == [[(b"9\n", "ok"), error], [error], [error, error], None, [(b"x" * 50, "output")]]
    assert sandbox.stamp(sandbox.kind()) == f"generated programs run on http://127.0.0.1:{server.server_port}/"


def test_a_sandboxfusion_that_does_not_answer_is_an_error():
    sandbox.configure("http://127.0.0.1:9")
    with pytest.raises(sandbox.SandboxError):
        sandbox.run_programs(["print(1)"], [[""]])
