"""Judges of known skill come out as constructed; sets are balanced; what cannot be judged is said and counted."""

import random
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.special import expit, logit
from test_figures import check_readable

from m2rl_lib import domains
from m2rl_lib.analysis.rq5_judging import best_of_n, judge_accuracy, outcome_or_process
from m2rl_lib.data import judge_prompts, problem_sets, sft_corpus
from m2rl_lib.domains import chat
from m2rl_lib.evaluation import judging
from m2rl_lib.figures import rq5_judging
from m2rl_lib.paper import estimates
from m2rl_lib.rollout import decoding
from m2rl_lib.training import micro_model

END = "<|im_end|>"


def verdict_rows(right, scores, *, judge="sft", name="shared", domain="math", mode="process", problems=None, **more):
    """Verdicts in the form of `judges.run`, one problem each unless `problems` says otherwise."""
    frame = pd.DataFrame({"right": np.asarray(right, bool), "score": np.asarray(scores, float)})
    frame["problem_id"] = [f"{domain}-{i}" for i in (range(len(frame)) if problems is None else problems)]
    frame["verdict"] = np.where(frame["score"] > 0, "right", "wrong")
    known = {"seed": 0, "judge": judge, "set": name, "source": "sft", "domain": domain, "benchmark": f"{domain} bench"}
    known |= {"sample": 0, "place": None, "distance": np.nan, "answer": "x", "mode": mode, "tokens": 5, "thought": True}
    return frame.assign(**known | more)[judging.JUDGED]


def cells(rows, draws=200, by=()):
    return judge_accuracy.measure_cells(rows, [*judge_accuracy.CELL, *by], draws)


def value(table, measure, **where):
    (row,) = (row for _, row in table[table["measure"] == measure].iterrows() if all(row[k] == v for k, v in where.items()))
    return row


@pytest.mark.parametrize("skill", [0.0, 1.5, 3.0])
def test_gaussian_judge_has_the_auroc_and_accuracy_of_its_skill(skill):
    generator, n = np.random.default_rng(0), 500
    right = np.arange(2 * n) % 2 == 0
    scores = generator.normal(size=2 * n) + np.where(right, skill / 2, -skill / 2)
    table = judge_accuracy.measure_table(cells(verdict_rows(right, scores), 150))
    for measure, truth in (("auroc", stats.norm.cdf(skill / np.sqrt(2))), ("accuracy", 100 * stats.norm.cdf(skill / 2))):
        found = value(table, measure)
        assert found["low"] < truth < found["high"] < found["low"] + (0.08 if measure == "auroc" else 8)
    assert value(table, "balanced")["estimate"] == pytest.approx(value(table, "accuracy")["estimate"])


def test_measures_by_hand():
    rows = verdict_rows([True, True, False, False], [2, -1, -3, 1])
    rows["verdict"] = ["right", None, "wrong", "wrong"]
    found = {name: v[0] for name, v in judge_accuracy.measure(rows, np.ones((1, 4))).items()}
    p = expit([2, -1, -3, 1])
    expected = {"accuracy": 50, "balanced": 50, "wrong seen": 50, "auroc": 0.75, "written": 75, "unreadable": 25}
    expected["brier"] = np.mean((p - [1, 1, 0, 0]) ** 2)
    expected["ece"] = (abs(p[0] - 1) + abs(p[1] - 1) + p[2] + p[3]) / 4  # four bins, one each
    assert found == pytest.approx(expected)
    weighted = {name: v[0] for name, v in judge_accuracy.measure(rows, np.array([[3.0, 1, 2, 2]])).items()}
    again = {name: v[0] for name, v in judge_accuracy.measure(rows.iloc[[0, 0, 0, 1, 2, 2, 3, 3]], np.ones((1, 8))).items()}
    assert weighted == pytest.approx(again)  # a weight is a repetition


def test_calibration_tells_a_calibrated_judge_from_an_overconfident_one():
    generator = np.random.default_rng(0)
    p = generator.uniform(0.02, 0.98, 3000)
    right = generator.uniform(size=3000) < p
    honest, boastful = (judge_accuracy.measure(verdict_rows(right, k * logit(p)), np.ones((1, 3000)))["ece"][0] for k in (1, 4))
    assert honest < 0.045 and boastful > 0.12


