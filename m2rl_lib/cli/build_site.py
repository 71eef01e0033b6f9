"""A study's executed notebooks as linked pages that need no network: `make site`, or `python -m m2rl_lib.cli.build_site FILE`."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import jinja2
import nbformat
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

from m2rl_lib.config import locations, map_schedule, schedule, study
from m2rl_lib.config.locations import ROOT
from m2rl_lib.storage import artifacts, atomic

SOURCES = [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
PARTS = {"1": "Questions and answers", "2": "The paper beside it", "0": "How it was made"}  # by a notebook's first digit
FACTS = re.compile(
    r"^\S+: done, (?P<date>[^,]+), commit (?P<commit>\S+), seeds? (?P<seeds>[\d, ]+), on (?P<device>[^;]+); (?P<versions>.+)$"
)
UNKNOWN = "not recorded: the notebook did not reach its end"
LOOKS = Path(__file__).with_name("site")  # templates and style
TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(LOOKS), autoescape=True, trim_blocks=True)


def read_page(path: Path) -> SimpleNamespace:
    """What an executed notebook shows and reports; `notebook` is the stem of its source, `whole` whether it reached its end."""
    book = nbformat.read(path, 4)
    text = "\n\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    question = re.search(r"\*\*Question\.\*\* (.+?)(?:\n\n|\Z)", text, re.DOTALL)
    answers, facts = [], dict.fromkeys(FACTS.groupindex, UNKNOWN)
    for cell in book.cells:
        for output in cell.get("outputs", []):
            if "headline" in cell.metadata.get("tags", []) and "text/markdown" in output.get("data", {}):
                answers.append(output.data["text/markdown"])
            for line in output.text.splitlines() if output.output_type == "stream" else ():
                facts |= match.groupdict() if (match := FACTS.match(line)) else {}
    run = book.metadata.get("papermill", {})
    notebook = next((name for name in SOURCES if path.stem == name or path.stem.startswith(f"{name}-")), path.stem)
    return SimpleNamespace(
        stem=path.stem,
        address=quote(f"{path.stem}.html"),
        digit=path.stem[0],
        notebook=notebook,
        title=(title[1] if title else path.stem) + path.stem.removeprefix(notebook).replace("-", ": ", 1),
        question=question[1] if question else "",
        answers=answers,
        whole=facts["date"] != UNKNOWN,
        facts=facts | {"run time": f"{run['duration']:.0f} s" if run.get("duration") else "not recorded"},
        parameters=dict(run.get("parameters", {})),
        book=book,
    )


def expected(p: study.Study) -> list[str]:
    """The stems of the copies that a whole study has: each notebook once, 03 once per expert, 07 once per group of models; joint models'; of a map
    01, 02, 16 and each stage of each world."""
    if p.map_worlds:
        made = {name: notebook for name, (notebook, *_) in map_schedule.stages(p).items()}
        once = [name for name in SOURCES if name[:2] in ("01", "02", "16")]
        return once + [f"{notebook}-{world}-{name}" for world in map_schedule.worlds(p) for name, notebook in made.items()]
    runs = {
        "03_rlvr_single_domain": [*(f"rl-{domain}" for domain in p.domains), *schedule.controls(p), *schedule.second_teachers(p)]
    }
    runs |= {"07_evaluation": list(schedule.groups(p)), "10_cascade": [], "16_when_to_mix_or_merge": []}
    stems = [stem for name in SOURCES for stem in ([f"{name}-{run}" for run in runs[name]] if name in runs else [name])]
    joint = [(schedule.notebook_of(name), name) for name in schedule.joint(p)]
    return stems + [f"{notebook}-{name}" if "@" in name else notebook for notebook, name in joint]


def notebooks_of(p: study.Study) -> Path:
    """Where the executed notebooks of a study are: its run's (of its own seed), or the committed ones."""
    places = [locations.study_folder(p.study) / "notebooks" / f"seed-{p.seed}", ROOT / "notebooks" / "rendered" / p.study]
    for place in places:
        if any(place.glob("*.ipynb")):
            return place
    where = " or ".join(map(artifacts.relative, places))
    raise FileNotFoundError(f"no executed notebooks in {where}; `make study PARAMS=params/{p.study}.yaml` makes them")


def link(markdown: str, there: dict[str, str]) -> str:
    """The text with links to notebooks that have a page (`there`: stem → address) leading to it; other links become text."""

    def lead(match: re.Match) -> str:
        stem = Path(match[2].split("#")[0]).stem
        return f"[{match[1]}]({there[stem]})" if stem in there else match[1]

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", lead, markdown)


def cells_to_html(page: SimpleNamespace, there: dict[str, str]) -> Markup:
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
    left_out = dict.fromkeys(("exclude_anchor_links", "exclude_input_prompt", "exclude_output_prompt"), True)
    shown = Config(NbConvertBase={"display_data_priority": ["text/html", "image/png", "text/markdown", "text/plain"]})
    exporter = HTMLExporter(template_file=str(LOOKS / "cells.html.j2"), template_name="basic", config=shown, **left_out)
    return Markup(exporter.from_notebook_node(page.book)[0])


def summary(pages: list[SimpleNamespace], place: str) -> dict[str, str]:
    """What made the pages, all together: seeds, dates, commits, devices, versions, run time."""
    found = {name: sorted({page.facts[name] for page in pages if page.whole}) for name in FACTS.groupindex}
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
    pages = sorted((read_page(path) for path in source.glob("*.ipynb")), key=lambda page: page.stem)
    there = {page.stem: page.address for page in pages}
    absent = [stem for stem in expected(p) if stem not in there]
    absent += [f"{page.stem}, which did not reach its end" for page in pages if not page.whole]
    site = locations.study_folder(p.study) / "site"
    with atomic.folder_in_place(site) as fresh:
        (fresh / "style.css").write_text((LOOKS / "style.css").read_text() + HtmlFormatter().get_style_defs(".highlight"))
        for page, before, after in zip(pages, [None, *pages], [*pages[1:], None], strict=False):
            shown = {"title": page.title, "page": page, "before": before, "after": after, "cells": cells_to_html(page, there)}
            (fresh / f"{page.stem}.html").write_text(TEMPLATES.get_template("page.html.j2").render(shown))
        shown = {"title": f"m2rl: {p.study}", "study": p.study, "pages": pages, "parts": PARTS, "absent": absent}
        shown |= {"facts": summary(pages, artifacts.relative(source)), "parameters": vars(p)}
        shown["html"] = lambda text: Markup(markdown2html(link(text, there)))
        (fresh / "index.html").write_text(TEMPLATES.get_template("index.html.j2").render(shown))
    return site / "index.html"


if __name__ == "__main__":
    try:
        file = sys.argv[1] if len(sys.argv) > 1 else ROOT / "params" / "study.yaml"
        print(f"site: {artifacts.relative(write_site(study.load(file)))}")
    except (study.ParameterError, FileNotFoundError) as error:
        sys.exit(str(error))
