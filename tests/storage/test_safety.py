"""No code comes in with a model, no secret goes out with a notebook."""

import ast
import json
import re

import pytest

from m2rl_lib import sandbox
from m2rl_lib.config import locations
from m2rl_lib.config.locations import ROOT
from m2rl_lib.config.study import Parameters
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
    p = Parameters.model_construct(study="smoke", seed=0)
    folder = locations.model_folder("smoke", 0, "sft")
    with artifacts.publish(folder, artifacts.record(p)) as fresh:
        (fresh / name).write_bytes(data)
    with pytest.raises(safety.UnsafeError, match=why):
        artifacts.verify_model(folder)


def calls(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield getattr(node.func, "attr", getattr(node.func, "id", "")), node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_runs_foreign_code_or_loads_what_is_not_pinned(path):
    for name, node in calls(path):
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        foreign = given.get("trust_remote_code", ast.Constant(False))
        assert getattr(foreign, "value", None) is False, f"{path.name}:{node.lineno}"
        if name in ("load", "torch_load") and getattr(getattr(node.func, "value", None), "id", "") == "torch":
            assert ast.literal_eval(given["weights_only"]), f"{path.name}:{node.lineno} unpickles"
        if name in REMOTE and node.args and isinstance(node.args[0], ast.Constant):  # a name on the Hub, not a folder
            revision = given.get("revision")
            pinned = isinstance(revision, ast.Name | ast.Attribute) or re.fullmatch(
                r"[0-9a-f]{40}", getattr(revision, "value", "")
            )
            assert pinned, f"{path.name}:{node.lineno}: {node.args[0].value} has no pinned revision"


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


def test_a_sandboxed_program_sees_no_secret(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "plover-plover-plover")
    sandbox.configure("bubblewrap")
    program = "import os\nprint([k for k in os.environ if 'TOKEN' in k], 'plover' in str(dict(os.environ)))"
    ((run,),) = sandbox.run_programs([program], [[""]])
    assert run.stdout.strip() == b"[] False"
