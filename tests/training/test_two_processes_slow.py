"""Two processes over gloo train as one does with twice the batch: `make processes`; see recorded.py, which both run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import weights

from m2rl_lib.config import locations
from m2rl_lib.config.study import Parameters
from m2rl_lib.storage import artifacts, result_tables

PROGRAM = locations.ROOT / "tests" / "training" / "recorded.py"
CONFIGURATION = locations.ACCELERATE / "cpu_1x2.yaml"
pytestmark = pytest.mark.slow
TOLERANCE = 1e-5  # of the distance from the start, in float32; measured 2e-7 (SFT), 9e-7 (RLVR), 2e-6 (MT-OPD)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of both runs; PROCESSES names one that has them already."""
    if os.environ.get("PROCESSES"):
        return Path(os.environ["PROCESSES"])
    folder = tmp_path_factory.mktemp("processes")
    environment = os.environ | {"PYTHONPATH": str(locations.ROOT), "OMP_NUM_THREADS": "1"}
    launched = ["-m", "accelerate.commands.launch", "--config_file", str(CONFIGURATION)]
    for line in ([PROGRAM, folder, "none"], [*launched, PROGRAM, folder, "cpu_1x2"]):
        subprocess.run([sys.executable, *map(str, line)], check=True, env=environment, timeout=1200)
    return folder


@pytest.mark.parametrize("stage", ["sft", "rl-multi", "mt-opd"])
def test_two_processes_are_given_the_rows_of_one_and_come_to_its_weights_and_counts(folder, stage, monkeypatch):
    one, *two = (json.loads((folder / f"orders-{run}.json").read_text())[stage] for run in ("none-0", "cpu_1x2-0", "cpu_1x2-1"))
    assert len(one) == len(two[0]) == len(two[1]) > 3
    for whole, first, second in zip(one, *two):
        assert first + second == whole and len(first) == len(second)

    def of(name: str, made: str) -> torch.Tensor:
        return weights(artifacts.verify_model(folder / "runs" / name / "models" / "seed-0" / made))

    one, two, begun = of("none", stage), of("cpu_1x2", stage), of("none", "base")
    assert torch.equal(begun, of("cpu_1x2", "base"))
    moved = (one - begun).norm()
    assert moved > 0 and (one - two).norm() / moved < TOLERANCE
    monkeypatch.setattr(locations, "RUNS", folder / "runs")
    both = (Parameters.model_construct(study=name, seed=0) for name in ("none", "cpu_1x2"))
    one, two = (result_tables.read_table(p, "costs", [stage]).iloc[0] for p in both)
    assert two["prompts"] == one["prompts"] and two["generated_tokens"] == one["generated_tokens"]
    assert (one["generated_tokens"] > 0) == (stage != "sft")
