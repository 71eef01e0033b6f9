"""The committed executed notebooks are whole, of one study, and carry nothing private."""

import hashlib
import re

import nbformat
import pandas as pd
import pytest

from m2rl_lib.config.locations import ROOT
from m2rl_lib.storage.result_tables import read_folder

RENDERED = sorted((ROOT / "notebooks" / "rendered").glob("*/*.ipynb"))
PRIVATE = re.compile(r"(/root/|/home/|/Users/|\bhf_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9]{20,}|\bghp_[A-Za-z0-9]{20,})")


@pytest.mark.parametrize("path", RENDERED, ids=lambda path: path.stem)
def test_it_ran_whole_is_as_it_was_published_and_carries_nothing_private(path):
    code = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code" and cell.source.strip()]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    digests = dict(line.split()[::-1] for line in (path.parent / "SHA256SUMS").read_text().splitlines())
    assert digests.get(path.name) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert str(ROOT) + "/" not in path.read_text() and not PRIVATE.findall(path.read_text())


def test_the_default_study_is_rendered():
    names = {path.stem for path in RENDERED if path.parent.name == "study"}
    several, newer = {"03_rlvr_single_domain", "07_evaluation"}, {"09_measuring", "10_cascade", "16_when_to_mix_or_merge"}
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} - several - newer <= names


DRAWN = {  # figure: the table that it draws, in part
    "transfer": "transfer",
    "sft_loss": "sft_curve",
    "kl_table": "kl",
    **{f"curves_{run}": "curves" for run in ("rl-math", "rl-null", "rl-multi", "mt-opd")},
}


@pytest.mark.parametrize(("figure", "table"), DRAWN.items(), ids=DRAWN)
def test_figures_are_of_the_run_that_the_tables_are_of(figure, table):
    drawn = pd.read_csv(ROOT / "figures" / "study" / f"{figure}.csv")
    made = read_folder(ROOT / "figures" / "study" / "tables", table)
    names = [name for name in made.select_dtypes("number").columns if name in drawn]
    rows, there = (set(map(tuple, frame[names].astype(float).round(6).fillna(-1e9).to_numpy())) for frame in (drawn, made))
    assert rows and rows <= there
