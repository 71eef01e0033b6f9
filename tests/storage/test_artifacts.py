"""Models and tables are published atomically, checked before use, and never mixed."""

import json

import pandas as pd
import pytest

from m2rl_lib.config import locations
from m2rl_lib.config.study import Parameters
from m2rl_lib.storage import artifacts, atomic, result_tables


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


def test_failure_leaves_the_last_good_folder(folder):
    before = artifacts.read_manifest(folder)
    with pytest.raises(RuntimeError), artifacts.publish(folder, artifacts.record(parameters())) as fresh:
        (fresh / "half").write_text("written")
        raise RuntimeError("disk full")
    assert artifacts.read_manifest(folder) == before
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def damaged(data: bytes, kind: str, where: int) -> bytes:
    """`data` with a bit flipped at `where`, with zeros from there on, or cut there."""
    if kind == "flip":
        return data[:where] + bytes([data[where] ^ 4]) + data[where + 1 :]
    return data[:where] + (bytes(len(data) - where) if kind == "zero tail" else b"")


DAMAGES = pytest.mark.parametrize("kind", ["flip", "zero tail", "truncate"])


@DAMAGES
@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
def test_a_damaged_file_of_a_model_is_named(folder, kind, name):
    data = (folder / name).read_bytes()
    for where in (len(data) // 2, len(data) - 200):
        (folder / name).write_bytes(damaged(data, kind, where))
        with pytest.raises(atomic.DamagedError, match=f"{name} is damaged.*rm .*done/seed-0/sft.json; make study") as error:
            artifacts.verify_model(folder)
        assert "\n" not in str(error.value)


def test_missing_and_added_files_are_named(folder):
    extra = (folder / "model.safetensors").rename(folder / "extra.safetensors")
    with pytest.raises(FileNotFoundError, match="model.safetensors is missing"):
        artifacts.verify_model(folder)
    (folder / "model.safetensors").write_bytes(extra.read_bytes())
    with pytest.raises(atomic.DamagedError, match="extra.safetensors was not published with this model"):
        artifacts.verify_model(folder)


def test_a_model_is_hashed_once_unless_it_changes(folder, monkeypatch):
    hashed, original = [], atomic.sha256
    monkeypatch.setattr(atomic, "sha256", lambda path: hashed.append(path.name) or original(path))
    assert artifacts.verify_model(folder) == artifacts.verify_model(folder) == folder
    assert sorted(hashed) == sorted(artifacts.read_manifest(folder)["files"])
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    with pytest.raises(atomic.DamagedError, match="config.json is damaged"):
        artifacts.verify_model(folder)


@DAMAGES
def test_a_damaged_table_is_named(smoke, kind):
    p = parameters()
    result_tables.write_table(p, "scores", "sft", pd.DataFrame({"correct": [0.0, 1.0] * 500}), artifacts.record(p))
    path = result_tables.table_file(p, "scores", "sft")
    whole = path.read_bytes()
    assert result_tables.read_table(p, "scores", ["sft"])["correct"].sum() == 500
    for where in range(4, len(whole) - 8, 97):
        path.write_bytes(damaged(whole, kind, where))
        if path.read_bytes() != whole:
            with pytest.raises(atomic.DamagedError, match=f"{path} is damaged") as error:
                result_tables.read_table(p, "scores", ["sft"])
            assert "\n" not in str(error.value)
    path.write_bytes(whole)
    path.with_name(f"{path.name}.sha256").unlink()  # as in the committed tables
    assert result_tables.read_table(p, "scores", ["sft"])["correct"].sum() == 500


def test_missing_and_foreign_folders_and_tables(smoke, tmp_path):
    with pytest.raises(FileNotFoundError, match="rl-math is missing"):
        artifacts.read_manifest(locations.model_folder("smoke", 0, "rl-math"))
    with pytest.raises(FileNotFoundError, match="not a published model"):
        artifacts.read_manifest(tmp_path)
    for writers in (["sft"], None):
        with pytest.raises(FileNotFoundError, match="make study PARAMS=params/smoke.yaml"):
            result_tables.read_table(parameters(), "scores", writers)


def test_parameters_are_joined_with_those_of_the_inputs(folder):
    made_by = artifacts.record(parameters(rlvr_steps=4), [folder])
    assert made_by["parameters"] == {"sft_steps": 20, "rlvr_steps": 4}
    assert list(made_by["inputs"].values()) == [artifacts.read_manifest(folder)["digest"]]
    with pytest.raises(artifacts.MixedResultsError, match="sft_steps is 30 in this run and 20 in .*sft"):
        artifacts.record(parameters(sft_steps=30), [folder])


def test_done_stands_until_something_differs(folder):
    p = parameters(sft_steps=20)
    assert not artifacts.is_done(p, "sft", [folder], [])
    artifacts.finish(p, "sft", [folder], [])
    assert artifacts.is_done(p, "sft", [folder], [])
    done = locations.done_file("smoke", 0, "sft")
    before = done.stat().st_mtime_ns
    used = json.loads(done.read_text())["spent"]
    assert used["wall_seconds"] > 0 and used["cpu_seconds"] > 0 and used["peak_memory_bytes"] > 5e7
    artifacts.finish(p, "sft", [folder], [])
    assert done.stat().st_mtime_ns == before  # nothing after it has to run again
    with pytest.raises(artifacts.MixedResultsError, match="sft_steps is 30 in this notebook and 20"):
        artifacts.is_done(parameters(sft_steps=30), "sft", [folder], [])
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"digest": "other"}))
    assert not artifacts.is_done(p, "sft", [folder], [])


