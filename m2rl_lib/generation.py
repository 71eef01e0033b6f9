"""K completions a problem, tool turns included, and their log-probabilities.

One loop serves training and evaluation at every scale: `rollout` alternates the model's turns with the
answers of the row's environment. What differs is the `turn`: transformers here, vLLM through TRL.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from m2rl_lib import chat, domains
from m2rl_lib.domains import agent

Turn = Callable[[list[list[int]]], list[list[int]]]  # prompts' token ids -> the ids written after each


@dataclass
class Completion:
    """One sampled completion. `own` is 1 on the model's tokens and 0 on tool results."""

    ids: list[int]
    own: list[int]
    text: str
    truncated: bool


def rollout(turn: Turn, tokenizer, prompt_ids: list[list[int]], rows: list[dict], max_tokens: int) -> list[Completion]:
    """One completion for each row; `max_tokens` counts the model's tokens and the tools' results."""
    environments = [_environment(row) for row in rows]
    ids: list[list[int]] = [[] for _ in rows]
    own: list[list[int]] = [[] for _ in rows]
    active = list(range(len(rows)))
    for number in range(agent.MOST_TURNS + 1):
        written = turn([prompt_ids[i] + ids[i] for i in active])
        going_on = []
        for i, new in zip(active, written, strict=True):
            new = new[: max_tokens - len(ids[i])]
            ids[i] += new
            own[i] += [1] * len(new)
            if environments[i] is None or not new or new[-1] != tokenizer.eos_token_id or number == agent.MOST_TURNS:
                continue
            calls = chat.tool_calls(tokenizer.decode(new))
            if not calls:
                continue
            answers = [environments[i].call(call) for call in calls[: agent.MOST_CALLS]]
            reply = tokenizer(chat.tool_turn(answers))["input_ids"]
            if len(ids[i]) + len(reply) >= max_tokens:
                continue
            ids[i] += reply
            own[i] += [0] * len(reply)
            going_on.append(i)
        active = going_on
        if not active:
            break
    return [
        Completion(ids[i], own[i], tokenizer.decode(ids[i]), not ids[i] or ids[i][-1] != tokenizer.eos_token_id)
        for i in range(len(rows))
    ]


def _environment(row: dict):
    module = domains.ALL[row["domain"]]
    return module.environment(row) if hasattr(module, "environment") else None


def transformers_turn(model, tokenizer, temperature: float, max_tokens: int, generator_seed: int) -> Turn:
    """A turn by `model.generate`; temperature 0 is greedy. Sampling is seeded once, here."""
    torch.manual_seed(generator_seed)
    how = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature > 0 else {"do_sample": False}

    @torch.no_grad()
    def turn(prompts: list[list[int]]) -> list[list[int]]:
        batch = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
        output = model.generate(**batch, **how, max_new_tokens=max_tokens)[:, batch["input_ids"].shape[1] :].tolist()
        eos = tokenizer.eos_token_id
        return [ids[: ids.index(eos) + 1] if eos in ids else ids for ids in output]

    return turn


def sample(
    model, tokenizer, rows: list[dict], k: int, *, temperature: float, max_tokens: int, batch: int, seed: int
) -> list[list[Completion]]:
    """`k` completions for each row, at `temperature` with top-p 1, in batches of `batch` sequences."""
    turn = transformers_turn(model, tokenizer, temperature, max_tokens, seed)
    prompts = [tokenizer(chat.row_prompt(tokenizer, row))["input_ids"] for row in rows]
    order = sorted((i for i in range(len(rows)) for _ in range(k)), key=lambda i: len(prompts[i]))
    completions: list[list[Completion]] = [[] for _ in rows]
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        for i, completion in zip(part, rollout(turn, tokenizer, [prompts[i] for i in part], [rows[i] for i in part], max_tokens)):
            completions[i].append(completion)
    return completions
