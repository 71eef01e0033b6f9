"""The book: a page a notebook and a page of docs/, a first page that answers, nothing outside the folder; read in headless Chromium."""

import html
import json
import re
import shutil
import subprocess
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest

from m2rl_lib.cli import article, build_site
from m2rl_lib.config import locations, study
from m2rl_lib.config.locations import ROOT
from m2rl_lib.storage.result_tables import read_folder

RENDERED = ROOT / "notebooks" / "rendered" / "study"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
STUDY = ROOT / "params" / "study.yaml"
pytestmark = pytest.mark.filterwarnings(
    "ignore::PendingDeprecationWarning", "ignore::DeprecationWarning"
)  # of Sphinx's extensions


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The book of the committed notebooks, as a fresh clone without any run makes it; a warning of Sphinx fails."""
    pytest.importorskip("sphinx_book_theme", reason="the book's builder is not installed here: pip install -r requirements.lock")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locations, "RUNS", tmp_path_factory.mktemp("clone") / "runs")
        return build_site.write_site(study.load(STUDY), "--fail-on-warning").parent


@pytest.fixture
def written(tmp_path, monkeypatch):
    """What Sphinx reads, of the committed notebooks."""
    monkeypatch.setattr(locations, "RUNS", tmp_path / "runs")
    folder = tmp_path / "source"
    folder.mkdir()
    build_site.write_source(study.load(STUDY), folder)
    return folder


def test_every_notebook_and_page_of_docs_is_in_the_book_and_every_link_leads_to_a_place_within(site):
    pages = {path.stem for path in site.glob("*.html")}
    assert {path.stem for path in [*RENDERED.glob("*.ipynb"), *(ROOT / "docs").glob("*.md")]} | {"index", "search"} <= pages
    places = {path.name: {*re.findall(r'\bid="([^"]+)"', path.read_text())} for path in site.glob("*.html")}
    for name in places:
        for pair in re.findall(r"""\s(?:href|src)=["']([^"']*)["']|url\(([^)]*)\)""", (site / name).read_text()):
            address, _, place = unquote("".join(pair)).partition("#")
            address = address.split("?")[0]
            assert address.startswith("data:") or not address or (site / address).is_file(), f"{name} leads to {address}"
            assert not place or place in places[address or name], f"{name} leads to no place #{place} in {address}"
    for path in site.rglob("*.css"):
        assert not re.search(r"""(@import|url\()\s*["']?(https?:|//)""", path.read_text()), path.name
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < 12e6


def test_every_page_says_what_made_it_folded_at_its_end(site):
    for path in [site / "index.html", *(site / f"{path.stem}.html" for path in RENDERED.glob("*.ipynb"))]:
        fold = re.search(r'<details class="facts">.*?</details>', path.read_text(), re.DOTALL)[0]
        for name in ("date", "seeds", "commit", "device", "versions", "run time"):
            assert re.search(rf"<td>{name}</td><td>[^<]*\d", fold) and "not recorded" not in fold, f"{path.name}: {name}"
        assert "<td>seed</td><td>0</td>" in fold, f"{path.name}: parameters"
        assert ": done, 20" not in path.read_text().replace(fold, ""), f"{path.name} says so twice"


def test_the_first_page_answers_every_question_and_leads_to_its_notebook(written):
    index = (written / "index.md").read_text()
    cards = index[index.index("## The answers") : index.index("## The study")]
    ledger = read_folder(ROOT / "figures" / "study" / "tables", "claims").query("role == 'primary'").set_index("question")
    for path in sorted(RENDERED.glob("1[1-9]_*.ipynb")):
        page, number = build_site.read_page(path), re.search(r"RQ\d", build_site.read_page(path).title)[0]
        assert page.answers, f"{path.name} has no output of a cell tagged headline"
        card = cards[cards.index(f"**[{number}: ") :].split("\n:::::\n")[0]
        section = index[index.index(f"\n## {number}: ") :].split("\n## ")[1]
        assert (
            f"]({path.name})" in card and f"**{ledger.loc[number, 'verdict'].capitalize()}**" in card and "No answer" not in card
        )
        assert page.question in section and f"]({path.name})" in section and "What limits it" in section
    assert "16_when_to_mix_or_merge.ipynb" in cards or "make study PARAMS=params/map.yaml" in cards
    assert all((written / name).is_file() for name in re.findall(r"{(?:figure|image)} (\S+)", index))
    assert "study.svg" in index and "](glossary.md)" in index


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("1[1-9]_*.ipynb")), ids=lambda path: path.stem)
def test_every_analysis_has_a_headline(path):
    assert any("headline" in cell.metadata.get("tags", []) for cell in nbformat.read(path, 4).cells)


