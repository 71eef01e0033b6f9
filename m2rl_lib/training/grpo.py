"""RLVR by TRL's GRPOTrainer with the paper's loss, on one domain or on several mixed; one update per rollout.

Unlike the paper's code, TRL adds 1e-4, not 1e-6, to a group's standard deviation, and our learning rate warms up.
"""

import json
import math
import os
import random
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # `rollout_func` is marked experimental

import pandas as pd
import torch
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer

from m2rl_lib import domains
from m2rl_lib.config import locations, model_names, schedule
from m2rl_lib.config.study import ParameterError, Parameters
from m2rl_lib.rollout import trainer_rollouts
from m2rl_lib.storage import artifacts, costs, processes, result_tables
from m2rl_lib.training import collapse, common, domain_shares, launch, lora
from m2rl_lib.training.resume import Resumable
from m2rl_lib.training.shared_prompts import WholeGroups, by_length, has_plain_head, hidden_states
from m2rl_lib.training.trl_adapter import GRPOHooks


def expert_name(p: Parameters) -> str:
    """The model name of a run of notebook 03: `rl-null`, or `rl-<domain>`, with `repeat=1`, `round=2` or `lora=16` after an `@`."""
    if p.permute_rewards:
        return "rl-null"
    number = schedule.round_of(p)
    variant = {"repeat": p.repeat or None, "round": number if number > 1 else None, "lora": vars(p).get("lora") or None}
    return model_names.model_name(f"rl-{p.domain}", **variant)


def start_of(p: Parameters) -> Path:
    """What a run of notebook 03 starts from: SFT, or in a second round MT-OPD's student."""
    return locations.model_folder(p.study, p.seed, "sft" if schedule.round_of(p) == 1 else "mt-opd")


def mixed_name(balance: str) -> str:
    """The model name of a run of notebook 04: `rl-multi`, or `rl-multi@balance=tokens`."""
    return model_names.model_name("rl-multi", balance=None if balance == "prompts" else balance)


def run_expert(p: Parameters) -> list[Path]:
    """Train the expert that the notebook's parameters ask for; its folders, the finished run last."""
    names = p.domains if p.permute_rewards else [domains.check_domain(p.domain)]
    number, rank = schedule.round_of(p), vars(p).get("lora", 0)
    given = {"round": number > 1, "lora": rank > 0, "repeat": p.repeat > 0, "permute_rewards": p.permute_rewards}
    if (number > 1 or rank) and len(both := [name for name, set_so in given.items() if set_so]) > 1:
        raise ParameterError(f"{' and '.join(f'{name} {vars(p)[name]}' for name in both)}: only one of them is allowed")
    if rank and {"fsdp_config", "deepspeed_config"} & launch.configuration(p).keys():
        raise ParameterError(
            f"lora is {rank} and train_accelerate {p.train_accelerate!r}, whose weights are in pieces: allowed is lora 0"
        )
    kept = [p.rlvr_steps] if number > 1 or rank else schedule.expert_checkpoints(p)
    how = {"start": start_of(p), "draw": p.repeat + 100 * (number - 1), "permute_rewards": p.permute_rewards, "rank": rank}
    return run(p, expert_name(p), names, p.rlvr_steps, kept, **how)


def run_mixed(p: Parameters) -> list[Path]:
    """Train RL-Multi on all domains mixed, balanced as `balance` says (by prompts); its folders, the finished run last."""
    balance = vars(p).get("balance", "prompts")
    kept = schedule.mixed_checkpoints(p) if balance == "prompts" else schedule.quarters(p.rlvr_mixed_steps)
    start = locations.model_folder(p.study, p.seed, "sft")
    return run(p, mixed_name(balance), p.domains, p.rlvr_mixed_steps, kept, start=start, balance=balance)


def run(p, name: str, names: list[str], steps: int, checkpoints: list[int], *, start: Path, draw: int = 0, **how) -> list[Path]:
    """The folders of a run of `train`, which is made where the study lacks it; `draw`: of prompts and samples, beside the seed."""
    folders = [schedule.checkpoint_folder(p, name, step, steps) for step in checkpoints]
    how |= {"seed": 1000 * p.seed + draw}
    folders = common.run_stage(p, name, "grpo", folders, [start], lambda: train(p, name, names, steps, checkpoints, start, **how))
    processes.wait()
    print(f"{name}: {collapse.verdict(result_tables.read_table(p, 'training', [name]).to_dict('records'))}")
    return folders


