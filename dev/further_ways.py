"""Further ways to one model against RL-Multi and the best merge, with what they cost: the tables of notebook 11 for a study whose
`joint_models` names some, of the seeds that have them all. Writes dev/WAYS.md.

    python dev/further_ways.py params/ways.yaml
"""

import argparse

import pandas as pd
from common import stamp

from m2rl_lib.analysis.rq1_mix_or_merge import budgets
from m2rl_lib.config import schedule, study
from m2rl_lib.config.locations import ROOT
from m2rl_lib.config.study import Parameters
from m2rl_lib.stats.averages import choose_on_selection
from m2rl_lib.stats.comparisons import adjust, comparison_table, display_name
from m2rl_lib.storage import result_tables

REPORT = ROOT / "dev" / "WAYS.md"


def tables(p: Parameters) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Differences on the mean over the trained domains (points, adjusted for their number), and costs in the mean over seeds."""
    there = schedule.seeds_there(p, "rq1")
    scores = result_tables.read_table(p, "scores", schedule.groups_read(p, "rq1"), there)
    selection, test = (scores[scores["split"] == split] for split in ("selection", "test"))
    merge = choose_on_selection(selection, schedule.defaults(p))
    pairs = [(name, other) for name in ("rl-multi", *schedule.joint(p)) for other in ("rl-multi", merge) if name != other]
    found = adjust(comparison_table(test, pairs, ["overall"], p.analysis_margin, draws=p.analysis_draws))
    alone = [comparison_table(test[test["seed"] == seed], pairs, ["overall"], p.analysis_margin) for seed in there]
    found["by seed"] = [", ".join(f"{one['estimate'].iloc[row]:+.1f}" for one in alone) for row in range(len(found))]
    costs = budgets.joint_costs(budgets.mean_costs(result_tables.read_table(p, "costs", seeds=there)), p)
    return found, costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("params", help="parameter file of a study that has been run as far as RQ1")
    p = Parameters.model_construct(**vars(study.load(parser.parse_args().params)))
    found, costs = tables(p)
    words = [f"{row.estimate:+.1f} [{row.low:.1f}, {row.high:.1f}]" for row in found.itertuples()]
    shown = pd.DataFrame(
        {"model": found["model"].map(display_name), "against": found["reference"].map(display_name), "points": words}
    )
    shown = shown.assign(**{"by seed": found["by seed"]}, verdict=found["verdict"], p=found["adjusted"].map("{:.2g}".format))
    spent = costs.assign(model=costs["model"].map(display_name)).round(0)
    lines = [
        "# Further ways to one model",
        f"`{p.study}`, {found['n'].iloc[0]} problems, {found['seeds'].iloc[0]} seeds; 95% intervals, p adjusted.",
    ]
    lines += [frame.to_markdown(index=False, disable_numparse=True) for frame in (shown, spent)]
    REPORT.write_text("\n\n".join([*lines, f"`{stamp()}`"]) + "\n")
    print(REPORT.read_text())


if __name__ == "__main__":
    main()
