"""RQ6's map in tabular worlds: in one merging must lose, in one it must tie, in one nobody learns; what follows from it is known."""

import re
from itertools import product

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle
from scipy import stats
from test_bootstrap import cell
from test_figures import check_readable

from m2rl_lib.analysis.rq6_when import decisions, points, prediction
from m2rl_lib.config import locations, map_schedule, schedule, study
from m2rl_lib.config.locations import ROOT
from m2rl_lib.config.study import Parameters
from m2rl_lib.figures import rq6_when

DOMAINS, BUDGETS, SEEDS = ["math", "coding"], [0.5, 1.0], [0, 1, 2]
WORLDS = [{"shared": 6 - c, "private": 0, "conflicting": c} for c in (0, 2, 4, 6)]
NAMES = ["s6p0c0", "s4p0c2", "s2p0c4", "s0p0c6"]


@pytest.fixture(scope="module")
def p() -> Parameters:
    values = study.load(ROOT / "params" / "smoke_map.yaml").model_dump()
    values |= {
        "map_worlds": WORLDS,
        "map_budgets": BUDGETS,
        "merge_methods": ["average", "task-arithmetic"],
        "analysis_draws": 300,
    }
    return Parameters.model_construct(**values)


def policies(conflicting: int, strength: float) -> dict[str, np.ndarray]:
    """Logits of the right reading of six words, (2 domains, 6), of policies with a part for all domains and one for each. Training on
    a domain moves both parts of its words by `strength`; a merge averages or adds the experts' parts. Mixing learns all it is shown:
    a sum of experts has as much of a shared word, and half as much of a conflicting one, whose common parts cancel."""
    signs = np.ones((2, 6))
    signs[1, 6 - conflicting :] = -1  # of the reading that is right in each domain
    tasks = np.zeros((2, 3, 6))  # expert × (common part, math's, coding's) × word
    for at, sign in enumerate(signs):
        tasks[at, [0, at + 1]] = strength * sign
    found = {f"rl-{name}": task for name, task in zip(DOMAINS, tasks)}
    found |= {"merge-average": tasks.mean(axis=0), "merge-task-arithmetic": tasks.sum(axis=0), "sft": 0 * tasks[0]}
    apart = np.where(signs[0] == signs[1], 3, 2) * strength  # words that are read alike are trained twice
    mixed = np.stack([0 * signs[0], *(apart * signs)])
    found |= {"rl-multi": mixed, "mt-opd": 0.98 * mixed, "sft-sharpened": 0 * tasks[0]}
    return {name: signs * (theta[0] + theta[1:]) for name, theta in found.items()} | {"tasks": tasks}


def scored(p: Parameters, conflicting: int, strength: float, n: int = 300) -> pd.DataFrame:
    """A world's `scores` of those policies, at half the strength at the half budget; problems' luck is common to the models."""
    frames = []
    for budget, split, seed, (at, domain) in product(BUDGETS, ("selection", "test"), SEEDS, enumerate(DOMAINS)):
        named = schedule.at_budget(p, budget) | ({"sft": "sft", "sft-sharpened": "sft-sharpened"} if budget == 1 else {})
        rng, made = np.random.default_rng([seed, at]), policies(conflicting, budget * strength)
        luck, words = rng.random((n, 2)), rng.integers(0, 6, (n, 1))
        for name, kept in named.items():
            own = np.where(rng.random((n, 2)) < 0.05, rng.random((n, 2)), luck)
            right = own < 1 / (1 + np.exp(-made[name][at][words]))
            frames.append(cell(right, kept, domain, seed=seed, split=split))
    return pd.concat(frames, ignore_index=True)


