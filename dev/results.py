"""Writes docs/results.md, README's results, the guide's decision table and what docs/scaling.md says of the real model, all from the
committed tables and figures. `python dev/results.py`."""

import json
import re
from pathlib import Path

import pandas as pd
from world_bars import bars

from m2rl_lib import domains
from m2rl_lib.analysis.rq1_mix_or_merge import budgets
from m2rl_lib.analysis.rq6_when import decisions as rq6
from m2rl_lib.cli import article
from m2rl_lib.config.locations import ROOT
from m2rl_lib.paper import claim_ledger
from m2rl_lib.stats.comparisons import chosen, display_domain, display_name, verdict_sentence
from m2rl_lib.storage.result_tables import read_folder

STUDY = ROOT / "figures" / "study"
TABLES, RENDERED = STUDY / "tables", "notebooks/rendered/study"
PAGE, README = ROOT / "docs" / "results.md", ROOT / "README.md"
SCALING, REAL = ROOT / "docs" / "scaling.md", ROOT / "figures" / "real"
GUIDE, MAP = ROOT / "docs" / "guide.md", ROOT / "figures" / "map" / "tables"
START, END = "<!-- results: written by dev/results.py -->", "<!-- end of results -->"
BUDGETS = {"(a)": "At the paper's ratio of budgets", "(b)": "At matched prompts", "tun": "Each side at its best setting"}
SCORES = {"T=1": "Avg@K at T = 1", "greedy": "Greedy", "pass@K": "pass@K"}
QUESTIONS = {"RQ1": "11_rq1_mix_or_merge", "RQ2": "12_rq2_interference_and_synergy", "RQ3": "13_rq3_weights_and_policies",
             "RQ4": "14_rq4_merging_methods", "RQ5": "15_rq5_verification"}  # fmt: skip


def headline_table(study: Path = STUDY, brief: bool = True) -> str:
    """Scores of every model, mean over the trained domains, and by domain; `brief`: of merges the chosen one, and trained domains."""
    overall = pd.read_csv(study / "overall.csv").set_index("model")
    chosen_one = read_folder(study / "tables", "rq1")["reference"].iloc[0]
    if brief:
        overall = overall[[not name.startswith("merge-") or name == chosen_one for name in overall.index]]
    means = pd.read_csv(study / "benchmark_scores.csv").groupby(["model", "domain"])["score"].mean().unstack()
    names = [name for name in [*domains.DOMAINS, *([] if brief else domains.UNTRAINED)] if name in means]
    table = pd.DataFrame({
        "model": [display_name(model) for model in overall.index],
        "T = 1": [f"{row.score:.1f} [{row.low:.1f}, {row.high:.1f}]" for row in overall.itertuples()],
        "greedy": overall["greedy"].map("{:.1f}".format).to_numpy(),
        "pass@4": overall["pass@K"].map("{:.1f}".format).to_numpy(),
    })  # fmt: skip
    if overall["seed_sd"].notna().any() and not brief:
        table["sd"] = overall["seed_sd"].map("{:.1f}".format).to_numpy()
    for name in names:
        table[display_domain(name).lower()] = [f"{value:.1f}" for value in means.loc[overall.index, name]]
    return table.to_markdown(index=False, disable_numparse=True)


def mix_or_merge(study: Path = STUDY) -> list[str]:
    """RQ1's verdicts: by budget, and under each score."""
    contests = {BUDGETS[row["contest"][:3].rstrip()]: row for _, row in read_folder(study / "tables", "rq1").iterrows()}
    named = {row["reference"]: chosen(row["reference"]) for row in contests.values()}
    said = {where: budgets.contest_sentence(contests, where, named) for where in contests}
    pooled = pd.read_csv(study / "mix_minus_merge.csv").query("seed.isna() and score != 'T=1'")
    said |= {SCORES[row["score"]]: verdict_sentence(row, named) for _, row in pooled.iterrows()}
    return [f"{where}: {words}" for where, words in said.items()]


