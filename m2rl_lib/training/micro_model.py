"""The micro world's model: a small Qwen3 and a BPE tokenizer trained on the corpus, a plain Hugging Face folder."""

from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from m2rl_lib.training.chat_templates import MICRO as CHAT_TEMPLATE
from m2rl_lib.training.model_shape import key_value_heads

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")


def train_tokenizer(texts: list[str], vocabulary: int, context: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on `texts`, every digit a token of its own."""
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(r"\s?[A-Za-z_]+|\s?[^\sA-Za-z0-9_]+|\s+"), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words, level])
    tokenizer.decoder = decoders.ByteLevel()
    special = [PAD, START, END]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.add_tokens([AddedToken(tag, special=False) for tag in TAGS])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, special_tokens=[*special, *TAGS])
    tokenizer.train_from_iterator(texts, trainer)
    shape = {"padding_side": "left", "model_max_length": context, "chat_template": CHAT_TEMPLATE}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, **shape)


def build_model(
    tokenizer: PreTrainedTokenizerFast, hidden_size: int, layers: int, heads: int, context: int, seed: int
) -> Qwen3ForCausalLM:
    """A Qwen3 model with random weights drawn from `seed`, input and output embeddings tied."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads(heads),
        head_dim=hidden_size // heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config)


def save_base(folder: Path, texts: list[str], *, vocabulary: int, context: int, **size) -> None:
    """Write the untrained model of `size` (`build_model`'s) and its tokenizer, made from `texts`, into `folder`."""
    tokenizer = train_tokenizer(texts, vocabulary, context)
    model = build_model(tokenizer, context=context, **size)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