def test_intervals_cover_with_the_problem_as_unit():
    """Forty problems with a right and a wrong trajectory each; most of the spread lies between problems."""
    generator, covered, right = np.random.default_rng(0), 0, np.arange(80) % 2 == 0
    for _ in range(60):
        chance = generator.beta(2, 1, 40).repeat(2)  # how likely the judge is right on a problem: 2/3 on average
        scores = np.where((generator.uniform(size=80) < chance) == right, 1.0, -1.0)
        rows = verdict_rows(right, scores, problems=np.arange(80) // 2)
        found = judge_accuracy.combine(cells(rows, 300), [(1.0, ("shared", "sft", "math", "process", "accuracy"))])
        covered += found["low"] <= 100 * 2 / 3 <= found["high"]
    assert 0.88 <= covered / 60 <= 0.99 and found["problems"] == 40


def test_modes_are_compared_on_the_same_resamples():
    right, scores = np.arange(100) % 2 == 0, np.random.default_rng(0).normal(size=100)
    both = pd.concat([verdict_rows(right, scores), verdict_rows(right, scores, mode="outcome")])
    row = judge_accuracy.difference_table(cells(both, 300)).iloc[0]
    assert (row["estimate"], row["low"], row["high"], row["verdict"]) == (0, 0, 0, "undecided")


def sample_rows(correct, *, domain="math", texts=None, problems=None, k=1, truncated=False, parsed=True):
    count = len(correct)
    frame = pd.DataFrame({"correct": np.asarray(correct, float), "sample": np.arange(count) % k})
    frame["problem_id"] = [f"chain-{i}" for i in (np.arange(count) // k if problems is None else problems)]
    frame["text"] = [f"<think>{i}</think>\n\\boxed{{{i}}}{END}" for i in range(count)] if texts is None else texts
    known = {"model": "sft", "domain": domain, "benchmark": "chain", "split": "test", "parsed": parsed, "truncated": truncated}
    return frame.assign(**known)


def test_a_set_is_balanced_and_takes_problems_with_both_first():
    generator = np.random.default_rng(0)
    samples = sample_rows(generator.uniform(size=400) < np.repeat(generator.beta(0.5, 0.5, 100), 4), k=4)
    both = samples.groupby("problem_id")["correct"].nunique() == 2
    for size in (20, 61, 10_000):
        chosen = judging.balanced_set(samples, size, "shared", 0)
        right, wrong = (chosen[chosen["right"] == kind]["problem_id"] for kind in (True, False))
        assert len(right) == len(wrong) <= size // 2 and right.is_unique and wrong.is_unique
        if len(right) <= both.sum():
            assert set(right) == set(wrong) <= set(both.index[both])
    there = samples.groupby("problem_id")["correct"].agg(["max", "min"])  # the largest set: a problem for each label
    assert len(right) == min((there["max"] == 1).sum(), (there["min"] == 0).sum())
    assert judging.balanced_set(samples, 20, "shared", 0).equals(judging.balanced_set(samples, 20, "shared", 0))
    labels = samples.set_index(["problem_id", "sample"])["correct"]
    assert all(labels[row.problem_id, row.sample] == row.right for row in chosen.itertuples())


@pytest.mark.parametrize("kind", [0, 1])
def test_a_domain_all_right_or_all_wrong_has_no_set_and_says_so(kind):
    samples = pd.concat([sample_rows([kind] * 20), sample_rows([0, 1] * 10, domain="coding")])
    chosen = judging.balanced_set(samples, 10, "shared", 0)
    assert set(chosen["domain"]) == {"coding"} and len(chosen) == 10
    reasons = judging.count_samples(samples).set_index("domain")["reason"]
    assert reasons.to_dict() == {"math": f"all 20 whole trajectories are {['wrong', 'right'][kind]}", "coding": ""}
    judged = verdict_rows(chosen["right"], np.where(chosen["right"], 1, -1), domain="coding", problems=range(10))
    table = outcome_or_process.gate(cells(pd.concat([judged, judged.assign(mode="outcome")])), ["math", "coding"])
    assert table["answerable"].tolist() == [False, True] and "nothing to judge" in table.loc[0, "reason"]
    assert "Math: cannot be asked" in outcome_or_process.gate_sentences(table)[0]


def test_empty_truncated_and_ungraded_samples_are_counted_and_left_out():
    solved = [*(f"<think>1</think>\n\\boxed{{{i}}}{END}" for i in range(3)), "<think></think>\n\\boxed{3}"]
    parts = [
        sample_rows([0, 1, 0, 1], texts=solved),
        sample_rows([0, 0], texts=["", END], problems=[4, 5], parsed=False),
        sample_rows([0], texts=["<think>2 + 2"], problems=[6], truncated=True, parsed=False),
        sample_rows([0], texts=[f"<think>1</think>\nfour{END}"], problems=[7], parsed=False),
        sample_rows([np.nan], problems=[8]),
    ]
    samples = pd.concat(parts)
    counts = judging.count_samples(samples).iloc[0]
    wanted = {"samples": 9, "not graded": 1, "empty": 2, "truncated": 1, "no answer": 1, "right": 2, "wrong": 2}
    wanted |= {"at once": 1, "reason": ""}
    assert counts[list(wanted)].to_dict() == wanted
    assert set(judging.balanced_set(samples, 10, "own", 0)["problem_id"]) == {f"chain-{i}" for i in range(4)}
    candidates = judging.candidate_set(samples, 100, 0)  # best-of-N meets them all, but for what nobody could grade
    assert set(candidates["problem_id"]) == {f"chain-{i}" for i in range(8)}
    assert candidates.set_index("problem_id")["answer"].isna().sum() == 4
    unread = samples[~samples["parsed"]]
    assert judging.count_samples(unread).loc[0, "reason"] == "no whole trajectory"
    assert judging.balanced_set(unread, 10, "own", 0).empty


def test_an_outcome_judge_does_not_see_thinking_that_never_ended():
    row = problem_sets.benchmark_problems("chain", "test", 1, sft_corpus.DEMONSTRATED)[0]
    for text in ("<think>2 + 2 = 4\n4 + ", "", END, f"<think>2 + 2 = 4</think>\n\\boxed{{4}}{END}"):
        shown = judge_prompts.judge_prompt(row, text, "outcome")[0]["content"]
        assert "2 + 2" not in shown and ("boxed" in shown) == ("boxed" in text)


@pytest.fixture(scope="module")
def planted():
    rows = [row for name in domains.DOMAINS for row in first_problems(name, 3)]
    return rows, judging.planted_set(rows, 0)


def first_problems(name, count):
    return problem_sets.benchmark_problems(next(iter(domains.ALL[name].BENCHMARKS)), "test", count, sft_corpus.DEMONSTRATED)


def test_planted_errors_are_where_they_are_said_to_be(planted):
    rows, items = planted
    by_id = {row["problem_id"]: row for row in rows}
    assert domains.verify(list(items["text"]), [by_id[i] for i in items["problem_id"]]) == list(items["right"].astype(float))
    assert (items.groupby("problem_id")["right"].sum() == 1).all()
    for item in items[~items["right"]].itertuples():
        steps = by_id[item.problem_id]["steps"]
        assert item.distance == len(steps) - 1 - item.sample
        if item.domain == "instruction_following":
            assert item.place == {"plan": "intention", "write": "execution"}[steps[item.sample].split()[0]]
        else:
            assert item.place == {0: "answer", 1: "late", len(steps) - 1: "early"}.get(item.distance, "middle")
    math = items[items["domain"] == "math"]
    assert len(math) == 3 * 5 and set(math["distance"].dropna()) == {0, 1, 2, 3}
    early = math[math["place"] == "early"].iloc[0]
    a, sign, b, right, _ = by_id[early["problem_id"]]["chain"][0]
    start = f"<think>{a} {sign} {b} = "
    assert early["text"].startswith(start) and not early["text"].startswith(f"{start}{right}\n")


def scripted(items, rows, score):
    """A judge that knows the items: the prompts' texts lead back to them, `score(item, mode)` is its log-odds."""
    known = {}
    for mode, item in product(judge_prompts.JUDGE_MODES, items.itertuples()):
        known[judge_prompts.judge_prompt(rows[item.problem_id], item.text, mode)[0]["content"]] = score(item, mode)

    def judge(prompts):
        said = [known[messages[0]["content"]] for messages in prompts]
        words = [f"<think>1</think>\nright{END}" if score > 0 else f"<think></think>\nwrong{END}" for score in said]
        return [judging.Judgement(text, score, 4) for text, score in zip(words, said)]

    return judge


def test_horizon_and_places_come_out_as_constructed():
    """Errors at distance d are seen with probability 0.95 − 0.2 d in process mode, always with 0.6 in outcome mode."""
    by_id = {row["problem_id"]: row for row in first_problems("math", 120)}
    items, generator = judging.planted_set(list(by_id.values()), 0), np.random.default_rng(0)

    def score(item, mode):
        chance = 0.95 - 0.2 * item.distance if mode == "process" else 0.6
        return -1.0 if not item.right and generator.uniform() < chance else 1.0

    judged = judging.judge_items(scripted(items, by_id, score), items, by_id).assign(seed=0, judge="sft")[judging.JUDGED]
    assert judged["thought"].eq(judged["score"] > 0).all()
    far = cells(judge_accuracy.against_right(judged, "distance"), 300, ["distance"])
    table = judge_accuracy.measure_table(far)
    for distance in range(4):
        found, balanced = (value(table, name, mode="process", distance=distance) for name in ("wrong seen", "balanced"))
        assert found["estimate"] == pytest.approx(100 * (0.95 - 0.2 * distance), abs=10) and found["problems"] == 120
        assert found["high"] - found["low"] < 20 and balanced["estimate"] == pytest.approx(50 + found["estimate"] / 2)
    slopes = judge_accuracy.horizon_table(far).set_index("mode")
    assert slopes.loc["process", "low"] <= -20 <= slopes.loc["process", "high"] < 0
    assert slopes.loc["process", "verdict"] == "worse" and slopes.loc["outcome", "verdict"] != "worse"
    places = judge_accuracy.measure_table(cells(judge_accuracy.against_right(judged, "place"), 300, ["place"]))
    seen = {place: value(places, "wrong seen", mode="process", place=place)["estimate"] for place in ("answer", "early")}
    assert seen["answer"] > 85 and seen["early"] < 50


@pytest.mark.parametrize(
    ("text", "verdict"),
    [(f"<think>27\n26</think>\nwrong{END}", "wrong"), ("<think>right</think>\nRight.", "right"), ("<think>right", None)]
    + [("right", None), ("", None), ("</think>\nright or wrong", None), ("</think>\nupright", None)],
)
def test_written_verdicts(text, verdict):
    assert judging.read_verdict(text) == verdict


def test_a_models_score_is_read_where_its_verdict_stands(tokenizer, model, monkeypatch):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 3
    close, right, wrong = judging.verdict_tokens(tokenizer)
    assert tokenizer.decode(close).startswith("</think>") and right != wrong
    rows = [row for name in ("math", "agent", "science") for row in first_problems(name, 2)]
    prompts = [judge_prompts.judge_prompt(row, f"<think>1</think>\n{i}{END}", "process") for i, row in enumerate(rows)]
    thoughts = [f"<think>1</think>\nright{END}", "<think>1 + 1", "", END, "<think>7</think>", "</think>\nwrong</think>"]
    texts = [chat.prompt(tokenizer, messages, []) for messages in prompts]
    scripts = {tuple(tokenizer(text)["input_ids"]): tokenizer(new)["input_ids"] for text, new in zip(texts, thoughts)}
    monkeypatch.setattr(decoding, "transformers_turn", lambda *_: lambda asked: ([scripts[tuple(ids)] for ids in asked], None))
    judge = judging.model_judge(model, tokenizer, temperature=0, max_tokens=8, batch=4, seed=0)
    for thought, text, found in zip(thoughts, texts, judge(prompts), strict=True):
        before = thought.split("</think>")[0].split(END)[0]
        ids = tokenizer(text)["input_ids"] + tokenizer(before)["input_ids"] + close
        logits = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1).tolist()
        assert found.score == pytest.approx(logits[right] - logits[wrong], abs=1e-4)
        assert found.tokens == len(tokenizer(thought)["input_ids"])


def test_all_judges_of_a_study_see_the_same_trajectories(smoke, tokenizer, publish_model):
    smoke.domains, smoke.evaluate_max_tokens, smoke.judging_problems = ["math", "science"], 4, 2
    for seed, name in enumerate(["sft", "rl-math"]):
        publish_model(name, micro_model.build_model(tokenizer, hidden_size=32, layers=1, heads=2, context=512, seed=seed))
    generator, frames = random.Random(0), []
    for domain in smoke.domains:
        for benchmark in domains.ALL[domain].BENCHMARKS:
            rows = problem_sets.benchmark_problems(benchmark, "test", smoke.evaluate_problems, problem_sets.world_of(smoke))
            for kind, place in ((1, None), (0, "answer")):
                texts, _ = judge_prompts.planted(rows, [place] * len(rows), generator)
                frame = sample_rows([kind] * len(rows), domain=domain, texts=texts).assign(benchmark=benchmark, sample=kind)
                frames.append(frame.assign(problem_id=[row["problem_id"] for row in rows]))
    samples = pd.concat(frames, ignore_index=True)
    samples = pd.concat([samples, samples.assign(model="rl-math")], ignore_index=True)
    judged = judging.run(smoke, {"sft": ["math", "science"], "rl-math": ["math"]}, samples)
    assert set(judged[judged["judge"] == "rl-math"]["domain"]) == {"math"}
    assert set(judged[judged["judge"] == "sft"]["set"]) == {"shared", "shifted", "candidates", "planted"}
    assert set(judged[judged["judge"] == "rl-math"]["set"]) == {"shared", "own", "candidates", "planted"}
    first = judged["benchmark"].isin(judging.first_benchmarks(smoke.domains))
    assert (first == (judged["set"] != "shifted")).all()
    for name in ("shared", "planted"):
        cells = judged[(judged["set"] == name) & (judged["domain"] == "math")].groupby(["judge", "mode"])
        seen = [sorted(zip(cell["problem_id"], cell["sample"], cell["right"])) for _, cell in cells]
        assert len(seen) == 4 and all(one == seen[0] for one in seen)
    shared = judged[judged["set"] == "shared"]
    assert (shared["source"] == "sft").all() and shared["right"].mean() == 0.5
    assert len(shared) == 2 * (2 + 1) * smoke.judging_trajectories
    assert (judged[judged["set"] == "own"]["source"] == "rl-math").all()
    candidates = judged[judged["set"] == "candidates"].groupby(["judge", "domain"])["problem_id"].agg(set)
    assert candidates["sft", "math"] == candidates["rl-math", "math"] and len(candidates["sft", "math"]) == 2


def test_what_an_expert_judges_better_than_sft_and_what_thinking_explains_come_out_as_constructed():
    """Judges that think are right on 90% of trajectories, others on 50; SFT thinks on half, the coding expert on all. The math
    expert thinks as SFT does and is right on all on which it thinks: it knows more, the coding expert does not."""
    right, frames = np.arange(800) // 2 % 2 == 0, []
    generator, thinks = np.random.default_rng(0), np.arange(800) % 2 == 0
    for domain, expert, hit in (("math", thinks, 1.0), ("coding", np.ones(800, bool), 0.9)):
        for judge, thought, chance in (("sft", thinks, 0.9), (f"rl-{domain}", expert, hit)):
            agrees = generator.uniform(size=800) < np.where(thought, chance, 0.5)
            frames.append(verdict_rows(right, np.where(agrees == right, 1, -1), judge=judge, domain=domain, thought=thought))
    judged = pd.concat(frames)
    thought = judge_accuracy.thought_table(judged, 300).set_index(["judge", "thought"])
    assert thought.loc[("sft", True), "estimate"] == pytest.approx(90, abs=3)
    assert thought.loc[("sft", False), "low"] < 50 < thought.loc[("sft", False), "high"]
    shares = {("sft", False): 50, ("sft", True): 50, ("expert", False): 25, ("expert", True): 75}
    assert thought["share"].round().to_dict() == shares
    assert thought["trajectories"].sum() == 3200
    rows = judge_accuracy.against_sft(judged, ["math", "coding"], 300).query("mode == 'process'")
    rows = rows.set_index(["verdicts", "domain"])
    truth = {("all", "math"): 5, ("all", "coding"): 20, ("all", "overall"): 12.5}
    truth |= {("both thought", "math"): 10, ("both thought", "coding"): 0, ("both thought", "overall"): 5}
    for key, points in truth.items():
        assert rows.loc[key, "low"] < points < rows.loc[key, "high"] < rows.loc[key, "low"] + 16
    assert rows.loc[("all", "coding"), "problems"] == 800 and rows.loc[("both thought", "coding"), "problems"] == 400
    at_once = judge_accuracy.against_sft(judged.assign(thought=False), ["math", "coding"], 100)
    assert set(at_once.loc[at_once["verdicts"] == "both thought", "verdict"]) == {"not answerable"}
    assert set(judge_accuracy.against_sft(judged.head(0), ["math"], 100)["verdict"]) == {"not answerable"}


def candidate_rows(right, process, outcome, answers):
    """Verdicts of both modes on problems of N samples each: lists of lists."""
    frames = [
        verdict_rows(r, s, judge="rl-math", name="candidates", mode=mode, problems=[i] * len(r), sample=range(len(r)), answer=a)
        for mode, scores in (("process", process), ("outcome", outcome))
        for i, (r, s, a) in enumerate(zip(right, scores, answers))
    ]
    return pd.concat(frames, ignore_index=True)


def test_choosing_by_hand():
    right, answers = [[1, 0, 0], [0, 0, 1], [1, 0]], [["a", "b", "b"], [None, None, "c"], [None, None]]
    judged = candidate_rows(right, [[1, 1, 0], [0, 2, 1], [0, 1]], [[3, 1, 2], [0, 0, 0], [0, 1]], answers)
    found = best_of_n.choose(judged).pivot(index="problem_id", columns="chooser", values="value")[list(best_of_n.CHOOSERS)]
    expected = {"math-0": [1 / 3, 0, 1, 0.5, 1], "math-1": [1 / 3, 1, 1 / 3, 0, 1], "math-2": [0.5, 0.5, 0, 0, 1]}
    for problem, values in expected.items():
        assert found.loc[problem].tolist() == pytest.approx(values)


def test_an_oracle_judge_is_the_oracle_and_a_deaf_one_a_single_sample():
    generator = np.random.default_rng(0)
    right = [generator.uniform(size=4) < p for p in generator.uniform(size=25)]
    answers = [["a" if r else f"b{i}" for i, r in enumerate(some)] for some in right]
    judged = candidate_rows(right, [np.where(r, 1.0, -1.0) for r in right], [np.zeros(4) for _ in right], answers)
    table = best_of_n.best_of_n_table(judged, draws=300).set_index("chooser")
    numbers = table[["score", "low", "high", "gain", "gain_low", "gain_high"]]
    assert numbers.loc["own judgement, process"].equals(numbers.loc["oracle"])
    assert numbers.loc["own judgement, outcome"].equals(numbers.loc["single sample"])
    assert table.loc["oracle", "score"] == pytest.approx(100 * np.mean([r.any() for r in right]))
    assert table.loc["single sample", "score"] == pytest.approx(100 * np.mean(right))
    assert (table["n"] == 25).all() and (table["samples"] == 4).all()
    said = best_of_n.single_sentence(table.reset_index())
    assert said.endswith("by its better mode, is below a single random sample for 0 of 1 judges.")
    wrong = candidate_rows(right, *[[np.where(r, -1.0, 1.0) for r in right]] * 2, answers)
    said = best_of_n.single_sentence(best_of_n.best_of_n_table(wrong, draws=100))
    assert "for 1 of 1 judges (" in said and said.endswith(" points).")


NAMES = ["math", "coding", "science", "instruction_following", "agent"]


def world(gains, *, n=120, hit=0.7, worse=()):
    """Judges that are right with probability `hit`, more or less by half of `gains[domain]` in process and outcome mode."""
    generator, frames, right = np.random.default_rng(0), [], np.arange(n) % 2 == 0
    judges, modes = ("sft", "rl-{}", "rl-multi", "merge-ties", "mt-opd"), (("process", 0.5), ("outcome", -0.5))
    for name, judge, kind, (mode, sign) in product(NAMES, judges, ("shared", "own"), modes):
        if (judge, kind) != ("sft", "own"):
            chance = hit + sign * gains[name] - 0.2 * (judge in worse)
            scores = np.where((generator.permutation(n) < chance * n) == right, 2, -2)
            frames.append(verdict_rows(right, scores, judge=judge.format(name), name=kind, domain=name, mode=mode))
    return cells(pd.concat(frames))


def parts(measured):
    answerable = outcome_or_process.gate(measured, NAMES).query("answerable")["domain"].tolist()
    return outcome_or_process.part_table(measured, outcome_or_process.paradigms(NAMES, "merge-ties"), answerable)


def test_the_papers_answer_is_found_where_it_is_true():
    gains = dict.fromkeys(NAMES, 0.2) | {"instruction_following": -0.3}
    table = parts(world(gains, worse=["mt-opd"])).set_index(["claim", "paradigm", "set"]).sort_index()
    for paradigm in ("single experts", "RL-Multi", "best merge", "MT-OPD"):
        for kind in ("shared", "own"):
            for claim, truth in (("process on logic", 20), ("outcome on instructions", 30), ("contrast", 50)):
                row = table.loc[(claim, paradigm, kind)]
                assert row["estimate"] == pytest.approx(truth, abs=1) and row["low"] > 0
    kept = table.loc["keeps process on logic"]
    assert kept.loc[("MT-OPD", "shared"), "high"] < 0 < kept.loc[("RL-Multi", "shared"), "high"]
    assert kept.loc[("MT-OPD", "shared"), "estimate"] == pytest.approx(-20, abs=1)
    assert (table.loc["contrast", "problems"] == 480).all()


def drawn_answer(measured):
    """The rows of the headline's figure, drawn, and the sentence above it."""
    gate = outcome_or_process.gate(measured, NAMES)
    tables = judge_accuracy.measure_table(measured), judge_accuracy.difference_table(measured)
    rows = outcome_or_process.answer_rows(*tables, gate)
    figure = rq5_judging.plot_answer(rows)
    check_readable(figure)
    return rows, figure, outcome_or_process.answer_sentence(gate, tables[1])


def test_the_answer_draws_differences_where_sft_can_judge_and_a_note_where_it_cannot():
    rows, figure, said = drawn_answer(world(dict.fromkeys(NAMES, 0.2) | {"instruction_following": -0.3}))
    assert said == "SFT judges above chance in Math, Coding, Science, Instruction following, Agent."
    found = rows[rows["panel"] == "difference"].set_index(["domain", "judge"])["estimate"]
    assert found["math", "expert"] == pytest.approx(20, abs=1) and found["instruction_following", "rl-multi"] < -25
    assert rows["asked"].all() and not figure.axes[1].texts
    rows, figure, said = drawn_answer(world(dict.fromkeys(NAMES, 0.0), hit=0.5))
    assert said.startswith("**The question cannot be asked here:** SFT is shown to judge no domain above chance (50 points)")
    assert "(a judge on a domain) 0 exclude 0, where" in said and said.endswith("would by chance.") and len(figure.axes) == 1
    assert figure.axes[0].get_title() == "Can SFT judge? Not shown in any domain"


def test_what_sft_cannot_judge_is_not_asked():
    measured = world(dict.fromkeys(NAMES, 0.0), hit=0.5)
    assert not outcome_or_process.gate(measured, NAMES)["answerable"].any()
    table = parts(measured)
    assert table["estimate"].isna().all()
    reason = "SFT is not shown to judge every logic domain or instruction following above chance"
    assert (table.loc[table["claim"] == "contrast", "reason"] == reason).all()
    few = outcome_or_process.claim_terms(
        {who: {"math": judge} for who, judge in (("SFT", "sft"), ("single experts", "rl-math"))}, ["math"]
    )
    assert few["contrast", "SFT", "shared"][1] == "the study lacks instruction following"


@pytest.mark.parametrize(("low", "problems", "verdict"), [(0.0, 80, "undecided"), (4.0, 80, "better"), (4.0, 8, "undecided")])
def test_few_or_equal_problems_decide_nothing(low, problems, verdict):
    numbers = dict.fromkeys(judge_accuracy.NUMBERS, 1.0)
    found = numbers | {"low": low, "high": 2 * low, "low90": low, "high90": 2 * low, "reason": "", "problems": problems}
    assert judge_accuracy.judge_interval(found, 3.0)["verdict"] == verdict


def judges_of_seeds(hits, *, n=200, domain="math"):
    """SFT judging the same problems in each seed, by process right on the given share of them, by outcome always on half."""
    generator, right = np.random.default_rng(0), np.arange(n) % 2 == 0
    chances = [("process", seed, hit) for seed, hit in enumerate(hits)] + [("outcome", seed, 0.5) for seed in range(len(hits))]
    rows = []
    for mode, seed, chance in chances:
        scores = np.where((generator.permutation(n) < chance * n) == right, 2, -2)
        rows.append(verdict_rows(right, scores, mode=mode, seed=seed, domain=domain))
    return pd.concat(rows, ignore_index=True)


def test_the_interval_over_seeds_holds_their_spread():
    """Accuracies 60, 70, 80: mean 70, sd 10, t interval 70 ± 4.303 × 10 / √3 = [45.2, 94.8]; of 69, 70, 71 a tenth of that."""
    rows = {}
    for name, hits in {"far": [0.6, 0.7, 0.8], "near": [0.69, 0.7, 0.71], "one": [0.7], "end": [0.6, 0.8, 0.98]}.items():
        measured = cells(judges_of_seeds(hits), 400)
        rows[name] = value(judge_accuracy.measure_table(measured), "accuracy", mode="process")
        difference = judge_accuracy.difference_table(measured).iloc[0]
        assert difference["estimate"] == pytest.approx(rows[name]["estimate"] - 50)
        assert (difference["seeds"], difference["problems"]) == (len(hits), 200)
    far, near, one, end = rows.values()
    assert [far["estimate"], far["low"], far["high"], far["seed_sd"]] == pytest.approx([70, 45.16, 94.84, 10], abs=0.01)
    assert far["trajectories"] == 600 and far["problems"] == 200 and (far["seeds"], one["seeds"]) == (3, 1)
    assert near["high"] - near["low"] < (far["high"] - far["low"]) / 3 and near["seed_sd"] == pytest.approx(1)
    assert one["high"] - one["low"] < 15 and np.isnan(one["seed_sd"])
    assert end["high"] == 100 and end["low"] == pytest.approx(79.33 - 47.2, abs=0.1), "no accuracy is above 100"


def test_the_gate_and_the_claims_of_several_seeds_say_how_many():
    pooled = cells(pd.concat([judges_of_seeds([0.74, 0.76, 0.75]), judges_of_seeds([0.2, 0.75, 0.9], domain="science")]), 400)
    gate = outcome_or_process.gate(pooled, ["math", "science"])
    assert gate.loc[0, ["answerable", "seeds", "problems"]].tolist() == [True, 3, 200]
    assert not gate.loc[1, "answerable"], "seeds that disagree do not pass"
    assert all("n = 200 problems, 3 seeds" in line for line in outcome_or_process.gate_sentences(gate))
    who = outcome_or_process.paradigms(["math", "science"], "merge-ties")
    row = outcome_or_process.part_table(pooled, who, ["math"]).query("claim == 'process on logic' and paradigm == 'SFT'").iloc[0]
    assert row["estimate"] == pytest.approx(25) and row["seeds"] == 3 and row["seed_sd"] == pytest.approx(1)
    (found,) = estimates.judging({"rq5": row.to_frame().T}, "SFT", "process on logic")  # what the ledger makes of it
    assert (found.estimate, found.seeds, found.df) == (pytest.approx(25), 3, 2)
    spread = outcome_or_process.spread_table(pooled, who, ["math"]).set_index("quantity").loc["SFT's accuracy, math, process"]
    assert spread[["seed 0", "seed 1", "seed 2", "mean", "seed_sd"]].tolist() == pytest.approx([74, 76, 75, 75, 1])
    # 200 problems of accuracy 0.75: a resample of them has sd √(0.75 × 0.25 / 200)
    assert spread["problem_sd"] == pytest.approx(100 * np.sqrt(0.75 * 0.25 / 200), rel=0.1)


def test_a_seed_that_has_no_set_is_left_out_and_counted_out():
    judged = judges_of_seeds([0.7, 0.8])
    row = judge_accuracy.difference_table(cells(judged[(judged["seed"] == 0) | (judged["mode"] == "outcome")])).iloc[0]
    assert (row["seeds"], row["problems"]) == (1, 200) and row["estimate"] == pytest.approx(20)
    nobody = cells(judged[(judged["seed"] == 0) == (judged["mode"] == "outcome")])
    assert judge_accuracy.difference_table(nobody).loc[0, "verdict"] == "not answerable"


def test_merges_of_seeds_that_chose_otherwise_are_the_best_merge():
    same = [verdict_rows([1, 0], [1, -1], judge="merge-ties", seed=seed) for seed in (0, 1)]
    judged, name = outcome_or_process.name_merge(pd.concat(same))
    assert name == "merge-ties" and set(judged["judge"]) == {"merge-ties"}
    other = pd.concat([same[0], same[1].assign(judge="merge-sce"), verdict_rows([1], [1], seed=1)])
    judged, name = outcome_or_process.name_merge(other)
    assert name == "merged-best" and set(judged["judge"]) == {"merged-best", "sft"}
    said = outcome_or_process.merge_sentence(outcome_or_process.chosen_merges(other))
    assert said.endswith("TIES merge (seed 0), SCE merge (seed 1).")


def test_best_of_n_over_seeds_by_hand():
    """The judge finds the right one of two samples in seed 0, the wrong one in seed 1: 100 and 0, mean 50, t interval over 2."""
    right, answers, scores = [[1, 0]] * 6, [["a", "b"]] * 6, [[1.0, -1.0]] * 6
    first = candidate_rows(right, scores, scores, answers)
    second = first.assign(seed=1, score=-first["score"], problem_id=first["problem_id"] + "-other")  # each seed has its own
    table = best_of_n.best_of_n_table(pd.concat([first, second]), draws=200).set_index("chooser")
    row = table.loc["own judgement, process"]
    assert (row["score"], row["seeds"], row["n"], row["samples"]) == (50, 2, 12, 2)
    assert row["high"] - row["low"] == pytest.approx(2 * 12.706 * 50, rel=1e-3)  # sd 70.7, over √2
    assert table.loc["single sample", ["score", "low", "high"]].tolist() == [50, 50, 50]


def test_reliability_by_hand():
    bins = judge_accuracy.reliability_table(verdict_rows([1, 0, 1, 1], [2, 2, -3, 2.1]))
    assert bins["share"].tolist() == [1, pytest.approx(2 / 3)] and bins["n"].tolist() == [1, 3]
    assert bins["probability"].tolist() == pytest.approx([expit(-3), expit([2, 2, 2.1]).mean()])
