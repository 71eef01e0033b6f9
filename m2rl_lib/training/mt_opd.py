"""Multi-teacher on-policy distillation (MT-OPD): SFT goes to the expert of each prompt's domain by KL(student ‖ teacher).

TRL's KL over the vocabulary has the expected gradient of the published estimator, whose advantage is log π_T − log π_S.
TRL averages over the tokens of a batch, the published loss over each sequence first.
"""

from pathlib import Path

import pandas as pd
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from trl import DistillationConfig, DistillationTrainer
from trl.models import prepare_fsdp

from m2rl_lib.config import locations, model_names, schedule
from m2rl_lib.config.study import ParameterError, Parameters
from m2rl_lib.rollout import trainer_rollouts
from m2rl_lib.storage import artifacts, costs, processes, result_tables
from m2rl_lib.training import common, launch
from m2rl_lib.training.resume import Resumable
from m2rl_lib.training.shared_prompts import WholeGroups, hidden_states
from m2rl_lib.training.trl_adapter import DistillationHooks

MODEL = "mt-opd"


def run(p: Parameters) -> list[Path]:
    """Distil the round's experts into one student, unless this study has it; its folders, the finished run last."""
    name, (start, *teachers) = student_name(p), read_by(p)
    checkpoints = schedule.quarters(p.distill_steps)
    folders = [schedule.checkpoint_folder(p, name, step, p.distill_steps) for step in checkpoints]
    made = dict(zip(p.domains, teachers))
    return common.run_stage(p, name, "mt_opd", folders, [start, *teachers], lambda: train(p, start, made, checkpoints, name))


def student_name(p: Parameters) -> str:
    """The model name of a run of notebook 06. ParameterError for a second round with teachers at a kept step."""
    number, step = schedule.round_of(p), vars(p).get("teacher_step", 0)
    if number > 1 and step:
        raise ParameterError(f"round is {number} with teacher_step {step}: allowed is 0, the last step")
    return schedule.student_name(number, step)


def read_by(p: Parameters) -> list[Path]:
    """What a round reads: the student that it starts from (SFT, then the last round's) and each domain's teacher."""
    number, step = schedule.round_of(p), vars(p).get("teacher_step", 0)
    teachers = [schedule.teacher_name(domain, number) for domain in p.domains]
    if step:
        teachers = [model_names.model_name(name, step=step) for name in teachers]
    names = ["sft" if number == 1 else MODEL, *teachers]
    return [locations.model_folder(p.study, p.seed, name) for name in names]


def train(p: Parameters, start: Path, teachers: dict[str, Path], checkpoints: list[int], name: str = MODEL) -> list[Path]:
    """Train `start` towards the teacher of each domain and publish it as `name`; a folder per step in `checkpoints`.

    Writes the tables `curves` (selection rewards), `distillation` (KL in nats per token, by step and domain) and `costs`.
    """
    seed = 1000 * p.seed + 100 * (schedule.round_of(p) - 1)
    started, tokenizer = common.prepare(p, "mt_opd", list(teachers), p.distill_threads, seed, start)
    made_by = artifacts.record(p, [start, *teachers.values()]) | {"stage": {"name": name, "seed": seed}}
    loaded = {domain: AutoModelForCausalLM.from_pretrained(artifacts.verify_model(folder)) for domain, folder in teachers.items()}
    rows = common.draw_prompts(p, tokenizer, list(teachers), p.distill_steps * p.distill_prompts_per_step, seed)
    keeper = common.Keeper(p, name, p.distill_steps, checkpoints, p.distill_prompts_per_step)
    trainer = MultiTeacherTrainer(
        loaded,
        model=AutoModelForCausalLM.from_pretrained(start),
        args=configuration(p, seed, name),
        train_dataset=common.prompt_dataset(tokenizer, rows, p.distill_completions),
        processing_class=tokenizer,
    )
    seconds = trainer.run(name, made_by, started, keeper)
    result_tables.write_table(p, "curves", name, pd.DataFrame(keeper.curve), made_by)
    kls = [
        {"step": e["step"], "prompts": e["step"] * p.distill_prompts_per_step, "domain": domain, "kl": e[f"kl/{domain}"]}
        for e in trainer.state.log_history
        for domain in teachers
        if f"kl/{domain}" in e
    ]
    result_tables.write_table(p, "distillation", name, pd.DataFrame(kls).assign(seed=p.seed, model=name), made_by)
    spent = costs.row(name, "distillation", seconds=seconds, threads=p.distill_threads, prompts=len(rows), **trainer.totals())
    costs.write(p, name, made_by, [spent])
    return keeper.folders


