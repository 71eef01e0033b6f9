"""The domains of the study: one module each. A new domain is a new module and a line here."""

from importlib import import_module

from m2rl_lib.domains import composition, general

MODULES = (
    "mathematics",
    "coding",
    "science",
    "instruction_following",
    "agent",
)
DOMAINS = {module.NAME: module for module in (import_module(f"{__name__}.{name}") for name in MODULES)}
UNTRAINED = {general.NAME: general, composition.NAME: composition}  # by RL: facts that SFT taught, and what nothing taught
ALL = DOMAINS | UNTRAINED
DOMAIN_OF = {benchmark: name for name, module in ALL.items() for benchmark in module.BENCHMARKS}


def check_domain(name: str) -> str:
    """`name` itself, or ValueError with the names that are allowed."""
    if name not in DOMAINS:
        raise ValueError(f"domain {name!r} is not one of {', '.join(DOMAINS)}")
    return name


def read_answer(completion: str, row: dict) -> str | None:
    """The answer in a completion of `row`, in the form that the row asks for; None where it has none."""
    asked = (row.get("template_metadata") or {}).get("output_regex")
    module = ALL[row["domain"]]
    return module.answer(completion, asked) if asked else module.answer(completion)


def verify(completions: list[str], rows: list[dict]) -> list[float | None]:
    """One reward a completion, each by its own row's domain, in one call a domain."""
    rewards: list[float | None] = [None] * len(rows)
    for name, module in ALL.items():
        indices = [i for i, row in enumerate(rows) if row["domain"] == name]
        if indices:
            graded = module.verify([completions[i] for i in indices], [rows[i] for i in indices])
            for i, reward in zip(indices, graded, strict=True):
                rewards[i] = reward
    return rewards
