"""Straight paths in weight space between models, and the barrier on them (linear mode connectivity; Frankle et al. 2020, arXiv
1912.05671). The loss at a point is the mean negative log-likelihood, in nats a token, of right solutions of selection problems:
demonstrations in the micro world, of a blend right completions of the paths' own ends, one per problem."""

import random
import zlib
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn.utils.rnn import pad_sequence

from m2rl_lib import domains
from m2rl_lib.analysis.rq3_policies.policy_samples import by_length
from m2rl_lib.config import locations
from m2rl_lib.config.study import Parameters
from m2rl_lib.data import problem_sets, sft_corpus
from m2rl_lib.evaluation import judging
from m2rl_lib.rollout import decoding
from m2rl_lib.storage import artifacts

SHARES = (0.25, 0.5, 0.75)  # of the way, between the ends
TOKENS = 8192  # of a batch, padding counted; a longer solution is a batch of its own
GROUPS = ["sft", "experts", "mixed"]  # whose evaluations hold the samples of the paths' ends
Batch = dict[str, torch.Tensor]  # `input_ids` and `labels` (n, L), -100 where nothing is predicted


def ends(names: list[str]) -> list[tuple[str, str]]:
    """(start, end) of every path among SFT, the experts of the domains `names`, and RL-Multi."""
    experts = [f"rl-{name}" for name in names]
    return [*(("sft", e) for e in experts), *combinations(experts, 2), *((e, "rl-multi") for e in experts)]


def run(p: Parameters) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The loss along every path (table `paths`) and its `barriers`, without a row of a domain that has no right solution."""
    pairs = ends(p.domains)
    folders = {name: locations.model_folder(p.study, p.seed, name) for name in dict.fromkeys(sum(pairs, ()))}
    for folder in folders.values():
        artifacts.verify_model(folder)
    model, tokenizer = decoding.load_model(folders["sft"])
    solved = solutions(p)
    batches = {name: pad_batches(tokenizer, some) for name, some in solved.items()}
    weights = {name: _weights(folder) for name, folder in folders.items()} if batches else {}
    at_end = {name: losses(model, of_model, batches) for name, of_model in weights.items()}
    rows = []
    for start, end in pairs if batches else ():
        found = {0.0: at_end[start], 1.0: at_end[end]}
        for share in SHARES:
            between = {name: torch.lerp(tensor, weights[end][name], share) for name, tensor in weights[start].items()}
            found[share] = losses(model, between, batches)
        for share, by_domain in sorted(found.items()):
            rows += [(start, end, share, domain, loss) for domain, loss in by_domain.items()]
    frame = pd.DataFrame(rows, columns=["start", "end", "share", "domain", "loss"])
    frame = frame.assign(seed=p.seed, n=frame["domain"].map({name: len(some) for name, some in solved.items()}))
    return frame, barriers(frame)


def barriers(paths: pd.DataFrame) -> pd.DataFrame:
    """How far the loss (nats a token) rises above the straight line between a path's ends, by domain and for the mean loss."""
    overall = paths.groupby(["start", "end", "share"], sort=False, as_index=False)["loss"].mean().assign(domain="overall")
    every = pd.concat([paths, overall]).sort_values("share", kind="stable", ignore_index=True)
    losses_of = every.groupby(["start", "end", "domain"], sort=False)["loss"]
    first, last = losses_of.transform("first"), losses_of.transform("last")
    above = every.assign(barrier=every["loss"] - (first + every["share"] * (last - first)))
    return above.groupby(["start", "end", "domain"], sort=False)["barrier"].max().reset_index()


def solutions(p: Parameters) -> dict[str, list[dict]]:
    """Right solutions of selection problems of each domain, as examples of an SFT corpus; no entry of a domain without any."""
    if problem_sets.is_micro(p.data_sources):
        rng = random.Random(p.seed)
        rows = {name: problem_sets.first_problems(p, name, "selection", p.rlvr_selection_problems) for name in p.domains}
        return {name: [_example(row, domains.ALL[name].demonstrate(row, rng)) for row in some] for name, some in rows.items()}
    samples = judging.read_samples(p, GROUPS, "selection")
    ours = samples["model"].isin(set(sum(ends(p.domains), ())))
    right = samples[ours & (samples["correct"] == 1) & ~samples["truncated"]]
    found = {name: _completions(p, name, right[right["domain"] == name]) for name in p.domains}
    return {name: some for name, some in found.items() if some}


def _completions(p: Parameters, name: str, right: pd.DataFrame) -> list[dict]:
    """Right completions of at most `rlvr_selection_problems` problems, each by any model that has one, all equally likely."""
    by_id = {row["problem_id"]: row for row in problem_sets.first_problems(p, name, "selection", p.evaluate_selection_problems)}
    rng = np.random.default_rng([p.seed, zlib.crc32(name.encode())])
    one_each = right.sample(frac=1, random_state=rng).drop_duplicates(["problem_id", "model"])
    chosen = one_each.sample(frac=1, random_state=rng).drop_duplicates("problem_id")
    return [_example(by_id[one.problem_id], one.text) for one in chosen.head(p.rlvr_selection_problems).itertuples()]


def _example(row: dict, completion: str) -> dict:
    prompt = row["responses_create_params"]["input"]
    return {"kind": "demonstration", "row": row, "prompt": prompt, "completion": completion}


def pad_batches(tokenizer, solved: list[dict], tokens: int = TOKENS) -> list[Batch]:
    """The solutions as batches of similar length, of at most `tokens` tokens each where one solution alone is not longer."""
    fills, batches = {"input_ids": tokenizer.pad_token_id, "labels": -100}, []
    for part in by_length([sft_corpus.tokenise(tokenizer, one) for one in solved], lambda one: len(one["input_ids"]), tokens):
        rows = {key: [torch.tensor(one[key]) for one in part] for key in fills}
        batches.append({key: pad_sequence(rows[key], batch_first=True, padding_value=fill) for key, fill in fills.items()})
    return batches


@torch.no_grad()
def losses(model, weights: dict[str, torch.Tensor], batches: dict[str, list[Batch]]) -> dict[str, float]:
    """The loss of `model` with `weights` on each domain. Padding is on the right, so causal attention never sees it."""
    model.load_state_dict(weights)
    found = {}
    for name, some in batches.items():
        counts = [int((batch["labels"][:, 1:] != -100).sum()) for batch in some]
        means = [float(model(**{key: value.to(model.device) for key, value in batch.items()}).loss) for batch in some]
        found[name] = sum(mean * count for mean, count in zip(means, counts)) / sum(counts)
    return found


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    from transformers import AutoModelForCausalLM  # slow to import, and only needed where paths are measured

    return {name: tensor.clone() for name, tensor in AutoModelForCausalLM.from_pretrained(folder).state_dict().items()}
