"""Statistics against hand calculations, and against worlds in which the answer is built in."""

import numpy as np
import pandas as pd
import pytest

from m2rl_lib.stats import averages, bootstrap, comparisons, graded_samples


def cell(right, model="sft", domain="math", benchmark=None, seed=0, split="test") -> pd.DataFrame:
    """A `scores` frame of one model on one benchmark from right[problem, sample] (1, 0 or NaN)."""
    right = np.asarray(right, dtype=float)
    problem, sample = (place.ravel() for place in np.indices(right.shape))
    keys = {"seed": seed, "model": model, "domain": domain, "benchmark": benchmark or f"{domain}-1", "split": split}
    samples = {"problem_id": [f"p{i:05d}" for i in problem], "sample": sample, "correct": right.ravel()}
    return pd.DataFrame(keys | samples | {"parsed": True, "truncated": False, "completion_tokens": 10})


def shares(right: dict[str, float], domain: str = "math", n: int = 100, benchmark=None, seed=0, split="test") -> pd.DataFrame:
    """Models that solve the first so many percent of n problems."""
    place = np.arange(n)[:, None]
    return pd.concat([cell(place < n * share / 100, model, domain, benchmark, seed, split) for model, share in right.items()])


def world(gains: dict[str, float], problems: int, generator, benchmarks=("math-1",)) -> pd.DataFrame:
    """Four samples of beta-binomial problems that models share: the problem's chance, the gain (points), and noise (sd 0.1)."""
    frames = []
    for benchmark in benchmarks:
        base = generator.beta(4, 4, problems)
        for model, gain in gains.items():
            p = np.clip(base + gain / 100 + generator.normal(0, 0.1, problems), 0, 1)
            right = generator.random((problems, 4)) < p[:, None]
            frames.append(cell(right, model, benchmark.split("-")[0], benchmark))
    return pd.concat(frames, ignore_index=True)


def test_pass_at_k_by_hand_and_by_counting():
    assert graded_samples.pass_at_k(4, 1, 2) == pytest.approx(1 - 3 / 6)
    assert graded_samples.pass_at_k(10, np.array([0, 3, 10]), 1) == pytest.approx([0, 0.3, 1])
    assert graded_samples.pass_at_k(5, 4, 2) == 1  # two samples cannot both be the one wrong one
    with pytest.raises(ValueError, match="k = 5"):
        graded_samples.pass_at_k(4, 1, 5)


def test_problem_means_by_hand():
    scores = cell([[1, 0, 1, 1], [0, 0, 0, 1], [1, np.nan, 1, 1]])
    problems = graded_samples.problem_means(scores)
    assert list(problems["value"][:2]) == [0.75, 0.25] and list(problems["k"]) == [4, 4, 4]
    assert list(problems["graded"]) == [True, True, False]
    assert list(graded_samples.problem_means(scores.dropna(), pass_k=2)["value"][:2]) == [1.0, pytest.approx(0.5)]


def test_score_table_by_hand():
    row = averages.score_table(cell(np.repeat([[1.0], [0.0]], [150, 50], axis=0))).iloc[0]
    assert (row["model"], row["domain"], row["benchmark"], row["n"], row["k"]) == ("sft", "math", "math-1", 200, 1)
    error = 100 * np.sqrt(0.75 * 0.25 / 200)
    assert row["score"] == 75
    assert row["low"] == pytest.approx(75 - 1.96 * error, abs=0.6) and row["high"] == pytest.approx(75 + 1.96 * error, abs=0.6)
    assert row["scope"] == "fixed checkpoints" and np.isnan(row["seed_sd"]) and row["reason"] == ""


