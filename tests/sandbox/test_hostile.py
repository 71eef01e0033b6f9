"""What tests/hostile/ throws at the verifiers and at training comes to what its files say (its programs: test_sandbox.py)."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # tests/hostile, wherever pytest starts
from hostile import cases  # noqa: E402

TEXTS, REWARDS = cases.load_data("texts"), cases.load_data("rewards")


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_texts_come_to_what_their_file_says(name):
    thrown = cases.throw_texts(name, TEXTS[name], limit=60)  # seconds: other work may run beside
    assert thrown["good"], thrown


@pytest.mark.parametrize("name", REWARDS)
def test_hostile_rewards_come_to_what_their_file_says(name):
    thrown = cases.throw_rewards(name, REWARDS[name])
    assert thrown["good"], thrown


def test_grading_page_quotes_the_scoreboard():
    report = (cases.FOLDER.parents[1] / "dev" / "HOSTILE.md").read_text()
    section = (cases.FOLDER.parents[1] / "docs" / "grading.md").read_text().split("## Hostile tests")[1].split("\n## ")[0]
    quoted = [line for line in section.splitlines() if line.startswith("| ")]
    assert len(quoted) > 5 and set(quoted) <= set(report.splitlines())


def test_every_case_of_the_graders_has_a_file():
    """Cases 1–16 and 18–21 are files; 17, no sandbox on this machine or a canary that gets out, is in test_sandbox.py."""
    assert {int(path.name[:2]) for path in cases.FOLDER.glob("[0-9][0-9]_*.*")} == set(range(1, 22)) - {17}
