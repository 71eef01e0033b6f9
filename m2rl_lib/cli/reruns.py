"""What `make study` is about to run, and why: told before it starts, in a line for each cause.

Snakemake decides (a stage's record is missing, its parameters or its notebook's code changed, what it reads was made
anew); here its reasons are put in words that name the parameters.
"""

import ast
import json
from collections.abc import Collection, Iterable


def explain(jobs: Iterable[tuple[str, object]]) -> list[str]:
    """Lines for the jobs (name, Snakemake's reason) that are about to run; without jobs, one that says so."""
    new, follow, lines = [], [], []
    for name, reason in jobs:
        if reason.params_changed:
            lines.append(f"{name} runs again: {changes(reason.params_changed.only_old, reason.params_changed.only_new)}")
        elif reason.missing_output or reason.incomplete_output:
            new.append(name)
        elif reason.updated_input or reason.updated_input_run:
            follow.append(name)
        else:
            lines.append(f"{name} runs again: {reason}")
    if new:
        lines.append(f"{len(new)} not made yet, or broken off: {', '.join(new)}")
    if follow:
        lines.append(f"{len(follow)} run again because what they read is made anew: {', '.join(follow)}")
    return lines or ["nothing to run: everything is made, by these parameters and this code"]


def changes(old: Collection[str], new: Collection[str]) -> str:
    """What differs between two sets of a rule's params, as Snakemake keeps them (each the `repr` of a value).

    >>> changes([repr('{"seed": 0, "rlvr_steps": 4}')], [repr('{"seed": 0, "rlvr_steps": 8}')])
    'rlvr_steps was 4, is 8'
    """
    before, after = _values(old), _values(new)
    told = []
    for key in sorted(before.keys() | after.keys()):
        if key not in before:
            told.append(f"{key} is new")
        elif key not in after:
            told.append(f"{key} is no longer used")
        elif before[key] != after[key]:
            told.append(f"{key} was {before[key]!r}, is {after[key]!r}")
    if not told:
        told.append("its notebook's code changed")
    return "; ".join(told)


def _values(params: Collection[str]) -> dict:
    """The parameters among a rule's params: the one that is a JSON object."""
    for text in params:
        value = ast.literal_eval(text)
        if isinstance(value, str) and value.startswith("{"):
            return json.loads(value)
    return {}
