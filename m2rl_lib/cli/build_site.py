"""A study to be read: `make site`, or `python -m m2rl_lib.cli.build_site params/study.yaml`, writes its executed notebooks as linked pages.

The index leads from each question to its answer: both are taken from the notebooks, the question from the text, the answer from
the outputs of the cells tagged `headline`; nothing is typed here. The pages are those of `runs/<study>/notebooks`, or, without
a run, of `notebooks/rendered/<study>`. They name no address outside their folder, so they can be read from disk without a
network; nbconvert's template fetches MathJax and require.js, hence the small renderer here.
"""

import html
import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import mistune
import nbformat
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from m2rl_lib.config import locations, schedule, study
from m2rl_lib.config.locations import ROOT

MANY = {"03_rlvr_single_domain", "07_evaluation"}  # notebooks that a study runs more than once
PARTS = {"1": "Questions and answers", "2": "The paper beside it", "0": "How it was made"}  # by a notebook's first digit
FACTS = re.compile(
    r"^\S+: done, (?P<date>[^,]+), commit (?P<commit>\S+), seeds? (?P<seeds>[\d, ]+), on (?P<device>[^;]+); (?P<versions>.+)$"
)
UNKNOWN = "not recorded: the notebook did not reach its end"
STYLE = """
body { max-width: 56rem; margin: 0 auto; padding: 0 1rem 4rem; font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a;
  overflow-wrap: anywhere }
a { color: #0050a0 } h1, h2, h3 { line-height: 1.25 } nav { padding: .7rem 0; border-bottom: 1px solid #ccc }
img { max-width: 100%; height: auto; display: block; margin: .8rem 0 } code, pre { font-size: .85rem }
pre, .wide { overflow-x: auto; overflow-wrap: normal } pre { background: #f6f6f4; padding: .6rem }
table { border-collapse: collapse; font-size: .85rem; overflow-wrap: normal } td, th { padding: .15rem .5rem; border: 1px solid #ddd }
td { text-align: right } .facts td { text-align: left; overflow-wrap: anywhere } .facts td:first-child { white-space: nowrap }
summary { cursor: pointer; color: #555 } .card { border: 1px solid #ccc; padding: 0 1rem; margin: 1rem 0 } .missing { color: #a02000 }
"""


@dataclass(frozen=True)
class Page:
    """An executed notebook: `stem` of its file, the source notebook's stem, and what it says of itself."""

    stem: str
    notebook: str
    title: str
    question: str
    answers: list[str]  # Markdown
    facts: dict[str, str]
    parameters: dict[str, object]
    cells: list

    @property
    def address(self) -> str:
        return quote(f"{self.stem}.html")

    @property
    def whole(self) -> bool:
        return self.facts["date"] != UNKNOWN


