"""Rows at a scale: problems of a domain, the SFT corpus, the prompts of an RL run.

Selection and test problems are the same for every seed, so that models are compared on equal problems;
a seed redraws the training problems and the demonstrations. `sources` are the study's `data_sources`: the micro world's
generators ([micro]), or the public data sets (`blend`, `sft_blend`), whose rows go through the same code.
"""

import json
import random
from collections.abc import Sequence
from itertools import islice

from m2rl_lib import chat, domains
from m2rl_lib.datasets import blend, prompt_limit, rows
from m2rl_lib.datasets.judge_form import JUDGE_MODES, judge_prompt, judge_turns, planted, write_judgement
from m2rl_lib.datasets.prompt_limit import PromptLimit
from m2rl_lib.domains import problems

Shared = bool | list[str]  # `data_shared_arithmetic`: whether the domains beside math need arithmetic, or which of them


def needs_arithmetic(domain: str, shared_arithmetic: Shared) -> bool:
    """Whether the problems of a domain need arithmetic (math's do in any case).

    >>> needs_arithmetic("coding", True), needs_arithmetic("coding", ["agent"])
    (True, False)
    """
    return domain in shared_arithmetic if isinstance(shared_arithmetic, list) else shared_arithmetic


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
    return [blend.benchmark_of(domain)] if hasattr(domains.ALL[domain], "LABELS") else []


def chance(benchmark: str, sources: Sequence[str] = (MICRO,)) -> float:
    """The accuracy of a guess on a benchmark; of a blend's, the mean over its test problems (0 where there is no list to guess from).

    >>> chance("quantities")
    0.25
    """
    if is_micro(sources):
        return domains.chance(benchmark)
    held = rows.Rows(blend.prepare_rows(list(sources)), f"{_domain_of(benchmark)}-test")
    guesses = [1 / len(row["options"]) if row.get("options") else 0.0 for row in held]
    return sum(guesses) / max(1, len(guesses))


def _domain_of(benchmark: str) -> str:
    """The domain whose held-out problems of the blend a benchmark is."""
    return next(name for name in domains.DOMAINS if blend.benchmark_of(name) == benchmark)


def built_in(shared_arithmetic: Shared, sources: Sequence[str] = (MICRO,)) -> Shared:
    """`data_shared_arithmetic` as far as it was built into the problems: not into those of a blend."""
    return shared_arithmetic if is_micro(sources) else False


def benchmark_problems(
    benchmark: str, split: str, count: int, shared_arithmetic: Shared, sources: Sequence[str] = (MICRO,)
) -> list[dict]:
    """`count` selection or test problems of a benchmark, the same for every seed of the study."""
    if not is_micro(sources):
        return _held(_domain_of(benchmark), split, count, 0, sources)
    module = domains.ALL[domains.DOMAIN_OF[benchmark]]
    return problems.draw(module.make, benchmark, split, count, 0, needs_arithmetic(module.NAME, shared_arithmetic))


def train_problems(
    domain: str,
    count: int,
    seed: int,
    shared_arithmetic: Shared,
    shifted: bool = False,
    sources: Sequence[str] = (MICRO,),
    limit: PromptLimit | None = None,
) -> list[dict]:
    """`count` training problems of a domain, like its first benchmark, or like its last, shifted one; prompts within `limit`.

    A blend has no shifted problems; its training problems come in random order, again from the start when all were used.
    """
    if not is_micro(sources):
        return _held(domain, "train", count, seed, sources, limit)
    module = domains.ALL[domain]
    benchmark = list(module.BENCHMARKS)[-1 if shifted else 0]
    drawn = problems.draw(module.make, benchmark, "train", count, seed, needs_arithmetic(domain, shared_arithmetic))
    prompt_limit.check_drawn(domain, drawn, limit)
    return drawn


def _held(domain: str, split: str, count: int, seed: int, sources: Sequence[str], limit: PromptLimit | None = None) -> list[dict]:
    """`count` rows of a domain and split of the blend in an order drawn from `seed`; only training rows may come twice."""
    folder = blend.prepare_rows(list(sources))
    held = rows.Rows(folder, f"{domain}-{split}")
    numbers = prompt_limit.short_rows(folder, domain, limit) if split == "train" else range(len(held))
    if not len(numbers) or (split != "train" and count > len(numbers)):
        raise ValueError(
            f"the blend has {len(numbers)} usable {split} problems of {domain}, {count} asked for; drops.csv says why"
        )
    rng, order = random.Random(f"{domain} {split} {seed}"), []
    while len(order) < count:
        order += rng.sample(range(len(numbers)), len(numbers))
    return [held[numbers[place]] for place in order[:count]]


def pool_sizes(names: list[str], sources: Sequence[str] = (MICRO,), limit: PromptLimit | None = None) -> list[int]:
    """The weights in which domains are mixed: equal in the micro world, the number of training rows in a blend (as published)."""
    if is_micro(sources):
        return [1] * len(names)
    folder = blend.prepare_rows(list(sources))
    return [len(prompt_limit.short_rows(folder, name, limit)) for name in names]


