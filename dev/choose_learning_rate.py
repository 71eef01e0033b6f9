"""The RL learning rate, by the rule in docs/guide.md: of the rates at which the null run costs at most 5 points (mean over the
domains' first benchmarks), the one with the highest mean gain of the experts on their own; on selection problems, from the
study's SFT model, before any mixed or merged model exists. Says too whether the experts were flat at the end.

    python dev/choose_learning_rate.py params/study.yaml --experts math instruction_following
"""

import argparse
import shutil
from concurrent.futures import ProcessPoolExecutor

import pandas as pd

from m2rl_lib.config import locations, schedule, study
from m2rl_lib.storage import result_tables

PROBLEMS = 100  # selection problems per domain, one completion each
MOST_COST = 5.0  # points that shuffled rewards may cost
NULL = "null"


def run(path: str, what: str, rate: float) -> pd.DataFrame:
    """Selection reward (points) of one run at one rate, mean over its domains, at the start and at each kept checkpoint."""
    from m2rl_lib.training import grpo

    given = study.load(path)
    null = what == NULL
    names = given.domains if null else [what]
    changed = {"study": f"{given.study}-choice-{what.replace('_', '-')}-{rate:g}", "rlvr_learning_rate": rate}
    p = study.Parameters.model_construct(**(vars(given) | changed | {"rlvr_selection_problems": PROBLEMS}))
    start = locations.model_folder(p.study, p.seed, "sft")
    shutil.copytree(locations.model_folder(given.study, p.seed, "sft"), start, dirs_exist_ok=True)
    kept = schedule.quarters(p.rlvr_steps)
    grpo.train(p, f"rl-{what}", names, p.rlvr_steps, kept, start, seed=p.seed, permute_rewards=null)
    curve = result_tables.read_table(p, "curves", [f"rl-{what}"]).query("kind == 'selection' and domain in @names")
    shutil.rmtree(locations.study_folder(p.study))
    points = 100 * curve.groupby("step")["reward"].mean()
    return pd.DataFrame({"run": what, "rate": rate, "step": points.index, "reward": points.to_numpy()})


def choose(curves: pd.DataFrame) -> tuple[pd.DataFrame, float | None]:
    """Per rate the gain of each run, how much the experts still gained in the last quarter, and the rate of the rule (or None)."""
    by_step = curves.pivot(index=["rate", "run"], columns="step", values="reward")
    gains = (by_step.iloc[:, -1] - by_step.iloc[:, 0]).unstack("run")
    late = (by_step.iloc[:, -1] - by_step.iloc[:, -2]).unstack("run").drop(columns=NULL).mean(axis=1)
    experts = gains.drop(columns=NULL).mean(axis=1)
    table = gains.assign(experts=experts, **{"last quarter": late})
    allowed = experts[gains[NULL] >= -MOST_COST]
    return table, float(allowed.idxmax()) if len(allowed) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("params", help="parameter file; its SFT model must be there")
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-5, 6e-5, 1e-4])
    parser.add_argument("--experts", nargs="+", default=["math", "instruction_following"])
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    runs = [(what, rate) for rate in arguments.rates for what in (NULL, *arguments.experts)]
    with ProcessPoolExecutor(arguments.jobs, max_tasks_per_child=1) as pool:
        curves = pd.concat(pool.map(run, [arguments.params] * len(runs), *zip(*runs)))
    table, chosen = choose(curves)
    print(table.round(1).to_string())
    print(
        f"chosen: {chosen:g}" if chosen else f"at every rate shuffled rewards cost more than {MOST_COST:g} points: try lower ones"
    )


if __name__ == "__main__":
    main()
