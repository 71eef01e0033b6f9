"""The paper's own numbers (arXiv 2602.12566, transcribed in `tables/`), as frames in the form of our score tables.

Model names are ours, scores are points without intervals. `frame.attrs` holds `source` and `partial` (True where only some
numbers could be read). Numbers are never corrected: HLE of the best merge is 6.02 in `scores`, 5.70 (TIES) in `merging`.
"""

from importlib import resources

import pandas as pd

from m2rl_lib.data.sft_blend import published_parts

SOURCE = "arXiv 2602.12566"


def _load(name: str, partial: bool = False) -> pd.DataFrame:
    with resources.files("m2rl_lib.paper").joinpath("tables", f"{name}.csv").open(encoding="utf-8") as file:
        return _sourced(pd.read_csv(file), partial)


def _sourced(frame: pd.DataFrame, partial: bool = True) -> pd.DataFrame:
    frame.attrs.update(source=SOURCE, partial=partial)
    return frame


def scores() -> pd.DataFrame:
    """Avg@K of base, SFT, four experts, the best merge and RL-Multi on nine benchmarks: model, domain, benchmark, score."""
    return _load("scores")


def merging() -> pd.DataFrame:
    """The same columns for six merging methods and MT-OPD."""
    return _load("merging")


def costs() -> pd.DataFrame:
    """What each run cost: run, prompts_per_step, rollouts_per_prompt, steps, gpu_hours. Four experts, RL-Multi, MT-OPD."""
    return _load("costs")


def gpu_hour_ratio() -> float:
    """GPU hours of RL-Multi over those of the four experts together: 2166.4 / 6524.8 = 0.332, the paper's 33.2%."""
    hours = costs().set_index("run")["gpu_hours"]
    return float(hours["rl-multi"] / hours.drop(["rl-multi", "mt-opd"]).sum())


def pairs() -> pd.DataFrame:
    """Merges of two experts, in part: target_domain, merged_experts, benchmark, expert_score, pair_score, change (points)."""
    frame = _load("pairs", partial=True)
    frame["change"] = frame["pair_score"] - frame["expert_score"]
    return frame


def mask_overlap() -> pd.DataFrame:
    """Jaccard overlap of two experts' changed weights, in part: pair, jaccard, note ('about': read from text or figure)."""
    return _load("mask_overlap", partial=True)


def judging() -> pd.DataFrame:
    """Accuracy of models as judges, in part: model, mode ('outcome' or 'process'), benchmark, accuracy (percent)."""
    return _load("judging", partial=True)


def qwen3_4b() -> pd.DataFrame:
    """RL-Multi beside Qwen3-4B-Thinking on five benchmarks, in part, as model, domain, benchmark, score."""
    wide = _load("qwen3_4b", partial=True).rename(columns={"rl_multi": "rl-multi", "qwen3_4b_thinking": "qwen3-4b-thinking"})
    domains = scores().drop_duplicates("benchmark").set_index("benchmark")["domain"]
    frame = wide.melt("benchmark", var_name="model", value_name="score")
    return _sourced(frame.assign(domain=frame["benchmark"].map(domains))[["model", "domain", "benchmark", "score"]])


def sft_blend() -> pd.DataFrame:
    """The parts of the SFT corpus, in part: part, samples, percent, source_dataset, sampling."""
    return _sourced(published_parts())
