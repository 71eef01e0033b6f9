"""Run untrusted Python programs on text inputs and give back the bytes they wrote: what the coding verifier stands on.

The judge stays outside. A program gets a standard input, never an expected output; `run_programs` returns what it
wrote and how it ended, and the caller compares. Programs run in bubblewrap (`bubblewrap.py`, `seccomp.py`), forked
from a warm interpreter inside it (`inside/`), under resource limits. A sandbox that fails is never a verdict: its
programs give `None`, and one that cannot start or lets a canary out (`canaries.py`) raises `SandboxError`. The remote
choice (`remote.py`) speaks the `/run_code` interface of ByteDance's SandboxFusion.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Sequence

from m2rl_lib.sandbox import canaries, remote
from m2rl_lib.sandbox.bubblewrap import Run, SandboxError, advice
from m2rl_lib.sandbox.pool import Pool

__all__ = ["Run", "SandboxError", "check", "configure", "kind", "run_programs", "stamp"]

_kind = "bubblewrap"
_checked = False
_pool = Pool(isolated=True)
_lock = threading.RLock()


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

    Returns one entry a program: a list of `Run`, one an input, in order; or None where the sandbox failed twice (the
    second time a fresh one). A program that overruns `timeout_seconds` (of wall clock, for each input) is not run on
    its further inputs; they are "timeout" too. `memory_bytes` bounds the address space of a process and the resident
    memory of all processes of a program; `output_bytes` the standard output of one run. At most `workers` sandboxes
    (default: the cores this process may use) work at once; they stay warm between calls. Equal programs with equal
    inputs run once. Programs have the standard library only. Callable from any thread. Raises SandboxError where
    there is no sandbox (see `check`).

    >>> run_programs(["print(int(input()) ** 2)"], [["3", "x"]])  # doctest: +SKIP
    [[Run(stdout=b'9\\n', status='ok'), Run(stdout=b'', status='error')]]
    """
    if len(programs) != len(inputs):
        raise ValueError(f"run_programs: {len(programs)} programs but {len(inputs)} lists of inputs; give one list a program")
    check()
    keys = [(program, tuple(texts)) for program, texts in zip(programs, inputs)]
    jobs = list(dict.fromkeys(keys))
    limits = {"timeout": timeout_seconds, "memory": memory_bytes, "output": output_bytes}
    if _kind.startswith("http"):
        answers = remote.run_jobs(_kind, jobs, limits)
        found = [None if runs is None else [Run(*run) for run in runs] for runs in answers]
    else:
        found = _pool.run(jobs, limits, max(1, workers or _cores()))
    by_job = dict(zip(jobs, found))
    return [None if by_job[key] is None else list(by_job[key]) for key in keys]


def check() -> None:
    """Once a process: start a sandbox and send canaries that try to get out. Raises SandboxError, one line: what is
    missing, what the choices are."""
    global _checked
    with _lock:
        if _checked:
            return
        _checked = True  # the canaries go through run_programs themselves
        try:
            if _kind == "bubblewrap":
                _pool.give(_pool.take(1 << 30))
            fault = canaries.fault(run_programs, protected=_kind == "bubblewrap")
            if fault:
                raise SandboxError(advice(fault))
        except BaseException:
            _checked = False
            raise


def configure(kind: str) -> None:
    """Choose where programs run: "bubblewrap" (default), the http address of a SandboxFusion server, or "none"
    (unprotected: only when the parameter file says so). Stops the warm workers. Raises ValueError for anything
    else."""
    global _kind, _checked, _pool
    if kind not in ("bubblewrap", "none") and not kind.startswith(("http://", "https://")):
        raise ValueError(f"sandbox_kind is {kind!r}; allowed: bubblewrap, none, or the http address of a SandboxFusion server")
    with _lock:
        _pool.close()
        _kind, _checked, _pool = kind, False, Pool(isolated=kind == "bubblewrap")


def kind() -> str:
    """What is in force, as given to `configure`."""
    return _kind


def stamp(place: str | None) -> str:
    """What results have to say of where their programs ran, given `sandbox_kind`: nothing if that was bubblewrap."""
    where = {None: "", "bubblewrap": "", "none": "UNPROTECTED (sandbox_kind: none)"}.get(place, f"on {place}")
    return where and f"generated programs run {where}"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _after_fork() -> None:
    """In a forked process: a lock of its own, and no hold on the parent's workers."""
    global _lock
    _lock = threading.RLock()
    _pool.forget()


atexit.register(lambda: _pool.close())
os.register_at_fork(after_in_child=_after_fork)
