"""Training that resumes after `kill -9` with the weights of an unbroken run (bit-equal on a CPU) and stops at once at a NaN."""

import hashlib
import json
import math
import random
import shutil
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import torch
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer_utils import SaveStrategy

from m2rl_lib.storage import artifacts, atomic, processes, safety
from m2rl_lib.training import collapse, lora
from m2rl_lib.training.trl_adapter import TOTALS, TrainerHooks

STATE = "counters.json"  # of the main process; of another, with its number
KEPT = 2  # checkpoints: should the last be damaged, there is one before it
SAME = ("parameters", "seed", "inputs", "stage")  # of the manifest: else it is another run's checkpoint


class Resumable(TrainerHooks):
    """What a TRL trainer needs to be killed at any moment and resume: `class MyTrainer(Resumable, …Hooks, GRPOTrainer)`."""

    measure: str  # of TRL's log, printed at every logging step
    use_vllm = False  # TRL's trainers of policies overwrite it

    def run(self, name: str, made_by: dict, started: float, keeper=None, rngs: Sequence[random.Random] = ()) -> float:
        """Train, from the last good checkpoint of the same run if there is one; the seconds spent in all, without the keeper's.

        Adds to `made_by` where the run was resumed. `rngs` are random states beside the global ones.
        """
        self.name, self.made_by, self.rngs = name, made_by, rngs
        self.keeper = keeper or SimpleNamespace(checkpoints=[], curve=[], folders=[], seconds=0.0)
        self.work, self.spent, self.started = Path(self.args.output_dir), 0.0, started
        self.args.save_strategy = SaveStrategy.STEPS
        self.args.save_steps = max(self.args.logging_steps, self.args.max_steps // 10)  # a large model's takes a part of a step
        self.remove_callback(PrinterCallback)  # prints every metric; `_Guard` prints one line
        checkpoint = processes.from_main(lambda: _last_good(self))
        counters = json.loads((checkpoint / _state_file()).read_text()) if checkpoint else None
        if counters:
            self._resume(checkpoint, counters)
        if keeper:
            keeper.trainer = self
            self.add_callback(keeper)
        self.add_callback(_Guard(self, counters))
        self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        return self.seconds() - self.keeper.seconds

    def seconds(self) -> float:
        """Seconds since the run began, without those between a kill and its resumption."""
        return self.spent + time.monotonic() - self.started

    def totals(self) -> dict[str, int]:
        """The tokens generated and trained on, of all processes."""
        return {total: sum(processes.gather(getattr(self, total))) for total in TOTALS}

    def _resume(self, checkpoint: Path, counters: dict) -> None:
        manifest = artifacts.read_manifest(checkpoint)
        doubts = _doubts(manifest, counters, self.made_by) + ["vLLM's random state is not kept"] * self.use_vllm
        note = "the weights will be those of an unbroken run" if not doubts else f"NOT EXACT: {'; '.join(doubts)}"
        self.made_by["resumed"] = [*manifest.get("resumed", []), {"step": manifest["step"], "exact": not doubts, "note": note}]
        print(f"{self.name}: goes on from step {manifest['step']}/{self.args.max_steps}; {note}", flush=True)
        self.spent, self.keeper.curve, self.keeper.seconds = (counters[key] for key in ("seconds", "curve", "keeper_seconds"))
        self.keeper.folders = [self.keeper.folder(step) for step in map(int, counters["folders"])]
        for rng, (version, internal, gauss) in zip(self.rngs, counters["rngs"], strict=True):
            rng.setstate((version, tuple(internal), gauss))

    def save_checkpoint(self) -> None:
        step, keeper = self.state.global_step, self.keeper
        state = self.counters() | {
            "code": _code(),
            "seconds": self.seconds(),
            "log": self.state.log_history,  # transformers sorts the keys of its own copy, and so a table's columns
            "curve": keeper.curve,
            "keeper_seconds": keeper.seconds,
            "folders": {s: artifacts.read_manifest(keeper.folder(s))["digest"] for s in keeper.checkpoints if s <= step},
            "rngs": [rng.getstate() for rng in self.rngs],
        }
        with artifacts.publish(self.work / f"checkpoint-{step}", self.made_by | {"step": step}) as fresh:
            self.write_model(fresh)
            self.save_training_state(fresh)
            self.store_flos()
            if processes.is_main():
                self.state.save_to_json(str(fresh / "trainer_state.json"))
            (fresh / _state_file()).write_text(json.dumps(state))
        if processes.is_main():
            for old in [folder for made, folder in _checkpoints(self.work).items() if made <= step][KEPT:]:
                shutil.rmtree(old)  # later ones are another run's, of other parameters: they go when this one gets there

    def write_model(self, folder: Path, tokenizer=None) -> None:
        """Write the whole model into `folder`, with a tokenizer what is published: every process gives its share, the main one writes."""
        model, sharded = self.accelerator.unwrap_model(self.model), self.is_fsdp_enabled or self.is_deepspeed_enabled
        whole = self.accelerator.get_state_dict(self.model_wrapped) if sharded else None
        if processes.is_main():
            (lora.merged(model) if tokenizer else model).save_pretrained(folder, state_dict=whole)
            if tokenizer is not None:
                tokenizer.save_pretrained(folder)

    def training_step(self, model, inputs, num_items_in_batch=None):
        """The trainer's own, and an end to the run where the loss, a reward or the gradient is not a finite number."""
        self.batch = inputs
        try:
            loss = super().training_step(model, inputs, num_items_in_batch)
        except FloatingPointError as error:  # from a reward function
            raise self.stopped(str(error)) from None
        if not math.isfinite(float(loss)):
            raise self.stopped(f"loss is {float(loss)}")
        if not math.isfinite(_norm([parameter.grad for parameter in model.parameters() if parameter.grad is not None])):
            raise self.stopped("the gradient is not finite")
        return loss

    def stopped(self, why: str) -> FloatingPointError:
        """The error that ends the run, once the batch that led to it is kept for study."""
        step = self.state.global_step + 1
        of_process = f"-process-{processes.rank()}" if processes.rank() else ""
        path = self.work / f"stopped-at-step-{step}{of_process}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = {"step": step, "why": why, "batch": self.batch, "completions": getattr(self, "texts", None)}
        torch.save(kept | {"prepared": self.prepared}, path)
        return FloatingPointError(f"{self.name}: {why}; stopped at step {step}, its batch is kept in {path}")


class _Guard(TrainerCallback):
    """Restores counters at the start, stops at what is not finite, prints a line per logging step and each collapse warning once."""

    def __init__(self, trainer: Resumable, counters: dict | None):
        self.trainer, self.saved = trainer, counters
        self.reported: set[str] = set()

    def on_train_begin(self, args, state, control, **kwargs):
        if self.saved:
            self.trainer.restore_counters(self.saved)
            self.trainer.state.log_history = self.saved["log"]

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        if not math.isfinite(_norm([p.detach() for p in model.parameters()])):
            raise self.trainer.stopped("a weight is not finite")

    def on_log(self, args, state, control, logs, **kwargs):
        name, measure = self.trainer.name, self.trainer.measure
        for key in {measure, "loss"} & logs.keys():
            if logs[key] is not None and not math.isfinite(float(logs[key])):
                raise FloatingPointError(f"{name}: {key} is {logs[key]} at step {state.global_step}; nothing was published")
        if measure in logs:  # None where nothing could be graded
            value = "none" if logs[measure] is None else f"{float(logs[measure]):.3f}"
            print(f"{name}: step {state.global_step}/{state.max_steps}, {measure} {value}", flush=True)
        for kind, warning in collapse.warnings(state.log_history).items():
            if kind not in self.reported:
                print(f"{name}: COLLAPSE? {warning}", flush=True)
            self.reported.add(kind)


def _norm(tensors: list[torch.Tensor]) -> float:
    """The norm of all tensors together, also of sharded ones."""
    norm = torch.nn.utils.get_total_norm(tensors)
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)


