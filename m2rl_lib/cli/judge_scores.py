"""`python -m m2rl_lib.cli.judge_scores TABLE`: mix or merge, and the paper's findings, judged from anyone's table of scores.

TABLE is a csv or parquet file, or a folder of parquet files, one row per sample: model, benchmark, problem, sample, correct (0 or
1, True or False, empty where it could not be graded), and where there are: seed, domain, split ('selection' rows choose the best
merge, 'test' rows are judged). Names are texts: problem 007 is not 7, and NA is a name."""

import argparse
import re
import sys
import warnings
from pathlib import Path

import pandas as pd

from m2rl_lib.config.model_names import parse_model_name
from m2rl_lib.paper import claim_ledger, claims, published_tables
from m2rl_lib.paper.claim_ledger import NOT_TESTABLE
from m2rl_lib.paper.score_tables import Tables, make_score_tables
from m2rl_lib.stats.comparisons import FEWEST, MARGIN, METHODS, display_name, verdict_sentence
from m2rl_lib.stats.graded_samples import CELL, MOST_UNGRADED, UNTRAINED, check_scores

NEEDED = ["model", "benchmark", "problem", "sample", "correct"]
OPTIONAL = ["seed", "domain", "split"]
GRADES = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0} | dict.fromkeys(("", "na", "nan", "null", "none", "<na>"), float("nan"))
SEPARATORS = ",;\t|"
TEST, SELECTION = "test", "selection"


class TableError(ValueError):
    """A table that cannot be judged; the message is one line."""


def read_scores(path: Path | str) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The test and the selection rows (None without any) of a table of scores, in the columns of our `scores` tables.
    TableError in one line, naming the file, for a table that cannot be judged."""
    try:
        return _read(Path(path))
    except ValueError as why:
        raise TableError(f"{path} {why}" if isinstance(why, TableError) else f"{path}: {why}") from None


def _read(path: Path) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    table = _load(path)
    table.columns = [str(name).strip() for name in table.columns]
    if "problem" in table and "problem_id" in table:
        raise TableError("has both problem and problem_id: one of them is needed")
    table = table.rename(columns={"problem_id": "problem"})
    there = [name for name in (*NEEDED, *OPTIONAL) if name in table]
    if twice := [name for name in there if f"{name}.1" in table or list(table.columns).count(name) > 1]:
        raise TableError(f"has the column {twice[0]} twice: one of them is needed")
    if lacking := [name for name in NEEDED if name not in there]:
        raise TableError(f"lacks {', '.join(lacking)}: needed are {', '.join(NEEDED)}; {', '.join(OPTIONAL)} if there are")
    if table.empty:
        raise TableError("has no rows: one row per sample is needed")
    table = table[there].apply(lambda column: column if column.name == "correct" else _texts(column))
    _check_models(table["model"])
    table["correct"] = _grades(table["correct"])
    if "seed" in table and table["seed"].str.fullmatch("[0-9]{1,9}").all():
        table["seed"] = table["seed"].astype(int)
    domains = table.get("domain", _domains(table["benchmark"]))
    whole = table.assign(seed=table.get("seed", 0), split=table.get("split", TEST), domain=domains)
    whole = whole.rename(columns={"problem": "problem_id"})
    test, selection = (whole[whole["split"] == split] for split in (TEST, SELECTION))
    if test.empty:
        splits = ", ".join(sorted(map(str, whole["split"].unique())))
        raise TableError(f"has the splits {splits}: rows of the split {TEST} are judged, those of {SELECTION} choose the merge")
    for rows in (test, selection) if len(selection) else (test,):
        check_scores(rows)
    _check_comparable(test, "domain" in table)
    return test, selection if len(selection) else None


def _load(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise TableError("does not exist: a csv or parquet file, or a folder of parquet files, is needed")
    if path.suffix not in (".csv", ".parquet") and not path.is_dir():
        raise TableError("is neither .csv nor .parquet, nor a folder of parquet files")
    files = [path]
    if path.is_dir():  # a study's: what is sampled for the gain vectors are no scores
        files = [file for file in sorted(path.glob("*.parquet")) if not file.stem.endswith("-skills")]
    if not files:
        raise TableError("holds no .parquet file of scores")
    read = _read_csv if path.suffix == ".csv" and path.is_file() else pd.read_parquet
    try:
        return pd.concat(map(read, files), ignore_index=True)
    except (OSError, ValueError, pd.errors.ParserWarning) as why:
        raise TableError(f"cannot be read: {' '.join(str(why).split())}") from None


def _read_csv(path: Path) -> pd.DataFrame:
    """A csv file as texts, whichever of SEPARATORS its header has most of; ValueError where it cannot be read."""
    with path.open(encoding="utf-8-sig") as file:
        separator = max(SEPARATORS, key=file.readline().count)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # more values than columns
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)


def _texts(column: pd.Series) -> pd.Series:
    """Names as texts, whole numbers without a point; missing where empty."""

    def text(value: object) -> str | None:
        if isinstance(value, list | dict | set | tuple) or hasattr(value, "tolist") and getattr(value, "ndim", 0):
            raise TableError(f"has a {type(value).__name__} in column {column.name}: each cell holds one name or number")
        if pd.isna(value) or value == "":
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

    return column.map(text).astype(object)


def _grades(column: pd.Series) -> pd.Series:
    """`correct` as 1.0, 0.0 and NaN."""
    texts = _texts(column).fillna("").str.strip()
    found = texts.str.lower().str.replace(r"^([01])\.0+$", r"\1", regex=True)
    wrong = texts[~found.isin(GRADES)]
    if len(wrong):
        hint = "; a row is a sample, not a percentage" if re.fullmatch(r"[0-9.]+ *%|100(\.0+)?", wrong.iloc[0]) else ""
        raise TableError(f"has correct = {wrong.iloc[0]}: allowed are 0, 1 and empty (not graded){hint}")
    return found.map(GRADES).astype(float)


def _check_models(names: pd.Series) -> None:
    for name in pd.unique(names):
        if pd.isna(name):
            raise TableError("has rows without model: every row needs one")
        try:
            parse_model_name(name), display_name(name)
        except ValueError:
            allowed = f"base, sft, sft-sharpened, rl-<domain>, rl-multi, rl-null, merge-<{'|'.join(METHODS)}>, mt-opd, cascade"
            allowed += ", each with @key=value for a variant"
            raise TableError(f"has the unknown model name {name!r}: allowed are {allowed}") from None
    if names.nunique() < 2:
        raise TableError(f"has one model only, {names.iloc[0]}: there is nothing to compare it with")


def _domains(benchmarks: pd.Series) -> pd.Series:
    """Domains of the paper's benchmarks; where any is another, every benchmark is a domain of its own."""
    homes = benchmarks.map(published_tables.scores().drop_duplicates("benchmark").set_index("benchmark")["domain"])
    return homes if homes.notna().all() else benchmarks


