"""The chat template writes what `chat` reads; the corpus is masked, balanced and seeded."""

import json
import random
import re
from collections import Counter

import corpora
import pytest
from transformers import AutoTokenizer

from m2rl_lib import domains, sandbox
from m2rl_lib.data import judge_prompts, problem_sets, sft_corpus
from m2rl_lib.domains import chat, problems
from m2rl_lib.training import micro_model


def test_template_writes_tool_turns_as_chat_does(tokenizer):
    row = problem_sets.train_problems("agent", 1, 0, sft_corpus.DEMONSTRATED)[0]
    completion = domains.DOMAINS["agent"].demonstrate(row, random.Random(0))
    messages = list(row["responses_create_params"]["input"])
    for text, own in chat.turns(completion):
        if own:
            content = text.removesuffix(chat.END)
            calls = [{"function": json.loads(call)} for call in chat.tool_calls(content)]
            content = content.split("<tool_call>")[0].rstrip("\n")
            messages.append({"role": "assistant", "content": content, "tool_calls": calls})
        else:
            answer = text.split("<tool_response>\n")[1].split("\n</tool_response>")[0]
            messages.append({"role": "tool", "content": answer})
    written = tokenizer.apply_chat_template(messages, tools=row["responses_create_params"]["tools"], tokenize=False)
    assert written == chat.row_prompt(tokenizer, row) + completion + "\n"

    names = [tool["name"] for tool in row["responses_create_params"]["tools"]]
    prompt = chat.row_prompt(tokenizer, row)
    assert all(f"{name}(" in prompt for name in names) and prompt.endswith("<|im_start|>assistant\n")


def test_digits_are_tokens_of_their_own_also_after_saving(tmp_path, tokenizer, corpus):
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = corpus[0]["completion"] + " 12345 + 678"
    ids = again(text)["input_ids"]
    assert ids == tokenizer(text)["input_ids"] and again.decode(ids) == text
    assert again.chat_template == micro_model.CHAT_TEMPLATE
    tokens = [again.decode([i]).strip() for i in ids]
    assert [token for token in tokens if any(map(str.isdigit, token))][-8:] == list("12345678")


def test_loss_is_on_the_models_own_tokens(corpus, tokenizer):
    for example in corpus:
        tokens = sft_corpus.tokenise(tokenizer, example)
        own = tokenizer.decode([label for label in tokens["labels"] if label != -100])
        assert own == "".join(text for text, own in chat.turns(example["completion"]) if own)
        assert "<tool_response>" not in own
        masked = [i == label for i, label in zip(tokens["input_ids"], tokens["labels"]) if label != -100]
        assert all(masked) and masked


def test_corpus_is_as_asked(corpus):
    kinds = Counter((example["kind"], example["row"]["domain"]) for example in corpus)
    for name in domains.DOMAINS:
        assert kinds["demonstration", name] == 20
        assert kinds["judge", name] == 16  # 8 of each mode
    assert kinds["demonstration", "general"] == 10
    assert all(problems.split_of(problems.prompt_of(example["row"])) == "train" for example in corpus)


def test_corpus_is_drawn_from_the_seed():
    same, again, other = [corpora.corpus(["math", "agent"], seed=seed) for seed in (0, 0, 1)]
    assert same == again and same != other


def judge_turns(example):
    """(thought, verdict) of each of the judge's turns."""
    own = [text for text, own in chat.turns(example["completion"]) if own]
    return [text.removesuffix("<|im_end|>").removeprefix("<think>").split("</think>\n") for text in own]


def judge_rows(name, thinking):
    return [e for e in corpora.corpus([name], sft_judge=40, data_thinking=thinking) if e["kind"] == "judge"]


@pytest.mark.parametrize("name", domains.DOMAINS)
def test_judge_rows_are_balanced_right_where_all_pieces_agree_and_outcome_hides_the_reasoning(name):
    corpus = judge_rows(name, {})
    for mode in judge_prompts.JUDGE_MODES:
        mine = [e for e in corpus if f"\n{mode}:\n" in e["prompt"][0]["content"]]
        assert len(mine) == 40
        for turn in range(len(judge_turns(mine[0]))):  # every turn is balanced, whatever the turns before it said
            right = sum(judge_turns(e)[turn][1] == "right" for e in mine)
            # a wrong step may still end right (science: one in four), never the other way round
            assert 20 <= right <= 24, (mode, turn, right)
        if mode == "outcome":
            shown = [text for e in mine for text, own in chat.turns(e["completion"]) if not own]
            assert not any("<think>" in text for text in shown + [e["prompt"][0]["content"] for e in mine])
    for example in corpus:
        assert "<|im_" not in example["prompt"][0]["content"]
        for number, (thought, verdict) in enumerate(judge_turns(example)):
            lines = [line for line in thought.split("\n") if line.startswith(" ")]
            pieces = [line.split() for line in lines]
            assert all((own == shown) == (mark == "same") for own, shown, mark in pieces)
            assert all(mark == "same" for *_, mark in pieces) == (verdict == "right"), example["completion"]
            assert not any(mark == "other" for *_, mark in pieces[:-1])  # it stops at the first difference
            read, *rest = thought.split("\n")
            assert all(shown in [*read.split(), "none"] for _, shown, _ in pieces)
            assert (len(lines) < len(rest)) == (number == 0)  # it works the problem out once


