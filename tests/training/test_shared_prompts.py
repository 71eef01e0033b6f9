"""Prompts read once, and no padding of other parts: the same gradients and weights as by TRL's own ways."""

import pytest
import torch
from datasets import Dataset
from tiny import gradient, grpo_trainer, mt_opd_trainer, random_model

from m2rl_lib.data import problem_sets, sft_corpus
from m2rl_lib.rollout import kept_contexts
from m2rl_lib.training import common, grpo, sft, shared_prompts

PROMPTS = [[7, 8, 9, 10, 11], [20, 21, 22], [7, 8, 9, 10, 11], [7, 8, 9], [20, 21, 22]]
COMPLETIONS = [[30, 31, 32, 33], [40], [50, 51], [60, 61, 62], []]


def batch() -> tuple[torch.Tensor, torch.Tensor, int]:
    """Ids and mask of `PROMPTS`, padded on the left to 6, and `COMPLETIONS`, padded on the right to 7."""
    ids = [[0] * (6 - len(p)) + p + c + [0] * (7 - len(c)) for p, c in zip(PROMPTS, COMPLETIONS)]
    mask = [[0] * (6 - len(p)) + [1] * len(p + c) + [0] * (7 - len(c)) for p, c in zip(PROMPTS, COMPLETIONS)]
    return torch.tensor(ids), torch.tensor(mask), 7


def test_hidden_states_and_their_gradient_are_those_of_whole_sequences(model):
    ids, mask, keep = batch()
    counted = mask[:, -keep:].bool()
    read = []
    hook = model.model.register_forward_hook(
        lambda module, given, kwargs, out: read.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    ours = shared_prompts.hidden_states(model.model, ids, mask, keep)
    whole = model.model(input_ids=ids, attention_mask=mask).last_hidden_state[:, -keep - 1 : -1]
    hook.remove()
    assert read == [(3, 4), (5, 4), (5, 13)]  # three prompts but for their last tokens; no more than the longest completion
    assert ours.shape == whole.shape and torch.allclose(ours[counted], whole[counted], atol=1e-5)
    weight = torch.randn(whole.shape, generator=torch.Generator().manual_seed(0))
    gradients = [gradient(model, (states * weight)[counted].sum()) for states in (ours, whole)]
    assert torch.allclose(*gradients, atol=1e-5 * float(gradients[1].norm()))


ROWS = [problem_sets.train_problems(name, 8, 0, sft_corpus.DEMONSTRATED)[i] for i in range(8) for name in ("math", "agent")]


def trainer_of(method: str, p, model, tokenizer):
    if method == "grpo":
        rewards = lambda text, **_: [float(len(one) % 3) for one in text]  # noqa: E731  differs within groups
        return grpo_trainer(p, model, tokenizer, rewards, common.prompt_dataset(tokenizer, ROWS))
    teachers = {"math": random_model(tokenizer, 1), "agent": random_model(tokenizer, 2)}
    rows = common.prompt_dataset(tokenizer, ROWS, p.distill_completions)
    return mt_opd_trainer(p, model, tokenizer, teachers, rows)


def trained_tokens(model) -> list[int]:
    """The tokens of each forward pass from now on that a gradient goes back through."""
    count = []
    model.model.register_forward_hook(
        lambda module, given, out: count.append(out.last_hidden_state.shape[:2].numel() * torch.is_grad_enabled())
    )
    return count


@pytest.mark.parametrize("method", ["grpo", "mt-opd"])
def test_training_ends_at_the_weights_of_trls_own_way(smoke, tokenizer, method, monkeypatch):
    """Three steps, each in four parts: fewer tokens run through the model, and the same weights but for rounding."""
    smoke.rlvr_prompts_per_step, smoke.rlvr_completions, smoke.train_device_batch = 4, 4, 4
    smoke.distill_steps, smoke.distill_prompts_per_step, smoke.distill_completions = 3, 4, 4
    smoke.rlvr_learning_rate = smoke.distill_learning_rate = 1e-3
    weights, tokens, texts = [], [], []
    start = torch.cat([parameter.detach().flatten() for parameter in random_model(tokenizer, 0).parameters()])
    for shares in (True, False):
        with monkeypatch.context() as patched:
            if not shares:
                patched.setattr(shared_prompts.WholeGroups, "shares_prompts", False)
            torch.manual_seed(0)
            model = random_model(tokenizer, 0)
            trainer = trainer_of(method, smoke, model, tokenizer)
            count = trained_tokens(model)
            trainer.train()
        weights.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
        tokens.append(sum(count))
        texts.append(trainer.texts)
    assert texts[0] == texts[1]
    moved = (weights[1] - start).norm()
    assert moved > 0.01 and (weights[0] - weights[1]).norm() < 1e-3 * moved
    assert 0 < tokens[0] < 0.7 * tokens[1]


def test_prompts_are_not_shared_where_the_cache_forgets(smoke, model, tokenizer):
    trainer = trainer_of("grpo", smoke, model, tokenizer)
    assert trainer.shares_prompts and kept_contexts.remembers_all(model)
    model.config.layer_types, model.config.sliding_window = ["full_attention", "sliding_attention"], 8
    assert not trainer.shares_prompts and not kept_contexts.remembers_all(model)


@pytest.mark.parametrize("settings", [{}, {"final_logit_softcapping": 0.5}])
def test_log_probabilities_are_trls_of_other_heads_too(smoke, model, tokenizer, settings):
    model.config.update(settings)
    trainer = trainer_of("grpo", smoke, model, tokenizer)
    ids, mask, keep = batch()
    counted = mask[:, -keep:].bool()
    with torch.no_grad():
        both = [
            cls._get_per_token_logps_and_entropies(trainer, model, ids, mask, keep, compute_entropy=True)
            for cls in (grpo.DomainTrainer, grpo.GRPOTrainer)
        ]
    for ours, theirs in zip(both[0][:2], both[1][:2]):
        assert torch.allclose(ours[counted], theirs[counted], atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"final_logit_softcapping": 0.5}])
def test_sft_has_trls_loss_and_gradient(model, tokenizer, tmp_path, settings):
    model.config.update(settings)
    data = Dataset.from_list([{"input_ids": [1, 2], "labels": [-100, 2]}])
    args = sft.SFTConfig(use_cpu=True, report_to="none", dataset_kwargs={"skip_prepare_dataset": True}, output_dir=str(tmp_path))
    trainer = sft.DemonstrationTrainer(model=model, args=args, train_dataset=data, processing_class=tokenizer)
    ids, mask, _ = batch()
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :7] = -100
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    model.train()
    gradients, losses = [], []
    for loss_of in (sft.DemonstrationTrainer.compute_loss, sft.SFTTrainer.compute_loss):
        loss = loss_of(trainer, model, dict(inputs), num_items_in_batch=20)
        losses.append(loss.item())
        gradients.append(gradient(model, loss))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and gradients[0].norm() > 0.01
    assert torch.allclose(*gradients, atol=1e-6)