def test_average_is_over_benchmarks_then_domains_without_general():
    right = {"math-1": 60, "math-2": 80, "coding-1": 30, "general-1": 99}
    scores = pd.concat([shares({"sft": share}, name[:-2], benchmark=name) for name, share in right.items()])
    table = averages.average_table(scores).set_index("domain")
    assert table["score"].to_dict() == pytest.approx({"overall": 50, "math": 70, "coding": 30, "general": 99})
    assert table.loc["overall", "n"] == 300
    plain = averages.averages(averages.score_table(scores)).set_index("domain")["score"]
    assert plain.to_dict() == pytest.approx(table["score"].to_dict())
    # half of math's variance, quartered, plus coding's: the strata are resampled separately
    variance = (((0.24 + 0.16) / 4) + 0.21) / 4 / 100
    width = table.loc["overall", "high"] - table.loc["overall", "low"]
    assert width == pytest.approx(100 * 2 * 1.96 * np.sqrt(variance), rel=0.05)


def test_form_and_skill_by_hand():
    scores = cell(np.repeat([[1.0], [0.0]], [15, 25], axis=0))
    scores["parsed"] = np.arange(40) < 20
    scores["truncated"] = np.arange(40) >= 30
    table = averages.form_table(scores).set_index("measure")
    assert table["score"].to_dict() == pytest.approx({"parsed": 50, "right if parsed": 75, "truncated": 25})
    assert table.loc["right if parsed", "low"] < 75 < table.loc["right if parsed", "high"]


def test_chance_adjusted_by_hand():
    table = pd.DataFrame({"benchmark": ["a", "b"], "score": [40.0, 50], "low": [25.0, 40], "high": [55.0, 60]})
    adjusted = averages.chance_adjusted(table, {"a": 0.25, "b": 0})
    columns = ["adjusted", "adjusted_low", "adjusted_high"]
    assert adjusted[columns].to_numpy() == pytest.approx(np.array([[20, 0, 40], [50, 40, 60]]))
    with pytest.raises(ValueError, match="lacks b"):
        averages.chance_adjusted(table, {"a": 0.25})


def test_the_ends_of_some_models_are_named():
    scores = shares({"sft": 20, "rl-math": 60, "rl-coding": 40})
    said = comparisons.ends_sentence(comparisons.overall_means(scores))
    assert (
        said.startswith("**Mean over the trained domains, points:** highest of 3 models RL-Math 60.0 [")
        and ", lowest SFT 20.0 [" in said
    )
    assert comparisons.ends_sentence(comparisons.overall_means(shares({"sft": 20}))).startswith(
        "**Mean over the trained domains, points:** SFT 20.0 ["
    )


def test_an_adjusted_family_is_undecided_where_its_p_is():
    table = pd.DataFrame({"p": [0.001, 0.04, 0.5], "verdict": ["better", "worse", "equivalent"]})
    found = comparisons.adjust(table)
    assert found["adjusted"].tolist() == pytest.approx([0.003, 0.06, 0.5])
    assert found["verdict"].tolist() == ["better", "undecided", "equivalent"]


def test_benjamini_hochberg_refuses_what_is_no_p():
    with pytest.raises(ValueError, match="from 0 to 1"):
        comparisons.benjamini_hochberg([0.2, np.nan])


def test_interval_over_seeds_by_hand():
    found = bootstrap.interval(np.array([1.0, 2.0, 3.0]), np.tile([1.0, 2.0, 3.0], (4000, 1)))
    half = 4.302653 / np.sqrt(3)
    assert (found["low"], found["high"]) == pytest.approx((2 - half, 2 + half), abs=1e-4)
    assert found["seed_sd"] == 1 and found["seeds"] == 3 and found["scope"] == "training seeds"
    assert found["p"] == pytest.approx(0.0742, abs=1e-3)  # t = 2 √3 on two degrees of freedom


def test_interval_of_a_share_ends_where_shares_end():
    """90 and 98 right of 100: t on one degree of freedom would reach from 43 to 145."""
    table = averages.score_table(pd.concat([shares({"sft": 90}), shares({"sft": 98}, seed=1)]))
    assert table[["score", "high"]].values.tolist() == [[94, 100]] and table["low"].item() == pytest.approx(94 - 12.7062 * 4)


