"""README and docs/: commands that exist, links that lead somewhere, and the numbers of the committed study."""

import importlib.util
import re
import runpy

import pandas as pd
import pytest

from m2rl_lib.config.locations import ROOT
from m2rl_lib.stats.comparisons import display_name

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STUDY = ROOT / "figures" / "study"
TABLES = STUDY / "tables"
README = (ROOT / "README.md").read_text()
README_TEXT, STATISTICS = (" ".join(text.split()) for text in (README, (ROOT / "docs" / "statistics.md").read_text()))
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def test_readme_is_short():
    assert len(README.splitlines()) <= 120


@each_page
def test_commands_exist(page):
    text = page.read_text()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text, re.MULTILINE):
        assert target in targets, f"{page.name}: no make target {target}"
    for module in re.findall(r"-m (m2rl_lib[\w.]+)", text):
        assert importlib.util.find_spec(module), f"{page.name}: no module {module}"
    for path in re.findall(r"(?<![\w/.])((?:notebooks|params|profiles|dev|tests|m2rl_lib)/[\w/.-]+\.(?:ipynb|yaml|py|md))", text):
        if not path.endswith("reversal.py"):
            assert (ROOT / path).is_file(), f"{page.name}: no file {path}"


@each_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: broken link {target}"


def test_every_page_and_notebook_is_in_the_readme():
    for path in [*(ROOT / "docs").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]:
        assert f"({path.relative_to(ROOT)})" in README, f"README.md does not link {path.name}"


def test_layout_is_what_the_modules_say():
    made = runpy.run_path(str(ROOT / "dev" / "tree.py"))
    assert made["PAGE"].read_text() == made["page"](), "run python dev/tree.py"


def test_readme_quotes_the_headline_table():
    overall = pd.read_csv(STUDY / "overall.csv").set_index("model")
    domains = pd.read_csv(STUDY / "benchmark_scores.csv").groupby(["model", "domain"])["score"].mean().unstack()
    columns = ["math", "coding", "science", "instruction_following", "agent", "general"]
    rows = {name: values for line in README.splitlines() for name, *values in [line.strip("| ").split(" | ")] if len(values) == 9}
    for model, found in overall.iterrows():
        name = "SFT at its best temperature" if model == "sft-sharpened" else display_name(model)
        values = next(rows.pop(row) for row in list(rows) if row.split(" (")[0] == name)
        assert values[1] == f"{found['low']:.1f}–{found['high']:.1f}"
        numbers = [found["score"], found["seed_sd"], *domains.loc[model, columns]]
        assert [values[0], *values[2:]] == [f"{number:.1f}" for number in numbers], name
    assert list(rows)[0] == "model" and len(rows) <= 2  # the head of the table


def table(name: str, file: str) -> pd.DataFrame:
    return pd.read_parquet(TABLES / name / f"{file}.parquet")


def quoted(row, digits=1, sign=False) -> tuple[str, str]:
    """('3.7', '[1.1, 6.2]') of a row's estimate and its interval, as a page writes them."""
    estimate = row["estimate"] if "estimate" in row else row["change"]
    value, low, high = (f"{number:.{digits}f}".replace("-", "−") for number in (estimate, row["low"], row["high"]))
    return f"{'+' if sign and not value.startswith('−') else ''}{value}", f"[{low}, {high}]"


def assert_quoted(text: str, value: str, interval: str):
    assert re.search(rf"{re.escape(value)}(?: points)? {re.escape(interval)}", text), f"{value} {interval} is not quoted"


def test_rq1_is_quoted():
    for place, row in table("rq1", "0-rq1").iterrows():
        assert_quoted(STATISTICS, *quoted(row))
        if place < 2:
            assert_quoted(README_TEXT, *quoted(row))


def test_rq2_is_quoted():
    cells = table("transfer", "0-rq2").query("role == 'off-diagonal'")
    assert cells["label"].value_counts().to_dict() == {"undecided": 19, "synergy": 1}
    synergy = cells[cells["label"] == "synergy"].iloc[0]
    for text in (STATISTICS, README_TEXT):
        assert_quoted(text, *quoted(synergy, sign=True))
    claims = table("rq2", "0-rq2").set_index("claim")
    assert_quoted(STATISTICS, *quoted(claims.loc["Reasoning domains help each other"]))
    assert_quoted(STATISTICS, *quoted(claims.loc["Instruction following helps reasoning"]))


