"""One problem of each domain with the completions of several models side by side."""

import pandas as pd

from m2rl_lib.config.study import Parameters
from m2rl_lib.data import problem_sets
from m2rl_lib.domains import problems


def side_by_side(p: Parameters, test: pd.DataFrame, samples: pd.DataFrame, merge: str) -> pd.DataFrame:
    """The first completion of SFT, the domain's expert, RL-Multi and `merge` on one test problem of each domain's first benchmark:
    the first problem that some of them solve and others do not, or the first of all. domain, prompt, model, correct, text; `test`
    and `samples` (rows of the tables `scores` and `samples`) of the study's own seed."""
    keys, rows = ["model", "problem_id"], []
    first = [frame[(frame["split"] == "test") & (frame["sample"] == 0)] for frame in (test, samples)]
    marked = first[0][[*keys, "correct"]].merge(first[1][[*keys, "text"]], on=keys).set_index(keys).sort_index()
    for domain in p.domains:
        models = ["sft", f"rl-{domain}", "rl-multi", merge]
        asked = problem_sets.first_problems(p, domain, "test", p.evaluate_problems)
        right = marked["correct"].unstack("model").reindex([row["problem_id"] for row in asked], columns=models)
        differ = right.notna().all(axis=1) & (right.nunique(axis=1) > 1)
        row = asked[int(differ.to_numpy().argmax())]
        for model in models:
            correct, text = marked.loc[(model, row["problem_id"])]
            rows.append((domain, problems.prompt_of(row), model, correct, text))
    return pd.DataFrame(rows, columns=["domain", "prompt", "model", "correct", "text"])