def the_map(p: Parameters, strengths: dict[str, float]) -> tuple[dict, pd.DataFrame]:
    """The frames of the map's points and their table."""
    scores = {name: scored(p, world["conflicting"], strengths.get(name, 2.0)) for name, world in zip(NAMES, WORLDS)}
    found = {(name, budget): points.at_point(scores[name], p, budget) for name, budget in product(NAMES, BUDGETS)}
    frames, best = {point: frame for point, (frame, _) in found.items()}, {point: best for point, (_, best) in found.items()}
    greedy = {
        name: rows[(rows["split"] == "test") & (rows["sample"] == 0)] for name, rows in scores.items()
    }  # one sample a problem
    return frames, points.point_table(frames, p, best, greedy)


@pytest.fixture(scope="module")
def planted(p) -> tuple[dict, pd.DataFrame]:
    return the_map(p, {})


@pytest.fixture(scope="module")
def unlearned(p) -> tuple[dict, pd.DataFrame]:
    return the_map(p, {"s0p0c6": 0.0})


def test_merging_loses_where_all_words_conflict_and_ties_where_none_does(p, planted):
    _, table = planted
    main = table[(table["contrast"] == points.MAIN) & (table["budget"] == 1)].set_index("world")
    assert list(main["best"].unique()) == ["merge-task-arithmetic"] and main["learned"].all()
    lost = 100 * (1 / (1 + np.exp(-4)) - 1 / (1 + np.exp(-2)))  # a word's logit is 4 mixed and, in conflict, 2 merged
    assert main.loc["s0p0c6", "estimate"] == pytest.approx(lost, abs=2) and main.loc["s0p0c6", "verdict"] == "better"
    assert main.loc["s6p0c0", "verdict"] == "equivalent" and main["conflict"].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    once = table[(table["contrast"] == points.GREEDY) & (table["budget"] == 1)].set_index("world")["estimate"]
    assert once["s0p0c6"] == pytest.approx(lost, abs=3) and abs(once["s6p0c0"]) < 1
    full, none = points.sentences(table)
    assert full.startswith("100% of words") and none.startswith("0% of words")
    assert all(": as predicted." in line for line in (full, none))
    wide = table.assign(estimate=4.8, low=-6.0, high=15.0, low90=-4.0, high90=13.0, verdict="undecided")
    assert all(": undecided." in line for line in points.sentences(wide))
    far = wide.assign(estimate=-7.0, low=-9.0, high=-5.0, low90=-8.5, high90=-5.5)
    assert all(": not as predicted." in line for line in points.sentences(far))


def test_the_line_of_equality_lies_where_the_sign_changes(planted):
    main = planted[1][planted[1]["contrast"] == points.MAIN].sort_values(["budget", "conflict"])
    verdicts = ["worse", "undecided", "better", "better"]
    made = main.assign(estimate=[-2.0, -1, 1, 6, -3, 1, 2, 3], verdict=[*verdicts, "worse", *["better"] * 3])
    assert points.equalities(made).to_numpy().tolist() == [
        [0.5, "s4p0c2", "s2p0c4", pytest.approx(0.5), False],
        [1.0, "s6p0c0", "s4p0c2", pytest.approx(0.25), True],
    ]
    assert points.equalities(made.assign(conflict=0.5)).empty  # two worlds of one conflict: what changed the sign is not conflict


def test_a_budget_of_as_many_prompts_is_compared_where_the_map_has_it(p, planted):
    frames, table = planted
    assert points.matched_budget(p, 0.5) == 0.5  # two experts of 4 steps, 8 mixed ones
    assert table["contrast"].eq(points.MATCHED).sum() == 8
    four = p.model_copy(update={"rlvr_mixed_steps": 4})  # half as many mixed: the merge of half the experts' steps
    matched = points.with_matched(frames, four, ("s0p0c6", 1.0))
    mixed, merged = (frames["s0p0c6", budget] for budget in (1.0, 0.5))
    pd.testing.assert_frame_equal(
        matched, pd.concat([mixed.query("model == 'rl-multi'"), merged.query("model == 'merged-best'")], ignore_index=True)
    )
    assert points.with_matched(frames, four, ("s0p0c6", 0.5)) is None


