"""The gradient lens: GRPO's gradient against brute force, and known angles between domains that must come back."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from m2rl_lib.analysis.rq2_transfer import gradient_cosines, policy_gradients
from m2rl_lib.rollout.decoding import Completion
from m2rl_lib.training import micro_model

ANGLE = np.pi / 3
LETTERS = 6  # completions of one token, of which the first is right


class LinearSoftmax(torch.nn.Module):
    """A policy whose logits are linear in a feature of the prompt's last token; `features` (tokens, d) are fixed."""

    def __init__(self, features: torch.Tensor):
        super().__init__()
        self.features, self.config = features, SimpleNamespace(vocab_size=LETTERS)
        self.weight = torch.nn.Parameter(torch.zeros(LETTERS, features.shape[1]))

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(logits=self.features[input_ids] @ self.weight.T)


def bandits(angle: float, prompts: int, seed: int, k: int = 8) -> gradient_cosines.Lens:
    """Two domains of one prompt each, whose features meet at `angle`: so do their policy gradients."""
    features = torch.tensor([[1.0, 0.0], [np.cos(angle), np.sin(angle)]] + [[0.0, 0.0]] * LETTERS, dtype=torch.float32)
    model, rng = LinearSoftmax(features), np.random.default_rng(seed)
    vectors, parts = [], []
    for domain, token in (("first", 0), ("second", 1)):
        letters = rng.integers(0, LETTERS, (prompts, k))  # weight 0: the uniform policy
        groups = [[Completion([int(letter)], [1], "", False) for letter in group] for group in letters]
        found, part = policy_gradients.fold_gradients(model, [[token]] * prompts, groups, (letters == 0).astype(float))
        vectors += found
        parts.append(part.assign(domain=domain))
    return policy_gradients.lens_of(vectors, parts)


def test_advantages_by_hand():
    found = policy_gradients.advantages(np.array([[1.0, 0, 0, 1], [1, 1, 1, 1], [1, 0, np.nan, 0]]))
    assert found[0] == pytest.approx(np.array([0.5, -0.5, -0.5, 0.5]) / (np.sqrt(1 / 3) + 1e-4))
    assert (found[1] == 0).all()
    assert found[2] == pytest.approx(np.array([2 / 3, -1 / 3, 0, -1 / 3]) / (np.sqrt(1 / 3) + 1e-4))


def test_policy_gradient_is_that_of_the_loss_one_completion_at_a_time(model, monkeypatch):
    rng = np.random.default_rng(0)
    prompts = [rng.integers(5, 300, n).tolist() for n in (4, 7, 4, 9, 5)]
    completions = [Completion(rng.integers(5, 300, n).tolist(), [1] * n, "", False) for n in (6, 3, 8, 5, 2)]
    completions[2].own[3:6] = [0, 0, 0]  # a tool's answer
    advantage = np.array([1.2, -0.7, 0.9, 0.0, -0.4])
    gain = 0.0
    for prompt, completion, a in zip(prompts, completions, advantage):
        log = model(input_ids=torch.tensor([prompt + completion.ids])).logits[0].log_softmax(-1)
        own = [log[len(prompt) + t - 1, token] for t, token in enumerate(completion.ids) if completion.own[t]]
        gain = gain + a * torch.stack(own).mean()
    expected = torch.cat([one.flatten() for one in torch.autograd.grad(gain, list(model.parameters()))])
    found = policy_gradients.policy_gradient(model, prompts, completions, advantage)
    assert torch.allclose(found, expected, atol=1e-5) and found.norm() > 0.1
    monkeypatch.setattr(policy_gradients, "LOGITS", 1)  # of a large vocabulary: one completion a pass
    assert torch.allclose(policy_gradients.policy_gradient(model, prompts, completions, advantage), expected, atol=1e-5)


def test_long_gradients_are_kept_as_sketches_of_the_same_angles():
    drawn = torch.randn(2, 200_001, generator=torch.Generator().manual_seed(1))
    one, other = drawn[0], 0.6 * drawn[0] + 0.8 * drawn[1]  # a cosine of 0.6
    kept = [policy_gradients.sketch(vector, 20_000) for vector in (one, other)]
    assert len(kept[0]) == 20_000 and torch.equal(policy_gradients.sketch(one, 200_001), one)
    cosine = torch.nn.functional.cosine_similarity(*kept, dim=0)
    assert abs(cosine - 0.6) < 4 / 20_000**0.5 and kept[0].norm() == pytest.approx(one.norm().item(), rel=0.03)


