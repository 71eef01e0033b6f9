"""`python -m m2rl_lib.cli.judge_scores`: the ledger's judgement from anyone's table, and one line for each table it cannot judge."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from test_claims import MARGIN, RIGHT, WRONG, scores_of

from m2rl_lib.cli import judge_scores
from m2rl_lib.config.locations import ROOT
from m2rl_lib.figures import ledger_figure
from m2rl_lib.paper import claim_ledger, claims
from m2rl_lib.paper.claim_ledger import CONTRADICTED, NOT_TESTABLE


def public(scores: pd.DataFrame) -> pd.DataFrame:
    """A table as anyone would have it: five columns and the domain."""
    return scores.rename(columns={"problem_id": "problem"})[["model", "benchmark", "problem", "sample", "correct", "domain"]]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return public(scores_of(RIGHT, 40))


def refusal(path, *arguments: str) -> str:
    """The one line that a table is refused with."""
    with pytest.raises(SystemExit) as stopped:
        judge_scores.main([str(path), *arguments])
    line = str(stopped.value)
    assert "\n" not in line and line != "0"
    return line


def test_a_file_may_have_any_name(table, tmp_path):
    path = tmp_path / "reasoning-skills.csv"  # in a study's folder such a part is not of scores
    table.to_csv(path, index=False)
    judge_scores.main([str(path)])
    (tmp_path / "run").mkdir()
    table.to_parquet(tmp_path / "run" / "0-skills.parquet")
    assert "holds no .parquet file of scores" in refusal(tmp_path / "run")


def test_from_a_file_to_the_answer_without_a_trainer(tmp_path):
    path = tmp_path / "scores.csv"
    public(scores_of(WRONG, 60)).to_csv(path, index=False)
    heavy = "torch", "trl", "mergekit", "transformers", "datasets", "matplotlib"
    code = f"import sys\nfrom m2rl_lib.cli import judge_scores\njudge_scores.main([{str(path)!r}])\nprint([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    first, *_, last = done.stdout.strip().splitlines()
    assert first.startswith("Mix or merge? RL-Multi is worse than the best merge (SCE, chosen by halves of the problems) by 2")
    assert last == "[]"
    assert "RQ1.1 Mixing is not worse than training separately and merging: contradicted" in done.stdout
    assert "RQ1.2: needs the study's table costs, which scores do not hold" in done.stdout


def test_csv_and_parquet_say_the_same_and_optional_columns_are_used(tmp_path, table, capsys):
    (tmp_path / "folder").mkdir()
    table.to_csv(tmp_path / "t.csv", index=False)
    for name in ("t.parquet", "folder/0-a.parquet"):
        table.to_parquet(tmp_path / name)
    pd.concat([table.assign(seed=seed) for seed in (0, 1)]).to_parquet(tmp_path / "seeds.parquet")
    out = {}
    for name in ("t.csv", "t.parquet", "folder", "seeds.parquet"):
        judge_scores.main([str(tmp_path / name)])
        out[name] = capsys.readouterr().out
    assert out["t.csv"] == out["t.parquet"] == out["folder"]
    assert "2 seeds: on training seeds" in out["seeds.parquet"]


def test_a_selection_split_chooses_and_is_not_judged(tmp_path):
    path = tmp_path / "t.parquet"
    pd.concat([scores_of(RIGHT, 30), scores_of(WRONG, 30, split="selection")]).to_parquet(path)
    test, selection = judge_scores.read_scores(path)
    assert set(test["split"]) == {"test"} and len(test) == len(selection)
    said, ledger = judge_scores.judge_scores(test, selection)
    assert "the best merge (SCE, chosen on selection data)" in said  # SCE leads in the selection rows alone
    assert ledger.set_index("id").loc["RQ4.2", "verdict"] != CONTRADICTED


def test_benchmarks_of_the_paper_need_no_domain(tmp_path, table):
    benchmarks = {"math": "AIME'24", "math-shifted": "AIME'25", "coding": "LiveCodeBench v5"}
    known = table[table["benchmark"].isin(benchmarks)].drop(columns="domain").replace({"benchmark": benchmarks})
    known.to_csv(tmp_path / "t.csv", index=False)
    test, _ = judge_scores.read_scores(tmp_path / "t.csv")
    assert set(test["domain"]) == {"math", "coding"}
    table.drop(columns="domain").to_csv(tmp_path / "u.csv", index=False)
    test, selection = judge_scores.read_scores(tmp_path / "u.csv")
    assert (test["domain"] == test["benchmark"]).all() and selection is None


def test_what_is_not_in_the_table_is_not_testable(table):
    few = table[table["model"].isin(["sft", "rl-multi", "mt-opd"])].rename(columns={"problem": "problem_id"})
    few = few.assign(seed=0, split="test")
    said, ledger = judge_scores.judge_scores(few, None)
    assert said == "Not answered: no scores of any merge-<method>." and (ledger["verdict"] == NOT_TESTABLE).all()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda t: t.drop(columns=["sample", "problem"]), "lacks problem, sample: needed are model, benchmark, problem, sample, correct"),
        (lambda t: t.head(0), "has no rows"),
        (lambda t: t.replace({"model": {"merge-ties": "merge-tiess"}}), "unknown model name 'merge-tiess': allowed are base, sft"),
        (lambda t: t.replace({"model": {"rl-math": "rl-maths"}}), "rl-maths, an expert of no domain in it: allowed are rl-<coding|"),
        (lambda t: t[t["model"] == "sft"], "has one model only, sft"),
        (lambda t: pd.concat([t, t.head(2)]), "2 samples twice, first seed 0, model sft"),
        (lambda t: t.assign(correct=t["correct"] / 2), "has correct = 0.5: allowed are 0, 1 and empty"),
        (lambda t: t.assign(sample=t["sample"].mask(t.index == 3)), "1 rows without sample"),
        (lambda t: t.assign(problem=t["model"] + t["problem"]), "have no problem of math in common"),
        (lambda t: t.assign(domain=np.where(t["model"] == "sft", "a", t["domain"])), "in the domains a, math: one is allowed"),
        (lambda t: t.assign(split="validation"), "has the splits validation: rows of the split test are judged"),
    ],
)  # fmt: skip
def test_a_malformed_table_is_refused_in_one_line(tmp_path, table, change, line):
    change(table).to_csv(tmp_path / "t.csv", index=False)
    assert line in refusal(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("t.txt", "", "neither .csv nor"),
        ("t.parquet", "no", "cannot be read"),
        ("t.csv", "", "cannot be read"),
        ("absent.csv", None, "does not exist"),
        ("", None, "holds no .parquet"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, name, content, line):
    if content is not None:
        (tmp_path / name).write_text(content)
    assert line in refusal(tmp_path / name)


def test_the_figure_says_what_is_not_testable():
    ledger = claim_ledger.ledger(claims.list_claims(MARGIN), {})
    words = [text.get_text() for axes in ledger_figure.plot_ledger(ledger).axes for text in axes.texts]
    assert words.count("not testable") == len(ledger) == len(words) - len(ledger)
