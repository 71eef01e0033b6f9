"""Multi-teacher on-policy distillation (MT-OPD): one student learns from the expert of each prompt's domain.

The student starts from SFT, samples its own completions on all domains' prompts (mixed as for RL-Multi), and on each
of its tokens is drawn to the teacher of that domain by the reverse KL, KL(student ‖ teacher). No outcome reward.

Where this departs from the published estimator (paper's code): there A_t = log π_T(y_t) − log π_S(y_t) of the sampled
token is the advantage of a policy gradient; here TRL's DistillationTrainer takes the same KL exactly, over the whole
vocabulary at each sampled prefix. Given the prefix both gradients are equal in expectation (a test enumerates the
vocabulary), ours has no sampling noise. Neither counts what a token does to later prefixes. TRL averages over the
tokens of a batch, the published loss over each sequence first. One update a rollout, so no importance weights.
Learning rate: the paper's is half of its RL rate, and so is ours by default.
"""

import json
import time
from pathlib import Path

import pandas as pd
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PrinterCallback, set_seed
from trl import DistillationConfig, DistillationTrainer
from trl.models import prepare_fsdp

from m2rl_lib import domains, sandbox
from m2rl_lib.config import locations, schedule
from m2rl_lib.config.study import Parameters
from m2rl_lib.data import problem_sets
from m2rl_lib.domains import chat
from m2rl_lib.rollout import decoding
from m2rl_lib.storage import artifacts, processes, result_tables
from m2rl_lib.training import launch
from m2rl_lib.training.common import Keeper, Progress, batch_parts, cost, write_costs
from m2rl_lib.training.resume import Resumable
from m2rl_lib.training.shared_prompts import WholeGroups, hidden_states

MODEL = "mt-opd"


def run(p: Parameters) -> list[Path]:
    """Distil the study's experts into one student, unless this study has it; its folders, the finished run last."""
    start = locations.model_folder(p.study, p.seed, "sft")
    teachers = {domain: locations.model_folder(p.study, p.seed, f"rl-{domain}") for domain in p.domains}
    checkpoints = schedule.quarters(p.distill_steps)
    folders = [schedule.checkpoint_folder(p, MODEL, step, p.distill_steps) for step in checkpoints]
    if artifacts.is_done(p, MODEL, folders, [start, *teachers.values()]):
        print(f"{MODEL}: this study has it already")
        return folders
    if launch.is_wanted(p):
        launch.start(p, MODEL, "mt_opd")
        return folders
    with artifacts.stage(p, MODEL):
        return train(p, start, teachers, checkpoints)


def train(p: Parameters, start: Path, teachers: dict[str, Path], checkpoints: list[int]) -> list[Path]:
    """Train `start` on its own completions towards the teacher of each domain, and publish it as `mt-opd`.

    Writes the tables `curves` (selection reward of each domain at each checkpoint), `distillation` (reverse KL to the
    teacher in nats a token, by step and domain) and `costs`. Returns a folder for each step in `checkpoints`.
    """
    for domain in teachers:
        domains.check_domain(domain)
    launch.check(p, "mt_opd")
    sandbox.configure(p.sandbox_kind)
    sandbox.check()
    torch.set_num_threads(p.distill_threads)
    seed = 1000 * p.seed
    set_seed(seed)
    started = time.monotonic()
    tokenizer = AutoTokenizer.from_pretrained(artifacts.verify_model(start))
    made_by = artifacts.record(p, [start, *teachers.values()]) | {"stage": {"name": MODEL, "seed": seed}}
    loaded = {domain: AutoModelForCausalLM.from_pretrained(artifacts.verify_model(folder)) for domain, folder in teachers.items()}
    wanted = p.distill_steps * p.distill_prompts_per_step
    world = (p.data_shared_arithmetic, p.data_sources, problem_sets.PromptLimit(tokenizer, p.rlvr_prompt_tokens))
    rows = processes.main_first(lambda: problem_sets.prompts(list(teachers), wanted, seed, *world))
    keeper = Keeper(p, MODEL, p.distill_steps, checkpoints, tokenizer, made_by, p.distill_prompts_per_step)
    trainer = MultiTeacherTrainer(
        loaded,
        model=AutoModelForCausalLM.from_pretrained(start),
        args=configuration(p, seed),
        train_dataset=Dataset.from_list(
            [
                {"prompt": chat.row_prompt(tokenizer, row), "row": json.dumps(row)}
                for row in rows
                for _ in range(p.distill_completions)
            ]
        ),
        processing_class=tokenizer,
        callbacks=[keeper, Progress(MODEL, "kl")],
    )
    trainer.remove_callback(PrinterCallback)  # prints every metric; Progress prints one line
    seconds = trainer.run(MODEL, made_by, started, keeper) - keeper.seconds
    result_tables.write_table(p, "curves", MODEL, pd.DataFrame(keeper.curve), made_by)
    result_tables.write_table(p, "distillation", MODEL, _kl_curve(p, trainer.state.log_history, list(teachers)), made_by)
    spent = cost(
        MODEL,
        "distillation",
        seconds=seconds,
        threads=p.distill_threads,
        prompts=len(rows),
        generated_tokens=trainer.generated_tokens,
        trained_tokens=trainer.trained_tokens,
    )
    write_costs(p, MODEL, made_by, [spent])
    return keeper.folders


