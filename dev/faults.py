"""Fault drill: every training, merging and evaluation stage killed at random moments, and each other fault injected,
then compared with a run that nobody broke. `make faults` writes dev/FAULTS.md.

The stages are the library's own, at the smoke study's scale with more steps; each runs in a process forked from this one,
so that libraries load once. One thing differs from a study: a reward is a hash of the completion's text, since at this
scale no model is ever right, every advantage would be 0 and the weights would not depend on what was sampled.
"""

import argparse
import contextlib
import ctypes
import math
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import torch

from m2rl_lib import domains
from m2rl_lib.cli import run_notebook
from m2rl_lib.config import locations, study
from m2rl_lib.config.study import ParameterError
from m2rl_lib.evaluation import avg_at_k
from m2rl_lib.merging import merge
from m2rl_lib.storage import artifacts, atomic, locks, result_tables, safety
from m2rl_lib.training import grpo, mt_opd, sft
from m2rl_lib.training import resume as resuming

SMALL = {
    "domains": ["math", "agent"],
    "sft_steps": 40,
    "rlvr_steps": 40,
    "rlvr_mixed_steps": 60,
    "distill_steps": 40,
    "rlvr_max_tokens": 12,
    "merge_methods": ["average", "ties"],
    "sandbox_kind": "none",  # no program is run: rewards are hashes
}
STAGES = ("sft", "rl-math", "rl-agent", "rl-null", "rl-multi", "merges", "mt-opd", "evaluate-all")
TABLES = ("sft_curve", "training", "curves", "distillation", "costs", "scores", "samples", "greedy")
UNTIMED = ("time", "runtime", "per_second", "seconds", "memory")  # what no two runs share
FORK = multiprocessing.get_context("fork")
step_reached = FORK.Value("i", 0)


def parameters(name: str) -> SimpleNamespace:
    """The smoke study, smaller, as study `name`."""
    values = study.load(locations.ROOT / "params" / "smoke.yaml").model_dump() | SMALL
    return SimpleNamespace(**values | {"study": name, "repeat": 0, "permute_rewards": False})


def run_stage(p: SimpleNamespace, name: str) -> None:
    """One stage and the record that it is done, as its notebook would."""
    start = locations.model_folder(p.study, p.seed, "sft")
    if name == "sft":
        made, read = sft.run(p), []
    elif name == "merges":
        made, read = merge.run(p), merge.read_by(p)
    elif name == "mt-opd":
        made, read = mt_opd.run(p), [start, *(locations.model_folder(p.study, p.seed, f"rl-{d}") for d in p.domains)]
    elif name == "evaluate-all":
        p.models, p.group, p.purpose = ["sft", "rl-math", "rl-multi", "merge-ties", "mt-opd"], "all", "scores"
        made, read = [], avg_at_k.run(p)
    elif name == "rl-multi":
        made, read = grpo.run_mixed(p), [start]
    else:
        p.domain, p.permute_rewards = ("math", True) if name == "rl-null" else (name[3:], False)
        made, read = grpo.run_expert(p), [start]
    artifacts.finish(p, name, made, read)


def in_child(work: Callable[[], object], log: Path, kill_after: float | None = None) -> tuple[int, float]:
    """Run `work` in a forked process: (its exit status, −9 if it was killed; seconds). Its output goes to `log`."""

    def logged() -> None:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
        work()

    started, child = time.monotonic(), FORK.Process(target=logged)
    child.start()
    child.join(kill_after)
    child.kill()  # nothing where it has ended
    child.join()
    return child.exitcode, time.monotonic() - started


def prepare() -> None:
    """Hashes for rewards, and the step that a run has reached where this process can read it."""
    for module in domains.ALL.values():
        module.verify = lambda texts, rows: [float(zlib.crc32(text.encode()) % 2) for text in texts]
    original = resuming._Guard.on_optimizer_step

    def guard(self, args, state, control, **kwargs):
        step_reached.value = state.global_step + 1
        return original(self, args, state, control, **kwargs)

    resuming._Guard.on_optimizer_step = guard


# --- kills ----------------------------------------------------------------------------------------------


def digests(p: SimpleNamespace) -> dict[str, str]:
    """Every published model of a study, by name."""
    folder = locations.model_folder(p.study, p.seed, "sft").parent
    return {path.name: artifacts.read_manifest(path)["digest"] for path in sorted(folder.iterdir()) if path.name[0] != "."}


