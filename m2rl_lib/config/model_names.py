"""Names of models: `sft`, `rl-<domain>`, `rl-multi`, `merge-<method>`, `mt-opd`, `cascade`, with what differs after an `@`."""

import re

MODEL = re.compile(
    r"(?P<base>sft|sft-sharpened|base|rl-[a-z_]+|merge-[a-z-]+|mt-opd|cascade|routed)"
    r"(?:@(?P<variant>[a-z_]+=[^@/]+(?:,[a-z_]+=[^@/,]+)*))?"
)


def model_name(base: str, **variant: object) -> str:
    """The name of a model; what differs from its base follows an `@`, None is left out.

    >>> model_name("rl-math", step=250)
    'rl-math@step=250'
    """
    named = [f"{key}={value}" for key, value in variant.items() if value is not None]
    name = base + ("@" + ",".join(named) if named else "")
    parse_model_name(name)
    return name


def parse_model_name(name: str) -> tuple[str, dict[str, str]]:
    """(base, variant) of a model's name; ValueError for a name that no stage makes.

    >>> parse_model_name("merge-ties@density=0.5")
    ('merge-ties', {'density': '0.5'})
    """
    match = MODEL.fullmatch(name)
    if not match:
        allowed = "sft, rl-<domain>, rl-multi, rl-null, merge-<method>, mt-opd or cascade, with what differs after an @"
        raise ValueError(f"model name {name!r} is not {allowed}")
    return match["base"], dict(part.split("=", 1) for part in (match["variant"] or "").split(",") if part)
