"""RQ3 on every seed: the numbers its verdicts rest on, once per set of checkpoints, for a t interval over training seeds."""

import pandas as pd

from m2rl_lib.analysis.rq3_policies import policy_kl, policy_neighbours, prediction
from m2rl_lib.analysis.rq3_policies.policy_neighbours import NEIGHBOUR, PARTNERS
from m2rl_lib.analysis.rq3_weights import mask_overlap
from m2rl_lib.config.study import Parameters
from m2rl_lib.stats import over_seeds
from m2rl_lib.storage import result_tables

DENSITY = 0.1  # the equal-density mask whose overlap is followed over seeds
REFERENCES = {"mean": "experts", "matched": "matched random masks", "with_null": "with RL-Null", "other_seed": "one domain twice"}


def measures(summary: pd.DataFrame, ranked: pd.DataFrame, groups: pd.DataFrame) -> pd.DataFrame:
    """One seed's numbers (measure, value), from `summarise_pairs`, rows of `rank_correlation` and `pair_groups`."""
    dense = summary[(summary["kind"] == "density") & (summary["level"] == DENSITY)].iloc[0]
    cosine = summary[summary["kind"] == "cosine"].iloc[0]
    found = {f"overlap at {DENSITY:.0%}, {name}": dense[column] for column, name in REFERENCES.items()}
    found |= {f"cosine, {name}": cosine[column] for column, name in REFERENCES.items() if column != "matched"}
    found |= {f"rank correlation, {row.x} and {row.y}": row.rho for row in ranked.itertuples()}
    against = groups[groups["against"] == PARTNERS["sft"]].set_index("group")["estimate"]
    found |= {f"pairs against {PARTNERS['sft']}, {group}": against[group] for group in (NEIGHBOUR, "neighbour − not")}
    return pd.DataFrame({"measure": list(found), "value": pd.to_numeric(pd.Series(list(found.values())))})


def measure_seed(p: Parameters, seed: int, scores: pd.DataFrame) -> pd.DataFrame:
    """`measures` of another seed, from its tables of notebook 09 and its graded test samples among `scores`; column `seed`."""
    p, test = over_seeds.at_seed(p, seed), scores[scores["seed"] == seed]
    sure = {"margin": p.analysis_margin, "draws": p.analysis_draws}
    pairs, cosines, rows = (
        result_tables.read_table(p, name, ["measuring"]) for name in ("weights_pairs", "weights_cosines", "kl_rows")
    )
    summary = mask_overlap.summarise_pairs(pairs, cosines, [f"rl-{domain}" for domain in p.domains])
    targets = policy_kl.kl_targets(list(pd.unique(test["model"])), p.domains)
    parts = {name: made_of for name in targets if (made_of := policy_kl.ingredients(name, p.domains))}
    changes = prediction.performance_changes(test, {name: targets[name] for name in parts}, **sure)
    near = policy_neighbours.neighbour_table(rows, p.domains)
    by_target = pd.concat([policy_neighbours.neighbour_table(rows, p.domains, target=name) for name in parts], ignore_index=True)
    points = prediction.prediction_points(policy_kl.kl_table(rows), changes, parts, near, by_target)
    tests = policy_neighbours.pair_tests(test, near, **sure)
    gains = tests[tests["against"] == PARTNERS["sft"]].merge(near[["domain", "expert", "ratio"]])
    asked = [(points, name, "delta") for name in ("kl", "neighbours", "target_neighbours")]
    asked.append((gains.rename(columns={"model": "target"}), "ratio", "estimate"))
    ranked = pd.DataFrame([prediction.rank_correlation(*one, p.analysis_draws) for one in asked])
    return measures(summary, ranked, policy_neighbours.pair_groups(test, tests, **sure)).assign(seed=seed)
