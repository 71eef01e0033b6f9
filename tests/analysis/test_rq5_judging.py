"""Judges of known skill come out as constructed; sets are balanced; what cannot be judged is said and counted."""

import random

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.special import expit, logit

from m2rl_lib import domains
from m2rl_lib.analysis.rq5_judging import best_of_n, judge_accuracy, outcome_or_process
from m2rl_lib.config import schedule
from m2rl_lib.data import judge_prompts, problem_sets
from m2rl_lib.domains import chat
from m2rl_lib.evaluation import judging
from m2rl_lib.figures import drawing, rq5_judging
from m2rl_lib.paper import estimates
from m2rl_lib.rollout import decoding
from m2rl_lib.stats import over_seeds
from m2rl_lib.storage import artifacts, result_tables
from m2rl_lib.training import micro_model

END = "<|im_end|>"


def verdict_rows(right, scores, *, judge="sft", name="shared", domain="math", mode="process", problems=None, **more):
    """Verdicts in the form of `judges.run`, one problem each unless told otherwise."""
    count = len(right)
    frame = pd.DataFrame({"right": np.asarray(right, bool), "score": np.asarray(scores, float)})
    frame["problem_id"] = [f"{domain}-{i}" for i in (range(count) if problems is None else problems)]
    frame["verdict"] = np.where(frame["score"] > 0, "right", "wrong")
    fixed = {
        "seed": 0,
        "judge": judge,
        "set": name,
        "source": "sft",
        "domain": domain,
        "benchmark": f"{domain} bench",
        "sample": 0,
    }
    fixed |= {"place": None, "distance": np.nan, "answer": "x", "mode": mode, "tokens": 5}
    return frame.assign(**fixed | more)[judging.JUDGED]


def value(table, measure, **where):
    rows = table[table["measure"] == measure]
    for column, wanted in where.items():
        rows = rows[rows[column] == wanted]
    assert len(rows) == 1
    return rows.iloc[0]


# --- measures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skill", [0.0, 1.5, 3.0])
def test_gaussian_judge_has_the_auroc_and_accuracy_of_its_skill(skill):
    generator, n = np.random.default_rng(0), 500
    right = np.arange(2 * n) % 2 == 0
    scores = generator.normal(size=2 * n) + np.where(right, skill / 2, -skill / 2)
    table = judge_accuracy.measure_table(judge_accuracy.measure_cells(verdict_rows(right, scores), judge_accuracy.CELL, 150))
    for measure, truth in (("auroc", stats.norm.cdf(skill / np.sqrt(2))), ("accuracy", 100 * stats.norm.cdf(skill / 2))):
        found = value(table, measure)
        assert found["low"] < truth < found["high"]
        assert found["high"] - found["low"] < (0.08 if measure == "auroc" else 8)
    assert value(table, "balanced")["estimate"] == pytest.approx(value(table, "accuracy")["estimate"])


