"""Our results in the paper's form: by hand from small planted tables, and said where they are missing."""

import json

import pandas as pd
import PIL.Image
import pytest

from m2rl_lib.config import schedule
from m2rl_lib.domains import ALL
from m2rl_lib.figures import drawing, our_tables, paper_tables, rq1_mix_or_merge
from m2rl_lib.paper import published_tables
from m2rl_lib.storage import artifacts, result_tables


def graded(p, rates: dict[str, float], domains: list[str], split: str, problems: int = 10) -> pd.DataFrame:
    """Scores of models with the given share of right problems (of ten), one sample each."""
    rows = [
        (p.seed, model, domain, benchmark, split, f"{benchmark}-{split}-{i}", 0, float(i < round(rate * problems)))
        for model, rate in rates.items()
        for domain in domains
        for benchmark in ALL[domain].BENCHMARKS
        for i in range(problems)
    ]
    columns = ["seed", "model", "domain", "benchmark", "split", "problem_id", "sample", "correct"]
    return pd.DataFrame(rows, columns=columns).assign(parsed=True, truncated=False, completion_tokens=5)


def write(p, writer: str, rates: dict[str, float], table: str = "scores") -> None:
    both = [graded(p, rates, [*p.domains, "general"], split) for split in ("selection", "test")]
    result_tables.write_table(p, table, writer, pd.concat(both), artifacts.record(p))


@pytest.fixture
def p(smoke):
    write(smoke, "sft", {"sft": 0.2})
    write(smoke, "experts", {f"rl-{domain}": 0.5 for domain in smoke.domains})
    write(smoke, "mixed", {"rl-multi": 0.7})
    write(smoke, "merges", {f"merge-{method}": 0.3 + 0.1 * (method == "sce") for method in smoke.merge_methods})
    write(smoke, "distilled", {"mt-opd": 0.6})
    write(smoke, "pairs", {"merge-average@experts=math+coding": 0.6, "merge-average@experts=math+sft": 0.3,
                           "merge-average@experts=coding+sft": 0.4})  # fmt: skip
    return smoke


