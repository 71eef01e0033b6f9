"""The first page of a study's book: question, answers, a figure each and what limits them, out of its notebooks and result tables."""

import base64
import re
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pandas as pd

from m2rl_lib.analysis.rq1_mix_or_merge.budgets import NULL_MARGIN, drift_sentence
from m2rl_lib.config.study import Study
from m2rl_lib.data.problem_sets import benchmarks
from m2rl_lib.paper import claim_ledger
from m2rl_lib.stats.comparisons import display_domain, display_name
from m2rl_lib.storage.result_tables import read_folder

LOOKS = Path(__file__).with_name("site")  # template, style and settings of Sphinx
BLOCKS = 4  # of an answer that the first page shows; the notebook has all
CHANGE = re.compile(r"^(?:#+ |\*\*)(What would change [^*.\n]+)[.:]?\**\s+(.+?)(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
# headings, and rows of the ledger, which stand below
NO_ANSWER = re.compile(r"\*\*[^.]{,40}\*\*|#+ .*|(- )?RQ\d\.\d.*|", re.DOTALL)


def write(p: Study, folder: Path, tables: Path, pages: list[SimpleNamespace], **shown) -> None:
    """Write `index.md` and its figures into `folder`. `tables`: the study's result tables; `shown`: what else the template names."""
    ledger, scores = read_folder(tables, "claims"), read_folder(tables, "rq1_scores")
    limits = caveats(p, scores)
    asked = sorted((page for page in pages if re.search(r"RQ\d", page.title)), key=lambda page: page.stem)
    questions = [about(page, ledger, limits, tables, folder) for page in asked]
    of_claims = next((page for page in pages if page.notebook == "21_claims"), None)
    verdicts = ledger["verdict"].value_counts().reindex(claim_ledger.VERDICTS).dropna().astype(int) if len(ledger) else {}
    shown |= {"p": p, "questions": questions, "domains": [display_domain(domain).lower() for domain in p.domains]}
    shown |= {"verdicts": dict(verdicts) if of_claims else {}, "has_map": any(rq.id == "RQ6" for rq in questions)}
    section = section_of_headline(of_claims.book.cells) if of_claims else []
    shown["ledger_page"] = of_claims and SimpleNamespace(
        address=f"{of_claims.stem}.ipynb", figure=save_figure(section, folder / "claims.png"), caption=caption_of(section)
    )
    template = jinja2.Environment(loader=jinja2.FileSystemLoader(LOOKS), trim_blocks=True).get_template("index.md.j2")
    (folder / "index.md").write_text(template.render(shown))


def about(
    page: SimpleNamespace, ledger: pd.DataFrame, limits: dict[str, list[str]], tables: Path, folder: Path
) -> SimpleNamespace:
    """What the first page says of one research question."""
    number, name = re.search(r"(RQ\d):? *(.+)", page.title).groups()
    blocks = [block.strip() for answer in page.answers for block in re.split(r"\n(?=- )|\n\n+", answer)]
    blocks = [block for block in blocks if not NO_ANSWER.fullmatch(block)]
    rows = ledger[ledger["question"] == number] if len(ledger) else ledger
    primary = rows[rows["role"] == "primary"] if len(rows) else rows
    short = re.split(r"(?<=[.!?]) (?=[A-Z])|, \d+ benchmarks,", blocks[0].removeprefix("- "))[0] if blocks else ""
    text = "\n\n".join([cell.source for cell in page.book.cells if cell.cell_type == "markdown"] + page.said)
    section, scopes = section_of_headline(page.book.cells), [scope(row) for _, row in primary.iterrows()]
    return SimpleNamespace(
        id=number,
        name=name,
        address=f"{page.stem}.ipynb",
        question=page.question,
        answer=short + "." * (short[-1:] == "]"),
        finding="".join(finding(row) for _, row in primary.iterrows()),
        blocks=blocks[:BLOCKS],
        findings=[finding(row) for _, row in rows.iterrows()],
        figure=save_figure(section, folder / f"{number.lower()}.png"),
        caption=caption_of(section),
        source=page.source,
        caveats=[*scopes, *limits.get(number, []), *map(": ".join, CHANGE.findall(text)[:1])],
    )


def finding(row: pd.Series) -> str:
    """A finding of the paper, its verdict here first, in a line; the adjusted p where it overrules the interval."""
    words = f"**{row['verdict'].capitalize()}**: {row['claim']}{claim_ledger.whose(row)}."
    if pd.notna(row["estimate"]):
        words += f" {claim_ledger.capitalise(row['quantity'])}: {claim_ledger.estimate_words(row)}"
        words += f", claimed {row['region']}{claim_ledger.after_adjustment(row)}."
    reason = row["reason"] if isinstance(row["reason"], str) else ""
    return f"{words} {claim_ledger.capitalise(reason)}." if reason else words


def scope(row: pd.Series) -> str:
    """What a finding's verdict is about, and what could not have been seen."""
    if row["verdict"] == claim_ledger.NOT_TESTABLE:
        return f"Not testable: {row['reason']}."
    words = f"The verdict is about {row['scope']} ({row['seeds']} seed{'s'[: row['seeds'] != 1]}, {row['n']})"
    if row["verdict"] != claim_ledger.UNDECIDED or pd.isna(row["seen"]):
        return f"{words}."
    unit = f" {row['unit']}" if row["unit"] == claim_ledger.POINTS else ""
    return f"{words}; undecided is not 'no effect': {row['seen']:.2g}{unit} from the edge of the claim is the minimum detectable effect."


def section_of_headline(cells: list) -> list:
    """The cells from the heading (##) above the cell tagged `headline` to the next heading."""
    headings = [i for i, cell in enumerate(cells) if cell.cell_type == "markdown" and re.search("^##? ", cell.source, re.M)]
    tagged = [place for place, cell in enumerate(cells) if "headline" in cell.metadata.get("tags", [])]
    if not tagged:
        return []
    start = max((place for place in headings if place <= tagged[0]), default=0)
    return cells[start : min((place for place in headings if place > tagged[0]), default=len(cells))]


def caption_of(section: list) -> str:
    """How the figure of the cells is to be read, in one line; '' where they do not say it."""
    words = "\n\n".join(cell.source for cell in section if cell.cell_type == "markdown")
    found = re.search(r"\*{1,2}How to read[^*]*\*{1,2}\s*(.+?)(?=\n\n|\Z)", words, re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def save_figure(cells: list, path: Path) -> SimpleNamespace | None:
    """Write the first picture that the cells show to a file; returns its `name` and the `width` it is shown at ('' unknown)."""
    for cell in cells:
        for output in cell.get("outputs", []):
            if picture := output.get("data", {}).get("image/png"):
                path.write_bytes(base64.b64decode(picture))
                width = output.get("metadata", {}).get("image/png", {}).get("width")
                return SimpleNamespace(name=path.name, width=f"{width}px" if width else "")
    return None


def caveats(p: Study, scores: pd.DataFrame) -> dict[str, list[str]]:
    """Sentences on what else could explain the answers, by question, from RQ1's table of scores (Avg@K, mean over seeds)."""
    if scores.empty:
        return {}
    means = scores[scores["score"] == "T=1"].pivot_table(index="model", columns="over", values="value")
    overall, found = means.get("overall", pd.Series(dtype=float)).dropna(), []
    trained = overall.drop(["sft", "sft-sharpened", "rl-null"], errors="ignore")
    if len(trained) and "sft-sharpened" in overall:
        best = f"{display_name(trained.idxmax())}, the best trained model, {trained.max():.1f}"
        found.append(f"SFT at its best temperature, which needs no RL, scores {overall['sft-sharpened']:.1f} points; {best}.")
    if {"sft", "rl-null"} <= {*overall.index}:
        found.append(f"RL with shuffled rewards (RL-Null) scores {overall['rl-null']:.1f}, SFT {overall['sft']:.1f}.")
        trained_on = [name for domain in p.domains for name in benchmarks(domain, p.data_sources) if name in means]
        moved = (means.loc["rl-null", trained_on] - means.loc["sft", trained_on]).dropna()
        if moved.abs().gt(NULL_MARGIN).any():
            furthest = moved.abs().idxmax()
            found.append(drift_sentence(moved[furthest], furthest))
    changes = {}
    for domain in p.domains if "sft" in means.index else []:
        others = [name for other in p.domains if other != domain for name in benchmarks(other, p.data_sources) if name in means]
        if f"rl-{domain}" in means.index and others:
            changes |= {(f"rl-{domain}", name): means.loc[f"rl-{domain}", name] - means.loc["sft", name] for name in others}
    falls = pd.Series(changes, dtype=float).dropna()
    limits = {"RQ1": found}
    if len(falls) and falls.min() < 0:
        model, name = falls.idxmin()
        ends = f"from {means.loc['sft', name]:.1f} to {means.loc[model, name]:.1f} points"
        limits["RQ2"] = [f"A mean hides falls: the largest is that of {display_name(model)} on {name.replace('_', ' ')}, {ends}."]
    return limits
