"""Evaluation of a tiny model: greedy rows stay in their own table, thinking is read from the text, the plan counts all of it."""

import pytest

from m2rl_lib import sandbox
from m2rl_lib.cli import plan
from m2rl_lib.data import problem_sets
from m2rl_lib.domains import chat
from m2rl_lib.evaluation import avg_at_k
from m2rl_lib.stats.graded_samples import check_scores
from m2rl_lib.storage import result_tables


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>2 + 2 = 4</think>\n4<|im_end|>", True),
        ("<think> \n</think>\n4", False),
        ("2 + 2 = 4</think>\n4", True),  # opened by the prompt
        ("\n</think>\n4", False),
        ("<think>2 + 2", True),  # cut off
        ("<think><|im_end|>", False),
        ("<tool_call>{}</tool_call><|im_end|>" + chat.tool_turn(["7"]) + "<think></think>x<think>7 + 1</think>8", True),
        ("4", None),
        ("", None),
    ],
)
def test_what_counts_as_thinking(text, expected):
    assert chat.thought(text) is expected


@pytest.mark.parametrize(("group", "purpose"), [("sft", "scores"), ("pairs", "test"), ("sweeps", "sweep")])
def test_greedy_has_each_test_problem_once_and_the_plan_counts_it(smoke, publish_model, model, group, purpose, monkeypatch):
    for name, value in {"check": lambda: None, "configure": lambda kind: None}.items():
        monkeypatch.setattr(sandbox, name, value)
    name = "sft" if group == "sft" else "merge-average@experts=math+science"
    folder = publish_model(name, model)
    p = smoke.model_copy(update={"domains": ["math", "science"], "models": [name], "group": group, "purpose": purpose})
    avg_at_k.run(p)
    scores, costs = (result_tables.read_table(p, table) for table in ("scores", "costs"))
    tables = result_tables.table_file(p, "greedy", group).parents[1]
    assert (tables / "greedy").is_dir() == ("greedy" in set(costs["stage"])) == (purpose == "scores")
    counted = {group: completions / models for group, models, completions in plan.evaluations(p)}[group]
    if purpose != "scores":
        assert len(scores) == counted or purpose == "sweep"
        return
    greedy = result_tables.read_table(p, "greedy")
    check_scores(greedy)
    assert list(greedy.columns) == list(scores.columns) and set(greedy["model"]) == {name}
    asked = len(problem_sets.study_benchmarks(p)) * p.evaluate_problems
    assert len(greedy) == asked and set(greedy["sample"]) == {0} and set(greedy["split"]) == {"test"}
    assert costs.set_index("stage").loc["greedy", "generated_tokens"] == greedy["completion_tokens"].sum()
    assert len(scores) + len(greedy) == counted
    again = avg_at_k.evaluate(p, folder, name, "test", temperature=0, k=1)
    assert again["completion_tokens"].tolist() == greedy["completion_tokens"].tolist()
