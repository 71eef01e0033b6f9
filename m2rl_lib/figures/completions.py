"""Completions as a reader of a notebook sees them: side by side, right or wrong marked, thinking folded."""

import html
import re

import pandas as pd
from IPython.display import HTML

from m2rl_lib.stats.comparisons import display_domain, display_name

THOUGHT = re.compile(r"&lt;think&gt;(.*?)(?:&lt;/think&gt;|$)\s*", re.DOTALL)
MARKS = {1.0: "✓ right", 0.0: "✗ wrong"}
GRID = "display:grid;grid-template-columns:repeat(auto-fit,minmax(13rem,1fr));gap:0.5rem"
BOX = "border:1px solid #999;padding:0.4rem;min-width:0"
WRAP = "white-space:pre-wrap;overflow-wrap:anywhere;margin:0;font-size:0.85em"


def show(frame: pd.DataFrame) -> HTML:
    """Rows of domain, prompt, model, correct (1, 0 or null) and text: a fold per domain, the first open, a box per model."""
    parts = []
    for place, (domain, rows) in enumerate(frame.groupby("domain", sort=False)):
        boxes = "".join(
            f'<div style="{BOX}"><b>{display_name(row.model)}</b>: {MARKS.get(row.correct, "not graded")}{_completion(row.text)}</div>'
            for row in rows.itertuples()
        )
        prompt = f'<pre style="{WRAP}">{html.escape(rows["prompt"].iloc[0])}</pre>'
        summary = f"<summary>{display_domain(domain)}</summary>"
        parts.append(f'<details{"" if place else " open"}>{summary}{prompt}<div style="{GRID}">{boxes}</div></details>')
    return HTML("".join(parts))


def _completion(text: str) -> str:
    """The completion as HTML: tokens of the chat format left out, each stretch of thinking behind a click."""
    words = html.escape(re.sub(r"<\|im_(?:start|end)\|>", "", text).strip())
    folded = THOUGHT.sub(r"<details><summary>thinking</summary>\1</details>", words)
    return f'<pre style="{WRAP}">{folded}</pre>'
