"""The benchmarks' own arithmetic: what they say of recorded times must be true of the records."""

import sys

import pytest

from m2rl_lib.study import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import run as bench  # noqa: E402
import study_times  # noqa: E402


def stage(name, begun, ended):
    return {"stage": name, "begun": begun, "ended": ended}


def test_the_chain_goes_back_through_what_ended_just_before():
    found = [stage("sft", 0, 100), stage("short", 101, 120), stage("long", 103, 300), stage("last", 305, 400)]
    assert study_times.chain(found) == ["sft", "long", "last"]


def test_a_pause_between_two_sittings_ends_the_chain():
    assert study_times.chain([stage("sft", 0, 100), stage("rl-math", 5000, 5100)]) == ["rl-math"]


def test_time_covered_counts_overlaps_once_and_pauses_never():
    assert study_times.covered([stage("a", 0, 10), stage("b", 5, 20), stage("c", 6, 8), stage("d", 100, 130)]) == 50


def test_imports_are_all_those_of_the_notebook():
    code = study_times.imports(ROOT / "notebooks" / "11_rq1_mix_or_merge.ipynb")
    assert "from m2rl_lib.study import" in code and "artifacts" in code and "=" not in code


def test_tables_have_a_column_a_key():
    assert bench.table([{"a": 1.23456, "b": "x"}, {"a": 12345.6, "b": True}])[:4] == [
        "| a | b |",
        "|---|---|",
        "| 1.23 | x |",
        "| 12,346 | True |",
    ]


def test_a_failing_benchmark_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "HERE", tmp_path)
    (tmp_path / "broken.py").write_text("raise ValueError('no model')")
    with pytest.raises(SystemExit, match="broken.py failed: ValueError: no model"):
        bench.run("broken.py")
