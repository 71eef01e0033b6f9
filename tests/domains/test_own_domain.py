"""The guide's recipe for a sixth domain, done: its module, its one line, and a trained expert."""

import json
import os
import re
import shutil
import subprocess
import sys

from m2rl_lib.config.locations import ROOT


def test_the_guides_sixth_domain_becomes_an_expert(tmp_path):
    guide = (ROOT / "docs" / "guide.md").read_text()
    module = re.search(r"```python\n(# m2rl_lib/domains/reversal\.py\n.*?)```", guide, re.DOTALL)[1]
    for part in ("m2rl_lib", "notebooks", "params"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "rendered"))
    (tmp_path / "m2rl_lib" / "domains" / "reversal.py").write_text(module)
    listed = tmp_path / "m2rl_lib" / "domains" / "__init__.py"
    listed.write_text(listed.read_text().replace('    "agent",\n', '    "agent",\n    "reversal",\n'))

    environment = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    domains = ["-y", "domains: [math, reversal]"]
    for notebook, run in (("02_sft", []), ("03_rlvr_single_domain", ["-p", "domain", "reversal"])):
        command = [sys.executable, "-m", "papermill", f"notebooks/{notebook}.ipynb", str(tmp_path / "out.ipynb"), *domains, *run]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
    expert = tmp_path / "runs" / "smoke" / "models" / "seed-0" / "rl-reversal"
    assert json.loads((expert / "manifest.json").read_text())["parameters"]["domains"] == ["math", "reversal"]
    assert (expert / "model.safetensors").stat().st_size > 10_000
