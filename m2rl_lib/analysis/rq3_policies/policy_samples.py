"""The KL from one policy to another along completions sampled from the first, at temperature 1 (measured in notebook 09).

Each sampled prefix contributes the KL over the whole vocabulary, which has the mean of the paper's log π_P(y) − log π_Q(y) and
far less noise. Tokens that tools wrote are context, never counted; a truncated completion contributes what it had.
"""

import time
import zlib
from dataclasses import dataclass

import pandas as pd
import torch

from m2rl_lib.analysis.rq3_policies.policy_kl import COLUMNS, ingredients
from m2rl_lib.config import locations
from m2rl_lib.config.study import Parameters
from m2rl_lib.data import problem_sets
from m2rl_lib.domains import chat
from m2rl_lib.rollout import decoding
from m2rl_lib.storage import artifacts

TOKENS = 4096  # of one forward pass, padding counted: more were slower on a CPU
RESIDENT = 32e9  # bytes of target models in memory at a time, beside one source
OTHERS = 3  # of an expert's completions on other domains than its own there are this many times fewer


@dataclass
class Trajectory:
    """A prompt and one completion of it. `loss_mask` is 1 on the tokens that the policy chose, 0 on the prompt and tool results."""

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
    trajectories = []
    for row, completions in zip(rows, sampled, strict=True):
        prompt = tokenizer(chat.row_prompt(tokenizer, row))["input_ids"]
        trajectories += [
            Trajectory(row["problem_id"], sample, prompt + c.ids, [0] * len(prompt) + c.own, c.truncated)
            for sample, c in enumerate(completions)
        ]
    return trajectories


@torch.inference_mode()
def sequence_kl(source, targets: dict[str, object], trajectories: list[Trajectory], tokens: int = TOKENS) -> pd.DataFrame:
    """KL(source ‖ target) in nats along trajectories sampled from `source`: one row for each target and trajectory.

    kl sums over the loss mask the KL between the next-token distributions: source (½, ½) and target (¼, ¾) at three tokens give
    3 × (½ ln 2 + ½ ln ⅔) = 0.43.
    """
    if not trajectories or not targets:
        raise ValueError(f"{len(trajectories)} trajectories and {len(targets)} targets: at least one of each is needed")
    device = next((parameter.device for parameter in source.parameters()), torch.device("cpu"))
    rows = []
    for part in _batches(trajectories, tokens):
        ids, attention, mask = _padded(part, device)
        which = mask.nonzero()[:, 0]  # the trajectory of each token in the loss mask
        p_log = _log_probabilities("the source", source, ids, attention, mask)
        for name, target in targets.items():
            q_log = _log_probabilities(name, target, ids, attention, mask)
            if q_log.shape != p_log.shape:
                raise ValueError(
                    f"{name} has a vocabulary of {q_log.shape[-1]}, the source {p_log.shape[-1]}: no KL between them"
                )
            token_kl = (p_log.exp() * (p_log - q_log)).sum(-1).double()
            kl = torch.zeros(len(part), dtype=torch.double, device=device).index_add_(0, which, token_kl).tolist()
            rows += [
                (name, one.problem_id, one.sample, value, sum(one.loss_mask), one.truncated)
                for one, value in zip(part, kl, strict=True)
            ]
    return pd.DataFrame(rows, columns=COLUMNS[2:])


def _batches(trajectories: list[Trajectory], tokens: int) -> list[list[Trajectory]]:
    """The trajectories by length, in batches of at most `tokens` padded tokens, or of one trajectory."""
    batches: list[list[Trajectory]] = []
    for one in sorted(trajectories, key=lambda trajectory: len(trajectory.ids)):
        if not batches or (len(batches[-1]) + 1) * len(one.ids) > tokens:
            batches.append([])
        batches[-1].append(one)
    return batches


