"""The public blends from small files of the published form, each odd row of which is dropped for its reason."""

import os
import signal
import subprocess
import sys
import tracemalloc
from types import SimpleNamespace

import pandas as pd
import published_form as form
import pytest
import yaml
from transformers import AutoTokenizer

from m2rl_lib import domains
from m2rl_lib.analysis.rq4_methods import straight_paths
from m2rl_lib.cli import data_report
from m2rl_lib.config import locations
from m2rl_lib.config.study import Parameters
from m2rl_lib.data import problem_sets, prompt_limit, rl_blend, row_files, sft_blend
from m2rl_lib.data.sft_corpus import DEMONSTRATED
from m2rl_lib.domains import chat, mathematics, science
from m2rl_lib.evaluation import judging
from m2rl_lib.storage import hub, result_tables
from m2rl_lib.training import base_models, sft


@pytest.fixture
def mirror(smoke, tmp_path):
    """A folder that mirrors the Hub, with the RL blend and the two data sets that it points into."""
    folder = tmp_path / "mirror"
    form.write_rl(folder, [row for row, _ in form.RL] + ["{not json"], form.WRAPPED, form.SKYWORK)
    return folder


def kept(folder) -> list[dict]:
    splits = ("train", "selection", "test")
    return [row for name in domains.DOMAINS for split in splits for row in row_files.Rows(folder, f"{name}-{split}")]


def test_every_row_is_kept_or_dropped_for_its_reason(mirror):
    expected = [reason for _, reason in form.RL] + ["not a JSON object"]
    folder = rl_blend.prepare_rows([str(mirror)])
    table = pd.read_csv(folder / "drops.csv", keep_default_na=False)
    counted = {reason: int(n) for reason, n in table.groupby("reason")["rows"].sum().items()}
    assert counted == {reason or "kept": expected.count(reason) for reason in expected}
    assert table["rows"].sum() == len(form.RL) + 1
    assert len(kept(folder)) == expected.count("")


def by_prompt(some: list[dict], text: str) -> dict:
    return next(row for row in some if text in row["responses_create_params"]["input"][0]["content"])


def test_rows_are_in_our_form_and_graded_by_our_verifiers(mirror):
    some = kept(rl_blend.prepare_rows([str(mirror)]))
    four, answer = by_prompt(some, "2 + 2"), by_prompt(some, "6 times 7")
    text = "Put your answer in \\boxed{}.\n\nWhat is 2 + 2?"
    assert four["responses_create_params"] == {"input": [{"role": "user", "content": text}], "tools": []}
    assert answer["responses_create_params"]["input"][0]["content"] == "What is 6 times 7?\n\nThink well." + mathematics.BOX
    assert by_prompt(some, "Half of one")["expected_answer"] == "\\frac{1}{2}"  # the first of a JSON list
    rare, form = by_prompt(some, "rare"), by_prompt(some, "form")
    assert rare["options"] == [{"A": "ant"}, {"B": "bee"}, {"C": "cow"}, {"I": "ibis"}]
    assert by_prompt(some, "lamp")["kwargs"] == [{"keywords": ["lamp"]}] and by_prompt(some, "commas")["kwargs"] == [{}]
    program = by_prompt(some, "Print n.")
    right = [
        (four, "\\boxed{4}", "\\boxed{5}"),
        (by_prompt(some, "Half"), "\\boxed{0.5}", "\\boxed{2}"),
        (rare, "Answer: I", "Answer: A"),
        (form, "Option Selected: C", "Answer: C"),  # the row's own form is what its prompt asks for
        (by_prompt(some, "lamp"), "A lamp.", "Dark."),
    ]
    for row, good, bad in right:
        assert domains.verify([f"<think>…</think>{text}<|im_end|>" for text in (good, bad)], [row] * 2) == [1.0, 0.0], row
    assert program["verifier_metadata"]["unit_tests"] == {"inputs": ["1\n"], "outputs": ["1\n"]} and program["pass_rate"] == 0.5
    assert len({row["problem_id"] for row in some}) == len(some)
    assert all(row["benchmark"] == f"{row['domain']}_blend" for row in some)


