"""Our results in the paper's form: by hand from small planted tables, and said where they are missing."""

import json
from itertools import product

import pandas as pd
import PIL.Image
import pytest
from test_figures import check_readable

from m2rl_lib.config import schedule
from m2rl_lib.domains import ALL
from m2rl_lib.figures import our_tables, paper_tables, rq1_mix_or_merge
from m2rl_lib.paper import claim_ledger, claims, published_tables
from m2rl_lib.storage import artifacts, result_tables


def write(p, writer: str, rates: dict[str, float]) -> None:
    """Scores of models with the given share of right problems (of ten), one sample each."""
    benchmarks = [(domain, name) for domain in [*p.domains, "general"] for name in ALL[domain].BENCHMARKS]
    keys = product(rates.items(), benchmarks, ("selection", "test"), range(10))
    rows = [(m, d, b, split, f"{b}-{split}-{i}", float(i < round(10 * rate))) for (m, rate), (d, b), split, i in keys]
    frame = pd.DataFrame(rows, columns=["model", "domain", "benchmark", "split", "problem_id", "correct"])
    frame = frame.assign(seed=p.seed, sample=0, parsed=True, truncated=False, completion_tokens=5)
    result_tables.write_table(p, "scores", writer, frame, artifacts.record(p))


def write_all(p, mixed: float) -> None:
    write(p, "sft", {"sft": 0.2})
    write(p, "experts", {f"rl-{domain}": 0.5 for domain in p.domains})
    write(p, "mixed", {"rl-multi": mixed})
    write(p, "merges", {f"merge-{method}": 0.3 + 0.1 * (method == "sce") for method in p.merge_methods})


@pytest.fixture
def p(smoke):
    write_all(smoke, 0.7)
    write(smoke, "distilled", {"mt-opd": 0.6})
    write(smoke, "pairs", {"merge-average@experts=math+coding": 0.6, "merge-average@experts=math+sft": 0.3,
                           "merge-average@experts=coding+sft": 0.4})  # fmt: skip
    return smoke


