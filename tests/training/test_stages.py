"""The stages on tiny real models: generation, RL, evaluation; schedule and budgets."""

import itertools
import json
import math
import random
import shutil
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState
from tiny import gradient, grpo_trainer, weights
from trl import GRPOTrainer

from m2rl_lib import domains
from m2rl_lib.analysis.rq1_mix_or_merge import budgets
from m2rl_lib.config import locations, schedule, study
from m2rl_lib.config.study import Parameters
from m2rl_lib.data import problem_sets, sft_corpus
from m2rl_lib.domains import agent, chat
from m2rl_lib.evaluation import avg_at_k
from m2rl_lib.rollout import decoding, tool_turns
from m2rl_lib.rollout.kept_contexts import Contexts
from m2rl_lib.storage import artifacts, result_tables
from m2rl_lib.training import grpo, sft


def scripted(tokenizer, texts):
    """A turn that writes the given texts, one after the other, whatever the prompt."""
    script = iter(texts)
    return lambda prompts: ([tokenizer(next(script))["input_ids"] for _ in prompts], None)


def test_rollout_plays_the_tools_and_masks_their_answers(tokenizer, rng):
    row = problem_sets.train_problems("agent", 1, 0, sft_corpus.DEMONSTRATED)[0]
    wanted = agent.demonstrate(row, rng)
    turn = scripted(tokenizer, [text for text, own in chat.turns(wanted) if own])
    prompt = tokenizer(chat.row_prompt(tokenizer, row))["input_ids"]
    (completion,) = tool_turns.rollout(turn, tokenizer, [prompt], [row], 500)
    assert completion.text == wanted
    assert domains.verify([completion.text], [row]) == [1.0]
    own = tokenizer.decode([i for i, mine in zip(completion.ids, completion.own) if mine])
    assert own == "".join(text for text, mine in chat.turns(wanted) if mine)
    assert not completion.truncated


def test_rollout_ends_after_the_most_turns_and_at_the_token_limit(tokenizer):
    row = problem_sets.train_problems("agent", 1, 0, sft_corpus.DEMONSTRATED)[0]
    call = f"<tool_call>\n{json.dumps(row['ground_truth'][0])}\n</tool_call><|im_end|>"
    turn = scripted(tokenizer, [call] * 50)
    long, short = (tool_turns.rollout(turn, tokenizer, [[5]], [row], limit)[0] for limit in (10_000, 60))
    assert len(chat.turns(long.text)) == 2 * agent.MOST_TURNS + 1
    assert len(short.ids) == len(short.own) <= 60


def test_sampling_is_seeded(model, tokenizer):
    rows = problem_sets.benchmark_problems("chain", "test", 4, sft_corpus.DEMONSTRATED)
    how = {"temperature": 1.0, "max_tokens": 12, "batch": 8}
    one, again, other = (decoding.sample(model.eval(), tokenizer, rows, 2, **how, seed=seed) for seed in (0, 0, 1))
    assert one == again != other


def prompts_of_two_lengths(tokenizer) -> list[list[int]]:
    drawn = (problem_sets.benchmark_problems(name, "test", 5, sft_corpus.DEMONSTRATED) for name in ("chain", "workplace"))
    rows = [row for part in drawn for row in part]
    prompts = [tokenizer(chat.row_prompt(tokenizer, row))["input_ids"] for row in rows for _ in range(2)]
    assert len({len(prompt) for prompt in prompts}) > 1  # so that there is padding
    return prompts


