"""Rows at a scale: problems of a domain, the SFT corpus, the prompts of an RL run.

Selection and test problems are the same for every seed, so that models are compared on equal problems;
a seed redraws the training problems and the demonstrations. `sources` are the study's `data_sources`: the micro world's
generators ([micro]), or the public data sets (`blend`, `sft_blend`), whose rows go through the same code.
"""

import json
import random
from collections.abc import Sequence
from itertools import zip_longest

from m2rl_lib import chat, domains
from m2rl_lib.datasets import blend, rows
from m2rl_lib.domains import problems

JUDGE_MODES = ("outcome", "process")
VERDICTS = ("right", "wrong")
MARKS = ("same", "other")  # of a piece of the shown result beside the judge's own
QUESTION = "Right or wrong?"
JUDGE_CHARACTERS = 1000  # of one conversation after its first question, about


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


def benchmark_problems(
    benchmark: str, split: str, count: int, shared_arithmetic: Shared, sources: Sequence[str] = (MICRO,)
) -> list[dict]:
    """`count` selection or test problems of a benchmark, the same for every seed of the study."""
    if not is_micro(sources):
        return _held(next(name for name in domains.DOMAINS if blend.benchmark_of(name) == benchmark), split, count, 0, sources)
    module = domains.ALL[domains.DOMAIN_OF[benchmark]]
    return problems.draw(module.make, benchmark, split, count, 0, needs_arithmetic(module.NAME, shared_arithmetic))


def train_problems(
    domain: str, count: int, seed: int, shared_arithmetic: Shared, shifted: bool = False, sources: Sequence[str] = (MICRO,)
) -> list[dict]:
    """`count` training problems of a domain, like its first benchmark, or like its last, shifted one.

    A blend has no shifted problems; its training problems come in random order, again from the start when all were used.
    """
    if not is_micro(sources):
        return _held(domain, "train", count, seed, sources)
    module = domains.ALL[domain]
    benchmark = list(module.BENCHMARKS)[-1 if shifted else 0]
    return problems.draw(module.make, benchmark, "train", count, seed, needs_arithmetic(domain, shared_arithmetic))


def _held(domain: str, split: str, count: int, seed: int, sources: Sequence[str]) -> list[dict]:
    """`count` rows of a domain and split of the blend in an order drawn from `seed`; only training rows may come twice."""
    held = rows.Rows(blend.prepare_rows(list(sources)), f"{domain}-{split}")
    if not len(held) or (split != "train" and count > len(held)):
        raise ValueError(f"the blend has {len(held)} usable {split} problems of {domain}, {count} asked for; drops.csv says why")
    rng, order = random.Random(f"{domain} {split} {seed}"), []
    while len(order) < count:
        order += rng.sample(range(len(held)), len(held))
    return [held[number] for number in order[:count]]


def pool_sizes(names: list[str], sources: Sequence[str] = (MICRO,)) -> list[int]:
    """The weights in which domains are mixed: equal in the micro world, the number of training rows in a blend (as published)."""
    if is_micro(sources):
        return [1] * len(names)
    return [len(rows.Rows(blend.prepare_rows(list(sources)), f"{name}-train")) for name in names]


def prompts(names: list[str], count: int, seed: int, shared_arithmetic: Shared, sources: Sequence[str] = (MICRO,)) -> list[dict]:
    """The training rows of an RL run: `count` in all, in the proportions of `pool_sizes`, concatenated and shuffled."""
    shares = rows.apportion(pool_sizes(names, sources), count)
    drawn = []
    for name, share in zip(names, shares):
        # + 1: other problems than the SFT demonstrations of the same seed
        drawn += train_problems(name, share, 2 * seed + 1, shared_arithmetic, sources=sources)
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
            corpus.append(example_of("judge", row, prompt, _judge(row, rng, trajectories[mine], right[mine])))
    rng.shuffle(corpus)
    return corpus


def example_of(kind: str, row: dict, prompt: list[dict], completion: str) -> dict:
    """An example of the corpus, as `tokenise` takes it."""
    return {"kind": kind, "row": row, "prompt": prompt, "completion": completion}


