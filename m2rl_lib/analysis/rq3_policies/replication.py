"""RQ3 on every seed: the numbers its verdicts rest on, once for each set of weights, and over the seeds.

The weights and policies of one seed are one draw; an interval over pairs of experts or over prompts speaks of these weights
alone. Here what notebook 13 shows of the first seed is measured on each further one, and a t interval over seeds speaks of the
recipe. The paper has one run a model.
"""

import pandas as pd

from m2rl_lib.analysis.rq3_policies import policy_kl, policy_neighbours, prediction
from m2rl_lib.analysis.rq3_policies.policy_neighbours import NEIGHBOUR, PARTNERS
from m2rl_lib.analysis.rq3_weights import mask_overlap
from m2rl_lib.config.study import Parameters
from m2rl_lib.stats import over_seeds
from m2rl_lib.storage import artifacts

DENSITY = 0.1  # the equal-density mask whose overlap is followed over seeds


def measures(summary: pd.DataFrame, ranked: pd.DataFrame, groups: pd.DataFrame) -> pd.DataFrame:
    """One seed's numbers in long form: measure, value.

    `summary`: `overlaps.summarise_pairs`; `ranked`: rows of `prediction.rank_correlation`; `groups`: `neighbours.pair_groups`.
    """
    found = {}
    dense = summary[(summary["kind"] == "density") & (summary["level"] == DENSITY)].iloc[0]
    cosine = summary[summary["kind"] == "cosine"].iloc[0]
    columns = {
        "mean": "experts",
        "matched": "matched random masks",
        "with_null": "with RL-Null",
        "other_seed": "one domain twice",
    }
    found |= {f"overlap at {DENSITY:.0%}, {told}": dense[column] for column, told in columns.items()}
    found |= {f"cosine, {told}": cosine[column] for column, told in columns.items() if column != "matched"}
    found |= {f"rank correlation, {row.x} and {row.y}": row.rho for row in ranked.itertuples()}
    against = groups[groups["against"] == PARTNERS["sft"]].set_index("group")["estimate"]
    found |= {f"pairs against {PARTNERS['sft']}, {group}": against[group] for group in (NEIGHBOUR, "neighbour − not")}
    return pd.DataFrame({"measure": list(found), "value": pd.to_numeric(pd.Series(list(found.values())))})


def measure_seed(p: Parameters, seed: int, scores: pd.DataFrame) -> pd.DataFrame:
    """`measures` of another seed's models, with a column `seed`; `scores` are graded test samples, its seed's among them."""
    p, test = over_seeds.at_seed(p, seed), scores[scores["seed"] == seed]
    sure = {"margin": p.analysis_margin, "draws": p.analysis_draws}
    experts = [f"rl-{domain}" for domain in p.domains]
    pairs, cosines, rows = (
        artifacts.read_table(p, name, ["measuring"]) for name in ("weights_pairs", "weights_cosines", "kl_rows")
    )
    summary = mask_overlap.summarise_pairs(pairs, cosines, experts)
    targets = policy_kl.kl_targets(list(pd.unique(test["model"])), p.domains)
    parts = {name: made_of for name in targets if (made_of := policy_kl.ingredients(name, p.domains))}
    changes = prediction.performance_changes(test, {name: targets[name] for name in parts}, **sure)
    near = policy_neighbours.neighbour_table(rows, p.domains)
    by_target = pd.concat([policy_neighbours.neighbour_table(rows, p.domains, target=name) for name in parts], ignore_index=True)
    points = prediction.prediction_points(policy_kl.kl_table(rows), changes, parts, near, by_target)
    tests = policy_neighbours.pair_tests(test, near, **sure)
    gains = tests[tests["against"] == PARTNERS["sft"]].merge(near[["domain", "expert", "ratio"]])
    gains = gains.rename(columns={"model": "target"})
    ranked = [
        prediction.rank_correlation(points, name, "delta", p.analysis_draws) for name in ("kl", "neighbours", "target_neighbours")
    ]
    ranked.append(prediction.rank_correlation(gains, "ratio", "estimate", p.analysis_draws))
    return measures(summary, pd.DataFrame(ranked), policy_neighbours.pair_groups(test, tests, **sure)).assign(seed=seed)