def test_decoding_greedily_is_what_transformers_generates(model, tokenizer):
    prompts = prompts_of_two_lengths(tokenizer)
    with torch.no_grad():
        model.lm_head.weight.mul_(3)
    batch = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
    with torch.no_grad():
        whole = model.generate(**batch, do_sample=False, max_new_tokens=24)[:, batch["input_ids"].shape[1] :].tolist()
    ends = sorted({ids[5] for ids in whole})[: len(prompts) // 2]  # as an end of turn these end completions separately
    for eos in [tokenizer.eos_token_id, *ends]:
        expected = [ids[: ids.index(eos) + 1] if eos in ids else ids for ids in whole]
        assert decoding.decode(model, prompts, 0, 24, eos) == expected
    decoding.use_grouped_attention(model)
    assert decoding.decode(model, prompts, 0, 24, eos) == expected


def test_a_second_turn_is_read_from_where_the_first_ended(model, tokenizer):
    """Completions that end separately, answers of different lengths, some completions not asked again: as if all were read anew."""
    prompts = prompts_of_two_lengths(tokenizer)

    def decode(asked, limit, eos, **contexts):
        torch.manual_seed(0)
        return decoding.decode(model, asked, 1.0, limit, eos, **contexts)

    drawn = [token for ids in decode(prompts, 24, tokenizer.eos_token_id) for token in ids]
    eos = max(set(drawn), key=drawn.count)  # so that completions end separately
    kept, read = Contexts(), []
    written = decode(prompts, 24, eos, keep=kept)
    assert len({len(ids) for ids in written}) > 2 and len(kept.parts) > 1
    again = [i for i in range(len(prompts)) if i % 3]
    answered = [prompts[i] + written[i] + [40 + i] * (1 + i % 4) for i in again]
    expected = decode(answered, 12, eos)
    hook = model.register_forward_hook(lambda module, given, named, out: read.append(named["input_ids"].shape), with_kwargs=True)
    assert decode(answered, 12, eos, before=kept) == expected
    hook.remove()
    assert read[0] == (len(again), 5)  # the last token written and the longest answer
    assert kept.take([[1, 2, 3]], None) is None


def test_prompts_of_like_length_are_read_together(model, tokenizer):
    """One long prompt among short ones: the same completions, and little padding is read."""
    short = prompts_of_two_lengths(tokenizer)
    long = [token for prompt in short for token in prompt][:300]
    expected = [decoding.decode(model, [prompt], 0, 12, tokenizer.eos_token_id)[0] for prompt in [*short, long]]
    read = []
    hook = model.register_forward_hook(lambda module, given, named, out: read.append(named["input_ids"].shape), with_kwargs=True)
    assert decoding.decode(model, [*short, long], 0, 12, tokenizer.eos_token_id) == expected
    hook.remove()
    assert (1, len(long) - 1) in read and (len(set(map(tuple, short))) + 1, 1) in read
    assert max(rows * length for rows, length in read) < 2 * sum(map(len, [*short, long]))
    alone = torch.cat([decoding.next_logits(model, [prompt]) for prompt in [*short, long, short[0]]])
    assert torch.allclose(decoding.next_logits(model, [*short, long, short[0]]), alone, atol=1e-4)


def test_draws_follow_the_softmax():
    torch.manual_seed(0)
    logits = torch.tensor([[0.0, 1.0, -1.0, 2.0]]).repeat(40_000, 1)
    shares = torch.bincount(decoding._draw(logits, 2.0), minlength=4) / len(logits)
    assert torch.allclose(shares, torch.softmax(logits[0] / 2.0, 0), atol=0.01)
    assert decoding._draw(logits[:3], 0).tolist() == [3, 3, 3]


def test_reward_function_grades_its_own_domain_only(rng):
    rows = [problem_sets.train_problems(name, 1, 0, sft_corpus.DEMONSTRATED)[0] for name in ("math", "science")]
    shown = [domains.ALL[row["domain"]].demonstrate(row, rng) for row in rows]
    reward = grpo.reward_function("math")
    assert reward.__name__ == "math"
    assert reward(row=[json.dumps(row) for row in rows], text=shown) == [1.0, None]


def test_permuted_rewards_keep_each_groups_sum():
    values = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, None, 0.0]
    shuffled = grpo.permuted(lambda **_: values, 4, random.Random(1))
    orders = {tuple(map(str, shuffled())) for _ in range(20)}
    assert len(orders) > 3
    for order in orders:
        assert sorted(order[:4]) == sorted(map(str, values[:4]))
        assert sorted(order[4:]) == sorted(map(str, values[4:]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """SFT, then one expert trained twice with the same seed, at a size below smoke."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locations, "RUNS", tmp_path_factory.mktemp("trained"))
        values = study.load(locations.ROOT / "params" / "smoke.yaml").model_dump()
        values |= {"domains": ["math", "agent"], "sft_steps": 4}
        p = Parameters.model_construct(**values, domain="agent", repeat=0, permute_rewards=False)
        made, runs = sft.run(p), []
        for _ in range(2):
            folders = grpo.run_expert(p)
            runs.append([artifacts.read_manifest(folder)["digest"] for folder in folders])
            shutil.rmtree(locations.work_folder(p.study, p.seed, "rl-agent"))  # else the second goes on from the first one's end
        yield SimpleNamespace(p=p, sft=made, folders=folders, runs=runs)


def test_same_seed_same_weights_and_named_checkpoints(trained):
    assert trained.runs[0] == trained.runs[1]
    assert [folder.name for folder in trained.folders] == [*(f"rl-agent@step={step}" for step in (1, 2, 3)), "rl-agent"]
    start, end = weights(trained.sft[1]), weights(trained.folders[-1])
    assert start.shape == end.shape and end.isfinite().all() and not start.equal(end)


def test_run_writes_curves_of_every_domain_and_costs(trained):
    curves = result_tables.read_table(trained.p, "curves", ["rl-agent"])
    selection = curves[curves["kind"] == "selection"]
    assert set(selection["domain"]) == {"math", "agent"}
    assert sorted(selection["step"].unique()) == [0, 1, 2, 3, 4]
    costs = result_tables.read_table(trained.p, "costs", ["rl-agent"]).iloc[0]
    assert costs["prompts"] == trained.p.rlvr_steps * trained.p.rlvr_prompts_per_step
    assert 0 < costs["generated_tokens"] < costs["trained_tokens"]
    assert costs["device_seconds"] == costs["wall_seconds"] * trained.p.rlvr_threads


def random_batch(advantages: list[float]) -> dict:
    """A micro-batch of four random completions of a GRPO trainer."""
    generator = torch.Generator().manual_seed(0)
    return {
        "prompt_ids": torch.randint(5, 300, (4, 6), generator=generator),
        "prompt_mask": torch.ones(4, 6, dtype=torch.long),
        "completion_ids": torch.randint(5, 300, (4, 9), generator=generator),
        "completion_mask": torch.arange(9).repeat(4, 1).lt(torch.tensor([[9], [4], [6], [9]])).long(),
        "advantages": torch.tensor(advantages),
        "domain": torch.zeros(4, dtype=torch.long),
        "num_items_in_batch": torch.tensor(28),
    }


def test_a_configuration_in_bfloat16_multiplies_in_it_and_keeps_float32_weights(smoke, model, tokenizer):
    gradients, seen = [], []
    model.train().model.layers[0].mlp.down_proj.register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    for configuration in ("none", "cpu_bf16"):
        p = smoke.model_copy(update={"train_accelerate": configuration})
        trainer = grpo_trainer(p, model, tokenizer, grpo.reward_function("math"))
        trainer.current_gradient_accumulation_steps = 1
        with trainer.compute_loss_context_manager():
            gradients.append(gradient(model, trainer.compute_loss(model, random_batch([1.5, 0.0, -0.5, 1.0]))))
        AcceleratorState._reset_state()  # which keeps the first trainer's precision
    assert {*seen} == {torch.float32, torch.bfloat16} and {w.dtype for w in model.parameters()} == {torch.float32}
    assert not gradients[0].equal(gradients[1]) and torch.cosine_similarity(*gradients, dim=0) > 0.99


@pytest.mark.parametrize("advantages", [[1.5, 0.0, -0.5, 0.0], [0.0] * 4])
def test_rows_without_advantage_are_skipped_and_the_gradient_is_the_same(smoke, model, tokenizer, advantages, monkeypatch):
    trainer = grpo_trainer(smoke, model, tokenizer, grpo.reward_function("math"))
    trainer.current_gradient_accumulation_steps = 1
    model.train()
    batch = random_batch(advantages)
    seen = []
    model.model.register_forward_hook(lambda module, given, output: seen.append(len(output.last_hidden_state)))
    monkeypatch.setattr(grpo.DomainTrainer, "shares_prompts", False)
    losses = (trainer_class._compute_loss(trainer, model, dict(batch)) for trainer_class in (GRPOTrainer, grpo.DomainTrainer))
    gradients = [gradient(model, loss) for loss in losses]
    assert torch.allclose(*gradients, atol=1e-7)
    assert seen == [4, max(1, sum(a != 0 for a in advantages))]
    assert (gradients[0].norm() > 0) == any(advantages)


def test_what_vllm_samples_has_truncated_importance_weights(smoke, model, tokenizer, rng):
    """A sampler that reports log-probabilities off by known ratios, tool turns included: a token's loss is × min(ratio, 2)."""
    row = problem_sets.train_problems("agent", 1, 0, sft_corpus.DEMONSTRATED)[0]
    right = [text for text, own in chat.turns(agent.demonstrate(row, rng)) if own]
    wrong = "<think></think>\nno<|im_end|>"
    script = iter([right[0], wrong, right[0], wrong, *[wrong] * 4, *[text for text in right[1:] for _ in range(2)]])
    ratios = itertools.cycle([0.5, 1.5, 3.0, 1.0, 2.5, 0.7, 0.9])  # π_trainer / π_vLLM
    drawn = []  # of each turn's tokens

    def generate(prompts, **_):
        ids, reported = [tokenizer(next(script))["input_ids"] for _ in prompts], []
        for prompt, new in zip(prompts, ids):
            drawn.append([next(ratios) for _ in new])
            with torch.no_grad():
                logprobs = model(torch.tensor([prompt + new])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            reported.append([[float(logprobs[t, token]) - math.log(drawn[-1][t])] for t, token in enumerate(new)])
        return None, ids, reported, None

    trainer = grpo_trainer(smoke.model_copy(update={"rlvr_max_tokens": 500}), model, tokenizer, grpo.reward_function("agent"))
    trainer.current_gradient_accumulation_steps = 1
    trainer.use_vllm, trainer.vllm_mode, trainer._last_loaded_step = True, "colocate", 0
    trainer.vllm_generation = SimpleNamespace(generate=generate)
    model.train()
    asked = [{"prompt": chat.row_prompt(tokenizer, row), "row": json.dumps(row)} for _ in range(8)]
    batch = trainer._generate_and_score_completions(asked)
    assert next(script, None) is None and batch["advantages"].sign().tolist() == [1, -1, 1, -1, 0, 0, 0, 0]

    own = (batch["completion_mask"] * batch["tool_mask"]).bool()
    factors = [[min(ratio, 2.0) for ratio in turn] for turn in drawn]
    for count, turn in enumerate(factors[8:]):
        factors[2 * (count % 2)] += turn
    expected = [factor for one in factors[:8] for factor in one]
    assert batch["importance_sampling_ratio"][own].tolist() == pytest.approx(expected, rel=1e-4)
    means = torch.tensor([sum(one) / len(one) for one in factors[:8]])
    expected = -(batch["advantages"] * means).mean().item()
    assert abs(expected) > 0.01 and trainer._compute_loss(model, batch).item() == pytest.approx(expected, rel=1e-4)


def test_what_is_not_there_is_refused_before_work(trained):
    with pytest.raises(ValueError, match="'poetry' is not one of math"):
        grpo.run_expert(trained.p.model_copy(update={"domain": "poetry"}))
    with pytest.raises(FileNotFoundError, match="rl-coding is missing"):
        evaluate(trained, "none", "scores", ["sft", "rl-coding"])


def evaluate(trained, group: str, purpose: str, models: list[str]) -> Parameters:
    p = trained.p.model_copy(update={"models": models, "group": group, "purpose": purpose})
    avg_at_k.run(p)
    return p


def test_evaluation_keeps_every_sample(trained):
    p = evaluate(trained, "some", "scores", ["sft", "rl-agent"])
    scores = result_tables.read_table(p, "scores", ["some"])
    samples = result_tables.read_table(p, "samples", ["some"])
    keys = result_tables.KEYS
    assert not scores.duplicated(keys).any()
    assert scores[keys].equals(samples[keys])
    per_model = len(problem_sets.study_benchmarks(p)) * p.evaluate_problems * p.evaluate_samples
    assert (scores[scores["split"] == "test"].groupby("model").size() == per_model).all()
    assert set(scores["model"]) == {"sft", "rl-agent", "sft-sharpened", "sft@temperature=0.0", "sft@temperature=1.0"}
    asked = {"split": "test", "count": p.evaluate_problems, "world": problem_sets.world_of(p)}
    drawn = (problem_sets.benchmark_problems(name, **asked) for name in problem_sets.study_benchmarks(p))
    rows = {row["problem_id"]: row for part in drawn for row in part}
    tested = samples.assign(correct=scores["correct"]).query("split == 'test'")
    regraded = domains.verify(tested["text"].tolist(), [rows[i] for i in tested["problem_id"]])
    assert regraded == tested["correct"].tolist()


@pytest.mark.parametrize("masked", [True, False])
def test_one_query_in_bfloat16_attends_as_in_float32(masked):
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(5, heads, length, 64, generator=generator) for heads, length in ((9, 1), (3, 40), (3, 40))]
    mask = torch.rand(5, 1, 1, 40, generator=generator) > 0.3 if masked else None
    ours = decoding.grouped_attention(None, *(state.bfloat16() for state in states), mask, 0.125)[0]
    usual = torch.nn.functional.scaled_dot_product_attention(*states, attn_mask=mask, scale=0.125, enable_gqa=True)
    assert ours.dtype == torch.bfloat16 and torch.allclose(ours.float(), usual.transpose(1, 2), atol=0.03)


def test_models_are_asked_in_the_precision_that_is_asked_for(trained, monkeypatch):
    asked = []
    monkeypatch.setattr(
        decoding, "sample", lambda model, tokenizer, rows, k, **how: asked.append(model.dtype) or [[]] * len(rows)
    )
    for dtype in ("auto", "float32", "bfloat16"):
        p = trained.p.model_copy(update={"purpose": "test", "evaluate_dtype": dtype})
        avg_at_k.evaluate(p, trained.folders[-1], "rl-agent", "test", temperature=1.0)
    assert asked == [torch.float32, torch.float32, torch.bfloat16]


def test_a_sweep_tests_the_best_of_each_method_on_selection_problems(trained):
    models, p = ["merge-ties", "merge-ties@lambda=0.5", "merge-sce"], trained.p
    for name in models:
        with artifacts.publish(locations.model_folder(p.study, p.seed, name), artifacts.record(p, [trained.sft[1]])) as fresh:
            shutil.copytree(trained.sft[1], fresh, dirs_exist_ok=True, ignore=shutil.ignore_patterns(artifacts.MANIFEST))
    p = evaluate(trained, "sweeps", "sweep", models)
    scores = result_tables.read_table(p, "scores", ["sweeps"])
    selection = scores[(scores["split"] == "selection") & (scores["domain"] != "general")]
    means = selection.groupby(["model", "benchmark"])["correct"].mean().groupby("model").mean()
    best = max(["merge-ties", "merge-ties@lambda=0.5"], key=means.get)
    assert set(means.index) == set(models)
    assert set(scores.loc[scores["split"] == "test", "model"]) == {best, "merge-sce"}


def test_skills_are_many_samples_of_the_first_benchmarks_and_of_composition(trained):
    p = evaluate(trained, "skills", "skills", ["sft"])
    scores = result_tables.read_table(p, "scores", ["skills"])
    assert set(scores["benchmark"]) == {"chain", "workplace", "composition"} and set(scores["split"]) == {"test"}
    assert (scores.groupby(["benchmark", "problem_id"]).size() == p.analysis_skill_samples).all()
    assert scores["problem_id"].nunique() == 3 * p.analysis_skill_problems


def test_the_best_of_each_method_is_taken():
    def frame(model, right):
        return pd.DataFrame({"model": model, "domain": ["math", "general"], "benchmark": ["a", "b"], "correct": right})

    # the general benchmark has no say
    frames = [frame("merge-ties", [0, 1]), frame("merge-ties@lambda=0.5", [1, 0]), frame("merge-sce", [0, 0])]
    assert avg_at_k.best_of_each_method(frames) == ["merge-ties@lambda=0.5", "merge-sce"]


def test_schedule_matches_prompts(smoke):
    smoke.domains, smoke.rlvr_steps, smoke.rlvr_mixed_steps = ["a", "b", "c", "d", "e"], 400, 800
    smoke.merge_methods = ["average", "ties"]
    assert schedule.matched_step(smoke) * len(smoke.domains) == smoke.rlvr_mixed_steps
    assert schedule.expert_checkpoints(smoke) == [100, 160, 200, 300, 400]
    assert schedule.mixed_checkpoints(smoke) == [200, 300, 400, 500, 600, 650, 700, 750, 800]
    assert schedule.candidates(smoke) == ["merge-average", "merge-ties", "merge-average@step=160", "merge-ties@step=160"]


def test_sweep_has_every_setting_but_the_default(smoke):
    smoke.merge_methods = ["average", "ties", "sce"]
    smoke.merge_sweep_lambdas, smoke.merge_sweep_densities = [0.5, 1.0], [0.2, 0.8]
    settings = ("ties@lambda=0.5", "ties@density=0.8,lambda=0.5", "ties@density=0.8", "sce@density=0.2", "sce@density=0.8")
    assert schedule.sweep(smoke) == [f"merge-{setting}" for setting in settings]


def test_costs_are_charged_to_the_side_that_spends():
    p = Parameters.model_construct(domains=["math", "coding"])
    spent = [("rl-math", "rl", 100.0), ("rl-coding", "rl", 110.0), ("rl-multi", "rl", 90.0), ("rl-null", "rl", 999.0)]
    spent += [("merge-ties", "merge", 2.0), ("merge-sce", "merge", 3.0), ("merge-ties@density=0.5", "analysis", 999.0)]
    spent += [("mt-opd", "distillation", 20.0), ("merges", "selection", 7.0), ("merges", "test", 999.0)]
    spent += [("mixed", "selection", 3.0)]
    costs = pd.DataFrame(spent, columns=["model", "stage", "device_seconds"])
    costs = costs.assign(**{column: costs["device_seconds"] for column in budgets.SPENT})
    total = budgets.paradigm_costs(costs, p).query("part == 'all'").set_index("paradigm")["device_seconds"]
    assert total.to_dict() == {"mixed": 93.0, "merged": 222.0, "distilled": 230.0}