def test_rq3_is_quoted():
    summary = table("weights_summary", "0-rq3")
    overlap, cosine = summary.query("kind == 'density' and level == 0.1").iloc[0], summary.query("kind == 'cosine'").iloc[0]
    over = overlap[["mean", "least", "most", "matched", "with_null", "other_seed"]]
    for value in [*over, *cosine[["mean", "with_null", "other_seed"]]]:
        assert f"{value:.3f}" in STATISTICS, value


def test_rq4_is_quoted():
    names = {"rl-multi": "RL-Multi reaches", "merge-ties": "TIES", "mt-opd": "MT-OPD", "merge-average": "Average"}
    for model, name in names.items():
        row = table("recovery", "0-rq4").set_index("model").loc[model]
        value, low, high = (f"{100 * row[key]:.0f}" for key in ("recovery", "low", "high"))
        assert f"{name} {value}% [{low}, {high}]" in STATISTICS
    seesaw = table("seesaw", "0-rq4").iloc[2]
    assert f"would gain {seesaw['observed']:.1f} points" in STATISTICS
    assert f"give {seesaw['expected']:.1f} [{seesaw['low']:.1f}, {seesaw['high']:.1f}] by luck" in STATISTICS


def test_rq5_is_quoted():
    measured = table("judging_measures", "0-rq5").query("set == 'shared' and judge == 'sft' and measure == 'accuracy'")
    sure = measured[measured["low"] > 50]["domain"].nunique()
    assert sure == measured["domain"].nunique(), "in at least one mode, SFT judges above chance in every domain"
    measured = measured.set_index(["domain", "mode"]).sort_index()
    for domain, mode in (("math", "outcome"), ("coding", "outcome"), ("agent", "outcome"), ("science", "process")):
        assert_quoted(STATISTICS, *quoted(measured.loc[(domain, mode)], digits=0))
    assert_quoted(STATISTICS, *quoted(measured.loc[("instruction_following", "process")]))


MAP = ROOT / "figures" / "map" / "tables" / "map_decisions"


@pytest.mark.skipif(not MAP.is_dir(), reason="no run of the map is committed")
def test_the_guide_quotes_the_decision_table():
    advice, guide = pd.read_parquet(next(MAP.glob("*.parquet"))), (ROOT / "docs" / "guide.md").read_text()
    for row in advice.itertuples():
        value, interval = quoted(row._asdict(), sign=True)
        cells = (row[1], f"{100 * row.conflict:.0f}%", row.world, f"{100 * row.budget:.0f}%", row.use, f"{value} {interval}")
        assert f"| {' | '.join(cells)} |" in guide, cells


def test_counts_of_the_ledger_are_quoted():
    counts = table("claims", "0-claims")["verdict"].value_counts()
    said = "{supported} are supported here, {contradicted} is contradicted, {undecided} are undecided".format(**counts)
    assert said in README_TEXT and f"{counts.sum()} findings" in README


def test_no_trained_model_reaches_sft_at_its_best_temperature_but_rl_if_in_its_domain():
    domains = pd.read_csv(STUDY / "benchmark_scores.csv").groupby(["domain", "model"])["score"].mean().unstack()
    trained = domains.drop(index="general").drop(columns=["sft", "sft-sharpened"])
    reached = trained.ge(domains["sft-sharpened"].drop("general"), axis=0).stack()
    assert list(reached[reached].index) == [("instruction_following", "rl-instruction_following")]


def test_pages_of_measurements_quote_their_reports():
    faults, resumed = (ROOT / "dev" / "FAULTS.md").read_text(), (ROOT / "docs" / "reliability.md").read_text()
    survived = re.search(r"## (\d+) kills at random moments: (\d+) survived, (\d+) of (\d+)", faults)
    assert f"{survived[2]} of {survived[1]} `kill -9`" in resumed and f"{survived[3]} of {survived[4]} models" in resumed
    noticed = re.search(r"Other faults: (\d+) injected, (\d+) noticed", faults)
    assert f"{noticed[2]} of {noticed[1]} other faults noticed" in resumed
    equal = re.search(r"models, byte for byte \| (\d+ of \d+) \|", (ROOT / "dev" / "SLURM.md").read_text())[1]
    assert f"{equal} models byte for byte" in (ROOT / "docs" / "scaling.md").read_text()
    results, speed = (ROOT / "dev" / "RESULTS.md").read_text(), (ROOT / "docs" / "benchmarks.md").read_text()
    for domain in ("math", "coding"):
        faster = re.search(rf"\| {domain} \| ours \|.*\| ([\d.]+) \|", results)[1]
        assert f"an RLVR step, {domain} | {faster} times as fast as bare TRL's" in speed
