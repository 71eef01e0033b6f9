"""The claim ledger: the rule by hand, and planted worlds in which every claim is true, false, or too small to tell."""

from itertools import combinations, product

import numpy as np
import pandas as pd
import publish
import pytest
from test_bootstrap import cell

from m2rl_lib.config.locations import ROOT
from m2rl_lib.config.study import Parameters
from m2rl_lib.paper import claim_ledger, claims, estimates, published_evidence, published_tables, score_tables
from m2rl_lib.paper.claim_ledger import CONTRADICTED, NOT_TESTABLE, SUPPORTED, UNDECIDED, Claim, Found, NotTestable
from m2rl_lib.storage import artifacts, result_tables

MARGIN = 3.0
TABLES = ROOT / "figures" / "study" / "tables"
DOMAINS = ["math", "coding", "science", "instruction_following"]
EXPERTS = [f"rl-{domain}" for domain in DOMAINS]


def claim(found, **changes) -> Claim:
    usual = {"question": "RQ1", "claim": "c", "quantity": "q", "unit": "points", "published": (1.0, "one"), "above": 0.0}
    return Claim(**usual | changes, measure=lambda tables: found)


def row_of(found, **changes) -> pd.Series:
    return claim_ledger.ledger([claim(found, **changes)], {}).iloc[0]


def verdict(found, **changes) -> str:
    return row_of(found, **changes)["verdict"]


def test_p_is_what_the_interval_says():
    found = Found(4.0, 1.0, 7.0, "9 problems")
    assert claim_ledger.p_beyond(found, 1.0, upward=True) == pytest.approx(0.025)
    assert claim_ledger.p_beyond(found, 4.0, upward=True) == pytest.approx(0.5)
    assert claim_ledger.p_region(claim(found, above=1.0), found, inside=True) == pytest.approx(0.05)
    assert claim_ledger.p_region(claim(found, above=7.0), found, inside=False) == pytest.approx(0.05)
    few = Found(4.0, 1.0, 7.0, "9 problems", seeds=3, df=2)  # the same edge, but a longer tail
    assert claim_ledger.p_region(claim(few, above=1.0), few, inside=True) == pytest.approx(0.05)
    assert claim_ledger.p_beyond(few, 0.0, upward=True) > claim_ledger.p_beyond(found, 0.0, upward=True)
    assert claim_ledger.seen(found) == pytest.approx(3 * (1.96 + 0.8416) / 1.96, abs=0.01)


@pytest.mark.parametrize(
    ("limits", "region", "expected"),
    [
        ((4, 1, 7), {"above": 0.0}, SUPPORTED),
        ((-4, -7, -1), {"above": 0.0}, CONTRADICTED),
        ((1, -2, 4), {"above": 0.0}, UNDECIDED),
        ((-4, -7, -1), {"above": -np.inf, "below": 0.0}, SUPPORTED),
        ((0, -3.2, 3.2), {"above": -3.0, "below": 3.0, "equivalence": True}, SUPPORTED),  # its 90% interval is ±2.7
        ((0, -3.2, 3.2), {"above": -3.0, "below": 3.0}, UNDECIDED),
        ((6, 3.5, 8.5), {"above": -3.0, "below": 3.0, "equivalence": True}, CONTRADICTED),
        ((2, 0.5, 3.5), {"above": -3.0, "below": 3.0}, UNDECIDED),
        ((5, 5, 5), {"above": 0.0}, NOT_TESTABLE),  # no spread is no certainty
    ],
)
def test_a_verdict_is_where_the_interval_lies(limits, region, expected):
    assert verdict(Found(*limits, "9 problems"), **region) == expected


def test_all_parts_must_hold_and_one_suffices_against():
    good, weak, bad = (Found(*limits, "1") for limits in ((5, 4, 6), (1, -1, 3), (-5, -6, -4)))
    assert verdict([good, good]) == SUPPORTED
    assert verdict([good, weak]) == UNDECIDED
    assert verdict([good, weak, bad]) == CONTRADICTED
    looked = [Found(-1.0, -1.95, -0.05, "1")] + 9 * [weak]  # shown alone (p 0.04), not among ten looks
    assert verdict(looked[:1]) == CONTRADICTED and verdict(looked) == UNDECIDED
    assert verdict(looked, joint=True) == CONTRADICTED  # simultaneous intervals have paid for the looks