def train(
    p, name: str, names: list[str], steps: int, checkpoints: list[int], start: Path, *,
    seed: int, permute_rewards: bool = False, balance: str = "prompts", rank: int = 0,
) -> list[Path]:  # fmt: skip
    """Train `start` by GRPO on the domains `names` and publish it as `name`; a folder per step in `checkpoints`. `rank`: of adapters, if any.

    Writes the tables `curves` (each domain's reward in training and on selection problems), `training` (TRL's log) and `costs`.
    """
    started, tokenizer = common.prepare(p, "grpo", names, p.rlvr_threads, seed, start)
    model = AutoModelForCausalLM.from_pretrained(start)
    rows = common.draw_prompts(p, tokenizer, names, steps * p.rlvr_prompts_per_step, seed)
    made_by = artifacts.record(p, [start]) | {"stage": {"name": name, "domains": names, "seed": seed}}
    rewards = [reward_function(domain) for domain in names]
    shuffles = [random.Random(seed + processes.rank() * 10**6) for _ in names] if permute_rewards else []
    if permute_rewards:
        rewards = [permuted(reward, p.rlvr_completions, rng) for reward, rng in zip(rewards, shuffles)]
    keeper = common.Keeper(p, name, steps, checkpoints, p.rlvr_prompts_per_step)
    trainer = DomainTrainer(
        model=model,
        args=grpo_config(p, name, steps, seed, rank),
        peft_config=lora.settings(rank) if rank else None,
        train_dataset=common.prompt_dataset(tokenizer, rows),
        reward_funcs=rewards,
        processing_class=tokenizer,
        rollout_func=roll_out,
    )
    trainer.balance = balance
    seconds = trainer.run(name, made_by, started, keeper, shuffles)
    log = pd.DataFrame([entry for entry in trainer.state.log_history if "reward" in entry]).assign(seed=p.seed, model=name)
    result_tables.write_table(p, "training", name, log, made_by)
    parts = [pd.DataFrame({"step": log["step"], "domain": domain, "reward": log[f"rewards/{domain}/mean"]}) for domain in names]
    curve = pd.concat(parts).assign(seed=p.seed, model=name, kind="train")
    curve["prompts"] = curve["step"] * p.rlvr_prompts_per_step
    result_tables.write_table(p, "curves", name, pd.concat([pd.DataFrame(keeper.curve), curve]), made_by)
    spent = costs.row(name, "rl", seconds=seconds, threads=p.rlvr_threads, prompts=len(rows), **trainer.totals())
    costs.write(p, name, made_by, [spent])
    return keeper.folders


def reward_function(domain: str) -> Callable[..., list[float | None]]:
    """TRL's reward function of a domain: its `verify` on that domain's completions, None on others'."""

    def reward(*, row: list[str], text: list[str], **_) -> list[float | None]:
        rows = [json.loads(r) for r in row]
        mine = [i for i, r in enumerate(rows) if r["domain"] == domain]
        rewards: list[float | None] = [None] * len(rows)
        for i, value in zip(mine, domains.ALL[domain].verify([text[i] for i in mine], [rows[i] for i in mine]), strict=True):
            if value is not None and not math.isfinite(value):  # TRL would train on it
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


def grpo_config(p: Parameters, name: str, steps: int, seed: int, rank: int = 0) -> GRPOConfig:
    """The paper's loss settings at the study's size: one update on each batch of prompts × completions."""
    batch = p.rlvr_prompts_per_step * p.rlvr_completions
    rate = p.rlvr_learning_rate * (lora.RATE if rank else 1)
    return GRPOConfig(
        **common.policy_settings(p, name, rate=rate, steps=steps, batch=batch, seed=seed),
        num_generations=p.rlvr_completions,
        loss_type="grpo",
        scale_rewards="group",
        beta=p.rlvr_kl,
        epsilon=0.2,
        epsilon_high=0.28,
        top_p=1.0,
        vllm_importance_sampling_mode="token_truncate",  # these two are of rollouts by vLLM only
        vllm_importance_sampling_clip_max=2.0,
    )


