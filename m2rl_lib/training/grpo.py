"""Reinforcement learning with verifiable rewards (GRPO), on one domain or on several mixed.

TRL's GRPOTrainer with the paper's loss: mean over each sequence, clip 0.2 / 0.28, no KL, no entropy bonus,
one update a rollout, advantages (r − mean) / std within the group, temperature 1, top-p 1, Adam β
0.9/0.98, weight decay 0.1, clip 1.0, constant learning rate, no prompt longer than a limit (agent apart). TRL adds
1e-4 to the group's standard deviation where the paper's code adds 1e-6; our learning rate warms up, the paper's does
not say. What vLLM samples, by other arithmetic than the trainer's, has the paper's truncated importance weights: a
token's loss × min(π_trainer / π_vLLM, 2).
Rollouts are `generation.rollout`, the loop that evaluation uses, so tools answer alike in both; rewards
are the domains' `verify`, graded on text decoded from the completion's token ids. On a CPU a prompt is read once for all its
completions (`shared_prompts`): the same loss, from about half the tokens.
"""

import json
import math
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from m2rl_lib.config.study import Parameters

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # `rollout_func` is marked experimental

import pandas as pd
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, set_seed
from trl import GRPOConfig, GRPOTrainer

from m2rl_lib import domains, sandbox
from m2rl_lib.config import locations, model_names, schedule
from m2rl_lib.data import problem_sets
from m2rl_lib.domains import chat
from m2rl_lib.rollout import decoding
from m2rl_lib.storage import artifacts, processes, result_tables
from m2rl_lib.training import collapse, launch
from m2rl_lib.training.common import Keeper, Progress, batch_parts, cost, write_costs
from m2rl_lib.training.resume import Resumable
from m2rl_lib.training.shared_prompts import WholeGroups, has_plain_head, hidden_states


def expert_name(domain: str, repeat: int, permute_rewards: bool) -> str:
    """The model name of a run of notebook 03: `rl-<domain>`, `rl-<domain>@repeat=1`, or `rl-null`."""
    if permute_rewards:
        return "rl-null"
    return model_names.model_name(f"rl-{domain}", **({"repeat": repeat} if repeat else {}))


def run_expert(p: Parameters) -> list[Path]:
    """Train the expert that the notebook's parameters ask for; its folders, the finished run last."""
    names = p.domains if p.permute_rewards else [domains.check_domain(p.domain)]
    return _run(
        p,
        expert_name(p.domain, p.repeat, p.permute_rewards),
        names,
        p.rlvr_steps,
        schedule.expert_checkpoints(p),
        p.repeat,
        p.permute_rewards,
    )


def run_mixed(p: Parameters) -> list[Path]:
    """Train RL-Multi on all domains mixed; its folders, the finished run last."""
    return _run(p, "rl-multi", p.domains, p.rlvr_mixed_steps, schedule.mixed_checkpoints(p), 0, False)


def _run(p, name: str, names: list[str], steps: int, checkpoints: list[int], repeat: int, permute_rewards: bool) -> list[Path]:
    start = locations.model_folder(p.study, p.seed, "sft")
    folders = [schedule.checkpoint_folder(p, name, step, steps) for step in checkpoints]
    if artifacts.is_done(p, name, folders, [start]):
        print(f"{name}: this study has it already")
    elif launch.is_wanted(p):
        launch.start(p, name, "grpo")
    else:
        with artifacts.stage(p, name):
            seed = 1000 * p.seed + repeat
            folders = train(p, name, names, steps, checkpoints, start, seed=seed, permute_rewards=permute_rewards)
    processes.wait()
    print(f"{name}: {collapse.verdict(result_tables.read_table(p, 'training', [name]).to_dict('records'))}")
    return folders


