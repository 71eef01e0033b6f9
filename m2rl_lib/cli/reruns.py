"""What `make study` is about to run, and why, in a line for each cause: Snakemake decides, and names no parameters."""

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
    words = ["its notebook's code changed"] if before.pop("code", None) != after.pop("code", None) else []
    for key in sorted(before.keys() | after.keys()):
        if key not in before:
            words.append(f"{key} is new")
        elif key not in after:
            words.append(f"{key} is no longer used")
        elif before[key] != after[key]:
            words.append(f"{key} was {before[key]!r}, is {after[key]!r}")
    return "; ".join(words) or "how it is run changed"


def _values(params: Collection[str]) -> dict:
    """The values in a rule's params: those of each that is a JSON object."""
    texts = [value for value in map(ast.literal_eval, params) if isinstance(value, str) and value.startswith("{")]
    return {key: value for text in texts for key, value in json.loads(text).items()}
