"""Rows of the environments that the public blend was made for: NVIDIA's files, which lie beside the repository."""

import json

import pytest

from m2rl_lib.config.locations import ROOT


@pytest.fixture
def real_folder():
    folders = [folder for parent in ROOT.parents if (folder := parent / "shared" / "real_rows").is_dir()]
    return folders[0] if folders else pytest.skip("no folder shared/real_rows beside the repository")


@pytest.fixture
def real_rows(real_folder):
    """The rows of all files of a pattern."""
    return lambda pattern: [
        json.loads(line) for path in sorted(real_folder.glob(pattern)) for line in path.read_text().splitlines()
    ]
