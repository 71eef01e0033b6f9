"""What a vLLM worker on a CPU needs to take new weights: vLLM's `worker_extension_cls`, in the process or of a server."""


class Weights:
    """Adds `take_weights` to vLLM's worker."""

    def take_weights(self, weights: list | None = None, folder: str | None = None) -> None:
        """Read all weights, as (name, tensor) or in a folder, and pack them anew: on a CPU vLLM uses packed copies alone."""
        self.model_runner.reload_weights(weights_iterator=weights and iter(weights), weights_path=folder)
        head = getattr(self.model_runner.model, "lm_head", None)
        if head is not None and self.model_runner.model.config.tie_word_embeddings:
            head.quant_method.process_weights_after_loading(head)  # a tied head's copy is none that vLLM reloads
