"""Counts words of our own making where the field has a name: `python dev/vocabulary.py [--lines] [FOLDER OR FILE ...]`.

Hits are candidates: a word of plain English (a lock is *held*) is fine where it does not mean the term.
"""

import argparse
import json
import re
import signal
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORDS = {
    r"told|telling|said of|became of": "reported, report, rows with nonzero advantage",
    r"an? (?:stage|expert|module|row|file|problem|run|line|seed) an? (?:stage|domain|sample|row|problem|run|expert|case)": "one … per …",
    r"a (?:stage|module|expert) each": "one module per stage",
    r"(?<!points )(?<!lie )(?<!tell )(?<!told )(?<!far )(?<!further )apart": "separately, excluded, or name the condition",
    r"own tokens?|tokens of its own": "loss mask",
    r"held(?![-_ ]out| by)|holds at once|equal parts|cut into parts|parts of (?:a|the) batch": "micro-batch size, accumulation steps",
    r"gists?": "judge features",
    r"could have been seen|smallest effect": "minimum detectable effect",
    r"these weights|this recipe|the recipe": "fixed checkpoints, across training seeds",
    r"floors?": "controls (models), layers (code)",
    r"shifts?|weight shift": "task vector",
    r"re-?draws?|redrawn|redrawing|_redraw": "bootstrap resample",
    r"whole or not at all": "atomic",
    r"signs? of collapse": "collapse warnings",
    r"the house|a room|rooms|house of": "package, module",
    r"sharpened": "SFT at its best temperature, low-temperature decoding",
}
NAMES = re.compile(  # of parameters, models, tables, columns, their values and functions: published, so they stay
    r"evaluate_sharpened_temperatures|sft-sharpened|over_sharpened|(?:weights|released)_shifts|shift_table|weight shifts"
    r"|[\w}]-apart|apart-[\w{]|evaluate-floors|[`\"](?:apart|floors|sharpened)[`\"]|(?:schedule|merge|figures|np|math|mpmath)\.\w+"
)
PLACES = ("m2rl_lib", "tests", "dev", "notebooks", "docs", "README.md", "Makefile", "Snakefile", "params", "profiles")
THIS = {"dev/vocabulary.py", "docs/glossary.md"}
PATTERNS = {words: re.compile(rf"(?<![a-z])(?:{words})(?![a-z])", re.IGNORECASE) for words in WORDS}


def text_of(path: Path) -> list[str]:
    """The lines of a file; of a notebook, those of its cells."""
    if path.suffix == ".ipynb":
        return [line for cell in json.loads(path.read_text())["cells"] for line in "".join(cell["source"]).split("\n")]
    return path.read_text().split("\n")


def files(places) -> list[Path]:
    """The text files under the places that a person writes: no executed notebook, table or picture."""
    kinds = {".py", ".md", ".ipynb", ".yaml", ".cff", ""}
    found = [file for place in places for file in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    names = {file: file.resolve().relative_to(ROOT).as_posix() for file in found if file.is_file() and file.suffix in kinds}
    return [file for file, name in names.items() if name not in THIS and not re.search("rendered|__pycache__|checkpoints/", name)]


def package(path: Path) -> str:
    """`m2rl_lib/stats` of m2rl_lib/stats/bootstrap.py, `notebooks` of a notebook."""
    parts = path.resolve().relative_to(ROOT).parts
    return "/".join(parts[: 2 if parts[0] in ("m2rl_lib", "tests") and len(parts) > 2 else 1])


def hits(path: Path):
    """(line number, old words, line) of each candidate."""
    for number, line in enumerate(text_of(path), 1):
        for words, pattern in PATTERNS.items():
            for _ in pattern.finditer(NAMES.sub("", line)):
                yield number, words, line.strip()


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("places", nargs="*", type=Path, default=[ROOT / place for place in PLACES])
    parser.add_argument("--lines", action="store_true", help="each hit with its file and line")
    asked = parser.parse_args()
    by_package, by_word = Counter(), Counter()
    for path in files(asked.places):
        for number, words, line in hits(path):
            by_package[package(path)] += 1
            by_word[words] += 1
            if asked.lines:
                print(f"{path.resolve().relative_to(ROOT)}:{number}: {line[:150]}  [{WORDS[words]}]")
    for title, counts in (("package", by_package), ("words", by_word)):
        print(f"\n{title}")
        for name, count in counts.most_common():
            print(f"{count:6d}  {name[:60]}")
    print(f"{sum(by_word.values()):6d}  in all")
