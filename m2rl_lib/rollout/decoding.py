"""Token by token decoding of a transformers model (imported where it is used: analyses read this module too)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn.functional import scaled_dot_product_attention

from m2rl_lib.domains import chat
from m2rl_lib.rollout.kept_contexts import Contexts, remembers_all
from m2rl_lib.rollout.tool_turns import Completion, Turn, has_tools, rollout


def grouped_attention(module, query, key, value, attention_mask, scaling=None, **_):
    """PyTorch's attention of grouped queries (B, H, L, D), without transformers' copies of keys and values; no mask: causal."""
    if query.shape[2] == 1 and query.dtype == torch.bfloat16:  # PyTorch's takes fifteen times as long for one query
        groups = query.view(len(query), key.shape[1], -1, query.shape[3]) * (scaling or query.shape[3] ** -0.5)
        scores = groups @ key.transpose(2, 3)
        scores = scores if attention_mask is None else scores.masked_fill(~attention_mask, -torch.inf)
        attended = (scores.softmax(dim=-1) @ value).view_as(query)
    else:
        given = {"attn_mask": attention_mask, "scale": scaling, "is_causal": attention_mask is None and query.shape[2] > 1}
        attended = scaled_dot_product_attention(query, key, value, enable_gqa=True, **given)
    return attended.transpose(1, 2).contiguous(), None


def use_grouped_attention(model) -> None:
    """Have `model` attend by `grouped_attention`."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register("grouped", grouped_attention)
    AttentionMaskInterface.register("grouped", sdpa_mask)
    model.set_attn_implementation("grouped")


def load_model(folder: Path, dtype: str = "auto") -> tuple:
    """The model of a folder, as stored or of another `dtype`, in evaluation mode, on the GPU where there is one; its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # an executed notebook is read, not watched
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    return model.cuda() if torch.cuda.is_available() else model, AutoTokenizer.from_pretrained(folder)


def transformers_turn(
    model, tokenizer, temperature: float, max_tokens: int, generator_seed: int | None = None, again: bool = False
) -> Turn:
    """A turn by a transformers model; temperature 0 is greedy. `again`: other turns may follow on this one's completions."""
    if generator_seed is not None:
        torch.manual_seed(generator_seed)
    on_cpu = model.device.type == "cpu"
    if on_cpu:
        use_grouped_attention(model)
    keeps = again and on_cpu and remembers_all(model)
    last = None

    def turn(prompts: list[list[int]]) -> tuple[list[list[int]], None]:
        nonlocal last
        before, last = last, Contexts() if keeps else None
        return decode(model, prompts, temperature, max_tokens, tokenizer.eos_token_id, before, last), None

    return turn


@torch.no_grad()
def decode(
    model,
    prompts: list[list[int]],
    temperature: float,
    max_tokens: int,
    eos: int,
    before: Contexts | None = None,
    keep: Contexts | None = None,
) -> list[list[int]]:
    """The token ids that `model` writes after each prompt: up to `max_tokens`, or up to and with `eos`.

    Equal prompts are read once, those that begin with a context of `before` from there on. The new contexts go into `keep`.
    """
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    different, place = distinct(prompts, model.device)
    before = before or read_in_parts(model, different)
    read, lengths = before and before.take(different, cache) or (None, [0] * len(different))
    ids, mask = padded([prompt[length:] for prompt, length in zip(different, lengths)], model.device)
    if read is not None:
        mask = torch.cat([read, mask], dim=1)
    position = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    output = model(input_ids=ids, attention_mask=mask, position_ids=position, past_key_values=cache, logits_to_keep=1)
    cache.batch_select_indices(place)
    logits, mask, position = output.logits[place, -1], mask[place], position[place, -1:]
    written: list[list[int]] = [[] for _ in prompts]
    who = torch.arange(len(prompts))  # whose completion each row of the batch is
    ended = torch.zeros(len(prompts), dtype=torch.bool)

    def leave(rows: torch.Tensor) -> None:
        if keep is not None:  # the last token of each was drawn and not read
            keep.keep([prompts[i] + written[i][:-1] for i in who[rows].tolist()], cache, mask, rows.to(mask.device))

    for count in range(1, max_tokens + 1):
        tokens = _draw(logits, temperature)
        for i, token, over in zip(who.tolist(), tokens.tolist(), ended.tolist()):
            if not over:
                written[i].append(token)
        ended |= tokens.cpu() == eos
        if ended.all() or count == max_tokens:
            leave(torch.arange(len(who)))
            break
        if ended.float().mean() > 0.1:
            leave(ended.nonzero()[:, 0])
            rest = (~ended).nonzero()[:, 0]
            who, ended = who[rest], ended[rest]
            rest = rest.to(mask.device)
            tokens, mask, position = tokens[rest], mask[rest], position[rest]
            cache.batch_select_indices(rest)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        position = position + 1
        output = model(input_ids=tokens[:, None], attention_mask=mask, position_ids=position, past_key_values=cache)
        logits = output.logits[:, -1]
    return written


