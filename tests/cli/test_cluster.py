"""What a rule asks of a cluster: its GPU, memory and time, from the parameter file and profiles/slurm. `make slurm-test` runs it."""

import pytest
import yaml
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, ResourceSettings

from m2rl_lib.config.locations import ROOT

LINKS = {"sft_unshared", "sft_agreeing"}  # another world's SFT is a link to the study's
PROFILE = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text())


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    """Of a study on GPUs: name of the rule -> what the Snakefile asks for it."""
    values = yaml.safe_load((ROOT / "params" / "smoke.yaml").read_text())
    path = tmp_path_factory.mktemp("cluster") / "cluster.yaml"
    path.write_text(yaml.safe_dump(values | {"study": "cluster", "plan_device": "cuda", "train_accelerate": "fsdp2_4x8"}))
    with SnakemakeApi() as api:
        config = ConfigSettings(config={"params": str(path)})
        workflow = api.workflow(ResourceSettings(cores=2), config_settings=config, snakefile=ROOT / "Snakefile", workdir=ROOT)
        return {rule.name: dict(rule.resources) for rule in workflow._workflow.rules}


def test_rules_that_run_the_model_ask_for_a_gpu_and_no_other(rules):
    without = {name for name, resources in rules.items() if "gpu" not in resources}
    assert without == {"all", "data", "merges", "rq1", "rq2", "rq3", "rq4", "rq5", "rq6", "paper", "claims", *LINKS}


def test_rules_that_train_ask_for_all_gpus_of_their_processes(rules):
    training = {
        name: rules[name] for name in {*rules} - LINKS if name.startswith(("sft", "expert", "mixed", "joint", "distillation"))
    }
    assert len(training) > 9
    for asked in training.values():
        assert (asked["gpu"], asked["nodes"], asked["mem_mb"]) == (32, 4, 8 * 96_000)  # memory is that of a node
    assert rules["measuring"]["gpu"] == rules["evaluate_experts"]["gpu"] == 1 and "nodes" not in rules["evaluate_experts"]


def test_the_profile_names_rules_and_says_memory_and_time_of_all(rules):
    assert set(PROFILE["set-resources"]) <= set(rules)
    for asked in [PROFILE["default-resources"], *PROFILE["set-resources"].values()]:
        assert asked["mem_mb"] >= 4000 and 30 <= asked["runtime"] <= PROFILE["default-resources"]["runtime"]
    assert not {name for name in PROFILE["set-resources"] if "gpu" in rules[name]}  # it would take a GPU's memory away
