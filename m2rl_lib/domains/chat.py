"""How a conversation is written: ChatML with Qwen's tool calls; a completion has the tools' answers between the model's turns."""

import re

START, END = "<|im_start|>", "<|im_end|>"
THINKING = re.compile(r"<think>.*?</think>", re.DOTALL)


def prompt(tokenizer, messages: list[dict], tools: list[dict]) -> str:
    """The prompt as text, up to where the model begins to write."""
    return tokenizer.apply_chat_template(messages, tools=tools or None, add_generation_prompt=True, tokenize=False)


def row_prompt(tokenizer, row: dict) -> str:
    """The prompt of a problem, in the fields of the public RL blend, as text."""
    return prompt(tokenizer, row["responses_create_params"]["input"], row["responses_create_params"]["tools"])


def tool_calls(turn: str) -> list[str]:
    """The JSON texts of the calls in one turn of the model; a call in its thinking is a draft and none of them."""
    calls, at = [], 0
    close = turn.find("</think>")  # thinking begins at `<think>`, or with the turn where the prompt has opened it
    if close >= 0 and turn.find("<think>", 0, close) < 0:
        at = close + len("</think>")
    while (start := turn.find("<tool_call>", at)) >= 0:
        think = turn.find("<think>", at, start)
        opened, closing = (think, "</think>") if think >= 0 else (start + len("<tool_call>"), "</tool_call>")
        close = turn.find(closing, opened)
        if close < 0:
            break
        if think < 0:
            calls.append(turn[opened:close].strip())
        at = close + len(closing)
    return calls


def user_turn(text: str) -> str:
    """What stands between two turns of the model: a user turn."""
    return f"\n<|im_start|>user\n{text}{END}\n<|im_start|>assistant\n"


def tool_turn(answers: list[str]) -> str:
    """The tools' answers, in one user turn."""
    return user_turn("\n".join(f"<tool_response>\n{answer}\n</tool_response>" for answer in answers))


def turns(completion: str) -> list[tuple[str, bool]]:
    """A completion cut into (text, whether the model wrote it); what it did not write are tool turns."""
    parts, at, closing = [], 0, "<|im_start|>assistant\n"
    while (start := completion.find("<|im_start|>user", at)) >= 0:  # a regular expression would take quadratic time
        close = completion.find(closing, start)
        if close < 0:
            break
        start -= completion[at:start].endswith("\n")
        parts += [(completion[at:start], True), (completion[start : close + len(closing)], False)]
        at = close + len(closing)
    return parts + ([(completion[at:], True)] if at < len(completion) else [])


def answer_part(completion: str) -> str | None:
    """The text after the last `</think>`, without the end-of-turn token; None without one, which scores 0 as published."""
    if not isinstance(completion, str) or "</think>" not in completion:
        return None
    return completion.rsplit("</think>", 1)[1].replace(END, "").strip()


def without_thinking(completion: str) -> str:
    """The completion with every `<think>…</think>` removed, and a last one that does not end: what an outcome judge may see."""
    return THINKING.sub("", completion).split("<think>")[0]


def thought(completion: str) -> bool | None:
    """Whether a completion works something out, in text between `<think>` and `</think>`; None where it has neither mark."""
    close = completion.find("</think>")  # thinking begins with the completion where the prompt has opened it
    opened = "<think>" if close >= 0 and "<think>" not in completion[:close] else ""
    parts = [part.split("</think>")[0] for part in (opened + completion).split("<think>")[1:]]
    return any(part.replace(END, "").strip() for part in parts) if parts else None


def plain(completion: str) -> str:
    """A completion without the tokens that separate turns, to be quoted inside another prompt."""
    return re.sub(r"<\|im_end\|>\n?|<\|im_start\|>(user|assistant)\n?", "", completion).strip()
