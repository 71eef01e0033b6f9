"""One loop of tool turns for training and evaluation at every scale: the model's turns and the environment's answers alternate.

What differs is the `turn`: a transformers model (`decoding`), or vLLM through TRL (`trainer_rollouts`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from m2rl_lib import domains
from m2rl_lib.domains import agent, chat
from m2rl_lib.storage import processes

# prompts' token ids -> the ids written after each, and their log-probabilities where the sampler reports them
Turn = Callable[[list[list[int]]], tuple[list[list[int]], list[list[float]] | None]]


@dataclass
class Completion:
    """One sampled completion. `own` is its loss mask: 1 on the model's tokens, 0 on tool results.

    `logprobs` are those of the model's tokens under the sampler, where it reports them.
    """

    ids: list[int]
    own: list[int]
    text: str
    truncated: bool
    logprobs: list[float] = field(default_factory=list)


def rollout(
    turn: Turn, tokenizer, prompt_ids: list[list[int]], rows: list[dict], max_tokens: int, together: bool = False
) -> list[Completion]:
    """One completion for each row; `max_tokens` counts the model's tokens and the tools' results.

    `together`: every process takes as many turns as the one that needs most, the last of them perhaps with no prompt.
    """
    environments = [_environment(row) for row in rows]
    ids: list[list[int]] = [[] for _ in rows]
    own: list[list[int]] = [[] for _ in rows]
    logprobs: list[list[float]] = [[] for _ in rows]
    active = list(range(len(rows)))
    for number in range(agent.MOST_TURNS + 1):
        written, sampled = turn([prompt_ids[i] + ids[i] for i in active])
        continued = []
        for i, new, of_new in zip(active, written, sampled or [[]] * len(written), strict=True):
            new = new[: max_tokens - len(ids[i])]
            logprobs[i] += of_new[: len(new)]
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
            continued.append(i)
        active = continued
        if not (any(processes.gather(len(active))) if together else active):
            break
    return [
        Completion(ids[i], own[i], tokenizer.decode(ids[i]), not ids[i] or ids[i][-1] != tokenizer.eos_token_id, logprobs[i])
        for i in range(len(rows))
    ]


def has_tools(rows: list[dict]) -> bool:
    """Whether a row's completion may take more than one turn."""
    return any(hasattr(domains.ALL[row["domain"]], "environment") for row in rows)


def _environment(row: dict):
    return domains.ALL[row["domain"]].environment(row) if has_tools([row]) else None
