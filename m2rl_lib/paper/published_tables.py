"""The paper's own numbers, as frames in the form of our score tables, so that one `plot_*` draws both.

Source: arXiv 2602.12566, transcribed in `tables/`, which travels with the package. Model names are ours
('rl-math', 'merge-ties'); scores are points, 0 to 100, without intervals since the paper gives none. `frame.attrs` holds
`source` and `partial` (True where only some of the paper's numbers could be read). Numbers are never corrected: the HLE
score of the best merge is 6.02 in `scores` and 5.70 (TIES) in `merging`.
"""

from importlib import resources

import pandas as pd

from m2rl_lib.data.sft_blend import published_parts as sft_blend_parts

SOURCE = "arXiv 2602.12566"


def _load(name: str, partial: bool = False) -> pd.DataFrame:
    with resources.files("m2rl_lib.paper").joinpath("tables", f"{name}.csv").open(encoding="utf-8") as file:
        frame = pd.read_csv(file)
    frame.attrs.update(source=SOURCE, partial=partial)
    return frame


def scores() -> pd.DataFrame:
    """Avg@K of base, SFT, four experts, the best merge and RL-Multi on nine benchmarks: model, domain, benchmark, score."""
    return _load("scores")


def merging() -> pd.DataFrame:
    """The same columns for six merging methods and MT-OPD. TIES on HLE is 5.70 here, 6.02 as 'merged-best' in `scores`."""
    return _load("merging")


def costs() -> pd.DataFrame:
    """What each run cost: run, prompts_per_step, rollouts_per_prompt, steps, gpu_hours. Four experts, RL-Multi, MT-OPD."""
    return _load("costs")


def gpu_hour_ratio() -> float:
    """GPU hours of RL-Multi over those of the four experts together: 2166.4 / 6524.8 = 0.332, the paper's 33.2%."""
    hours = costs().set_index("run")["gpu_hours"]
    experts = hours[hours.index.str.startswith("rl-") & (hours.index != "rl-multi")]
    return float(hours["rl-multi"] / experts.sum())


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
    wide = _load("qwen3_4b", partial=True)
    domains = scores().drop_duplicates("benchmark").set_index("benchmark")["domain"]
    frame = wide.rename(columns={"rl_multi": "rl-multi", "qwen3_4b_thinking": "qwen3-4b-thinking"}).melt(
        "benchmark", var_name="model", value_name="score"
    )
    frame.insert(0, "domain", frame["benchmark"].map(domains))
    frame = frame[["model", "domain", "benchmark", "score"]]
    frame.attrs.update(wide.attrs)
    return frame


def sft_blend() -> pd.DataFrame:
    """The parts of the SFT corpus, in part: part, samples, percent, source_dataset, sampling."""
    frame = sft_blend_parts()
    frame.attrs.update(source=SOURCE, partial=True)
    return frame
