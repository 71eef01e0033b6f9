"""Which checkpoints the runs keep, and what is merged and compared from them.

The budgets of RQ1 live here: the mixed run sees as many prompts as its steps say, each expert as many as
its own; at the *matched* step all experts together have seen the mixed run's prompts. The learning rate is
constant after warm-up, so a checkpoint is what a shorter run would have given.
"""

from pathlib import Path
from types import SimpleNamespace

from m2rl_lib import study


def matched_step(p: SimpleNamespace) -> int:
    """The step of each expert at which all experts' prompts together equal the mixed run's."""
    return min(p.rlvr_mixed_steps // len(p.domains), p.rlvr_steps)


def quarters(steps: int) -> list[int]:
    """The steps after each quarter of a run."""
    return [steps * quarter // 4 for quarter in (1, 2, 3, 4)]


def expert_checkpoints(p: SimpleNamespace) -> list[int]:
    """Steps at which an expert's model is kept: its quarters and the matched step."""
    return sorted({*quarters(p.rlvr_steps), matched_step(p)})


def mixed_checkpoints(p: SimpleNamespace) -> list[int]:
    """Steps at which the mixed run's model is kept: its quarters, and two more in its second half.

    Six in all, as many as there are merging methods, so that each side chooses from equally many.
    """
    return sorted({*quarters(p.rlvr_mixed_steps), p.rlvr_mixed_steps * 5 // 8, p.rlvr_mixed_steps * 7 // 8})


def checkpoint_name(name: str, step: int, steps: int) -> str:
    """The model name of a run at a kept step; at its last step, the run's own name."""
    base, variant = study.parse_model_name(name)
    return name if step == steps else study.model_name(base, **variant, step=step)


def checkpoint_folder(p: SimpleNamespace, name: str, step: int, steps: int) -> Path:
    """The published folder of a run at a kept step."""
    return study.model_folder(p.study, p.seed, checkpoint_name(name, step, steps))


def merges(p: SimpleNamespace) -> dict[str, tuple[str, dict[str, int]]]:
    """The merges of a study, by name: the method, and each expert's step.

    Every method at the end of the experts' runs and at the matched step.
    """
    plan = {}
    for method in p.merge_methods:
        name = f"merge-{method}"
        for step in sorted({matched_step(p), p.rlvr_steps}):
            plan[checkpoint_name(name, step, p.rlvr_steps)] = (method, {f"rl-{domain}": step for domain in p.domains})
    return plan


def groups(p: SimpleNamespace) -> dict[str, list[str]]:
    """The models that are evaluated, in groups of similar size: one run of notebook 07 each."""
    return {
        "sft": ["sft"],
        "experts": [f"rl-{domain}" for domain in p.domains],
        "floors": ["rl-null", "rl-math@repeat=1"] if "math" in p.domains else ["rl-null"],
        "mixed": [checkpoint_name("rl-multi", step, p.rlvr_mixed_steps) for step in mixed_checkpoints(p)],
        "merges": [name for name in merges(p) if "@" not in name],
        "matched": [name for name in merges(p) if "@" in name],
    }