def test_a_point_whose_experts_did_not_learn_is_hatched_and_advises_nothing(p, unlearned):
    frames, table = unlearned
    main = table[table["contrast"] == points.MAIN]
    assert set(main.loc[~main["learned"], "world"]) == {"s0p0c6"}
    assert "s0p0c6" not in points.equalities(table)[["from", "to"]].to_numpy()
    assert "not tested, as the experts did not learn" in points.sentences(table)[0]
    figure = rq6_when.plot_map(main)
    hatched = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle) and patch.get_hatch()]
    assert [patch.get_y() for patch in hatched] == [3, 3] and len(figure.axes[0].lines) >= 1
    check_readable(figure)
    advice = decisions.decision_table(frames, p, table).set_index("world")["use"]
    said = decisions.sentence(decisions.decision_table(frames, p, table))
    assert (
        said.startswith("What to use (4 worlds, seeds: 3) after all RL steps, with experts only: ")
        and said.count(decisions.NOTHING) == 3
        and re.search(r"Routed experts in 2 \(by 2\.\d \[1\.\d, 3\.\d\] to 6\.\d \[", said)
    )
    assert set(advice["s0p0c6"]) == {decisions.NOTHING} and decisions.NOTHING not in set(advice["s6p0c0"])


def test_advice_follows_the_planted_world(p, planted):
    frames, table = planted
    advice = decisions.decision_table(frames, p, table)
    last = advice[advice["budget"] == 1].set_index(["you have", "world"])
    assert last.loc[("experts only", "s0p0c6"), "use"] == "Routed experts"
    assert last.loc[("data only", "s0p0c6"), "use"] == "RL-Multi" and last.loc[("data only", "s0p0c6"), "equal_prompts"]
    assert last.loc[("data only", "s6p0c0"), "use"] == decisions.EITHER
    both = last.loc[("experts and data", "s0p0c6")]
    assert {both["first"], both["second"]} <= {"rl-multi", "mt-opd", "routed"} and both["use"] == decisions.EITHER, both


def measures(p: Parameters, world: str) -> tuple[pd.DataFrame, ...]:
    """The tables of notebook 09 for the tabular experts: their cosine as it is, the others made to follow it."""
    cosines, pairs, kls = [], [], []
    for seed, budget in product(SEEDS, BUDGETS):
        one, other = (schedule.at_budget(p, budget)[f"rl-{domain}"] for domain in DOMAINS)
        flat = policies(WORLDS[NAMES.index(world)]["conflicting"], budget)["tasks"].reshape(2, -1)
        cosine = flat[0] @ flat[1] / np.linalg.norm(flat, axis=1).prod()
        row = {"model": one, "other": other, "type": "all", "layer": pd.NA, "seed": seed}
        cosines.append(row | {"cosine": cosine})
        pairs += [row | {"kind": "density", "level": level, "jaccard": level * (1 + cosine)} for level in (0.05, 0.1)]
        for (domain, far), problem in product(zip(DOMAINS, DOMAINS[::-1]), range(4)):
            for target, kl in ((f"rl-{far}", 1 - cosine), ("sft", 1.0)):
                named = {"domain": domain, "source": f"rl-{domain}", "target": target, "problem_id": f"p{problem}", "sample": 0}
                kls.append(named | {"kl": kl, "tokens": 5, "truncated": False, "seed": seed, "budget": budget})
    return tuple(map(pd.DataFrame, (cosines, pairs, kls)))


@pytest.fixture(scope="module")
def every(p, planted) -> pd.DataFrame:
    frames, _ = planted
    return pd.concat([prediction.seed_points(frame, p, *point, *measures(p, point[0])) for point, frame in frames.items()])


