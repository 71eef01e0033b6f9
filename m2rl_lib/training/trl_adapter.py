"""Every private name of TRL's and transformers' trainers that this library uses, behind public names of our own."""

import json
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch

from m2rl_lib.storage.atomic import DamagedError

WORKER = "m2rl_lib.rollout.vllm_worker.Weights"  # a server is started with it, too
TOTALS = ("generated_tokens", "trained_tokens")  # of which each process counts its own
COUNTED = (*TOTALS, "_step", "_total_train_tokens", "_total_loss_scalar", "_globalstep_last_logged")


def vllm_of_cpu() -> Callable:
    """vLLM's engine as it runs on a CPU: in float32, on no more cores than it is given."""
    from vllm import LLM

    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GB
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # else it takes every core
    return partial(LLM, dtype="float32", enforce_eager=True)


def copied(named: Iterable[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Tensors of their own: once TRL has named them all, it takes adapters out of the weights again."""
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in named}


def use_vllm_on_cpu(folder: Path) -> None:
    """TRL's next vLLM runs on a CPU, in float32; a server reads weights from `folder`, since TRL's way (NCCL) needs GPUs."""
    from safetensors.torch import save_file
    from trl.generation import vllm_client, vllm_generation

    class FileClient(vllm_client.VLLMClient):
        def init_communicator(self, device):
            self.get_server_info()  # refused where the server was not started with VLLM_SERVER_DEV_MODE=1

        def update_named_params(self, metadata, named_params):
            folder.mkdir(parents=True, exist_ok=True)
            save_file(copied(named_params), folder / "model.safetensors")
            how = {"method": "take_weights", "kwargs": {"folder": str(folder.resolve())}}
            self._post(f"{self.base_url}/collective_rpc", json=how)

    def sync_weights(self):
        """Instead of TRL's, tensor by tensor into a model that, on a CPU, multiplies by packed copies of them."""
        if self.mode == "server":
            return servers_way(self)
        self.llm.collective_rpc("take_weights", kwargs={"weights": list(copied(self._iter_named_params()).items())})
        self.llm.reset_prefix_cache()

    servers_way = getattr(vllm_generation.VLLMGeneration, "servers_way", vllm_generation.VLLMGeneration.sync_weights)
    vllm_generation.VLLMGeneration.servers_way, vllm_generation.VLLMGeneration.sync_weights = servers_way, sync_weights
    vllm_generation.LLM = partial(vllm_of_cpu(), worker_extension_cls=WORKER)
    vllm_generation.VLLMClient = FileClient


class TrainerHooks:
    """Of transformers' Trainer, as each of TRL's has it. Asks for `save_checkpoint` and `name`."""

    def _save_checkpoint(self, model, trial) -> None:
        """Instead of TRL's, which writes a model card, and of transformers', which writes in place."""
        self.save_checkpoint()

    def autocast_smart_context_manager(self, cache_enabled=True):
        """Accelerate's own covers a call of the model, not of its parts, which our losses make."""
        return self.accelerator.autocast()

    def _load_optimizer_and_scheduler(self, checkpoint) -> None:
        """The trainer's own, which of several processes on a CPU would load to 'cpu:0', which PyTorch cannot."""
        if self.args.device.type == "cpu":
            self.args._setup_devices = torch.device("cpu")
        super()._load_optimizer_and_scheduler(checkpoint)

    def _issue_warnings_after_load(self, load_result) -> None:
        """Refuse a checkpoint that lacks tensors other than tied ones, or has more."""
        differing = {*load_result.missing_keys, *load_result.unexpected_keys} - {*(self.model._tied_weights_keys or ())}
        if differing:
            raise DamagedError(f"{self.name}: the checkpoint and the model differ in tensors {', '.join(sorted(differing))}")

    def save_training_state(self, folder: Path) -> None:
        """Optimizer, schedule, scaler and random states."""
        self._save_optimizer_and_scheduler(str(folder))
        self._save_scaler(str(folder))
        self._save_rng_state(str(folder))

    @property
    def logged(self) -> dict[str, list[float]]:
        """What has been measured in training since the last log."""
        return self._metrics["train"]

    @property
    def prepared(self) -> list[dict] | None:
        """The micro-batches of the current rollout."""
        return getattr(self, "_buffered_inputs", None)

    def counters(self) -> dict:
        """What TRL and we count between logs, which no checkpoint of TRL's has."""
        return {
            "counted": {name: getattr(self, name) for name in COUNTED if hasattr(self, name)},
            "tr_loss": float(self._tr_loss),
            "metrics": {key: [float(v) for v in values] for key, values in self.logged.items()},
        }

    def restore_counters(self, counters: dict) -> None:
        """After transformers has set its own to 0, before the first step."""
        for name, value in counters["counted"].items():
            setattr(self, name, value)
        self._tr_loss += counters["tr_loss"]
        self.logged.update(counters["metrics"])


class PolicyHooks(TrainerHooks):
    """Of the trainers that sample. Asks for `add_columns`, `shares_prompts` and `arrange`; gives `rows` and `vllm_turn`."""

    generated_tokens = trained_tokens = 0
    rows: list[dict]  # of the batch that is sampled

    def _generate_and_score_completions(self, inputs):
        self.rows = [json.loads(example["row"]) for example in inputs]
        return self.add_columns(super()._generate_and_score_completions(inputs))

    def _prepare_inputs(self, generation_batch):
        micro_batch = super()._prepare_inputs(generation_batch)
        if not self.shares_prompts:
            return micro_batch
        number = self._step % len(self._buffered_inputs)
        if number == 0:  # a new rollout
            self._buffered_inputs = self.arrange(self._buffered_inputs)
        return self._buffered_inputs[number]


class GRPOHooks(PolicyHooks):
    """Of GRPOTrainer. Asks for `policy_loss`, `log_probabilities`, and `log_entropies` of the loss's `loss_rows`."""

    def vllm_turn(self, ids: list[list[int]]) -> tuple[list[list[int]], list[list[float]]]:
        return self._generate_single_turn(ids, None, {}, num_generations=1)

    def _compute_loss(self, model, inputs):
        try:
            return self.policy_loss(super()._compute_loss, model, inputs)
        finally:
            self.loss_rows = None

    def _get_per_token_logps_and_entropies(self, model, input_ids, attention_mask, logits_to_keep, *others, **options):
        given = (model, input_ids, attention_mask, logits_to_keep)
        with self.accelerator.autocast():  # also outside the loss, before a step
            ours = self.log_probabilities(*given)
        found = (*ours, None) if ours else super()._get_per_token_logps_and_entropies(*given, *others, **options)
        if self.loss_rows is not None and found[1] is not None:
            self.log_entropies(found[1])
        return found


class DistillationHooks(PolicyHooks):
    """Of DistillationTrainer. Asks for `roll_out`, `last_hidden_state` and `distillation_loss`."""

    def vllm_turn(self, ids: list[list[int]]) -> tuple[list[list[int]], None]:
        return self._generate_single_turn(ids, None, {}), None

    def _generate(self, prompts: list[str]):
        return *self.roll_out(prompts), None, []

    def _get_last_hidden_state(self, model, input_ids, attention_mask, logits_to_keep, **others):
        given = (model, input_ids, attention_mask, logits_to_keep)
        ours = self.last_hidden_state(*given)
        return super()._get_last_hidden_state(*given, **others) if ours is None else ours

    def _compute_loss(self, student, inputs, num_items_in_batch):
        return self.distillation_loss(super()._compute_loss, student, inputs, num_items_in_batch)
