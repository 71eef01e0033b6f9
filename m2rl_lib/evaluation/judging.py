"""Models as judges: which trajectories they are shown, and the verdict that each gives (RQ5). In the mode *outcome* they see the
problem and the final answer, in *process* the whole reasoning. A judge says 'right' or 'wrong': read from the probabilities of
the two words after its thinking (the score), and from what it wrote (the verdict)."""

import random
import re
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from m2rl_lib import domains, sandbox
from m2rl_lib.config import locations
from m2rl_lib.config.study import Parameters
from m2rl_lib.data import judge_prompts, problem_sets
from m2rl_lib.domains import chat, instruction_following
from m2rl_lib.rollout import decoding
from m2rl_lib.stats.graded_samples import UNTRAINED, require_columns
from m2rl_lib.storage import artifacts, result_tables

SHARED, OWN, CANDIDATES, PLANTED, SHIFTED = "shared", "own", "candidates", "planted", "shifted"  # the sets
ITEM = ["set", "source", "domain", "benchmark", "problem_id", "sample", "place", "distance", "right", "answer", "text"]
JUDGED = ["seed", "judge", *ITEM[:-1], "mode", "score", "verdict", "tokens", "thought"]
SAMPLES = ["model", "domain", "benchmark", "split", "problem_id", "sample", "correct", "parsed", "truncated", "text"]
VERDICT = re.compile(rf"\b({'|'.join(judge_prompts.VERDICTS)})\b")


@dataclass(frozen=True)
class Judgement:
    """What a judge wrote, the log-odds of 'right' against 'wrong' where its verdict stands, and the tokens written."""

    text: str
    score: float
    tokens: int


Judge = Callable[[list[list[dict]]], list[Judgement]]  # prompts (messages) -> a judgement of each


def read_verdict(text: str) -> str | None:
    """The one of the two words that stands after `</think>`; None is unreadable: neither word, or both."""
    found = set(VERDICT.findall((chat.answer_part(text) or "").lower()))
    return found.pop() if len(found) == 1 else None


def model_judge(model, tokenizer, *, temperature: float, max_tokens: int, batch: int, seed: int) -> Judge:
    """A model as a judge. Thinking that does not end is closed for it, so that every judgement has a score."""
    turn = decoding.transformers_turn(model, tokenizer, temperature, max_tokens, seed)
    close, right, wrong = verdict_tokens(tokenizer)

    def judge(prompts: list[list[dict]]) -> list[Judgement]:
        ids = [tokenizer(chat.prompt(tokenizer, messages, []))["input_ids"] for messages in prompts]
        order, judged = sorted(range(len(ids)), key=lambda i: len(ids[i])), {}
        for part in (order[start : start + batch] for start in range(0, len(order), batch)):
            written, _ = turn([ids[i] for i in part])
            places = []
            for i, new in zip(part, written, strict=True):  # its thinking, and the tokens up to the verdict
                ends = [new.index(token) for token in (close[0], tokenizer.eos_token_id) if token in new]
                places.append(ids[i] + (new[: ends[0]] if ends else new) + close)
            logits = decoding.next_logits(model, places).float()
            for i, new, score in zip(part, written, (logits[:, right] - logits[:, wrong]).tolist(), strict=True):
                judged[i] = Judgement(tokenizer.decode(new), score, len(new))
        return [judged[i] for i in range(len(prompts))]

    return judge


def verdict_tokens(tokenizer) -> tuple[list[int], int, int]:
    """(ids up to the verdict, first id of 'right', of 'wrong'), from how the tokenizer cuts `</think>` and a verdict."""
    right, wrong = (tokenizer(f"</think>\n{verdict}")["input_ids"] for verdict in judge_prompts.VERDICTS)
    place = next(i for i, (one, other) in enumerate(zip(right, wrong)) if one != other)
    return right[:place], right[place], wrong[place]


def read_samples(p: Parameters, groups: list[str], split: str = "test") -> pd.DataFrame:
    """The graded completions of a split of these groups of models with their texts: `SAMPLES` and the seed."""
    scores, texts = (result_tables.read_table(p, table, groups) for table in ("scores", "samples"))
    keys = [column for column in texts.columns if column != "text"]
    both = scores[scores["split"] == split].merge(texts, on=keys, validate="one_to_one")
    return both[~both["domain"].isin(UNTRAINED)]


def first_benchmarks(names: list[str], sources: Sequence[str] = (problem_sets.MICRO,)) -> list[str]:
    """Each domain's first benchmark: in the micro world the kind of problems that SFT taught to judge."""
    return [problem_sets.benchmarks(name, sources)[0] for name in names]


