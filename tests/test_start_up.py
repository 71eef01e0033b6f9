"""What a notebook's imports bring along: an analysis reads tables, so it starts without what training and merging need."""

import subprocess
import sys

import pytest

from m2rl_lib.study import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import study_times  # noqa: E402

ANALYSES = sorted((ROOT / "notebooks").glob("[12]*.ipynb"))
TRAINING = {"trl", "mergekit", "datasets", "peft"}  # datasets: Hugging Face's
SLOW = {"transformers.modeling_utils", "nltk"}  # wanted only where a model is loaded, or a text's instructions are checked


def brought(code: str) -> set[str]:
    """The modules that are there after `code` ran in a fresh interpreter."""
    show = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", show], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("notebook", ANALYSES, ids=lambda path: path.stem)
def test_an_analysis_starts_without_trainers(notebook):
    found = brought(study_times.imports(notebook))
    assert "m2rl_lib.artifacts" in found  # else nothing was looked at
    assert not found & TRAINING
    assert not found & SLOW


def test_a_trainer_would_be_noticed():
    assert {"trl", "datasets", "transformers.modeling_utils"} <= brought("from m2rl_lib import sft")
