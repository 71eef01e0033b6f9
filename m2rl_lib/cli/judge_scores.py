"""`python -m m2rl_lib.cli.judge_scores TABLE`: mix or merge, and the paper's findings, judged from anyone's table of scores.

TABLE is a csv or parquet file, or a folder of parquet files, a row a sample: model, benchmark, problem, sample, correct (0 or
1, empty where it could not be graded), and where there are: seed, domain, split ('selection' rows choose the best merge, 'test'
rows are judged). Nothing is trained, no model is loaded; the judgement is that of notebooks 11, 12, 14 and 21, by the same
functions, for those claims of the ledger that scores alone can answer.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from m2rl_lib.config.model_names import parse_model_name
from m2rl_lib.paper import claim_ledger, claims, published_tables
from m2rl_lib.paper.claim_ledger import NOT_TESTABLE
from m2rl_lib.paper.score_tables import Tables, make_score_tables
from m2rl_lib.stats.bootstrap import GENERAL, check_scores
from m2rl_lib.stats.comparisons import MARGIN, METHODS, display_name, verdict_sentence

NEEDED = ["model", "benchmark", "problem", "sample", "correct"]
TEST, SELECTION = "test", "selection"


class TableError(ValueError):
    """A table that cannot be judged; the message is one line."""


def read_scores(path: Path | str) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The test and the selection rows (None without any) of a table of scores, in the columns of our `scores` tables.

    TableError in one line: no such file, another format, missing columns, an unknown model name, a null or duplicate key,
    `correct` other than 0 and 1, one model only, models without a problem in common, an expert of no domain of the table.
    """
    table = _load(Path(path)).rename(columns={"problem_id": "problem"})
    lacking = [name for name in NEEDED if name not in table.columns]
    if lacking:
        raise TableError(
            f"{path} lacks {', '.join(lacking)}: needed are {', '.join(NEEDED)}; seed, domain and split if there are"
        )
    if table.empty:
        raise TableError(f"{path} has no rows: a row a sample is needed")
    _check_models(table["model"], path)
    wrong = [value for value in table["correct"].unique() if not pd.isna(value) and value not in (0, 1)]
    if wrong:
        raise TableError(f"{path} has correct = {wrong[0]}: allowed are 0, 1 and empty (not graded)")
    table = table.assign(**{name: table.get(name, default) for name, default in (("seed", 0), ("split", TEST))})
    known = "domain" in table
    table["domain"] = table["domain"] if known else _domains(table["benchmark"])
    table = table.assign(correct=table["correct"].astype(float)).rename(columns={"problem": "problem_id"})
    parts = [table[table["split"] == split] for split in (TEST, SELECTION)]
    if parts[0].empty:
        there = ", ".join(sorted(map(str, table["split"].unique())))
        raise TableError(
            f"{path} has the splits {there}: rows of the split {TEST} are judged, those of {SELECTION} choose the merge"
        )
    try:
        for part in parts:
            if len(part):
                check_scores(part)
    except ValueError as why:
        raise TableError(f"{path}: {why}") from None
    _check_comparable(parts[0], path, known)
    return parts[0], parts[1] if len(parts[1]) else None


