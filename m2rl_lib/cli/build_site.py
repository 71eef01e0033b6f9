"""A study's executed notebooks and the pages of docs/ as one book, read from disk: `make site`, or `python -m m2rl_lib.cli.build_site FILE`."""

import html
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import nbformat

from m2rl_lib.cli import article
from m2rl_lib.config import locations, map_schedule, schedule, study
from m2rl_lib.config.locations import ROOT
from m2rl_lib.storage import artifacts, atomic

SOURCES = [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
PARTS = {"1": "Questions and answers", "2": "The paper beside it", "0": "How it was made"}  # by a notebook's first digit
FACTS = re.compile(
    r"^\S+: done, (?P<date>[^,]+), commit (?P<commit>\S+), seeds? (?P<seeds>[\d, ]+), on (?P<device>[^;]+); (?P<versions>.+)$"
)
UNKNOWN = "not recorded: the notebook did not reach its end"
LINK = re.compile(r"```.*?```|(?<!!)\[((?:[^\]`]|`[^`]*`)+)\]\(([^)\s]+)\)|`[^`\n]*`|<(https?://[^>]*)>", re.DOTALL)
ACTIVE = re.compile(r"<(script|style)\b.*?</\1>", re.DOTALL | re.IGNORECASE)  # what would run or fetch


def read_page(path: Path, source: str = "") -> SimpleNamespace:
    """What an executed notebook shows and reports; `notebook` is the stem of its source, `whole` whether it reached its end.
    `source`: of a notebook of another study, a sentence that says of which."""
    book = nbformat.read(path, 4)
    text = "\n\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    question = re.search(r"\*\*Question\.\*\* (.+?)(?:\n\n|\Z)", text, re.DOTALL)
    answers, said, facts = [], [], dict.fromkeys(FACTS.groupindex, UNKNOWN)
    for cell in book.cells:
        for output in cell.get("outputs", []):
            if "text/markdown" in output.get("data", {}):
                said.append(output.data["text/markdown"])
                answers += said[-1:] if "headline" in cell.metadata.get("tags", []) else []
            for line in output.text.splitlines() if output.output_type == "stream" else ():
                facts |= match.groupdict() if (match := FACTS.match(line)) else {}
    run = book.metadata.get("papermill", {})
    notebook = next((name for name in SOURCES if path.stem == name or path.stem.startswith(f"{name}-")), path.stem)
    return SimpleNamespace(
        stem=path.stem,
        notebook=notebook,
        copy=path.stem.removeprefix(notebook).removeprefix("-"),
        title=title[1] if title else path.stem,
        question=question[1] if question else "",
        answers=answers,
        said=said,
        whole=facts["date"] != UNKNOWN,
        facts=facts | {"run time": f"{run['duration']:.0f} s" if run.get("duration") else "not recorded"},
        parameters=dict(run.get("parameters", {})),
        source=source,
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
        "03_rlvr_single_domain": [
            *schedule.experts(p),
            *schedule.controls(p),
            *schedule.second_teachers(p),
            *schedule.lora_experts(p),
        ]
    }
    runs |= {"07_evaluation": list(schedule.groups(p)), "10_cascade": [], "16_when_to_mix_or_merge": []}
    stems = [stem for name in SOURCES for stem in ([f"{name}-{run}" for run in runs[name]] if name in runs else [name])]
    joint = [(schedule.notebook_of(name), name) for name in schedule.joint_runs(p)]
    return stems + [f"{notebook}-{name}" if "@" in name else notebook for notebook, name in joint]


def notebooks_of(p: study.Study) -> Path:
    """Where the executed notebooks of a study are: its run's (of its own seed), or the committed ones."""
    places = [locations.study_folder(p.study) / "notebooks" / f"seed-{p.seed}", ROOT / "notebooks" / "rendered" / p.study]
    for place in places:
        if any(place.glob("*.ipynb")):
            return place
    where = " or ".join(map(artifacts.relative, places))
    raise FileNotFoundError(f"no executed notebooks in {where}; `make study PARAMS=params/{p.study}.yaml` makes them")


def tables_of(p: study.Study, notebooks: Path) -> Path:
    """The result tables of the run whose executed notebooks are in this folder: its own, or the committed ones."""
    committed = notebooks.is_relative_to(ROOT / "notebooks")
    return ROOT / "figures" / p.study / "tables" if committed else locations.study_folder(p.study) / "results"


def link(markdown: str, there: dict[str, str]) -> str:
    """The text with links to what is in the book (`there`: stem → file) leading to it; other links become text, code stays."""

    def lead(match: re.Match) -> str:
        text, target, address = match.groups()
        stem = Path((target or "").split("#")[0]).stem
        if not text or target.startswith("#"):
            return address or match[0]
        return f"[{text}]({there[stem]})" if stem in there else text

    return LINK.sub(lead, markdown)


def made_by(facts: dict, parameters: dict) -> str:
    """A fold at a page's end: what made it."""
    rows = "".join(f"<tr><td>{name}</td><td>{html.escape(str(value))}</td></tr>" for name, value in facts.items())
    given = "".join(f"<tr><td>{name}</td><td>{html.escape(str(value))}</td></tr>" for name, value in sorted(parameters.items()))
    tables = f"<table>{rows}</table><p>Parameters:</p><table>{given}</table>"
    return f'<details class="facts"><summary>What made this page</summary>{tables}</details>'


def join_code(cells: list) -> list:
    """The cells with code that shows nothing (parameters, imports, reading) in one fold with the code cell after it."""
    joined = []
    for cell in cells:
        if joined and cell.cell_type == joined[-1].cell_type == "code" and not joined[-1].get("outputs"):
            cell.source = f"{joined.pop().source}\n\n{cell.source}".strip()
        joined.append(cell)
    return joined


def show_notebook(page: SimpleNamespace, there: dict[str, str]) -> nbformat.NotebookNode:
    """A notebook as the book shows it: code folded, provenance folded at the end, links within the book, nothing that runs."""
    title = f"{page.title}: {page.copy}" if page.copy else page.title
    page.book.metadata.pop("widgets", None)
    page.book.cells = join_code(page.book.cells)
    for cell in page.book.cells:
        if cell.cell_type == "markdown":
            cell.source = link(re.sub(r"^# .+$", lambda _: f"# {title}", cell.source, count=1, flags=re.MULTILINE), there)
            continue
        cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input" if cell.source.strip() else "remove-input"]
        picture = cell.metadata.setdefault("mystnb", {}).setdefault("image", {"alt": f"figure: {page.title}"})
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = "\n".join(line for line in output.text.splitlines() if not FACTS.match(line))
            data = output.get("data", {})
            for kind in {*data} - {"text/html", "image/png", "text/markdown", "text/plain"}:
                del data[kind]
            if width := output.get("metadata", {}).get("image/png", {}).get("width"):
                picture["width"] = f"{width}px"
            if "text/html" in data:
                data["text/html"] = ACTIVE.sub("", data["text/html"])
            if "text/markdown" in data:
                data["text/markdown"] = link(data["text/markdown"], there)
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("text") != ""]
    page.book.cells.append(nbformat.v4.new_markdown_cell(made_by(page.facts, page.parameters)))
    return page.book


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


