"""Two processes over gloo train as one does with twice the batch: `make processes` (slow: several imports of trl).

The two parts of the proof are runs of recorded.py: by one process, which writes its completions down, then by two, which
take them. SFT runs as it is.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from m2rl_lib.config import locations
from m2rl_lib.config.study import Parameters
from m2rl_lib.storage import artifacts, result_tables

PROGRAM = locations.ROOT / "tests" / "training" / "recorded.py"
CONFIGURATION = locations.ACCELERATE / "cpu_1x2.yaml"
pytestmark = pytest.mark.slow
TOLERANCE = 1e-5  # of the distance from the start, in float32; measured 2e-7 (SFT), 9e-7 (RLVR), 2e-6 (MT-OPD); one process shares prompts, two do not


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


def weights(folder, name: str, model: str) -> torch.Tensor:
    """All weights of a published model, one vector."""
    path = folder / "runs" / name / "models" / "seed-0" / model
    artifacts.verify_model(path)
    tensors = load_file(path / "model.safetensors")
    return torch.cat([tensors[key].flatten() for key in sorted(tensors)])


def orders(folder, name: str, count: int) -> list[dict]:
    """What each process was given, by stage: a list a step."""
    return [json.loads((folder / f"orders-{name}-{rank}.json").read_text()) for rank in range(count)]


@pytest.mark.parametrize("stage", ["sft", "rl-multi", "mt-opd"])
def test_same_rows_in_the_same_order(folder, stage):
    (one,) = orders(folder, "none", 1)
    two = orders(folder, "cpu_1x2", 2)
    assert len(one[stage]) == len(two[0][stage]) > 3
    for step, whole in enumerate(one[stage]):
        halves = [half for process in two for half in process[stage][step]]
        assert len(two[0][stage][step]) == len(whole) // 2
        assert halves == whole


@pytest.mark.parametrize("model", ["sft", "rl-multi", "mt-opd"])
def test_same_weights(folder, model):
    one, two = weights(folder, "none", model), weights(folder, "cpu_1x2", model)
    begun = weights(folder, "none", "base")
    assert torch.equal(begun, weights(folder, "cpu_1x2", "base"))
    moved = (one - begun).norm()
    assert moved > 0 and (one - two).norm() / moved < TOLERANCE


def test_counts_are_those_of_all_processes(folder, monkeypatch):
    monkeypatch.setattr(locations, "RUNS", folder / "runs")
    for model in ("rl-multi", "mt-opd"):
        one, two = (
            result_tables.read_table(Parameters.model_construct(study=name, seed=0), "costs", [model]).iloc[0]
            for name in ("none", "cpu_1x2")
        )
        assert two["prompts"] == one["prompts"] and two["generated_tokens"] == one["generated_tokens"] > 0
