"""Straight paths in weight space between models, and the barrier on them (linear mode connectivity; Frankle et al. 2020,
arXiv 1912.05671): from SFT to each expert, between experts, and from each expert to RL-Multi.

The loss at a point is the mean negative log-likelihood, in nats a token, of right solutions of selection problems of each
domain: it needs no sampling, so a barrier is no noise of sampling. Averaging models is safe where the path between them
has no barrier.
"""

import random
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch

from m2rl_lib import artifacts, datasets, domains, study

SHARES = (0.25, 0.5, 0.75)  # of the way, between the ends


def ends(names: list[str]) -> list[tuple[str, str]]:
    """(start, end) of every path among SFT, the experts of the domains `names`, and RL-Multi."""
    experts = [f"rl-{name}" for name in names]
    return [*(("sft", e) for e in experts), *combinations(experts, 2), *((e, "rl-multi") for e in experts)]


def run(p: SimpleNamespace) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The loss along every path and the barriers, also written as the tables `paths` and `barriers`."""
    from transformers import AutoTokenizer

    pairs = ends(p.domains)
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    folders = {name: study.model_folder(p.study, p.seed, name) for name in names}
    made_by = artifacts.record(p, [artifacts.verify_model(folder) for folder in folders.values()])
    model = _load(folders["sft"])
    weights = {name: _weights(folder) for name, folder in folders.items()}
    batches = solutions(AutoTokenizer.from_pretrained(folders["sft"]), p)
    at_end = {name: losses(model, weights[name], batches) for name in names}
    rows = []
    for start, end in pairs:
        for share in (0.0, *SHARES, 1.0):
            if share in (0, 1):
                found = at_end[end if share else start]
            else:
                found = losses(model, between(weights[start], weights[end], share), batches)
            rows += [{"start": start, "end": end, "share": share, "domain": d, "loss": loss} for d, loss in found.items()]
    frame = pd.DataFrame(rows).assign(seed=p.seed, n=p.rlvr_selection_problems)
    height = barriers(frame)
    artifacts.write_table(p, "paths", "rq4", frame, made_by)
    artifacts.write_table(p, "barriers", "rq4", height, made_by)
    return frame, height


def barriers(paths: pd.DataFrame) -> pd.DataFrame:
    """How far the loss rises above the straight line between a path's ends: start, end, domain, barrier (nats a token).

    Domain 'overall' is the mean over domains. Losses 0, 1, 0 along a path have the barrier 1; 2, 1, 0 the barrier 0.
    """
    overall = paths.groupby(["start", "end", "share"], sort=False, as_index=False)["loss"].mean().assign(domain="overall")
    rows = []
    for (start, end, domain), path in pd.concat([paths, overall]).groupby(["start", "end", "domain"], sort=False):
        path = path.sort_values("share")
        first, last = path["loss"].iloc[[0, -1]]
        above = path["loss"] - (first + path["share"] * (last - first))
        rows.append({"start": start, "end": end, "domain": domain, "barrier": float(above.max())})
    return pd.DataFrame(rows)


def between(start: dict[str, torch.Tensor], end: dict[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """The weights `share` of the way from `start` to `end`."""
    return {name: torch.lerp(tensor, end[name], share) for name, tensor in start.items()}


def solutions(tokenizer, p: SimpleNamespace) -> dict[str, dict[str, torch.Tensor]]:
    """One padded batch of right solutions a domain: `input_ids` and `labels` (n, L), -100 where nothing is predicted."""
    rng = random.Random(p.seed)
    batches = {}
    for name in p.domains:
        module = domains.ALL[name]
        first = next(iter(module.BENCHMARKS))
        rows = datasets.benchmark_problems(first, "selection", p.rlvr_selection_problems, p.data_shared_arithmetic)
        solved = [
            datasets.tokenise(
                tokenizer,
                datasets.example_of("demonstration", row, row["responses_create_params"]["input"], module.demonstrate(row, rng)),
            )
            for row in rows
        ]
        longest = max(len(one["input_ids"]) for one in solved)
        batches[name] = {
            key: torch.tensor([one[key] + [fill] * (longest - len(one[key])) for one in solved])
            for key, fill in (("input_ids", tokenizer.pad_token_id), ("labels", -100))
        }
    return batches


@torch.no_grad()
def losses(model, weights: dict[str, torch.Tensor], batches: dict[str, dict[str, torch.Tensor]]) -> dict[str, float]:
    """The loss of `model` with `weights` on each batch. Padding is on the right, so causal attention never sees it."""
    model.load_state_dict(weights)
    return {
        name: float(model(**{key: value.to(model.device) for key, value in batch.items()}).loss)
        for name, batch in batches.items()
    }


def _load(folder: Path):
    from transformers import AutoModelForCausalLM  # slow to import, and only needed where paths are measured
    from transformers.utils import logging

    logging.disable_progress_bar()  # an executed notebook is read, not watched
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in _load(folder).state_dict().items()}
