"""The KL cross table of RQ3: how far one model's distribution over completions is from another's, on a domain's test prompts."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from m2rl_lib.config import model_names
from m2rl_lib.stats.graded_samples import require_columns

CELL = ["domain", "source", "target"]
COLUMNS = [*CELL, "problem_id", "sample", "kl", "tokens", "truncated"]  # of the KL rows that notebook 09 measures
TABLE = [*CELL, "kl", "se", "kl_token", "se_token", "prompts", "completions", "tokens", "truncated"]


def ingredients(model: str, names: list[str]) -> list[str]:
    """The domains a multi-domain model is made of; [] for others, and for an expert merged with SFT or RL-Null."""
    base, variant = model_names.parse_model_name(model)
    if "experts" in variant:
        parts = variant["experts"].split("+")
        return parts if set(parts) <= set(names) else []
    return list(names) if base in ("rl-multi", "mt-opd") or base.startswith("merge-") else []


def kl_targets(models: Sequence[str], names: list[str]) -> dict[str, list[str]]:
    """Which of `models` (no checkpoints) are compared with the experts, and on which domains' prompts: those they are made of."""
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


def ratio_by_cluster(top: np.ndarray, bottom: np.ndarray, cluster: Sequence) -> tuple[float, float, int]:
    """Σ top / Σ bottom, its linearised error clustered by `cluster` (NaN for one cluster), and the number of clusters."""
    sums = pd.DataFrame({"top": top, "bottom": bottom}).groupby(np.asarray(cluster)).sum()
    ratio, count = sums["top"].sum() / sums["bottom"].sum(), len(sums)
    if count == 1:
        return float(ratio), np.nan, 1
    residual = sums["top"] - ratio * sums["bottom"]
    return float(ratio), float(np.sqrt(count / (count - 1) * (residual**2).sum()) / sums["bottom"].sum()), count


def kl_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The KL cross table from `kl_rows` of all seeds: kl (nats a sequence), se (clustered by prompt, or over seeds where larger),
    the same for a token of the loss mask, and counts; truncated completions make kl a lower bound."""
    require_columns(rows, [*COLUMNS, "seed"], "KL rows")
    out = []
    for key, cell in rows.groupby(CELL, sort=False):
        kl, se, prompts = ratio_by_cluster(cell["kl"], np.ones(len(cell)), cell["problem_id"])
        per_token, se_token, _ = ratio_by_cluster(cell["kl"], cell["tokens"], cell["problem_id"])
        seeds = cell.groupby("seed")[["kl", "tokens"]].agg(["sum", "mean"])
        se = np.fmax(se, seeds["kl", "mean"].sem())  # NaN of one seed
        se_token = np.fmax(se_token, (seeds["kl", "sum"] / seeds["tokens", "sum"]).sem())
        counts = (prompts, len(cell), int(cell["tokens"].sum()), int(cell["truncated"].sum()))
        out.append((*key, kl, se, per_token, se_token, *counts))
    return pd.DataFrame(out, columns=TABLE)
