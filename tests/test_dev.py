"""The benchmarks' own arithmetic: what they say of recorded times must be true of the records."""

import json
from datetime import UTC, datetime

import nbformat
import pandas as pd
import peers
import publish
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import study_times
import torch
from safetensors.torch import save_file

from m2rl_lib.config import locations
from m2rl_lib.config.locations import ROOT


def stage(name, begun, ended, seed=0):
    return {"stage": name, "seed": seed, "begun": begun, "ended": ended}


def test_the_chain_goes_back_through_what_ended_just_before_up_to_a_pause():
    found = [stage("sft", 0, 100), stage("short", 101, 120), stage("long", 103, 300), stage("last", 305, 400)]
    assert study_times.chain(found) == ["sft", "long", "last"]
    assert study_times.chain([stage("sft", 0, 100), stage("rl-math", 5000, 5100)]) == ["rl-math"]


def test_time_covered_counts_overlaps_once_and_pauses_never():
    assert study_times.covered([stage("a", 0, 10), stage("b", 5, 20), stage("c", 6, 8), stage("d", 100, 130)]) == 50


@pytest.fixture
def three_seeds(tmp_path, monkeypatch) -> list[dict]:
    """Records of a study on three seeds: (seed, name, begun, ended, CPU seconds, peak in MB), in minutes; as read back."""
    monkeypatch.setattr(locations, "RUNS", tmp_path)
    runs = [("tiny", seed, "sft", 10 * seed, 10 * seed + 4 + seed, 6 + seed, 500) for seed in (0, 1, 2)]
    runs += [("tiny", seed, "rl-math", 10 * seed + 4 + seed, 10 * seed + 10, 5, 600 + seed) for seed in (0, 1, 2)]
    runs += [("tiny-unshared", 0, "rl-math", 4, 6, 2, 100), ("tiny-unshared", 0, "sft", 0, 4, 6, 1)]
    runs += [("tiny", 0, "rq1", 30, 31, 1, 200)]
    for world, seed, name, begun, ended, cpu, peak in runs:
        file = locations.done_file(world, seed, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        spent = {"wall_seconds": 60.0 * (ended - begun), "cpu_seconds": 60.0 * cpu, "peak_memory_bytes": peak * 10**6}
        finished = datetime.fromtimestamp(1_700_000_000 + 60 * ended, UTC).isoformat(timespec="seconds")
        file.write_text(json.dumps({"name": name, "seeds": [seed], "finished": finished, "spent": spent}))
    locations.done_file("tiny", 0, "old").write_text(json.dumps({"name": "old", "finished": finished}))  # times were not kept
    return study_times.stages("tiny")


def test_stages_are_medians_over_seeds_and_cores_as_busy_as_the_records_say(three_seeds):
    rows = {row.pop("stage"): row for row in study_times.stage_table(three_seeds)}
    assert list(rows) == ["sft", "rl-math in unshared", "rl-math", "rq1"]
    assert rows["sft"] == {"seeds": 3, "wall, s": 300, "CPU, s": 420, "peak, GB": 0.5}  # walls of 4, 5 and 6 minutes
    assert rows["rl-math"] == {"seeds": 3, "wall, s": 300, "CPU, s": 300, "peak, GB": 0.602}  # 6, 5 and 4
    assert rows["rl-math in unshared"]["seeds"] == rows["rq1"]["seeds"] == 1
    rows = {row.pop("part"): row for row in study_times.part_table(three_seeds, cores=2)}
    assert list(rows) == ["seed 0", "seed 1", "seed 2", "once for all seeds", "in all"]
    assert rows["seed 0"] == {"stages": 3, "minutes": 10, "CPU minutes": 13, "cores busy, %": 65}  # the other world is in it
    assert rows["seed 2"] == {"stages": 2, "minutes": 10, "CPU minutes": 13, "cores busy, %": 65}
    assert rows["once for all seeds"] == {"stages": 1, "minutes": 1, "CPU minutes": 1, "cores busy, %": 50}
    assert rows["in all"]["minutes"] == 31 and rows["in all"]["CPU minutes"] == 39


def test_the_chain_names_seeds_where_there_are_several(three_seeds):
    last = ["sft [1]", "rl-math [1]", "sft [2]", "rl-math [2]", "rq1"]
    assert study_times.chain(three_seeds) == ["sft [0]", "rl-math [0]", *last]
    assert study_times.chain([one for one in three_seeds if one["seed"] == 1]) == ["sft", "rl-math"]


@pytest.mark.skipif(not (ROOT / "dev" / "RESULTS.json").is_file(), reason="make bench has not been run")
def test_the_docs_say_how_long_the_study_took_as_measured():
    said = study_times.say(json.loads((ROOT / "dev" / "RESULTS.json").read_text())["study"])
    assert said in " ".join((ROOT / "docs" / "benchmarks.md").read_text().split()), f"docs/benchmarks.md should say: {said}"


def test_what_is_published_has_the_same_rows_and_no_standard_error(tmp_path):
    made = {"0-sft": [1.0, None], "0-skills": [3.0], "1-sft": [2.0]}
    for name, values in made.items():
        table = pa.Table.from_pandas(pd.DataFrame({"seed": int(name[0]), "score": values}), preserve_index=False)
        kept = table.schema.metadata | {b"m2rl": json.dumps({"commit": f"c{name[0]}"}).encode()}
        pq.write_table(table.replace_schema_metadata(kept), tmp_path / f"{name}.parquet")
    publish.pack([tmp_path / "0-sft.parquet", tmp_path / "1-sft.parquet"], tmp_path / "all.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-skills.parquet", "all.parquet"]
    found = {name: frame["score"].tolist() for name, frame in publish.parts(tmp_path / "all.parquet")}
    assert found == {"0-sft": [1.0, pytest.approx(float("nan"), nan_ok=True)], "1-sft": [2.0]}
    said = [nbformat.v4.new_output("stream", name=name, text=name) for name in ("stdout", "stderr")]
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=said)]), tmp_path / "one.ipynb")
    publish.drop_standard_error(tmp_path / "one.ipynb")
    assert [output.name for output in nbformat.read(tmp_path / "one.ipynb", 4).cells[0].outputs] == ["stdout"]


def test_a_peers_weights_differ_where_rounding_does_not_explain_it(tmp_path):
    model = torch.nn.Linear(10, 10, bias=False)
    rounded = model.weight.detach().bfloat16()
    rounded[0, :3] += 1
    save_file({"weight": rounded}, tmp_path / "model.safetensors")
    assert peers.difference(model, tmp_path) == 0.03


@pytest.mark.parametrize(
    ("given", "why"),
    [("mergekit=.", "no such peer; allowed: mergelm=PATH"), ("mergelm=.", "it has no model_merging_methods/merging_methods.py")],
)
def test_what_is_no_peer_is_refused_in_one_line(given, why):
    with pytest.raises(SystemExit, match=why) as error:
        peers.read_peer(given)
    assert "\n" not in str(error.value)
