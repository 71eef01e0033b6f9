"""SFT, RLVR and distillation on tiny models, by one process or several: what test_two_processes_slow.py starts and compares.

One process samples for RLVR and distillation and writes its completions down; several take these. Each process writes
which rows it was given at each step.
"""

import json
import sys
from pathlib import Path

from tiny import parity, random_model
from transformers import AutoTokenizer

from m2rl_lib.config import locations, study
from m2rl_lib.config.study import Parameters
from m2rl_lib.rollout import trainer_rollouts
from m2rl_lib.rollout.tool_turns import Completion
from m2rl_lib.storage import artifacts, processes
from m2rl_lib.training import grpo, launch, mt_opd, sft

FOLDER, CONFIGURATION = Path(sys.argv[1]), sys.argv[2]
RECORD = FOLDER / "completions.json"
locations.RUNS = FOLDER / "runs"


def parameters() -> Parameters:
    """The smoke study, a little larger; one process takes a batch whole, two take a half each."""
    p = study.load(locations.ROOT / "params" / "smoke.yaml").model_dump()
    p |= {"study": CONFIGURATION, "train_accelerate": CONFIGURATION, "domains": ["math", "agent"], "sft_steps": 6, "sft_batch": 8}
    p |= {"rlvr_prompts_per_step": 4, "rlvr_mixed_steps": 4, "rlvr_max_tokens": 16, "rlvr_learning_rate": 1e-3}
    return Parameters.model_construct(**p)


def watch(trainer, method: str, rows_of) -> list:
    """Have `trainer`'s method write down what it is given: the list of it, a list for each call."""
    seen: list = []
    original = getattr(trainer, method)

    def watched(self, *given):
        seen.append(rows_of(given))
        return original(self, *given)

    setattr(trainer, method, watched)
    return seen


def unpadded(given) -> list[list[int]]:
    return [ids[mask.bool()].tolist() for ids, mask in zip(given[1]["input_ids"], given[1]["attention_mask"])]


def keep_or_replay(recorded: dict, replays: bool):
    """`trainer_rollouts.roll_out` that writes each step's completions into `recorded`, by prompt, or takes them from there."""
    original = trainer_rollouts.roll_out

    def roll_out(trainer, prompts, rows):
        step = recorded.setdefault(f"{trainer.name} {trainer.state.global_step}", {})
        if replays:
            left = {prompt: iter(step[prompt]) for prompt in prompts}
            completions = [Completion(**next(left[prompt])) for prompt in prompts]
            trainer.generated_tokens += sum(sum(c.own) for c in completions)
            return completions, trainer.processing_class(prompts)["input_ids"]
        completions, prompt_ids = original(trainer, prompts, rows)
        for prompt, completion in zip(prompts, completions):
            step.setdefault(prompt, []).append(vars(completion))
        assert len({len(group) for group in step.values()}) == 1, "a prompt is twice in a step, so its groups cannot be known"
        return completions, prompt_ids

    return roll_out


def publish(p: Parameters, name: str, tokenizer, seed: int) -> Path:
    folder = locations.model_folder(p.study, p.seed, name)
    with artifacts.publish(folder, artifacts.record(p)) as fresh:
        if processes.is_main():
            random_model(tokenizer, seed).save_pretrained(fresh)
            tokenizer.save_pretrained(fresh)
    return folder


def run(p: Parameters) -> None:
    orders = {"sft": watch(sft.DemonstrationTrainer, "training_step", unpadded)}
    for name, trainer in (("rl-multi", grpo.DomainTrainer), ("mt-opd", mt_opd.MultiTeacherTrainer)):
        orders[name] = watch(trainer, "_generate_and_score_completions", lambda given: [example["row"] for example in given[0]])
    replays = RECORD.is_file()
    recorded = json.loads(RECORD.read_text()) if replays else {}
    trainer_rollouts.roll_out = keep_or_replay(recorded, replays)
    grpo.reward_function = parity
    base, _ = sft.run(p)
    tokenizer = AutoTokenizer.from_pretrained(base)
    teachers = {domain: publish(p, f"rl-{domain}", tokenizer, seed) for seed, domain in enumerate(p.domains, 1)}
    grpo.train(p, "rl-multi", p.domains, p.rlvr_mixed_steps, [p.rlvr_mixed_steps], base, seed=0)
    mt_opd.train(p, base, teachers, [p.distill_steps])
    (FOLDER / f"orders-{p.study}-{processes.rank()}.json").write_text(json.dumps(orders))
    if not replays:
        RECORD.write_text(json.dumps(recorded))


if __name__ == "__main__":
    launch.check(parameters(), "grpo")
    run(parameters())
