"""The RL learning rate, by the rule in docs/guide.md: the highest mean gain of experts on their own domain's
selection problems after half an expert's run, from the study's SFT model, before any mixed or merged model exists.

    python dev/choose_learning_rate.py params/study.yaml --domains math coding
"""

import argparse
import shutil
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace

import pandas as pd

from m2rl_lib.config import locations, study
from m2rl_lib.storage import result_tables

PROBLEMS = 100  # selection problems a domain


def gain(path: str, domain: str, rate: float) -> dict:
    """One expert at one rate: selection reward on its own domain before and after, one completion a problem."""
    from m2rl_lib.training import grpo

    p = SimpleNamespace(**study.load(path).model_dump())
    source = locations.model_folder(p.study, p.seed, "sft")
    p.study = f"{p.study}-choice-{domain.replace('_', '-')}-{rate:g}"
    p.rlvr_learning_rate, p.rlvr_steps, p.rlvr_selection_problems = rate, p.rlvr_steps // 2, PROBLEMS
    start = locations.model_folder(p.study, p.seed, "sft")
    start.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, start, dirs_exist_ok=True)
    made = p.rlvr_steps
    grpo.train(p, f"rl-{domain}", [domain], made, [made], start, seed=p.seed)
    curve = result_tables.read_table(p, "curves", [f"rl-{domain}"]).query("kind == 'selection' and domain == @domain")
    before, after = curve.sort_values("step")["reward"].iloc[[0, -1]] * 100
    shutil.rmtree(locations.study_folder(p.study))
    return {"domain": domain, "rate": rate, "before": before, "after": after, "gain": after - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("params", help="parameter file; its SFT model must be there")
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-5, 1e-4, 2e-4])
    parser.add_argument("--domains", nargs="+", default=["math", "instruction_following"])
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    runs = [(domain, rate) for domain in arguments.domains for rate in arguments.rates]
    with ProcessPoolExecutor(arguments.jobs, max_tasks_per_child=1) as pool:
        found = pd.DataFrame(pool.map(gain, [arguments.params] * len(runs), *zip(*runs)))
    print(found.round(1).to_string(index=False))
    means = found.groupby("rate")["gain"].mean()
    print(f"\nmean gain by rate: {means.round(1).to_dict()}; chosen: {means.idxmax():g}")


if __name__ == "__main__":
    main()
