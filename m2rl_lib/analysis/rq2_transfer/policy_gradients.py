"""The gradient of the paper's GRPO loss, on policy, on each domain alone, for the gradient lens of RQ2 (notebook 09)."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn.utils.rnn import pad_sequence

from m2rl_lib import domains, sandbox
from m2rl_lib.analysis.rq2_transfer.gradient_cosines import Lens, cosine_table, domain_table
from m2rl_lib.config import locations
from m2rl_lib.config.model_names import parse_model_name
from m2rl_lib.config.study import Parameters
from m2rl_lib.data import problem_sets
from m2rl_lib.domains import chat
from m2rl_lib.rollout import decoding
from m2rl_lib.rollout.decoding import Completion
from m2rl_lib.storage import artifacts

FOLDS = 8  # of a domain's prompts
BATCH = 32  # completions in one backward pass, at most
LOGITS = 2**27  # numbers of one backward pass's logits, at most: half a gigabyte, of which there are several copies
SKETCH = 2**24  # numbers that are kept of a longer gradient


def advantages(rewards: np.ndarray) -> np.ndarray:
    """(r − mean) / (std + 1e-4) in each row of (prompts, completions), std unbiased; 0 where ungraded: 1, 0, 0, 1 → ±0.866."""
    graded = ~np.isnan(rewards)
    count = graded.sum(axis=1, keepdims=True)
    mean = np.nansum(rewards, axis=1, keepdims=True) / np.maximum(count, 1)
    off = np.where(graded, rewards - mean, 0.0)
    return off / (np.sqrt((off**2).sum(axis=1, keepdims=True) / np.maximum(count - 1, 1)) + 1e-4)


def policy_gradient(
    model: torch.nn.Module, prompts: list[list[int]], completions: list[Completion], advantage: np.ndarray
) -> torch.Tensor:
    """Σ over completions of advantage × mean over the loss mask of ∇ log π, as one flat vector; one prompt a completion."""
    useful = [i for i in np.argsort([len(c.ids) for c in completions]) if advantage[i] != 0 and sum(completions[i].own)]
    model.zero_grad(set_to_none=True)
    device = next(model.parameters()).device
    longest = max((len(prompts[i]) + len(completions[i].ids) for i in useful), default=1)
    batch = max(1, min(BATCH, LOGITS // (longest * model.config.vocab_size)))
    for start in range(0, len(useful), batch):
        some = [(prompts[i], completions[i], advantage[i]) for i in useful[start : start + batch]]
        ids = [torch.tensor(prompt + c.ids) for prompt, c, _ in some]
        weights = [torch.cat([torch.zeros(len(prompt)), a * torch.tensor(c.own) / sum(c.own)]) for prompt, c, a in some]
        columns = ids, [torch.ones_like(one) for one in ids], weights
        tokens, mask, weight = (pad_sequence(rows, batch_first=True).to(device) for rows in columns)
        logits = model(input_ids=tokens, attention_mask=mask).logits[:, :-1].float()
        written = torch.log_softmax(logits, dim=-1).gather(-1, tokens[:, 1:, None])[..., 0]
        (written * weight[:, 1:]).sum().backward()
    parts = [torch.zeros_like(one) if one.grad is None else one.grad for one in model.parameters()]
    flat = torch.cat([part.detach().flatten().float() for part in parts])
    model.zero_grad(set_to_none=True)
    return flat


def sketch(vector: torch.Tensor, size: int = SKETCH) -> torch.Tensor:
    """A vector of at most `size` numbers as it is; of a longer one the sum of its pieces, each number with a sign drawn at random,
    always the same. Scalar products of such sums are unbiased, with an error of about the norms' product over √size."""
    if len(vector) <= size:
        return vector
    generator, total = torch.Generator().manual_seed(0), torch.zeros(size, device=vector.device)
    for piece in vector.split(size):
        signs = torch.randint(2, (len(piece),), generator=generator, dtype=torch.int8).to(vector.device) * 2 - 1
        total[: len(piece)] += piece * signs
    return total


def fold_gradients(
    model: torch.nn.Module, prompts: list[list[int]], groups: list[list[Completion]], rewards: np.ndarray
) -> tuple[list[torch.Tensor], pd.DataFrame]:
    """The mean gradient of each fold of the prompts, and what it was made of; `rewards` (prompts, completions), NaN: ungraded."""
    vectors, parts, advantage = [], [], advantages(rewards)
    for fold, some in enumerate(np.array_split(np.arange(len(prompts)), min(FOLDS, len(prompts)))):
        written = [completion for i in some for completion in groups[i]]
        asked = [prompts[i] for i in some for _ in groups[i]]
        vectors.append(sketch(policy_gradient(model, asked, written, advantage[some].ravel())) / len(written))
        informative = (advantage[some] != 0).any(axis=1).mean()
        parts.append((fold, len(some), len(written), np.nanmean(rewards[some]), informative))
    return vectors, pd.DataFrame(parts, columns=["fold", "prompts", "completions", "reward", "informative"])


def lens_of(vectors: list[torch.Tensor], parts: list[pd.DataFrame]) -> Lens:
    """The lens of the folds' gradients of several domains; `parts` has one frame per domain, with its name."""
    matrix = torch.stack(vectors)
    return Lens(pd.concat(parts, ignore_index=True), (matrix @ matrix.T).double().cpu().numpy())


def look(p: Parameters, folder: Path, names: list[str]) -> Lens:
    """The lens at one published model, on `analysis_gradient_prompts` training prompts of each domain, always the same."""
    sandbox.configure(p.sandbox_kind)
    sandbox.check()
    model, tokenizer = decoding.load_model(artifacts.verify_model(folder), p.evaluate_dtype)
    vectors, parts, k = [], [], p.rlvr_completions
    for name in names:
        world = {"sources": p.data_sources, "limit": problem_sets.PromptLimit(tokenizer, p.rlvr_prompt_tokens)}
        count, seed = p.analysis_gradient_prompts, 2 * 10**6 + p.seed
        rows = problem_sets.train_problems(name, count, seed, problem_sets.world_of(p), **world)
        how = {"temperature": 1.0, "max_tokens": p.rlvr_max_tokens, "batch": p.evaluate_batch, "seed": p.seed}
        groups = decoding.sample(model, tokenizer, rows, k, **how)
        graded = domains.verify([c.text for group in groups for c in group], [row for row in rows for _ in range(k)])
        prompts = [tokenizer(chat.row_prompt(tokenizer, row))["input_ids"] for row in rows]
        found, part = fold_gradients(model, prompts, groups, np.array(graded, dtype=float).reshape(len(rows), k))
        vectors += found
        parts.append(part.assign(domain=name))
    return lens_of(vectors, parts)


def along_run(p: Parameters, models: list[str], names: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`cosine_table` (with `n` prompts a domain and `step`) and `domain_table` of each published model, with a column `model`."""
    pairs, singles = [], []
    for model in models:
        started = time.monotonic()
        lens = look(p, locations.model_folder(p.study, p.seed, model), names)
        step = int(parse_model_name(model)[1].get("step", 0))
        pairs.append(cosine_table(lens).assign(model=model, n=p.analysis_gradient_prompts, step=step))
        singles.append(domain_table(lens).assign(model=model))
        counted = int(lens.parts["completions"].sum())
        print(f"gradients: {model}, {counted} completions in {time.monotonic() - started:.0f} s", flush=True)
    return pd.concat(pairs, ignore_index=True), pd.concat(singles, ignore_index=True)