def examples() -> str:
    """One problem of each domain with the completions of some models."""
    parts = []
    for (domain, prompt), rows in read_folder(TABLES, "examples").groupby(["domain", "prompt"], sort=False):
        parts.append(f"**{display_domain(domain)}.** {' '.join(prompt.split())}")
        texts = (
            re.sub(r"<\|im_\w+\|>", " ", row.text).strip().replace("\n", " ⏎ ").replace("|", "\\|") for row in rows.itertuples()
        )
        marks = ("right" if row.correct else "wrong" for row in rows.itertuples())
        said = zip(map(display_name, rows["model"]), marks, texts)
        parts.append(
            "| model | | completion |\n|:--|:--|:--|\n"
            + "\n".join(f"| {name} | {mark} | ```` {text} ```` |" for name, mark, text in said)
        )
    return "\n\n".join(parts)


def counted(ledger: pd.DataFrame) -> str:
    """How many claims have each verdict."""
    counts = ledger["verdict"].value_counts().reindex(claim_ledger.VERDICTS).dropna().astype(int)
    return f"Of {len(ledger)} claims {', '.join(f'{count} {name}' for name, count in counts.items())}"


def bullets(lines: list[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def primary(ledger: pd.DataFrame) -> str:
    """The primary claims, a sentence each."""
    return bullets([article.finding(row) for _, row in ledger[ledger["role"] == "primary"].iterrows()])


def when() -> str:
    """RQ6's first sentence, of the committed map; '' where none is."""
    if (table := read_folder(MAP, "map_decisions")).empty:
        return ""
    said = rq6.sentence(table)
    return f"- When? {said} [The table](docs/guide.md#when-to-mix-when-to-merge) has the differences.\n"


def readme_part() -> str:
    """What README says of the committed run."""
    ledger = read_folder(TABLES, "claims")
    by_budget = mix_or_merge()
    return f"""{START}

{headline_table()}

**Mix or merge?**

{bullets(by_budget[:2] + by_budget[3:])}
{when()}
{real_lines()}**The paper's primary claims**, each by a rule fixed before the run. {counted(ledger)}.

{primary(ledger)}

{END}"""


def page() -> str:
    """docs/results.md."""
    ledger, calls = read_folder(TABLES, "claims"), read_folder(TABLES, "transfer").query("predicted != ''")["call"].value_counts()
    checked, world = read_folder(TABLES, "manipulation").query("predicted != ''")["outcome"].value_counts(), bars(TABLES)
    world["worst"] = world["worst"].map("{:.1f}".format)
    world["holds"] = world["holds"].map({True: "yes", False: "no"})
    parts = [
        "# Results of the default study",
        f"Written by `python dev/results.py` from the [tables](../figures/study/tables/) of the committed run; its executed notebooks are in "
        f"[{RENDERED}](../{RENDERED}/). Words are in the [glossary](glossary.md), rules in [statistics](statistics.md).",
        "## Mix or merge?", bullets(mix_or_merge()),
        "## Scores", "Mean over the five trained domains, in points, with its 95% interval at T = 1; then each domain at T = 1. Of the merges the one "
        "that is chosen on selection data.", headline_table(),
        "![Scores by benchmark](../figures/study/benchmark_scores.png)",
        "## One problem of each domain",
        "Of seed 0: the first completion, at T = 1, on the first problem of each domain's first benchmark that divides the models.", examples(),
        "## What the paper claims, and what is seen here", f"{counted(ledger)}. All of it is about a micro model.",
    ]  # fmt: skip
    for question, notebook in QUESTIONS.items():
        rows = ledger[ledger["question"] == question]
        parts += [f"### [{question}](../{RENDERED}/{notebook}.ipynb)", claim_ledger.bullets(rows)]
    parts += [
        "## What was planted, and what the instruments say",
        f"Of the {calls.sum()} cells of the transfer matrix that were planted to rise or fall: {', '.join(f'{n} called {name}' for name, n in calls.items())}. "
        f"Of the {checked.sum()} predictions of the manipulation check: {', '.join(f'{n} {name}' for name, n in checked.items())}.",
        "## The bars of the world", "What the [world](world.md) must do in every committed run; the worst value of any seed, unless it says mean.",
        world.to_markdown(index=False, disable_numparse=True),
    ]  # fmt: skip
    parts += ["## Every model", "The same with every merge, the standard deviation over seeds, and what is never trained: `general` and `composition`.",
              headline_table(brief=False)]  # fmt: skip
    return "\n\n".join(parts).replace("called undecided", "undecided") + "\n"


def decisions() -> str:
    """The guide's decision table: what to use after all RL steps, by what one has and the share of words in conflict."""
    table = read_folder(MAP, "map_decisions")
    table = table[table["budget"] == table["budget"].max()]
    sizes = [f"{row.estimate:+.1f} [{row.low:.1f}, {row.high:.1f}]".replace("-", "−") for row in table.itertuples()]
    pairs = [f"{display_name(row.first)} − {display_name(row.second)}" for row in table.itertuples()]
    shown = table[["you have", "conflict", "world", "use"]].assign(compared=pairs, **{"points [95%]": sizes})
    shown["conflict"] = [f"{100 * value:.0f}%" for value in shown["conflict"]]
    return f"{START}\n\n{shown.to_markdown(index=False, disable_numparse=True)}\n\n{END}"


def real_part() -> str:
    """What docs/scaling.md says of the committed run on a real model."""
    ledger = read_folder(REAL / "tables", "claims")
    held = "; ".join(ledger.loc[ledger["verdict"] == claim_ledger.SUPPORTED, "claim"]) or "none"
    said = f"{counted(ledger)}. Supported: {held}. The primary ones:"
    return "\n\n".join([START, headline_table(REAL, brief=False), bullets(mix_or_merge(REAL)), said, primary(ledger), END])


def real_lines() -> str:
    """README's lines on the real model; '' where no such run is committed."""
    if not (REAL / "tables").is_dir():
        return ""
    found = [read_folder(study / "tables", "rq1") for study in (REAL, STUDY)]
    found = [table[table["contest"].str.startswith(("(a)", "(b)"))].itertuples() for table in found]
    real, micro = ([f"{row.estimate:+.1f} [{row.low:.1f}, {row.high:.1f}]" for row in rows] for rows in found)
    exact, stored = json.loads((ROOT / "dev" / "CHECKPOINTS.json").read_text())["cosines"].values()
    scores = pd.read_csv(REAL / "benchmark_scores.csv").set_index(["model", "domain"])["score"]
    own = {name: (scores["sft-sharpened", name], scores[f"rl-{name}", name]) for name in scores.index.unique("domain")}
    own = ", ".join(f"{display_name(f'rl-{name}')} {start:.0f} to {end:.0f}" for name, (start, end) in own.items())
    return f"""**A real model** (SmolLM2-135M-Instruct on others' problems, one seed, [how](docs/scaling.md#a-real-model)): RL-Multi minus the best merge
is {real[0]} at the paper's ratio and {real[1]} at matched prompts (micro model: {micro[0]} and {micro[1]}).
Own domain, from SFT at best T to the expert: {own}.
Cosine of two experts' task vectors: {exact["two experts"]:.2f}, and {stored["two experts"]:.2f} of the same checkpoints in bfloat16, as large as with RL-Null ({stored["expert and RL-Null"]:.2f}): rounding.

"""


def between(text: str, part: str) -> str:
    """The text with what stands between its marks replaced by the part, which has the marks."""
    return text[: text.index(START)] + part + text[text.index(END) + len(END) :]


WRITTEN = {PAGE: lambda text: page(), README: lambda text: between(text, readme_part())}
WRITTEN |= {GUIDE: lambda text: between(text, decisions())} if MAP.is_dir() else {}
WRITTEN |= {SCALING: lambda text: between(text, real_part())} if (REAL / "tables").is_dir() else {}

if __name__ == "__main__":
    for file, write in WRITTEN.items():
        file.write_text(write(file.read_text()))
