"""Verdicts a second of each domain, and the sandbox beside a bare interpreter a test.

    python dev/verifying.py

Prints JSON. The completions are demonstrations of distinct problems, a fifth of them with a wrong step. The bare interpreter is
`python -I -S` with one process a test, no isolation and no limits: what people use instead, or less than that.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from common import parameters

from m2rl_lib import domains, sandbox
from m2rl_lib.data import problem_sets


def completions(domain: str, count: int) -> tuple[list[str], list[dict]]:
    """Demonstrations of `count` problems, a fifth with a wrong first step."""
    rng = random.Random(0)
    rows = problem_sets.train_problems(domain, count, 7, problem_sets.world_of(parameters()))
    wrong = [frozenset({0}) if i % 5 == 0 else frozenset() for i in range(count)]
    return [domains.ALL[domain].demonstrate(row, rng, steps) for row, steps in zip(rows, wrong)], rows


def bare(texts: list[str], rows: list[dict], workers: int) -> list[float]:
    """The coding domain's verdicts by one bare interpreter a test."""

    def passes(job: tuple[str, str, str]) -> bool:
        program, given, expected = job
        run = subprocess.run([sys.executable, "-I", "-S", "-c", program], input=given, capture_output=True, text=True, timeout=10)
        return run.returncode == 0 and run.stdout.split() == expected.split()

    tests = [row["verifier_metadata"]["unit_tests"] for row in rows]
    jobs = [
        (domains.ALL["coding"].answer(text), given, expected)
        for text, test in zip(texts, tests)
        for given, expected in zip(test["inputs"], test["outputs"])
    ]
    with ThreadPoolExecutor(workers) as pool:
        passed = iter(list(pool.map(passes, jobs)))
    return [float(all([next(passed) for _ in test["inputs"]])) for test in tests]


def measure(count: int, repeats: int) -> list[dict]:
    """One row per domain and, last, one for the bare interpreter, which runs in turns with the sandbox on a tenth of the programs."""
    sandbox.configure(parameters().sandbox_kind)
    found = []
    for domain in domains.DOMAINS:
        texts, rows = completions(domain, count)
        domains.ALL[domain].verify(texts[:4], rows[:4])  # what starts once, starts here
        rates, bare_rates = [], []
        for _ in range(repeats):
            started = time.perf_counter()
            rewards = domains.ALL[domain].verify(texts, rows)
            rates.append(count / (time.perf_counter() - started))
            if domain == "coding":
                few, started = count // 10, time.perf_counter()
                if bare(texts[:few], rows[:few], workers=2) != rewards[:few]:
                    sys.exit("the sandbox and the bare interpreter gave different verdicts")
                bare_rates.append(few / (time.perf_counter() - started))
        found.append(row(domain, rates, count, rates))
        if domain == "coding":
            beside = row("coding by a bare python -I -S a test", bare_rates, few, rates)
    return [*found, beside]


def row(name: str, rates: list[float], count: int, ours: list[float]) -> dict:
    """Medians of rates, and of what ours was times as fast in the same round."""
    return {
        "verifier": name,
        "verdicts a second": statistics.median(rates),
        "least": min(rates),
        "ours times as fast": statistics.median(own / rate for own, rate in zip(ours, rates)),
        "n": count,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400, help="completions a domain")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.count, arguments.repeats), indent=1))


if __name__ == "__main__":
    main()