def test_measures_of_the_experts_are_those_that_were_planted(every):
    last = every[(every["budget"] == 1) & (every["seed"] == 0)].set_index("world")
    assert last["cosine"].tolist() == pytest.approx([0.5, 1 / 6, -1 / 6, -0.5])  # the common part's half, less the conflict
    assert last["overlap"].tolist() == pytest.approx((0.1 * (1 + last["cosine"])).tolist())
    assert last["ratio"].tolist() == pytest.approx((1 - last["cosine"]).tolist())
    transfer = 100 * (
        1 / (1 + np.exp(-2)) - 0.5
    )  # an expert knows shared words elsewhere by the common part, and misreads others
    assert last["transfer"].tolist() == pytest.approx([transfer, transfer / 3, -transfer / 3, -transfer], abs=5)
    assert len(every) == 4 * 2 * 3
    check_readable(rq6_when.plot_predictors(every))
    crossed = rq6_when.plot_predictors(every.assign(learned=every["world"] != "s0p0c6"))
    check_readable(crossed)
    assert [line.get_marker() for line in crossed.axes[0].lines].count("x") == 2  # one world at two budgets


def test_what_follows_the_world_predicts_it_and_noise_does_not(every):
    five = pd.concat([every, every.query("world == 's4p0c2'").assign(world="s2p2c2", cosine=0.3, conflict=1 / 3)])
    rng = np.random.default_rng(0)
    linear = five.assign(difference=3 - 10 * five["cosine"] + rng.normal(0, 0.5, len(five)), overlap=rng.normal(0, 1, len(five)))
    errors = prediction.error_table(linear).set_index("predictor")
    cosine, guess, noise = (errors.loc[name] for name in ("cosine of task vectors", "constant guess", "mask overlap"))
    assert cosine["rmse"] < 1 < 3 < guess["rmse"] and cosine["p"] == cosine["p_least"] == 1 / 120 and cosine["signs"] > 80
    assert noise["rmse"] > 3 and noise["p"] > 0.05 and (cosine["worlds"], cosine["points"]) == (5, 30)
    said = prediction.sentence(errors.reset_index())
    assert said.startswith("cosine of task vectors, ") and "mask overlap" not in said.split("(")[0]
    flat = five.assign(difference=rng.normal(4, 1, len(five)))
    assert prediction.sentence(prediction.error_table(flat)).startswith("No measure of the experts is shown to predict")
    assert not prediction.error_table(five.assign(ratio=np.nan)).size


def test_a_world_is_predicted_from_the_others_alone():
    y = np.array([[1.0], [2.0], [6.0]])
    assert prediction.predict(0 * y, y).ravel().tolist() == pytest.approx([4, 3.5, 1.5])
    x = np.array([[0.0, 0.0], [1.0, np.nan], [2.0, 2.0]])
    line = prediction.predict(x, np.array([[1.0, 1], [3, 3], [9, 9]]))
    assert line[0].tolist() == pytest.approx([-3, -3])  # the line through (1, 3) and (2, 9)
    assert line[1, 0] == pytest.approx(5) and np.isnan(line[1, 1]) and line[2, 0] == pytest.approx(5)
    alike = prediction.predict(np.array([[1 / 3], [1 / 3], [1.0]]), np.array([[6.0], [6], [10]]))
    assert alike[2, 0] == pytest.approx(6)  # no slope can be known from worlds that are alike


def test_a_point_that_did_not_learn_is_not_exchanged(every):
    gap = every["world"].eq("s0p0c6") & every["budget"].eq(0.5)
    errors = prediction.error_table(every.assign(difference=every["difference"].mask(gap)))
    assert errors["points"].eq(12).all() and errors["worlds"].eq(4).all()


