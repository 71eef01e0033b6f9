"""Experts by adapters (LoRA) beside those whose weights are all trained, and merges of both, on test problems: is a merge of cheap
experts as good? Trains and merges in runs/<study>-lora from the study's SFT, whose experts must be there, and writes dev/LORA.md.

    python dev/lora_experts.py params/study.yaml --seeds 0 1
"""

import argparse
import shutil
from concurrent.futures import ProcessPoolExecutor
from itertools import product

import pandas as pd
from common import stamp

from m2rl_lib.config import locations, schedule, study
from m2rl_lib.config.locations import ROOT
from m2rl_lib.config.study import Parameters
from m2rl_lib.stats.bootstrap import OVERALL
from m2rl_lib.stats.comparisons import compare, comparison_table, display_domain, display_name

REPORT = ROOT / "dev" / "LORA.md"
RANK = schedule.LORA_RANK
METHODS = ("average", "ties")


def parameters(path: str, seed: int, **run) -> Parameters:
    """The study's parameters with this seed, in a study of its own, and what a notebook would be asked to run."""
    given = study.load(path)
    own = {"study": f"{given.study}-lora", "seed": seed, "joint_models": [f"lora-{method}" for method in METHODS]}
    return Parameters.model_construct(**(vars(given) | own | run))


def train(path: str, seed: int, domain: str) -> None:
    """One expert by adapters, unless it is there."""
    from m2rl_lib.training import grpo

    p = parameters(path, seed, domain=domain, repeat=0, permute_rewards=False, round=1, lora=RANK)
    if not locations.model_folder(p.study, seed, grpo.expert_name(p)).is_dir():
        grpo.run_expert(p)


def scores(path: str, seed: int) -> pd.DataFrame:
    """Test scores at T = 1 of SFT, both kinds of experts, and both kinds of merges, of which those of adapters are made here."""
    from m2rl_lib import sandbox
    from m2rl_lib.evaluation import avg_at_k
    from m2rl_lib.merging import merge

    p, whole = parameters(path, seed, purpose="scores"), study.load(path).study
    sandbox.configure(p.sandbox_kind)
    ours = [f"merge-{method}@lora={RANK}" for method in METHODS]
    for name in ours:
        merge.merge(p, merge.recipe(p, name), name)
    named = [(p.study, name) for name in (*schedule.lora_experts(p), *ours)]
    named += [(whole, name) for name in ("sft", *schedule.experts(p), *(f"merge-{method}" for method in METHODS))]
    how = {"split": "test", "temperature": p.evaluate_temperature}
    return pd.concat([avg_at_k.evaluate(p, locations.model_folder(of, seed, name), name, **how) for of, name in named])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("params", help="parameter file; the study's SFT and experts must be there")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    given = parser.parse_args()
    p, whole = parameters(given.params, given.seeds[0]), study.load(given.params).study
    for seed in given.seeds:
        start = locations.model_folder(p.study, seed, "sft")
        shutil.copytree(locations.model_folder(whole, seed, "sft"), start, dirs_exist_ok=True)
    with ProcessPoolExecutor(2, max_tasks_per_child=1) as pool:
        list(pool.map(train, *zip(*((given.params, seed, name) for seed, name in product(given.seeds, p.domains)))))
        frame = pd.concat(pool.map(scores, [given.params] * len(given.seeds), given.seeds), ignore_index=True)
    pairs = [(f"rl-{name}@lora={RANK}", f"rl-{name}", name) for name in p.domains]
    pairs += [(f"rl-{name}", "sft", name) for name in p.domains]
    pairs += [(f"merge-{method}@lora={RANK}", f"merge-{method}", OVERALL) for method in METHODS]
    rows = pd.concat([comparison_table(frame, [pair[:2]], [pair[2]], p.analysis_margin) for pair in pairs], ignore_index=True)
    words = [f"{row.estimate:+.1f} [{row.low:.1f}, {row.high:.1f}]" for row in rows.itertuples()]
    each = [frame[frame["seed"] == seed] for seed in given.seeds]
    alone = [
        ", ".join(f"{compare(one, *pair[:2], pair[2], margin=p.analysis_margin, draws=100)['estimate']:+.1f}" for one in each)
        for pair in pairs
    ]
    table = pd.DataFrame({"model": rows["model"].map(display_name), "against": rows["reference"].map(display_name)})
    table = table.assign(on=rows["over"].map(display_domain), points=words, verdict=rows["verdict"])
    table.insert(4, "by seed", alone)
    lora, full = (rows["estimate"].iloc[start : start + len(p.domains)].mean() for start in (0, len(p.domains)))
    share = (
        f"In their own domains the experts by adapters have {100 * (full + lora) / full:.0f}% of the full experts' gain over SFT."
    )
    lines = [
        "# Experts by adapters beside full ones",
        f"`python dev/lora_experts.py {given.params}`, seeds {given.seeds}.",
        share,
    ]
    REPORT.write_text("\n\n".join([*lines, table.to_markdown(index=False, disable_numparse=True), f"`{stamp()}`"]) + "\n")
    print(REPORT.read_text())


if __name__ == "__main__":
    main()