def configuration(p: Parameters, seed: int) -> DistillationConfig:
    """Reverse KL over the whole vocabulary, one update on each batch of prompts × completions."""
    held, parts = batch_parts(p.distill_prompts_per_step * p.distill_completions, p.train_device_batch)
    return DistillationConfig(
        output_dir=str(locations.work_folder(p.study, p.seed, MODEL)),
        max_steps=p.distill_steps,
        per_device_train_batch_size=held,
        gradient_accumulation_steps=parts,
        shuffle_dataset=False,  # the rows are shuffled already, the completions of a prompt side by side
        beta=1.0,  # reverse
        temperature=1.0,
        max_completion_length=p.rlvr_max_tokens,
        learning_rate=p.distill_learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=p.rlvr_warmup_steps,
        adam_beta2=0.98,
        weight_decay=0.1,
        max_grad_norm=1.0,
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        gradient_checkpointing=False,
        seed=seed,
        save_strategy="no",  # `Resumable.run` saves
        logging_steps=max(1, p.distill_steps // 25),
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        **launch.sampler(p),
    )


class MultiTeacherTrainer(Resumable, WholeGroups, DistillationTrainer):
    """TRL's DistillationTrainer with a teacher for each domain, each loaded once, our rollout with its tool turns, and shared prompts."""

    generated_tokens = 0
    trained_tokens = 0
    rows: list[dict]

    def __init__(self, teachers: dict[str, PreTrainedModel], **trainer):
        super().__init__(**trainer)
        for domain, teacher in teachers.items():
            if teacher.config.vocab_size != self.model.config.vocab_size:
                raise ValueError(
                    f"the teacher of {domain} has {teacher.config.vocab_size} tokens, the student {self.model.config.vocab_size}: "
                    "their vocabularies must be one"
                )
        self.teachers = {domain: self.place(model) for domain, model in teachers.items()}

    def place(self, teacher: PreTrainedModel) -> torch.nn.Module:
        """A teacher on this process's device: in pieces under FSDP, where Accelerate would leave it on the CPU, else whole."""
        if self.is_fsdp_enabled:
            return prepare_fsdp(teacher, self.accelerator)
        return self.accelerator.prepare_model(teacher, evaluation_mode=True)

    def _generate_and_score_completions(self, inputs):
        self.rows = [json.loads(example["row"]) for example in inputs]
        batch = super()._generate_and_score_completions(inputs)
        names = list(self.teachers)
        return batch | {
            "teacher": torch.tensor([names.index(row["domain"]) for row in self.rows], device=batch["prompt_ids"].device)
        }

    def vllm_turn(self, ids: list[list[int]]) -> tuple[list[list[int]], None]:
        return self._generate_single_turn(ids, None, {}), None

    def _generate(self, prompts: list[str]):
        completions, prompt_ids = decoding.roll_out(self, prompts, self.rows)
        own = [c.own for c in completions]
        lengths = processes.gather(sum(map(sum, own)) / len(own))
        self._metrics["train"]["completions/mean_length"].append(sum(lengths) / len(lengths))
        return prompt_ids, [c.ids for c in completions], own, None, []

    def _get_last_hidden_state(self, model, input_ids, attention_mask, logits_to_keep, **others):
        if not self.shares_prompts:
            return super()._get_last_hidden_state(model, input_ids, attention_mask, logits_to_keep, **others)
        return hidden_states(model.base_model, input_ids, attention_mask, logits_to_keep)

    def _compute_loss(self, student, inputs, num_items_in_batch):
        """The sum of each domain's part, by its own teacher; logs the KL of each in nats a token.

        Of several processes each asks every teacher, with a masked row where it has none for it: sharded models must be read
        by all at once.
        """
        parts, self.sums = [], []
        for index, (domain, teacher) in enumerate(self.teachers.items()):
            mine = inputs["teacher"] == index
            empty = not mine.any()
            if empty and processes.count() == 1:
                continue
            self.teacher_model = teacher
            mine[0] |= empty
            part = {name: value[mine] for name, value in inputs.items() if name not in ("teacher", "num_items_in_batch")}
            if empty:
                part["tool_mask"] = torch.zeros_like(part["tool_mask"])
            parts.append(super()._compute_loss(student, part, num_items_in_batch))
            loss, _, tokens = parts[-1]
            self.sums.append((domain, float(loss.detach() * num_items_in_batch), int(tokens)))
            if not empty:
                self._metrics["train"][f"kl/{domain}"].append(float(loss.detach() * num_items_in_batch / tokens))
        loss, entropy, tokens = (sum(values) for values in zip(*parts))
        self._metrics["train"]["kl"].append(float(loss.detach()))
        return loss, entropy, tokens

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """TRL's; then what `_compute_loss` logged of this process's rows becomes what all processes' rows say."""
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if processes.count() > 1:
            logged = self._metrics["train"]
            kls = processes.gather(logged["kl"].pop())
            logged["kl"].append(sum(kls) / len(kls))
            for (domain, _, mine), others in zip(self.sums, zip(*processes.gather(self.sums))):
                if mine:
                    logged[f"kl/{domain}"].pop()
                if tokens := sum(count for *_, count in others):
                    logged[f"kl/{domain}"].append(sum(total for _, total, _ in others) / tokens)
        return loss


def _kl_curve(p: Parameters, history: list[dict], names: list[str]) -> pd.DataFrame:
    """The KL to each domain's teacher, long form, from TRL's log: seed, model, step, prompts, domain, kl."""
    logged = [entry for entry in history if "kl" in entry]
    rows = [
        {
            "step": entry["step"],
            "prompts": entry["step"] * p.distill_prompts_per_step,
            "domain": domain,
            "kl": entry[f"kl/{domain}"],
        }
        for entry in logged
        for domain in names
        if f"kl/{domain}" in entry
    ]
    return pd.DataFrame(rows).assign(seed=p.seed, model=MODEL)


if __name__ == "__main__":
    from m2rl_lib.training import mt_opd  # as notebooks import it

    launch.main(mt_opd.run)
