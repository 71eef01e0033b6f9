"""One loop of tool turns for training and evaluation: the model's turns and the environment's answers alternate."""

from collections.abc import Callable
from dataclasses import dataclass, field

from m2rl_lib import domains
from m2rl_lib.domains import agent, chat
from m2rl_lib.storage import processes

# prompts' token ids -> the ids written after each, and their log-probabilities where the sampler reports them
Turn = Callable[[list[list[int]]], tuple[list[list[int]], list[list[float]] | None]]


@dataclass
class Completion:
    """A sampled completion. `own` is 1 on the model's tokens, 0 on tools'; `logprobs` are 0 there, or empty."""

    ids: list[int] = field(default_factory=list)
    own: list[int] = field(default_factory=list)
    text: str = ""
    truncated: bool = True
    logprobs: list[float] = field(default_factory=list)


def rollout(
    turn: Turn, tokenizer, prompt_ids: list[list[int]], rows: list[dict], max_tokens: int, together: bool = False
) -> list[Completion]:
    """One completion for each row of at most `max_tokens` with tools' results. `together`: all processes take as many turns."""
    environments = [domains.ALL[row["domain"]].environment(row) if has_tools([row]) else None for row in rows]
    completions = [Completion() for _ in rows]
    active = list(range(len(rows)))
    for number in range(agent.MOST_TURNS + 1):
        written, sampled = turn([prompt_ids[i] + completions[i].ids for i in active])
        continued = []
        for i, new, logprobs in zip(active, written, sampled or [[]] * len(written), strict=True):
            completion = completions[i]
            new = new[: max_tokens - len(completion.ids)]
            completion.ids += new
            completion.own += [1] * len(new)
            completion.logprobs += logprobs[: len(new)]
            ended = bool(new) and new[-1] == tokenizer.eos_token_id
            completion.truncated = not ended
            if not ended or environments[i] is None or number == agent.MOST_TURNS:
                continue
            calls = chat.tool_calls(tokenizer.decode(new))
            if not calls:
                continue
            answers = [environments[i].call(call) for call in calls[: agent.MOST_CALLS]]
            reply = tokenizer(chat.tool_turn(answers))["input_ids"]
            if len(completion.ids) + len(reply) >= max_tokens:
                continue
            completion.ids += reply
            completion.own += [0] * len(reply)
            completion.logprobs += [0.0] * len(reply) if sampled else []
            continued.append(i)
        active = continued
        if not (any(processes.gather(len(active))) if together else active):
            break
    for completion in completions:
        completion.text = tokenizer.decode(completion.ids)
    return completions


def has_tools(rows: list[dict]) -> bool:
    """Whether a row's completion may take more than one turn."""
    return any(hasattr(domains.ALL[row["domain"]], "environment") for row in rows)
