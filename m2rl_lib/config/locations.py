"""Where each thing lives that a study makes: everything under runs/<study>/, its figures under figures/<study>/."""

import os
from pathlib import Path

from m2rl_lib.config.model_names import parse_model_name

ROOT = Path(__file__).resolve().parents[2]
RUNS = Path(os.environ.get("M2RL_RUNS", ROOT / "runs"))  # set for the processes that a stage starts
ACCELERATE = ROOT / "profiles" / "accelerate"


def study_folder(study: str) -> Path:
    return RUNS / study


def model_folder(study: str, seed: int, name: str) -> Path:
    """Where a published model is: `runs/<study>/models/seed-<n>/<name>`."""
    parse_model_name(name)
    return study_folder(study) / "models" / f"seed-{seed}" / name


def work_folder(study: str, seed: int, name: str) -> Path:
    """Checkpoints and logs of a stage; may be deleted."""
    return study_folder(study) / "work" / f"seed-{seed}" / name


def done_file(study: str, seed: int | str, name: str) -> Path:
    """What Snakemake watches; only a notebook's last cell writes it."""
    return study_folder(study) / "done" / f"seed-{seed}" / f"{name}.json"


def figures_folder(study: str) -> Path:
    """`figures/<study>`, or the folder M2RL_FIGURES, which the stages of a further seed have."""
    return ROOT / os.environ.get("M2RL_FIGURES", f"figures/{study}")
