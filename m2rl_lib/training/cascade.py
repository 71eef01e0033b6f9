"""Cascade: RL on one domain after the other, each stage from the last one's end with a fresh optimizer; RL-Multi's steps in all.

The KL in the loss is to the start of the stage, not to SFT, so that a stage holds to what the ones before it learned.
"""

from pathlib import Path

import pandas as pd

from m2rl_lib.config import locations, schedule
from m2rl_lib.config.study import Parameters
from m2rl_lib.storage import artifacts, result_tables
from m2rl_lib.training import grpo


def run(p: Parameters) -> list[Path]:
    """Train the cascade in the order that the notebook's parameters ask for; a folder for each stage, the finished run last."""
    name, start, done = schedule.cascade_name(p.order), locations.model_folder(p.study, p.seed, "sft"), 0
    stages = schedule.cascade_stages(p, name)
    folders = [locations.model_folder(p.study, p.seed, stage) for _, stage, _ in stages]
    if artifacts.is_done(p, name, folders, [start]):
        print(f"{name}: this study has it already")
        return folders
    for (domain, stage, end), folder in zip(stages, folders):  # one that was made before a kill has its checkpoint
        grpo.run(p, stage, [domain], end - done, [end - done], start=start)
        start, done = folder, end
    return folders


def read_curves(p: Parameters, name: str) -> pd.DataFrame:
    """The selection rewards of all stages of a cascade, steps counted from its beginning."""
    parts, done = [], 0
    for _, stage, end in schedule.cascade_stages(p, name):
        curve = result_tables.read_table(p, "curves", [stage]).query("kind == 'selection'")
        parts += [curve[(curve["step"] > 0) | (done == 0)].assign(model=name, step=lambda rows, done=done: rows["step"] + done)]
        done = end
    return pd.concat(parts, ignore_index=True)
