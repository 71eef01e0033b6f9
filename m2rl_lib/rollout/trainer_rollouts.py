"""Rollouts by the policy of a TRL trainer: decoded here, or by the trainer's vLLM."""

from m2rl_lib.domains import chat
from m2rl_lib.rollout.decoding import transformers_turn
from m2rl_lib.rollout.tool_turns import Completion, Turn, has_tools, rollout
from m2rl_lib.storage import processes


def roll_out(trainer, prompts: list[str], rows: list[dict]) -> tuple[list[Completion], list[list[int]]]:
    """One completion for each prompt, and the prompts' token ids; counts the trainer's tokens."""
    tokenizer = trainer.processing_class
    prompt_ids = tokenizer(prompts)["input_ids"]
    if trainer.use_vllm:
        completions = _ask(trainer, prompt_ids, rows)
    else:
        policy, longest = trainer.accelerator.unwrap_model(trainer.model), trainer.max_completion_length
        turn = transformers_turn(policy, tokenizer, trainer.temperature, longest, again=has_tools(rows))
        completions = rollout(turn, tokenizer, prompt_ids, rows, longest)
    trainer.texts = [c.text for c in completions]  # kept for study, should the step go wrong
    trainer.generated_tokens += sum(sum(c.own) for c in completions)
    trainer.trained_tokens += sum(len(ids) + len(c.ids) for ids, c in zip(prompt_ids, completions))
    return completions, prompt_ids


def ask_vllm(trainer, rows: list[dict]) -> list[str]:
    """One completion's text for each row by the trainer's vLLM, on every process the main one's."""
    tokenizer = trainer.processing_class
    prompt_ids = [tokenizer(chat.row_prompt(tokenizer, row))["input_ids"] for row in rows]
    completions = _ask(trainer, prompt_ids, rows)
    return processes.from_main(lambda: [completion.text for completion in completions])


def _ask(trainer, prompt_ids: list[list[int]], rows: list[dict]) -> list[Completion]:
    server = trainer.vllm_mode == "server"
    turn = in_step(trainer.vllm_turn) if server else trainer.vllm_turn
    return rollout(turn, trainer.processing_class, prompt_ids, rows, trainer.max_completion_length, together=server)


def in_step(turn: Turn) -> Turn:
    """`turn`, asked by every process for equally many completions: TRL cuts a server's answer in equal shares."""

    def padded(prompts: list[list[int]]) -> tuple[list[list[int]], list[list[float]] | None]:
        filling = [(prompts or [[0]])[0]] * (max(processes.gather(len(prompts))) - len(prompts))
        written, logprobs = turn(prompts + filling)
        return written[: len(prompts)], logprobs and logprobs[: len(prompts)]

    return padded