def test_scores_have_the_merge_that_selection_chose_and_the_papers_columns(p):
    frame = our_tables.scores(p)
    assert list(pd.unique(frame["model"])) == ["sft", *(f"rl-{domain}" for domain in p.domains), "merge-sce", "rl-multi"]
    assert list(pd.unique(frame["domain"])) == [*p.domains, "general"] or set(frame["domain"]) == {*p.domains, "general"}
    assert set(published_tables.scores().columns) <= set(frame.columns) and {"low", "high", "n"} <= set(frame.columns)
    assert frame.query("model == 'merge-sce'")["score"].tolist() == pytest.approx([40.0] * (len(frame) // 8))


def test_all_seeds_that_are_there_are_in_ours_and_the_title_says_how_many(p, tmp_path, monkeypatch):
    """RL-Multi solves 70% in seed 0 and 50% in seed 1: 60, once all stages of seed 1 are done."""
    other = p.model_copy(update={"seed": 1})
    write(other, "sft", {"sft": 0.2})
    write(other, "experts", {f"rl-{domain}": 0.5 for domain in p.domains})
    write(other, "mixed", {"rl-multi": 0.5})
    write(other, "merges", {f"merge-{method}": 0.3 + 0.1 * (method == "sce") for method in p.merge_methods})
    assert set(our_tables.scores(p)["seeds"]) == {1}, "its stages are not done"
    for stage in schedule.stages_read(p, "rq1"):
        artifacts.finish(other, stage, [], [])
    frame = our_tables.scores(p)
    mixed = frame[frame["model"] == "rl-multi"]
    assert set(frame["seeds"]) == {2} and mixed["score"].tolist() == pytest.approx([60.0] * len(mixed))
    monkeypatch.setattr(our_tables, "figures_folder", lambda name: tmp_path / name)
    our_tables.show_both(p, "scores", rq1_mix_or_merge.plot_benchmark_scores, published_tables.scores(), our_tables.scores)
    assert json.loads((tmp_path / "smoke" / "paper_scores.json").read_text())["title"] == "Ours, smoke, 2 seeds"
    assert our_tables.seed_words(p, frame.assign(seeds=1)) == our_tables.seed_words(p, frame[["model"]]) == "seed 0"


def test_methods_compete_with_mt_opd_and_their_mean_comes_first(p):
    frame = our_tables.methods(p)
    first = frame.groupby("model", sort=False).first()
    assert set(first["benchmark"]) == {"mean"} and first.loc["mt-opd", "place"] == 1
    assert first.loc["merge-sce", "place"] == 2 and first.loc["merge-sce", "score"] == pytest.approx(40)


def test_costs_by_hand(p):
    made_by = artifacts.record(p)
    columns = {"wall_seconds": 1.0, "prompts": 0, "generated_tokens": 0, "trained_tokens": 0, "seed": p.seed}
    rows = {f"rl-{domain}": [(f"rl-{domain}", "rl", 100.0)] for domain in p.domains}
    rows |= {"rl-multi": [("rl-multi", "rl", 250.0)], "mt-opd": [("mt-opd", "distillation", 50.0)]}
    rows |= {"merges": [("merge-ties", "merge", 3.0), ("merge-ties@lambda=2", "analysis", 9.0)]}
    rows |= {"evaluate-merges": [("merges", "selection", 7.0), ("merges", "test", 70.0)]}
    rows |= {"evaluate-mixed": [("mixed", "selection", 4.0), ("mixed", "test", 70.0)]}
    for writer, some in rows.items():
        frame = pd.DataFrame(some, columns=["model", "stage", "device_seconds"]).assign(**columns)
        result_tables.write_table(p, "costs", writer, frame, made_by)
    sums = our_tables.costs(p).groupby("paradigm")["spent"].sum()
    assert sums.to_dict() == {"mixed": 254.0, "merged": 510.0, "distilled": 550.0}
    paper_tables.plot_costs(our_tables.costs(p))  # every part has a name
    other = p.model_copy(update={"seed": 1})
    for writer, some in rows.items():
        frame = pd.DataFrame(some, columns=["model", "stage", "device_seconds"]).assign(**columns | {"seed": 1})
        frame["device_seconds"] *= 3
        result_tables.write_table(other, "costs", writer, frame, made_by)
    for stage in schedule.stages_read(p, "rq1"):
        artifacts.finish(other, stage, [], [])
    sums = our_tables.costs(p).groupby("paradigm")["spent"].sum()
    assert sums.to_dict() == {"mixed": 508.0, "merged": 1020.0, "distilled": 1100.0}
    assert "mean of 2 seeds" in paper_tables.plot_costs(our_tables.costs(p)).axes[0].get_xlabel()


def test_pairs_are_set_against_the_expert_and_beside_averaging_with_sft(p):
    frame = our_tables.pairs(p).set_index(["target", "added", "benchmark"])
    for benchmark in ALL["math"].BENCHMARKS:
        assert frame.loc[("math", "coding", benchmark), "estimate"] == pytest.approx(10)
        assert frame.loc[("math", "sft", benchmark), "estimate"] == pytest.approx(-20)
    first = [("math", "coding", "chain"), ("math", "sft", "chain")]
    assert list(frame.index[:2]) == first and list(frame.index[4:6].droplevel(2)) == [("coding", "math"), ("coding", "sft")]


def test_a_study_without_the_papers_pairs_says_so(p):
    p.domains = ["science", "agent"]
    with pytest.raises(our_tables.NothingToDrawError, match="no pair of the paper among the domains science, agent"):
        our_tables.pairs(p)


def test_overlaps_are_those_of_the_experts_at_both_masks(p):
    rows = [
        (one, other, kind, None, mask, level, precision, 0.3, 0.1)
        for one, other in [("rl-math", "rl-coding"), ("rl-math", "rl-null")]
        for kind, mask, level, precision in [
            ("all", "relative", 0.001, "stored"), ("all", "relative", 0.001, "bf16"), ("all", "relative", 0.01, "stored"),
            ("all", "density", 0.1, "stored"), ("norm", "density", 0.1, "stored"),
        ]
    ]  # fmt: skip
    columns = ["model", "other", "type", "layer", "kind", "level", "precision", "jaccard", "chance"]
    result_tables.write_table(p, "weights_pairs", "measuring", pd.DataFrame(rows, columns=columns), artifacts.record(p))
    frame = our_tables.overlaps(p)
    assert list(frame["pair"]) == ["math-coding"] * 2 and frame["mask"].nunique() == 2
    assert list(frame.columns) == list(our_tables.published_overlaps().columns)


def test_judging_is_of_trajectories_of_its_own_and_may_have_nothing_to_say(p):
    rows = [("own", "rl-math", "math", "process", 40, "accuracy", 80.0), ("shared", "rl-math", "math", "process", 40, "accuracy", 60.0),
            ("own", "rl-math", "math", "process", 40, "auroc", 0.9), ("own", "rl-agent", "agent", "outcome", 0, "accuracy", None)]  # fmt: skip
    columns = ["set", "judge", "domain", "mode", "trajectories", "measure", "estimate"]
    table = pd.DataFrame(rows, columns=columns).assign(low=70.0, high=90.0, seeds=2)
    result_tables.write_table(p, "judging_measures", "rq5", table, artifacts.record(p))
    assert our_tables.judging(p)[["model", "benchmark", "accuracy", "n"]].to_numpy().tolist() == [["rl-math", "math", 80.0, 40]]
    result_tables.write_table(p, "judging_measures", "rq5", table.iloc[1:], artifacts.record(p))
    with pytest.raises(our_tables.NothingToDrawError, match="no model has right and wrong trajectories of its own"):
        our_tables.judging(p)


def test_the_blend_counts_what_the_corpus_holds(smoke, corpus):
    smoke.sft_demonstrations, smoke.sft_general, smoke.sft_judge = 20, 10, 8  # as the fixture `corpus`
    frame = our_tables.blend(smoke).set_index("part")["samples"]
    kinds = pd.Series([example["kind"] for example in corpus]).value_counts()
    domains = pd.Series([e["row"]["domain"] for e in corpus if e["kind"] == "demonstration"]).value_counts()
    assert frame["Judging"] == kinds["judge"] and frame.sum() == len(corpus)
    assert frame["Math"] == domains["math"] and frame["General facts"] == domains["general"]


def test_both_stand_side_by_side_and_what_is_missing_is_named(p, tmp_path, monkeypatch):
    monkeypatch.setattr(our_tables, "figures_folder", lambda name: tmp_path / name)
    told = []
    monkeypatch.setattr("IPython.display.display", lambda words: told.append(words.data))
    shown = our_tables.show_both(
        p, "pairs", paper_tables.plot_pair_changes, our_tables.published_pairs(), our_tables.pairs, part=True
    )
    assert not told and sorted(path.name for path in tmp_path.glob("*/*.png")) == ["pairs.png", "paper_pairs.png"]
    with (
        PIL.Image.open(tmp_path / "published" / "pairs.png") as one,
        PIL.Image.open(tmp_path / "smoke" / "paper_pairs.png") as other,
    ):
        assert shown.width == round(110 * (one.width + other.width) / 300)
    result_tables.table_file(p, "scores", "pairs").unlink()
    (tmp_path / "smoke" / "paper_pairs.png").unlink()
    our_tables.show_both(p, "pairs", paper_tables.plot_pair_changes, our_tables.published_pairs(), our_tables.pairs, part=True)
    assert len(told) == 1 and "left out" in told[0] and "scores/0-pairs.parquet is missing" in told[0]
    assert not (tmp_path / "smoke" / "paper_pairs.png").exists()


def test_a_table_with_an_unknown_model_is_refused_in_one_line(tmp_path):
    table = published_tables.merging().replace("merge-ties", "merge-tiez")
    with pytest.raises(ValueError, match="unknown model 'merge-tiez': allowed are base, sft") as refused:
        drawing.save(rq1_mix_or_merge.plot_benchmark_scores, table, tmp_path, "merging")
    assert "\n" not in str(refused.value) and not list(tmp_path.glob("merging*"))