def copies_page(name: str, copies: list[SimpleNamespace]) -> str:
    """The page above the copies of one notebook: its question and a link to each."""
    listed = "\n".join(f"- [{page.copy}]({page.stem}.ipynb)" for page in copies)
    entries = "\n".join(f"{page.copy} <{page.stem}>" for page in copies)
    return f"# {copies[0].title}\n\n{copies[0].question}\n\n{listed}\n\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n"


def write_source(p: study.Study, folder: Path) -> None:
    """Write what Sphinx reads: the first page, the notebooks as the book shows them, a page above copies, the pages of docs/."""
    source = notebooks_of(p)
    pages = sorted((read_page(path) for path in source.glob("*.ipynb")), key=lambda page: page.stem)
    pages += map_answer(p, pages)
    docs = sorted((ROOT / "docs").glob("*.md"))
    absent = [stem for stem in expected(p) if stem not in {page.stem for page in pages}]
    absent += [f"{page.stem}, which did not reach its end" for page in pages if not page.whole]
    copies = {name: [page for page in pages if page.notebook == name and page.copy] for name in SOURCES}
    copies = {name: several for name, several in copies.items() if several and name not in {page.stem for page in pages}}
    there = {"README": "index.md"} | {path.stem: path.name for path in docs} | {name: f"{name}.md" for name in copies}
    there |= {page.stem: f"{page.stem}.ipynb" for page in pages}
    titles = [(path.read_text().splitlines()[0].removeprefix("# "), path.stem) for path in docs]
    contents = {words: [] for words in PARTS.values()} | {"About": titles}
    for page in pages:
        listed = contents[PARTS[page.stem[0]]]
        if page.notebook in copies:
            listed += [(page.title, page.notebook)] if (page.title, page.notebook) not in listed else []
        else:
            listed.append((f"{page.title}{': ' * bool(page.copy)}{page.copy}", page.stem))
    facts, known = summary(pages, artifacts.relative(source)), [page.facts["seeds"] for page in pages if page.whole]
    count = len(facts["seeds"].split(", ")) if known else 0
    model = "a micro model trained from scratch" if p.sft_base_model == "micro" else f"`{p.sft_base_model}`"
    shown = {"absent": absent, "parts": {words: listed for words, listed in contents.items() if listed}, "model": model}
    shown |= {"made_by": made_by(facts, vars(p)), "seeds": f"{count} training seed{'s'[: count != 1]}" if count else ""}
    article.write(p, folder, tables_of(p, source), pages, **shown)
    (folder / "index.md").write_text(link((folder / "index.md").read_text(), there))
    shutil.copy(ROOT / "docs" / "study.svg", folder)
    for path in docs:
        text = path.read_text()
        for shown in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
            shutil.copy(path.parent / shown, folder)
            text = text.replace(f"({shown})", f"({Path(shown).name})")
        (folder / path.name).write_text(link(text, there))
    for name, several in copies.items():
        (folder / f"{name}.md").write_text(copies_page(name, several))
    for page in pages:
        nbformat.write(show_notebook(page, there), folder / f"{page.stem}.ipynb")