def test_an_output_regex_is_searched_at_the_end_only():
    row = {"expected_answer": "B", "options": [{"A": "1"}, {"B": "2"}], "template_metadata": {"output_regex": "pick ([A-Z])"}}
    far = "<think></think>pick B" + "." * science.LONGEST_ANSWER
    assert science.verify(["<think></think>pick A, no, pick B", far, "pick B"], [row] * 3) == [1.0, 0.0, 0.0]


def test_an_edited_file_is_other_data_even_at_its_old_size(mirror):
    places = [(hub.find_dataset([str(mirror)], rl_blend.BLEND), "*")]
    before, file = rl_blend.folder_of("rl", places), next(path for path in mirror.rglob("*.jsonl"))
    assert rl_blend.folder_of("rl", places) == before
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert rl_blend.folder_of("rl", places) != before


def test_the_same_keys_choose_micro_or_paper_data(mirror):
    sources, names = [str(mirror)], ["math", "science"]
    train = [row for row in kept(rl_blend.prepare_rows(sources)) if row["split"] == "train" and row["domain"] in names]
    sizes = problem_sets.pool_sizes(names, sources)
    assert sizes == [sum(row["domain"] == name for row in train) for name in names]
    many = 7 * len(train)  # 7 times through all
    drawn = [problem_sets.prompts(names, many, seed, DEMONSTRATED, sources) for seed in (0, 0, 1)]
    assert sorted(row["problem_id"] for row in drawn[0]) == sorted(7 * [row["problem_id"] for row in train])
    assert drawn[0] == drawn[1] != drawn[2]
    assert problem_sets.benchmarks("math", sources) == ["math_blend"] and problem_sets.benchmarks("general", sources) == []
    with pytest.raises(ValueError, match="0 usable train problems of agent"):
        problem_sets.train_problems("agent", 1, 0, DEMONSTRATED, sources=sources)
    with pytest.raises(ValueError, match=r"allowed is \[micro\] alone"):
        problem_sets.prompts(["math"], 1, 0, DEMONSTRATED, ["micro", str(mirror)])


def test_held_out_shares():
    made = [rl_blend.make_row(form.mcqa(f"Question {number}?", form.FOUR, "A"), {}) for number in range(4000)]
    splits = pd.Series([row["split"] for row in made]).value_counts(normalize=True)
    assert abs(splits["selection"] - 0.02) < 0.007 and abs(splits["test"] - 0.04) < 0.01  # three standard errors


def write_texts(folder, texts: list[str]) -> None:
    """A mirror with one question of science for each text."""
    form.write_rl(folder, [form.mcqa(text, form.FOUR, "A") for text in texts], form.WRAPPED, form.SKYWORK)


KILLED = """
import os, signal, sys
from pathlib import Path
from m2rl_lib.config import locations
from m2rl_lib.data import rl_blend, row_files
locations.RUNS = Path(sys.argv[2])
row_files.STRIDE = 100
commit = row_files.Store.commit
def committed(store, position):
    commit(store, position)
    if position[1] and store.counts["stem_mcqa|"] >= 300:
        store.add("science-train", {"torn": True})   # written, not committed
        for file in store._files.values():
            file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
row_files.Store.commit = committed
rl_blend.prepare_rows([sys.argv[1]])
"""


