"""Multi-teacher on-policy distillation on tiny real models."""

import pytest
import torch
from tiny import gradient, mt_opd_trainer, random_model

from m2rl_lib.data import problem_sets, sft_corpus
from m2rl_lib.domains import chat
from m2rl_lib.rollout import decoding
from m2rl_lib.training import common, micro_model

MATH, AGENT = 0, 1  # the teachers' places
SHAPES = {"prompt": 4, "completion": 5}  # tokens


def sure_model(tokenizer, seed: int):
    """A random model that is sure of its tokens, so that two of them differ much."""
    model = random_model(tokenizer, seed)
    with torch.no_grad():
        model.model.norm.weight.mul_(3)
    return model


@pytest.fixture
def trainer(smoke, tokenizer):
    smoke.distill_steps, smoke.distill_prompts_per_step, smoke.distill_completions = 40, 4, 4
    smoke.distill_learning_rate, smoke.rlvr_max_tokens = 1e-2, 6
    rows = [problem_sets.train_problems(name, 80, 0, sft_corpus.DEMONSTRATED)[i] for i in range(80) for name in ("math", "agent")]
    teachers = {"math": sure_model(tokenizer, 1), "agent": sure_model(tokenizer, 2)}
    return mt_opd_trainer(smoke, random_model(tokenizer, 0), tokenizer, teachers, common.prompt_dataset(tokenizer, rows, 4))


def batch(teachers: list[int]) -> dict:
    generator, count = torch.Generator().manual_seed(0), len(teachers)
    ids = {f"{part}_ids": torch.randint(5, 300, (count, width), generator=generator) for part, width in SHAPES.items()}
    masks = {f"{part}_mask": torch.ones(count, width, dtype=torch.long) for part, width in (*SHAPES.items(), ("tool", 5))}
    masks["completion_mask"][0, 3:] = 0  # a shorter completion
    masks["tool_mask"][-1, 1:3] = 0  # a tool's answer
    return ids | masks | {"teacher": torch.tensor(teachers)}


def log_probabilities(model, inputs) -> torch.Tensor:
    """Of every token after each prefix of the completions: (B, T, V)."""
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    width = inputs["completion_ids"].shape[1]
    return model(input_ids=ids, attention_mask=mask).logits[:, -width - 1 : -1].log_softmax(-1)


def test_loss_is_the_reverse_kl_to_each_rows_teacher_and_its_gradient_the_published_estimators(trainer):
    """E over y ~ π_S of −(log π_T(y) − log π_S(y)) ∇ log π_S(y), the vocabulary enumerated at each prefix."""
    inputs, student = batch([MATH, AGENT, AGENT, AGENT]), trainer.model
    mask = inputs["completion_mask"] * inputs["tool_mask"]
    count = mask.sum()
    loss, _, tokens = trainer._compute_loss(student, inputs, count)
    ours = gradient(student, loss)
    log_s = log_probabilities(student, inputs)
    with torch.no_grad():
        log_t = torch.stack([log_probabilities(teacher, inputs) for teacher in trainer.teachers.values()])
        log_t = log_t[inputs["teacher"], torch.arange(4)]
        advantage = log_t - log_s
        kl = (log_s.exp() * (log_s - log_t)).sum(-1) * mask
    expected = -(log_s.detach().exp() * advantage * log_s).sum(-1)
    theirs = gradient(student, (expected * mask).sum() / count)
    assert ours.norm() > 0.01
    assert torch.allclose(ours, theirs, atol=1e-5 * float(ours.norm()))
    assert tokens == count and float(loss) == pytest.approx(float(kl.sum() / count), rel=1e-4)
    logged = trainer._metrics["train"]
    assert logged["kl/math"][0] == pytest.approx(float(kl[0].sum() / mask[0].sum()), rel=1e-4)
    assert logged["kl/agent"][0] == pytest.approx(float(kl[1:].sum() / mask[1:].sum()), rel=1e-4)


def test_student_goes_to_the_teacher_of_each_domain(trainer, tokenizer):
    """On each domain's prompts, closer to its own teacher than before, and closer than to the other."""

    def distances() -> dict:
        out = {}
        for name in ("math", "agent"):
            rows = problem_sets.train_problems(name, 100, 0, sft_corpus.DEMONSTRATED)[80:]
            ids = [tokenizer(chat.row_prompt(tokenizer, row))["input_ids"] for row in rows]
            log_s = decoding.next_logits(trainer.model, ids).log_softmax(-1)
            for teacher, model in trainer.teachers.items():
                log_t = decoding.next_logits(model, ids).log_softmax(-1)
                out[name, teacher] = float((log_s.exp() * (log_s - log_t)).sum(-1).mean())
        return out

    before = distances()
    trainer.train()
    after = distances()
    for name, other in (("math", "agent"), ("agent", "math")):
        assert after[name, name] < 0.5 * before[name, name]
        assert after[name, name] < 0.5 * after[name, other]


def test_teacher_of_another_vocabulary_is_refused(smoke, tokenizer, corpus):
    other = micro_model.train_tokenizer(sft_corpus.corpus_texts(corpus), 420, 512)
    with pytest.raises(ValueError, match="the teacher of math has 420 tokens, the student 400"):
        mt_opd_trainer(smoke, random_model(tokenizer, 0), tokenizer, {"math": random_model(other, 1)})