def test_scores_have_the_merge_that_selection_chose_and_the_papers_columns(p):
    frame = our_tables.scores(p)
    assert list(pd.unique(frame["model"])) == ["sft", *(f"rl-{domain}" for domain in p.domains), "merge-sce", "rl-multi"]
    assert list(pd.unique(frame["domain"])) == [*p.domains, "general"]
    assert set(published_tables.scores().columns) <= set(frame.columns) and {"low", "high", "n"} <= set(frame.columns)
    assert frame.query("model == 'merge-sce'")["score"].tolist() == pytest.approx([40.0] * (len(frame) // 8))


def test_all_seeds_that_are_there_are_in_ours_and_the_title_says_how_many(p, tmp_path, monkeypatch):
    """RL-Multi solves 70% in seed 0 and 50% in seed 1: 60, once all stages of seed 1 are done."""
    other = p.model_copy(update={"seed": 1})
    write_all(other, 0.5)
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
    first = our_tables.methods(p).groupby("model", sort=False).first()
    assert set(first["benchmark"]) == {"mean"} and first.loc["mt-opd", "place"] == 1
    assert first.loc["merge-sce", "place"] == 2 and first.loc["merge-sce", "score"] == pytest.approx(40)


def test_costs_by_hand(p):
    rows = {f"rl-{domain}": [(f"rl-{domain}", "rl", 100.0)] for domain in p.domains}
    rows |= {"rl-multi": [("rl-multi", "rl", 250.0)], "mt-opd": [("mt-opd", "distillation", 50.0)]}
    rows |= {"merges": [("merge-ties", "merge", 3.0), ("merge-ties@lambda=2", "analysis", 9.0)]}
    rows |= {"evaluate-merges": [("merges", "selection", 7.0), ("merges", "test", 70.0)]}
    rows |= {"evaluate-mixed": [("mixed", "selection", 4.0), ("mixed", "test", 70.0)]}
    other = p.model_copy(update={"seed": 1})
    for one, (writer, some) in product((p, other), rows.items()):
        frame = pd.DataFrame(some, columns=["model", "stage", "device_seconds"])
        frame = frame.assign(wall_seconds=1.0, prompts=0, generated_tokens=0, trained_tokens=0, seed=one.seed)
        frame["device_seconds"] *= 1 + 2 * one.seed
        result_tables.write_table(one, "costs", writer, frame, artifacts.record(p))
    sums = our_tables.costs(p).groupby("paradigm")["spent"].sum()
    assert sums.to_dict() == {"mixed": 254.0, "merged": 510.0, "distilled": 550.0}
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
    masks = [("all", "relative", 0.001, "stored"), ("all", "relative", 0.001, "bf16"), ("all", "relative", 0.01, "stored")]
    masks += [("all", "density", 0.1, "stored"), ("norm", "density", 0.1, "stored")]
    rows = [("rl-math", other, *mask) for other in ("rl-coding", "rl-null") for mask in masks]
    table = pd.DataFrame(rows, columns=["model", "other", "type", "kind", "level", "precision"])
    table = table.assign(layer=None, jaccard=0.3, chance=0.1)
    result_tables.write_table(p, "weights_pairs", "measuring", table, artifacts.record(p))
    frame = our_tables.overlaps(p)
    assert list(frame["pair"]) == ["math-coding"] * 2 and frame["mask"].nunique() == 2
    assert list(frame.columns) == list(our_tables.published_overlaps().columns)


def test_judging_is_of_the_papers_judges_on_trajectories_of_their_own_and_may_have_nothing_to_say(p):
    rows = [("own", "rl-multi", "math", "process", 40, "accuracy", 80.0), ("own", "rl-multi", "agent", "process", 40, "accuracy", 60.0),
            ("own", "rl-math", "math", "process", 40, "accuracy", 70.0), ("own", "rl-multi", "math", "process", 40, "auroc", 0.9),
            ("shared", "rl-multi", "math", "process", 40, "accuracy", 60.0)]  # fmt: skip
    columns = ["set", "judge", "domain", "mode", "trajectories", "measure", "estimate"]
    table = pd.DataFrame(rows, columns=columns).assign(low=70.0, high=90.0, seeds=2)
    result_tables.write_table(p, "judging_measures", "rq5", table, artifacts.record(p))
    found = our_tables.judging(p)[["benchmark", "accuracy"]].to_numpy().tolist()
    assert found == [["our mean", 70.0], ["math", 80.0], ["agent", 60.0]]
    result_tables.write_table(p, "judging_measures", "rq5", table.iloc[2:3], artifacts.record(p))
    with pytest.raises(our_tables.NothingToDrawError, match="no model that the paper has as a judge"):
        our_tables.judging(p)


def test_changes_against_sft_stand_beside_the_papers_in_one_row_order(p):
    frame = our_tables.changes(p)
    ours, published = (frame[frame["source"] == source].set_index(["domain", "model"]) for source in ("ours", "published"))
    assert ours["change"].groupby("model").first().to_dict() == pytest.approx(
        dict.fromkeys([f"rl-{domain}" for domain in p.domains], 30) | {"rl-multi": 50, "merged-best": 20}
    )
    sft, multi = (
        published_tables.scores().query("model == @name and domain == 'math'")["score"].mean() for name in ("sft", "rl-multi")
    )
    assert published.loc[("math", "rl-multi"), "change"] == pytest.approx(multi - sft)
    mean = (
        frame[(frame["source"] == "published") & (frame["domain"] != "overall")]
        .set_index("model")["change"]
        .groupby(level=0)
        .mean()
    )
    assert published.loc["overall", "change"].to_dict() == pytest.approx(mean.to_dict())
    assert set(frame["domains"]) == {4} and ("agent", "rl-multi") in ours.index and "agent" not in published.index
    models = [name for name in pd.unique(frame["model"]) if name not in ("rl-agent",)]
    assert models == ["rl-math", "rl-coding", "rl-science", "rl-instruction_following", "merged-best", "rl-multi"]
    check_readable(paper_tables.plot_changes(frame))
    assert set(our_tables.changes(p, methods=True)["model"]) == {*schedule.defaults(p), "mt-opd"}


def test_whether_ours_agrees_follows_from_the_ledger():
    ledger = claim_ledger.ledger(claims.list_claims(3.0), {})
    assert sorted(ledger["id"]) == sorted(set(ledger["id"])) and all(
        our_tables.agreement(ledger, figure).startswith("**Cannot be compared** (RQ") for figure in our_tables.FINDINGS
    )
    row = ledger.assign(verdict="contradicted", estimate=1.0, low=0.5, high=1.5)
    assert our_tables.agreement(row, "costs").startswith("**Does not agree** (RQ1.2, Mixing costs less")
    assert "Ours: RL-Multi's cost over the experts', 1.00 [0.50, 1.50]." in our_tables.agreement(row, "costs")


def test_the_blend_counts_what_the_corpus_holds(smoke, corpus):
    smoke.sft_demonstrations, smoke.sft_general, smoke.sft_judge = 20, 10, 8  # as the fixture `corpus`
    frame = our_tables.blend(smoke).set_index("part")["samples"]
    kinds = pd.Series([example["kind"] for example in corpus]).value_counts()
    domains = pd.Series([e["row"]["domain"] for e in corpus if e["kind"] == "demonstration"]).value_counts()
    assert frame["Judging"] == kinds["judge"] and frame.sum() == len(corpus)
    assert frame["Math"] == domains["math"] and frame["General facts"] == domains["general"]


def test_both_stand_side_by_side_and_what_is_missing_is_named(p, tmp_path, monkeypatch):
    monkeypatch.setattr(our_tables, "figures_folder", lambda name: tmp_path / name)
    said, both = [], ("pairs", paper_tables.plot_pair_changes, our_tables.published_pairs(), our_tables.pairs)
    monkeypatch.setattr("IPython.display.display", lambda words: said.append(words.data))
    shown = our_tables.show_both(p, *both, part=True)
    pictures = [tmp_path / "published" / "pairs.png", tmp_path / "smoke" / "paper_pairs.png"]
    assert not said and sorted(tmp_path.glob("*/*.png")) == pictures
    assert shown.width == round(110 * sum(PIL.Image.open(path).width for path in pictures) / 300)
    result_tables.table_file(p, "scores", "pairs").unlink()
    pictures[1].unlink()
    our_tables.show_both(p, *both, part=True)
    assert len(said) == 1 and "left out" in said[0] and "scores/0-pairs.parquet is missing" in said[0]
    assert not pictures[1].exists()
