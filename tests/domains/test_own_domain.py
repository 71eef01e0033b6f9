"""The guide's recipe for a sixth domain, done: its module, its one line, words of its own, and a trained expert."""

import json
import os
import re
import shutil
import subprocess
import sys

from m2rl_lib.config.locations import ROOT

SIX = """
import random
from m2rl_lib import domains
from m2rl_lib.data import problem_sets
from m2rl_lib.domains import conventions, problems
world = conventions.read_world({"shared": 2, "private": 2, "conflicting": 2}, tuple(domains.DOMAINS))
own = [{*world.private_words(name)} for name in domains.DOMAINS]
assert len(own) == 6 and all(own) and len(set.union(*own)) == 12
rng = random.Random(0)
for benchmark in (name for module in domains.DOMAINS.values() for name in module.BENCHMARKS):
    rows = problem_sets.benchmark_problems(benchmark, "test", 40, world)
    module = domains.DOMAINS[rows[0]["domain"]]
    assert module.verify([module.demonstrate(row, rng, think=False) for row in rows], rows) == [1.0] * 40
    wrong = [module.demonstrate(row, rng, frozenset([len(row["steps"]) - 1])) for row in rows]
    assert sum(module.verify(wrong, rows)) < 3
    others = set().union(*own) - {*world.private_words(module.NAME)}
    said = {word for row in rows for word in conventions.READINGS if f" {word}" in problems.prompt_of(row)}
    assert {*world.private_words(module.NAME)} <= said and not said & others
"""


def test_the_guides_sixth_domain_becomes_an_expert(tmp_path):
    guide = (ROOT / "docs" / "guide.md").read_text()
    module = re.search(r"```python\n(# m2rl_lib/domains/reversal\.py\n.*?)```", guide, re.DOTALL)[1]
    for part in ("m2rl_lib", "notebooks", "params"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "rendered"))
    (tmp_path / "m2rl_lib" / "domains" / "reversal.py").write_text(module)
    listed = tmp_path / "m2rl_lib" / "domains" / "__init__.py"
    listed.write_text(listed.read_text().replace('    "agent",\n', '    "agent",\n    "reversal",\n'))

    environment = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", SIX], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    domains = ["-y", "domains: [math, reversal]"]
    for notebook, run in (("02_sft", []), ("03_rlvr_single_domain", ["-p", "domain", "reversal"])):
        command = [sys.executable, "-m", "papermill", f"notebooks/{notebook}.ipynb", str(tmp_path / "out.ipynb"), *domains, *run]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
    expert = tmp_path / "runs" / "smoke" / "models" / "seed-0" / "rl-reversal"
    assert json.loads((expert / "manifest.json").read_text())["parameters"]["domains"] == ["math", "reversal"]
    assert (expert / "model.safetensors").stat().st_size > 10_000
