"""The paper's own numbers (arXiv 2602.12566, version 1, transcribed in `tables/`), as frames in the form of our score tables; of
version 3, which the released weights belong to, second-hand scores of three models. The SFT corpus is in `data.sft_blend`.

Model names are ours, scores are points without intervals. All but `scores`, `merging` and `costs` are in part: the rest could not
be read. Numbers are never corrected: HLE of the best merge is 6.02 in `scores`, 5.70 (TIES) in `merging`."""

from functools import partial
from pathlib import Path

import pandas as pd

SOURCE = "arXiv 2602.12566"


def _load(name: str) -> pd.DataFrame:
    return pd.read_csv(Path(__file__).with_name("tables") / f"{name}.csv")


scores = partial(_load, "scores")  # Avg@K of base, SFT, experts, best merge, RL-Multi: model, domain, benchmark, score
scores_v3 = partial(_load, "scores_v3")  # version 3, second-hand: each expert on its domain, RL-Multi, TIES; a column source
merging = partial(_load, "merging")  # the same columns for six merging methods and MT-OPD
costs = partial(_load, "costs")  # run, prompts_per_step, rollouts_per_prompt, steps, gpu_hours
mask_overlap = partial(_load, "mask_overlap")  # Jaccard of changed weights: pair, jaccard, note ('about': read off a figure)
judging = partial(_load, "judging")  # models as judges: model, mode ('outcome', 'process'), benchmark, accuracy (percent)


def domains_v3() -> pd.DataFrame:
    """Version 3 by domain, means of its benchmarks: expert (score), mixed and merged (RL-Multi, TIES − the expert), points."""
    table = scores_v3()
    means = table.groupby(["domain", "model"], sort=False)["score"].mean().unstack()
    expert = pd.Series({domain: means.loc[domain, f"rl-{domain}"] for domain in means.index})
    joint = {"mixed": means["rl-multi"] - expert, "merged": means["merge-ties"] - expert}
    return pd.DataFrame({"expert": expert, **joint}).rename_axis("domain").reset_index()


def versions() -> pd.DataFrame:
    """RL-Multi − TIES in versions 1 and 3: domains, benchmarks, on how many RL-Multi is ahead, and the mean over domains, points."""
    rows = []
    first = pd.concat([scores().query("model == 'rl-multi'"), merging().query("model == 'merge-ties'")])
    for version, table in ((1, first[first["domain"] != "general"]), (3, scores_v3())):
        wide = table.pivot(index=["domain", "benchmark"], columns="model", values="score")
        ahead = wide["rl-multi"] - wide["merge-ties"]
        by_domain = ahead.groupby("domain").mean()
        rows.append((version, len(by_domain), len(ahead), int((ahead > 0).sum()), by_domain.mean()))
    return pd.DataFrame(rows, columns=["version", "domains", "benchmarks", "ahead", "difference"])


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
