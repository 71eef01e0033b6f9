"""The KL from one policy to another along completions sampled from the first, at temperature 1 (measured in notebook 09). Each
sampled prefix contributes the KL over the whole vocabulary: the mean of the paper's log π_P(y) − log π_Q(y), with far less noise.
Tokens that tools wrote are context, never counted."""

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import psutil
import torch
from torch.nn.utils.rnn import pad_sequence

from m2rl_lib.analysis.rq3_policies.policy_kl import COLUMNS, ingredients
from m2rl_lib.config import locations, model_names, schedule
from m2rl_lib.config.study import Parameters
from m2rl_lib.data import problem_sets
from m2rl_lib.domains import chat
from m2rl_lib.rollout import decoding
from m2rl_lib.storage import artifacts

TOKENS = 4096  # of one forward pass, padding counted: more were slower on a CPU
RESIDENT = 32e9  # bytes of target models in memory at a time, beside one source; at most a fifth of what is free
OTHERS = 3  # of an expert's completions on other domains than its own there are this many times fewer


@dataclass
class Trajectory:
    """A prompt and one completion; `loss_mask` is 1 on the tokens that the policy chose, 0 on the prompt and tool results."""

    problem_id: str
    sample: int
    ids: list[int]
    loss_mask: list[int]
    truncated: bool


def sample_trajectories(
    model, tokenizer, rows: list[dict], k: int, *, max_tokens: int, batch: int, seed: int
) -> list[Trajectory]:
    """`k` completions of each row from the policy itself (temperature 1, top-p 1), each with its prompt."""
    sampled = decoding.sample(model, tokenizer, rows, k, temperature=1.0, max_tokens=max_tokens, batch=batch, seed=seed)
    prompts = [tokenizer(chat.row_prompt(tokenizer, row))["input_ids"] for row in rows]
    return [
        Trajectory(row["problem_id"], sample, prompt + c.ids, [0] * len(prompt) + c.own, c.truncated)
        for row, prompt, completions in zip(rows, prompts, sampled, strict=True)
        for sample, c in enumerate(completions)
    ]


@torch.inference_mode()
def sequence_kl(source, targets: dict[str, object], trajectories: list[Trajectory], tokens: int = TOKENS) -> pd.DataFrame:
    """KL(source ‖ target) in nats along trajectories sampled from `source`, summed over the loss mask."""
    if not trajectories or not targets:
        raise ValueError(f"{len(trajectories)} trajectories and {len(targets)} targets: at least one of each is needed")
    device = next((parameter.device for parameter in source.parameters()), torch.device("cpu"))
    rows = []
    for part in by_length(trajectories, lambda one: len(one.ids), tokens):
        ids, attention, mask = _padded(part, device)
        which = mask.nonzero()[:, 0]  # the trajectory of each token in the loss mask
        p_log = _log_probabilities("the source", source, ids, attention, mask)
        for name, target in targets.items():
            q_log = _log_probabilities(name, target, ids, attention, mask)
            if q_log.shape != p_log.shape:
                sizes = f"{q_log.shape[-1]}, the source {p_log.shape[-1]}"
                raise ValueError(f"{name} has a vocabulary of {sizes}: no KL between them")
            token_kl = (p_log.exp() * (p_log - q_log)).sum(-1).double()
            kl = torch.zeros(len(part), dtype=torch.double, device=device).index_add_(0, which, token_kl).tolist()
            for one, value in zip(part, kl, strict=True):
                rows.append((name, one.problem_id, one.sample, value, sum(one.loss_mask), one.truncated))
    return pd.DataFrame(rows, columns=COLUMNS[2:])


def by_length(items: list, length: Callable, tokens: int) -> list[list]:
    """The items by length, in batches of at most `tokens` tokens with padding, or of one item."""
    batches: list[list] = []
    for one in sorted(items, key=length):
        if not batches or (len(batches[-1]) + 1) * length(one) > tokens:
            batches.append([])
        batches[-1].append(one)
    return batches


def _padded(part: list[Trajectory], device) -> list[torch.Tensor]:
    """Token ids padded on the right, the attention mask that hides the padding, and the loss mask, each (N, L)."""
    columns = [one.ids for one in part], [[1] * len(one.ids) for one in part], [one.loss_mask for one in part]
    ids, attention, mask = (pad_sequence([torch.tensor(row) for row in rows], batch_first=True) for rows in columns)
    if mask[:, 0].any():
        raise ValueError("a trajectory begins with a token of the policy's own: it needs a prompt of at least one token")
    return [ids.to(device), attention.to(device), mask.bool().to(device)]


