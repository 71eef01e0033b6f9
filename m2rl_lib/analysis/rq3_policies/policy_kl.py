"""Policies: how far one model's distribution over completions is from another's, on a domain's test prompts (RQ3).

The paper's KL cross table (section on policy distributions): D_A(P‖Q) is the mean over the prompts of domain A of
KL(P(·|prompt) ‖ Q(·|prompt)), the completions sampled from P. The paper averages log π_P(y) − log π_Q(y) over samples; here
each sampled prefix contributes the KL over the whole vocabulary instead, which has the same mean and far less noise. Tokens
that tools wrote are context, never counted. A completion cut off at the token limit contributes what it had: truncations are
counted, since they make D a lower bound. Standard errors are clustered by prompt. Temperature 1: the policy as it is.
"""

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy import stats

from m2rl_lib.config import locations, model_names
from m2rl_lib.config.study import Parameters
from m2rl_lib.data import problem_sets
from m2rl_lib.domains import chat
from m2rl_lib.rollout import decoding
from m2rl_lib.stats.bootstrap import require_columns
from m2rl_lib.storage import artifacts

COLUMNS = ["domain", "source", "target", "problem_id", "sample", "kl", "tokens", "truncated"]
TOKENS = 4096  # of one forward pass, padding counted: more were slower on a CPU
RESIDENT = 32e9  # bytes of target models in memory at a time, beside one source
OTHERS = 3  # of an expert's completions on other domains than its own there are this many times fewer