def prompts(
    names: list[str],
    count: int,
    seed: int,
    shared_arithmetic: Shared,
    sources: Sequence[str] = (MICRO,),
    limit: PromptLimit | None = None,
) -> list[dict]:
    """The training rows of an RL run: `count` in all, in the proportions of `pool_sizes`, concatenated and shuffled."""
    shares = rows.apportion(pool_sizes(names, sources, limit), count)
    drawn = []
    for name, share in zip(names, shares):
        # + 1: other problems than the SFT demonstrations of the same seed
        drawn += train_problems(name, share, 2 * seed + 1, shared_arithmetic, sources=sources, limit=limit)
    random.Random(f"mix {seed}").shuffle(drawn)
    return drawn


def sft_corpus(
    names: list[str],
    per_domain: int,
    general: int,
    judge: int,
    shifted_share: float,
    wrong_share: float,
    wrong_steps: str,
    seed: int,
    shared_arithmetic: Shared,
) -> list[dict]:
    """Demonstrations, shuffled: `row`, `kind` ('demonstration' or 'judge'), `prompt` messages, `completion`.

    `per_domain` demonstrations of each domain named and `general` of the general facts, of which `shifted_share`
    like the shifted benchmarks (which RL never trains), each step wrong with probability `wrong_share`; `judge`
    conversations a domain and mode, on problems of their own, with several verdicts each, half of them on right and
    half on wrong trajectories.
    """
    rng = random.Random(f"sft {seed}")
    corpus = []
    for name in [*names, domains.general.NAME]:
        module = domains.ALL[name]
        count = general if name == domains.general.NAME else per_domain
        shifted = round(shifted_share * count)
        drawn = train_problems(name, count - shifted, 2 * seed, shared_arithmetic)
        drawn += train_problems(name, shifted, 2 * seed, shared_arithmetic, shifted=True)
        for row in drawn:
            wrong = frozenset(problems.noisy_steps(rng, row["steps"], wrong_share, wrong_steps))
            corpus.append(
                example_of("demonstration", row, row["responses_create_params"]["input"], module.demonstrate(row, rng, wrong))
            )
    for name in names:
        drawn = train_problems(name, len(JUDGE_MODES) * judge, 10**6 + seed, shared_arithmetic)
        turns = judge_turns(drawn[0], rng)
        patterns = [rng.getrandbits(turns) for _ in range(judge)]
        bits = [bits for pattern in patterns for bits in (pattern, ~pattern)]  # a bit a turn, balanced in every two rows
        places = [rng.choice(problems.PLACES) if row >> turn & 1 else None for row in bits for turn in range(turns)]
        trajectories, right = planted([row for row in drawn for _ in range(turns)], places, rng)
        for index, row in enumerate(drawn):
            mine = slice(index * turns, (index + 1) * turns)
            prompt = judge_prompt(row, trajectories[mine][0], JUDGE_MODES[index // judge])
            corpus.append(example_of("judge", row, prompt, write_judgement(row, rng, trajectories[mine], right[mine])))
    rng.shuffle(corpus)
    return corpus


def example_of(kind: str, row: dict, prompt: list[dict], completion: str) -> dict:
    """An example of the corpus, as `tokenise` takes it."""
    return {"kind": kind, "row": row, "prompt": prompt, "completion": completion}


def tokenise(tokenizer, example: dict) -> dict:
    """`input_ids` and `labels` of a corpus example; labels are -100 on the prompt and on tool results."""
    tools = example["row"]["responses_create_params"]["tools"] if example["kind"] == "demonstration" else []
    input_ids = tokenizer(chat.prompt(tokenizer, example["prompt"], tools))["input_ids"]
    labels = [-100] * len(input_ids)
    for text, own in chat.turns(example["completion"]):
        ids = tokenizer(text)["input_ids"]
        input_ids += ids
        labels += ids if own else [-100] * len(ids)
    return {"input_ids": input_ids, "labels": labels}


def batch_order(lengths: list[int], batch: int, steps: int, seed: int) -> list[int]:
    """The order in which `steps` batches go through examples of these lengths: epoch after epoch, shuffled.

    Batches are of similar length, to pad little, but only among eight at a time and in random order: sorting
    wider makes a batch one domain's, which trained markedly worse.
    """
    rng = random.Random(f"order {seed}")
    stream: list[int] = []
    while len(stream) < batch * steps:
        stream += rng.sample(range(len(lengths)), len(lengths))
    order: list[int] = []
    for start in range(0, batch * steps, 8 * batch):
        pool = sorted(stream[start : min(start + 8 * batch, batch * steps)], key=lambda i: lengths[i])
        batches = [pool[i : i + batch] for i in range(0, len(pool), batch)]
        rng.shuffle(batches)
        order += [i for part in batches for i in part]
    return order


def corpus_texts(corpus: Sequence[dict]) -> list[str]:
    """The plain texts of a corpus, to train a tokenizer on."""
    return [example["prompt"][-1]["content"] + "\n" + example["completion"] for example in corpus] + [
        json.dumps(tool) for example in islice(corpus, 200) for tool in example["row"]["responses_create_params"]["tools"]
    ]