def train(
    p: Parameters,
    name: str,
    names: list[str],
    steps: int,
    checkpoints: list[int],
    start: Path,
    *,
    seed: int,
    permute_rewards: bool = False,
) -> list[Path]:
    """Train `start` by GRPO on the domains `names` for `steps` steps and publish it as `name`.

    Returns the published folders, one for each step in `checkpoints` (the last is the run itself). Writes
    the tables `curves` (reward of each domain in training, and on selection problems at every
    checkpoint), `training` (TRL's log) and `costs`. `permute_rewards` shuffles the rewards within each
    group: the null run that can learn nothing about its task.
    """
    for domain in names:
        domains.check_domain(domain)
    launch.check(p, "grpo")
    sandbox.configure(p.sandbox_kind)
    sandbox.check()
    torch.set_num_threads(p.rlvr_threads)
    set_seed(seed)
    started = time.monotonic()
    tokenizer = AutoTokenizer.from_pretrained(artifacts.verify_model(start))
    model = AutoModelForCausalLM.from_pretrained(start)
    wanted = steps * p.rlvr_prompts_per_step
    limit = problem_sets.PromptLimit(tokenizer, p.rlvr_prompt_tokens)
    rows = processes.main_first(
        lambda: problem_sets.prompts(names, wanted, seed, p.data_shared_arithmetic, p.data_sources, limit)
    )
    made_by = artifacts.record(p, [start]) | {"stage": {"name": name, "domains": names, "seed": seed}}
    rewards = [reward_function(domain) for domain in names]
    shuffles = [random.Random(seed + processes.rank() * 10**6) for _ in names] if permute_rewards else []
    if permute_rewards:
        rewards = [permuted(reward, p.rlvr_completions, rng) for reward, rng in zip(rewards, shuffles)]
    keeper = Keeper(p, name, steps, checkpoints, tokenizer, made_by, p.rlvr_prompts_per_step)
    trainer = DomainTrainer(
        model=model,
        args=grpo_config(p, name, steps, seed),
        train_dataset=Dataset.from_list([{"prompt": chat.row_prompt(tokenizer, row), "row": json.dumps(row)} for row in rows]),
        reward_funcs=rewards,
        processing_class=tokenizer,
        rollout_func=roll_out,
        callbacks=[keeper, Progress(name, "reward")],
    )
    trainer.remove_callback(PrinterCallback)  # prints every metric; Progress prints one line
    seconds = trainer.run(name, made_by, started, keeper, shuffles) - keeper.seconds
    log = pd.DataFrame([entry for entry in trainer.state.log_history if "reward" in entry])
    log = log.assign(seed=p.seed, model=name)
    result_tables.write_table(p, "training", name, log, made_by)
    result_tables.write_table(
        p, "curves", name, pd.concat([pd.DataFrame(keeper.curve), _train_curve(p, name, names, log)]), made_by
    )
    spent = cost(
        name,
        "rl",
        seconds=seconds,
        threads=p.rlvr_threads,
        prompts=len(rows),
        generated_tokens=trainer.generated_tokens,
        trained_tokens=trainer.trained_tokens,
    )
    write_costs(p, name, made_by, [spent])
    return keeper.folders