@pytest.mark.parametrize("angle", [0.0, ANGLE, np.pi / 2, np.pi])
def test_a_known_angle_comes_back(angle):
    row = gradient_cosines.cosine_table(bandits(angle, prompts=800, seed=0)).iloc[0]
    assert row["cosine"] == pytest.approx(np.cos(angle), abs=0.03)
    assert row["low"] - 0.02 <= np.cos(angle) <= row["high"] + 0.02


def planted(rng, gram: np.ndarray, noise: list[float], width: int = 200) -> gradient_cosines.Lens:
    """Domains whose gradients have the given inner products, each fold with noise of the given squared norm."""
    directions = np.linalg.cholesky(gram) @ np.eye(len(gram), width)
    domains = np.repeat(np.arange(len(gram)), policy_gradients.FOLDS)
    vectors = [torch.tensor(directions[d] + rng.normal(0, np.sqrt(noise[d] / width), width)) for d in domains]
    known = {"prompts": 1, "completions": 8, "reward": 0.5, "informative": 1.0}
    return policy_gradients.lens_of(vectors, [pd.DataFrame({"domain": [f"d{d}" for d in domains]}).assign(**known)])


def test_noise_is_divided_out_and_the_interval_covers():
    gram = np.array([[1.0, 0.5], [0.5, 1.0]])
    lenses = [planted(np.random.default_rng(seed), gram, [4.0, 4.0]) for seed in range(150)]
    found = pd.concat([gradient_cosines.cosine_table(lens) for lens in lenses]).dropna(subset="cosine")
    assert len(found) > 140
    assert found["plain"].mean() == pytest.approx(0.25, abs=0.02)  # what noise leaves: r = 1 / (1 + 4 / 4)
    assert found["cosine"].mean() == pytest.approx(0.5, abs=0.02)
    covered = ((found["low"] <= 0.5) & (found["high"] >= 0.5)).sum()
    assert stats.binom.ppf(0.001, len(found), 0.95) <= covered  # at least nearly as often as it says


def test_itself_is_the_cosine_of_halves():
    # signal 1, noise of a fold 6, of a half of four folds 1.5: r = 1 / 2.5
    lenses = [planted(np.random.default_rng(seed), np.array([[1.0]]), [6.0]) for seed in range(40)]
    table = pd.concat([gradient_cosines.domain_table(lens) for lens in lenses])
    assert table["itself"].mean() == pytest.approx(0.4, abs=0.02)
    assert table["norm"].mean() == pytest.approx(np.sqrt(1 + 6 / 8), abs=0.02)
    halves = [lens.products[:4, 4:].sum() / np.sqrt(lens.products[:4, :4].sum() * lens.products[4:, 4:].sum()) for lens in lenses]
    assert table["itself"].mean() == pytest.approx(np.mean(halves), abs=0.04)


def test_too_noisy_a_domain_is_refused_with_its_reason():
    lens = planted(np.random.default_rng(0), np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]]), [1.0, 1.0, 80.0])
    table = gradient_cosines.cosine_table(lens).set_index(["domain", "other"])
    assert table.loc[("d0", "d1"), "cosine"] == pytest.approx(0.5, abs=0.1)
    assert np.isnan(table.loc[("d0", "d2"), "cosine"])
    assert table.loc[("d0", "d2"), "reason"].startswith("cosine with itself under 0.3: d2 ")
    said = gradient_cosines.sentence(table.reset_index().assign(model="sft"))
    assert said.startswith("SFT: 1 of 3 cosines can be measured (2 refused as too noisy); of these lie 1 above 0 (d0 with d1 0.")
    assert said.endswith(" and 0 below 0.")


def test_without_any_reward_there_is_no_cosine(model):
    groups = [[Completion([7, 8], [1, 1], "", False)] * 2] * 4
    vectors, part = policy_gradients.fold_gradients(model, [[5, 6]] * 4, groups, np.zeros((4, 2)))
    lens = policy_gradients.lens_of(vectors * 2, [part.assign(domain="a"), part.assign(domain="b")])
    row = gradient_cosines.cosine_table(lens).iloc[0]
    assert np.isnan(row["cosine"]) and "undefined" in row["reason"]
    assert gradient_cosines.domain_table(lens)["informative"].eq(0).all()


def test_along_the_run_every_domain_and_pair_is_there(smoke, publish_model, tokenizer):
    publish_model("sft", micro_model.build_model(tokenizer, 32, 2, 2, 512, 0))
    pairs, singles = policy_gradients.along_run(smoke, ["sft"], ["math", "agent"])
    assert pairs[["domain", "other", "model", "step"]].values.tolist() == [["math", "agent", "sft", 0]]
    assert singles["completions"].tolist() == [smoke.analysis_gradient_prompts * smoke.rlvr_completions] * 2