def test_bonferroni_over_all_primary_claims_whatever_the_others_say():
    def missing(tables):
        raise NotTestable("stage missing")

    close = claim(Found(2.1, 0.1, 4.1, "9 problems"), primary=True)  # p 0.04
    absent = Claim("RQ2", "c", "q", "points", published_evidence.UNREAD, missing, above=0.0, primary=True)
    looks = (([close], None), ([close, absent], None), ([absent, close], "RQ1"))
    alone, both, asked = (claim_ledger.ledger(some, {}, question).iloc[0] for some, question in looks)
    assert alone["verdict"] == SUPPORTED and both["verdict"] == UNDECIDED
    assert both["p_adjusted"] == pytest.approx(2 * both["p"])
    pd.testing.assert_series_equal(both, asked)
    said = claim_ledger.claim_sentence(both)
    assert claim_ledger.after_adjustment(alone) == "" and "minimum detectable" not in said
    assert "; undecided by the adjustment for several tests alone, p = 0.079, claimed" in said


def test_benjamini_hochberg_within_a_question():
    sure, close = Found(9, 8, 10, "1"), Found(2.1, 0.1, 4.1, "1")
    both = claim_ledger.ledger([claim(close), claim(sure)], {})
    assert both["p_adjusted"].iloc[0] == pytest.approx(both["p"].iloc[0])
    other = claim_ledger.ledger([claim(close), claim(Found(0.1, -5, 5, "1")), claim(sure, question="RQ2")], {})
    assert other["p_adjusted"].iloc[0] == pytest.approx(2 * other["p"].iloc[0])


def test_counts_have_no_p_and_need_their_whole_range():
    ratio = {"above": -np.inf, "below": 1.0, "unit": "ratio"}
    assert verdict(Found(0.6, 0.4, 0.9, "5 experts", counted=True), **ratio) == SUPPORTED
    assert verdict(Found(0.6, 0.4, 1.1, "5 experts", counted=True), **ratio) == UNDECIDED
    row = row_of(Found(1.5, 1.5, 1.5, "5 experts", counted=True), **ratio)
    assert row["verdict"] == CONTRADICTED and np.isnan(row["p"]) and "a count, not a sample" in claim_ledger.claim_sentence(row)


def test_an_equivalence_is_decided_by_the_90_percent_interval():
    found = Found(1.0, -0.96, 2.96, "9 problems")
    ends = [row_of(found, above=-3.0, below=3.0, equivalence=same)[["decides_low", "decides_high"]].tolist() for same in (0, 1)]
    assert ends[0] == pytest.approx([-0.96, 2.96]) and ends[1] == pytest.approx([1 - 1.645, 1 + 1.645], abs=1e-3)


def test_sentences_of_every_verdict_are_one_line():
    found = [Found(*limits, "9 problems") for limits in ((4, 1, 7), (-4, -7, -1), (1, -2, 4), (0, 0, 0))]
    lines = [claim_ledger.claim_sentence(row_of(one)) for one in found]
    assert "supported. Q: +4.0 points [1.0, 7.0], claimed above 0 points" in lines[0] and "contradicted" in lines[1]
    assert "4.3 points beyond the edge is the minimum detectable effect" in lines[2] and "came out alike" in lines[3]
    assert not any("\n" in line or "nan" in line for line in lines)


RIGHT = {  # gains over SFT in points, by what is trained and tested, in a world in which the paper is right
    "reasoning on reasoning": 10, "form on reasoning": 10, "reasoning on form": 1, "rl-multi": 19, "merge-ties": 20,
    "merge-average": {"math": 28, "coding": 4, "science": 15, "instruction_following": 15},
    "merge-sce": {"math": 4, "coding": 28, "science": 15, "instruction_following": 15}, "mt-opd": 18.5,
}  # fmt: skip
WRONG = RIGHT | {
    "reasoning on reasoning": -10, "form on reasoning": 0, "reasoning on form": 10, "rl-multi": 8, "merge-sce": 32,
    "merge-average": 10, "mt-opd": 8,
}  # fmt: skip


def gain(model: str, domain: str, gains: dict) -> float:
    form = domain == "instruction_following"
    if model == f"rl-{domain}":
        return 20
    if model in EXPERTS:
        kind = "form on reasoning" if model == "rl-instruction_following" else f"reasoning on {'form' if form else 'reasoning'}"
        return gains[kind]
    value = gains.get(model, 0)
    return value[domain] if isinstance(value, dict) else value


