"""Supervised fine-tuning by TRL's SFTTrainer with the paper's settings: from the base model to the model all else starts from."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from datasets import Dataset, Features, List, Value
from datasets.arrow_writer import ArrowWriter
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

from m2rl_lib.config import locations
from m2rl_lib.config.study import Parameters
from m2rl_lib.data import problem_sets, sft_blend, sft_corpus
from m2rl_lib.storage import artifacts, checkpoints, costs, processes, result_tables
from m2rl_lib.training import base_models, common, launch, micro_model
from m2rl_lib.training.resume import Resumable
from m2rl_lib.training.shared_prompts import has_plain_head

MODEL = "sft"
FEATURES = Features({"input_ids": List(Value("int32")), "labels": List(Value("int64"))})


def run(p: Parameters) -> list[Path]:
    """The base model and the fine-tuned one, trained unless this study has them already."""

    def make() -> list[Path]:
        examples = processes.main_first(lambda: corpus(p))
        base = make_base(p, examples)
        return [base, train(p, base, examples)]

    folders = [locations.model_folder(p.study, p.seed, name) for name in ("base", MODEL)]
    return common.run_stage(p, MODEL, "sft", folders, [], make)


def answer_sentence(curve: pd.DataFrame, model: Path) -> str:
    """How large a model is, and where its loss began and ended: rows of the `sft_curve` table, in nats a token."""
    count = sum(tensor.size for tensor in checkpoints.open_checkpoint(MODEL, model).tensors.values())
    first, last = (curve.loc[curve["step"] == curve["step"].agg(end)].iloc[0] for end in ("min", "max"))
    said = f"**A model of {count / 1e6:.2f} million weights.** Its loss goes from {first['loss']:.2f} nats a token at step {first['step']:.0f} to"
    return f"{said} {last['loss']:.2f} at step {last['step']:.0f}."


def corpus(p: Parameters) -> Sequence[dict]:
    """The SFT corpus of a study's seed: the micro world's, or what one pass of all steps reads of the published blend."""
    common.check_grading(p, p.domains)
    if not problem_sets.is_micro(p.data_sources):
        return sft_blend.draw_corpus(p.data_sources, p.sft_steps * p.sft_batch, p.seed)
    return sft_corpus.sft_corpus(p)


def make_base(p: Parameters, examples: Sequence[dict]) -> Path:
    """Publish what SFT starts from: the untrained micro model with a tokenizer trained on the corpus, or `sft_base_model`."""
    folder = locations.model_folder(p.study, p.seed, "base")
    size = {key: getattr(p, f"micro_{key}") for key in ("vocabulary", "hidden_size", "layers", "heads", "context")}
    with artifacts.publish(folder, artifacts.record(p)) as fresh:
        if processes.is_main() and p.sft_base_model == problem_sets.MICRO:
            micro_model.save_base(fresh, sft_corpus.corpus_texts(examples), **size, seed=p.seed)
        elif processes.is_main():
            base_models.save_base(fresh, p.sft_base_model)
    return folder


def write_tokens(tokenizer, examples: Iterable[dict], path: Path, longest: int) -> tuple[Dataset, list[int]]:
    """The examples as `input_ids` and `labels`, cut off at `longest` tokens, and their lengths; written to `path` one by one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lengths = []
    with ArrowWriter(path=str(path), features=FEATURES, writer_batch_size=256) as writer:
        for example in examples:
            tokens = {key: ids[:longest] for key, ids in sft_corpus.tokenise(tokenizer, example).items()}
            if any(label >= 0 for label in tokens["labels"]):  # else a prompt alone fills it, and there is nothing to learn
                lengths.append(len(tokens["input_ids"]))
                writer.write(tokens)
        writer.finalize()
    return Dataset.from_file(str(path)), lengths


class DemonstrationTrainer(Resumable, SFTTrainer):
    """TRL's SFTTrainer, able to resume after a kill; on a CPU with little padding, and logits only where there is something to learn."""

    measure = "loss"

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """TRL's loss: this micro-batch's share of the mean over the `num_items_in_batch` learned tokens of a batch."""
        if not self.args.use_cpu or processes.count() > 1 or not has_plain_head(model):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        total = 0
        for part in zip(*(inputs[name].split(sft_corpus.ALIKE) for name in ("input_ids", "attention_mask", "labels"))):
            ids, mask, labels = (values[:, part[1].any(dim=0)] for values in part)  # without columns of padding alone
            states = model.base_model(ids, mask, use_cache=False).last_hidden_state[:, :-1]
            learned = labels[:, 1:] != -100
            logits = model.get_output_embeddings()(states[learned]).float()
            total = total + cross_entropy(logits, labels[:, 1:][learned], reduction="sum")
        return total / max(1, num_items_in_batch)


def train(p: Parameters, base: Path, examples: Sequence[dict]) -> Path:
    """Fine-tune `base` on the corpus and publish it as `sft`, with its loss curve and costs as tables."""
    started, tokenizer = common.prepare(p, "sft", p.domains, p.sft_threads, p.seed, base)
    model = AutoModelForCausalLM.from_pretrained(base)
    tokens_file = locations.work_folder(p.study, p.seed, MODEL) / f"tokens{processes.rank() or ''}.arrow"
    tokenised, lengths = write_tokens(tokenizer, examples, tokens_file, p.micro_context)
    order = sft_corpus.batch_order(lengths, p.sft_batch, p.sft_steps, p.seed)
    trainer = DemonstrationTrainer(
        model=model,
        args=SFTConfig(
            **common.trainer_settings(p, MODEL, steps=p.sft_steps, batch=p.sft_batch, seed=p.seed, logs=20),
            learning_rate=p.sft_learning_rate,
            lr_scheduler_type="cosine_with_min_lr",
            lr_scheduler_kwargs={"min_lr_rate": 0.1},
            warmup_steps=round(p.sft_warmup_share * p.sft_steps),
            adam_beta2=0.95,
            dataset_kwargs={"skip_prepare_dataset": True},  # `write_tokens` has done it
            train_sampling_strategy="sequential",  # in the order of `batch_order`
        ),
        train_dataset=tokenised.select(order),
        processing_class=tokenizer,
    )
    made_by = artifacts.record(p, [base])
    seconds = trainer.run(MODEL, made_by, started)
    folder = locations.model_folder(p.study, p.seed, MODEL)
    with artifacts.publish(folder, made_by) as fresh:
        trainer.write_model(fresh, tokenizer)
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    curve = pd.DataFrame(logged).assign(seed=p.seed, model=MODEL)[["seed", "model", "step", "loss"]]
    result_tables.write_table(p, "sft_curve", MODEL, curve, made_by)
    tokens = sum(lengths[i] for i in order)
    spent = costs.row(MODEL, "sft", seconds=seconds, threads=p.sft_threads, prompts=len(order), trained_tokens=tokens)
    costs.write(p, MODEL, made_by, [spent])
    return folder


if __name__ == "__main__":
    from m2rl_lib.training import sft  # as notebooks import it

    launch.main(sft.run)
