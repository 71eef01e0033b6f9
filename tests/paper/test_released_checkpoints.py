"""Released checkpoints, as six small folders of their shape: SFT, four experts, RL-Multi, in bfloat16."""

import copy
import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from m2rl_lib.analysis.rq3_weights import footprints, mask_overlap
from m2rl_lib.config import locations, study
from m2rl_lib.config.study import Parameters
from m2rl_lib.paper import released_checkpoints
from m2rl_lib.storage import artifacts, hub
from m2rl_lib.training import model_shape

DOMAINS = ["math", "coding", "science", "instruction_following"]


@pytest.fixture
def p(smoke, tmp_path, model, tokenizer) -> Parameters:
    """A study whose released checkpoints are plain folders without manifests, as `hf download` leaves them."""
    generator = torch.Generator().manual_seed(0)
    paths = []
    for name in ("M2RL-SFT", "M2RL-RL_Math", "M2RL-RL_Coding", "M2RL-RL_Science", "M2RL-RL_IF", "M2RL-RL_Multi"):
        moved = copy.deepcopy(model)
        if name != "M2RL-SFT":
            with torch.no_grad():
                for tensor in moved.parameters():
                    tensor += 0.05 * torch.randn(tensor.shape, generator=generator)
        folder = tmp_path / "weights" / name
        moved.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        paths.append(str(folder))
    given = {"domains": DOMAINS, "released_models": paths, "merge_methods": ["average", "ties"], "merge_dtype": "bfloat16"}
    return Parameters.model_construct(**vars(smoke) | given)


def test_six_folders_are_merged_and_measured(p):
    ahead = released_checkpoints.estimate(p)
    assert not locations.model_folder(f"{p.study}-released", p.seed, "sft").exists()  # an estimate makes nothing
    folders = released_checkpoints.adopt(p)
    assert list(folders) == ["sft", *(f"rl-{name}" for name in DOMAINS), "rl-multi"]
    merges = released_checkpoints.merge_all(p)
    assert list(merges) == ["merge-average", "merge-ties", "merge-ties@definition=paper"]
    weights_of = {name: load_file(folder / "model.safetensors") for name, folder in (folders | merges).items()}
    for name, tensor in weights_of["merge-average"].items():
        mean = torch.stack([weights_of[f"rl-{domain}"][name].float() for domain in DOMAINS]).mean(0)
        assert tensor.dtype == torch.bfloat16 and torch.allclose(tensor.float(), mean, rtol=2**-8)
    found = footprints.measure_footprints({n: f for n, f in (folders | merges).items() if n != "sft"}, folders["sft"])
    experts = [f"rl-{domain}" for domain in DOMAINS]
    norms = released_checkpoints.norm_table(mask_overlap.shift_table(found), mask_overlap.cosine_table(found), experts)
    vector = {n: torch.cat([(w[k].float() - weights_of["sft"][k].float()).flatten() for k in w]) for n, w in weights_of.items()}
    mean_norm = sum(vector[expert].norm() for expert in experts) / len(experts)
    for name in ("rl-multi", "merge-average", "merge-ties"):
        assert norms.loc[name, "norm"] == pytest.approx(float(vector[name].norm() / mean_norm), rel=1e-4)
        cosine = torch.cosine_similarity(vector[name], vector["rl-math"], dim=0)
        assert norms.loc[name, "cosine rl-math"] == pytest.approx(float(cosine), abs=1e-4)
    assert norms.loc["merge-average", "norm"] == pytest.approx(0.5, abs=0.05)  # of four orthogonal task vectors: 1 / √4
    config = json.loads((released_checkpoints.sources(p)["sft"].folder / "config.json").read_text())
    assert ahead.set_index("use").loc["merges", "disk_gb"] * 1e9 == 3 * 2 * model_shape.read_shape(config).parameters
    beside = released_checkpoints.against_published(norms).set_index("domain")
    assert list(beside.index) == DOMAINS and beside.loc["math", "mixed cosine"] == norms.loc["rl-multi", "cosine rl-math"]
    whose, far = released_checkpoints.answer(p, norms)
    assert whose == "Measured are the checkpoints that `released_models` names."
    assert f"Average merge ({norms.loc['merge-average', 'norm']:.2f})" in far
    own, _ = released_checkpoints.answer(p.model_copy(update={"released_models": []}), norms)
    assert own.startswith("Not answered: no released weights were measured.")
    digest = artifacts.read_manifest(folders["sft"])["digest"]
    for name, folder in folders.items():  # the experts say that they come from SFT
        manifest = artifacts.read_manifest(folder)
        assert manifest["source"].startswith("folder ") and (name == "sft" or digest in manifest["inputs"].values())


def make_all(p) -> tuple[dict, dict]:
    """The folders of checkpoints and merges, and when each was made."""
    folders = released_checkpoints.adopt(p) | released_checkpoints.merge_all(p)
    return folders, {name: (folder / artifacts.MANIFEST).stat().st_mtime_ns for name, folder in folders.items()}


def test_taken_in_once_and_again_when_a_file_changes(p, model):
    folders, made = make_all(p)
    assert make_all(p) == (folders, made)
    source = released_checkpoints.sources(p)["rl-math"].folder
    assert (source / "model.safetensors").samefile(folders["rl-math"] / "model.safetensors")  # linked, not copied
    (source / "model.safetensors").unlink()
    model.to(torch.bfloat16).save_pretrained(source)
    again = make_all(p)[1]
    assert {name for name in made if made[name] != again[name]} == {"rl-math", *(n for n in made if n.startswith("merge-"))}


def test_kl_is_left_out_without_a_gpu_and_sampled_where_it_can_be(p, monkeypatch):
    monkeypatch.setattr(released_checkpoints, "SMALL", 10)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    none = released_checkpoints.kl_table(p)
    assert none.empty and none[none["source"] == "rl-" + none["domain"]].empty  # what notebook 22 asks for
    assert "KL, left out: no GPU" in list(released_checkpoints.estimate(p)["use"])


def test_kl_of_small_models(p):
    few = p.model_copy(update={"domains": ["math", "coding"], "merge_methods": ["average"], "analysis_kl_samples": 1})
    few.released_models = [*p.released_models[:3], p.released_models[-1]]
    make_all(few)
    table = released_checkpoints.kl_table(few).set_index(["domain", "source", "target"])["kl"]
    assert table["math", "rl-math", "rl-math"] == pytest.approx(0, abs=1e-9)
    assert table["math", "rl-math", "merge-average"] > 0 and ("coding", "rl-math", "sft") in table.index


@pytest.mark.parametrize("name", ["sft", "rl-science"])
def test_another_architecture_stops_it_before_anything(p, name, monkeypatch):
    fetch = hub.fetch_files

    def fetch_configs_only(source, names):
        assert names == ["config.json"], f"{names} fetched before all were checked"
        return fetch(source, names)

    monkeypatch.setattr(hub, "fetch_files", fetch_configs_only)
    folder = released_checkpoints.sources(p)[name].folder
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(hub.SourceError, match="of another architecture: num_hidden_layers") as error:
        released_checkpoints.estimate(p)
    assert "\n" not in str(error.value)


def test_a_wrong_number_of_checkpoints(p):
    p.released_models = p.released_models[:-1]
    with pytest.raises(study.ParameterError, match="has 5 checkpoints, 6 are needed, in this order: sft, rl-math"):
        released_checkpoints.estimate(p)


def test_too_little_disk(p, monkeypatch):
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda place: SimpleNamespace(free=hub.RESERVE))
    with pytest.raises(hub.SourceError, match="6 checkpoints and 3 merges: "):
        released_checkpoints.estimate(p)
