"""One notebook as a stage of the study: its executed copy is published atomically, its failure is one line.

papermill executes into the stage's work folder; the copy takes its final name only when every cell ran and no secret is in it."""

import contextlib
import functools
import json
import os
import re
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from m2rl_lib.cli import kernels
from m2rl_lib.config import locations, study
from m2rl_lib.storage import artifacts, atomic, safety

SHOWN = re.compile(r"[a-z0-9@=._-]+: |[A-Za-z]*Error: ")  # the lines that go to the screen; the log has all
DISK = re.compile("No space left on device|os error 28|Errno 28|Disk quota exceeded|file write failed|PytorchStreamWriter failed")
MEMORY = re.compile("MemoryError|bad_alloc|not enough memory|an(?:'|no)t allocate memory|out of memory|OutOfMemory")
AGAIN = "then run the same command again: what is published stays, and training goes on from its last checkpoint"
STARTS = 3  # of a kernel


class StageError(RuntimeError):
    """A stage that failed; the message is one line that says what happened and what to do."""


class Tee:
    """What a notebook prints: all of it to a log, the stage's own lines to the screen too, secrets to neither."""

    def __init__(self, log):
        self.log, self.rest = log, ""  # a line may come in pieces

    def write(self, text: str) -> None:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            if found := safety.find_secrets(line):
                line = f"(a line is left out: it held {', '.join(found)})"
            self.log.write(line + "\n")
            if SHOWN.match(line):
                print(line, flush=True)

    def flush(self) -> None:
        self.log.flush()


def run(notebook: Path, out: Path, log: Path, values: dict) -> None:
    """Execute `notebook` with the parameters `values` to `out`, its log and unfinished copy in `log`; else a StageError."""
    for name in values:  # papermill writes names into the notebook as code
        if name not in study.FIELDS:
            raise study.ParameterError(f"{notebook.name}: {name!r} is no parameter")
    study.notebook_parameters(values)
    running, killed = log / "unfinished.ipynb", _killed_for_memory()
    try:
        log.mkdir(parents=True, exist_ok=True)
        (log / "papermill.log").write_text("")
        with (log / "papermill.log").open("a") as file, _kernel_errors_to(file):
            tee = Tee(file)
            streams = {"progress_bar": False, "stdout_file": tee, "stderr_file": tee}
            try:
                executed = answered(papermill.execute_notebook)(notebook, running, values, kernel_name="python3", **streams)
            finally:
                tee.write("\n" if tee.rest else "")
        publish(executed, notebook, out, values)
        running.unlink()
    except (PapermillExecutionError, DeadKernelError, OSError) as error:
        kind, message = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", str(error))
        processes = kind in ("LaunchError", "DeadKernelError")  # which may have been killed from outside
        raise StageError(explain(kind, message, processes and _killed_for_memory() > killed)) from None
    finally:
        if running.is_file() and safety.find_secrets(running.read_text()):
            running.unlink()  # kept for study otherwise


def answered(start: Callable) -> Callable:
    """`start` tried up to STARTS times: of two kernels that start at once one may die before it answers, its port taken."""

    @functools.wraps(start)
    def started(*given, **named):
        for _ in range(STARTS):
            try:
                return start(*given, **named)
            except RuntimeError as error:
                if "died before replying" not in str(error):
                    raise
        raise StageError(f"the notebook's kernel died {STARTS} times before it answered")

    return started


@contextlib.contextmanager
def _kernel_errors_to(file) -> Iterator[None]:
    """What the kernel's process itself writes (how it crashed) goes to the log, not to the screen."""
    own = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(own, 2)
        os.close(own)


def publish(executed: nbformat.NotebookNode, notebook: Path, out: Path, values: dict) -> None:
    """Write the executed copy under its final name, with what made it in its metadata; StageError where it may not be published."""
    code = [cell for cell in executed.cells if cell.cell_type == "code" and cell.source.strip()]
    for number, cell in enumerate(code, 1):
        if cell.execution_count != number:  # a killed kernel or `sys.exit(0)` can end a notebook without an error
            first = cell.source.strip().splitlines()[0]
            raise StageError(f"cell {number} of {len(code)} did not run ({first!r}): the notebook ended early")
    made_by = {"versions": artifacts.versions(), "commit": artifacts.commit(), "device": artifacts.device()}
    executed.metadata["m2rl"] = {"source": atomic.sha256(notebook), "parameters": values} | made_by
    executed.metadata.papermill["output_path"] = str(out)
    text = nbformat.writes(executed) + "\n"
    if found := safety.find_secrets(text):
        raise StageError(f"the executed notebook holds {', '.join(found)}: it is not published; find the cell that prints it")
    atomic.write(out, text.encode())


def explain(kind: str, message: str, killed_for_memory: bool = False) -> str:
    """One line for what ended a notebook: an exception's name and message, or the death of its kernel."""
    text = f"{kind}: {message}"
    line = " ".join(text.split())[:600]
    if DISK.search(text):
        free = shutil.disk_usage(locations.ROOT).free / 1e9
        return f"the disk is full ({free:.1f} GB free on that of {locations.ROOT}): free some space, {AGAIN} ({line})"
    if killed_for_memory or MEMORY.search(text):
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        cure = "run fewer stages at once (make study CORES=1) or lower the batch in params/"
        return f"out of memory (the stage's processes reached {peak:.1f} GB): {cure}, {AGAIN} ({line})"
    if kind == "DeadKernelError":
        return f"the notebook's kernel died: it was killed from outside, or crashed; look at `dmesg` and the log, {AGAIN}"
    return line


def _killed_for_memory() -> int:
    """How often Linux has killed a process of this control group for want of memory; 0 where it does not say."""
    try:
        group = Path("/proc/self/cgroup").read_text().strip().rsplit(":", 1)[1].lstrip("/")
        events = Path("/sys/fs/cgroup", group, "memory.events").read_text()
        return int(dict(line.split() for line in events.splitlines()).get("oom_kill", 0))
    except (OSError, IndexError, ValueError):
        return 0


def main(notebook: str, out: str, log: str, values: str) -> int:
    """What `python -m m2rl_lib.cli.run_notebook` does; the exit status."""
    kernels.use()
    try:
        run(Path(notebook), Path(out), Path(log), json.loads(values))
    except (StageError, study.ParameterError) as error:
        print(f"{Path(log).name}: FAILED: {error}; log: {log}/papermill.log", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
