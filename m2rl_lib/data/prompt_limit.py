"""RL's prompt limit: which training rows of a blend have a prompt (chat template and tools included) that is short enough."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from m2rl_lib.data import row_files
from m2rl_lib.domains import agent, chat

BATCH = 512  # prompts tokenised at a time
FREE = agent.NAME  # the domain whose prompts may have any length, as published


@dataclass(frozen=True)
class PromptLimit:
    """At most `tokens` tokens of `tokenizer` in a prompt."""

    tokenizer: object
    tokens: int

    def counts(self, some: list[dict]) -> list[int]:
        """Tokens of each row's prompt."""
        texts = [chat.row_prompt(self.tokenizer, row) for row in some]
        return [len(ids) for ids in self.tokenizer(texts, verbose=False)["input_ids"]] if texts else []

    @property
    def digest(self) -> str:
        """Of what the counts depend on: the vocabulary and the chat template."""
        described = json.dumps([sorted(self.tokenizer.get_vocab().items()), self.tokenizer.chat_template])
        return hashlib.sha256(described.encode()).hexdigest()[:12]


def count_prompts(folder: Path, domain: str, limit: PromptLimit) -> tuple[np.ndarray, np.ndarray]:
    """(tokens of its prompt, label of the blend) of every training row of a domain, counted once per tokenizer."""
    file = folder / f"{domain}-train.{limit.digest}.npz"
    with row_files.locked(folder):
        if not file.is_file():
            rows = row_files.Rows(folder, f"{domain}-train")
            tokens, labels = [], []
            for start in range(0, len(rows), BATCH):
                some = [rows[number] for number in range(start, min(start + BATCH, len(rows)))]
                tokens += limit.counts(some)
                labels += [row["dataset"] for row in some]
            fresh = folder / f".{os.getpid()}.npz"
            np.savez(fresh, tokens=np.array(tokens, np.int32), labels=np.array(labels, str))
            fresh.replace(file)
    with np.load(file) as counted:
        return counted["tokens"], counted["labels"]


def short_rows(folder: Path, domain: str, limit: PromptLimit | None) -> np.ndarray:
    """The numbers of a domain's training rows that RL may use, in order; without a limit all of them."""
    if limit is None or domain == FREE:
        return np.arange(len(row_files.Rows(folder, f"{domain}-train")))
    return np.flatnonzero(count_prompts(folder, domain, limit)[0] <= limit.tokens)


def check_drawn(domain: str, drawn: list[dict], limit: PromptLimit | None) -> None:
    """ValueError where a problem of the micro world has a longer prompt: it is drawn as needed, so the limit is what is wrong."""
    if limit is None or domain == FREE:
        return
    longest = max(limit.counts(drawn), default=0)
    if longest > limit.tokens:
        raise ValueError(f"a prompt of {domain} has {longest} tokens, rlvr_prompt_tokens allows {limit.tokens}: raise it")
