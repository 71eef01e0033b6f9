"""The gradient lens of RQ2: do the domains' policy gradients point the same way, at SFT and along the mixed run?

A domain's gradient is that of the paper's GRPO loss where it is on policy (ratio 1, so nothing is clipped): completions
sampled from the model itself, advantages (r − mean) / (std + 1e-4) within a prompt's group, the mean over each sequence's own
tokens. A gradient from few prompts is mostly noise, and the cosine of two noisy ones is near 0 whatever their directions:
it is divided by √(r₁r₂), r the cosine of one half of a domain's prompts with the other, and refused where r < 0.3 (our rule,
not the paper's). A domain's prompts are cut into folds, and only the inner products of the folds' gradients are kept:
halves averaged over all ways to cut them, and jackknife intervals, follow from these.
"""

import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats

from m2rl_lib import domains, sandbox
from m2rl_lib.config import locations
from m2rl_lib.config.study import Parameters
from m2rl_lib.data import problem_sets
from m2rl_lib.domains import chat
from m2rl_lib.rollout import decoding
from m2rl_lib.rollout.decoding import Completion
from m2rl_lib.stats.comparisons import display_name
from m2rl_lib.storage import artifacts

LEAST = 0.3  # of a domain's cosine with itself, below which its cosines are refused
FOLDS = 8  # of a domain's prompts
BATCH = 32  # completions in one backward pass


@dataclass
class Lens:
    """What one checkpoint showed: `parts` has a row a domain and fold, `products` their gradients' inner products."""

    parts: pd.DataFrame
    products: np.ndarray


def advantages(rewards: np.ndarray) -> np.ndarray:
    """(r − mean) / (std + 1e-4) within each row of (prompts, completions), std unbiased; 0 where ungraded (NaN).

    [1, 0, 0, 1] → ±0.866; a group of equal rewards → 0, so that it teaches nothing.
    """
    graded = ~np.isnan(rewards)
    count = graded.sum(axis=1, keepdims=True)
    mean = np.nansum(rewards, axis=1, keepdims=True) / np.maximum(count, 1)
    off = np.where(graded, rewards - mean, 0.0)
    return off / (np.sqrt((off**2).sum(axis=1, keepdims=True) / np.maximum(count - 1, 1)) + 1e-4)


def policy_gradient(
    model: torch.nn.Module, prompts: list[list[int]], completions: list[Completion], advantage: np.ndarray
) -> torch.Tensor:
    """Σ over completions of advantage × mean over its own tokens of ∇ log π: one flat vector, the way up.

    `prompts` are token ids, one a completion; tokens that the model did not write (tool results) count nothing. Divided by
    the number of completions it is minus the gradient of the paper's loss. The model needs `.logits` and no dropout.
    """
    useful = [i for i in np.argsort([len(c.ids) for c in completions]) if advantage[i] != 0 and sum(completions[i].own)]
    model.zero_grad(set_to_none=True)
    device = next(model.parameters()).device
    for start in range(0, len(useful), BATCH):
        some = useful[start : start + BATCH]
        ids = [torch.tensor(prompts[i] + completions[i].ids) for i in some]
        weights = [
            torch.cat([torch.zeros(len(prompts[i])), advantage[i] * torch.tensor(c.own) / sum(c.own)])
            for i, c in ((i, completions[i]) for i in some)
        ]
        tokens = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True).to(device)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(one) for one in ids], batch_first=True).to(device)
        weight = torch.nn.utils.rnn.pad_sequence(weights, batch_first=True).to(device)
        logits = model(input_ids=tokens, attention_mask=mask).logits[:, :-1].float()
        written = torch.log_softmax(logits, dim=-1).gather(-1, tokens[:, 1:, None])[..., 0]
        (written * weight[:, 1:]).sum().backward()
    parts = [torch.zeros_like(one) if one.grad is None else one.grad for one in model.parameters()]
    flat = torch.cat([part.detach().flatten().float() for part in parts])
    model.zero_grad(set_to_none=True)
    return flat


