"""Completions side by side: of a problem that some models solve and others do not."""

import pandas as pd

from m2rl_lib.analysis.rq1_mix_or_merge import examples
from m2rl_lib.data import problem_sets


def test_the_first_problem_on_which_models_differ_is_shown(smoke):
    p, rows = smoke.model_copy(update={"domains": ["math", "coding"], "evaluate_problems": 3}), []
    for domain, differs in (("math", 1), ("coding", None)):
        name = problem_sets.benchmarks(domain, p.data_sources)[0]
        asked = problem_sets.benchmark_problems(name, "test", 3, problem_sets.world_of(p), p.data_sources)
        for place, row in enumerate(asked):
            for model in ("sft", f"rl-{domain}", "rl-multi", "merge-ties", "rl-null"):
                right = model == "rl-null" or (place == differs and model == "rl-multi")
                rows.append((model, domain, row["problem_id"], float(right), f"{model} {place}"))
    table = pd.DataFrame(rows, columns=["model", "domain", "problem_id", "correct", "text"]).assign(split="test", sample=0)
    more = pd.concat([table, table.assign(sample=1, correct=1.0), table.assign(split="selection")])
    found = examples.side_by_side(p, more.drop(columns="text"), more, "merge-ties")
    assert found["text"].tolist()[:4] == ["sft 1", "rl-math 1", "rl-multi 1", "merge-ties 1"]
    assert found["text"].tolist()[4:] == ["sft 0", "rl-coding 0", "rl-multi 0", "merge-ties 0"]
    assert found["correct"].tolist() == [0, 0, 1, 0] + [0] * 4 and found["prompt"].str.len().gt(5).all()