def test_a_killed_preparation_goes_on_where_it_was(tmp_path, monkeypatch):
    mirror = tmp_path / "mirror"
    write_texts(mirror, [f"Question {i % 450}?" for i in range(500)])
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    monkeypatch.setattr(locations, "RUNS", whole)
    expected = rl_blend.prepare_rows([str(mirror)])
    done = subprocess.run([sys.executable, "-c", KILLED, str(mirror), str(torn)], cwd=locations.ROOT, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    monkeypatch.setattr(locations, "RUNS", torn)
    read = []
    make_row = rl_blend.make_row
    monkeypatch.setattr(rl_blend, "make_row", lambda raw, questions: read.append(raw) or make_row(raw, questions))
    found = rl_blend.prepare_rows([str(mirror)])
    assert len(read) == 200  # of 500: the first 300 were not read again
    for file in sorted(expected.glob("*.jsonl")) + [expected / "drops.csv"]:
        assert (found / file.name).read_bytes() == file.read_bytes(), file.name
    drops = pd.read_csv(found / "drops.csv").set_index("reason")["rows"]
    assert drops.to_dict() == {"kept": 450, "duplicate prompt": 50}  # duplicates of rows from before the kill are found
    read.clear()
    assert rl_blend.prepare_rows([str(mirror)]) == found and not read  # nor is anything done twice


def test_memory_does_not_grow_with_the_file(smoke, tmp_path):
    peaks = []
    for count in (400, 1600):
        write_texts(tmp_path / str(count), [f"{i} " + "x" * 20_000 for i in range(count)])
        tracemalloc.start()
        rl_blend.prepare_rows([str(tmp_path / str(count))])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2e6 < 20e6  # the larger file alone is 32 MB


def test_what_is_missing_is_reported_in_one_line(mirror):
    (mirror / rl_blend.BLEND / "train.jsonl").unlink()
    unlisted = f"{rl_blend.DAPO}@{'a' * 40}"
    asked = {unlisted: f"no {rl_blend.BLEND}", mirror: "no file that matches", mirror / "absent": "does not exist"}
    for source, why in asked.items():
        with pytest.raises(hub.SourceError, match=why) as error:
            rl_blend.prepare_rows([str(source)])
        assert "\n" not in str(error.value)


def prompt_tokens(tokenizer, row: dict) -> int:
    return len(tokenizer(chat.row_prompt(tokenizer, row))["input_ids"])


def test_rl_takes_no_prompt_longer_than_the_limit(mirror, tokenizer):
    sources, names = [str(mirror)], ["math", "science", "instruction_following"]
    folder = rl_blend.prepare_rows(sources)
    train = [row for name in names for row in row_files.Rows(folder, f"{name}-train")]
    lengths = sorted(prompt_tokens(tokenizer, row) for row in train)
    cut = lengths[len(lengths) // 2]  # one of them is just as long as it may be
    limit = prompt_limit.PromptLimit(tokenizer, cut)
    short = {name: sum(row["domain"] == name and prompt_tokens(tokenizer, row) <= cut for row in train) for name in names}
    assert 0 < sum(short.values()) < len(train) and sum(length == cut for length in lengths)
    there = [name for name in names if short[name]]
    assert problem_sets.pool_sizes(there, sources, limit) == [short[name] for name in there]
    drawn = problem_sets.prompts(there, 3 * sum(short.values()), 0, DEMONSTRATED, sources, limit)
    ids = {row["problem_id"] for row in train if prompt_tokens(tokenizer, row) <= cut}
    assert {row["problem_id"] for row in drawn} == ids and max(prompt_tokens(tokenizer, row) for row in drawn) == cut
    with pytest.raises(ValueError, match="the blend has 0 usable train problems of math"):
        problem_sets.train_problems("math", 1, 0, DEMONSTRATED, sources=sources, limit=prompt_limit.PromptLimit(tokenizer, 8))


def test_prompts_are_counted_once_per_tokenizer(mirror, tokenizer, monkeypatch):
    folder = rl_blend.prepare_rows([str(mirror)])
    first = prompt_limit.count_prompts(folder, "math", prompt_limit.PromptLimit(tokenizer, 20))
    monkeypatch.setattr(prompt_limit.PromptLimit, "counts", lambda *_: pytest.fail("counted again"))
    again = prompt_limit.count_prompts(folder, "math", prompt_limit.PromptLimit(tokenizer, 30))
    assert first[0].tolist() == again[0].tolist() and first[1].tolist() == again[1].tolist()
    other = SimpleNamespace(get_vocab=lambda: {"a": 0}, chat_template="")
    with pytest.raises(pytest.fail.Exception, match="counted again"):
        prompt_limit.count_prompts(folder, "math", prompt_limit.PromptLimit(other, 20))


def test_agent_prompts_are_of_any_length_and_micro_ones_are_not_dropped(tokenizer):
    limit = prompt_limit.PromptLimit(tokenizer, 8)
    free, limited = (problem_sets.train_problems("agent", 2, 0, DEMONSTRATED, limit=one) for one in (None, limit))
    assert free == limited
    with pytest.raises(ValueError, match=r"a prompt of math has \d+ tokens, rlvr_prompt_tokens allows 8: raise it"):
        problem_sets.train_problems("math", 2, 0, DEMONSTRATED, limit=limit)


def test_long_prompts_are_in_the_drop_report(mirror, smoke, tmp_path, model, tokenizer):
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    given = {"data_sources": [str(mirror)], "sft_base_model": str(tmp_path / "base"), "domains": ["math", "science"]}
    folder = rl_blend.prepare_rows([str(mirror)])
    limit = prompt_limit.PromptLimit(base_models.load_tokenizer(str(tmp_path / "base")), 0)
    base_models.save_base(tmp_path / "saved", str(tmp_path / "base"))
    saved = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert prompt_limit.PromptLimit(saved, 0).digest == limit.digest  # what RL counts by is what the report has counted by
    counts, labels = (list(found) for found in prompt_limit.count_prompts(folder, "math", limit))
    longest = max(counts)
    before = pd.read_csv(folder / "drops.csv", keep_default_na=False)
    kept_before = before.query("reason == 'kept' and domain == 'math'")["rows"].sum()
    for tokens, expected in ((longest, 0), (longest - 1, counts.count(longest))):
        report = data_report.source_table(smoke.model_copy(update=given | {"rlvr_prompt_tokens": tokens}))
        long = report[report["reason"] == f"a training prompt of more than {tokens} tokens"].query("domain == 'math'")
        assert long["rows"].sum() == expected and report["rows"].sum() == before["rows"].sum()
        assert report.query("reason == 'kept' and domain == 'math'")["rows"].sum() == kept_before - expected
        assert report.groupby("part")["share"].sum().to_numpy() == pytest.approx(1)
    assert set(labels) <= {form.PREFIX + "dapo17k", form.PREFIX + "skywork_no_omni"}


FORM = {"output_regex": r"Option Selected:\s*([A-Z])"}


@pytest.fixture
def study(tmp_path, smoke) -> Parameters:
    """Parameters of a study on a blend with enough held-out problems of math and science."""
    some = [form.mcqa(f"Question {i}?", form.FOUR, "ABCI"[i % 4], template_metadata=FORM if i % 2 else {}) for i in range(400)]
    some += [form.placeholder("dapo17k", i, {"prefix": "Put it in \\boxed{}."}) for i in range(200)]
    dapo = [form.problem(form.DAPO.format(f"What is {i}?"), str(i)) for i in range(200)]
    form.write_rl(tmp_path / "mirror", some, dapo, form.SKYWORK)
    changes = {"domains": ["math", "science"], "data_sources": [str(tmp_path / "mirror")], "evaluate_max_tokens": 4}
    changes["data_world"] = dict.fromkeys(smoke.data_world, 0)
    return smoke.model_copy(update=changes | {"judging_problems": 1000, "evaluate_selection_problems": 3})


def write_samples(p, split: str, models: dict[str, float], rng) -> pd.DataFrame:
    """Samples of these models (name: share right) on the held-out problems, in the tables' form, two per problem."""
    table = []
    for name, share in models.items():
        for domain in p.domains:
            (benchmark,) = problem_sets.benchmarks(domain, p.data_sources)
            count = p.evaluate_problems if split == "test" else p.evaluate_selection_problems
            for row in problem_sets.benchmark_problems(benchmark, split, count, DEMONSTRATED, p.data_sources):
                for sample in range(2):
                    right, expected = rng.random() < share, row["expected_answer"]
                    wrong = "0.5" if domain == "math" else "ABCI".replace(expected, "")[0]
                    letter = "Option Selected: {}" if row.get("template_metadata") else "Answer: {}"
                    answer = "\\boxed{{{}}}" if domain == "math" else letter
                    text = f"<think>{name}</think>\n{answer.format(expected if right else wrong)}<|im_end|>"
                    assert domains.verify([text], [row]) == [float(right)]
                    sampled = [name, domain, benchmark, split, row["problem_id"], sample, float(right)]
                    table.append([*sampled, domains.read_answer(text, row) is not None, False, text])
    return pd.DataFrame(table, columns=judging.SAMPLES)


def test_models_judge_their_own_trajectories_on_a_blend(study, tokenizer, rng, monkeypatch):
    asked = []

    def judge(prompts):
        asked.extend(messages[0]["content"] for messages in prompts)
        return [judging.Judgement("<think></think>\nright<|im_end|>", 1.0, 3) for _ in prompts]

    monkeypatch.setattr(judging, "load_judge", lambda p, name: judge)
    samples = write_samples(study, "test", {"sft": 0.5, "rl-math": 0.7}, rng)
    assert samples["parsed"].all()  # an answer in the form that its row asks for
    judged = judging.run(study, {"sft": ["math", "science"], "rl-math": ["math"]}, samples)
    assert set(judged["set"]) == {judging.SHARED, judging.OWN, judging.CANDIDATES}  # nothing planted, nothing shifted
    labels = samples.set_index(["model", "problem_id", "sample"])["correct"]
    assert all(labels[row.source, row.problem_id, row.sample] == row.right for row in judged.itertuples())
    shared = judged[judged["set"] == judging.SHARED]
    assert shared["right"].mean() == 0.5 and set(shared["domain"]) == {"math", "science"}
    candidates = judged[(judged["set"] == judging.CANDIDATES) & (judged["domain"] == "science")]
    assert candidates["answer"].str.fullmatch("[ABCI]").all() and candidates["problem_id"].nunique() == study.evaluate_problems
    assert all("Is it right or wrong?" in text and text.endswith("one word, right or wrong.") for text in asked)
    assert any("<think>sft</think>" in text for text in asked) and any("this answer" in text for text in asked)


def test_paths_on_a_blend_are_measured_on_right_completions(study, rng, monkeypatch):
    models = {"sft": 0.5, "rl-math": 0.5, "rl-science": 0.0, "rl-multi": 0.9, "rl-multi@step=2": 1.0}
    samples = write_samples(study, "selection", models, rng)
    samples.loc[samples["domain"] == "science", "correct"] = 0.0
    monkeypatch.setattr(judging, "read_samples", lambda p, groups, split: samples)
    found = straight_paths.solutions(study)
    assert list(found) == ["math"]  # of science no problem was solved
    ends = samples[samples["model"].isin(["sft", "rl-math", "rl-science", "rl-multi"])]
    right = ends[ends["correct"] == 1]
    assert len(found["math"]) == min(study.rlvr_selection_problems, right["problem_id"].nunique()) > 0
    for one in found["math"]:
        assert one["completion"] in set(right.loc[right["problem_id"] == one["row"]["problem_id"], "text"])
    writers = set()
    for seed in range(40):
        study.seed = seed
        writers |= {one["completion"].split("</think>")[0] for one in straight_paths.solutions(study)["math"]}
    assert writers == {f"<think>{name}" for name in set(right["model"])}


def test_a_blend_has_the_chance_of_its_options_and_no_world(study):
    assert problem_sets.chance("science_blend", study.data_sources) == 1 / 4
    assert problem_sets.chance("math_blend", study.data_sources) == 0
    assert not problem_sets.world_of(study).words("science")
    study.data_world = {"shared": 1, "private": 0, "conflicting": 0}
    with pytest.raises(ValueError, match="only .micro. has words of two readings"):
        problem_sets.world_of(study)


@pytest.fixture
def corpus_mirror(smoke, tmp_path):
    chats = [
        ({"role": "system", "content": "Be kind."}, form.USER, form.SAID, form.user("And?"), form.SAID),
        (form.USER,),
        (form.user(" "), form.SAID),
        (form.USER, {"role": "assistant", "content": None}),
        (form.USER, form.SAID, form.SAID),
    ]
    science_rows = [form.conversation(form.user(f"Q{i}"), form.SAID) for i in range(5)]
    form.write_sft(tmp_path / "mirror", science_rows, [*(form.conversation(*turns) for turns in chats), "{torn"])
    return tmp_path / "mirror"


def test_sft_rows_become_prompts_and_completions(corpus_mirror):
    folder = sft_blend.prepare_examples([str(corpus_mirror)])
    drops = pd.read_csv(folder / "drops.csv").set_index(["part", "reason"])["rows"].to_dict()
    dropped = ["not a JSON object", "no prompt", "no turn of the model after a prompt"]
    dropped += ["the model says nothing", "turns out of order"]
    kept = {(part, "kept"): 5 if part == "Science" else 1 for part in ("Chat", "Code", "Math", "Math with Tools", "Science")}
    assert drops == kept | {("Chat", why): 1 for why in dropped} | {("Code", "the problem is in another data set (taco)"): 1}
    chatted = row_files.Rows(folder, "Chat")[0]
    assert [message["role"] for message in chatted["prompt"]] == ["system", "user"]
    turn = "<think>2 and 2</think>\n4<|im_end|>"
    assert chatted["completion"] == turn + "\n<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n" + turn
    assert [own for _, own in chat.turns(chatted["completion"])] == [True, False, True]
    tooled = row_files.Rows(folder, "Math with Tools")[0]
    call = '<tool_call>\n{"name": "search", "arguments": {"q": "two"}}\n</tool_call><|im_end|>'
    assert tooled["completion"] == call + chat.tool_turn(['{"found": 4}']) + turn  # the user's last turn teaches nothing
    assert tooled["row"]["responses_create_params"]["tools"] == [form.SEARCH]


def test_the_published_shares(corpus_mirror):
    assert sft_blend.share_out({"Science": 1, "Chat": 1, "Math": 0}, 1000) == {"Science": 344, "Chat": 656}
    whole = sft_blend.share_out(dict.fromkeys(sft_blend.parts()["part"], 1), int(sft_blend.parts()["samples"].sum()))
    assert whole == dict(zip(sft_blend.parts()["part"], sft_blend.parts()["samples"]))
    corpus = sft_blend.draw_corpus([str(corpus_mirror)], 2000, 0)
    parts = pd.Series([example["row"]["domain"] for example in corpus]).value_counts()
    assert parts.to_dict() == sft_blend.share_out(dict.fromkeys(["Science", "Chat", "Math", "Math with Tools", "Code"], 1), 2000)
    used = pd.Series([e["prompt"][0]["content"] for e in corpus if e["row"]["domain"] == "Science"]).value_counts()
    assert used.max() - used.min() <= 1  # every row as often as the others
    again, other = [sft_blend.draw_corpus([str(corpus_mirror)], 2000, seed) for seed in (0, 1)]
    assert list(corpus)[:50] == list(again)[:50] != list(other)[:50]


def test_sft_trains_on_the_published_form(corpus_mirror, smoke, model, publish_model):
    smoke = smoke.model_copy(update={"data_sources": [str(corpus_mirror)], "sft_steps": 2, "sft_batch": 4})
    base = publish_model("base", model)
    examples = sft.corpus(smoke)
    assert len(examples) == 8
    folder = sft.train(smoke, base, examples)
    spent = result_tables.read_table(smoke, "costs", ["sft"]).iloc[0]
    assert spent["prompts"] == 8 and spent["trained_tokens"] > 0 and (folder / "model.safetensors").is_file()


def test_the_report_of_a_parameter_file(mirror, tmp_path, smoke_values):
    path = tmp_path / "paper.yaml"
    path.write_text(yaml.safe_dump(smoke_values | {"study": "paper", "data_sources": [str(mirror)]}))
    report = data_report.main([str(path)])
    assert "duplicate prompt" in report and "stem_mcqa" in report
    micro = Parameters.model_construct(domains=["math"], data_sources=["micro"])
    assert (data_report.source_table(micro)["reason"] == "kept: drawn as needed").all()