def rows(p: SimpleNamespace) -> dict[str, pd.DataFrame]:
    """Every table of a study without what no two runs share."""
    tables = {name: result_tables.read_table(p, name) for name in TABLES}
    kept = {name: [c for c in frame if not any(word in c for word in UNTIMED)] for name, frame in tables.items()}
    return {name: frame[kept[name]].map(repr) for name, frame in tables.items()}  # to the last digit, missing values too


def resumed_at(log: Path, name: str) -> float:
    """The step from which the run in a log went on; 0 for one that began anew, no bound for one that found all done."""
    steps = re.findall(f"{re.escape(name)}: goes on from step (\\d+)/", log.read_text())
    return math.inf if "has it already" in log.read_text() else int([0, *steps][-1])


def kill_stages(kills: int, folder: Path, rng: random.Random) -> tuple[pd.DataFrame, SimpleNamespace, SimpleNamespace]:
    """Run the study once unbroken and once with `kills` kills spread over its stages; one row per kill, and both studies."""
    whole, broken = parameters("whole"), parameters("broken")
    seconds = {}
    for name in STAGES:
        status, seconds[name] = in_child(lambda: run_stage(whole, name), folder / "whole.log")  # noqa: B023
        if status:
            raise SystemExit(f"the unbroken run failed in {name}: {(folder / 'whole.log').read_text()[-500:]}")
    reported = []
    for place, name in enumerate(STAGES):
        log, runs = folder / f"{name}.log", []
        while sum(run["killed"] for run in runs) < kills // len(STAGES) + (place < kills % len(STAGES)):
            step_reached.value = 0
            status, begun = go_on(broken, name, log, rng.uniform(0.05, 0.95) * seconds[name])
            reached = max(step_reached.value, begun if begun < math.inf else 0)
            runs.append({"stage": name, "killed": status == -9, "from": begun, "reached": reached})
            if status == 0:  # it had less left to do, and was done before its kill: make it again, to be killed
                locations.done_file(broken.study, broken.seed, name).unlink()
        status, final = go_on(broken, name, log)
        for run, following in zip(runs, [*(run["from"] for run in runs[1:]), final]):
            run |= {"redone": max(0, run["reached"] - following), "goes on": status == 0}
        reported += runs
    return pd.DataFrame(reported), whole, broken


def go_on(p: SimpleNamespace, name: str, log: Path, kill_after: float | None = None) -> tuple[int, float]:
    """Run a stage in a child, with a new log: (its exit status, the step that it went on from)."""
    log.write_text("")
    status, _ = in_child(lambda: run_stage(p, name), log, kill_after)
    return status, resumed_at(log, name)


# --- other faults ------------------------------------------------------------------------------------------


def raised(work: Callable[[], object], *kinds: type[BaseException]) -> str:
    """The message with which `work` fails as it should; AssertionError where it does not."""
    try:
        work()
    except kinds as error:
        text = str(error)
        assert "\n" not in text, f"more than one line: {text}"
        return text
    raise AssertionError("not noticed")


def explained(work: Callable[[], object], *kinds: type[BaseException]) -> None:
    """Print how a stage explains the error that `work` fails with."""
    try:
        work()
    except kinds as error:
        print(run_notebook.explain(type(error).__name__, str(error)))
    else:
        raise AssertionError("not noticed")


