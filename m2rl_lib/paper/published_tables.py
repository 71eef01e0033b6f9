"""The paper's own numbers (arXiv 2602.12566, transcribed in `tables/`), as frames in the form of our score tables.

Model names are ours, scores are points without intervals. All but `scores`, `merging` and `costs` are in part: the rest could not
be read. Numbers are never corrected: HLE of the best merge is 6.02 in `scores`, 5.70 (TIES) in `merging`.
"""

from functools import partial
from pathlib import Path

import pandas as pd

from m2rl_lib.data.sft_blend import published_parts

SOURCE = "arXiv 2602.12566"


def _load(name: str) -> pd.DataFrame:
    return pd.read_csv(Path(__file__).with_name("tables") / f"{name}.csv")


scores = partial(_load, "scores")  # Avg@K of base, SFT, experts, best merge, RL-Multi: model, domain, benchmark, score
merging = partial(_load, "merging")  # the same columns for six merging methods and MT-OPD
costs = partial(_load, "costs")  # run, prompts_per_step, rollouts_per_prompt, steps, gpu_hours
mask_overlap = partial(_load, "mask_overlap")  # Jaccard of changed weights: pair, jaccard, note ('about': read off a figure)
judging = partial(_load, "judging")  # models as judges: model, mode ('outcome', 'process'), benchmark, accuracy (percent)
sft_blend = published_parts  # the SFT corpus: part, samples, percent, source_dataset, sampling


def gpu_hour_ratio() -> float:
    """GPU hours of RL-Multi over those of the four experts together: 2166.4 / 6524.8 = 0.332, the paper's 33.2%."""
    hours = costs().set_index("run")["gpu_hours"]
    return float(hours["rl-multi"] / hours.drop(["rl-multi", "mt-opd"]).sum())


def pairs() -> pd.DataFrame:
    """Merges of two experts: target_domain, merged_experts, benchmark, expert_score, pair_score, change (points)."""
    frame = _load("pairs")
    return frame.assign(change=frame["pair_score"] - frame["expert_score"])


def qwen3_4b() -> pd.DataFrame:
    """RL-Multi beside Qwen3-4B-Thinking on five benchmarks, as model, domain, benchmark, score."""
    wide = _load("qwen3_4b").rename(columns={"rl_multi": "rl-multi", "qwen3_4b_thinking": "qwen3-4b-thinking"})
    domains = scores().drop_duplicates("benchmark").set_index("benchmark")["domain"]
    frame = wide.melt("benchmark", var_name="model", value_name="score")
    return frame.assign(domain=frame["benchmark"].map(domains))[["model", "domain", "benchmark", "score"]]