def judge_turns(row: dict, rng: random.Random) -> int:
    """How many trajectories of a problem like `row` are judged in one conversation: three to six, more where they are short.

    Thousands of pieces that differ must be read before a small model reads them at all, so none is wasted.
    """
    module = domains.ALL[row["domain"]]
    right = module.demonstrate(row, rng)
    pieces = module.gist(right, row)
    shown = len(chat.plain(chat.without_thinking(right))) + len("\n".join(comparison(pieces, pieces)))
    return max(3, min(6, JUDGE_CHARACTERS // (40 + shown)))


def planted(rows: list[dict], places: list[str | int | None], rng: random.Random) -> tuple[list[str], list[bool]]:
    """A trajectory of each row, all of one domain, with one wrong step at its place (`problems.PLACES`, or the step's
    index) or none, and whether it is right.

    A wrong step may still end right; it is then got wrong anew, a hundred times at most.
    """
    module = domains.ALL[rows[0]["domain"]]
    steps = [_wrong_steps(place, row["steps"]) for row, place in zip(rows, places, strict=True)]
    trajectories, right = [""] * len(rows), [False] * len(rows)
    again = list(range(len(rows)))
    for _ in range(100):
        for i in again:
            trajectories[i] = module.demonstrate(rows[i], rng, steps[i])
        rewards = module.verify([trajectories[i] for i in again], [rows[i] for i in again])
        for i, reward in zip(again, rewards, strict=True):
            right[i] = reward == 1.0
        again = [i for i in again if right[i] and steps[i]]
        if not again:
            break
    return trajectories, right


def _wrong_steps(place: str | int | None, steps: list[str]) -> frozenset[int]:
    if place is None:
        return frozenset()
    return frozenset({place} if isinstance(place, int) else problems.wrong_step_at(place, steps))


def _judge(row: dict, rng: random.Random, trajectories: list[str], right: list[bool]) -> str:
    """What a judge writes, with the questions after the first one between its turns.

    It works the problem out once. Then it puts its own result beside the shown one and says its verdict, each time.
    """
    module = domains.ALL[row["domain"]]
    own = module.demonstrate(row, rng)
    thoughts, text = [thought[7:-8] for thought in chat.THINKING.findall(own)[:1]], ""  # without the tags
    for turn, trajectory in enumerate(trajectories):
        thoughts += comparison(module.gist(own, row), module.gist(trajectory, row))
        text += chat.user_turn(f"{chat.plain(chat.without_thinking(trajectory))}\n{QUESTION}") if turn else ""
        text += "<think>" + "\n".join(thoughts) + f"</think>\n{VERDICTS[not right[turn]]}{chat.END}"
        thoughts = []
    return text


def comparison(own: list[str], shown: list[str]) -> list[str]:
    """Two results side by side, a line a piece: the judge's own, the shown one's, and a mark.

    The mark follows the piece itself: equality of a token with one before it is what a small model learns.

    >>> comparison(["2", "5"], ["2", "4"])
    [' 2 2 same', ' 5 4 other']
    """
    return [f" {a} {b} {MARKS[a != b]}" for a, b in zip_longest(own, shown, fillvalue="none")]


def judge_prompt(row: dict, trajectory: str, mode: str) -> list[dict]:
    """The messages that ask for a verdict on a trajectory: by its outcome alone, or by the whole process."""
    if mode not in JUDGE_MODES:
        raise ValueError(f"judge mode {mode!r} is not one of {', '.join(JUDGE_MODES)}")
    shown = chat.plain(trajectory if mode == "process" else chat.without_thinking(trajectory))
    return [{"role": "user", "content": f"{problems.prompt_of(row)}\n{mode}:\n{shown}\n{QUESTION}"}]


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


def corpus_texts(corpus: list[dict]) -> list[str]:
    """The plain texts of a corpus, to train a tokenizer on."""
    return [example["prompt"][-1]["content"] + "\n" + example["completion"] for example in corpus] + [
        json.dumps(tool) for example in corpus[:200] for tool in example["row"]["responses_create_params"]["tools"]
    ]
