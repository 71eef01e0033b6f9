"""Rewards thrown into training: a tiny model, two GRPO steps, given rewards and, where a case says so, completions."""

import contextlib
import math
import pathlib
import tempfile
from types import SimpleNamespace
from unittest import mock

import corpora
import torch
from safetensors.torch import load_file

from m2rl_lib import domains
from m2rl_lib.config import locations, study
from m2rl_lib.data import sft_corpus
from m2rl_lib.rollout import trainer_rollouts
from m2rl_lib.rollout.tool_turns import Completion
from m2rl_lib.storage import artifacts
from m2rl_lib.training import common, grpo, micro_model

STEPS = 2


def throw(rewards: list[float | None], texts: list[str] | None, expect: object) -> tuple[str, bool]:
    """(what came of it in a few words, whether that is as expected): an error, or the signs of the advantages and
    finite weights."""
    advantages: list[list[float]] = []
    compute_loss = grpo.DomainTrainer._compute_loss

    def watched_loss(trainer, model, inputs):
        advantages.append(inputs["advantages"].tolist())
        return compute_loss(trainer, model, inputs)

    def given_rollout(trainer, prompts, rows):
        tokenizer = trainer.processing_class
        ids = [tokenizer(text)["input_ids"] for text in texts]
        return [Completion(i, [1] * len(i), text, not i) for i, text in zip(ids, texts)], tokenizer(prompts)["input_ids"]

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.object(locations, "RUNS", pathlib.Path(folder)))
        p = SimpleNamespace(**study.load(locations.ROOT / "params" / "smoke.yaml").model_dump())
        start = _start_model(p)
        patches.enter_context(mock.patch.object(grpo.DomainTrainer, "_compute_loss", watched_loss))
        patches.enter_context(mock.patch.object(common.Keeper, "log_selection", lambda *_: None))
        patches.enter_context(mock.patch.object(domains.DOMAINS["math"], "verify", lambda given, rows: rewards[: len(given)]))
        if texts is not None:
            patches.enter_context(mock.patch.object(trainer_rollouts, "roll_out", given_rollout))
        try:
            (trained,) = grpo.train(p, "rl-math", ["math"], STEPS, [STEPS], start, seed=0)
        except FloatingPointError as error:
            return f"error: {str(error).split(' for ')[0]}", expect == "E"
        finite = all(torch.isfinite(tensor).all() for tensor in load_file(trained / "model.safetensors").values())
    signs = sorted("0+-"[(value > 0) - (value < 0)] for value in advantages[0])  # the trainer has shuffled them
    good = finite and all(math.isfinite(value) for step in advantages for value in step) and signs == sorted(map(str, expect))
    return f"advantages {' '.join(signs)}, weights {'finite' if finite else 'NOT FINITE'}", good


def _start_model(p: SimpleNamespace) -> pathlib.Path:
    """An untrained micro model, published as the study's SFT model."""
    corpus = corpora.corpus(["math"])
    tokenizer = micro_model.train_tokenizer(sft_corpus.corpus_texts(corpus), 400, 512)
    folder = locations.model_folder(p.study, p.seed, "sft")
    with artifacts.publish(folder, artifacts.record(SimpleNamespace(study=p.study, seed=p.seed))) as fresh:
        micro_model.build_model(tokenizer, p.micro_hidden_size, 2, 2, 512, 0).save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
    return folder