def test_measures_by_hand():
    rows = verdict_rows([True, True, False, False], [2, -1, -3, 1])
    rows["verdict"] = ["right", None, "wrong", "wrong"]
    found = {name: v[0] for name, v in judge_accuracy.measure(rows, np.ones((1, 4))).items()}
    p = expit([2, -1, -3, 1])
    assert found["accuracy"] == 50 and found["balanced"] == 50 and found["wrong seen"] == 50
    assert found["auroc"] == 0.75 and found["written"] == 75 and found["unreadable"] == 25
    assert found["brier"] == pytest.approx(np.mean((p - [1, 1, 0, 0]) ** 2))
    assert found["ece"] == pytest.approx((abs(p[0] - 1) + abs(p[1] - 1) + p[2] + p[3]) / 4)  # four bins, one each
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
    generator, covered = np.random.default_rng(0), 0
    right = np.arange(80) % 2 == 0
    for draw in range(60):
        chance = generator.beta(2, 1, 40).repeat(2)  # how likely the judge is right on a problem: 2/3 on average
        scores = np.where((generator.uniform(size=80) < chance) == right, 1.0, -1.0)
        rows = verdict_rows(right, scores, problems=np.arange(80) // 2)
        found = judge_accuracy.combine(
            judge_accuracy.measure_cells(rows, judge_accuracy.CELL, 300, draw), [(1.0, (*KEY, "accuracy"))]
        )
        covered += found["low"] <= 100 * 2 / 3 <= found["high"]
        assert found["problems"] == 40
    assert 0.88 <= covered / 60 <= 0.99


KEY = ("shared", "sft", "math", "process")


def test_modes_are_compared_on_the_same_redraws():
    generator = np.random.default_rng(0)
    right = np.arange(100) % 2 == 0
    scores = generator.normal(size=100)
    both = pd.concat([verdict_rows(right, scores), verdict_rows(right, scores, mode="outcome")])
    row = judge_accuracy.difference_table(judge_accuracy.measure_cells(both, judge_accuracy.CELL, 300)).iloc[0]
    assert (row["estimate"], row["low"], row["high"], row["verdict"]) == (0, 0, 0, "equivalent")


# --- sets -------------------------------------------------------------------------------------------------------


def sample_rows(correct, *, model="sft", domain="math", texts=None, problems=None, k=1, truncated=False, parsed=True):
    count = len(correct)
    return pd.DataFrame(
        {
            "model": model,
            "domain": domain,
            "benchmark": "chain",
            "split": "test",
            "problem_id": [f"chain-{i}" for i in (np.arange(count) // k if problems is None else problems)],
            "sample": np.arange(count) % k,
            "correct": np.asarray(correct, float),
            "parsed": parsed,
            "truncated": truncated,
            "text": [f"<think>{i}</think>\n\\boxed{{{i}}}{END}" for i in range(count)] if texts is None else texts,
        }
    )


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
    mixed = sample_rows([0, 1] * 10, domain="coding")
    samples = pd.concat([sample_rows([kind] * 20), mixed])
    chosen = judging.balanced_set(samples, 10, "shared", 0)
    assert set(chosen["domain"]) == {"coding"} and len(chosen) == 10
    told = judging.count_samples(samples).set_index("domain")["reason"]
    assert told["math"] == f"all 20 whole trajectories are {['wrong', 'right'][kind]}" and told["coding"] == ""
    judged = verdict_rows(chosen["right"], np.where(chosen["right"], 1, -1), domain="coding", problems=range(10))
    judged = pd.concat([judged, judged.assign(mode="outcome")])
    table = outcome_or_process.gate(judge_accuracy.measure_cells(judged, judge_accuracy.CELL, 200), ["math", "coding"]).set_index(
        "domain"
    )
    assert table["answerable"].to_dict() == {"math": False, "coding": True}
    assert "nothing to judge" in table.loc["math", "reason"]
    assert "cannot be answered at this scale" in outcome_or_process.gate_sentences(table.reset_index())[0]


def test_empty_truncated_and_ungraded_samples_are_counted_and_left_out():
    good = sample_rows([0, 1, 0, 1], problems=[0, 1, 2, 3])
    empty = sample_rows([0, 0], texts=["", END], problems=[4, 5], parsed=False)
    cut = sample_rows([0], texts=["<think>2 + 2"], problems=[6], truncated=True, parsed=False)
    form = sample_rows([0], texts=[f"<think>1</think>\nfour{END}"], problems=[7], parsed=False)
    lost = sample_rows([np.nan], problems=[8])
    samples = pd.concat([good, empty, cut, form, lost])
    counts = judging.count_samples(samples).iloc[0]
    wanted = {"samples": 9, "not graded": 1, "empty": 2, "truncated": 1, "no answer": 1, "right": 2, "wrong": 2, "reason": ""}
    assert counts[list(wanted)].to_dict() == wanted
    assert set(judging.balanced_set(samples, 10, "own", 0)["problem_id"]) == {f"chain-{i}" for i in range(4)}
    candidates = judging.candidate_set(samples, 100, 0)  # best-of-N meets them all, but for what nobody could grade
    assert set(candidates["problem_id"]) == {f"chain-{i}" for i in range(8)}
    assert candidates.set_index("problem_id")["answer"].isna().sum() == 4
    nothing = judging.count_samples(samples[~samples["parsed"]]).iloc[0]
    assert nothing["reason"] == "no whole trajectory"
    assert judging.balanced_set(samples[~samples["parsed"]], 10, "own", 0).empty


def test_an_outcome_judge_does_not_see_thinking_that_never_ended():
    row = problem_sets.benchmark_problems("chain", "test", 1, True)[0]
    for text in ("<think>2 + 2 = 4\n4 + ", "", END, f"<think>2 + 2 = 4</think>\n\\boxed{{4}}{END}"):
        shown = judge_prompts.judge_prompt(row, text, "outcome")[0]["content"]
        assert "2 + 2" not in shown and ("boxed" in shown) == ("boxed" in text)


@pytest.fixture(scope="module")
def planted():
    rows = [row for name in domains.DOMAINS for row in first_problems(name, 3)]
    return rows, judging.planted_set(rows, 0)


def first_problems(name, count):
    return problem_sets.benchmark_problems(next(iter(domains.ALL[name].BENCHMARKS)), "test", count, True)


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
    a, sign, b, right = by_id[early["problem_id"]]["chain"][0]
    assert early["text"].startswith(f"<think>{a} {sign} {b} = ") and not early["text"].startswith(
        f"<think>{a} {sign} {b} = {right}\n"
    )


def scripted(items, rows, score):
    """A judge that knows the items: the prompts' texts lead back to them, `score(item, mode)` is its log-odds."""
    known = {
        judge_prompts.judge_prompt(rows[item.problem_id], item.text, mode)[0]["content"]: score(item, mode)
        for mode in judge_prompts.JUDGE_MODES
        for item in items.itertuples()
    }

    def judge(prompts):
        said = [known[messages[0]["content"]] for messages in prompts]
        return [judging.Judgement(f"<think></think>\n{'right' if s > 0 else 'wrong'}{END}", s, 4) for s in said]

    return judge


def test_horizon_and_places_come_out_as_constructed():
    """Errors at distance d are seen with probability 0.95 − 0.2 d in process mode, always with 0.6 in outcome mode."""
    rows = first_problems("math", 120)
    items = judging.planted_set(rows, 0)
    by_id = {row["problem_id"]: row for row in rows}
    generator = np.random.default_rng(0)

    def score(item, mode):
        if item.right:
            return 1.0
        seen = generator.uniform() < (0.95 - 0.2 * item.distance if mode == "process" else 0.6)
        return -1.0 if seen else 1.0

    judged = judging.judge_items(scripted(items, by_id, score), items, by_id).assign(seed=0, judge="sft")[judging.JUDGED]
    far = judge_accuracy.measure_cells(judge_accuracy.against_right(judged, "distance"), [*judge_accuracy.CELL, "distance"], 300)
    table = judge_accuracy.measure_table(far)
    for distance in range(4):
        found = value(table, "wrong seen", mode="process", distance=distance)
        assert found["estimate"] == pytest.approx(100 * (0.95 - 0.2 * distance), abs=10) and found["problems"] == 120
        assert found["high"] - found["low"] < 20
        assert value(table, "balanced", mode="process", distance=distance)["estimate"] == pytest.approx(
            50 + found["estimate"] / 2
        )
    slopes = judge_accuracy.horizon_table(far).set_index("mode")
    assert slopes.loc["process", "low"] <= -20 <= slopes.loc["process", "high"] < 0
    assert slopes.loc["process", "verdict"] == "worse" and slopes.loc["outcome", "verdict"] != "worse"
    places = judge_accuracy.measure_table(
        judge_accuracy.measure_cells(judge_accuracy.against_right(judged, "place"), [*judge_accuracy.CELL, "place"], 300)
    )
    assert value(places, "wrong seen", mode="process", place="answer")["estimate"] > 85
    assert value(places, "wrong seen", mode="process", place="early")["estimate"] < 50
    figure = rq5_judging.plot_horizon(table[table["measure"] == "balanced"])
    assert len(figure.axes) == 1 and len(figure.axes[0].lines) == 3


# --- a model that judges ---------------------------------------------------------------------------------------


def test_written_verdicts():
    for text, verdict in (
        (f"<think>27\n26</think>\nwrong{END}", "wrong"),
        ("<think>right</think>\nRight.", "right"),
        ("<think>right", None),
        ("right", None),
        ("", None),
        ("</think>\nright or wrong", None),
        ("</think>\nupright", None),
    ):
        assert judging.read_verdict(text) == verdict


def test_a_models_score_is_read_where_its_verdict_stands(tokenizer, monkeypatch):
    model = micro_model.build_model(tokenizer, hidden_size=32, layers=2, heads=2, context=512, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 3
    close, right, wrong = judging.verdict_tokens(tokenizer)
    assert tokenizer.decode(close).startswith("</think>") and right != wrong
    rows = [row for name in ("math", "agent", "science") for row in first_problems(name, 2)]
    prompts = [judge_prompts.judge_prompt(row, f"<think>1</think>\n{i}{END}", "process") for i, row in enumerate(rows)]
    thoughts = [
        "<think>1</think>\nright<|im_end|>",
        "<think>1 + 1",
        "",
        "<|im_end|>",
        "<think>7</think>",
        "</think>\nwrong</think>",
    ]
    written = [tokenizer(text)["input_ids"] for text in thoughts]
    texts = [chat.prompt(tokenizer, messages, []) for messages in prompts]
    scripts = {tuple(tokenizer(text)["input_ids"]): new for text, new in zip(texts, written)}
    monkeypatch.setattr(decoding, "transformers_turn", lambda *_: lambda asked: ([scripts[tuple(ids)] for ids in asked], None))
    judge = judging.model_judge(model, tokenizer, temperature=0, max_tokens=8, batch=4, seed=0)
    for thought, text, found in zip(thoughts, texts, judge(prompts), strict=True):
        before = thought.split("</think>")[0].split(END)[0]
        ids = tokenizer(text)["input_ids"] + tokenizer(before)["input_ids"] + close
        logits = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1).tolist()
        assert found.score == pytest.approx(logits[right] - logits[wrong], abs=1e-4)
        assert found.tokens == len(tokenizer(thought)["input_ids"])


def test_a_model_judges_whatever_it_is_shown(tokenizer, model):
    rows = {row["problem_id"]: row for row in first_problems("math", 3)}
    samples = pd.concat(
        [sample_rows([0, 0, 1], texts=["", "<think>2 +", f"<think>1</think>\n\\boxed{{3}}{END}"], problems=[0, 1, 2])]
    )
    samples["problem_id"] = list(rows)
    items = judging.candidate_set(samples, 3, 0)
    judge = judging.model_judge(model, tokenizer, temperature=0, max_tokens=6, batch=2, seed=0)
    judged = judging.judge_items(judge, items, rows)
    assert len(judged) == 6 and np.isfinite(judged["score"]).all() and judged["verdict"].isna().all()
    empty = judged[judged["problem_id"] == list(rows)[0]].set_index("mode")["score"]
    assert empty["outcome"] != empty["process"]


def test_all_judges_of_a_study_see_the_same_trajectories(smoke, tokenizer, publish_model):
    smoke.domains, smoke.evaluate_max_tokens, smoke.judging_problems = ["math", "science"], 4, 2
    for seed, name in enumerate(["sft", "rl-math"]):
        publish_model(name, micro_model.build_model(tokenizer, hidden_size=32, layers=1, heads=2, context=512, seed=seed))
    generator, frames = random.Random(0), []
    for domain in smoke.domains:
        for benchmark in domains.ALL[domain].BENCHMARKS:
            rows = problem_sets.benchmark_problems(benchmark, "test", smoke.evaluate_problems, True)
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


# --- best of N ---------------------------------------------------------------------------------------------------


def candidate_rows(right, scores, answers, *, judge="rl-math", mode="process"):
    """Four problems or so of N samples each: lists of lists."""
    frames = [
        verdict_rows(r, s, judge=judge, name="candidates", mode=mode, problems=[i] * len(r), sample=range(len(r)), answer=a)
        for i, (r, s, a) in enumerate(zip(right, scores, answers))
    ]
    return pd.concat(frames, ignore_index=True)


def test_choosing_by_hand():
    right, answers = [[1, 0, 0], [0, 0, 1]], [["a", "b", "b"], [None, None, "c"]]
    judged = pd.concat(
        [
            candidate_rows(right, [[1, 1, 0], [0, 2, 1]], answers),
            candidate_rows(right, [[3, 1, 2], [0, 0, 0]], answers, mode="outcome"),
        ]
    )
    found = best_of_n.choose(judged).pivot(index="problem_id", columns="chooser", values="value")
    assert found.loc["math-0"].to_dict() == {
        "single sample": pytest.approx(1 / 3),
        "majority vote": 0,
        "own judgement, process": 0.5,
        "own judgement, outcome": 1,
        "oracle": 1,
    }
    assert found.loc["math-1", ["majority vote", "own judgement, process"]].tolist() == [1, 0]
    assert found.loc["math-1", "own judgement, outcome"] == pytest.approx(1 / 3)
    nobody = candidate_rows([[1, 0]], [[0, 1]], [[None, None]])
    assert (
        best_of_n.choose(pd.concat([nobody, nobody.assign(mode="outcome")])).set_index("chooser").loc["majority vote", "value"]
        == 0.5
    )


def test_an_oracle_judge_is_the_oracle_and_a_deaf_one_a_single_sample():
    generator = np.random.default_rng(0)
    right = [generator.uniform(size=4) < p for p in generator.uniform(size=25)]
    answers = [["a" if r else f"b{i}" for i, r in enumerate(some)] for some in right]
    judged = pd.concat(
        [
            candidate_rows(right, [np.where(r, 1.0, -1.0) for r in right], answers),
            candidate_rows(right, [np.zeros(4) for _ in right], answers, mode="outcome"),
        ]
    )
    table = best_of_n.best_of_n_table(judged, draws=300).set_index("chooser")
    columns = ["score", "low", "high", "gain", "gain_low", "gain_high"]
    assert table.loc["own judgement, process", columns].tolist() == table.loc["oracle", columns].tolist()
    assert table.loc["own judgement, outcome", columns].tolist() == table.loc["single sample", columns].tolist()
    assert table.loc["oracle", "score"] == pytest.approx(100 * np.mean([r.any() for r in right]))
    assert table.loc["single sample", "score"] == pytest.approx(100 * np.mean(right))
    assert (table["n"] == 25).all() and (table["samples"] == 4).all()
    figure = rq5_judging.plot_best_of_n(table.reset_index())
    assert len(figure.axes) == 1


# --- the paper's answer --------------------------------------------------------------------------------------------

NAMES = ["math", "coding", "science", "instruction_following", "agent"]


def world(gains, *, n=120, hit=0.7, merge="merge-ties", worse=()):
    """Judges that are right with probability `hit`, more or less by half of `gains[domain]` in process and outcome mode."""
    generator, frames = np.random.default_rng(0), []
    right = np.arange(n) % 2 == 0
    for name in NAMES:
        for judge in ("sft", f"rl-{name}", "rl-multi", merge, "mt-opd"):
            for kind in ("shared", "own") if judge != "sft" else ("shared",):
                for mode, sign in (("process", 0.5), ("outcome", -0.5)):
                    chance = hit + sign * gains[name] - 0.2 * (judge in worse)
                    ok = generator.permutation(n) < chance * n
                    frames.append(
                        verdict_rows(right, np.where(ok == right, 2, -2), judge=judge, name=kind, domain=name, mode=mode)
                    )
    return judge_accuracy.measure_cells(pd.concat(frames), judge_accuracy.CELL, 200)


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


def test_the_opposite_and_nothing_are_found_as_well():
    opposite = parts(world(dict.fromkeys(NAMES, -0.2) | {"instruction_following": 0.3})).query("claim == 'contrast'")
    assert (opposite["high"] < 0).all()
    nothing = parts(world(dict.fromkeys(NAMES, 0.0), n=240)).query("claim == 'process on logic'")
    assert ((nothing["low"] < 0) & (nothing["high"] > 0)).all()


def test_what_sft_cannot_judge_is_not_asked():
    measured = world(dict.fromkeys(NAMES, 0.0), hit=0.5)
    assert not outcome_or_process.gate(measured, NAMES)["answerable"].any()
    table = parts(measured)
    assert table["estimate"].isna().all()
    row = table[(table["claim"] == "contrast")].iloc[0]
    assert row["reason"] == "no logic domain can be judged, no instruction following can be judged"


# --- several seeds -------------------------------------------------------------------------------------------


def judges_of_seeds(hits, *, n=200, domain="math"):
    """SFT judging the same problems in each seed, by process right on the given share of them, by outcome always on half."""
    generator, right = np.random.default_rng(0), np.arange(n) % 2 == 0
    ok = {("process", seed): generator.permutation(n) < hit * n for seed, hit in enumerate(hits)}
    ok |= {("outcome", seed): generator.permutation(n) < n / 2 for seed in range(len(hits))}
    rows = [
        verdict_rows(right, np.where(some == right, 2, -2), mode=mode, seed=seed, domain=domain)
        for (mode, seed), some in ok.items()
    ]
    return pd.concat(rows, ignore_index=True)


def test_the_interval_over_seeds_holds_their_spread():
    """Accuracies 60, 70, 80: mean 70, sd 10, t interval 70 ± 4.303 × 10 / √3 = [45.2, 94.8]; of 69, 70, 71 a tenth of that."""
    rows = {}
    for name, hits in {"far": [0.6, 0.7, 0.8], "near": [0.69, 0.7, 0.71], "one": [0.7], "end": [0.6, 0.8, 0.98]}.items():
        measured = judge_accuracy.measure_cells(judges_of_seeds(hits), judge_accuracy.CELL, 400)
        rows[name] = value(judge_accuracy.measure_table(measured), "accuracy", mode="process")
        difference = judge_accuracy.difference_table(measured).iloc[0]
        assert (
            difference["estimate"] == pytest.approx(rows[name]["estimate"] - 50)
            and difference["seeds"] == len(hits)
            and difference["problems"] == 200
        )
    far, near, one = rows["far"], rows["near"], rows["one"]
    assert [far["estimate"], far["low"], far["high"], far["seed_sd"]] == pytest.approx([70, 45.16, 94.84, 10], abs=0.01)
    assert far["trajectories"] == 600 and far["problems"] == 200 and (far["seeds"], one["seeds"]) == (3, 1)
    assert near["high"] - near["low"] < (far["high"] - far["low"]) / 3 and near["seed_sd"] == pytest.approx(1)
    assert one["high"] - one["low"] < 15 and np.isnan(one["seed_sd"])
    end = rows["end"]
    assert end["high"] == 100 and end["low"] == pytest.approx(79.33 - 47.2, abs=0.1), "no accuracy is above 100"


def test_the_gate_and_the_claims_of_several_seeds_say_how_many():
    pooled = judge_accuracy.measure_cells(
        pd.concat([judges_of_seeds([0.74, 0.76, 0.75]), judges_of_seeds([0.2, 0.75, 0.9], domain="science")]),
        judge_accuracy.CELL,
        400,
    )
    gate = outcome_or_process.gate(pooled, ["math", "science"]).set_index("domain")
    assert gate.loc["math", ["answerable", "seeds", "problems"]].tolist() == [True, 3, 200]
    assert not gate.loc["science", "answerable"], "seeds that disagree do not pass"
    told = outcome_or_process.gate_sentences(gate.reset_index())
    assert all("n = 200 problems, 3 seeds" in line for line in told)
    who = outcome_or_process.paradigms(["math", "science"], "merge-ties")
    row = outcome_or_process.part_table(pooled, who, ["math"]).query("claim == 'process on logic' and paradigm == 'SFT'").iloc[0]
    assert row["estimate"] == pytest.approx(25) and row["seeds"] == 3 and row["seed_sd"] == pytest.approx(1)
    (found,) = estimates.judging({"rq5": row.to_frame().T}, "SFT", "process on logic")  # what the ledger makes of it
    assert (found.estimate, found.seeds, found.df) == (pytest.approx(25), 3, 2)
    spread = outcome_or_process.spread_table(pooled, who, ["math"]).set_index("quantity")
    by_seed = spread.loc["SFT's accuracy, math, process", ["seed 0", "seed 1", "seed 2", "mean", "seed_sd"]]
    assert by_seed.tolist() == pytest.approx([74, 76, 75, 75, 1])
    # 200 problems of accuracy 0.75: a redraw of them has sd √(0.75 × 0.25 / 200)
    assert spread.loc["SFT's accuracy, math, process", "problem_sd"] == pytest.approx(100 * np.sqrt(0.75 * 0.25 / 200), rel=0.1)


def test_a_seed_that_has_no_set_is_left_out_and_counted_out():
    judged = judges_of_seeds([0.7, 0.8])
    apart = judge_accuracy.measure_cells(judged[(judged["seed"] == 0) | (judged["mode"] == "outcome")], judge_accuracy.CELL, 100)
    row = judge_accuracy.difference_table(apart).iloc[0]
    assert (row["seeds"], row["problems"]) == (1, 200) and row["estimate"] == pytest.approx(20)
    nobody = judge_accuracy.measure_cells(
        judged[(judged["seed"] == 0) == (judged["mode"] == "outcome")], judge_accuracy.CELL, 100
    )
    assert judge_accuracy.difference_table(nobody).iloc[0]["verdict"] == "not answerable"


def test_a_single_seeds_redraws_do_not_depend_on_its_number():
    frames = [judges_of_seeds([0.7]), judges_of_seeds([0.7]).assign(seed=3)]
    one, other = (judge_accuracy.measure_table(judge_accuracy.measure_cells(frame, judge_accuracy.CELL, 100)) for frame in frames)
    pd.testing.assert_frame_equal(one, other)


def test_merges_of_seeds_that_chose_otherwise_are_the_best_merge():
    same = [verdict_rows([1, 0], [1, -1], judge="merge-ties", seed=seed) for seed in (0, 1)]
    judged, name = outcome_or_process.name_merge(pd.concat(same))
    assert name == "merge-ties" and set(judged["judge"]) == {"merge-ties"}
    apart = pd.concat([same[0], same[1].assign(judge="merge-sce"), verdict_rows([1], [1], seed=1)])
    judged, name = outcome_or_process.name_merge(apart)
    assert name == "merged-best" and set(judged["judge"]) == {"merged-best", "sft"}
    told = outcome_or_process.merge_sentence(outcome_or_process.chosen_merges(apart))
    assert told.endswith("TIES merge (seed 0), SCE merge (seed 1).")


def test_best_of_n_over_seeds_by_hand():
    """The judge finds the right one of two samples in seed 0, the wrong one in seed 1: 100 and 0, mean 50, t interval over 2."""
    right, answers = [[1, 0]] * 6, [["a", "b"]] * 6
    frames = [
        candidate_rows(right, [[sign, -sign]] * 6, answers, mode=mode).assign(seed=seed)
        for seed, sign in enumerate((1.0, -1.0))
        for mode in ("process", "outcome")
    ]
    frames[2:] = [frame.assign(problem_id=frame["problem_id"] + "-other") for frame in frames[2:]]  # each seed has its own
    table = best_of_n.best_of_n_table(pd.concat(frames), draws=200).set_index("chooser")
    row = table.loc["own judgement, process"]
    assert (row["score"], row["seeds"], row["n"], row["samples"]) == (50, 2, 12, 2)
    assert row["high"] - row["low"] == pytest.approx(2 * 12.706 * 50, rel=1e-3)  # sd 70.7, over √2
    assert table.loc["single sample", ["score", "low", "high"]].tolist() == [50, 50, 50]


def test_a_seed_without_its_judging_is_named_by_its_stage(smoke):
    for name in ("judging", "judging_sets"):
        result_tables.write_table(smoke, name, "judging", judges_of_seeds([0.7]), artifacts.record(smoke))
    assert len(result_tables.read_table(smoke, "judging", ["judging"], [0])) == 400
    with pytest.raises(FileNotFoundError, match="judging/1-judging.parquet is missing"):
        result_tables.read_table(smoke, "judging", ["judging"], [0, 1])
    artifacts.finish(over_seeds.at_seed(smoke, 1), "evaluate-sft", [], [])
    assert schedule.seeds_there(smoke, "rq5") == [0]
    artifacts.finish(over_seeds.at_seed(smoke, 1), "judging", [], [])
    assert schedule.seeds_there(smoke, "rq5") == [0, 1]


def test_figures_say_how_many_seeds():
    judged = judges_of_seeds([0.7, 0.8])
    table = judge_accuracy.measure_table(judge_accuracy.measure_cells(judged, judge_accuracy.CELL, 50)).query(
        "measure == 'accuracy'"
    )
    assert rq5_judging.plot_judges(table).get_supxlabel().endswith("half of them right, 2 seeds)")
    assert "seed" not in rq5_judging.plot_judges(table.drop(columns="seeds")).get_supxlabel()


def test_figures_show_every_judge_and_its_intervals(tmp_path):
    table = judge_accuracy.measure_table(world(dict.fromkeys(NAMES, 0.2)))
    table = table[table["measure"] == "accuracy"]
    figure = rq5_judging.plot_judges(table)
    assert len(figure.axes) == 10
    assert len(figure.axes[0].lines) == 1 + 2 * 2 * 5  # chance; five judges, two modes, an interval and a point each
    assert all(path.is_file() for path in drawing.save(rq5_judging.plot_judges, table, tmp_path, "judges"))
    bins = judge_accuracy.reliability_table(verdict_rows([1, 0, 1, 1], [2, 2, -3, 2.1]))
    assert bins["share"].tolist() == [1, pytest.approx(2 / 3)] and bins["n"].tolist() == [1, 3]
    assert bins["probability"].tolist() == pytest.approx([expit(-3), expit([2, 2, 2.1]).mean()])
    assert len(rq5_judging.plot_reliability(bins).axes) == 1