def answer_sentence(judged: pd.DataFrame) -> str:
    """How many verdicts there are, how many cannot be read, and before how many the judge thought."""
    read, thought = 100 * judged["verdict"].notna().mean(), 100 * judged["thought"].eq(True).mean()
    said = f"**{judged['judge'].nunique()} judges gave {len(judged)} verdicts**; {read:.1f}% of the written ones can be read, and before"
    return f"{said} {thought:.1f}% the judge thought."


def count_samples(samples: pd.DataFrame) -> pd.DataFrame:
    """One row per model and domain: samples, of these not graded, empty, truncated, without an answer, right and wrong (of whole
    trajectories, of which `at once` have no reasoning to read), and the `reason` where there is no balanced set."""
    require_columns(samples, SAMPLES, "samples")
    whole, empty = _whole(samples), samples["text"].str.replace(chat.END, "").str.strip() == ""
    flags = {
        "samples": True,
        "not graded": samples["correct"].isna(),
        "empty": empty,
        "truncated": samples["truncated"] & ~empty,
        "no answer": ~samples["parsed"] & ~samples["truncated"] & ~empty,
        "right": whole & (samples["correct"] == 1),
        "wrong": whole & (samples["correct"] == 0),
        "at once": whole & ~samples["text"].map(chat.thought).eq(True),
    }
    counts = samples[["model", "domain"]].assign(**flags).groupby(["model", "domain"], sort=False).sum().reset_index()
    right, wrong = counts["right"] > 0, counts["wrong"] > 0
    alike = "all " + (counts["right"] + counts["wrong"]).astype(str) + " whole trajectories are "
    reasons = [np.where(right & wrong, "", alike + "right"), alike + "wrong"]
    return counts.assign(reason=np.select([right, wrong], reasons, "no whole trajectory"))


def _whole(samples: pd.DataFrame) -> pd.Series:
    """Graded, ended and with an answer; of the others no judge is needed."""
    return samples["correct"].notna() & samples["parsed"] & ~samples["truncated"]


