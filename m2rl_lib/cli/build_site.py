"""A study to be read: `make site`, or `python -m m2rl_lib.cli.build_site params/study.yaml`, writes its executed notebooks as linked pages.

The index leads from each question to its answer: both are taken from the notebooks, the question from the text, the answer from
the outputs of the cells tagged `headline`. The pages are those of `runs/<study>/notebooks`, or, without a run, of
`notebooks/rendered/<study>`. nbconvert writes the cells by its template without a page around them, whose scripts would be fetched:
these pages name no address outside their folder, so they can be read from disk without a network.
"""

import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import jinja2
import nbformat
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

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
pre, .rendered_html, section, .wide { overflow-x: auto; overflow-wrap: normal } pre { background: #f6f6f4; padding: .6rem }
table { border-collapse: collapse; font-size: .85rem; overflow-wrap: normal } td, th { padding: .15rem .5rem; border: 1px solid #ddd }
td { text-align: right } .facts td { text-align: left; overflow-wrap: anywhere } .facts td:first-child { white-space: nowrap }
summary { cursor: pointer; color: #555 } section { border: 1px solid #ccc; padding: 0 1rem; margin: 1rem 0 } .missing { color: #a02000 }
"""
CELLS = """{% extends 'basic/index.html.j2' %}
{% block input %}{% if cell.source.strip() %}<details><summary>code</summary>{{ super() }}</details>{% endif %}{% endblock %}"""
AROUND = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<link rel="stylesheet" href="style.css"></head><body>
{%- macro table(rows) %}<div class="wide"><table class="facts">
{% for name, value in rows %}<tr><td>{{ name }}</td><td>{{ value }}</td></tr>{% endfor %}</table></div>{% endmacro %}
{%- macro made_by(facts, parameters) %}{{ table(facts.items()) }}
<details><summary>parameters ({{ parameters | length }})</summary>{{ table(parameters | dictsort) }}</details>{% endmacro %}
{% block body %}{% endblock %}</body></html>
"""
PAGE = """{% extends "around" %}{% block body %}<nav><a href="index.html">all pages</a>
{% for near, word in ((before, "←"), (after, "→")) if near %} · <a href="{{ near.address }}">{{ word }} {{ near.title }}</a>{% endfor %}
</nav>{{ made_by(page.facts, page.parameters) }}{{ cells }}{% endblock %}"""
INDEX = """{% extends "around" %}{% block body %}<h1>Mix or merge? The study <code>{{ study }}</code></h1>
{% if absent %}<h2 class="missing">Missing</h2><p><code>make study PARAMS=params/{{ study }}.yaml</code> makes:</p>
<ul>{% for stem in absent %}<li>{{ stem }}</li>{% endfor %}</ul>{% endif %}
{% for digit, heading in parts.items() %}{% set part = pages | selectattr("digit", "eq", digit) | list %}
{% if part %}<h2>{{ heading }}</h2>{% endif %}
{% if digit != "0" %}{% for page in part %}
<section><h3><a href="{{ page.address }}">{{ page.title }}</a></h3>{{ html(page.question) }}
{% for answer in page.answers %}{{ html(answer) }}{% else %}<p>This run gives no headline for it.</p>{% endfor %}
<p>{% if page.whole %}seeds {{ page.facts.seeds }} · {{ page.facts.date }}{% else %}{{ page.facts.date }}{% endif %}</p></section>
{% endfor %}{% else %}<ul>{% for name, copies in part | groupby("notebook") %}<li><strong>{{ name.replace("_", " ") }}</strong>:
{% for page in copies %}<a href="{{ page.address }}">{{ page.stem[name | length + 1:] or page.title }}</a>{{ ", " if not loop.last }}
{% endfor %}{{ html(copies[0].question) }}</li>{% endfor %}</ul>{% endif %}{% endfor %}
<h2>What made these pages</h2>{{ made_by(facts, parameters) }}{% endblock %}"""
TEMPLATES = jinja2.Environment(
    loader=jinja2.DictLoader({"around": AROUND, "page": PAGE, "index": INDEX}), autoescape=True, trim_blocks=True
)


@dataclass(frozen=True)
class Page:
    """An executed notebook: `stem` of its file, the source notebook's stem, and what it reports of itself."""

    stem: str
    notebook: str
    title: str
    question: str
    answers: list[str]  # Markdown
    facts: dict[str, str]
    parameters: dict[str, object]
    book: nbformat.NotebookNode

    @property
    def address(self) -> str:
        return quote(f"{self.stem}.html")

    @property
    def digit(self) -> str:
        return self.stem[0]

    @property
    def whole(self) -> bool:
        return self.facts["date"] != UNKNOWN


def read_page(path: Path) -> Page:
    """What an executed notebook shows and reports: its question, headline outputs, parameters, seeds, commit, device, run time."""
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
    heading = (title[1] if title else path.stem) + path.stem.removeprefix(notebook).replace("-", ": ", 1)
    return Page(
        path.stem, notebook, heading, question[1] if question else "", answers, facts, dict(run.get("parameters", {})), book
    )


def sources() -> list[str]:
    """The stems of the source notebooks, in order."""
    return [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]


def expected(p: study.Study) -> list[str]:
    """The stems of the copies that a whole study has: each notebook once, 03 once per expert, 07 once per group of models."""
    runs = {"03_rlvr_single_domain": [*(f"rl-{domain}" for domain in p.domains), *schedule.floors(p)]}
    runs["07_evaluation"] = list(schedule.groups(p))
    return [stem for name in sources() for stem in ([f"{name}-{run}" for run in runs[name]] if name in MANY else [name])]


def short(path: Path) -> str:
    """A path to be shown: within the repository, relative to it."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def notebooks_of(p: study.Study) -> Path:
    """Where the executed notebooks of a study are: its run's (of its own seed), or the committed ones. FileNotFoundError: neither."""
    places = [locations.study_folder(p.study) / "notebooks" / f"seed-{p.seed}", ROOT / "notebooks" / "rendered" / p.study]
    for place in places:
        if any(place.glob("*.ipynb")):
            return place
    raise FileNotFoundError(
        f"no executed notebooks in {' or '.join(map(short, places))}; `make study PARAMS=params/{p.study}.yaml` makes them"
    )


def link(markdown: str, there: dict[str, str]) -> str:
    """The text with links to notebooks that have a page (`there`: stem → address) leading to it; other links become text."""

    def lead(match: re.Match) -> str:
        stem = Path(match[2].split("#")[0]).stem
        return f"[{match[1]}]({there[stem]})" if stem in there else match[1]

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", lead, markdown)


def cells_to_html(page: Page, there: dict[str, str]) -> Markup:
    """A notebook's cells as HTML, code folded; only the richest form of an output, without what would run or fetch."""
    for cell in page.book.cells:
        if cell.cell_type == "markdown":
            cell.source = link(cell.source, there)
        for output in cell.get("outputs", []):
            output.setdefault("metadata", {})["alt"] = f"figure: {page.title}"
            for kind, text in output.get("data", {}).items():
                if kind == "text/html":
                    output.data[kind] = re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.DOTALL | re.IGNORECASE)
                elif kind == "text/markdown":
                    output.data[kind] = link(text, {})
    exporter = HTMLExporter(
        raw_template=CELLS,
        template_name="basic",
        exclude_anchor_links=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        config=Config(NbConvertBase={"display_data_priority": ["text/html", "image/png", "text/markdown", "text/plain"]}),
    )
    return Markup(exporter.from_notebook_node(page.book)[0])


def summary(pages: list[Page], place: str) -> dict[str, str]:
    """What made the pages, all together: seeds, dates, commits, devices, versions, run time."""
    whole = [page for page in pages if page.whole]
    found = {name: sorted({page.facts[name] for page in whole}) for name in FACTS.groupindex}
    dates = found.pop("date")
    seeds = sorted({int(seed) for words in found.pop("seeds") for seed in words.split(",")})
    seconds = sum(float(page.facts["run time"].removesuffix(" s")) for page in pages if page.facts["run time"].endswith(" s"))
    return {
        "pages from": place,
        "date": f"{dates[0]} to {dates[-1]}" if dates else "not recorded",
        "seeds": ", ".join(map(str, seeds)),
        **{name: "; ".join(values) for name, values in found.items()},
        "run time": f"{seconds:.0f} s in {len(pages)} notebooks (one after the other)",
    }


def write_site(p: study.Study) -> Path:
    """Write `runs/<study>/site`, atomically; returns its index. FileNotFoundError where no notebook has been executed."""
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
            shown = {"title": page.title, "page": page, "before": before, "after": after, "cells": cells_to_html(page, there)}
            (fresh / f"{page.stem}.html").write_text(TEMPLATES.get_template("page").render(shown))
        shown = {"title": f"m2rl: {p.study}", "study": p.study, "pages": every, "parts": PARTS, "absent": absent}
        shown |= {"facts": summary(every, short(source)), "parameters": vars(p)}
        shown["html"] = lambda text: Markup(markdown2html(link(text, there)))
        (fresh / "index.html").write_text(TEMPLATES.get_template("index").render(shown))
        if site.exists():
            os.rename(site, Path(made) / "old")
        shutil.move(fresh, site)
    return site / "index.html"


if __name__ == "__main__":
    try:
        print(f"site: {short(write_site(study.load(sys.argv[1] if len(sys.argv) > 1 else ROOT / 'params' / 'study.yaml')))}")
    except (study.ParameterError, FileNotFoundError) as error:
        sys.exit(str(error))