def scores_of(gains: dict, n: int, seeds: int = 1, split: str = "test", own: float = 0.02) -> pd.DataFrame:
    """Two benchmarks per domain, n problems, one sample of each; a share `own` of a model's samples has luck of its own."""
    rng, frames = np.random.default_rng(0), []
    models = ["sft", *EXPERTS, "rl-multi", "merge-ties", "merge-average", "merge-sce", "mt-opd"]
    for seed, domain, kind in product(range(seeds), DOMAINS, ("", "-shifted")):
        luck = rng.random((n, 1))
        for model in models:
            drawn = np.where(rng.random((n, 1)) < own, rng.random((n, 1)), luck)
            frames.append(cell(drawn < 0.4 + gain(model, domain, gains) / 100, model, domain, domain + kind, seed, split))
    return pd.concat(frames, ignore_index=True)


def weights_of(excess: float, noise: float, value: str, rng) -> pd.DataFrame:
    """Pairs of five experts and RL-Null: 0.2 with RL-Null, `excess` more among themselves."""
    names = ["rl-math", "rl-coding", "rl-science", "rl-agent", "rl-instruction_following", "rl-null"]
    pairs = list(combinations(names, 2))
    values = [0.2 + (0 if "rl-null" in pair else excess + noise * rng.standard_normal()) for pair in pairs]
    masks = {"kind": "density", "level": 0.1, "precision": "stored", "matched": 0.1}
    frame = pd.DataFrame(pairs, columns=["model", "other"]).assign(type="all", layer=pd.NA, seed=0, **{value: values})
    return frame.assign(**masks) if value == "jaccard" else frame


def tables_of(estimate: float, half: float, rng) -> dict[str, pd.DataFrame]:
    """The tables that no scores give, each with this estimate and half-width, in units of what decides it."""
    span = {"low": estimate - half, "high": estimate + half, "seeds": 1, "reason": ""}
    rho = 0.3 - 0.3 * min(estimate, 1)  # 1 and more: no correlation; −1: 0.6
    cost = {"stage": "rl", "seed": 0, "prompts": 100.0, "generated_tokens": 100.0, "device_seconds": 100.0}
    mixed = 400 - 150 * np.clip(estimate, -2, 2)  # device-seconds, against 400 of the experts
    wide = 450 if half > 2 else mixed  # and prompts that say the opposite, where nothing is sure
    runs = [{**cost, "model": name} for name in EXPERTS]
    spent = {"model": "rl-multi", "device_seconds": mixed, "prompts": wide, "generated_tokens": mixed}
    claimed = ["contrast", "process on logic", "outcome on instructions"]
    keeps = ["keeps process on logic", "keeps outcome on instructions"]
    judged = [("single experts", name) for name in claimed] + [("RL-Multi", name) for name in keeps]
    return {
        "costs": pd.DataFrame([*runs, cost | spent]),
        "rank_correlations": pd.DataFrame([{"x": "kl", "y": "delta", "rho": rho, "low": rho - 0.12 * half, "high": rho + 0.12 * half,
                                            "points": 60, "targets": 12, "verdict": "undecided"}]),
        "predictors": pd.DataFrame([{"one": "neighbours, the paper's rule", "other": "KL", "gain": estimate, "domains": 5, "df": 4} | span]),
        "neighbour_groups": pd.DataFrame([{"against": "merge(A, SFT)", "group": "neighbour − not", "estimate": estimate, "pairs": 9,
                                           "n": 300, "verdict": "better"} | span]),
        "neighbour_tests": pd.DataFrame([{"domain": one, "expert": other, "label": "neighbour", "against": "merge(A, SFT)", "n": 100}
                                         | span | {"estimate": gain, "low": gain - half / 2, "high": gain + half / 2}
                                         for one, other, gain in (("math", "coding", estimate), ("coding", "math", 0.0))]),
        "weights_pairs": weights_of(estimate / 20, half / 40, "jaccard", rng),
        "weights_cosines": weights_of(estimate / 20, half / 40, "cosine", rng),
        "skills": pd.DataFrame([{"model": "rl-multi", "over": "overall", "measure": "excess", "estimate": 2 + estimate, "n": 125,
                                 "k": 32} | span | {"low": 2 + span["low"], "high": 2 + span["high"]}]),
        "coverage": pd.DataFrame([{"over": "overall", "model": name, "reference": "sft", "k": k, "reference_score": 40.0, "n": 125}
                                  | span | {"estimate": MARGIN - estimate, "low": MARGIN - span["high"], "high": MARGIN - span["low"]}
                                  for name in ("rl-multi", "merge-ties") for k in (1, 32)]),
        "rq5": pd.DataFrame([{"claim": name, "paradigm": who, "set": "shared", "problems": 90, "estimate": edge + estimate} | span
                             | {"low": edge + span["low"], "high": edge + span["high"]}
                             for who, name in judged for edge in [-MARGIN * (name in keeps)]]),
    }  # fmt: skip