def operands_in(text):
    return re.findall(r"\d+ [+-] (\d+) = ", text)


@pytest.mark.parametrize("name", ["math", "coding", "science", "agent"])
def test_judges_read_words_as_their_row_does_and_a_shown_reading_may_be_the_wrong_one(name):
    """Else the verdict would be noise, or the reasoning that a judge is shown would always read rightly."""
    misread = wrong = 0
    for example in judge_rows(name, {}):
        (thought, verdict), amounts = judge_turns(example)[0], [str(amount) for _, _, amount, _, _ in example["row"]["chain"]]
        assert operands_in(thought) == amounts
        shown = operands_in(example["prompt"][0]["content"].split("\nprocess:\n")[-1])
        if shown:
            assert verdict == "wrong" or shown == amounts
            wrong, misread = wrong + (verdict == "wrong"), misread + (shown != amounts)
    assert 0.2 < misread / wrong < 0.8


def test_a_share_of_demonstrations_and_of_what_judges_are_shown_answers_at_once_and_no_judge_does():
    given = {"sft_demonstrations": 200, "sft_judge": 40, "data_thinking": {"math": 0.25}}
    made = corpora.corpus(["math", "science"], **given)
    for name, share in (("math", 0.25), ("science", 1)):
        taught = [e["completion"] for e in made if (e["kind"], e["row"]["domain"]) == ("demonstration", name)]
        assert abs(sum("<think></think>" not in text for text in taught) / 200 - share) < 0.1
    corpus = [e for e in made if (e["kind"], e["row"]["domain"]) == ("judge", "math")]
    thoughts = [[thought for thought, _ in judge_turns(e)] for e in corpus]
    assert all(map(all, thoughts))
    shown = [e["prompt"][0]["content"] for e in corpus if "\nprocess:\n" in e["prompt"][0]["content"]]
    assert 0.1 < sum("<think></think>" not in text for text in shown) / len(shown) < 0.4
    verdicts = [verdict for e in corpus for _, verdict in judge_turns(e)]
    assert abs(verdicts.count("right") / len(verdicts) - 0.5) < 0.05


def test_batches_go_through_all_examples_and_pad_little():
    rng = random.Random(0)
    lengths = [rng.randrange(20, 150) for _ in range(300)]
    order = sft_corpus.batch_order(lengths, 32, 75, 0)
    assert Counter(order) == dict.fromkeys(range(300), 8)  # eight epochs
    parts, batches = ([[lengths[i] for i in order[at : at + size]] for at in range(0, 2400, size)] for size in (8, 32))
    assert sum(8 * max(part) - sum(part) for part in parts) / sum(map(sum, parts)) < 0.1
    assert sum(max(batch) - min(batch) for batch in batches) / 75 > 60  # a batch has short and long ones
    assert sum(max(a) < min(b) for a, b in zip(parts, parts[1:])) < 200  # not sorted from short to long


def test_a_trajectory_that_could_not_be_graded_is_made_anew_and_never_called_wrong(monkeypatch):
    rows = problem_sets.train_problems("math", 6, 0, sft_corpus.DEMONSTRATED)
    verify, asked = domains.ALL["math"].verify, []

    def failing(texts, of):
        asked.append(len(texts))
        return [None if len(asked) < 3 else reward for reward in verify(texts, of)]

    monkeypatch.setattr(domains.ALL["math"], "verify", failing)
    _, right = judge_prompts.planted(rows, [None, "answer"] * 3, random.Random(0))
    assert asked[:3] == [6, 6, 6] and right == [True, False] * 3
    monkeypatch.setattr(domains.ALL["math"], "verify", lambda texts, of: [None] * len(texts))
    with pytest.raises(sandbox.SandboxError, match="6 trajectories of math could not be graded in a hundred tries"):
        judge_prompts.planted(rows, [None] * 6, random.Random(0))


def test_unknown_judge_mode():
    with pytest.raises(ValueError, match="outcome, process"):
        judge_prompts.judge_prompt({}, "", "vibes")


def test_rl_prompts_are_in_equal_parts_and_not_the_demonstrations():
    rows = problem_sets.prompts(["math", "coding", "agent"], 100, 0, sft_corpus.DEMONSTRATED)
    assert sorted(Counter(row["domain"] for row in rows).values()) == [33, 33, 34]
    assert rows == problem_sets.prompts(["math", "coding", "agent"], 100, 0, sft_corpus.DEMONSTRATED)
    assert [r["domain"] for r in rows] != sorted(r["domain"] for r in rows)
    taught = {problems.prompt_of(row) for row in problem_sets.train_problems("math", 100, 0, sft_corpus.DEMONSTRATED)}
    assert len({problems.prompt_of(row) for row in rows if row["domain"] == "math"} & taught) < 5