def test_wider_interval_is_used_when_seeds_agree_by_luck():
    noise = np.random.default_rng(0).normal(2, 1, 4000)
    found = bootstrap.interval(np.array([2.0, 2.0, 2.0]), np.column_stack([noise] * 3))
    assert found["low"] == pytest.approx(2 - 1.96, abs=0.15) and found["high"] == pytest.approx(2 + 1.96, abs=0.15)


def test_comparison_is_paired_over_problems_and_models():
    """Two models with the same mistakes but ten: unpaired the half-width would be about 6.9 points, paired 2.2."""
    right = np.arange(400)[:, None] < 200
    better = right.copy()
    better[200:220] = True
    row = comparisons.compare(pd.concat([cell(right, "sft"), cell(better, "rl-math")]), "rl-math", "sft")
    assert row["estimate"] == pytest.approx(5)
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * 100 * np.sqrt(0.05 * 0.95 / 400), rel=0.08)


def test_adding_a_model_changes_no_interval():
    scores = world({"sft": 0, "rl-math": 5, "rl-multi": 2}, 80, np.random.default_rng(0))
    alone = averages.score_table(scores[scores["model"] != "rl-multi"])
    together = averages.score_table(scores.sample(frac=1, random_state=1)).set_index("model")
    together = together.loc[["sft", "rl-math"]].reset_index()
    pd.testing.assert_frame_equal(alone, together)


def test_an_ungraded_problem_is_dropped_for_all_and_above_one_percent_the_cell_is_refused():
    a, b, c = (np.tile([[1.0], [0.0]], (100, 1)) for _ in range(3))
    a[0] = np.nan  # 0.5% of 200
    c[:3] = np.nan  # 1.5%
    scores = pd.concat([cell(a, "sft"), cell(b, "rl-math"), cell(c, "rl-multi")])
    table = averages.score_table(scores).set_index("model")
    assert table.loc["rl-math", "n"] == 199 and table.loc["rl-math", "dropped"] == 1
    assert table.loc["rl-math", "score"] == pytest.approx(100 * 99 / 199) == table.loc["sft", "score"]
    assert np.isnan(table.loc["rl-multi", "score"]) and "1.5%" in table.loc["rl-multi", "reason"]
    with pytest.raises(ValueError, match=r"1\.5% of 200 math-1 problems not graded for rl-multi"):
        comparisons.compare(scores, "rl-multi", "sft")
    one_percent = np.where(np.arange(200)[:, None] < 2, np.nan, 1)
    assert averages.score_table(cell(one_percent)).iloc[0][["score", "n", "dropped"]].tolist() == [100, 198, 2]
    form = averages.form_table(scores).set_index(["model", "measure"])
    assert form.loc[("sft", "parsed"), "score"] == 100 and np.isnan(form.loc[("rl-multi", "parsed"), "score"])


def test_a_model_that_skipped_a_benchmark_has_no_average():
    scores = pd.concat([cell([[1], [0]], "sft"), cell([[1], [0]], "sft", "coding"), cell([[1], [0]], "rl-math")])
    row = averages.average_table(scores).query("model == 'rl-math' and domain == 'overall'").iloc[0]
    assert np.isnan(row["score"]) and row["reason"] == "rl-math (seed 0) was not tested on coding-1"


