"""Small real things that many tests use: a study in a temporary folder, a tiny tokenizer and model."""

import random

import corpora
import pytest
import yaml

from m2rl_lib import domains
from m2rl_lib.config import locations, study
from m2rl_lib.config.study import Parameters
from m2rl_lib.data import sft_corpus
from m2rl_lib.storage import artifacts
from m2rl_lib.training import micro_model


@pytest.fixture
def smoke(tmp_path, monkeypatch) -> Parameters:
    """The smoke study's parameters, its runs in a temporary folder."""
    monkeypatch.setattr(locations, "RUNS", tmp_path / "runs")
    values = study.load(locations.ROOT / "params" / "smoke.yaml").model_dump()
    trained = [name for name in values["joint_models"] if not name.startswith("lora-")]  # merges of adapters need their experts
    return study.Parameters.model_construct(**values | {"joint_models": trained, "lora": 0})


@pytest.fixture(scope="session")
def smoke_values() -> dict:
    return yaml.safe_load((locations.ROOT / "params" / "smoke.yaml").read_text())


@pytest.fixture(scope="session")
def corpus() -> list[dict]:
    """A small SFT corpus of all domains."""
    return corpora.corpus(list(domains.DOMAINS))


@pytest.fixture(scope="session")
def tokenizer(corpus):
    return micro_model.train_tokenizer(sft_corpus.corpus_texts(corpus), 400, 512)


@pytest.fixture
def model(tokenizer):
    return micro_model.build_model(tokenizer, hidden_size=32, layers=2, heads=2, context=512, seed=0)


@pytest.fixture
def rng() -> random.Random:
    return random.Random(0)


@pytest.fixture
def publish_model(smoke, tokenizer):
    """Publish a tiny model under a name, as a stage would; returns its folder."""

    def publish(name: str, model, inputs=(), parameters: Parameters | None = None):
        folder = locations.model_folder(smoke.study, smoke.seed, name)
        made_by = artifacts.record(parameters or Parameters.model_construct(study=smoke.study, seed=smoke.seed), list(inputs))
        with artifacts.publish(folder, made_by) as fresh:
            model.save_pretrained(fresh)
            tokenizer.save_pretrained(fresh)
        return folder

    return publish
