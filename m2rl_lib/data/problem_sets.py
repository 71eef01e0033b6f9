"""Problems of a domain and the prompts of an RL run, of the micro world ([micro]) or of public data sets (`data_sources`).

Selection and test problems are the same for every seed, training problems are drawn from it.
"""

import random
from collections.abc import Sequence

from m2rl_lib import domains
from m2rl_lib.data import prompt_limit, rl_blend, row_files
from m2rl_lib.data.prompt_limit import PromptLimit
from m2rl_lib.domains import conventions, problems

MICRO = "micro"


def is_micro(sources: Sequence[str]) -> bool:
    """Whether problems are drawn from the micro world. ValueError where it is asked for beside data sets."""
    if MICRO in sources and len(sources) > 1:
        raise ValueError(f"data_sources is {list(sources)}, allowed is [{MICRO}] alone or data sets without it")
    return MICRO in sources


def benchmarks(domain: str, sources: Sequence[str] = (MICRO,)) -> list[str]:
    """The names of a domain's benchmarks: the micro world's, or the held-out part of the blend where it has the domain."""
    if is_micro(sources):
        return list(domains.ALL[domain].BENCHMARKS)
    return [rl_blend.benchmark_of(domain)] if hasattr(domains.ALL[domain], "LABELS") else []


def study_benchmarks(p) -> list[str]:
    """The benchmarks of a study's domains and those that RL never trains: facts, and composition where there are private words."""
    names = [*p.domains, *domains.UNTRAINED]
    if "math" not in p.domains or not world_of(p).private:
        names.remove(domains.composition.NAME)
    return [name for domain in names for name in benchmarks(domain, p.data_sources)]


def skill_benchmarks(p) -> list[str]:
    """Those of which many samples are taken: each domain's first benchmark, and composition where the study has it."""
    asked = {domains.composition.NAME, *(name for domain in p.domains for name in benchmarks(domain, p.data_sources)[:1])}
    return [name for name in study_benchmarks(p) if name in asked]


def chance(benchmark: str, sources: Sequence[str] = (MICRO,)) -> float:
    """The accuracy of a guess on a benchmark; of a blend's, the mean over its test problems (0 without a list of options)."""
    if is_micro(sources):
        return domains.ALL[domains.DOMAIN_OF[benchmark]].CHANCE
    rows = row_files.Rows(rl_blend.prepare_rows(list(sources)), f"{_domain_of(benchmark)}-test")
    guesses = [1 / len(row["options"]) if row.get("options") else 0.0 for row in rows]
    return sum(guesses) / max(1, len(guesses))


def _domain_of(benchmark: str) -> str:
    """The domain whose held-out problems of the blend a benchmark is."""
    return next(name for name in domains.DOMAINS if rl_blend.benchmark_of(name) == benchmark)


def world_of(p) -> conventions.World:
    """The world of a study's parameters. ValueError in one line for one of a blend, of no domain or that contradicts itself."""
    names = tuple(map(domains.check_domain, p.domains))
    if not is_micro(p.data_sources) and any(p.data_world.values()):
        raise ValueError(f"data_world is {p.data_world}, data_sources {p.data_sources}: only [{MICRO}] has words of two readings")
    return conventions.read_world(p.data_world, names)


def benchmark_problems(benchmark: str, split: str, count: int, world, sources: Sequence[str] = (MICRO,)) -> list[dict]:
    """`count` selection or test problems of a benchmark, the same for every seed of the study."""
    if not is_micro(sources):
        return _of_blend(_domain_of(benchmark), split, count, 0, sources)
    module = domains.ALL[domains.DOMAIN_OF[benchmark]]
    return problems.draw(module.make, benchmark, split, count, 0, world)


def first_problems(p, domain: str, split: str, count: int) -> list[dict]:
    """`count` selection or test problems of a domain's first benchmark."""
    return benchmark_problems(benchmarks(domain, p.data_sources)[0], split, count, world_of(p), p.data_sources)


def check_counts(p) -> None:
    """ValueError where a benchmark has fewer distinct test or selection problems than the study asks for."""
    world, firsts = world_of(p), {name for domain in p.domains for name in benchmarks(domain, p.data_sources)[:1]}
    for benchmark in study_benchmarks(p):
        logged = p.rlvr_selection_problems if benchmark in firsts else 0
        asked = {"test": p.evaluate_problems, "selection": max(p.evaluate_selection_problems, logged)}
        for split, count in asked.items():
            benchmark_problems(benchmark, split, count, world, p.data_sources)


def train_problems(
    domain: str, count: int, seed: int, world, shifted=False, sources: Sequence[str] = (MICRO,), limit: PromptLimit | None = None
) -> list[dict]:
    """`count` training problems of a domain, like its first benchmark, or its last, `shifted` one; a blend has none of these."""
    if not is_micro(sources):
        return _of_blend(domain, "train", count, seed, sources, limit)
    module = domains.ALL[domain]
    benchmark = list(module.BENCHMARKS)[-1 if shifted else 0]
    drawn = problems.draw(module.make, benchmark, "train", count, seed, world)
    prompt_limit.check_drawn(domain, drawn, limit)
    return drawn


def _of_blend(
    domain: str, split: str, count: int, seed: int, sources: Sequence[str], limit: PromptLimit | None = None
) -> list[dict]:
    """`count` rows of a domain and split of the blend in an order drawn from `seed`; only training rows may come twice."""
    folder = rl_blend.prepare_rows(list(sources))
    rows = row_files.Rows(folder, f"{domain}-{split}")
    numbers = prompt_limit.short_rows(folder, domain, limit) if split == "train" else range(len(rows))
    if not len(numbers) or (split != "train" and count > len(numbers)):
        raise ValueError(
            f"the blend has {len(numbers)} usable {split} problems of {domain}, {count} asked for; drops.csv says why"
        )
    rng, order = random.Random(f"{domain} {split} {seed}"), []
    while len(order) < count:
        order += rng.sample(range(len(numbers)), len(numbers))
    return [rows[numbers[place]] for place in order[:count]]


def pool_sizes(names: list[str], sources: Sequence[str] = (MICRO,), limit: PromptLimit | None = None) -> list[int]:
    """The weights in which domains are mixed: equal in the micro world, the number of training rows in a blend (as published)."""
    if is_micro(sources):
        return [1] * len(names)
    folder = rl_blend.prepare_rows(list(sources))
    return [len(prompt_limit.short_rows(folder, name, limit)) for name in names]


def prompts(
    names: list[str], count: int, seed: int, world, sources: Sequence[str] = (MICRO,), limit: PromptLimit | None = None
) -> list[dict]:
    """The training rows of an RL run: `count` in all, in the proportions of `pool_sizes`, concatenated and shuffled."""
    shares = row_files.apportion(pool_sizes(names, sources, limit), count)
    drawn = []
    for name, share in zip(names, shares):
        # + 1: other problems than the SFT demonstrations of the same seed
        drawn += train_problems(name, share, 2 * seed + 1, world, sources=sources, limit=limit)
    random.Random(f"mix {seed}").shuffle(drawn)
    return drawn