def _log_probabilities(name: str, model, ids: torch.Tensor, attention: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(tokens, V): the log-probabilities of the model before each token of the loss mask."""
    logits = model(ids, attention_mask=attention).logits[:, :-1][mask[:, 1:]].float()
    if not torch.isfinite(logits).all():
        raise ValueError(f"{name} gives logits that are NaN or infinite: its weights are damaged")
    return logits.log_softmax(-1)


def kl_rows(p: Parameters, sources: list[str], targets: dict[str, list[str]]) -> pd.DataFrame:
    """The KL of each source to each target on test prompts of the domains that `targets` names: `COLUMNS` and seed, one row per
    sample. A domain's own expert answers the first `analysis_kl_problems` of its first test benchmark, other sources a third of
    them. Targets with a variant are compared with that expert, and with those that they are made of."""
    started = time.monotonic()
    drawn = {source: _draw(p, source) for source in sources}
    frames = []
    for group in _groups(p, list(targets)):
        models = {name: _load(p, name)[0] for name in group}
        made_of = {name: [f"rl-{part}" for part in ingredients(name, p.domains)] for name in group}
        for source in sources:
            model = models.get(source) or _load(p, source)[0]
            for domain, trajectories in drawn[source].items():
                asked = [name for name in group if domain in targets[name]]
                if not _is_expert(source, domain):
                    asked = [name for name in asked if "@" not in name or source in made_of[name]]
                if asked:
                    found = sequence_kl(model, {name: models[name] for name in asked}, trajectories)
                    frames.append(found.assign(domain=domain, source=source))
    print(f"policies: KL of {len(sources)} models to {len(targets)} in {time.monotonic() - started:.0f} s", flush=True)
    return pd.concat(frames, ignore_index=True)[COLUMNS].assign(seed=p.seed)


def rows_by_budget(p: Parameters) -> pd.DataFrame:
    """`kl_rows` of the experts at each of the map's budgets to one another and to SFT, under the finished experts' names; budget."""
    frames = []
    for budget in p.map_budgets:
        names = {at: name for name, at in schedule.at_budget(p, budget).items() if name.removeprefix("rl-") in p.domains}
        rows = kl_rows(p, list(names), {name: p.domains for name in ["sft", *names]})
        frames.append(rows.replace({"source": names, "target": names}).assign(budget=budget))
    return pd.concat(frames, ignore_index=True)


def _is_expert(model: str, domain: str) -> bool:
    """Whether a model is the domain's expert, at any step."""
    return model_names.parse_model_name(model)[0] == f"rl-{domain}"


def _groups(p: Parameters, names: list[str]) -> list[list[str]]:
    """The models in groups of what may be in memory at a time, or of one model."""
    groups, used, most = [], 0, min(RESIDENT, psutil.virtual_memory().available / 5)
    for name in names:
        size = sum(file.stat().st_size for file in locations.model_folder(p.study, p.seed, name).glob("*.safetensors"))
        if not groups or used + size > most:
            groups, used = [*groups, []], 0
        groups[-1].append(name)
        used += size
    return groups


def _load(p: Parameters, name: str) -> tuple:
    return decoding.load_model(artifacts.verify_model(locations.model_folder(p.study, p.seed, name)))


def _draw(p: Parameters, source: str) -> dict[str, list[Trajectory]]:
    """The source's trajectories on each domain."""
    (model, tokenizer), drawn = _load(p, source), {}
    for domain in p.domains:
        count = p.analysis_kl_problems if _is_expert(source, domain) else max(2, p.analysis_kl_problems // OTHERS)
        rows = problem_sets.first_problems(p, domain, "test", p.analysis_kl_problems)[:count]
        how = {"max_tokens": p.evaluate_max_tokens, "batch": p.evaluate_batch}
        seed = zlib.crc32(f"{p.seed} kl {source} {domain}".encode()) % 2**31
        drawn[domain] = sample_trajectories(model, tokenizer, rows, p.analysis_kl_samples, **how, seed=seed)
    return drawn