def configuration(p: Parameters, seed: int, name: str = MODEL) -> DistillationConfig:
    """Reverse KL over the whole vocabulary, one update on each batch of prompts × completions."""
    batch = p.distill_prompts_per_step * p.distill_completions
    return DistillationConfig(
        **common.policy_settings(p, name, rate=p.distill_learning_rate, steps=p.distill_steps, batch=batch, seed=seed),
        shuffle_dataset=False,  # the rows are shuffled already, the completions of a prompt side by side
        beta=1.0,  # reverse
    )


class MultiTeacherTrainer(Resumable, WholeGroups, DistillationHooks, DistillationTrainer):
    """TRL's DistillationTrainer with a teacher for each domain, each loaded once, our rollout with its tool turns, and shared prompts."""

    measure = "kl"

    def __init__(self, teachers: dict[str, PreTrainedModel], **trainer):
        super().__init__(**trainer)
        self.teachers, size = {}, self.model.config.vocab_size
        for domain, teacher in teachers.items():
            if (found := teacher.config.vocab_size) != size:
                sizes = f"has {found} tokens, the student {size}"
                raise ValueError(f"the teacher of {domain} {sizes}: their vocabularies must be one")
            if self.is_fsdp_enabled:  # Accelerate would leave it on the CPU
                self.teachers[domain] = prepare_fsdp(teacher, self.accelerator)
            else:
                self.teachers[domain] = self.accelerator.prepare_model(teacher, evaluation_mode=True)

    def add_columns(self, batch: dict) -> dict:
        names = list(self.teachers)
        teacher = [names.index(row["domain"]) for row in self.rows]
        return super().add_columns(batch) | {"teacher": torch.tensor(teacher, device=batch["prompt_ids"].device)}

    def roll_out(self, prompts: list[str]) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
        """Prompts' ids, completions' ids and loss masks."""
        completions, prompt_ids = trainer_rollouts.roll_out(self, prompts, self.rows)
        masks = [c.own for c in completions]
        lengths = processes.gather(sum(map(sum, masks)) / len(masks))
        self.logged["completions/mean_length"].append(sum(lengths) / len(lengths))
        return prompt_ids, [c.ids for c in completions], masks

    def last_hidden_state(self, model, input_ids, attention_mask, keep) -> torch.Tensor | None:
        return hidden_states(model.base_model, input_ids, attention_mask, keep) if self.shares_prompts else None

    def distillation_loss(self, trls_loss, student, inputs, num_items_in_batch):
        """The sum of each domain's part, by its own teacher; logs the KL of each in nats per token."""
        parts, self.sums = [], []
        for index, (domain, teacher) in enumerate(self.teachers.items()):
            mine = inputs["teacher"] == index
            empty = not mine.any()
            if empty and processes.count() == 1:
                continue
            self.teacher_model = teacher
            mine[0] |= empty  # masked below: all processes must read a sharded model at once
            part = {name: value[mine] for name, value in inputs.items() if name not in ("teacher", "num_items_in_batch")}
            if empty:
                part["tool_mask"] = torch.zeros_like(part["tool_mask"])
            loss, entropy, tokens = trls_loss(student, part, num_items_in_batch)
            parts.append((loss, entropy, tokens))
            self.sums.append((domain, float(loss.detach() * num_items_in_batch), int(tokens)))
            if not empty:
                self.logged[f"kl/{domain}"].append(float(loss.detach() * num_items_in_batch / tokens))
        loss, entropy, tokens = (sum(values) for values in zip(*parts))
        self.logged["kl"].append(float(loss.detach()))
        return loss, entropy, tokens

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """TRL's; then the KL that this process logged becomes the mean over all processes."""
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if processes.count() > 1:
            kls = processes.gather(self.logged["kl"].pop())
            self.logged["kl"].append(sum(kls) / len(kls))
            for (domain, _, mine), others in zip(self.sums, zip(*processes.gather(self.sums))):
                if mine:
                    self.logged[f"kl/{domain}"].pop()
                if tokens := sum(count for *_, count in others):
                    self.logged[f"kl/{domain}"].append(sum(total for _, total, _ in others) / tokens)
        return loss


if __name__ == "__main__":
    from m2rl_lib.training import mt_opd  # as notebooks import it

    launch.main(mt_opd.run)
