"""What runs again: an edit of each kind, and Snakemake's own plan of a finished study after it."""

import json
import os
import shutil
from types import SimpleNamespace

import pytest
import yaml
from snakemake.api import SnakemakeApi
from snakemake.settings.enums import Quietness, RerunTrigger
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings

from m2rl_lib.cli import reruns
from m2rl_lib.config import locations, versions
from m2rl_lib.config.locations import ROOT

TRIGGERS = {RerunTrigger.MTIME, RerunTrigger.PARAMS, RerunTrigger.INPUT}  # those of the Makefile
NOTEBOOK = "notebooks/05_merging.ipynb"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with the Snakefile, the notebooks, and a study that is done as Snakemake's own records say."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns("rendered"))
    shutil.copy(ROOT / "Snakefile", folder)
    values = yaml.safe_load((ROOT / "params" / "smoke.yaml").read_text())
    values |= {"study": "pair", "domains": ["math", "coding"], "data_thinking": {}}
    (folder / "pair.yaml").write_text(yaml.safe_dump(values))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locations, "ROOT", folder)
        patch.setattr(locations, "RUNS", folder / "runs")
        patch.chdir(folder)
        for job in plan(folder, forceall=True):
            for file in job.output:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).touch()
                os.utime(folder / file, (1e9, 1e9))
        plan(folder, "touch", forceall=True)
        yield folder


def plan(folder, executor: str = "dryrun", **settings) -> list:
    """The jobs that Snakemake would run in `folder`."""
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        config = ConfigSettings(config={"params": "pair.yaml"})
        workflow = api.workflow(ResourceSettings(cores=1), config_settings=config, snakefile=folder / "Snakefile", workdir=folder)
        workflow.dag(DAGSettings(rerun_triggers=TRIGGERS, **settings)).execute_workflow(executor=executor)
        return list(workflow._workflow.dag.needrun_jobs(exclude_finished=False))


def edit_cell(folder, kind: str, old: str, new: str) -> None:
    """Replace text of the first cell of a kind in which it occurs."""
    book = json.loads((folder / NOTEBOOK).read_text())
    cell = next(cell for cell in book["cells"] if cell["cell_type"] == kind and old in "".join(cell["source"]))
    cell["source"] = "".join(cell["source"]).replace(old, new, 1)
    (folder / NOTEBOOK).write_text(json.dumps(book))


def edit_parameter(folder, name: str) -> None:
    values = yaml.safe_load((folder / "pair.yaml").read_text())
    (folder / "pair.yaml").write_text(yaml.safe_dump(values | {name: values[name] * 2}))


EDITS = {  # what is edited: how, and the first stage that runs again
    "prose": (lambda folder, _: edit_cell(folder, "markdown", "# ", "# Edited: "), None),
    "import": (lambda folder, _: edit_cell(folder, "code", "import ", "import json\nimport "), None),
    "code": (lambda folder, _: edit_cell(folder, "code", "from m2rl_lib", "edited = 1\nfrom m2rl_lib"), "merges"),
    "parameter": (lambda folder, _: edit_parameter(folder, "merge_lambda"), "merges"),
    "version": (lambda _, patch: patch.setitem(versions.STAGES, "05", 2), "merges"),
    "version of SFT": (lambda _, patch: patch.setitem(versions.STAGES, "02", 2), "sft"),
}


@pytest.mark.parametrize("kind", EDITS)
def test_what_runs_again(finished, monkeypatch, kind):
    edit, first = EDITS[kind]
    files = {path: path.read_bytes() for path in (finished / NOTEBOOK, finished / "pair.yaml")}
    try:
        edit(finished, monkeypatch)
        planned = {job.rule.name for job in plan(finished)}
    finally:
        for path, data in files.items():
            path.write_bytes(data)
    if first is None:
        assert not planned
    else:
        follow = {"evaluate_merges", "rq1", "rq4", "paper", "claims"}
        assert {first} | follow <= planned and "data" not in planned
        assert ("sft" in planned) == ("expert_rl-math" in planned) == ("evaluate_sft" in planned) == (first == "sft")


CODE = "def double(x: int) -> int:\n    return 2 * x\n"


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("def", "import os\nfrom math import pi\n\n\ndef", True),
        ("    return", "    import os\n\n    return", True),
        ("    return", '    """Twice."""\n    return', True),
        ("    return", "    # twice\n\n    return", True),
        ("2 * x", "(2*x)", True),
        ("2 * x", "3 * x", False),
        ("    return", "    'no docstring: ' + 'it is computed'\n    return", False),
        ("x: int)", "x: int = 1)", False),
    ],
)
def test_a_digest_is_of_behaviour(old, new, same):
    assert (versions.code_digest(CODE) == versions.code_digest(CODE.replace(old, new))) is same


def reason(**given):
    names = ("missing_output", "incomplete_output", "updated_input", "updated_input_run", "params_changed")
    return SimpleNamespace(**dict.fromkeys(names) | given)


def changed(*values: str):
    old, new = ([repr("ab"), repr(value)] for value in values)
    return reason(params_changed=SimpleNamespace(only_old=old, only_new=new))


def test_causes_are_said():
    jobs = [("03: rl-math", changed('{"seed": 0, "rlvr_steps": 4}', '{"seed": 0, "rlvr_steps": 8}'))]
    jobs += [("05: merges", reason(updated_input_run={"x"})), ("06: MT-OPD", reason(updated_input={"x"}))]
    jobs += [("01: data", reason(missing_output={"x"}))]
    jobs += [("02: SFT", changed('{"code": "ab12", "version": 1}', '{"code": "cd34", "version": 2}'))]
    assert reruns.explain(jobs) == [
        "03: rl-math runs again: rlvr_steps was 4, is 8",
        "02: SFT runs again: its notebook's code changed; version was 1, is 2",
        "1 not made yet, or broken off: 01: data",
        "2 run again because what they read is made anew: 05: merges, 06: MT-OPD",
    ]
    assert reruns.explain([]) == ["nothing to run: everything is made, by these parameters and this code"]
