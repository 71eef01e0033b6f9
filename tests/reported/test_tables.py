"""Cases from public reports and their relatives: score tables, parameter files, command lines.

Sources: lm-evaluation-harness 4070, openai/evals 1834, instructlab/eval 42, pandas 5697 and 31821; papermill 818 and 667,
PyYAML 165.
"""

import numpy as np
import pandas as pd
import pytest

from m2rl_lib.cli import judge_scores, plan
from m2rl_lib.config import study
from m2rl_lib.config.locations import ROOT
from m2rl_lib.stats import comparisons

ALONE, ALIKE = (lambda model, place: model == "rl-multi"), (lambda model, place: place % 2 == 0)
MODELS = ["sft", "rl-multi", "merge-ties", "merge-average"]


def table(problems, right=lambda model, place: (place + len(model)) % 3 == 0, samples: int = 1) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"model": model, "benchmark": "A", "problem": name, "sample": sample, "correct": int(right(model, place))}
            for model in MODELS
            for place, name in enumerate(problems)
            for sample in range(samples)
        ]
    )


@pytest.fixture
def judge(tmp_path, capsys):
    """Judge a file, or a frame as a CSV file: the first line that is printed, or the one line of the refusal."""

    def judged(scores, *arguments: str) -> str:
        if isinstance(scores, pd.DataFrame):
            scores.to_csv(tmp_path / "t.csv", index=False)
            scores = tmp_path / "t.csv"
        try:
            judge_scores.main([str(scores), *arguments])
        except SystemExit as end:
            assert "\n" not in str(end)
            return f"refused: {end}"
        return capsys.readouterr().out.splitlines()[0]

    return judged


@pytest.mark.parametrize(
    ("count", "right", "line"),
    [
        (1, ALONE, "Not answered: 1 problem is too few, exact p = 1"),
        (3, ALONE, "Not answered: 3 problems are too few, exact p = 0.25"),
        (7, ALONE, "is better than"),
        (30, ALONE, "by 100.0 points [76.9, 100.0]"),
        (1, ALIKE, "Not answered: 1 problem is"),
        (14, ALIKE, "Not answered: 14 problems are"),
        (30, ALIKE, "undecided: +0.0 points [-11.6, 11.6]"),
        (300, ALIKE, "undecided: +0.0 points [-1.2, 1.2]"),
    ],
)
def test_no_certainty_from_a_spread_of_zero(count, right, line, judge):
    assert line in judge(table([f"p{n}" for n in range(count)], right))


def test_few_problems_are_rarely_called_different_by_chance():
    generator, false = np.random.default_rng(0), 0
    for _ in range(300):
        differences = 100 * (generator.integers(0, 2, 8) - generator.integers(0, 2, 8)) / 8
        false += comparisons.few_problems(differences, "better", 0.0, 3.0)[0] == "better"
    assert false <= 300 * 0.05


@pytest.mark.parametrize(
    "names",
    [
        [f"{i}e{400 + j}" for i in range(1, 7) for j in range(10)],
        [str(9007199254740992 + n) for n in range(59)] + ["1.5"],
        ["NA", "nan", "7", "007", "7.0", "True", *map(str, range(100, 120))],
    ],
)
def test_names_are_texts(names, tmp_path):
    table(names).to_csv(tmp_path / "t.csv", index=False)
    test, _ = judge_scores.read_scores(tmp_path / "t.csv")
    assert list(test["problem_id"].unique()) == names


@pytest.mark.parametrize("separator", ",;\t|")
def test_separators_and_a_byte_order_mark(separator, tmp_path):
    frame = table(range(20)).assign(correct=lambda t: t["correct"].astype(bool))
    frame.to_csv(tmp_path / "t.csv", index=False, sep=separator, encoding="utf-8-sig")
    test, _ = judge_scores.read_scores(tmp_path / "t.csv")
    assert (test["correct"] == frame["correct"]).all()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda t: t.assign(problem_id=t["problem"]), "has both problem and problem_id"),
        (lambda t: t.assign(correct=t["correct"] * 100), "has correct = 100: allowed are 0, 1 and empty (not graded); a row is a sample"),
        (lambda t: t.assign(correct="50%"), "not a percentage"),
        (lambda t: t[(t["model"] != "sft") | (t["sample"] == 0) | (t["problem"] != "p1")], "sft (seed 0) has 1 to 2 samples"),
        (lambda t: t.assign(model=t["model"].mask(t.index == 3)), "rows without model"),
        (lambda t: t.assign(problem=t["problem"].mask(t.index == 3)), "1 rows without problem_id"),
    ],
)  # fmt: skip
def test_tables_that_are_refused(change, line, judge):
    assert line in judge(change(table([f"p{n}" for n in range(30)], samples=2)))


def test_lists_other_encodings_and_long_rows_are_refused(tmp_path, judge):
    table(range(20)).assign(problem=lambda t: [["a"]] * len(t)).to_parquet(tmp_path / "t.parquet")
    assert "has a ndarray in column problem" in judge(tmp_path / "t.parquet")
    table(range(20)).to_csv(tmp_path / "t.csv", index=False, encoding="utf-16")
    assert "cannot be read" in judge(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("model,benchmark,problem,sample,correct\nsft,A,p0,0,1,,\nrl-multi,A,p0,0,1\n")
    assert "cannot be read" in judge(tmp_path / "t.csv")


@pytest.mark.parametrize("margin", ["inf", "nan", "-1", "101"])
def test_margins_that_are_refused(margin, judge):
    assert f"refused: margin = {margin} points" in judge(table(range(20)), "--margin", margin)


DECLARED = "study = 'smoke'\ndomain = 'math'  # the domain to be expert in"


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"domian": "coding"}, "unknown parameter 'domian'; did you mean domain?"),
        ({"steps": 8}, "unknown parameter 'steps'"),
        ({"rlvr_stepz": 8}, "did you mean rlvr_steps?"),
        ({"In": ["", DECLARED, "# Parameters\nrepeat = 1"], "repeat": 1}, "repeat is not among the parameters"),
    ],
)
def test_a_notebook_refuses_what_is_not_its_parameter(variables, line):
    with pytest.raises(study.ParameterError, match=line.replace("?", r"\?")):
        study.notebook_parameters({"study": "smoke", "domain": "math"} | variables)


def test_a_notebook_takes_its_own_and_all_of_a_study():
    injected = "# Parameters\ndomain = 'coding'\nsft_steps = 9"
    given = {"study": "smoke", "domain": "coding", "sft_steps": 9}
    found = study.notebook_parameters({"In": ["", DECLARED, injected], "Out": {}, "_": "", "pytest": pytest} | given)
    assert vars(found) == given


def test_a_key_given_twice_and_an_unknown_domain_are_refused(tmp_path):
    path, text = tmp_path / "smoke.yaml", (ROOT / "params" / "smoke.yaml").read_text()
    path.write_text(text + "\nrlvr_steps: 5\n")
    with pytest.raises(study.ParameterError, match="rlvr_steps is given twice"):
        study.load(path)
    line = next(line for line in text.splitlines() if line.startswith("domains: "))
    thinking = next(line for line in text.splitlines() if line.startswith("data_thinking: "))
    path.write_text(text.replace(line, "domains: [math, chess]").replace(thinking, "data_thinking: {}"))
    with pytest.raises(ValueError, match="'chess' is not one of"):
        plan.main([str(path)])