def test_a_null_without_seeds_is_about_fixed_checkpoints_whatever_the_seeds():
    for fixed, scope in ((False, "training seeds"), (True, "fixed checkpoints")):
        row = row_of(Found(1, 0, 2, "5 problems", 3, these_weights=fixed))
        assert row["scope"] == scope and "3 seeds: on " + scope in claim_ledger.claim_sentence(row)


def test_rq3s_entries_speak_of_all_seeds(smoke):
    tables = tables_of(1, 5, np.random.default_rng(0))
    several = {name: tables[name].assign(seeds=3, df=2) for name in ("rank_correlations", "predictors", "neighbour_groups")}
    for measure in (estimates.kl_and_loss, estimates.neighbours_against_kl, estimates.merging_with_neighbours):
        assert measure(tables).seeds == 1 and (measure(several).seeds, measure(several).df) == (3, 2)
    for seed in (0, 1):
        one = smoke.model_copy(update={"seed": seed})
        frame = tables["weights_cosines"].assign(seed=seed)
        result_tables.write_table(one, "weights_cosines", "measuring", frame, artifacts.record(one))
    assert set(claims._read(smoke, "weights_cosines")["seed"]) == {0, 1}


def test_a_pair_that_is_no_neighbour_tests_nothing():
    """Coding adds 2 ± 1 points to math, math 0 ± 1 to coding: a gap of 2 ± 2, since one merge gives both, where coding is a neighbour."""
    table = tables_of(2, 2, np.random.default_rng(0))["neighbour_tests"]
    found = estimates.pair_asymmetry({"neighbour_tests": table})
    assert (found.estimate, found.low, found.high) == (2, 0, 4) and "coding adds +2.0 [1.0, 3.0] points to math" in found.note
    for label in ("not a neighbour", "undecided"):
        with pytest.raises(NotTestable, match=f"is '{label}': no neighbour was added; beyond merge"):
            estimates.pair_asymmetry({"neighbour_tests": table.assign(label=label)})
    with pytest.raises(NotTestable, match="no merge of math and coding"):
        estimates.pair_asymmetry({"neighbour_tests": table[:1]})


def test_a_mean_over_pairs_says_its_control_and_what_its_interval_is_over():
    found = estimates.shared_direction({"weights_cosines": weights_of(0.1, 0.01, "cosine", np.random.default_rng(0))})
    assert (
        found.estimate == pytest.approx(0.1, abs=0.02)
        and "pair's controls 0.20; the interval is over the 5 experts" in found.note
    )


@pytest.fixture(scope="module")
def worlds() -> dict[str, pd.DataFrame]:
    """The ledger of a world in which the paper is right, of one in which it is wrong, and of one too small to tell."""
    made = {}
    worlds = {"right": (RIGHT, 700, 0.02, 2, 0.7), "wrong": (WRONG, 700, 0.02, -2, 0.7), "small": (RIGHT, 8, 0.6, 0.1, 4)}
    for name, (gains, n, own, estimate, half) in worlds.items():
        selection = scores_of(gains, n, split="selection", own=own)
        merges = selection[selection["model"].isin(["merge-ties", "merge-average", "merge-sce"])]
        scores = score_tables.make_score_tables(scores_of(gains, n, own=own), merges, MARGIN, draws=300)
        tables = scores | tables_of(estimate, half, np.random.default_rng(0))
        made[name] = claim_ledger.ledger(claims.list_claims(MARGIN), tables).set_index("id", drop=False)
    return made