def _load(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise TableError(f"{path} does not exist: a csv or parquet file, or a folder of parquet files, is needed")
    if path.suffix not in (".csv", ".parquet") and not path.is_dir():
        raise TableError(f"{path} is neither .csv nor .parquet, nor a folder of parquet files")
    try:
        if path.is_dir():
            files = sorted(path.glob("*.parquet"))
            if not files:
                raise TableError(f"{path} holds no .parquet file")
            return pd.concat([pd.read_parquet(file) for file in files if not file.stem.endswith("-skills")], ignore_index=True)
        return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as why:
        if isinstance(why, TableError):
            raise
        raise TableError(f"{path} cannot be read: {' '.join(str(why).split())}") from None


def _check_models(names: pd.Series, path: Path | str) -> None:
    for name in pd.unique(names):
        try:
            parse_model_name(str(name)), display_name(name)
        except ValueError:
            raise TableError(
                f"{path} has the unknown model name {str(name)!r}: allowed are base, sft, sft-sharpened, rl-<domain>, rl-multi, "
                f"rl-null, merge-<{'|'.join(METHODS)}>, mt-opd, each with @key=value for a variant"
            ) from None
    if names.nunique() < 2:
        raise TableError(f"{path} has one model only, {names.iloc[0]}: there is nothing to compare it with")


def _domains(benchmarks: pd.Series) -> pd.Series:
    """Domains of the paper's benchmarks; where any is another, every benchmark is a domain of its own."""
    homes = published_tables.scores().drop_duplicates("benchmark").set_index("benchmark")["domain"]
    return benchmarks.map(homes) if benchmarks.isin(homes.index).all() else benchmarks


def _check_comparable(scores: pd.DataFrame, path: Path | str, named: bool) -> None:
    """Refuse experts of no domain in the table (where it names domains), and models that share no problem of a benchmark."""
    domains = sorted(set(scores["domain"]) - {GENERAL})
    for name in pd.unique(scores["model"]) if named else ():
        expert = parse_model_name(name)[0].removeprefix("rl-")
        if name.startswith("rl-") and expert not in (*domains, "multi", "null"):
            raise TableError(
                f"{path} has {name}, an expert of no domain in it: allowed are rl-<{'|'.join(domains)}>, rl-multi, rl-null"
            )
    for benchmark, rows in scores.groupby("benchmark", sort=False):
        problems = rows.groupby("model", sort=False)["problem_id"].agg(set)
        most = problems.map(len).idxmax()
        apart = [name for name, own in problems.items() if not own & problems[most]]
        if apart:
            raise TableError(
                f"{path}: {most} and {apart[0]} have no problem of {benchmark} in common; models are compared on the same ones"
            )


# --- what is printed ------------------------------------------------------------------------------------------------


def judge_scores(test: pd.DataFrame, selection: pd.DataFrame | None, margin: float = MARGIN) -> tuple[str, pd.DataFrame]:
    """The answer to 'mix or merge?' in a sentence, and the ledger, in which all that scores cannot say is not testable."""
    tables = make_score_tables(test, selection, margin)
    return answer(tables), claim_ledger.ledger(claims.list_claims(margin), tables)


def answer(tables: Tables) -> str:
    """RL-Multi against the best merge, as notebook 11 says it."""
    contest = tables["contest"]
    if isinstance(contest, str):
        return f"Not answered: {contest}."
    row = contest.iloc[0]
    return verdict_sentence(row, {row["reference"]: f"the best merge ({row['chosen']})"})


def main(arguments: list[str] | None = None) -> None:
    """The command line: prints the answer and the ledger, or ends with one line that says what is wrong with the table."""
    parser = argparse.ArgumentParser(
        prog="python -m m2rl_lib.cli.judge_scores", description="Mix or merge? Judged from a table of scores."
    )
    parser.add_argument("table", help=f"csv, parquet or folder of parquet: {', '.join(NEEDED)}; seed, domain, split if there are")
    parser.add_argument(
        "--margin", type=float, default=MARGIN, help="points within which models are equivalent (default %(default)g)"
    )
    asked = parser.parse_args(arguments)
    try:
        if not asked.margin > 0:
            raise TableError(f"margin = {asked.margin:g} points: a number above 0 is allowed")
        said, ledger = judge_scores(*read_scores(asked.table), asked.margin)
    except TableError as error:
        sys.exit(str(error))
    print(f"Mix or merge? {said}\n")
    tested = ledger["verdict"] != NOT_TESTABLE
    for _, row in ledger[tested].iterrows():
        print(f"{claim_ledger.claim_sentence(row)}\n    The paper: {row['published']}.")
    print("\nNot testable from this table:" if not tested.all() else "")
    for reason, rows in ledger[~tested].groupby("reason", sort=False):
        print(f"  {', '.join(rows['id'])}: {reason}")


if __name__ == "__main__":
    main()