def fold_gradients(
    model: torch.nn.Module, prompts: list[list[int]], groups: list[list[Completion]], rewards: np.ndarray
) -> tuple[list[torch.Tensor], pd.DataFrame]:
    """The gradient of each fold of the prompts (the mean over its completions), and what each fold was made of.

    `prompts` are token ids, `groups` the completions of each and `rewards` (prompts, completions) their rewards, NaN where ungraded.
    Columns: fold, prompts, completions, reward (mean), informative (share of groups with unequal rewards).
    """
    vectors, parts, advantage = [], [], advantages(rewards)
    for fold, some in enumerate(np.array_split(np.arange(len(prompts)), min(FOLDS, len(prompts)))):
        written = [completion for i in some for completion in groups[i]]
        asked = [prompts[i] for i in some for _ in groups[i]]
        vectors.append(policy_gradient(model, asked, written, advantage[some].ravel()) / len(written))
        telling = (advantage[some] != 0).any(axis=1).mean()
        parts.append((fold, len(some), len(written), np.nanmean(rewards[some]), telling))
    return vectors, pd.DataFrame(parts, columns=["fold", "prompts", "completions", "reward", "informative"])


def lens_of(vectors: list[torch.Tensor], parts: list[pd.DataFrame]) -> Lens:
    """The lens of the folds' gradients of several domains: `parts`, one frame a domain with its name, in their order."""
    matrix = torch.stack(vectors)
    return Lens(pd.concat(parts, ignore_index=True), (matrix @ matrix.T).double().cpu().numpy())


def look(p: Parameters, folder: Path, names: list[str]) -> Lens:
    """The lens at one published model, on `analysis_gradient_prompts` training prompts of each domain named.

    The prompts are a draw of their own from the training split, the same at every checkpoint; `rlvr_completions` each.
    """
    sandbox.configure(p.sandbox_kind)
    sandbox.check()
    model, tokenizer = decoding.load_model(artifacts.verify_model(folder))
    vectors, parts, k = [], [], p.rlvr_completions
    for name in names:
        world = {"sources": p.data_sources, "limit": problem_sets.PromptLimit(tokenizer, p.rlvr_prompt_tokens)}
        count, seed = p.analysis_gradient_prompts, 2 * 10**6 + p.seed
        rows = problem_sets.train_problems(name, count, seed, p.data_shared_arithmetic, **world)
        how = {"temperature": 1.0, "max_tokens": p.rlvr_max_tokens, "batch": p.evaluate_batch, "seed": p.seed}
        groups = decoding.sample(model, tokenizer, rows, k, **how)
        graded = domains.verify([c.text for group in groups for c in group], [row for row in rows for _ in range(k)])
        prompts = [tokenizer(chat.row_prompt(tokenizer, row))["input_ids"] for row in rows]
        found, part = fold_gradients(model, prompts, groups, np.array(graded, dtype=float).reshape(len(rows), k))
        vectors += found
        parts.append(part.assign(domain=name))
    return lens_of(vectors, parts)


