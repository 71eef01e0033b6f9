"""A prompt read once for all its completions, on the CPU by one process: TRL's gradient from about half the tokens."""

import torch
from torch.nn.functional import pad
from transformers import DynamicCache

from m2rl_lib.rollout import decoding, kept_contexts
from m2rl_lib.storage import processes
from m2rl_lib.training.trl_adapter import PolicyHooks

# settings of models whose logits are more than their head's output, or whose loss has a part beside them: TRL knows them
UNUSUAL = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")
UNUSUAL += ("output_router_logits",)


def has_plain_head(model) -> bool:
    """Whether a model's logits are its head's output as it is, and all that its loss is made of."""
    return not any(getattr(model.config.get_text_config(), name, None) for name in UNUSUAL)


class WholeGroups(PolicyHooks):
    """Mixed into a TRL trainer of policies whose rollout is one update: a prompt's completions are in one micro-batch."""

    @property
    def shares_prompts(self) -> bool:
        """Whether prompts are read once: on a CPU, by one process, where the model keeps every token's keys and values."""
        return self.args.use_cpu and processes.count() == 1 and kept_contexts.remembers_all(self.model)

    def add_columns(self, batch: dict) -> dict:
        order = by_length(batch["prompt_ids"], batch["completion_mask"].sum(dim=1))
        return batch | {"place": order.argsort()}

    def arrange(self, micro_batches: list[dict]) -> list[dict]:
        """Micro-batches with the rows of all in the order of `place`: [2, 0] and [3, 1] become [0, 1] and [2, 3]."""
        rows = len(micro_batches[0]["place"])
        order = torch.cat([batch["place"] for batch in micro_batches]).argsort()

        def pieces(name: str) -> list:
            values = [batch[name] for batch in micro_batches]
            if torch.is_tensor(values[0]) and values[0].shape[:1] == (rows,):
                return list(torch.cat(values)[order.to(values[0].device)].split(rows))
            return values

        return [dict(zip(micro_batches[0], values)) for values in zip(*map(pieces, micro_batches[0]))]


def by_length(prompts: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """An order of rows (N,): by the longest completion of their prompt, equal neighbours of `prompts` (N, L) side by side."""
    group = torch.unique_consecutive(prompts, dim=0, return_inverse=True)[1]
    longest = lengths.new_zeros(len(lengths)).scatter_reduce(0, group, lengths, "amax")[group]
    return (longest * len(lengths) + group).argsort(stable=True)


def hidden_states(backbone, ids: torch.Tensor, mask: torch.Tensor, keep: int) -> torch.Tensor:
    """The last hidden states (N, keep, D) at the places before each of the last `keep` tokens, 0 beyond the longest completion.

    `ids` and `mask` (N, L) are prompts, padded on the left, and `keep` tokens of completions, padded on the right.
    """
    prompts = [row[there].tolist() for row, there in zip(ids[:, :-keep], mask[:, :-keep].bool())]
    different, place = decoding.distinct([prompt[:-1] for prompt in prompts], ids.device)  # every row starts with the last token
    first, present = decoding.padded(different, ids.device)
    cache = DynamicCache(config=backbone.config)
    backbone(input_ids=first, attention_mask=present, past_key_values=cache)
    cache.batch_select_indices(place)
    longest = max(1, int(mask[:, -keep:].sum(dim=1).max()))
    rest = slice(-keep - 1, ids.shape[1] - keep - 1 + longest)
    seen = torch.cat([present[place], mask[:, rest]], dim=1)
    hidden = backbone(input_ids=ids[:, rest], attention_mask=seen, past_key_values=cache).last_hidden_state
    return pad(hidden, (0, 0, 0, keep - longest))