def like_length(prompts: list[tuple[int, ...]]) -> list[list[int]]:
    """The places of prompts in parts of like length, which are read apart; one part where that would save less than half of it."""
    parts: list[list[int]] = []
    for place in sorted(range(len(prompts)), key=lambda place: len(prompts[place])):
        if not parts or len(prompts[place]) > 1.5 * len(prompts[parts[-1][0]]):
            parts.append([])
        parts[-1].append(place)
    area = sum(len(part) * len(prompts[part[-1]]) for part in parts)  # with the padding
    return parts if 2 * area <= len(prompts) * max(map(len, prompts)) else [list(range(len(prompts)))]


def read_in_parts(model, prompts: list[tuple[int, ...]]) -> Contexts | None:
    """All but the last token of each prompt, prompts of like length together; None where they are all of like length."""
    from transformers import DynamicCache

    parts = like_length(prompts)
    if len(parts) == 1 or min(map(len, prompts)) == 1 or not remembers_all(model):
        return None
    contexts = Contexts()
    for part in parts:
        cache, begun = DynamicCache(config=model.config), [prompts[place][:-1] for place in part]
        _, mask = read_prompts(model, begun, cache)
        contexts.keep(begun, cache, mask, torch.arange(len(part), device=mask.device))
    return contexts


def read_prompts(model, prompts: Sequence[Sequence[int]], cache=None) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits (B, V) after each prompt and the mask (B, L) of their padding; what was read goes into an empty `cache`."""
    ids, mask = padded(prompts, model.device)
    given = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0), "past_key_values": cache, "logits_to_keep": 1}
    return model(input_ids=ids, attention_mask=mask, **given).logits[:, -1], mask


@torch.no_grad()
def next_logits(model, prompts: list[list[int]]) -> torch.Tensor:
    """The logits (B, V) of the token after each prompt."""
    different, place = distinct(prompts, model.device)
    parts = like_length(different)
    found = [read_prompts(model, [different[one] for one in part])[0] for part in parts]
    back = torch.tensor([one for part in parts for one in part]).argsort().to(model.device)
    return torch.cat(found)[back[place]]


def distinct(prompts: list[list[int]], device) -> tuple[list[tuple[int, ...]], torch.Tensor]:
    """Each different prompt once, and each prompt's place (B,) among them."""
    rows: dict[tuple, int] = {}
    place = [rows.setdefault(tuple(prompt), len(rows)) for prompt in prompts]
    return list(rows), torch.tensor(place, device=device)


def padded(rows: Sequence[Sequence[int]], device) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of ids padded on the left: ids (B, L) and mask (B, L)."""
    longest = max(map(len, rows))
    ids = [[0] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _draw(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """One token a row (B,) of logits (B, V), by inverting the cumulative distribution; the largest at temperature 0."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    cumulative = torch.softmax(logits.float() / temperature, dim=-1).cumsum(dim=-1)
    point = torch.rand(len(logits), 1, device=logits.device) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, point, right=True)[:, 0].clamp(max=logits.shape[1] - 1)


def sample(
    model, tokenizer, rows: list[dict], k: int, *, temperature: float, max_tokens: int, batch: int, seed: int
) -> list[list[Completion]]:
    """`k` completions for each row, at `temperature` with top-p 1, in batches of `batch` sequences."""
    turn = transformers_turn(model, tokenizer, temperature, max_tokens, seed, has_tools(rows))
    prompts = [tokenizer(chat.row_prompt(tokenizer, row))["input_ids"] for row in rows]
    order = sorted((i for i in range(len(rows)) for _ in range(k)), key=lambda i: len(prompts[i]))
    completions: list[list[Completion]] = [[] for _ in rows]
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        for i, completion in zip(part, rollout(turn, tokenizer, [prompts[i] for i in part], [rows[i] for i in part], max_tokens)):
            completions[i].append(completion)
    return completions
