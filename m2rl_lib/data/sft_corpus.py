"""The SFT corpus of the micro world: demonstrations and verdicts, as token ids in the order in which batches take them."""

import json
import random
from collections.abc import Sequence
from itertools import islice

from m2rl_lib import domains
from m2rl_lib.config.study import Parameters
from m2rl_lib.data.judge_prompts import JUDGE_MODES, READING, judge_prompt, judge_turns, planted, write_judgement
from m2rl_lib.data.problem_sets import train_problems
from m2rl_lib.domains import chat, conventions, problems

DEMONSTRATED = conventions.Demonstrated()


def sft_corpus(p: Parameters) -> list[dict]:
    """Demonstrations, shuffled: `row`, `kind` ('demonstration' or 'judge'), `prompt` messages, `completion`.

    A conversation of a judge has several verdicts, half of them on wrong trajectories, of these half with a word misread where there
    are chains. Every judge works the problem out: where only the share of `data_thinking` did, none learned to read what it was shown.
    """
    rng, seed, judge = random.Random(f"sft {p.seed}"), p.seed, p.sft_judge
    corpus = []
    for name in [*p.domains, domains.general.NAME]:
        module = domains.ALL[name]
        count = p.sft_general if name == domains.general.NAME else p.sft_demonstrations
        shifted = round(p.sft_shifted_share * count)
        drawn = train_problems(name, count - shifted, 2 * seed, DEMONSTRATED)
        drawn += train_problems(name, shifted, 2 * seed, DEMONSTRATED, shifted=True)
        for row in drawn:
            wrong = frozenset(problems.noisy_steps(rng, row["steps"], p.data_wrong_share, p.data_wrong_steps))
            think = rng.random() < p.data_thinking.get(name, 1.0)
            prompt, completion = row["responses_create_params"]["input"], module.demonstrate(row, rng, wrong, think)
            corpus.append({"kind": "demonstration", "row": row, "prompt": prompt, "completion": completion})
    for name in p.domains:
        drawn = train_problems(name, len(JUDGE_MODES) * judge, 10**6 + seed, DEMONSTRATED)
        turns = judge_turns(drawn[0], rng)
        patterns = [rng.getrandbits(turns) for _ in range(judge)]
        bits = [bits for pattern in patterns for bits in (pattern, ~pattern)]  # a bit a turn, balanced in every two rows
        errors = [*problems.PLACES, *[READING] * (3 if "chain" in drawn[0] else 0)]
        places = [rng.choice(errors) if row >> turn & 1 else None for row in bits for turn in range(turns)]
        share = p.data_thinking.get(name, 1.0)
        trajectories, right = planted([row for row in drawn for _ in range(turns)], places, rng, share)
        for index, row in enumerate(drawn):
            mine = slice(index * turns, (index + 1) * turns)
            prompt = judge_prompt(row, trajectories[mine][0], JUDGE_MODES[index // judge])
            judgement = write_judgement(row, rng, trajectories[mine], right[mine])
            corpus.append({"kind": "judge", "row": row, "prompt": prompt, "completion": judgement})
    rng.shuffle(corpus)
    return corpus


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


ALIKE = 8  # examples of similar length, side by side


def batch_order(lengths: list[int], batch: int, steps: int, seed: int) -> list[int]:
    """The order in which `steps` batches go through examples of these lengths: epoch after epoch, shuffled.

    Parts of `ALIKE` are of similar length, to pad little; a batch takes parts at random: were it of one length, the loss, a mean
    over tokens, would weigh short answers' tokens more."""
    rng, size = random.Random(f"order {seed}"), min(ALIKE, batch)
    stream: list[int] = []
    while len(stream) < batch * steps:
        stream += rng.sample(range(len(lengths)), len(lengths))
    order: list[int] = []
    for start in range(0, batch * steps, 8 * batch):
        pool = sorted(stream[start : min(start + 8 * batch, batch * steps)], key=lambda i: lengths[i])
        parts = [pool[i : i + size] for i in range(0, len(pool), size)]
        rng.shuffle(parts)
        order += [i for part in parts for i in part]
    return order


def corpus_texts(corpus: Sequence[dict]) -> list[str]:
    """The plain texts of a corpus, to train a tokenizer on."""
    return [example["prompt"][-1]["content"] + "\n" + example["completion"] for example in corpus] + [
        json.dumps(tool) for example in islice(corpus, 200) for tool in example["row"]["responses_create_params"]["tools"]
    ]