def _state_file() -> str:
    return f"{processes.rank()}-{STATE}" if processes.rank() else STATE


def _checkpoints(work: Path) -> dict[int, Path]:
    """A run's checkpoints by their steps, the last first."""
    return dict(sorted(((int(path.name.split("-")[1]), path) for path in work.glob("checkpoint-*")), reverse=True))


def _last_good(trainer: Resumable) -> Path | None:
    """The last checkpoint that is whole, of this very run, and whose named models are there. Others are reported and left."""
    for half in trainer.work.glob(".checkpoint-*"):
        if half.is_dir():
            print(f"{trainer.name}: {half.name.split('.')[1]} is half-written and passed over", flush=True)
            shutil.rmtree(half)
    expected = json.loads(json.dumps(trainer.made_by))
    for folder in _checkpoints(trainer.work).values():
        try:
            manifest = artifacts.read_manifest(folder)
            safety.check_files(folder, manifest["files"], artifacts.MANIFEST, "an earlier one is taken")
            for step, digest in json.loads((folder / STATE).read_text())["folders"].items():
                if artifacts.read_manifest(trainer.keeper.folder(int(step)))["digest"] != digest:
                    raise atomic.DamagedError(f"the model published at step {step} is another")
            why = ", ".join(key for key in SAME if manifest.get(key) != expected.get(key))
            if not why:
                return folder
            why = f"other {why}"
        except (atomic.DamagedError, FileNotFoundError) as error:
            why = error
        print(f"{trainer.name}: {folder.name} is passed over: {why}", flush=True)
    return None


def _doubts(manifest: dict, counters: dict, made_by: dict) -> list[str]:
    """Why a run resumed from a checkpoint may not have the weights of an unbroken one."""
    doubts = [entry["note"].removeprefix("NOT EXACT: ") for entry in manifest.get("resumed", []) if not entry["exact"]]
    if counters["code"] != _code():
        doubts.append(f"m2rl_lib is not what it was (commit {manifest['commit']}, now {made_by['commit']})")
    if manifest["device"] != made_by["device"]:
        doubts.append(f"it ran on {manifest['device']}, now on {made_by['device']}")
    for library, version in made_by["versions"].items():
        if manifest["versions"].get(library) != version:
            doubts.append(f"{library} was {manifest['versions'].get(library)}, is {version}")
    if torch.cuda.is_available():
        doubts.append("a GPU may take sums in another order")
    return doubts


@lru_cache
def _code() -> str:
    """A digest of the library's source, as it was when this process began to train."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py")))).hexdigest()
