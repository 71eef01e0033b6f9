"""The notebooks that train, started by the Snakefile on two processes, unbroken and killed: `make processes` (minutes).

`runs/smoke-two` is the smoke study on two domains with `train_accelerate: cpu_1x2`. In `runs/smoke-two-killed` one of a stage's
processes, its launcher or its notebook's kernel is killed at the first checkpoint, and the same command must go on to the same end.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress

import nbformat
import pandas as pd
import psutil
import pytest
import yaml
from tiny import wait_until_ended

from m2rl_lib.config import locations
from m2rl_lib.config.study import Parameters
from m2rl_lib.storage import artifacts, atomic, result_tables

WHOLE, KILLED = "smoke-two", "smoke-two-killed"
STEPS = {"sft": 40, "rlvr": 12, "rlvr_mixed": 4, "distill": 12}
CHANGED = {"train_accelerate": "cpu_1x2", "domains": ["math", "science"], **{f"{key}_steps": n for key, n in STEPS.items()}}
STAGES = {  # notebook and steps
    "sft": ("02_sft", STEPS["sft"]),
    "rl-math": ("03_rlvr_single_domain-rl-math", STEPS["rlvr"]),
    "rl-multi": ("04_rlvr_mixed", STEPS["rlvr_mixed"]),
    "mt-opd": ("06_mt_opd", STEPS["distill"]),
}
VICTIMS = {  # the stages that are killed: what is shot, and a pattern of its command line
    "sft": ("a process", r"python\S* (-u )?-m m2rl_lib\.training\.sft "),
    "rl-math": ("the launcher", r"-m accelerate\.commands\.launch "),
    "mt-opd": ("the kernel", "ipykernel_launcher"),
}
pytestmark = pytest.mark.slow
UNTIMED = ("time", "runtime", "per_second", "seconds", "memory")  # what no two runs share


def command(name: str, stage: str) -> list[str]:
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


def kill_at_first_checkpoint(name: str, stage: str, pattern: str) -> str:
    """Run a stage, `kill -9` the last of its processes whose command line is like `pattern`; what it printed, once all are gone."""
    work = locations.work_folder(name, 0, stage)
    log = locations.RUNS / f"{name}-{stage}.log"
    with log.open("w") as file:
        started = psutil.Popen(command(name, stage), cwd=locations.ROOT, stdout=file, stderr=subprocess.STDOUT)
    while not list(work.glob("checkpoint-*")):
        assert started.poll() is None, log.read_text()
        time.sleep(0.01)
    seen = started.children(recursive=True)
    victims = []
    for one in seen:
        with suppress(psutil.NoSuchProcess):  # it has ended
            victims += [one] * bool(re.search(pattern, " ".join([*one.cmdline(), ""])))
    max(victims, key=lambda one: one.pid).kill()
    assert started.wait(timeout=300) != 0
    wait_until_ended(seen, 60)
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
    notebook, steps = STAGES[stage]
    cells = nbformat.read(locations.study_folder(whole) / "notebooks" / "seed-0" / f"{notebook}.ipynb", 4).cells
    shown = "".join(out.get("text", "") for cell in cells for out in cell.get("outputs", []) if out.output_type == "stream")
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
    assert not list(locations.model_folder(whole, 0, "sft").parent.glob(".*"))  # half-made


@pytest.fixture(scope="module")
def killed() -> str:
    begin(KILLED)
    return KILLED


@pytest.mark.parametrize("stage", VICTIMS)
def test_a_killed_run_leaves_no_process_and_goes_on_to_the_same_weights(whole, killed, stage):
    what, pattern = VICTIMS[stage]
    printed = kill_at_first_checkpoint(killed, stage, pattern)
    assert "FAILED: " in printed and (what != "a process" or "a process was killed (Signal 9" in printed), printed
    assert not locations.model_folder(killed, 0, stage).exists() and not locations.done_file(killed, 0, stage).exists()
    again = subprocess.run(command(killed, stage), cwd=locations.ROOT, check=True, capture_output=True, text=True)
    assert f"{stage}: goes on from step " in again.stdout + again.stderr
    for one, other in zip(*(sorted(locations.model_folder(name, 0, stage).glob("*.safetensors")) for name in (whole, killed))):
        assert atomic.sha256(one) == atomic.sha256(other)
    one, other = tables(whole, stage), tables(killed, stage)
    assert one.keys() == other.keys() and "costs" in one
    for table in one:
        pd.testing.assert_frame_equal(one[table], other[table], check_exact=True)