def damage(path: Path, kind: str) -> None:
    """Flip a bit, zero the tail or cut the end of a file."""
    data = bytearray(path.read_bytes())
    if kind == "bit flipped":
        data[len(data) // 2] ^= 1
    elif kind == "tail zeroed":
        tail = len(data) // 4
        data[-tail:] = bytes(tail)
    else:
        del data[-100:]
    path.write_bytes(data)


@contextlib.contextmanager
def damaged(path: Path, kind: str):
    """A file that is damaged while the block runs."""
    before = path.read_bytes()
    damage(path, kind)
    try:
        yield
    finally:
        path.write_bytes(before)


def corrupt(p: SimpleNamespace) -> dict[str, str]:
    """Damaged shards, manifests and tables, and models that would run code: what is reported of each."""
    folder = locations.model_folder(p.study, p.seed, "rl-math")
    files = {"shard": folder / "model.safetensors", "manifest": folder / artifacts.MANIFEST}
    readers = {what: (path, lambda: artifacts.verify_model(folder)) for what, path in files.items()}
    table = result_tables.table_file(p, "scores", "all")
    readers["table"] = table, lambda: result_tables.read_table(p, "scores", ["all"])
    reported = {}
    for kind in ("bit flipped", "tail zeroed", "end cut"):
        for what, (path, read) in readers.items():
            with damaged(path, kind):
                reported[f"{what}: {kind}"] = raised(read, atomic.DamagedError)
    for name, data in {"pytorch_model.bin": b"\x80", "extra.safetensors": b"stale"}.items():
        (folder / name).write_bytes(data)
        reported[f"{name} added"] = raised(lambda: artifacts.verify_model(folder), atomic.DamagedError, safety.UnsafeError)
        (folder / name).unlink()
    return reported


def full_disk(p: SimpleNamespace, folder: Path) -> str:
    """Publish a model on a disk (a tmpfs of 2 MB) that cannot hold it beside the last good one."""

    def work():
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(0x00020000) == 0 and libc.mount(b"none", b"/", None, 0x44000, None) == 0  # mounts of its own
        small = folder / "small"
        small.mkdir(exist_ok=True)
        assert libc.mount(b"tmpfs", str(small).encode(), b"tmpfs", 0, b"size=2m") == 0
        locations.RUNS = small
        model = locations.model_folder(p.study, p.seed, "sft")
        made_by = artifacts.record(SimpleNamespace(study=p.study, seed=p.seed))
        with artifacts.publish(model, made_by) as fresh:
            (fresh / "model.safetensors").write_bytes(bytes(1_200_000))

        def too_large():
            with artifacts.publish(model, made_by) as fresh:
                (fresh / "model.safetensors").write_bytes(bytes(1_300_000))

        explained(too_large, OSError)
        artifacts.verify_model(model)
        assert [path.name for path in model.parent.iterdir()] == ["sft"]

    return child_report(work, folder / "disk.log")


def no_memory(p: SimpleNamespace, folder: Path) -> str:
    """A stage that may have little more memory than it has."""

    def work():
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)
        explained(lambda: torch.zeros(1 << 30), MemoryError, RuntimeError)

    return child_report(work, folder / "memory.log")


def ended_early(folder: Path) -> dict[str, str]:
    """Notebooks whose kernel is killed, that leave by `sys.exit(0)`, and that print a token: none is published."""
    cells = {
        "kernel killed": "import os; os.kill(os.getpid(), 9)",
        "notebook left by sys.exit(0)": "import sys; sys.exit(0)",
        "notebook that prints a token": "print('hf_' + 'a' * 30)",
    }
    reported = {}
    for fault, code in cells.items():
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code), nbformat.v4.new_code_cell("1 + 1")])
        book.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
        nbformat.write(book, folder / "book.ipynb")
        reported[fault] = raised(
            lambda: run_notebook.run(folder / "book.ipynb", folder / "executed.ipynb", folder / "book", {}),
            run_notebook.StageError,
        )
        assert not (folder / "executed.ipynb").exists()
    return reported


def child_report(work: Callable[[], None], log: Path) -> str:
    """The last line of a child that ended well."""
    status, _ = in_child(work, log)
    lines = log.read_text().strip().splitlines()
    assert status == 0, lines[-1]
    return lines[-1]


def two_runs(p: SimpleNamespace) -> dict[str, str]:
    """A second run of a stage while the first lives, and after it was killed."""
    locked = FORK.Event()

    def hold():
        with artifacts.stage(p, "rl-math"):
            locked.set()
            time.sleep(60)

    holder = FORK.Process(target=hold)
    holder.start()
    locked.wait()
    locks.PATIENCE = 0.2
    reported = {"two runs of one stage": raised(lambda: artifacts.stage(p, "rl-math").__enter__(), locks.LockedError)}
    holder.kill()
    holder.join()
    with artifacts.stage(p, "rl-math"):
        reported["lock of a killed run"] = "taken over, with a line"
    return reported


def wrong_numbers(p: SimpleNamespace, folder: Path) -> dict[str, str]:
    """A reward, a loss and a weight that are not finite: each stops its run, with the step and the batch."""
    reported = {}
    for index, kind in enumerate(("reward", "loss", "weight"), 1):

        def work():
            compute = grpo.DomainTrainer._compute_loss
            if kind == "reward":  # noqa: B023
                domains.ALL["math"].verify = lambda texts, rows: [float("nan")] * len(texts)
            elif kind == "loss":  # noqa: B023
                grpo.DomainTrainer._compute_loss = lambda *given: compute(*given) * np.inf
            else:
                torch.optim.AdamW.step = lambda self, *_, **__: self.param_groups[0]["params"][0].data.fill_(float("nan"))
            run = SimpleNamespace(**vars(p) | {"domain": "math", "repeat": index})  # noqa: B023
            print(raised(lambda: grpo.run_expert(run), FloatingPointError))

        reported[f"{kind} not finite"] = child_report(work, folder / f"{kind}.log")
    return reported