def map_answer(p: study.Study, pages: list[SimpleNamespace]) -> Iterable[SimpleNamespace]:
    """RQ6's notebook where this study has none and its map, a study of its own, has been run."""
    file = ROOT / "params" / ("map.yaml" if p.study == "study" else f"{p.study}_map.yaml")
    if p.map_worlds or not file.is_file():
        return []
    other = study.load(file)
    source = f"From `{other.study}`, a study of its own, of {len(other.domains)} domains."
    try:
        return [read_page(path, source) for path in notebooks_of(other).glob("16_*.ipynb")]
    except FileNotFoundError:
        return []


def write_site(p: study.Study, *options: str) -> Path:
    """Write `runs/<study>/site`, atomically; returns its index. FileNotFoundError where no notebook has been executed.
    `options`: further ones of Sphinx, such as '--fail-on-warning'."""
    from sphinx.cmd.build import build_main  # here: expected() needs no Sphinx

    site = locations.study_folder(p.study) / "site"
    with tempfile.TemporaryDirectory() as work:
        source, made = Path(work) / "source", Path(work) / "site"
        source.mkdir()
        write_source(p, source)
        if build_main(["-q", "-c", str(article.LOOKS), "-d", f"{work}/read", *options, "-b", "html", str(source), str(made)]):
            raise RuntimeError(f"Sphinx did not make the book of {p.study}; its lines above say why")
        for spare in (*made.rglob("*.map"), *(made / "_static" / "locales").glob("*"), made / "objects.inv", made / ".buildinfo"):
            shutil.rmtree(spare) if spare.is_dir() else spare.unlink(missing_ok=True)
        with atomic.folder_in_place(site) as fresh:
            shutil.copytree(made, fresh, dirs_exist_ok=True)
    return site / "index.html"


if __name__ == "__main__":
    try:
        file = sys.argv[1] if len(sys.argv) > 1 else ROOT / "params" / "study.yaml"
        print(f"site: {artifacts.relative(write_site(study.load(file)))}")
    except (study.ParameterError, FileNotFoundError, RuntimeError) as error:
        sys.exit(str(error))