@pytest.mark.parametrize(
    ("seeds", "seed_spread", "worlds", "least", "most"),
    [
        (1, 0, 1000, 0.93, 0.97),  # 95% of fixed checkpoints
        (3, 3, 1000, 0.93, 0.97),  # 95% of training seeds
        (1, 3, 200, 0, 0.7),  # why one seed may only speak of fixed checkpoints: it misses the mean over seeds far too often
        (3, 0, 200, 0.97, 1),  # the wider of two intervals is conservative where problem sampling is all there is
    ],
)
def test_planted_coverage(seeds, seed_spread, worlds, least, most, problems=300, samples=8, together=100):
    """The share of null worlds whose 95% interval holds 0; a hundred worlds at a time are models of one table, since their
    resamples are the same."""
    generator, hits = np.random.default_rng(20), 0
    models = [f"{name}@world={world}" for world in range(together) for name in ("rl-math", "sft")]
    rows = pd.MultiIndex.from_product([range(problems), range(seeds), models], names=["problem_id", "seed", "model"])
    table = rows.to_frame(index=False).assign(domain="math", benchmark="math-1", k=samples, graded=True)
    for _ in range(worlds // together):
        shape = (problems, seeds, together, 2)
        base = generator.beta(4, 4, (problems, 1, together, 1)) + generator.normal(0, seed_spread / 100, (1, *shape[1:]))
        p = np.clip(base + generator.normal(0, 0.1, shape), 0, 1)
        table["value"] = generator.binomial(samples, p).ravel() / samples
        sample = bootstrap.resample(table, draws=1000)
        for one, other in zip(models[::2], models[1::2]):
            _, points, resamples = sample.difference(one, other, "overall")
            found = bootstrap.interval(points, resamples)
            hits += found["low"] <= 0 <= found["high"]
    assert least <= hits / worlds <= most


@pytest.mark.parametrize(
    ("gain", "problems", "expected"), [(6, 400, "better"), (-6, 400, "worse"), (0, 1500, "equivalent"), (0, 25, "undecided")]
)
def test_planted_rq1_worlds(gain, problems, expected):
    benchmarks, found = ["math-1", "math-2", "coding-1", "coding-2"], []
    for start in range(5):
        scores = world({"rl-multi": gain, "merge-ties": 0}, problems, np.random.default_rng(start), benchmarks)
        row = comparisons.compare(scores, "rl-multi", "merge-ties", draws=2000)
        found.append(row["verdict"])
        assert row["benchmarks"] == 4 and row["n"] == 4 * problems and row["margin"] == 3
    assert found.count(expected) >= 4
    assert {"better", "worse"} & set(found) <= {expected}


def test_planted_smallest_effect_seen_is_seen_in_80_percent():
    generator, problems = np.random.default_rng(5), 100
    row = comparisons.compare(world({"sft": 0, "rl-math": 0}, problems, generator), "rl-math", "sft", draws=2000)
    hits = 0
    for _ in range(200):
        seen = world({"sft": 0, "rl-math": row["seen"]}, problems, generator)
        hits += comparisons.compare(seen, "rl-math", "sft", draws=500)["verdict"] == "better"
    assert 0.7 <= hits / 200 <= 0.9


ROW = ["rl-multi", "merge-ties", "overall", 4.1, 1.2, 7, 1.6, 6.6, 0.01, 4.2, 3, "better", 10, 2000, 1, None, "fixed checkpoints"]
SAID = {  # verdict: what else of ROW changes with it, and what its sentence says
    "better": ({}, "better than the best merge (TIES, chosen on selection data) by 4.1 points [1.2, 7.0]"),
    "worse": ({"estimate": -4.1, "low": -7.0, "high": -1.2}, "chosen on selection data) by 4.1 points [1.2, 7.0]"),
    "equivalent": ({"estimate": -0.3, "low90": -1.5, "high90": 0.9}, "-0.3 points [-1.5, 0.9]"),
    "undecided": ({"estimate": 1.1, "low": -2.0, "over": "math"}, "+1.1 points [-2.0, 7.0], minimum detectable effect 4.2"),
}


@pytest.mark.parametrize("verdict", SAID)
def test_a_verdict_sentence_has_the_numbers_that_decide(verdict):
    changes, words = SAID[verdict]
    row = pd.Series(dict(zip(comparisons.COMPARED, ROW)) | changes | {"verdict": verdict})
    said = comparisons.verdict_sentence(row, {"merge-ties": comparisons.chosen("merge-ties")})
    assert verdict in said and words in said and "n = 2000 problems, 1 seed: on fixed checkpoints" in said


def test_three_way_rule_at_its_edges():
    def rule(*limits, margin=3):
        return comparisons.three_way(dict(zip(("low", "high", "low90", "high90"), limits)), margin)

    assert rule(0.1, 2, 0.2, 1.9) == "better"  # small but sure comes before equivalent
    assert rule(-2, -0.1, -1.9, -0.2) == "worse" and rule(0, 2.9, 0.1, 2.8) == "equivalent"
    assert rule(-1, 3.2, -0.6, 3.0) == "undecided" and rule(-1, 3.2, -0.6, 3.0, margin=4) == "equivalent"


def test_names_of_models():
    names = {
        "rl-instruction_following": "RL-IF",
        "rl-math@step=250": "RL-Math (step 250)",
        "merge-task-arithmetic-dare": "TA+DARE merge",
        "merge-average@experts=math+coding": "Average merge (experts math+coding)",
        "merge-ties@density=0.1,lambda=0.5": "TIES merge (density 0.1, lambda 0.5)",
        "rl-number_puzzles": "RL-Number Puzzles",
    }
    assert {model: comparisons.display_name(model) for model in names} == names
    families = {"sft": "reference", "rl-null": "reference", "rl-multi": "mixed", "rl-math": "expert", "merge-sce": "merged"}
    assert {model: comparisons.model_family(model) for model in families} == families
    for wrong in ("merge-slerp", "RL-Math", "sft2", "rl-math@step", ""):
        with pytest.raises(ValueError, match="unknown model .* allowed are base, sft"):
            comparisons.display_name(wrong)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (cell([[1], [0]]).drop(columns="split"), "scores lacks split: it has seed, model"),
        (cell([[1], [0]]).iloc[:0], "scores is empty"),
        (pd.concat([cell([[1], [0]]), cell([[1], [0]], split="selection")]), "mixes the splits selection, test: keep one"),
        (pd.concat([cell([[1], [0]])] * 2), "2 samples twice, first seed 0, model sft"),
        (cell([[0.5], [0]]), "correct = 0.5: allowed are 0, 1 and null"),
        (pd.concat([cell([[1]]), cell([[1]], domain="coding", benchmark="math-1")]), "samples twice|in the domains coding, math"),
        (pd.concat([cell([[1]]), cell([[1]], "rl-math", "coding", "math-1")]), "benchmark math-1 in the domains coding, math"),
        (cell([[1], [0]]).assign(model=[None, "sft"]), "1 rows without model"),
    ],
)
def test_tables_that_would_be_read_wrongly_are_refused(scores, message):
    with pytest.raises(ValueError, match=message) as refusal:
        averages.score_table(scores)
    assert "\n" not in str(refusal.value)


