"""Models and data of the Hub, offline: what may be loaded is, from a saved folder; what may not is refused in one line."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tiny import weights
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from m2rl_lib.config import study
from m2rl_lib.config.study import ParameterError
from m2rl_lib.data import problem_sets, sft_corpus
from m2rl_lib.domains import chat
from m2rl_lib.storage import artifacts, hub
from m2rl_lib.training import base_models, sft

COMMIT = "a" * 40
QWEN_LIKE = (  # ChatML as a base model brings it: tools as JSON, thinking dropped from earlier turns
    "{%- if tools %}<|im_start|>system\n# Tools\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}{% if m.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ m.content }}\n</tool_response><|im_end|>\n"
    "{% elif m.role == 'assistant' %}<|im_start|>assistant\n{{ m.content.split('</think>')[-1] }}"
    "{% for c in m.tool_calls or [] %}<tool_call>\n{{ c.function | tojson }}\n</tool_call>{% endfor %}<|im_end|>\n"
    "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def saved(tmp_path, model, tokenizer):
    """A folder as the Hub has it: a bfloat16 model whose tokenizer ends with <|endoftext|> and brings a template."""
    folder = tmp_path / "Tiny-Base"
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    other = AutoTokenizer.from_pretrained(folder)
    other.eos_token, other.chat_template, other.padding_side = "<|endoftext|>", QWEN_LIKE, "right"
    other.clean_up_tokenization_spaces = True
    other.save_pretrained(folder)
    (folder / "README.md").write_text("# a model")
    return folder


def line(ask, *given) -> str:
    with pytest.raises(hub.SourceError) as error:
        ask(*given)
    assert "\n" not in str(error.value)
    return str(error.value)


def refused(folder, like=None) -> str:
    return line(base_models.check_checkpoint, hub.parse_source(str(folder), "model"), like)


UNPINNED = [(f"Qwen/Qwen3-4B-Base{at}", "40 hex digits of a commit") for at in ("", "@main", "@906bfd4")]


@pytest.mark.parametrize(("value", "message"), [*UNPINNED, ("qwen", "allowed are micro")])
def test_an_unpinned_revision_is_refused_with_the_parameters(value, message):
    with pytest.raises(ParameterError, match=message) as error:
        study.notebook_parameters({"sft_base_model": value})
    assert "\n" not in str(error.value) and repr(value) in str(error.value)
    with pytest.raises(ParameterError, match=message):
        study.notebook_parameters({"data_sources": ["micro", value]})


def test_a_saved_folder_becomes_a_base(saved, tmp_path, model):
    base_models.save_base(tmp_path / "base", str(saved))
    made = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert made.dtype == torch.float32  # a step of RL would be lost in bfloat16
    for name, tensor in load_file(saved / "model.safetensors").items():
        assert torch.equal(made.state_dict()[name], tensor.float()), name
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.padding_side) == (chat.END, "<|endoftext|>", "left")
    assert not tokenizer.clean_up_tokenization_spaces
    assert made.generation_config.eos_token_id == made.config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.chat_template == QWEN_LIKE  # it writes what `chat` reads, so it stays


def test_a_template_that_does_not_fit_is_replaced(saved):
    row = problem_sets.train_problems("agent", 1, 0, sft_corpus.DEMONSTRATED)[0]
    plain = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    unfit = (
        None,
        "{{ raise_exception('no') }}",
        QWEN_LIKE.replace("<tool_response>", "<result>"),
        QWEN_LIKE.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}"),  # it would think for the model
        QWEN_LIKE.replace("{{ tool | tojson }}", ""),  # tools the model never sees
    )
    for template in unfit:
        tokenizer = AutoTokenizer.from_pretrained(saved)
        tokenizer.chat_template = template
        assert not base_models.template_fits(tokenizer)
        made = base_models.prepare_tokenizer(tokenizer, "tiny")
        assert made.chat_template == base_models.TEMPLATE and base_models.template_fits(made)
    prompt = chat.row_prompt(made, row)
    for tool in row["responses_create_params"]["tools"]:
        assert json.dumps(tool["name"]) in prompt and '"properties"' in prompt  # whole schemas, not the micro world's names
    written = chat.prompt(made, plain, row["responses_create_params"]["tools"])
    assert written.count("<|im_start|>system") == 1 and "Be kind." in written
    assert chat.prompt(made, plain, []).startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi")


def test_pickle_weights_are_refused_and_left_where_they_are(saved):
    (saved / "pytorch_model.bin").write_bytes(b"\x80\x04")
    (saved / "modeling_tiny.py").write_text("raise SystemExit")
    wanted = set(base_models.wanted_files(hub.parse_source(str(saved), "model")))
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= wanted
    assert not {"pytorch_model.bin", "modeling_tiny.py", "README.md"} & wanted
    (saved / "model.safetensors").unlink()
    assert "its weights are pickle (pytorch_model.bin)" in refused(saved)
    (saved / "pytorch_model.bin").unlink()
    assert "it has no weights" in refused(saved)


def test_code_other_models_and_other_architectures_are_refused_before_weights_are_read(saved):
    (saved / "model.safetensors").write_bytes(b"not read")
    like = json.loads((saved / "config.json").read_text())
    assert base_models.check_checkpoint(hub.parse_source(str(saved), "model"), like) == like
    for changes, message in (
        ({"hidden_size": 64}, "of another architecture: hidden_size is 64, 32 is expected"),
        ({"auto_map": {"AutoModelForCausalLM": "modeling_tiny.Tiny"}}, "brings code of its own"),
        ({"model_type": "home_made"}, "is a home_made (Qwen3ForCausalLM), not a causal language model"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "is a bert (BertForMaskedLM), not a causal"),
    ):
        (saved / "config.json").write_text(json.dumps(like | changes))
        assert message in refused(saved, like)
    (saved / "config.json").write_text("{")
    assert "no JSON" in refused(saved)
    (saved / "config.json").unlink()
    assert "has no config.json" in refused(saved)


def test_a_tokenizer_without_chat_tokens_is_refused():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel()
    made.train_from_iterator(["a b"], trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    with pytest.raises(hub.SourceError, match=r"other: <\|im_start\|> is no token of its vocabulary"):
        base_models.prepare_tokenizer(PreTrainedTokenizerFast(tokenizer_object=made), "other")


def test_sft_starts_from_a_saved_folder(saved, smoke):
    p = smoke.model_copy(update={"sft_base_model": str(saved), "sft_steps": 2, "sft_batch": 4, "sft_demonstrations": 4})
    examples = sft.corpus(p)
    base = sft.make_base(p, examples)
    assert artifacts.read_manifest(base)["parameters"]["sft_base_model"] == str(saved)
    start, end = weights(base), weights(sft.train(p, base, examples))
    assert start.shape == end.shape and not torch.equal(start, end)


def test_without_network_one_line_says_what_to_do(monkeypatch, tmp_path):
    source = hub.parse_source(f"Qwen/Qwen3-0.6B-Base@{COMMIT}", "model")
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for message in (line(hub.list_files, source), line(hub.fetch_files, source, ["config.json"])):
        assert "HF_HUB_OFFLINE=0" in message and f"--revision {COMMIT}" in message and "hf download" in message


def test_what_was_fetched_in_part_is_listed_and_read_without_network(monkeypatch, tmp_path):
    """As the Hub's client leaves its cache where only some files were asked for."""
    place = tmp_path / "models--Qwen--Tiny"
    for folder in ("snapshots/" + COMMIT, "trees"):
        (place / folder).mkdir(parents=True)
    (place / "snapshots" / COMMIT / "config.json").write_text("{}")
    files = {name: {"size": 2, "blob_id": "b" * 40} for name in ("README.md", "config.json")}
    (place / "trees" / f"{COMMIT}.json").write_text(json.dumps({"format_version": 1, "files": files}))
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    source = hub.parse_source(f"Qwen/Tiny@{COMMIT}", "model")
    assert hub.list_files(source) == {"README.md": 2, "config.json": 2}
    assert (hub.fetch_files(source, ["config.json"]) / "config.json").read_text() == "{}"
    assert "HF_HUB_OFFLINE=0" in line(hub.fetch_files, source, ["README.md"])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("GatedRepoError", "is gated: accept its terms at https://huggingface.co/datasets/o/n, then `hf auth login`"),
        ("RepositoryNotFoundError", "is not on the Hub or needs a token"),
        ("RevisionNotFoundError", "has no commit"),
        ("HfHubHTTPError", "the Hub cannot be reached (HfHubHTTPError)"),
        ("ConnectError", "the Hub cannot be reached (ConnectError)"),
    ],
)
def test_what_the_hub_says_is_reported_in_one_line(monkeypatch, error, message):
    import httpx

    def fail(**_):
        if error == "ConnectError":
            raise httpx.ConnectError("[Errno -2] Name or service not known")
        response = httpx.Response(403, request=httpx.Request("GET", "https://x"))
        raise getattr(hub.errors, error)("long\nstory", response=response)

    monkeypatch.setattr(hub, "snapshot_download", fail)
    monkeypatch.setattr(hub.constants, "is_offline_mode", lambda: False)
    monkeypatch.setattr(hub, "list_files", lambda source: {})
    assert message in line(hub.fetch_files, hub.parse_source(f"o/n@{COMMIT}"), ["a"])


