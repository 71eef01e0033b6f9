"""README and docs/: commands that exist, links that lead somewhere, and the numbers of the committed study."""

import importlib.util
import re
import runpy

import pytest

from m2rl_lib.config.locations import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text()
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


def test_results_are_what_the_committed_tables_say():
    for file, write in runpy.run_path(str(ROOT / "dev" / "results.py"))["WRITTEN"].items():
        assert file.read_text() == write(file.read_text()), "run python dev/results.py"


def test_pages_of_measurements_quote_their_reports():
    faults, resumed = (ROOT / "dev" / "FAULTS.md").read_text(), (ROOT / "docs" / "reliability.md").read_text()
    survived = re.search(r"## (\d+) kills at random moments: (\d+) survived, (\d+) of (\d+)", faults)
    assert f"{survived[2]} of {survived[1]} `kill -9`" in resumed and f"{survived[3]} of {survived[4]} models" in resumed
    noticed = re.search(r"Other faults: (\d+) injected, (\d+) noticed", faults)
    assert f"{noticed[2]} of {noticed[1]} other faults noticed" in resumed
    equal = re.search(r"models, byte for byte \| (\d+ of \d+) \|", (ROOT / "dev" / "SLURM.md").read_text())[1]
    assert f"{equal} models byte for byte" in (ROOT / "docs" / "scaling.md").read_text()
    ways, adapters, guide = ((ROOT / name).read_text() for name in ("dev/WAYS.md", "dev/LORA.md", "docs/guide.md"))
    share = re.search(r"adapters have (\d+%) of the full experts' gain", adapters)[1]
    assert f"adapters have {share} of the full experts' gain" in guide
    cells = [
        row.split("|") for row in (ways + adapters).splitlines() if re.match(r"\| (Casc|MT-O|RL-Multi \(|\w+ merge \(LoRA)", row)
    ]
    measured = [cell[4].strip().replace("-", "−").replace(", ", " and ") for cell in cells if len(cell) == 8]
    measured += [cell[5].strip().replace("-", "−").replace(", ", " and ") for cell in cells if "LoRA" in cell[1]]
    quoted = re.findall(r"[+−]\d+\.\d and [+−]\d+\.\d", guide)
    assert len(quoted) >= 8 and {*quoted} <= {*measured}, {*quoted} - {*measured}
    results, speed = (ROOT / "dev" / "RESULTS.md").read_text(), (ROOT / "docs" / "benchmarks.md").read_text()
    for domain in ("math", "coding"):
        faster = re.search(rf"\| {domain} \| ours \|.*\| ([\d.]+) \|", results)[1]
        assert f"an RLVR step, {domain} | {faster} times as fast as bare TRL's" in speed
