"""What a cascade forgets: each domain right after its own stage against the cascade's end."""

import pandas as pd

from m2rl_lib.config import schedule
from m2rl_lib.config.study import Parameters
from m2rl_lib.stats.averages import average_table
from m2rl_lib.stats.comparisons import compare_alone


def stage_scores(test: pd.DataFrame, p: Parameters, name: str) -> pd.DataFrame:
    """Each domain's score after each stage of a cascade, SFT first: stage ('SFT', 'math', …) × domain, points."""
    stages = [("SFT", "sft"), *((domain, model) for domain, model, _ in schedule.cascade_stages(p, name))]
    means = average_table(test[test["model"].isin([model for _, model in stages])], draws=1)
    wide = means.pivot(index="model", columns="domain", values="score")[p.domains]
    return wide.loc[[model for _, model in stages]].set_axis([stage for stage, _ in stages], axis=0)


def forgetting_table(test: pd.DataFrame, p: Parameters, margin: float, draws: int = 10_000) -> pd.DataFrame:
    """Of each cascade and domain: `learned` in its own stage (against the stage before), and end − right after that stage with its
    interval; the last stage has nothing after it."""
    rows = []
    for name in schedule.cascades(p):
        models = ["sft", *(model for _, model, _ in schedule.cascade_stages(p, name))]
        for before, (domain, after, _) in zip(models, schedule.cascade_stages(p, name)[:-1]):
            compared = compare_alone(test, [(after, before), (name, after)], [domain], margin, draws)
            learned = compared["estimate"].iloc[0]
            rows.append({"cascade": name, "domain": domain, "learned": learned} | compared.iloc[1].to_dict())
    columns = ["cascade", "domain", "learned", "estimate", "low", "high", "verdict", "n", "seeds"]
    return pd.DataFrame(rows, columns=columns)