def _check_comparable(scores: pd.DataFrame, named: bool) -> None:
    """Refuse experts of no domain in the table (where domains are `named`), models without a common problem, uneven samples."""
    domains = sorted({*scores["domain"].unique()} - {*UNTRAINED})
    for name in pd.unique(scores["model"]) if named else ():
        expert = parse_model_name(name)[0].removeprefix("rl-")
        if name.startswith("rl-") and expert not in (*domains, "multi", "null"):
            allowed = f"rl-<{'|'.join(domains)}>, rl-multi, rl-null"
            raise TableError(f"has {name}, an expert of no domain in it: allowed are {allowed}")
    for benchmark, rows in scores.groupby("benchmark", sort=False):
        problems = rows.groupby("model", sort=False)["problem_id"].agg(set)
        most = problems.map(len).idxmax()
        if other := [name for name, own in problems.items() if own.isdisjoint(problems[most])]:
            none = f"{most} and {other[0]} have no problem of {benchmark} in common"
            raise ValueError(f"{none}; models are compared on the same ones")
    counts = scores.groupby([*CELL, "problem_id"], sort=False).size()
    fewer = counts < counts.groupby(level=CELL, sort=False).transform("max")
    uneven = fewer.groupby(level=CELL, sort=False).mean()
    for seed, model, benchmark in uneven.index[uneven > MOST_UNGRADED]:
        sizes = counts[seed, model, benchmark]
        found = f"{model} (seed {seed}) has {sizes.min()} to {sizes.max()} samples of a problem of {benchmark}"
        raise ValueError(f"{found}: as many of each are needed, with an empty correct where one could not be graded")


def judge_scores(test: pd.DataFrame, selection: pd.DataFrame | None, margin: float = MARGIN) -> tuple[str, pd.DataFrame]:
    """The answer to 'mix or merge?' in a sentence, and the ledger."""
    tables = make_score_tables(test, selection, margin)
    return answer(tables), claim_ledger.ledger(claims.list_claims(margin), tables)


def answer(tables: Tables) -> str:
    """RL-Multi against the best merge, as notebook 11 says it."""
    contest = tables["contest"]
    if isinstance(contest, str):
        return f"Not answered: {contest}."
    row = contest.iloc[0]
    if row["verdict"] == "undecided" and row["n"] < FEWEST:
        few = f"{row['n']} problem{'s are' if row['n'] > 1 else ' is'} too few, exact p = {row['p']:.2g}"
        return f"Not answered: {few} (difference {row['estimate']:+.1f} points; below {FEWEST} problems the exact test decides)."
    return verdict_sentence(row, {row["reference"]: f"the best merge ({row['chosen']})"})


def main(arguments: list[str] | None = None) -> None:
    """The command line: prints the answer and the ledger, or ends with one line that says what is wrong with the table."""
    parser = argparse.ArgumentParser("python -m m2rl_lib.cli.judge_scores", description="Mix or merge, judged from scores.")
    parser.add_argument("table", help=f"csv, parquet or folder of parquet: {', '.join(NEEDED)}; seed, domain, split if there are")
    parser.add_argument("--margin", type=float, default=MARGIN, help="points within which models are equivalent (%(default)g)")
    asked = parser.parse_args(arguments)
    try:
        if not 0 < asked.margin <= 100:
            raise TableError(f"margin = {asked.margin:g} points: a number above 0 and up to 100 is allowed")
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