IDS = [f"RQ{question}.{place}" for question, count in enumerate((2, 5, 6, 5, 4), 1) for place in range(1, 1 + count)]


def test_every_claim_is_in_the_ledger_once():
    ledger = claim_ledger.ledger(claims.list_claims(MARGIN), {})
    assert list(ledger["id"]) == IDS and (ledger["verdict"] == NOT_TESTABLE).all() and ledger["reason"].ne("").all()
    assert ledger.groupby("question")["role"].agg(lambda roles: (roles == "primary").sum()).eq(1).all()
    words = ledger[["claim", "published", "quantity", "region", "rule"]]
    assert words.map(lambda text: isinstance(text, str) and text != "").all(axis=None)


@pytest.mark.parametrize("name", IDS)
def test_a_true_finding_is_supported_a_false_one_contradicted_and_a_small_world_decides_nothing(worlds, name):
    rows = {world: worlds[world].loc[name] for world in ("right", "wrong", "small")}
    for world, expected in zip(rows, (SUPPORTED, CONTRADICTED, UNDECIDED)):
        assert rows[world]["verdict"] == expected, claim_ledger.claim_sentence(rows[world])
    assert rows["small"]["seen"] > 0 or name == "RQ1.2"  # a count has no such size


def test_planted_sizes_come_back(worlds):
    planted = {"RQ1.1": (-1, 0.9), "RQ2.3": (10, 1.5), "RQ3.4": (2, 0.01), "RQ4.3": (2, 0.7)}
    planted["RQ3.5"] = (0.1, 0.02)  # above the 0.2 with RL-Null, not above matched masks
    for name, (size, tolerance) in planted.items():
        assert worlds["right"].loc[name, "estimate"] == pytest.approx(size, abs=tolerance)
    assert worlds["wrong"].loc["RQ1.1", "estimate"] == pytest.approx(8 - 32, abs=2.5)
    assert "nowhere behind" in worlds["wrong"].loc["RQ4.1", "reason"]


def test_several_seeds_speak_of_the_recipe():
    tables = score_tables.make_score_tables(scores_of(RIGHT, 60, seeds=3), None, MARGIN, draws=300)
    pairs = [weights_of(0.1, 0.01, "jaccard", np.random.default_rng(seed)).assign(seed=seed) for seed in range(3)]
    tables["weights_pairs"] = pd.concat(pairs)
    ledger = claim_ledger.ledger(claims.list_claims(MARGIN), tables).set_index("id")
    for name in ("RQ1.1", "RQ2.3", "RQ3.5", "RQ4.2"):
        assert ledger.loc[name, "seeds"] == 3 and ledger.loc[name, "scope"] == "training seeds"


def test_equal_merges_chosen_by_halves_are_not_ahead():
    """The winner of equal candidates, tested on what chose it, is ahead by luck; by halves it is not."""
    rng, halves, naive = np.random.default_rng(1), [], []
    names = [f"merge-{method}" for method in ("average", "ties", "sce", "ties-dare")]
    for _ in range(30):
        scores = pd.concat([cell(rng.random((24, 1)) < 0.5, name) for name in names])
        rows, chosen = score_tables.choose_by_halves(scores, names)
        assert set(chosen) <= set(names) and sorted(rows["problem_id"]) == sorted(scores["problem_id"].unique())
        halves.append(100 * rows["correct"].mean() - 50)
        naive.append(100 * scores.groupby("model")["correct"].mean().max() - 50)
    assert abs(np.mean(halves)) < 3 * np.std(halves) / np.sqrt(30) and np.mean(naive) > 5


def test_published_evidence_is_computed_from_the_tables():
    wide = published_tables.scores().pivot(index="benchmark", columns="model", values="score")
    homes = [["AIME'24", "AIME'25"], ["LiveCodeBench v5", "LiveCodeBench v6"], ["HLE", "GPQA-Diamond"], ["IFEval", "IFBench"]]
    means = pd.DataFrame([wide.loc[names].mean() for names in homes])
    assert published_evidence.mixing_against_merging()[0] == pytest.approx((means["rl-multi"] - means["merged-best"]).mean())
    assert "6 cells" in published_evidence.transfer_mean("Reasoning domains help each other")[1]
    forms = (means["rl-instruction_following"] - means["sft"])[:3].mean()
    assert published_evidence.transfer_mean("Instruction following helps reasoning")[0] == pytest.approx(forms)
    assert published_evidence.overlap_above_chance()[0] == pytest.approx(0.465 - 0.18)
    lead, words = published_evidence.ties_ahead()
    assert lead == pytest.approx(-0.045) and "+0.15 in the plain mean" in words
    assert published_evidence.pair_asymmetry()[0] == pytest.approx((0.63 + 2.66) / 2 - (-1.43 - 3.43) / 2)