def test_the_figure_of_an_answer_is_that_of_its_section(tmp_path):
    picture = [nbformat.v4.new_output("display_data", {"image/png": "aGVsbG8="})]
    new, tagged = nbformat.v4, {"tags": ["headline"]}
    cells = [new.new_markdown_cell("# 11"), new.new_markdown_cell("## Answer"), new.new_code_cell("1", metadata=tagged)]
    cells += [new.new_code_cell("2", outputs=picture), new.new_markdown_cell("## Details"), new.new_code_cell("3")]
    section = article.section_of_headline(cells)
    assert section == cells[1:4] and article.section_of_headline(cells[:2]) == []
    found = article.save_figure(section, tmp_path / "a.png")
    assert (found.name, found.width) == ("a.png", "") and (tmp_path / "a.png").read_bytes() == b"hello"
    assert article.save_figure(cells[4:], tmp_path / "b.png") is None


def test_code_that_shows_nothing_is_folded_with_the_next():
    new = nbformat.v4
    shown = new.new_code_cell("3", outputs=[new.new_output("stream", text="a")], metadata={"tags": ["headline"]})
    joined = build_site.join_code(
        [new.new_code_cell("1"), new.new_code_cell("2"), shown, new.new_code_cell("4"), new.new_markdown_cell("5")]
    )
    assert [cell.source for cell in joined] == ["1\n\n2\n\n3", "4", "5"] and joined[0].metadata["tags"] == ["headline"]


@pytest.mark.parametrize("text", ["## What would change this answer\n\nMore.", "**What would change this answer.** More.\n\nno"])
def test_what_would_change_an_answer_is_found(text):
    assert article.CHANGE.findall(f"a\n\n{text}\n\nb") == [("What would change this answer", "More.")]


def test_caveats_are_read_off_the_scores():
    p = study.load(STUDY)
    means = {"sft": (20, 50), "sft-sharpened": (30, 50), "rl-null": (18, 40), "rl-math": (40, 6), "rl-multi": (60, 55)}
    rows = [(name, over, value) for name, values in means.items() for over, value in zip(("overall", "programs"), values)]
    scores = pd.DataFrame(rows, columns=["model", "over", "value"]).assign(score="T=1", seed=0)
    found = article.caveats(p, scores)
    assert found["RQ1"][0].endswith("scores 30.0 points; RL-Multi, the best trained model, 60.0.")
    assert "(RL-Null) scores 18.0, SFT 20.0" in found["RQ1"][1]
    assert "moved by -10.0 points on programs" in found["RQ1"][2]
    assert found["RQ2"] == ["A mean hides falls: the largest is that of RL-Math on programs, from 50.0 to 6.0 points."]
    assert article.caveats(p, pd.DataFrame()) == {}
    assert article.caveats(p, scores.assign(value=float("nan"))) == {"RQ1": []}


def test_a_stage_that_is_missing_or_unfinished_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(locations, "RUNS", tmp_path)
    with pytest.raises(FileNotFoundError, match="make study PARAMS=params/smoke.yaml"):
        build_site.write_source(study.load(ROOT / "params" / "smoke.yaml"), tmp_path)
    folder, source = tmp_path / "study" / "notebooks" / "seed-0", tmp_path / "source"
    folder.mkdir(parents=True), source.mkdir()
    for name in ("02_sft", "11_rq1_mix_or_merge", "03_rlvr_single_domain-rl-math"):
        shutil.copy(RENDERED / f"{name}.ipynb", folder)
    killed = nbformat.read(folder / "02_sft.ipynb", 4)
    killed.cells[-1].outputs = []
    nbformat.write(killed, folder / "02_sft.ipynb")
    build_site.write_source(study.load(STUDY), source)
    missing = re.search(r":::{warning}\n.*?makes them\): (.*)\.\n", (source / "index.md").read_text())[1].split(", ")
    assert {"02_sft", "which did not reach its end", "03_rlvr_single_domain-rl-coding"} < {*missing}
    assert {"04_rlvr_mixed", "07_evaluation-sweeps", "14_rq4_merging_methods"} < {*missing}
    assert not {"11_rq1_mix_or_merge", "03_rlvr_single_domain-rl-math"} & {*missing}
    assert "not recorded" in (source / "02_sft.ipynb").read_text()


