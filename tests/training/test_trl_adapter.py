"""Every private name of TRL and transformers that the adapter uses, with its parameters: a new release that lacks one fails here."""

import inspect
import re
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, Trainer, TrainingArguments
from trl import DistillationTrainer, GRPOTrainer, SFTTrainer
from trl.generation.vllm_client import VLLMClient
from trl.generation.vllm_generation import VLLMGeneration

from m2rl_lib.training import trl_adapter

POLICIES = (GRPOTrainer, DistillationTrainer)
ALL = (SFTTrainer, *POLICIES)
STATES = "input_ids attention_mask logits_to_keep"
METHODS = [  # class, name, the parameters that the adapter gives or is given
    *((cls, "_save_checkpoint", "model trial") for cls in ALL),
    (Trainer, "_load_optimizer_and_scheduler", "checkpoint"),
    (Trainer, "_issue_warnings_after_load", "load_result"),
    *((Trainer, f"_save_{what}", "output_dir") for what in ("optimizer_and_scheduler", "scaler", "rng_state")),
    *((cls, "_generate_and_score_completions", "inputs") for cls in POLICIES),
    *((cls, "_prepare_inputs", "generation_batch") for cls in POLICIES),
    (GRPOTrainer, "_generate_single_turn", "prompt_ids images multimodal_fields num_generations"),
    (DistillationTrainer, "_generate_single_turn", "prompt_ids images multimodal_fields"),
    (GRPOTrainer, "_compute_loss", "model inputs"),
    (DistillationTrainer, "_compute_loss", "unwrapped_student inputs num_items_in_batch"),
    (GRPOTrainer, "_get_per_token_logps_and_entropies", f"model {STATES} batch_size compute_entropy"),
    (DistillationTrainer, "_generate", "prompts"),
    (DistillationTrainer, "_get_last_hidden_state", f"unwrapped_model {STATES}"),
    (VLLMGeneration, "_iter_named_params", ""),
    (VLLMClient, "_post", "url"),
]
ATTRIBUTES = [
    *((cls, name) for cls in POLICIES for name in ("_step", "_buffered_inputs")),
    *((cls, name) for cls in ALL for name in ("_metrics", "_total_train_tokens")),
    *((Trainer, name) for name in ("_tr_loss", "_total_loss_scalar", "_globalstep_last_logged")),
]
OTHERS = {(PreTrainedModel, "_tied_weights_keys"), (TrainingArguments, "_setup_devices")}
NAMES = {name for _, name, _ in METHODS} | {name for _, name in ATTRIBUTES} | {name for _, name in OTHERS}


@pytest.mark.parametrize(("cls", "name", "parameters"), METHODS)
def test_methods_are_there_with_their_parameters(cls, name, parameters):
    found = list(inspect.signature(getattr(cls, name)).parameters.values())
    parameters = ["self", *parameters.split()]
    assert [parameter.name for parameter in found][: len(parameters)] == parameters
    assert all(parameter.default is not parameter.empty or parameter.kind > 1 for parameter in found[len(parameters) :])


@pytest.mark.parametrize(("cls", "name"), ATTRIBUTES)
def test_attributes_are_set(cls, name):
    assert re.search(rf"self\.{name}\b.*=", inspect.getsource(cls)), f"{cls.__name__} sets no {name}"


def test_the_adapter_has_them_all_and_no_other_file_has_any():
    source = Path(trl_adapter.__file__).read_text()
    assert all(hasattr(cls, name) for cls, name in OTHERS)
    assert set(re.findall(r"(?:\.|def |\")(_[a-z]\w+)", source)) == NAMES
    library = Path(trl_adapter.__file__).parents[1]
    for path in (*library.glob("training/*.py"), *library.glob("rollout/*.py")):
        if path.name != "trl_adapter.py":
            own = set(re.findall(r"def (_\w+)", path.read_text()))
            assert not (set(re.findall(r"\.(_[a-z]\w+)", path.read_text())) - own) & NAMES, path.name


def test_weights_are_copied_before_adapters_are_taken_out_of_them_again():
    weight = torch.zeros(2)

    def named():
        weight.add_(1)  # merged
        yield "weight", weight
        weight.sub_(1)

    assert trl_adapter.copied(named())["weight"].tolist() == [1, 1] and weight.tolist() == [0, 0]
