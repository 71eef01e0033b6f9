"""Run Python programs on text inputs: once per distinct program, in warm sandboxes that a canary could not leave."""

import atexit
import os
import threading
from collections.abc import Sequence

from m2rl_lib.sandbox import canaries, remote
from m2rl_lib.sandbox.bubblewrap import Run, SandboxError, advice
from m2rl_lib.sandbox.pool import Pool

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
    """One `Run` of each Python source `programs[i]` for each standard input in `inputs[i]`, in fresh state, from any thread.

    None for a program whose sandbox failed twice. After one timeout (wall clock) its further inputs are "timeout" too.
    `memory_bytes` bounds each process and all of a program's together, `workers` (default: the usable cores) the sandboxes.
    """
    if len(programs) != len(inputs):
        raise ValueError(f"run_programs: {len(programs)} programs but {len(inputs)} lists of inputs; give one list a program")
    check()
    keys = list(zip(programs, map(tuple, inputs)))
    jobs = list(dict.fromkeys(keys))
    limits = {"timeout": timeout_seconds, "memory": memory_bytes, "output": output_bytes}
    if _kind.startswith("http"):
        found = remote.run_jobs(_kind, jobs, limits)
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        found = _pool.run(jobs, limits, max(1, workers or cores))
    by_job = dict(zip(jobs, found))
    return [None if by_job[key] is None else list(by_job[key]) for key in keys]


def check() -> None:
    """Once per process: start a sandbox and send canaries that try to get out. SandboxError in one line names the choices."""
    global _checked
    with _lock:
        if _checked:
            return
        _checked = True  # the canaries go through run_programs themselves
        try:
            if _kind == "bubblewrap":
                _pool.give(_pool.take(1 << 30))  # an error in its own words where none can start
            fault = canaries.fault(run_programs, protected=_kind == "bubblewrap")
            if fault:
                raise SandboxError(advice(fault))
        except BaseException:
            _checked = False
            raise


def configure(kind: str) -> None:
    """Choose where programs run, and stop the warm workers: bubblewrap, the http address of a SandboxFusion server, or none."""
    global _kind, _checked
    if kind not in ("bubblewrap", "none") and not kind.startswith(("http://", "https://")):
        raise ValueError(f"sandbox_kind is {kind!r}; allowed: bubblewrap, none, or the http address of a SandboxFusion server")
    with _lock:
        _pool.close()
        _kind, _checked, _pool.isolated = kind, False, kind == "bubblewrap"


def kind() -> str:
    """What is in force, as given to `configure`."""
    return _kind


def stamp(place: str | None) -> str:
    """What results report of where their programs ran, given `sandbox_kind`: nothing for bubblewrap."""
    where = {None: "", "bubblewrap": "", "none": "UNPROTECTED (sandbox_kind: none)"}.get(place, f"on {place}")
    return where and f"generated programs run {where}"


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()
    _pool.forget()


atexit.register(_pool.close)
os.register_at_fork(after_in_child=_after_fork)
