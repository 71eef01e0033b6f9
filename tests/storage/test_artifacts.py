"""Artifacts appear whole or not at all, are checked before use, and are never mixed."""

import json

import pandas as pd
import pytest

from m2rl_lib.config import locations
from m2rl_lib.config.study import Parameters
from m2rl_lib.storage import artifacts


def parameters(**values):
    return Parameters.model_construct(study="smoke", seed=0, **values)


@pytest.fixture
def folder(smoke, model, publish_model):
    return publish_model("sft", model, parameters=parameters(sft_steps=20))


def test_manifest_names_every_file_and_what_made_it(folder):
    manifest = artifacts.read_manifest(folder)
    assert manifest["files"].keys() == {p.name for p in folder.iterdir()} - {"manifest.json"}
    assert manifest["parameters"] == {"sft_steps": 20}
    assert manifest["versions"]["torch"] and manifest["commit"] and manifest["seed"] == 0
    assert artifacts.verify_model(folder) == folder


def test_failure_leaves_the_last_good_folder(folder):
    before = artifacts.read_manifest(folder)
    with pytest.raises(RuntimeError), artifacts.publish(folder, artifacts.record(parameters())) as fresh:
        (fresh / "half").write_text("written")
        raise RuntimeError("disk full")
    assert artifacts.read_manifest(folder) == before
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("damage", ["flip", "zero tail", "truncate", "remove"])
def test_damage_is_named_before_use(folder, damage):
    shard = folder / "model.safetensors"
    data = bytearray(shard.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    elif damage == "zero tail":
        data[-1000:] = bytes(1000)
    elif damage == "truncate":
        del data[-1000:]
    shard.write_bytes(data)
    if damage == "remove":
        shard.unlink()
    with pytest.raises((ValueError, FileNotFoundError), match="model.safetensors"):
        artifacts.verify_model(folder)


def test_missing_and_foreign_folders(smoke, tmp_path):
    with pytest.raises(FileNotFoundError, match="rl-math is missing"):
        artifacts.read_manifest(locations.model_folder("smoke", 0, "rl-math"))
    (tmp_path / "other").mkdir()
    with pytest.raises(FileNotFoundError, match="not a published model"):
        artifacts.read_manifest(tmp_path / "other")


def test_parameters_are_joined_with_those_of_the_inputs(folder):
    made_by = artifacts.record(parameters(rlvr_steps=4), [folder])
    assert made_by["parameters"] == {"sft_steps": 20, "rlvr_steps": 4}
    assert list(made_by["inputs"].values()) == [artifacts.read_manifest(folder)["digest"]]


def test_mixing_is_refused_and_names_what_differs(folder):
    with pytest.raises(artifacts.MixedResultsError, match="sft_steps is 30 in this run and 20 in .*sft"):
        artifacts.record(parameters(sft_steps=30), [folder])


def test_done_stands_until_something_differs(folder):
    p = parameters(sft_steps=20)
    assert not artifacts.is_done(p, "sft", [folder], [])
    artifacts.finish(p, "sft", [folder], [])
    assert artifacts.is_done(p, "sft", [folder], [])
    stamp = locations.done_file("smoke", 0, "sft")
    before = stamp.stat().st_mtime_ns
    used = json.loads(stamp.read_text())["spent"]
    assert used["wall_seconds"] > 0 and used["cpu_seconds"] > 0 and used["peak_memory_bytes"] > 5e7
    artifacts.finish(p, "sft", [folder], [])
    assert stamp.stat().st_mtime_ns == before  # nothing after it has to run again
    with pytest.raises(artifacts.MixedResultsError, match="sft_steps is 30 in this notebook and 20"):
        artifacts.is_done(parameters(sft_steps=30), "sft", [folder], [])
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"digest": "other"}))
    assert not artifacts.is_done(p, "sft", [folder], [])


def test_tables_are_read_together_only_if_they_agree(smoke):
    one, two = pd.DataFrame({"x": [1]}), pd.DataFrame({"x": [2]})
    p = parameters(evaluate_samples=2)
    artifacts.write_table(p, "scores", "sft", one, artifacts.record(p))
    artifacts.write_table(p, "scores", "rl", two, artifacts.record(p))
    assert artifacts.read_table(parameters(), "scores", ["sft", "rl"])["x"].tolist() == [1, 2]
    other = parameters(evaluate_samples=4)
    artifacts.write_table(other, "scores", "rl", two, artifacts.record(other))
    with pytest.raises(artifacts.MixedResultsError, match="evaluate_samples"):
        artifacts.read_table(parameters(), "scores", ["sft", "rl"])
    with pytest.raises(artifacts.MixedResultsError, match="this notebook"):
        artifacts.read_table(parameters(evaluate_samples=8), "scores", ["sft"])


@pytest.mark.parametrize(
    ("kind", "told"),
    [("none", "UNPROTECTED (sandbox_kind: none)"), ("http://box:8080", "run on http://box:8080"), ("bubblewrap", None)],
)
def test_results_say_where_their_programs_ran(smoke, capsys, kind, told):
    p = parameters(sandbox_kind=kind)
    artifacts.write_table(p, "scores", "sft", pd.DataFrame({"x": [1]}), artifacts.record(p))
    artifacts.finish(p, "evaluate-sft", [], [])
    artifacts.write_headline(parameters(), ["the table"])
    headline = (locations.study_folder("smoke") / "headline.txt").read_text()
    for text in (capsys.readouterr().out, headline):
        assert ("generated programs" in text) == bool(told) and (told or "") in text
    with pytest.raises(artifacts.MixedResultsError, match="sandbox_kind"):
        artifacts.read_table(parameters(sandbox_kind="elsewhere"), "scores", ["sft"])


def test_missing_table_names_the_command_that_makes_it(smoke):
    with pytest.raises(FileNotFoundError, match="make study PARAMS=params/smoke.yaml"):
        artifacts.read_table(parameters(), "scores", ["sft"])