def read_page(path: Path) -> Page:
    """What an executed notebook shows and says: its question, headline outputs, parameters, seeds, commit, device, run time."""
    book = nbformat.read(path, 4)
    text = "\n\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    question = re.search(r"\*\*Question\.\*\* (.+?)(?:\n\n|\Z)", text, re.DOTALL)
    outputs = [(cell, output) for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    answers = [
        output.data["text/markdown"]
        for cell, output in outputs
        if "headline" in cell.metadata.get("tags", []) and "text/markdown" in output.get("data", {})
    ]
    printed = [line for _, output in outputs if output.output_type == "stream" for line in output.text.splitlines()]
    found = [match.groupdict() for line in printed if (match := FACTS.match(line))]
    run = book.metadata.get("papermill", {})
    facts = found[-1] if found else dict.fromkeys(FACTS.groupindex, UNKNOWN)
    facts |= {"run time": f"{run['duration']:.0f} s" if run.get("duration") else "not recorded"}
    notebook = next((name for name in sources() if path.stem == name or path.stem.startswith(f"{name}-")), path.stem)
    heading = title[1] if title else path.stem
    heading += path.stem.removeprefix(notebook).replace("-", ": ", 1)
    parameters = dict(run.get("parameters", {}))
    return Page(path.stem, notebook, heading, question[1] if question else "", answers, facts, parameters, book.cells)


def sources() -> list[str]:
    """The stems of the source notebooks, in order."""
    return [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]


def expected(p: study.Study) -> list[str]:
    """The stems of the copies that a whole study has: each notebook once, 03 once an expert, 07 once a group of models."""
    runs = {"03_rlvr_single_domain": [*(f"rl-{domain}" for domain in p.domains), *schedule.floors(p)]}
    runs["07_evaluation"] = list(schedule.groups(p))
    return [stem for name in sources() for stem in ([f"{name}-{run}" for run in runs[name]] if name in MANY else [name])]


def notebooks_of(p: study.Study) -> Path:
    """Where the executed notebooks of a study are: its run's (of its own seed), or the committed ones. FileNotFoundError: neither."""
    places = [locations.study_folder(p.study) / "notebooks" / f"seed-{p.seed}", ROOT / "notebooks" / "rendered" / p.study]
    for place in places:
        if any(place.glob("*.ipynb")):
            return place
    told = " or ".join(str(place.relative_to(ROOT)) if place.is_relative_to(ROOT) else str(place) for place in places)
    raise FileNotFoundError(f"no executed notebooks in {told}; `make study PARAMS=params/{p.study}.yaml` makes them")


# --- from cells to HTML -----------------------------------------------------------------------------------


def to_html(markdown: str, there: dict[str, str]) -> str:
    """Markdown as HTML. A link to a notebook that has a page (`there`: stem → address) leads to it; others become text."""

    def link(match: re.Match) -> str:
        stem = Path(match[2].split("#")[0]).stem
        return f"[{match[1]}]({there[stem]})" if stem in there else match[1]

    text = re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", link, markdown)
    return mistune.create_markdown(escape=True, plugins=["table", "strikethrough"])(text)


def output_to_html(output, title: str) -> str:
    """An output as HTML: a table, a figure, text; only the richest form of it."""
    if output.output_type == "stream":
        return f"<pre>{html.escape(output.text)}</pre>"
    if output.output_type == "error":
        return f'<pre class="missing">{html.escape(output.ename)}: {html.escape(output.evalue)}</pre>'
    if "text/html" in output.data:
        table = re.sub(r"<(script|style)\b.*?</\1>", "", output.data["text/html"], flags=re.DOTALL | re.IGNORECASE)
        return f'<div class="wide">{table}</div>'
    if "image/png" in output.data:
        picture = "".join(output.data["image/png"].split())
        return f'<img alt="figure: {html.escape(title)}" src="data:image/png;base64,{picture}">'
    if "text/markdown" in output.data:
        return f'<div class="wide">{to_html(output.data["text/markdown"], {})}</div>'
    return f"<pre>{html.escape(output.data.get('text/plain', ''))}</pre>"


def cell_to_html(cell, page: Page, there: dict[str, str]) -> str:
    """A cell as HTML, its code folded."""
    if cell.cell_type == "markdown":
        return to_html(cell.source, there)
    if cell.cell_type != "code" or not cell.source.strip():
        return ""
    code = highlight(cell.source, PythonLexer(), HtmlFormatter())
    shown = "".join(output_to_html(output, page.title) for output in cell.outputs)
    return f"<details><summary>code</summary>{code}</details>{shown}"


def facts_to_html(facts: dict[str, str], parameters: dict[str, object]) -> str:
    """The table of what made a page, and its parameters, folded."""
    rows = "".join(f"<tr><td>{name}</td><td>{html.escape(value)}</td></tr>" for name, value in facts.items())
    values = "".join(f"<tr><td>{name}</td><td>{html.escape(str(value))}</td></tr>" for name, value in sorted(parameters.items()))
    return (
        f'<div class="wide"><table class="facts">{rows}</table></div>'
        f'<details><summary>parameters ({len(parameters)})</summary><div class="wide"><table class="facts">{values}</table></div></details>'
    )


def document(title: str, body: str) -> str:
    """A whole page."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f'<link rel="stylesheet" href="style.css"></head><body>{body}</body></html>\n'
    )


def page_document(page: Page, before: Page | None, after: Page | None, there: dict[str, str]) -> str:
    """A notebook's page: where it stands, what made it, its cells."""
    links = ['<a href="index.html">all pages</a>']
    links += [
        f'<a href="{near.address}">{word} {html.escape(near.title)}</a>' for near, word in ((before, "←"), (after, "→")) if near
    ]
    cells = "".join(cell_to_html(cell, page, there) for cell in page.cells)
    return document(page.title, f"<nav>{' · '.join(links)}</nav>{facts_to_html(page.facts, page.parameters)}{cells}")


# --- the index --------------------------------------------------------------------------------------------


def index_document(p: study.Study, pages: list[Page], absent: list[str], place: str) -> str:
    """The way in: each question with its answer and page, how it was made, and what is missing."""
    there = {page.stem: page.address for page in pages}
    body = f"<h1>Mix or merge? The study <code>{p.study}</code></h1>"
    if absent:
        lines = "".join(f"<li>{html.escape(stem)}</li>" for stem in absent)
        body += (
            f'<h2 class="missing">Missing</h2><p><code>make study PARAMS=params/{p.study}.yaml</code> makes:</p><ul>{lines}</ul>'
        )
    for digit, heading in PARTS.items():
        part = [page for page in pages if page.stem.startswith(digit)]
        if not part:
            continue
        body += f"<h2>{heading}</h2>"
        body += "".join(card(page, there) for page in part) if digit != "0" else stages(part)
    body += f"<h2>What made these pages</h2>{facts_to_html(summary(pages, place), vars(p))}"
    return document(f"m2rl: {p.study}", body)


def card(page: Page, there: dict[str, str]) -> str:
    """A question, what the run answers, and where that is shown."""
    told = "".join(to_html(answer, there) for answer in page.answers) or "<p>This run gives no headline for it.</p>"
    counted = f"seed{'s' if ',' in page.facts['seeds'] else ''} {page.facts['seeds']}" if page.whole else UNKNOWN
    return (
        f'<section class="card"><h3><a href="{page.address}">{html.escape(page.title)}</a></h3>{to_html(page.question, there)}'
        f"{told}<p>{html.escape(counted)} · {html.escape(page.facts['date'] if page.whole else '')}</p></section>"
    )


def stages(pages: list[Page]) -> str:
    """The stages in order: notebook, what it asks, its copies."""
    items = []
    for name in dict.fromkeys(page.notebook for page in pages):
        copies = [page for page in pages if page.notebook == name]
        links = ", ".join(
            f'<a href="{page.address}">{html.escape(page.stem.removeprefix(name).lstrip("-") or page.title)}</a>'
            for page in copies
        )
        items.append(f"<li><strong>{html.escape(name.replace('_', ' '))}</strong>: {links}{to_html(copies[0].question, {})}</li>")
    return f"<ul>{''.join(items)}</ul>"


def summary(pages: list[Page], place: str) -> dict[str, str]:
    """What made the pages, all together: seeds, dates, commits, devices, versions, run time."""
    whole = [page for page in pages if page.whole]
    found = {name: sorted({page.facts[name] for page in whole}) for name in FACTS.groupindex}
    dates = found.pop("date")
    seeds = sorted({int(seed) for told in found.pop("seeds") for seed in told.split(",")})
    seconds = sum(float(page.facts["run time"].removesuffix(" s")) for page in pages if page.facts["run time"].endswith(" s"))
    return {
        "pages from": place,
        "date": f"{dates[0]} to {dates[-1]}" if dates else "not recorded",
        "seeds": ", ".join(map(str, seeds)),
        **{name: "; ".join(values) for name, values in found.items()},
        "run time": f"{seconds:.0f} s in {len(pages)} notebooks (one after the other)",
    }


def write_site(p: study.Study) -> Path:
    """Write `runs/<study>/site` whole or not at all; returns its index. FileNotFoundError where no notebook has been executed."""
    source = notebooks_of(p)
    every = sorted((read_page(path) for path in source.glob("*.ipynb")), key=lambda page: page.stem)
    there = {page.stem: page.address for page in every}
    absent = [stem for stem in expected(p) if stem not in there]
    absent += [f"{page.stem}, which did not reach its end" for page in every if not page.whole]
    site = locations.study_folder(p.study) / "site"
    site.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=site.parent, prefix=".site-") as made:
        fresh = Path(made) / "site"
        fresh.mkdir()
        (fresh / "style.css").write_text(STYLE + HtmlFormatter().get_style_defs(".highlight"))
        for page, before, after in zip(every, [None, *every], [*every[1:], None], strict=False):
            (fresh / f"{page.stem}.html").write_text(page_document(page, before, after, there))
        place = str(source.relative_to(ROOT)) if source.is_relative_to(ROOT) else str(source)
        (fresh / "index.html").write_text(index_document(p, every, absent, place))
        if site.exists():
            os.rename(site, Path(made) / "old")
        shutil.move(fresh, site)
    return site / "index.html"


if __name__ == "__main__":
    try:
        index = write_site(study.load(sys.argv[1] if len(sys.argv) > 1 else ROOT / "params" / "study.yaml"))
    except (study.ParameterError, FileNotFoundError) as error:
        sys.exit(str(error))
    print(f"site: {index.relative_to(ROOT) if index.is_relative_to(ROOT) else index}")
