"""What a notebook's imports bring along: an analysis reads tables, so it starts without what training and merging need."""

import json
import subprocess
import sys

import pytest
import study_times

from m2rl_lib.config.locations import ROOT

ANALYSES = sorted(path for path in (ROOT / "notebooks").glob("[12]*.ipynb") if path.stem != "10_cascade")  # which trains
TRAINING = {"trl", "mergekit", "datasets", "peft"}  # datasets: Hugging Face's
SLOW = {"transformers.modeling_utils", "nltk"}  # wanted only where a model is loaded, or a text's instructions are checked
TABLES_ONLY = {path.stem for path in ANALYSES if path.stem[:2] in ("11", "12", "13", "14")}  # they read tables: no torch either


def brought(codes: list[str]) -> list[set[str]]:
    """The modules that each piece of code was the first to bring, in one fresh interpreter: nothing goes away that has come."""
    show = "import json, sys\nseen, new = set(), []\nfor code in json.load(sys.stdin):\n    exec(code, {})\n"
    show += "    new.append(sorted(set(sys.modules) - seen))\n    seen |= set(sys.modules)\nprint(json.dumps(new))"
    done = subprocess.run([sys.executable, "-c", show], cwd=ROOT, input=json.dumps(codes), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [set(names) for names in json.loads(done.stdout.splitlines()[-1])]


@pytest.fixture(scope="module")
def first_brought() -> dict[str, set[str]]:
    return dict(zip((path.stem for path in ANALYSES), brought([study_times.imports(path) for path in ANALYSES])))


@pytest.mark.parametrize("name", [path.stem for path in ANALYSES])
def test_an_analysis_starts_without_trainers(name, first_brought):
    assert "m2rl_lib.storage.artifacts" in set().union(*first_brought.values())  # else nothing was looked at
    assert not first_brought[name] & (TRAINING | SLOW)
    assert name not in TABLES_ONLY or "torch" not in first_brought[name]