class DomainTrainer(Resumable, WholeGroups, GRPOHooks, GRPOTrainer):
    """GRPOTrainer that hands the rows of a batch to its rollout, counts tokens, skips groups without variance and shares prompts."""

    measure = "reward"
    balance = "prompts"  # or what of `domain_shares.UNITS` each domain has as much of
    loss_rows = None  # while the loss is taken, the micro-batch that it is taken of

    def add_columns(self, batch: dict) -> dict:
        """Logs what each domain's part of the rollout is like; weights the advantages where domains are balanced."""
        names, device = list(domains.ALL), batch["advantages"].device
        domain = [names.index(row["domain"]) for row in self.rows]
        tokens = self.loss_mask(batch).sum(dim=1).tolist()
        groups = [f"{processes.rank()}-{place // self.num_generations}" for place in range(len(domain))]
        columns = {"domain": domain, "advantage": batch["advantages"].tolist(), "tokens": tokens, "group": groups}
        rows = pd.concat(map(pd.DataFrame, processes.gather(columns)), ignore_index=True)
        for number, part in domain_shares.by_domain(rows).iterrows():
            for what, value in part.items():
                self.logged[f"{what}/{names[number]}"].append(float(value))
        if self.balance != "prompts":
            weights = domain_shares.weights(rows, self.balance)
            factors = [weights.get(number, 1.0) for number in domain]
            batch = batch | {"advantages": batch["advantages"] * torch.tensor(factors, device=device)}
        return super().add_columns(batch) | {"domain": torch.tensor(domain, device=device)}

    def loss_mask(self, batch: dict) -> torch.Tensor:
        """Which tokens (N, length) the policy wrote."""
        return batch["completion_mask"] * batch.get("tool_mask", 1)

    def log_entropies(self, entropies: torch.Tensor) -> None:
        """Logs each domain's mean entropy (nats a token) of the micro-batch, of this process."""
        mask = self.loss_mask(self.loss_rows).bool()
        for number in self.loss_rows["domain"].unique().tolist():
            mine = mask & (self.loss_rows["domain"] == number)[:, None]
            self.logged[f"entropy/{list(domains.ALL)[number]}"].append(float(entropies[mine].detach().mean()))

    def policy_loss(self, trls_loss, model, inputs):
        """The same loss without the rows of advantage 0; TRL keeps their KL to SFT (`rlvr_kl`)."""
        kept = inputs["advantages"] != 0
        # as many rows on every process, since TRL gathers their metrics; and one at least, so that all take their step
        most = max(1, *processes.gather(int(kept.sum())))
        kept[(~kept).nonzero()[: most - int(kept.sum()), 0]] = True
        count = len(kept)
        for name, value in inputs.items():
            if torch.is_tensor(value) and value.shape[:1] == (count,):
                inputs = inputs | {name: value[kept]}
        self.loss_rows = inputs
        return trls_loss(model, inputs) * (len(inputs["advantages"]) / count)

    def log_probabilities(self, model, input_ids, attention_mask, keep) -> tuple[torch.Tensor, torch.Tensor] | None:
        """TRL's log-probabilities and entropies (N, keep), 0 where the mask is; None where prompts are not shared."""
        if not self.shares_prompts or not has_plain_head(model):
            return None
        size = self.args.per_device_train_batch_size
        if len(input_ids) > size:  # a whole rollout, read by the reference model
            order = by_length(input_ids[:, :-keep], attention_mask[:, -keep:].sum(dim=1))
            parts = [self.log_probabilities(model, input_ids[at], attention_mask[at], keep) for at in order.split(size)]
            return tuple(torch.cat(values)[order.argsort()] for values in zip(*parts))
        hidden = hidden_states(lora.plain(model).base_model, input_ids, attention_mask, keep)
        mask = attention_mask[:, -keep:].bool()
        tokens = input_ids[:, -keep:][mask]
        logps = (model.get_output_embeddings()(hidden[mask]).float() / self.temperature).log_softmax(dim=-1)
        entropies = -(logps.detach().exp() * logps.detach()).sum(dim=-1)  # only logged
        values = (logps.gather(-1, tokens[:, None])[:, 0], entropies)
        return tuple(value.new_zeros(mask.shape).masked_scatter(mask, value) for value in values)


def roll_out(prompts: list[str], trainer: DomainTrainer) -> dict:
    """TRL's `rollout_func`: our loop of tool turns."""
    completions, prompt_ids = trainer_rollouts.roll_out(trainer, prompts, trainer.rows)
    return {
        "prompt_ids": prompt_ids,
        "completion_ids": [c.ids for c in completions],
        "env_mask": [c.own for c in completions],
        "text": [c.text for c in completions],
        "logprobs": [c.logprobs for c in completions] if trainer.use_vllm else None,
    }


if __name__ == "__main__":
    from m2rl_lib.training import cascade, grpo  # as notebooks import them

    stages = {"domain": grpo.run_expert, "order": cascade.run}  # by the parameter that only its notebook declares
    launch.main(lambda p: next((run for name, run in stages.items() if hasattr(p, name)), grpo.run_mixed)(p))