def test_what_conflict_does_is_paired_by_seed(every):
    """A seed that moves every world alike leaves the slope; with three seeds its t interval is ±4.30 sd / √3."""
    moved = every.assign(difference=8 * every["conflict"] + 30 * (every["seed"] == 1) + every["seed"] * every["conflict"])
    said = prediction.conflict_sentence(moved, 3.0)
    half = stats.t.ppf(0.975, 2) / 3**0.5
    assert said.startswith("Mixing gains on merging as words conflict")
    assert f"changes by +9.0 points [{9 - half:.1f}, {9 + half:.1f}] (by seed: +8.0, +9.0, +10.0)" in said
    noisy = moved.assign(difference=[-20, 0, 20, 5] * (len(moved) // 4))
    assert prediction.conflict_sentence(noisy, 3.0).startswith("It is undecided")
    one = moved[moved["seed"] == 0]
    assert "one seed has no spread" in prediction.conflict_sentence(one, 3.0)
    assert "cannot be said" in prediction.conflict_sentence(one[one["world"] == "s0p0c6"], 3.0)


def test_points_are_counted_by_who_is_ahead(planted):
    assert points.counts_sentence(planted[1]).startswith(
        "Mixing is ahead in 6 and merging in 0 of the map's 8 cells (a world and a budget)"
    )


def test_two_worlds_predict_nothing(every):
    errors = prediction.error_table(every[every["world"].isin(NAMES[:2])])
    assert errors.empty and "Nothing is predicted: fewer than 3 worlds" in prediction.sentence(errors)


def test_what_each_way_spends_by_hand():
    rows = [("rl-math", "rl", 10), ("rl-coding", "rl", 20), ("rl-multi", "rl", 40), ("mt-opd", "distillation", 5)]
    rows += [("merge-ties", "merge", 1), ("merge-ties@step=2", "analysis", 1), ("map", "test", 90)]
    costs = pd.DataFrame(rows, columns=["model", "stage", "prompts"]).assign(generated_tokens=0, device_seconds=0)
    both = pd.concat([costs.assign(world="a", seed=0), costs.assign(world="b", seed=0, prompts=2 * costs["prompts"])])
    spent = points.costs_by_way(both)["prompts"]
    assert spent.to_dict() == {"experts": 45, "rl-multi": 60, "mt-opd": 7.5, "merges": 3}


def test_worlds_and_their_stages(p):
    worlds = map_schedule.worlds(p)
    assert list(worlds) == NAMES and worlds["s4p0c2"].study == "smoke_map-s4p0c2"
    assert all(
        {key for key, value in vars(world).items() if getattr(p, key) != value} <= {"study", "data_world"}
        for world in worlds.values()
    )
    stages = map_schedule.stages(p)
    assert stages["mt-opd@teacher_step=2"][2] == {"teacher_step": 2} and stages["mt-opd"][2] == {"teacher_step": 0}
    asked = stages["evaluate-map"][2]["models"]
    assert {"sft", "rl-math@step=2", "rl-math", "rl-multi@step=4", "rl-multi", "merge-average@step=2", "mt-opd"} <= {*asked}
    assert len(asked) == len({*asked}) == 1 + 2 * (2 + 2 + 1 + 1)
    made = {*schedule.merges(p)}
    assert {name for name in asked if name.startswith("merge-")} == made
    kept = {schedule.checkpoint_name(f"rl-{domain}", step, 4) for domain in DOMAINS for step in schedule.expert_checkpoints(p)}
    kept |= {*schedule.kept_mixed(p), "sft", *made, "mt-opd", "mt-opd@teacher_step=2"}
    assert {*asked} <= kept, "every model is one that a stage keeps"


def test_a_seed_is_in_the_map_once_every_world_has_what_is_read(p, tmp_path, monkeypatch):
    monkeypatch.setattr(locations, "RUNS", tmp_path)
    assert map_schedule.seeds_there(p) == [0] == map_schedule.seeds_there(p.model_copy(update={"map_worlds": []}))
    for world, name, number in product(map_schedule.worlds(p).values(), map_schedule.NEEDED, (1, 2)):
        if (world.study, name, number) != ("smoke_map-s0p0c6", "measuring", 2):
            file = locations.done_file(world.study, number, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    assert map_schedule.seeds_there(p) == [0, 1]