def _padded(part: list[Trajectory], device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids padded on the right, the attention mask that hides the padding, and the loss mask, each (N, L)."""
    length = max(len(trajectory.ids) for trajectory in part)
    ids, attention, mask = (torch.zeros(len(part), length, dtype=torch.long) for _ in range(3))
    for place, trajectory in enumerate(part):
        count = len(trajectory.ids)
        ids[place, :count], attention[place, :count] = torch.tensor(trajectory.ids), 1
        mask[place, :count] = torch.tensor(trajectory.loss_mask)
    if mask[:, 0].any():
        raise ValueError("a trajectory begins with a token of the policy's own: it needs a prompt of at least one token")
    return ids.to(device), attention.to(device), mask.bool().to(device)


def _log_probabilities(name: str, model, ids: torch.Tensor, attention: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(tokens, V): the log-probabilities of the model before each token of the loss mask."""
    logits = model(ids, attention_mask=attention).logits[:, :-1][mask[:, 1:]].float()
    if not torch.isfinite(logits).all():
        raise ValueError(f"{name} gives logits that are NaN or infinite: its weights are damaged")
    return logits.log_softmax(-1)


# --- of a study -----------------------------------------------------------------------------------------


def kl_rows(p: Parameters, sources: list[str], targets: dict[str, list[str]]) -> pd.DataFrame:
    """The KL of each source to each target on test prompts of the domains that `targets` names: `COLUMNS`, one row a sample.

    The domain's own expert answers the first `analysis_kl_problems` prompts of its first test benchmark, other sources a third of
    them, the same for all targets. With a variant are compared only that expert and those that it is made of.
    """
    started = time.monotonic()
    drawn = {source: _draw(p, source) for source in sources}
    frames = []
    for group in _groups(p, list(targets)):
        models = {name: _load(p, name)[0] for name in group}
        for source in sources:
            model = models.get(source) or _load(p, source)[0]
            for domain, trajectories in drawn[source].items():
                some = {name: models[name] for name in group if domain in targets[name] and _wanted(p, source, domain, name)}
                if some:
                    frames.append(sequence_kl(model, some, trajectories).assign(domain=domain, source=source))
    print(f"policies: KL of {len(sources)} models to {len(targets)} in {time.monotonic() - started:.0f} s", flush=True)
    return pd.concat(frames, ignore_index=True)[COLUMNS]


def _wanted(p: Parameters, source: str, domain: str, target: str) -> bool:
    made_of = [f"rl-{name}" for name in ingredients(target, p.domains)]
    return source == f"rl-{domain}" or "@" not in target or source in made_of


def _groups(p: Parameters, names: list[str]) -> list[list[str]]:
    """The models in groups of at most `RESIDENT` bytes, or of one model."""
    groups: list[list[str]] = []
    used = 0
    for name in names:
        size = sum(file.stat().st_size for file in locations.model_folder(p.study, p.seed, name).glob("*.safetensors"))
        if not groups or used + size > RESIDENT:
            groups.append([])
            used = 0
        groups[-1].append(name)
        used += size
    return groups


def _load(p: Parameters, name: str) -> tuple:
    """A published model and its tokenizer."""
    return decoding.load_model(artifacts.verify_model(locations.model_folder(p.study, p.seed, name)))


def _draw(p: Parameters, source: str) -> dict[str, list[Trajectory]]:
    """The source's trajectories on each domain."""
    (model, tokenizer), drawn = _load(p, source), {}
    for domain in p.domains:
        count = p.analysis_kl_problems if source == f"rl-{domain}" else max(2, p.analysis_kl_problems // OTHERS)
        benchmark = problem_sets.benchmarks(domain, p.data_sources)[0]
        world = (p.data_shared_arithmetic, p.data_sources)
        rows = problem_sets.benchmark_problems(benchmark, "test", p.analysis_kl_problems, *world)[:count]
        how = {"max_tokens": p.evaluate_max_tokens, "batch": p.evaluate_batch}
        seed = zlib.crc32(f"{p.seed} kl {source} {domain}".encode()) % 2**31
        drawn[domain] = sample_trajectories(model, tokenizer, rows, p.analysis_kl_samples, **how, seed=seed)
    return drawn