@pytest.fixture
def committed(smoke) -> Parameters:
    """The committed result tables of the study, as those of a study that ran."""
    p = smoke.model_copy(update={"analysis_draws": 100})
    for table in ("scores", *(name for _, written in claims.READS.values() for name in written)):
        for name, frame in (part for file in (TABLES / table).glob("*.parquet") for part in publish.parts(file)):
            seed, writer = name.split("-", 1)
            if table != "scores" or writer in claims.SCORE_GROUPS:
                one = p.model_copy(update={"seed": int(seed)})
                result_tables.write_table(one, table, writer, frame, artifacts.record(one))
    return p


def test_an_analysis_shows_the_rows_that_the_whole_ledger_shows(committed):
    whole = claims.entries(committed)
    assert list(whole["id"]) == IDS
    for question, rows in whole.groupby("question"):
        pd.testing.assert_frame_equal(claims.entries(committed, question), rows.reset_index(drop=True), check_dtype=False)
    shown = pd.concat(map(pd.read_parquet, (TABLES / "claims").glob("*.parquet")))
    assert whole.loc[whole["id"] == "RQ3.5", "reason"].str.contains("no result table weights_pairs").all()  # too large to commit
    shown, whole = (rows.set_index("id").drop("RQ3.5") for rows in (shown, whole))
    tested = (shown["verdict"] != NOT_TESTABLE) & (whole["verdict"] != NOT_TESTABLE)
    shown, whole = shown[tested], whole[tested]
    assert shown["estimate"].tolist() == pytest.approx(whole["estimate"].tolist(), abs=0.2)
    assert shown["seeds"].tolist() == whole["seeds"].tolist() and whole["seeds"].max() == 6


def test_the_edges_of_a_region_are_read_from_its_words():
    assert claim_ledger.region_edges("above −3 points") == (-3, np.inf) and claim_ledger.region_edges("below 1") == (-np.inf, 1)
    assert claim_ledger.region_edges("between −0.3 and 0.3") == (-0.3, 0.3)


def test_what_would_change_an_answer_is_the_distance_to_the_edge():
    """4 [1, 7] above 0 ends 1 point inside; with two one-sided tests the 90% interval counts: 4 − 3 · 0.839 = 1.48."""
    primary = {"primary": True, "above": 0.0}
    rows = {name: claim_ledger.ledger([claim(found, **primary, **more)], {}) for name, found, more in [
        ("supported", Found(4, 1, 7, "n"), {}),
        ("equivalence", Found(4, 1, 7, "n"), {"equivalence": True}),
        ("contradicted", Found(-4, -7, -1, "n"), {}),
        ("undecided", Found(1, -2, 4, "n"), {}),
        ("lacking", Found(np.nan, np.nan, np.nan, "n", note="no score"), {}),
    ]}  # fmt: skip
    said = {name: claim_ledger.what_would_change(table) for name, table in rows.items()}
    assert (
        "RQ1.1 is supported: the interval that decides, adjusted (Bonferroni, 1 primary claims), [1.0, 7.0] ends 1.0 points inside"
        in said["supported"]
    )
    assert "ends 1.5 points inside" in said["equivalence"] and "ends 1.0 points outside" in said["contradicted"]
    several = claim_ledger.ledger([claim(Found(4, 1, 7, "n"), **primary)] * 2, {})  # z of 0.0125 instead of 0.025: 2.241 of 1.960
    assert several["decides_low"].tolist() == pytest.approx([4 - 3 * 2.2414 / 1.95996] * 2, abs=1e-3)
    assert (several["decides_low"] > 0).eq(several["verdict"] == SUPPORTED).all()
    assert (
        "undecided: an estimate 4.3 points from the edge" in said["undecided"]
        and "needs a result first: no score" in said["lacking"]
    )
    assert claim_ledger.what_would_change(rows["supported"].assign(role="exploratory")).endswith("** ")