def test_links_lead_into_the_book_or_nowhere():
    text = (
        "see [RQ2](../a/12_rq2.ipynb#b), [`x[i](y)`](no.md), `a[i](12_rq2.md)`, <https://e.org>, [here](#b), [it](https://e.org)"
    )
    made = build_site.link(text, {"12_rq2": "12_rq2.ipynb"})
    assert made == "see [RQ2](12_rq2.ipynb), `x[i](y)`, `a[i](12_rq2.md)`, https://e.org, [here](#b), it"


def test_what_may_run_or_fetch_is_taken_out_of_an_output(tmp_path):
    table = {"text/html": "<script src='x'></script><style>y</style><table></table>", "application/javascript": "z"}
    cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("display_data", table)])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "book.ipynb")
    made = build_site.show_notebook(build_site.read_page(tmp_path / "book.ipynb"), {}).cells[0]
    assert made.outputs[0].data == {"text/html": "<table></table>"} and "hide-input" in made.metadata["tags"]


FRAMES = """<title></title><body><script>
const found = {}, pages = PAGES
const next = () => {
  const page = pages.pop()
  if (!page) return document.title = JSON.stringify(found)
  const frame = document.createElement("iframe")
  Object.assign(frame, {width: 390, height: 844, src: page, onload: async () => {
    const shown = frame.contentDocument
    const broken = [...shown.images].filter(image => !image.complete || !image.naturalWidth).length
    const fetched = frame.contentWindow.performance.getEntriesByType("resource").map(entry => entry.name)
    const outside = fetched.filter(name => !/^(file|data|blob):/.test(name)).length
    const phone = shown.documentElement.scrollWidth
    frame.width = 1280
    const laptop = shown.documentElement.scrollWidth
    const figure = shown.querySelector("article img")
    figure?.click()
    const zoomed = !figure || shown.querySelector("#zoom[open] img") !== null
    if (page.includes("?q=")) await new Promise(done => setTimeout(done, 3000))
    const hits = shown.querySelectorAll("#search-results li a").length
    found[page] = {phone, laptop, text: shown.body.innerText.length, broken, outside, zoomed, hits}
    frame.remove()
    next()
  }})
  document.body.append(frame)
}
next()
</script>"""  # every page in a frame as wide as a phone, then as wide as a laptop


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
def test_pages_read_well_on_a_phone_and_a_laptop(site, tmp_path):
    pages = [f"{path.as_uri()}{'?q=seesaw' * (path.stem == 'search')}" for path in site.glob("*.html")]
    (tmp_path / "frames.html").write_text(FRAMES.replace("PAGES", json.dumps(pages)))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--enable-logging=stderr"]
    options.append(f"--user-data-dir={tmp_path}/chromium")
    command = [CHROMIUM, *options, "--virtual-time-budget=120000", "--dump-dom", (tmp_path / "frames.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "[PST]" not in line]
    assert not complaints, complaints[:5]
    found = json.loads(html.unescape(re.search("<title>(.*?)</title>", done.stdout)[1]))
    assert set(found) == set(pages)
    for page, seen in found.items():
        assert seen["phone"] <= 390 and seen["laptop"] <= 1280 and seen["text"] > 100, page
        assert not seen["broken"] and not seen["outside"] and seen["zoomed"], page
        assert "?q=" not in page or seen["hits"] >= 2, "search finds nothing from disk"


def test_a_map_has_a_page_for_each_stage_of_each_world():
    stems = build_site.expected(study.load(ROOT / "params" / "smoke_map.yaml"))
    assert {"01_data_and_verifiers", "02_sft", "16_when_to_mix_or_merge"} == {stem for stem in stems if "-s" not in stem}
    assert {"06_mt_opd-s6p0c0-mt-opd@teacher_step=2", "07_evaluation-s0p0c6-evaluate-map"} < {*stems}
    assert len(stems) == len({*stems}) == 3 + 2 * 8
    assert "16_when_to_mix_or_merge" not in build_site.expected(study.load(STUDY))