def damaged_checkpoint(p: SimpleNamespace, folder: Path) -> str:
    """Kill a run, damage its last checkpoint, leave a half-written one, go on: what is reported, and whether weights are equal."""
    name, log = "rl-math", folder / "checkpoint.log"
    locations.done_file(p.study, p.seed, name).unlink()
    expected = digests(p)[name]
    work = locations.work_folder(p.study, p.seed, name)

    def killed():
        original = resuming._Guard.on_optimizer_step

        def guard(self, args, state, control, **kwargs):
            if state.global_step == 30:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self, args, state, control, **kwargs)

        resuming._Guard.on_optimizer_step = guard
        run_stage(p, name)

    assert in_child(killed, log)[0] == -9
    last = resuming._checkpoints(work)[0]
    damage(last / "optimizer.pt", "tail zeroed")
    (work / ".checkpoint-99.fresh.1").mkdir()
    assert in_child(lambda: run_stage(p, name), log)[0] == 0
    text = log.read_text()
    assert f"{last.name} is passed over" in text and "checkpoint-99 is half-written" in text
    assert digests(p)[name] == expected
    return f"{last.name} and checkpoint-99 passed over, from step {resumed_at(log, name)} on, equal weights"


# --- the table ---------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=None, help="the Markdown file to write")
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    prepare()
    folder = Path(tempfile.mkdtemp(prefix="m2rl-faults-"))
    locations.RUNS = folder / "runs"
    started = time.monotonic()
    kills, whole, broken = kill_stages(given.kills, folder, random.Random(given.seed))
    lines = report(kills, whole, broken)
    reported = corrupt(broken) | two_runs(broken) | wrong_numbers(broken, folder)
    reported["damaged and half-written checkpoint"] = damaged_checkpoint(broken, folder)
    reported |= ended_early(folder)
    if os.geteuid() == 0:  # mounting a small disk needs root
        reported["full disk"] = full_disk(broken, folder)
    reported["no memory"] = no_memory(broken, folder)
    reported["parameter name that is code"] = raised(
        lambda: run_notebook.run(Path("x.ipynb"), folder / "x.ipynb", folder / "x", {"seed=1;import os": 1}), ParameterError
    )
    lines += [
        "",
        f"## Other faults: {len(reported)} injected, {len(reported)} noticed",
        "",
        "| fault | what is reported |",
        "|---|---|",
    ]
    hidden = {f"{folder}/runs/broken/work": "…", str(folder): "…", str(locations.ROOT): "…"}
    for fault, line in reported.items():
        for path, shown in hidden.items():
            line = line.replace(path, shown)
        lines.append(f"| {fault} | {line.replace('|', '/')[:260]} |")
    where = f"{artifacts.device()}, commit {artifacts.commit()}, {time.monotonic() - started:.0f} s"
    text = "\n".join(["# Fault drill", "", f"Written by `make faults` on {where}.", *lines, ""])
    print(text)
    if given.out:
        given.out.write_text(text)
    shutil.rmtree(folder)


def report(kills: pd.DataFrame, whole: SimpleNamespace, broken: SimpleNamespace) -> list[str]:
    """The lines on the kills: one row per stage, and what was lost."""
    one, other = digests(whole), digests(broken)
    equal = sum(one[name] == other.get(name) for name in one)
    lost = doubled = 0
    for name, frame in rows(whole).items():
        left, right = frame.value_counts(), rows(broken)[name].value_counts()
        lost += int((left - right.reindex(left.index, fill_value=0)).clip(lower=0).sum())
        doubled += int((right - left.reindex(right.index, fill_value=0)).clip(lower=0).sum())
    killed = kills[kills["killed"]]
    table = killed.groupby("stage", sort=False).agg(
        kills=("killed", "sum"), survived=("goes on", "sum"), steps_redone=("redone", "sum"), most=("redone", "max")
    )
    lines = [
        "",
        f"## {len(killed)} kills at random moments: {int(killed['goes on'].sum())} survived, {equal} of {len(one)} published models "
        f"equal the unbroken run's (SHA-256), {lost} rows lost, {doubled} doubled or changed",
        "",
        "| stage | kills (`kill -9`) | survived | steps redone | at most |",
        "|---|---|---|---|---|",
    ]
    for name, row in table.iterrows():
        steps = ("whole stage", "") if name in ("merges", "evaluate-all") else (row["steps_redone"], row["most"])
        lines.append(f"| {name} | {row['kills']} | {row['survived']} | {steps[0]} | {steps[1]} |")
    lines += ["", f"Models compared: {', '.join(one)}. Tables: {', '.join(TABLES)} (without times and memory)."]
    return lines


if __name__ == "__main__":
    main()