def balanced_set(samples: pd.DataFrame, size: int, name: str, seed: int) -> pd.DataFrame:
    """As many right as wrong whole trajectories of a domain, `size` at most, one of each per problem; those with both first."""
    chosen = []
    for domain, cell in samples[_whole(samples)].groupby("domain", sort=False):
        order = np.random.default_rng([seed, zlib.crc32(str(domain).encode())]).permutation(len(cell))
        cell = cell.iloc[order].drop_duplicates(["problem_id", "correct"])
        both = cell.groupby("problem_id")["correct"].transform("size") == 2
        cell = pd.concat([cell[both].sort_values("problem_id", key=lambda ids: pd.factorize(ids)[0]), cell[~both]])
        right, wrong = (cell[cell["correct"] == value] for value in (1, 0))
        count = min(size // 2, len(right), len(wrong))
        chosen += [right.head(count), wrong.head(count)]
    return _items(pd.concat(chosen) if chosen else samples.head(0), name)


def candidate_set(samples: pd.DataFrame, problems: int, seed: int) -> pd.DataFrame:
    """All graded samples of the same `problems` problems of each domain for any model, empty and truncated ones too: `ITEM`."""
    chosen = []
    for domain, cell in samples.groupby("domain", sort=False):
        ids = sorted(cell["problem_id"].unique())
        picked = np.random.default_rng([seed, zlib.crc32(str(domain).encode())]).permutation(len(ids))[:problems]
        cell = cell[cell["problem_id"].isin([ids[i] for i in picked])]
        chosen.append(cell[cell.groupby("problem_id")["correct"].transform(lambda column: column.notna().all())])
    return _items(pd.concat(chosen), CANDIDATES)


def _items(samples: pd.DataFrame, name: str) -> pd.DataFrame:
    answers = [domains.ALL[row.domain].answer(row.text) for row in samples.itertuples()]
    named = {"set": name, "place": None, "distance": np.nan, "right": samples["correct"] == 1, "answer": answers}
    return samples.rename(columns={"model": "source"}).assign(**named)[ITEM].reset_index(drop=True)


def planted_set(rows: list[dict], seed: int) -> pd.DataFrame:
    """Of each row one right trajectory and one for each step with that step alone wrong: `ITEM`; `distance`: steps to the end."""
    items = []
    for name in dict.fromkeys(row["domain"] for row in rows):
        plan = [(row, step) for row in rows if row["domain"] == name for step in (None, *range(len(row["steps"])))]
        texts, right = judge_prompts.planted(*map(list, zip(*plan)), random.Random(f"planted {seed} {name}"))
        for (row, step), text, is_right in zip(plan, texts, right, strict=True):
            if is_right != (step is None):
                continue
            place = [-1, None, np.nan] if step is None else [step, place_of(row, step), len(row["steps"]) - 1 - step]
            items.append([PLANTED, PLANTED, name, row["benchmark"], row["problem_id"], *place, is_right, None, text])
    return pd.DataFrame(items, columns=ITEM)


def place_of(row: dict, step: int) -> str:
    """What is wrong where a step is: 'early', 'late', 'answer' or 'middle'; of instructions, 'intention' or 'execution'."""
    if row["domain"] == instruction_following.NAME:
        return "intention" if row["steps"][step].startswith("plan ") else "execution"
    last = len(row["steps"]) - 1
    return {last - 1: "late", 0: "early", last: "answer"}.get(step, "middle")


def judge_items(judge: Judge, items: pd.DataFrame, rows: dict[str, dict], taught: bool = True) -> pd.DataFrame:
    """Every item judged in both modes, equal prompts once: the columns of `ITEM` but the text, and mode, score, verdict (None:
    unreadable), tokens, thought. `rows`: problems by problem_id; `taught` as in `judge_prompts.judge_prompt`."""
    asked = pd.concat([items.assign(mode=mode) for mode in judge_prompts.JUDGE_MODES], ignore_index=True)
    prompts = [judge_prompts.judge_prompt(rows[row.problem_id], row.text, row.mode, taught) for row in asked.itertuples()]
    keys = [messages[-1]["content"] for messages in prompts]
    distinct = dict(zip(keys, prompts))
    found = dict(zip(distinct, judge(list(distinct.values())), strict=True))
    judgements = [found[key] for key in keys]
    asked["score"] = [one.score for one in judgements]
    asked["verdict"] = pd.Series([read_verdict(one.text) for one in judgements], dtype=object, index=asked.index)
    asked["tokens"] = [one.tokens for one in judgements]
    asked["thought"] = [chat.thought(one.text) is True for one in judgements]
    return asked.drop(columns="text")


def run(p: Parameters, judges: dict[str, list[str]], samples: pd.DataFrame) -> pd.DataFrame:
    """Every judge on the sets of its domains: `JUDGED`, one row per judge, trajectory and mode. `judges`: model -> the domains it
    judges; `samples` as `read_samples` gives them, SFT's among them. The sets are of each domain's first benchmark: SFT's
    balanced set (`shared`), each other model's (`own`), its `candidates`, and `planted` trajectories; SFT also judges what it
    wrote on other benchmarks (`shifted`). A blend has no planted and no shifted set."""
    sandbox.configure(p.sandbox_kind)
    torch.set_num_threads(p.evaluate_threads)
    micro = problem_sets.is_micro(p.data_sources)
    count = max(p.evaluate_problems, p.judging_problems) if micro else p.evaluate_problems
    first = first_benchmarks(p.domains, p.data_sources)
    tested = {
        benchmark: problem_sets.benchmark_problems(benchmark, "test", count, problem_sets.world_of(p), p.data_sources)
        for domain in p.domains
        for benchmark in problem_sets.benchmarks(domain, p.data_sources)
    }
    rows = {row["problem_id"]: row for part in tested.values() for row in part}
    planted = planted_set([row for name in first for row in tested[name][: p.judging_problems]] if micro else [], p.seed)
    usual = samples["benchmark"].isin(first)
    drawn = {name: samples[usual & (samples["model"] == name)] for name in judges}
    shifted = balanced_set(samples[~usual & (samples["model"] == "sft")], p.judging_trajectories, SHIFTED, p.seed)
    shared = balanced_set(drawn["sft"], p.judging_trajectories, SHARED, p.seed)
    frames = []
    for name, judged in judges.items():
        own = shifted if name == "sft" else balanced_set(drawn[name], p.judging_trajectories, OWN, p.seed)
        sets = [shared, own, candidate_set(drawn[name], p.judging_problems, p.seed), planted]
        items = pd.concat([some for some in sets if len(some)], ignore_index=True)
        items = items[items["domain"].isin(judged)].copy()
        if not micro:  # a row of a blend may ask for an answer in a form of its own
            items["answer"] = [domains.read_answer(t, rows[i]) for t, i in zip(items["text"], items["problem_id"])]
        started = time.monotonic()
        frame = judge_items(load_judge(p, name), items, rows, micro).assign(seed=p.seed, judge=name)
        spent, unreadable = time.monotonic() - started, frame["verdict"].isna().mean()
        line = f"{len(frame)} verdicts on {len(items)} trajectories in {spent:.0f} s, {unreadable:.1%} unreadable"
        print(f"{name}: {line}", flush=True)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)[JUDGED]


def load_judge(p: Parameters, name: str) -> Judge:
    """A model of the study as a judge."""
    folder = artifacts.verify_model(locations.model_folder(p.study, p.seed, name))
    model, tokenizer = decoding.load_model(folder, p.evaluate_dtype)
    how = {"temperature": p.judging_temperature, "max_tokens": p.evaluate_max_tokens, "batch": p.evaluate_batch}
    return model_judge(model, tokenizer, **how, seed=zlib.crc32(f"{p.seed} judge {name}".encode()) % 2**31)