def test_too_little_disk_is_reported_before_the_download(monkeypatch, tmp_path):
    monkeypatch.setattr(hub.constants, "is_offline_mode", lambda: False)
    monkeypatch.setattr(hub, "list_files", lambda source: {"model.safetensors": 10**15})
    monkeypatch.setattr(hub, "snapshot_download", lambda **_: pytest.fail("downloaded"))
    message = line(hub.fetch_files, hub.parse_source(f"o/n@{COMMIT}", "model"), ["model.safetensors"])
    assert "1000000.0 GB of disk and 2 GB to spare are needed" in message


def test_a_glob_takes_some_files_only(tmp_path):
    assert hub.parse_source(f"o/n@{COMMIT}:data/low.*").files == "data/low.*"
    assert hub.find_dataset([f"o/n@{COMMIT}:a*", f"o/m@{COMMIT}"], "o/m").files == "*"
    (tmp_path / "o" / "n" / "data").mkdir(parents=True)
    (tmp_path / "o" / "n" / "data" / "low.jsonl").write_text("")
    found = hub.find_dataset([f"o/m@{COMMIT}", str(tmp_path)], "o/n")
    assert hub.list_files(found) == {"data/low.jsonl": 0} and hub.find_dataset([str(tmp_path)], "o/x") is None