def test_comparisons_refuse_unknown_names_in_one_line():
    scores = pd.concat([cell([[1], [0]]), cell([[1], [1]], "rl-math"), cell([[1], [1]], "rl-null", seed=1)])
    with pytest.raises(ValueError, match="unknown model 'rl-maths': the table has rl-math, rl-null, sft"):
        comparisons.compare(scores, "rl-maths", "sft")
    with pytest.raises(ValueError, match="unknown over='maths': allowed are overall, math, math-1"):
        comparisons.compare(scores, "rl-math", "sft", over="maths")
    with pytest.raises(ValueError, match=r"seeds of rl-null \[1\], sft \[0\]: one in common"):
        comparisons.compare(scores, "rl-null", "sft")
    with pytest.raises(ValueError, match="margin = 0"):
        comparisons.compare(scores, "rl-math", "sft", margin=0)


def test_choosing_never_sees_test_scores():
    selection = pd.concat([cell([[1], [0]], split="selection"), cell([[1], [1]], "rl-math", split="selection")])
    assert averages.choose_on_selection(selection, ["sft", "rl-math"]) == "rl-math"
    equal = pd.concat([selection, cell([[1], [1]], "merge-ties", split="selection")])
    assert averages.choose_on_selection(equal, ["merge-ties", "rl-math"]) == "merge-ties"  # the first named
    with pytest.raises(ValueError, match="splits selection, test: only selection"):
        averages.choose_on_selection(pd.concat([selection, cell([[1], [0]])]), ["sft", "rl-math"])
    with pytest.raises(ValueError, match="unknown candidates rl-agent: scores has rl-math, sft"):
        averages.choose_on_selection(selection, ["sft", "rl-agent"])