def grpo_config(p: Parameters, name: str, steps: int, seed: int) -> GRPOConfig:
    """The paper's loss settings at the study's size: one update on each batch of prompts × completions."""
    held, parts = batch_parts(p.rlvr_prompts_per_step * p.rlvr_completions, p.train_device_batch)
    return GRPOConfig(
        output_dir=str(locations.work_folder(p.study, p.seed, name)),
        max_steps=steps,
        per_device_train_batch_size=held,
        gradient_accumulation_steps=parts,
        num_generations=p.rlvr_completions,
        max_completion_length=p.rlvr_max_tokens,
        learning_rate=p.rlvr_learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=p.rlvr_warmup_steps,
        adam_beta2=0.98,
        weight_decay=0.1,
        max_grad_norm=1.0,
        loss_type="grpo",
        scale_rewards="group",
        beta=0.0,
        epsilon=0.2,
        epsilon_high=0.28,
        temperature=1.0,
        top_p=1.0,
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        gradient_checkpointing=False,
        seed=seed,
        save_strategy="no",  # `Resumable.run` saves
        logging_steps=max(1, steps // 25),
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        **launch.sampler(p),
        vllm_importance_sampling_mode="token_truncate",  # these two are of rollouts by vLLM only
        vllm_importance_sampling_clip_max=2.0,
    )


class DomainTrainer(Resumable, WholeGroups, GRPOTrainer):
    """GRPOTrainer that hands the rows of a batch to its rollout, counts tokens, skips groups without variance and shares prompts."""

    generated_tokens = 0
    trained_tokens = 0
    rows: list[dict]

    def _generate_and_score_completions(self, inputs):
        self.rows = [json.loads(example["row"]) for example in inputs]
        return super()._generate_and_score_completions(inputs)

    def vllm_turn(self, ids: list[list[int]]) -> tuple[list[list[int]], list[list[float]]]:
        return self._generate_single_turn(ids, None, {}, num_generations=1)

    def _compute_loss(self, model, inputs):
        """The same loss from fewer rows: those of advantage 0 add nothing to it, so they are not run through the model.

        TRL's logged entropy and clipping are then means over the rest.
        """
        telling = inputs["advantages"] != 0
        # as many rows on every process, for TRL gathers what each says; and one at least, so that all take their step
        most = max(1, *processes.gather(int(telling.sum())))
        telling[(~telling).nonzero()[: most - int(telling.sum()), 0]] = True
        count = len(telling)
        batched = {
            name: value[telling] if torch.is_tensor(value) and value.shape[:1] == (count,) else value
            for name, value in inputs.items()
        }
        return super()._compute_loss(model, batched) * (len(batched["advantages"]) / count)

    def _get_per_token_logps_and_entropies(self, model, input_ids, attention_mask, logits_to_keep, *given, **options):
        """TRL's log-probabilities and entropies (N, logits_to_keep), 0 where the mask is; on a CPU with shared prompts."""
        if not self.shares_prompts or not has_plain_head(model):
            return super()._get_per_token_logps_and_entropies(model, input_ids, attention_mask, logits_to_keep, *given, **options)
        hidden = hidden_states(model.base_model, input_ids, attention_mask, logits_to_keep)
        told = attention_mask[:, -logits_to_keep:].bool()
        tokens = input_ids[:, -logits_to_keep:][told]
        logps = (model.get_output_embeddings()(hidden[told]) / self.temperature).log_softmax(dim=-1)
        entropies = -(logps.detach().exp() * logps.detach()).sum(dim=-1)  # only logged
        values = (logps.gather(-1, tokens[:, None])[:, 0], entropies)
        return *(value.new_zeros(told.shape).masked_scatter(told, value) for value in values), None


def roll_out(prompts: list[str], trainer: DomainTrainer) -> dict:
    """TRL's `rollout_func`: our loop of tool turns."""
    completions, prompt_ids = decoding.roll_out(trainer, prompts, trainer.rows)
    return {
        "prompt_ids": prompt_ids,
        "completion_ids": [c.ids for c in completions],
        "env_mask": [c.own for c in completions],
        "text": [c.text for c in completions],
        "logprobs": [logprobs_by_place(c) for c in completions] if trainer.use_vllm else None,
    }


def logprobs_by_place(completion: decoding.Completion) -> list[float]:
    """A completion's log-probabilities, one for each of its ids; 0 on tool results, which TRL leaves out by `env_mask`."""
    told = iter(completion.logprobs)
    return [next(told) if own else 0.0 for own in completion.own]


def reward_function(domain: str) -> Callable[..., list[float | None]]:
    """TRL's reward function of a domain: its `verify` on that domain's completions, None on others'.

    A reward that is not a finite number stops the run: TRL would train on it.
    """

    def reward(*, row: list[str], text: list[str], **_) -> list[float | None]:
        rows = [json.loads(r) for r in row]
        mine = [i for i, r in enumerate(rows) if r["domain"] == domain]
        rewards: list[float | None] = [None] * len(rows)
        for i, value in zip(mine, domains.ALL[domain].verify([text[i] for i in mine], [rows[i] for i in mine]), strict=True):
            if value is not None and not math.isfinite(value):
                raise FloatingPointError(f"{domain}: reward {value!r} for problem {rows[i]['problem_id']} is not a finite number")
            rewards[i] = value
        return rewards

    reward.__name__ = domain
    return reward


def permuted(reward: Callable, group: int, rng: random.Random) -> Callable:
    """`reward`, its values shuffled within each group of `group` completions of one prompt."""

    def shuffled(**columns) -> list[float | None]:
        values = reward(**columns)
        return [value for i in range(0, len(values), group) for value in rng.sample(values[i : i + group], group)]

    shuffled.__name__ = reward.__name__
    return shuffled


def _train_curve(p: Parameters, name: str, names: list[str], log: pd.DataFrame) -> pd.DataFrame:
    """The training reward of each domain, long form, from TRL's log."""
    parts = [pd.DataFrame({"step": log["step"], "domain": domain, "reward": log[f"rewards/{domain}/mean"]}) for domain in names]
    return pd.concat(parts).assign(
        seed=p.seed, model=name, kind="train", prompts=lambda frame: frame["step"] * p.rlvr_prompts_per_step
    )


if __name__ == "__main__":
    from m2rl_lib.training import grpo  # as notebooks import it

    launch.main(lambda p: grpo.run_expert(p) if hasattr(p, "domain") else grpo.run_mixed(p))
