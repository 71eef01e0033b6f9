"""No code comes in with a model, no secret goes out with a notebook."""

import ast
import json
import re

import pytest

from m2rl_lib.config import locations
from m2rl_lib.config.locations import ROOT
from m2rl_lib.storage import artifacts, safety

SOURCES = [*sorted((ROOT / "m2rl_lib").rglob("*.py")), *sorted((ROOT / "dev").glob("*.py"))]
REMOTE = ("from_pretrained", "load_dataset", "snapshot_download", "hf_hub_download")
PICKLE, CODE = b"\x80\x04", json.dumps({"auto_map": {"AutoModel": "evil.Model"}}).encode()


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [(name, PICKLE, f"{name} may be a pickle") for name in ("pytorch_model.bin", "optimizer.pt", "scores.pkl")]
    + [("config.json", CODE, "trust_remote_code")],
)
def test_pickles_and_code_are_refused_even_where_the_manifest_lists_them(smoke, name, data, why):
    folder = locations.model_folder("smoke", 0, "sft")
    with artifacts.publish(folder, artifacts.record(smoke)) as fresh:
        (fresh / name).write_bytes(data)
    with pytest.raises(safety.UnsafeError, match=why):
        artifacts.verify_model(folder)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_runs_foreign_code_or_loads_what_is_not_pinned(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name, where = ast.unparse(node.func).split(".")[-1], f"{path.name}:{node.lineno}"
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert given.get("trust_remote_code", "False") == "False", where
            if ast.unparse(node.func) == "torch.load":
                assert given.get("weights_only") == "True", f"{where} unpickles"
            if name in REMOTE and node.args and isinstance(node.args[0], ast.Constant):  # a name on the Hub, not a folder
                pinned = re.fullmatch(r"'[0-9a-f]{40}'|[A-Za-z_][\w.]*", given.get("revision", "None"))
                assert pinned and pinned[0] != "None", f"{where}: {node.args[0].value} has no pinned revision"


def test_secrets_are_found_in_a_notebooks_file():
    environment = {"HF_TOKEN": 'a"secret\\value', "TOKENIZERS_PARALLELISM": "false", "HOME": "/somewhere/long/enough"}
    assert safety.find_secrets(json.dumps({"text": 'it is a"secret\\value!'}), environment) == ["the value of HF_TOKEN"]
    assert safety.find_secrets("false, /somewhere/long/enough", environment) == []
    tokens = ("hf_" + "x1" * 15, "sk-" + "y2" * 15, "ghp_" + "z3" * 15, "AKIA" + "ABCD" * 4, "-----BEGIN RSA PRIVATE KEY-----")
    for token in tokens:
        assert safety.find_secrets(f'"{token}"', {}), token


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").rglob("*.ipynb")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_committed_notebook_holds_a_secret(path):
    assert safety.find_secrets(path.read_text()) == []
