"""A causal language model of the Hub, or of a folder, as the base that SFT starts from; checked before weights are fetched."""

import importlib.util
import json
from pathlib import Path

from m2rl_lib.domains import chat
from m2rl_lib.storage import hub
from m2rl_lib.training.chat_templates import GENERAL as TEMPLATE

WEIGHTS = (".safetensors", ".safetensors.index.json")
GGUF = ".gguf"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")  # which can run code when they are read
BESIDE = ("config.json", "generation_config.json", "tokenizer", "special_tokens_map.json", "vocab", "merges.txt", "added_tokens")
# of two checkpoints with these equal the tensors have equal shapes
SHAPE = ("model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
SHAPE += ("num_key_value_heads", "head_dim", "vocab_size", "tie_word_embeddings")


def load_tokenizer(source: str):
    """The tokenizer of `source` (a parameter's value) in our chat form, as `save_base` saves it; no weights are fetched."""
    from transformers import AutoTokenizer

    where = hub.parse_source(source, "model")
    fetched = hub.fetch_files(where, [name for name in wanted_files(where) if not name.endswith(WEIGHTS)])
    tokenizer = AutoTokenizer.from_pretrained(fetched, trust_remote_code=False, **gguf_of(where))
    return prepare_tokenizer(tokenizer, str(where))


def save_base(folder: Path, source: str) -> None:
    """Write the model and tokenizer of `source` (a parameter's value) into `folder`, as float32 and with our chat form."""
    from transformers import AutoModelForCausalLM

    where = hub.parse_source(source, "model")
    check_checkpoint(where)
    fetched = hub.fetch_files(where, wanted_files(where))
    tokenizer = load_tokenizer(source)
    # bfloat16 would round a step of RL away
    how = {"dtype": "float32", "trust_remote_code": False, **(gguf_of(where) or {"use_safetensors": True})}
    model = AutoModelForCausalLM.from_pretrained(fetched, **how)
    if gguf_of(where):  # read as float32, so it is to be saved as any other model
        model.hf_quantizer, model.config.architectures = None, [type(model).__name__]
        del model.config.quantization_config
    for settings in (model.config, model.generation_config):
        settings.eos_token_id, settings.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def wanted_files(source: hub.Source) -> list[str]:
    """The files of a model that are fetched: safetensors, configuration and tokenizer at the top of the repository."""
    names = [name for name in hub.list_files(source) if "/" not in name]
    return [name for name in names if name.endswith((*WEIGHTS, ".jinja", GGUF)) or name.startswith(BESIDE)]


def gguf_of(source: hub.Source) -> dict[str, str]:
    """transformers' argument for a source that is one GGUF file; {} for safetensors. SourceError for what cannot be read."""
    names = list(hub.list_files(source))
    files = [name for name in names if name.endswith(GGUF) and "/" not in name]
    if not files or any(name.endswith(WEIGHTS) for name in names):
        return {}
    if len(files) > 1:
        raise hub.SourceError(f"{source} has {len(files)} GGUF files ({', '.join(files)}), allowed is one")
    if not importlib.util.find_spec("gguf"):
        raise hub.SourceError(f"{source} is a GGUF file and gguf is not installed: pip install -e '.[real]'")
    return {"gguf_file": files[0]}


def gguf_config(source: hub.Source) -> dict:
    """The configuration that transformers reads from a GGUF file; SourceError for what it or the package gguf cannot read."""
    from transformers import AutoConfig

    how = gguf_of(source)
    try:
        return AutoConfig.from_pretrained(hub.fetch_files(source, list(how.values())), **how).to_dict()
    except Exception as error:  # no such file, a damaged one, an unknown quantization or architecture: each its own kind
        raise hub.SourceError(f"{source}: {how['gguf_file']} cannot be read ({' '.join(str(error).split())[:200]})") from None


def check_checkpoint(source: hub.Source, like: dict | None = None) -> dict:
    """The configuration of a checkpoint that may be loaded, and whose tensors are as of `like`; only `config.json` is fetched."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    names = list(hub.list_files(source))
    if like is None and gguf_of(source):
        return gguf_config(source)
    if not any(name.endswith(WEIGHTS[0]) for name in names):
        pickles = [name for name in names if name.endswith(PICKLES)]
        found = f"its weights are pickle ({pickles[0]}), which can run code when it is read" if pickles else "it has no weights"
        raise hub.SourceError(f"{source}: {found}; allowed are .safetensors")
    if "config.json" not in names:
        raise hub.SourceError(f"{source} has no config.json: it is no model")
    try:
        config = json.loads((hub.fetch_files(source, ["config.json"]) / "config.json").read_text())
    except ValueError:
        raise hub.SourceError(f"{source}: config.json is no JSON") from None
    if "auto_map" in config:
        raise hub.SourceError(f"{source} brings code of its own (auto_map in config.json), which is not run")
    kind, named = config.get("model_type"), config.get("architectures") or ["none"]
    if MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind) not in named:
        raise hub.SourceError(f"{source} is a {kind} ({', '.join(named)}), not a causal language model that transformers knows")
    for key in SHAPE if like else ():
        if config.get(key) != like.get(key):
            raise hub.SourceError(f"{source} is of another architecture: {key} is {config.get(key)}, {like.get(key)} is expected")
    return config


def prepare_tokenizer(tokenizer, name: str):
    """The tokenizer ending turns with `<|im_end|>`, with another token for padding, and with a chat template that fits `chat`."""
    for token in (chat.START, chat.END):
        if len(tokenizer(token, add_special_tokens=False)["input_ids"]) != 1:
            raise hub.SourceError(f"{name}: {token} is no token of its vocabulary; ChatML models (Qwen's, say) have it")
    tokenizer.eos_token, tokenizer.padding_side = chat.END, "left"
    tokenizer.clean_up_tokenization_spaces = False  # texts are read as they were written; transformers warns where it is set
    if tokenizer.pad_token in (None, chat.END):
        spare = [token for token in ("<|endoftext|>", "<|finetune_right_pad_id|>", "<pad>") if token in tokenizer.get_vocab()]
        if not spare:
            raise hub.SourceError(f"{name}: the tokenizer has no token for padding beside {chat.END}")
        tokenizer.pad_token = spare[0]
    if not template_fits(tokenizer):
        tokenizer.chat_template = TEMPLATE
    return tokenizer


def template_fits(tokenizer) -> bool:
    """Whether the tokenizer's own template ends a prompt where the model begins, shows tools, and writes answers as `chat.tool_turn`."""
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {"word": {}}}}}
    call = {"function": {"name": "look_up", "arguments": {"word": "a"}}}
    asked = [{"role": "user", "content": "Hi"}]
    turns = [*asked, {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "42"}]
    opened = f"{chat.START}user\nHi{chat.END}\n{chat.START}assistant\n"
    try:
        prompt = chat.prompt(tokenizer, asked, [])
        shown, continued = chat.prompt(tokenizer, asked, [tool]), chat.prompt(tokenizer, turns, [tool])
    except Exception:  # a template is a program; whatever it raises, it does not fit (nor does none)
        return False
    opens = prompt.endswith(opened) and shown.endswith(opened) and "look_up" in shown
    return opens and continued.startswith(shown) and continued.endswith(chat.END + chat.tool_turn(["42"]))
