"""The shape of a model: what its number of parameters and its memory follow from, before anything is loaded."""

import json
from dataclasses import dataclass

from m2rl_lib.config.study import Study
from m2rl_lib.data import problem_sets
from m2rl_lib.storage import hub

MERGE_SECONDS = 17e-9  # a parameter and expert: TIES, the slowest, took 18 s for five of 0.22 B (dev/MERGING.md)
TSV_SECONDS = 0.5e-9  # a parameter, expert and hidden dimension: five matrices of 1024 × 1024 took 2.7 s on one thread


@dataclass(frozen=True)
class Shape:
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool = True

    @property
    def parameters(self) -> int:
        """Weights in all: Qwen3-4B-Base has 4,022,468,096."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads) + 2 * self.head_dim
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return self.vocabulary * self.hidden * (1 if self.tied else 2) + self.layers * layer + self.hidden

    @property
    def activations(self) -> int:
        """Numbers a token that one layer keeps for the backward pass: inputs of its matrices, norms and non-linearities."""
        return 4 * self.hidden + 2 * (self.heads + self.kv_heads) * self.head_dim + 4 * self.intermediate


KNOWN = {
    "Qwen/Qwen3-4B-Base": Shape(36, 2560, 9728, 32, 8, 128, 151936),
    "Qwen/Qwen3-0.6B-Base": Shape(28, 1024, 3072, 16, 8, 128, 151936),
}


def shape_of(p: Study) -> Shape:
    """The shape of the study's model: the micro model's, a known base model's, or that of a `config.json` on this machine."""
    if p.sft_base_model == problem_sets.MICRO:
        width, heads = p.micro_hidden_size, p.micro_heads
        return Shape(p.micro_layers, width, 3 * width, heads, heads // 2, width // heads, p.micro_vocabulary)
    if known := KNOWN.get(p.sft_base_model.split("@")[0]):
        return known
    source = hub.parse_source(p.sft_base_model, "model")
    return read_shape(json.loads((hub.fetch_files(source, ["config.json"]) / "config.json").read_text()))


def read_shape(config: dict) -> Shape:
    """The shape in a `config.json`."""
    heads = config["num_attention_heads"]
    layers, hidden, intermediate, vocabulary = (
        config[key] for key in ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size")
    )
    kv_heads, head_dim = config.get("num_key_value_heads") or heads, config.get("head_dim") or hidden // heads
    return Shape(layers, hidden, intermediate, heads, kv_heads, head_dim, vocabulary, config.get("tie_word_embeddings", False))
