"""The scoreboard of the sandbox: throw every program of tests/hostile/ and count. `python benchmarks/hostile.py --out benchmarks/HOSTILE.md`

What is counted: false passes over attempts (a hostile program whose effect or faked answer came through), false fails over at least 200 honest
programs (idle, and with twice as many busy processes as cores), survivors (processes left 0.5 s after their program's end), sandboxes that failed,
and programs a second, ten tests each, with isolation on. The coding verifier's figures rest on these.
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
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from hostile import cases, known_good  # noqa: E402

from m2rl_lib import sandbox  # noqa: E402

BOMBS = 32


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


def speed(programs: int, style: int, workers: int) -> float:
    """Distinct ten-test programs of one style a second."""
    made = known_good.make_programs(programs * len(known_good.STYLES), 10, seed=3)[style :: len(known_good.STYLES)]
    sandbox.run_programs([program for program, _, _ in made[:8]], [inputs for _, inputs, _ in made[:8]], workers=workers)
    started = time.perf_counter()
    sandbox.run_programs([program for program, _, _ in made], [inputs for _, inputs, _ in made], workers=workers)
    return len(made) / (time.perf_counter() - started)


def latencies(programs: int) -> list[float]:
    """Seconds of a call with one ten-test program, one after the other."""
    found = []
    for program, inputs, _ in known_good.make_programs(programs * len(known_good.STYLES), 10, seed=4)[
        1 :: len(known_good.STYLES)
    ]:
        started = time.perf_counter()
        sandbox.run_programs([program], [inputs])
        found.append(time.perf_counter() - started)
    return found


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, help="write the tables to this Markdown file too")
    parser.add_argument("--honest", type=int, default=220, help="honest programs for each count of false fails")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    typed_error = no_sandbox()
    sandbox.check()
    with cases.bait() as values:
        thrown = [cases.throw(case, values) for case in cases.load_cases()]
        bombs = bombs_beside_honest(values)
    sandbox.check()
    cores, count = len(os.sched_getaffinity(0)), arguments.honest
    fast, forked, fast_one = speed(300, 1, cores), speed(60, 3, cores), speed(150, 1, 1)
    taken = latencies(150)
    idle = false_fails(count, seed=1)
    with busy_processes(2 * cores):
        loaded = false_fails(count, seed=2)
    survivors = sum(entry["survivors"] for entry in thrown) + bombs["survivors"] + len(cases.survivors())
    attempts = [entry for entry in thrown if entry["case"].expect != "P"]
    blocked = [entry for entry in thrown if entry["case"].expect == "P"]
    false_passes = sum(entry["passed"] for entry in attempts) + sum(not entry["good"] for entry in blocked)
    rows = [
        ("hostile programs thrown", len(thrown)),
        ("false passes / attempts (a faked answer or an effect that came through)", f"{false_passes} / {len(thrown)}"),
        ("not as expected (outcome, time limit + 0.5 s, survivors)", sum(not entry["good"] for entry in thrown)),
        (
            f"fork bombs in {BOMBS} sandboxes at once: stopped; honest neighbours unharmed",
            f"{bombs['stopped']}/{BOMBS}; {bombs['unharmed']}/{BOMBS}",
        ),
        ("survivors", survivors),
        ("no sandbox on the machine: a typed error", "yes" if typed_error else "NO"),
        ("false fails, idle", f"{idle[0]} / {count} (sandbox failed: {idle[1]})"),
        (f"false fails, {2 * cores} busy processes on {cores} cores", f"{loaded[0]} / {count} (sandbox failed: {loaded[1]})"),
        (f"programs a second, ten tests each, {cores} sandboxes", f"{fast:.0f}"),
        ("the same, one sandbox", f"{fast_one:.0f}"),
        (f"programs that get a fork a test, a second, {cores} sandboxes", f"{forked:.0f}"),
        (
            "one program, ten tests: median, 95th percentile",
            f"{1e3 * statistics.median(taken):.1f} ms, {1e3 * statistics.quantiles(taken, n=20)[-1]:.1f} ms",
        ),
    ]
    lines = [
        "# Hostile programs",
        "",
        "Written by `python benchmarks/hostile.py --out benchmarks/HOSTILE.md`; the programs are in `tests/hostile/`.",
        f"Sandbox: {sandbox.kind()}. {cores} cores, load average {load:.1f} before it started, from other work.",
        "",
        "| what | measured |",
        "|---|---|",
    ]
    lines += [f"| {name} | {value} |" for name, value in rows]
    lines += [
        "",
        "Expected: F graded fail, K killed within its limit + 0.5 s, FK either, P the right answer passes and the effect is blocked.",
        "",
        "| program | what it does | expected | came to | seconds | as expected |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {entry['case'].name} | {entry['case'].what} | {entry['case'].expect} | {entry['outcome']} | {entry['seconds']:.2f} | {'yes' if entry['good'] else 'NO'} |"
        for entry in thrown
    ]
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
