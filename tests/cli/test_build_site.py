"""The site: a page a notebook, an index that says what is missing, nothing outside the folder; read in headless Chromium."""

import html
import json
import re
import shutil
import subprocess
from urllib.parse import unquote

import nbformat
import pytest
from nbconvert.filters import markdown2html

from m2rl_lib.cli import build_site
from m2rl_lib.config import locations, study
from m2rl_lib.config.locations import ROOT

RENDERED = ROOT / "notebooks" / "rendered" / "study"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site of the committed notebooks, as a fresh clone without any run makes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locations, "RUNS", tmp_path_factory.mktemp("clone") / "runs")
        return build_site.write_site(study.load(ROOT / "params" / "study.yaml")).parent


def test_every_notebook_has_a_page_and_every_link_leads_to_one_within_the_folder(site):
    assert {path.stem for path in RENDERED.glob("*.ipynb")} | {"index"} == {path.stem for path in site.glob("*.html")}
    for path in site.iterdir():
        assert not re.search(r"https?://|<script|@import", path.read_text()), path.name
        for pair in re.findall(r"""(?:href|src)=["']([^"']*)["']|url\(([^)]*)\)""", path.read_text()):
            address = "".join(pair)
            assert address.startswith("data:") or (site / unquote(address)).is_file(), f"{path.name} leads to {address}"


def test_every_page_says_what_made_it(site):
    for path in site.glob("*.html"):
        text = path.read_text()
        for name in ("date", "seeds", "commit", "device", "versions", "run time"):
            assert re.search(rf"<td>{name}</td><td>[^<]*\d", text) and "not recorded" not in text, f"{path.name}: {name}"
        assert "<td>seed</td><td>0</td>" in text, f"{path.name}: parameters"


def test_the_index_leads_from_question_to_answer(site):
    index = (site / "index.html").read_text()
    for path in sorted(RENDERED.glob("1[1-9]_*.ipynb")):
        page = build_site.read_page(path)
        assert page.answers, f"{path.name} has no output of a cell tagged headline"
        card = index[index.index(f'<h3><a href="{page.address}">') :].split("</section>")[0]
        for text in (page.question, *page.answers):
            assert markdown2html(build_site.link(text, {})) in card


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("1[1-9]_*.ipynb")), ids=lambda path: path.stem)
def test_every_analysis_has_a_headline(path):
    assert any("headline" in cell.metadata.get("tags", []) for cell in nbformat.read(path, 4).cells)


def test_a_stage_that_is_missing_or_unfinished_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(locations, "RUNS", tmp_path)
    with pytest.raises(FileNotFoundError, match="make study PARAMS=params/smoke.yaml"):
        build_site.write_site(study.load(ROOT / "params" / "smoke.yaml"))
    folder = tmp_path / "study" / "notebooks" / "seed-0"
    folder.mkdir(parents=True)
    for name in ("02_sft", "11_rq1_mix_or_merge", "03_rlvr_single_domain-rl-math"):
        shutil.copy(RENDERED / f"{name}.ipynb", folder)
    killed = nbformat.read(folder / "02_sft.ipynb", 4)
    killed.cells[-1].outputs = []
    nbformat.write(killed, folder / "02_sft.ipynb")
    index = build_site.write_site(study.load(ROOT / "params" / "study.yaml")).read_text()
    missing = re.findall(r"<li>([^<]*)</li>", index[index.index(">Missing<") :].split("</ul>")[0])
    assert "02_sft, which did not reach its end" in missing and "03_rlvr_single_domain-rl-coding" in missing
    assert {"04_rlvr_mixed", "07_evaluation-sweeps", "14_rq4_merging_methods"} < set(missing)
    assert not {"11_rq1_mix_or_merge", "03_rlvr_single_domain-rl-math", "02_sft"} & set(missing)
    assert "not recorded" in (tmp_path / "study" / "site" / "02_sft.html").read_text()


def test_links_lead_to_pages_or_nowhere():
    text = "see [RQ2](12_rq2.ipynb#b) and [the paper](https://arxiv.org/abs/2602.12566)"
    assert build_site.link(text, {"12_rq2": "12_rq2.html"}) == "see [RQ2](12_rq2.html) and the paper"


def test_what_may_run_or_fetch_is_taken_out_of_an_output(tmp_path):
    table = {"text/html": "<script src='x'></script><style>y</style><table></table>", "text/plain": "poor"}
    cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("display_data", table)])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "book.ipynb")
    made = build_site.cells_to_html(build_site.read_page(tmp_path / "book.ipynb"), {})
    assert "<table></table>" in made and not re.search("<script|<style|poor", made)


FRAMES = """<title></title><body><script>
const found = {}
for (const page of PAGES) {
  const frame = document.createElement("iframe")
  Object.assign(frame, {width: 390, height: 844, src: page, onload: () => {
    const shown = frame.contentDocument
    const broken = [...shown.images].filter(image => !image.complete || !image.naturalWidth).length
    found[page] = [shown.documentElement.scrollWidth, shown.body.innerText.length, broken]
    document.title = JSON.stringify(found)
  }})
  document.body.append(frame)
}
</script>"""  # every page in a frame as wide as a phone


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
def test_pages_read_well_on_a_phone(site, tmp_path):
    pages = [path.as_uri() for path in site.glob("*.html")]
    (tmp_path / "frames.html").write_text(FRAMES.replace("PAGES", json.dumps(pages)))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    options.append(f"--user-data-dir={tmp_path}/chromium")
    command = [CHROMIUM, *options, "--virtual-time-budget=60000", "--dump-dom", (tmp_path / "frames.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    found = json.loads(html.unescape(re.search("<title>(.*?)</title>", done.stdout)[1]))
    assert set(found) == set(pages)
    for page, (width, text, broken) in found.items():
        assert width <= 390 and text > 100 and broken == 0, page


def test_a_map_has_a_page_for_each_stage_of_each_world():
    stems = build_site.expected(study.load(ROOT / "params" / "smoke_map.yaml"))
    assert {"01_data_and_verifiers", "02_sft", "16_when_to_mix_or_merge"} == {stem for stem in stems if "-s" not in stem}
    assert {"06_mt_opd-s6p0c0-mt-opd@teacher_step=2", "07_evaluation-s0p0c6-evaluate-map"} < {*stems}
    assert len(stems) == len({*stems}) == 3 + 2 * 8
    assert "16_when_to_mix_or_merge" not in build_site.expected(study.load(ROOT / "params" / "study.yaml"))
