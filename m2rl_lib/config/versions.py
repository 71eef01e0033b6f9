"""What makes a stage run again beside its parameters: the code of its notebook, and the library's version for it.

Raise a stage's version in `STAGES` when a change of the library may change its results: it and what reads it run again.
"""

import ast
import hashlib
import json
from pathlib import Path

STAGES: dict[str, int] = {}  # number of the notebook: version of what it calls, where it is not 1


def code_digest(source: str) -> str:
    """A digest of what Python code does: of its syntax tree without imports and docstrings.

    >>> code_digest("import os\\nx = 1  # one") == code_digest('"A docstring."\\nx=1') != code_digest("x = 2")
    True
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            if isinstance(lines := getattr(node, field, None), list):
                setattr(node, field, [line for line in lines if not _is_silent(line)])
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def _is_silent(line: ast.stmt) -> bool:
    """Whether it is an import, a docstring or another string by itself."""
    text = isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
    return text or isinstance(line, (ast.Import, ast.ImportFrom))


def behaviour(notebook: Path) -> str:
    """JSON of a notebook's `code` (a digest) and `version`; a rule's param, so that a change of either runs it again."""
    cells = json.loads(notebook.read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return json.dumps({"code": code_digest(code), "version": STAGES.get(notebook.name[:2], 1)})
