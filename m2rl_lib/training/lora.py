"""RL of low-rank adapters beside frozen weights (LoRA, by PEFT); what is published has the adapters merged into the weights."""

import copy

from peft import LoraConfig, PeftModel

RATE = 10  # times the RL rate: adapters start from a product of 0


def settings(rank: int) -> LoraConfig:
    """Adapters of all linear layers but the output head, scaled by 2 (alpha over rank), without dropout."""
    return LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")


def plain(model):
    """The transformers model within a PEFT one, whose layers have their adapters; any other model as it is."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def merged(model):
    """A copy of a PEFT model with its adapters merged into the weights; any other model as it is."""
    return copy.deepcopy(model).merge_and_unload() if isinstance(model, PeftModel) else model
