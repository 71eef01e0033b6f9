"""Training on completions for less, the gradient the same: a prompt is read once for all its completions, and no padding with them.

TRL shuffles a rollout before it cuts it into parts, pads all of it to its longest completion and reads every prompt with each of its
completions. All parts go into one update, so their order changes nothing but the order of sums: here a part holds whole
groups, reads each of its prompts once, and its completions as far as its own longest. With eight completions a prompt
that is a third to six tenths of the tokens. Done on the CPU by one process; on GPUs, where the model may be sharded and
prompts are short beside completions, TRL's own way is taken.
"""

import torch
from torch.nn.functional import pad
from transformers import DynamicCache

from m2rl_lib.rollout import decoding, kept_contexts
from m2rl_lib.storage import processes

# settings of models whose logits are more than their head's output, or whose loss has a part beside them: TRL knows them
UNUSUAL = (
    "final_logit_softcapping",
    "logit_scale",
    "output_multiplier",
    "lm_head_multiplier",
    "logits_scaling",
    "output_router_logits",
)


def has_plain_head(model) -> bool:
    """Whether a model's logits are its head's output as it is, and all that its loss is made of."""
    return not any(getattr(model.config.get_text_config(), name, None) for name in UNUSUAL)


class WholeGroups:
    """Mixed into a TRL trainer of policies whose rollout is one update: its parts hold a prompt's completions together."""

    @property
    def shares_prompts(self) -> bool:
        """Whether prompts are read once: on a CPU, by one process, where the model keeps every token's keys and values."""
        return self.args.use_cpu and processes.count() == 1 and kept_contexts.remembers_all(self.model)

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        ids = batch["completion_ids"]
        return batch | {"place": torch.arange(len(ids), device=ids.device)}  # completions of a prompt are side by side

    def _prepare_inputs(self, generation_batch):
        part = super()._prepare_inputs(generation_batch)
        if not self.shares_prompts:
            return part
        number = self._step % len(self._buffered_inputs)
        if number == 0:  # a new rollout
            self._buffered_inputs = in_order(self._buffered_inputs)
        return self._buffered_inputs[number]


def in_order(parts: list[dict]) -> list[dict]:
    """The parts that a rollout was cut into, all of one size, with their rows in the order of `place`.

    Two parts of places [2, 0] and [3, 1] become two of [0, 1] and [2, 3]; what has not a value for each row stays.
    """
    rows = len(parts[0]["place"])
    order = torch.cat([part["place"] for part in parts]).argsort()

    def pieces(name: str) -> list:
        values = [part[name] for part in parts]
        if torch.is_tensor(values[0]) and values[0].shape[:1] == (rows,):
            return list(torch.cat(values)[order.to(values[0].device)].split(rows))
        return values

    return [dict(zip(parts[0], values)) for values in zip(*map(pieces, parts[0]))]


def hidden_states(backbone, ids: torch.Tensor, mask: torch.Tensor, keep: int) -> torch.Tensor:
    """The last hidden states (N, keep, D) at the places before each of the last `keep` tokens, 0 beyond the longest completion.

    `ids` and `mask` (N, L) are prompts, padded on the left, and `keep` tokens of completions, padded on the right. `backbone`
    is the model without its head. Each different prompt is read once, but for its last token: every row starts with that.
    """
    prompts = [row[there].tolist() for row, there in zip(ids[:, :-keep], mask[:, :-keep].bool())]
    different, place = decoding.distinct([prompt[:-1] for prompt in prompts], ids.device)
    first, told = decoding.padded(different, ids.device)
    cache = DynamicCache(config=backbone.config)
    backbone(input_ids=first, attention_mask=told, past_key_values=cache)
    cache.batch_select_indices(place)
    longest = max(1, int(mask[:, -keep:].sum(dim=1).max()))
    rest = slice(-keep - 1, ids.shape[1] - keep - 1 + longest)
    seen = torch.cat([told[place], mask[:, rest]], dim=1)
    hidden = backbone(input_ids=ids[:, rest], attention_mask=seen, past_key_values=cache).last_hidden_state
    return pad(hidden, (0, 0, 0, keep - longest))
