"""The scoreboard of the graders: throw every case of tests/hostile/ and count. `make hostile`

What is counted: false passes over attempts (a hostile program whose effect or faked answer came through, a wrong
completion that got a reward), false fails over at least 200 honest programs (idle, and with twice as many busy processes
as cores), survivors (processes left 0.5 s after their program's end), sandboxes that failed, exceptions that a grader let
through, and programs a second, ten tests each, with isolation on, beside bare `python -I -S` on one test each in the same
minute. Programs a second depend on what else the machine does, so the processor time of a program is measured too.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from hostile import cases, known_good  # noqa: E402

from m2rl_lib import sandbox  # noqa: E402

BOMBS = 32
FAST_STYLE, FORKING_STYLE = 1, 20  # of known_good.STYLES: reads all of its input; ends its process


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """`count` processes that do nothing but compute."""
    loops = [subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def false_fails(programs: int, seed: int) -> tuple[int, int]:
    """(honest programs graded fail, honest programs the sandbox could not run)."""
    made = known_good.make_programs(programs, 10, seed)
    found = sandbox.run_programs([program for program, _, _ in made], [inputs for _, inputs, _ in made])
    lost = sum(runs is None for runs in found)
    return sum(runs is not None and not cases.passes(runs, answers) for runs, (_, _, answers) in zip(found, made)), lost


def ten_test_programs(count: int, style: int, seed: int) -> tuple[list[str], list[list[str]]]:
    """`count` distinct programs of one style, and ten inputs each."""
    made = known_good.make_programs(count * len(known_good.STYLES), 10, seed)[style :: len(known_good.STYLES)]
    return [program for program, _, _ in made], [inputs for _, inputs, _ in made]


def timed(count: int, call: Callable) -> float:
    """How many a second, where `call` does `count`."""
    started = time.perf_counter()
    call()
    return count / (time.perf_counter() - started)


def speed(count: int, style: int, workers: int) -> float:
    """Programs of one style a second."""
    programs, inputs = ten_test_programs(count + 8, style, seed=3)
    sandbox.run_programs(programs[:8], inputs[:8], workers=workers)
    return timed(count, lambda: sandbox.run_programs(programs[8:], inputs[8:], workers=workers))


def processor_seconds() -> float:
    """Processor time so far of this process and of its sandboxes, with all that has ended in them."""
    ticks = 0
    for worker in sandbox._pool.alive:
        fields = pathlib.Path(f"/proc/{worker.pid_inside}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def processor_time(count: int) -> float:
    """Processor seconds of one ten-test program."""
    programs, inputs = ten_test_programs(count + 8, FAST_STYLE, seed=7)
    sandbox.run_programs(programs[:8], inputs[:8])
    before = processor_seconds()
    sandbox.run_programs(programs[8:], inputs[8:])
    return (processor_seconds() - before) / count


def speed_beside_bare(rounds: int, workers: int) -> list[tuple[float, float]]:
    """(programs a second in the sandbox, interpreters a second without it), in turn, `workers` at work in both."""
    programs, inputs = ten_test_programs(60 * rounds, FAST_STYLE, seed=6)
    python = os.path.realpath(sys._base_executable)

    def bare(at: int) -> None:
        subprocess.run([python, "-I", "-S", "-c", programs[at]], input=inputs[at][0].encode(), capture_output=True, check=True)

    found = []
    with ThreadPoolExecutor(workers) as threads:
        for first in range(0, 60 * rounds, 60):
            part = slice(first, first + 60)
            rate = timed(60, lambda part=part: sandbox.run_programs(programs[part], inputs[part], workers=workers))
            found.append((rate, timed(30, lambda first=first: list(threads.map(bare, range(first, first + 30))))))
    return found


def latencies(count: int) -> list[float]:
    """Seconds of a call with one ten-test program, one after the other."""
    jobs = zip(*ten_test_programs(count, FAST_STYLE, 4))
    return [1 / timed(1, lambda job=job: sandbox.run_programs(*([part] for part in job))) for job in jobs]


def bombs_beside_honest(values: dict[str, str]) -> dict:
    """Fork bombs in 32 sandboxes at once, 32 honest programs among them."""
    bomb = next(case for case in cases.load_cases() if case.name == "09_fork_bomb")
    made = known_good.make_programs(BOMBS, 2, seed=5)
    programs = [text for at, (program, _, _) in enumerate(made) for text in (bomb.source + f"# {at}\n", program)]
    inputs = [texts for _, honest, _ in made for texts in ([""], honest)]
    sandbox.configure("bubblewrap")
    found = sandbox.run_programs(programs, inputs, workers=BOMBS, timeout_seconds=10)
    unharmed = sum(runs is not None and cases.passes(runs, answers) for runs, (_, _, answers) in zip(found[1::2], made))
    stopped = sum(runs is not None and runs[0].status != "ok" for runs in found[::2])
    left = len(cases.survivors())
    sandbox.configure("bubblewrap")
    return {"stopped": stopped, "unharmed": unharmed, "survivors": left}


def no_sandbox() -> bool:
    """Case 17: without bubblewrap the answer is a typed error."""
    path = os.environ["PATH"]
    try:
        os.environ["PATH"] = "/nonexistent"
        sandbox.configure("bubblewrap")
        sandbox.run_programs(["print(1)"], [[""]])
    except sandbox.SandboxError:
        return True
    finally:
        os.environ["PATH"] = path
        sandbox.configure("bubblewrap")
    return False


def attempt(throw: Callable, name: str, what: str, *arguments: object) -> dict:
    """What `throw` found, or the exception that a grader let through."""
    try:
        return throw(*arguments)
    except Exception as error:
        given = {"name": name, "what": what, "expect": "", "outcome": f"exception: {error!r}"[:80]}
        return given | {"seconds": 0, "survivors": 0, "passed": False, "good": False}


def throw_everything() -> tuple[list[dict], dict]:
    """Every program, completion and reward of tests/hostile/, and the fork bombs all at once."""
    texts, rewards = cases.load_data("texts"), cases.load_data("rewards")
    with cases.bait() as values:
        thrown = [attempt(cases.throw, case.name, case.what, case, values) for case in cases.load_cases()]
        thrown += [attempt(cases.throw_texts, name, case["what"], name, case) for name, case in texts.items()]
        with contextlib.redirect_stdout(sys.stderr):  # training prints its progress
            thrown += [attempt(cases.throw_rewards, name, case["what"], name, case) for name, case in rewards.items()]
        return thrown, bombs_beside_honest(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, help="write the tables to this Markdown file too")
    parser.add_argument("--honest", type=int, default=220, help="honest programs for each count of false fails")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    cores, count = len(os.sched_getaffinity(0)), arguments.honest
    typed_error = no_sandbox()
    sandbox.check()
    beside = speed_beside_bare(9, cores)
    rate, bare = (statistics.median(rates) for rates in zip(*beside))
    spent = processor_time(300)
    one, forked, taken = speed(150, FAST_STYLE, 1), speed(40, FORKING_STYLE, cores), latencies(150)
    idle = false_fails(count, seed=1)
    with busy_processes(2 * cores):
        loaded = false_fails(count, seed=2)
    thrown, bombs = throw_everything()
    survivors = sum(entry["survivors"] for entry in thrown) + bombs["survivors"] + len(cases.survivors())
    false_passes = sum(
        entry["passed"] and entry["expect"] != "P" or not entry["good"] and entry["expect"] == "P" for entry in thrown
    )
    stopped, unharmed = (f"{bombs[key]}/{BOMBS}" for key in ("stopped", "unharmed"))
    best, middle, late = max(beside)[0], statistics.median(taken), statistics.quantiles(taken, n=20)[-1]
    rows = [
        ("cases thrown (programs, completions, rewards)", len(thrown)),
        ("false passes / attempts (a faked answer or an effect that came through)", f"{false_passes} / {len(thrown)}"),
        ("not as expected (outcome, time limit, survivors)", sum(not entry["good"] for entry in thrown)),
        ("exceptions that a grader let through", sum(entry["outcome"].startswith("exception") for entry in thrown)),
        (f"fork bombs in {BOMBS} sandboxes at once: stopped; honest neighbours unharmed", f"{stopped}; {unharmed}"),
        ("survivors", survivors),
        ("no sandbox on the machine: a typed error", "yes" if typed_error else "NO"),
        ("false fails, idle", f"{idle[0]} / {count} (sandbox failed: {idle[1]})"),
        (f"false fails, {2 * cores} busy processes on {cores} cores", f"{loaded[0]} / {count} (sandbox failed: {loaded[1]})"),
        (
            f"programs a second, ten tests each, {cores} sandboxes: median and best of {len(beside)} rounds",
            f"{rate:.0f}, {best:.0f}",
        ),
        (f"bare `python -I -S` a second, one test each, {cores} at once, in turn with these", f"{bare:.0f}"),
        ("the ratio of the two, median", f"{statistics.median(ours / theirs for ours, theirs in beside):.1f}"),
        ("processor time of such a program, all processes", f"{1e3 * spent:.2f} ms"),
        (f"so programs a second on {cores} cores left alone", f"{cores / spent:.0f}"),
        ("programs a second, one sandbox", f"{one:.0f}"),
        (f"programs that get a fork a test, a second, {cores} sandboxes", f"{forked:.0f}"),
        ("one program, ten tests: median, 95th percentile", f"{1e3 * middle:.1f} ms, {1e3 * late:.1f} ms"),
    ]
    lines = [
        "# Hostile cases",
        "",
        "Written by `make hostile` (`dev/hostile.py`); the cases are in `tests/hostile/`, one file each.",
        f"Sandbox: {sandbox.kind()}. {cores} cores, load average {load:.1f} before it started, from other work.",
        "",
        "| what | measured |",
        "|---|---|",
    ]
    lines += [f"| {name} | {value} |" for name, value in rows]
    lines += [
        "",
        "Expected of programs: F graded fail, K killed within its limit + 0.5 s, FK either, P the right answer passes and",
        "the effect is blocked. Of completions: the reward, within 3 s, from any thread. Of rewards in training: E a typed",
        "error, or the signs of the eight advantages, and finite weights.",
        "",
        "| case | what it does | expected | came to | seconds | as expected |",
        "|---|---|---|---|---|---|",
    ]
    shown = ("name", "what", "expect", "outcome")
    for entry in sorted(thrown, key=lambda entry: entry["name"]):
        cells = [*(entry[key] for key in shown), f"{entry['seconds']:.2f}", "yes" if entry["good"] else "NO"]
        lines.append(f"| {' | '.join(cells)} |")
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