@dataclass
class Trajectory:
    """A prompt and one completion of it. `own` is 1 on the tokens that the policy chose, 0 on the prompt and tool results."""

    problem_id: str
    sample: int
    ids: list[int]
    own: list[int]
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
    """KL(source ‖ target) along each trajectory, in nats: one row a target and trajectory.

    `source` and the values of `targets` are called as Hugging Face models: (ids (N, L), attention_mask) → .logits (N, L, V).
    The trajectories were sampled from `source`. Columns target, problem_id, sample, kl (sum over own tokens of the KL between
    the next-token distributions before each), tokens (own tokens), truncated. Source (½, ½) and target (¼, ¾) at each of three
    own tokens: kl = 3 × (½ ln 2 + ½ ln ⅔) = 0.43. ValueError: another vocabulary, logits that are not finite, no trajectory.
    """
    if not trajectories or not targets:
        raise ValueError(f"{len(trajectories)} trajectories and {len(targets)} targets: at least one of each is needed")
    device = next((parameter.device for parameter in source.parameters()), torch.device("cpu"))
    rows = []
    for part in _batches(trajectories, tokens):
        ids, attention, own = _padded(part, device)
        which = own.nonzero()[:, 0]  # the trajectory of each own token
        p_log = _log_probabilities("the source", source, ids, attention, own)
        for name, target in targets.items():
            q_log = _log_probabilities(name, target, ids, attention, own)
            if q_log.shape != p_log.shape:
                raise ValueError(
                    f"{name} has a vocabulary of {q_log.shape[-1]}, the source {p_log.shape[-1]}: no KL between them"
                )
            token_kl = (p_log.exp() * (p_log - q_log)).sum(-1).double()
            kl = torch.zeros(len(part), dtype=torch.double, device=device).index_add_(0, which, token_kl).tolist()
            rows += [
                (name, one.problem_id, one.sample, value, sum(one.own), one.truncated)
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
    """Token ids, padded on the right, the mask that hides the padding, and where the own tokens are, each (N, L)."""
    length = max(len(trajectory.ids) for trajectory in part)
    ids, attention, own = (torch.zeros(len(part), length, dtype=torch.long) for _ in range(3))
    for place, trajectory in enumerate(part):
        count = len(trajectory.ids)
        ids[place, :count], attention[place, :count] = torch.tensor(trajectory.ids), 1
        own[place, :count] = torch.tensor(trajectory.own)
    if own[:, 0].any():
        raise ValueError("a trajectory begins with a token of the policy's own: it needs a prompt of at least one token")
    return ids.to(device), attention.to(device), own.bool().to(device)


def _log_probabilities(name: str, model, ids: torch.Tensor, attention: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """(own tokens, V): the log-probabilities of the model before each own token."""
    logits = model(ids, attention_mask=attention).logits[:, :-1][own[:, 1:]].float()
    if not torch.isfinite(logits).all():
        raise ValueError(f"{name} gives logits that are NaN or infinite: its weights are damaged")
    return logits.log_softmax(-1)


# --- of a study -----------------------------------------------------------------------------------------


def ingredients(model: str, names: list[str]) -> list[str]:
    """The domains whose experts or prompts a multi-domain model is made of; [] for other models.

    [] also for a merge of an expert with SFT or RL-Null, which is what a pair of experts is judged against, not one.

    >>> ingredients("merge-average@experts=math+coding", ["math", "coding", "agent"]), ingredients("rl-multi", ["math", "agent"])
    (['math', 'coding'], ['math', 'agent'])
    """
    base, variant = model_names.parse_model_name(model)
    if "experts" in variant:
        parts = variant["experts"].split("+")
        return parts if set(parts) <= set(names) else []
    return list(names) if base in ("rl-multi", "mt-opd") or base.startswith("merge-") else []


def kl_targets(models: Sequence[str], names: list[str]) -> dict[str, list[str]]:
    """Which of `models` are compared with the experts, and on which domains' prompts.

    SFT, the experts and rl-null on every domain, another seed of an expert on its own, and a multi-domain model on the
    domains it is made of. Left out: checkpoints and merges at an earlier step, since the experts compared are the final ones.
    """
    experts, plan = [f"rl-{name}" for name in names], {}
    first = ["sft", *experts, "rl-null"]
    for model in [name for name in first if name in models] + [name for name in models if name not in first]:
        base, variant = model_names.parse_model_name(model)
        if model in first:
            plan[model] = list(names)
        elif base in experts and set(variant) == {"repeat"}:
            plan[model] = [base.removeprefix("rl-")]
        elif "step" not in variant:
            plan[model] = ingredients(model, names)
    return {model: where for model, where in plan.items() if where}


def kl_rows(p: Parameters, sources: list[str], targets: dict[str, list[str]]) -> pd.DataFrame:
    """The KL of each source to each target on the test prompts of the domains that `targets` names: `COLUMNS`, a row a sample.

    The prompts are the first `analysis_kl_problems` of a domain's first test benchmark for the domain's own expert, a third of
    them for the other sources, with `analysis_kl_samples` completions; one set for all targets, so that the differences of two
    targets are paired. Everyone is compared with models that have no variant; with the others the domain's own expert and
    those that the target is made of.
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


# --- what the rows say ------------------------------------------------------------------------------------


def ratio_by_cluster(top: np.ndarray, bottom: np.ndarray, cluster: Sequence) -> tuple[float, float, int]:
    """Σ top / Σ bottom, its standard error clustered by `cluster`, and the number of clusters.

    The linearised (sandwich) error: √(G / (G − 1) · Σ_g (Σ_{i∈g} top_i − ratio · bottom_i)²) / Σ bottom; NaN for one cluster.
    Values 1, 1, 3, 3 in clusters a, a, b, b over 1s: 2, √(2 · (4 + 4)) / 4 = 1, 2; without clusters it would be 0.58.
    """
    sums = pd.DataFrame({"top": top, "bottom": bottom}).groupby(np.asarray(cluster)).sum()
    ratio, count = sums["top"].sum() / sums["bottom"].sum(), len(sums)
    if count == 1:
        return float(ratio), np.nan, 1
    residual = sums["top"] - ratio * sums["bottom"]
    return float(ratio), float(np.sqrt(count / (count - 1) * (residual**2).sum()) / sums["bottom"].sum()), count


def kl_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The KL cross table: one row a domain, source and target, from `kl_rows`.

    kl: nats a sequence, se its standard error clustered by prompt, low and high the 95% t interval; kl_token and se_token the
    same per own token (Σ kl / Σ tokens); prompts, completions, tokens, truncated (completions cut off at the limit).
    """
    require_columns(rows, COLUMNS, "KL rows")
    out = []
    for (domain, source, target), cell in rows.groupby(["domain", "source", "target"], sort=False):
        kl, se, prompts = ratio_by_cluster(cell["kl"], np.ones(len(cell)), cell["problem_id"])
        kl_token, se_token, _ = ratio_by_cluster(cell["kl"], cell["tokens"], cell["problem_id"])
        half = se * stats.t.ppf(0.975, prompts - 1) if prompts > 1 else np.nan
        out.append(
            {
                "domain": domain,
                "source": source,
                "target": target,
                "kl": kl,
                "se": se,
                "low": kl - half,
                "high": kl + half,
                "kl_token": kl_token,
                "se_token": se_token,
                "prompts": prompts,
                "completions": len(cell),
                "tokens": int(cell["tokens"].sum()),
                "truncated": int(cell["truncated"].sum()),
            }
        )
    return pd.DataFrame(out)
