"""The notebooks that train, started by the Snakefile on two processes, unbroken and killed: `make processes` (minutes).

`runs/smoke-two` is the smoke study on two domains with `train_accelerate: cpu_1x2`, run by nobody broken. In
`runs/smoke-two-killed` each stage is killed once at its first checkpoint, one of its processes, its launcher or its notebook's
kernel, and the same command is given again: it must go on, in both processes, to the same weights and the same tables.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml

from m2rl_lib.config import locations, study
from m2rl_lib.config.study import Parameters
from m2rl_lib.storage import artifacts, atomic, result_tables

WHOLE, KILLED = "smoke-two", "smoke-two-killed"
CHANGED = {
    "train_accelerate": "cpu_1x2",
    "domains": ["math", "science"],
    "sft_steps": 40,
    "rlvr_steps": 12,
    "rlvr_mixed_steps": 4,
    "distill_steps": 12,
}
STAGES = {"sft": "02_sft", "rl-math": "03_rlvr_single_domain-rl-math", "rl-multi": "04_rlvr_mixed", "mt-opd": "06_mt_opd"}
VICTIMS = {  # the stages that are killed: what is shot, and a pattern of its command line
    "sft": ("a process", r"python\S* (-u )?-m m2rl_lib\.training\.sft "),
    "rl-math": ("the launcher", r"-m accelerate\.commands\.launch "),
    "mt-opd": ("the kernel", "ipykernel_launcher"),
}
pytestmark = pytest.mark.slow
UNTIMED = ("time", "runtime", "per_second", "seconds", "memory")  # what no two runs share


def command(name: str, stage: str) -> list[str]:
    """What makes one stage of a study, as `make study` calls it."""
    params = locations.RUNS / f"{name}.yaml"
    done = locations.done_file(name, 0, stage).relative_to(locations.ROOT)
    line = [sys.executable, "-m", "snakemake", str(done), "--cores", "1", "--config", f"params={params}"]
    return [*line, "--rerun-triggers", "mtime", "params", "input", "--rerun-incomplete", "--nolock", "--quiet", "rules", "host"]


def begin(name: str) -> None:
    """Write a study's parameter file; what an earlier test run left of it goes, unless PROCESSES says that it is good."""
    if not os.environ.get("PROCESSES"):
        shutil.rmtree(locations.study_folder(name), ignore_errors=True)
    locations.RUNS.mkdir(exist_ok=True)
    values = yaml.safe_load((locations.ROOT / "params" / "smoke.yaml").read_text())
    (locations.RUNS / f"{name}.yaml").write_text(yaml.safe_dump(values | CHANGED | {"study": name}))


def family(root: int) -> dict[int, str]:
    """The processes below `root`, by id: their command lines."""
    parents, lines = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            lines[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it has ended
    found, level = {}, {root}
    while level:
        level = {pid for pid, parent in parents.items() if parent in level}
        found |= {pid: lines[pid] for pid in level if pid in lines}
    return found


def living(pids) -> set[int]:
    """Those of `pids` that have not ended."""
    alive = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state != "Z":
            alive.add(pid)
    return alive


def kill_at_first_checkpoint(name: str, stage: str, pattern: str) -> str:
    """Run a stage, `kill -9` the last of its processes whose command line is like `pattern`; what it printed, once all are gone."""
    work = locations.work_folder(name, 0, stage)
    log = locations.RUNS / f"{name}-{stage}.log"
    with log.open("w") as file:
        started = subprocess.Popen(command(name, stage), cwd=locations.ROOT, stdout=file, stderr=subprocess.STDOUT)
    while not list(work.glob("checkpoint-*")):
        assert started.poll() is None, log.read_text()
        time.sleep(0.01)
    seen = family(started.pid)
    victim = max(pid for pid, line in seen.items() if re.search(pattern, line))
    os.kill(victim, 9)
    assert started.wait(timeout=300) != 0
    until = time.monotonic() + 60
    while left := living(seen):
        assert time.monotonic() < until, [seen[pid] for pid in left]
        time.sleep(0.1)
    return log.read_text()


@pytest.fixture(scope="module")
def whole() -> str:
    begin(WHOLE)
    for stage in STAGES:
        subprocess.run(command(WHOLE, stage), cwd=locations.ROOT, check=True)
    return WHOLE


def tables(name: str, stage: str) -> dict[str, pd.DataFrame]:
    """What a stage wrote, without what no two runs share."""
    p = Parameters.model_construct(study=name, seed=0)
    found = {}
    for table in ("sft_curve", "training", "curves", "distillation", "costs"):
        if result_tables.table_file(p, table, stage).is_file():
            frame = result_tables.read_table(p, table, [stage])
            found[table] = frame[[c for c in frame if not any(word in c for word in UNTIMED)]]
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_notebook_trains_on_two_processes(whole, stage):
    copy = locations.study_folder(whole) / "notebooks" / "seed-0" / f"{STAGES[stage]}.ipynb"
    cells = nbformat.read(copy, 4).cells
    shown = "".join(out.get("text", "") for cell in cells for out in cell.get("outputs", []) if out.output_type == "stream")
    p = study.load(locations.RUNS / f"{whole}.yaml")
    steps = {"sft": p.sft_steps, "rl-math": p.rlvr_steps, "rl-multi": p.rlvr_mixed_steps, "mt-opd": p.distill_steps}[stage]
    assert f"{stage}: 2 processes: " in shown
    assert shown.count(f"{stage}: step {steps}/{steps}, ") == 1  # of the main process alone
    done = json.loads(locations.done_file(whole, 0, stage).read_text())
    assert done["parameters"]["train_accelerate"] == "cpu_1x2" and done["made"]
    for folder, digest in done["made"].items():
        artifacts.verify_model(locations.ROOT / folder)
        assert artifacts.read_manifest(locations.ROOT / folder)["digest"] == digest
    written = tables(whole, stage)
    assert len(written["costs"]) == 1
    for frame in written.values():
        keys = [c for c in ("step", "domain", "kind") if c in frame]
        assert len(frame) and (not keys or not frame.duplicated(keys).any())


def test_nothing_half_made_is_left(whole):
    models = locations.model_folder(whole, 0, "sft").parent
    assert not [path for path in models.iterdir() if path.name.startswith(".")]


@pytest.fixture(scope="module")
def killed(whole) -> str:
    begin(KILLED)
    return KILLED


@pytest.mark.parametrize("stage", VICTIMS)
def test_a_killed_run_leaves_no_process_and_goes_on_to_the_same_weights(whole, killed, stage):
    what, pattern = VICTIMS[stage]
    told = kill_at_first_checkpoint(killed, stage, pattern)
    assert "FAILED: " in told and (what != "a process" or "a process was killed (Signal 9" in told), told
    assert not locations.model_folder(killed, 0, stage).exists() and not locations.done_file(killed, 0, stage).exists()
    again = subprocess.run(command(killed, stage), cwd=locations.ROOT, check=True, capture_output=True, text=True)
    assert f"{stage}: goes on from step " in again.stdout + again.stderr
    for one, other in zip(*(sorted(locations.model_folder(name, 0, stage).glob("*.safetensors")) for name in (whole, killed))):
        assert atomic.sha256(one) == atomic.sha256(other)
    one, other = tables(whole, stage), tables(killed, stage)
    assert one.keys() == other.keys() and "costs" in one
    for table in one:
        pd.testing.assert_frame_equal(one[table], other[table], check_exact=True)