def signal(lens: Lens, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Products (D, D) of the domains' gradients without their noise, and the noise (D,) of one fold, from the folds `kept`.

    Two folds of a domain share its gradient and not its noise, so their mean product is the gradient's squared norm, and
    what a fold's own squared norm has beyond it is noise: products 3, 1 / 1, 5 have signal 1 and noise 3.
    """
    names = pd.unique(lens.parts["domain"])
    places = [np.flatnonzero((lens.parts["domain"] == name).to_numpy() & kept) for name in names]
    products = np.array([[lens.products[np.ix_(one, other)].mean() for other in places] for one in places])
    square = np.array([lens.products[one, one].mean() for one in places])
    count = np.array([len(one) for one in places])
    with np.errstate(invalid="ignore", divide="ignore"):
        own = (count * products.diagonal() - square) / (count - 1)
    products[np.diag_indices(len(names))] = own
    return products, square - own


def _corrected(lens: Lens, kept: np.ndarray) -> np.ndarray:
    """Cosines (D, D) with the noise out of the norms: those of halves divided by √(r₁r₂). NaN where no signal is left."""
    products, _ = signal(lens, kept)
    norm = np.sqrt(np.where(products.diagonal() > 0, products.diagonal(), np.nan))
    return products / norm[:, None] / norm


def domain_table(lens: Lens) -> pd.DataFrame:
    """One row a domain: prompts, completions, reward (mean), informative (share of groups with unequal rewards), norm (of the
    loss's gradient on all the prompts, noise included), itself (r: the cosine of halves, over all ways to halve the folds)."""
    products, noise = signal(lens, np.ones(len(lens.parts), dtype=bool))
    grouped = lens.parts.groupby("domain", sort=False)
    table = grouped.agg({"prompts": "sum", "completions": "sum", "reward": "mean", "informative": "mean"}).reset_index()
    norm = np.sqrt(products.diagonal() + noise / grouped.size().to_numpy())
    return table.assign(norm=norm, itself=products.diagonal() / _halves(lens))


def _halves(lens: Lens) -> np.ndarray:
    """Squared norm (D,) of the gradient of half a domain's folds, its noise included; NaN where all rewards are equal."""
    products, noise = signal(lens, np.ones(len(lens.parts), dtype=bool))
    square = products.diagonal() + noise / (lens.parts.groupby("domain", sort=False).size().to_numpy() / 2)
    return np.where(square > 0, square, np.nan)


def cosine_table(lens: Lens) -> pd.DataFrame:
    """Cosines of all pairs of domains: domain, other, plain (of halves), cosine (that by √(r₁r₂)), low, high (95%), reason.

    NaN and a reason where a domain's cosine with itself, r, is under 0.3. r = 0.5 and 0.8, plain 0.3: cosine 0.47; noise can
    take it beyond 1. Intervals: jackknife over the folds of both domains, t with folds − 2 degrees of freedom.
    """
    names, every = list(pd.unique(lens.parts["domain"])), np.ones(len(lens.parts), dtype=bool)
    (products, _), cosine, halves = signal(lens, every), _corrected(lens, every), _halves(lens)
    itself, variance, folds = products.diagonal() / halves, np.zeros_like(cosine), {}
    for name, rows in lens.parts.groupby("domain", sort=False):
        folds[name] = len(rows)
        without = np.array([_corrected(lens, lens.parts.index != i) for i in rows.index])
        variance += (len(rows) - 1) / len(rows) * ((without - without.mean(axis=0)) ** 2).sum(axis=0)
    found = []
    for i, j in itertools.combinations(range(len(names)), 2):
        free = folds[names[i]] + folds[names[j]] - 2
        half = stats.t.ppf(0.975, free) * np.sqrt(variance[i, j])
        plain, values = products[i, j] / np.sqrt(halves[i] * halves[j]), (cosine[i, j] + side * half for side in (0, -1, 1))
        noisy = [f"{names[d]} {itself[d]:.2f}" for d in (i, j) if not itself[d] >= LEAST]
        reason = f"cosine with itself under {LEAST}: {', '.join(noisy)}".replace("nan", "undefined") if noisy else ""
        found.append((names[i], names[j], plain, *((np.nan,) * 3 if noisy else values), reason))
    return pd.DataFrame(found, columns=["domain", "other", "plain", "cosine", "low", "high", "reason"])


def along_run(p: Parameters, models: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`cosine_table` and `domain_table` of each published model, in order, with its name in column `model`."""
    pairs, singles = [], []
    for model in models:
        started = time.monotonic()
        lens = look(p, locations.model_folder(p.study, p.seed, model), p.domains)
        pairs.append(cosine_table(lens).assign(model=model))
        singles.append(domain_table(lens).assign(model=model))
        counted = int(lens.parts["completions"].sum())
        print(f"gradients: {model}, {counted} completions in {time.monotonic() - started:.0f} s", flush=True)
    return pd.concat(pairs, ignore_index=True), pd.concat(singles, ignore_index=True)


def sentence(table: pd.DataFrame) -> str:
    """What `cosine_table` says of one model (column `model`): pairs whose interval excludes 0, and how many were refused."""
    model, known = table["model"].iloc[0], table[table["cosine"].notna()]
    sides = {"above": known[known["low"] > 0], "below": known[known["high"] < 0]}
    told = [
        f"{side} 0: "
        + ", ".join(f"{r.domain} with {r.other} {r.cosine:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in rows.itertuples())
        for side, rows in sides.items()
        if len(rows)
    ]
    counts = f"{len(known)} of {len(table)} cosines can be told from noise"
    return f"{display_name(model)}: {counts}; {'; '.join(told) or 'none has an interval that excludes 0'}."