def test_tables_are_read_together_only_if_they_agree(smoke):
    for writer, x, samples in (("sft", 1, 2), ("rl", 2, 2), ("other", 3, 4)):
        p = parameters(evaluate_samples=samples)
        result_tables.write_table(p, "scores", writer, pd.DataFrame({"x": [x]}), artifacts.record(p))
    assert result_tables.read_table(parameters(), "scores", ["sft", "rl"])["x"].tolist() == [1, 2]
    with pytest.raises(artifacts.MixedResultsError, match="evaluate_samples"):
        result_tables.read_table(parameters(), "scores")
    with pytest.raises(artifacts.MixedResultsError, match="this notebook"):
        result_tables.read_table(parameters(evaluate_samples=8), "scores", ["sft"])


@pytest.mark.parametrize(
    ("kind", "stamp"),
    [("none", "UNPROTECTED (sandbox_kind: none)"), ("http://box:8080", "run on http://box:8080"), ("bubblewrap", None)],
)
def test_results_say_where_their_programs_ran(smoke, capsys, kind, stamp):
    p = parameters(sandbox_kind=kind)
    result_tables.write_table(p, "scores", "sft", pd.DataFrame({"x": [1]}), artifacts.record(p))
    artifacts.finish(p, "evaluate-sft", [], [])
    result_tables.write_headline(parameters(), ["the table"])
    headline = (locations.study_folder("smoke") / "headline.txt").read_text()
    for text in (capsys.readouterr().out, headline):
        assert ("generated programs" in text) == bool(stamp) and (stamp or "") in text
    with pytest.raises(artifacts.MixedResultsError, match="sandbox_kind"):
        result_tables.read_table(parameters(sandbox_kind="elsewhere"), "scores", ["sft"])


def test_what_a_finished_stage_trained_on_is_removed_of_each_model_it_made(smoke, model, publish_model):
    """A cascade trains each of its models under its own name."""
    made = [publish_model(name, model) for name in ("cascade@step=2", "cascade")]
    left = [locations.work_folder(smoke.study, smoke.seed, folder.name) / "checkpoint-2" for folder in made]
    for folder in left:
        folder.mkdir(parents=True)
    artifacts.finish(smoke, "cascade", made, [])
    assert not any(folder.exists() for folder in left)
