"""The findings of the paper, each as a claim with a rule: what the claim ledger holds (notebook 21 and `verdict`).

The list is the paper's answer to RQ1 to RQ5 (arXiv 2602.12566), read as strictly as its words allow, and as a region of one
quantity that is measured here: 'matches' is 'not behind by more than the margin', 'helps' 'by more than the margin', 'does
not predict' 'rank correlation inside ±0.3'. The paper's numbers are in `evidence`, ours in `measures`.
"""

import pandas as pd

from m2rl_lib.analysis.rq3_policies.prediction import NEGLIGIBLE
from m2rl_lib.config.study import Parameters
from m2rl_lib.paper import estimates, published_evidence
from m2rl_lib.paper.claim_ledger import POINTS, RATIO, Claim
from m2rl_lib.storage import result_tables

SCORE_GROUPS = ("sft", "experts", "floors", "mixed", "merges", "distilled", "pairs")  # the groups whose scores are read
TABLES = ("costs", "rank_correlations", "predictors", "neighbour_groups", "weights_pairs", "weights_cosines", "skills", "rq5")
OF_SEEDS = "rq3_seeds"  # what RQ3 measured of every seed; without it two claims are of the first alone
LUCK = 2.0  # points of excess that a model equal to the experts' union may show (`skills`)
CORRELATION = "rank correlation"


def read_scores(p: Parameters) -> pd.DataFrame:
    """The study's scores of SCORE_GROUPS, of every seed and group that is there: a comparison uses the seeds its models share.

    FileNotFoundError in one line where there is none.
    """
    parts = []
    for one in _seeds(p, "scores"):
        groups = [group for group in SCORE_GROUPS if result_tables.table_file(one, "scores", group).is_file()]
        parts += [result_tables.read_table(one, "scores", groups)] if groups else []
    return pd.concat(parts, ignore_index=True) if parts else result_tables.read_table(p, "scores", list(SCORE_GROUPS))


def read_tables(p: Parameters) -> dict[str, pd.DataFrame | str]:
    """The study's TABLES, or in a table's place the line that its stage is missing; costs are those of every seed.

    OF_SEEDS is among them where it is there.
    """
    found = {}
    for name in TABLES:
        try:
            found[name] = result_tables.read_table(p, name)
        except FileNotFoundError:
            found[name] = f"stage missing: the study has no result table {name}"
    if result_tables.table_file(p, OF_SEEDS, "rq3").is_file():
        found[OF_SEEDS] = result_tables.read_table(p, OF_SEEDS)
    if not isinstance(found["costs"], str):
        found["costs"] = pd.concat([result_tables.read_table(one, "costs") for one in _seeds(p, "costs")], ignore_index=True)
    return found


def _seeds(p: Parameters, table: str) -> list[Parameters]:
    """The parameters with each seed of which there is a part of a table."""
    files = result_tables.table_file(p, table, "any").parent.glob("*-*.parquet")
    return [p.model_copy(update={"seed": seed}) for seed in sorted({int(file.stem.split("-")[0]) for file in files})]


def list_claims(margin: float) -> list[Claim]:
    """Every finding, primary claims first in their question. `margin`: points, the δ of the three-way verdicts."""
    return [*_rq1(margin), *_rq2(margin), *_rq3(), *_rq4(margin), *_rq5(margin)]


def _rq1(margin: float) -> list[Claim]:
    return [
        Claim(
            "RQ1",
            "Mixing matches training apart and merging",
            "RL-Multi − the best merge, mean over domains",
            POINTS,
            published_evidence.mixing_against_merging(),
            estimates.mixing_against_merging,
            "being better is matching",
            above=-margin,
            primary=True,
            equivalence=True,
        ),
        Claim(
            "RQ1",
            "Mixing costs less than training the experts",
            "RL-Multi's cost over the experts'",
            RATIO,
            published_evidence.cost_of_mixing(),
            estimates.cost_of_mixing,
            "counts have a range, no interval, and no p",
            below=1.0,
        ),
    ]


def _rq2(margin: float) -> list[Claim]:
    parts = published_evidence.rq2_parts()
    names = list(parts)
    sides = dict(zip(names, ({"above": -margin}, {"above": margin}, {"above": margin}, {"below": margin})))
    depth = [
        value - side["above"] if "above" in side else side["below"] - value
        for (value, _), side in zip(parts.values(), sides.values())
    ]
    whole = Claim(
        "RQ2",
        "Domains interfere little and help as the paper says",
        "the least favourable of the four parts below, from its edge",
        POINTS,
        (
            min(depth),
            f"the least favourable part is {min(depth):.1f} inside its edge"
            if min(depth) > 0
            else f"the least favourable part is {-min(depth):.1f} outside its edge",
        ),
        lambda tables: estimates.transfer_whole(tables, margin),
        "all four parts must hold; contradicted if one is, times the number of looks",
        above=0.0,
        primary=True,
    )
    quantities = ["change of the worst of all expert × other domain cells", *["mean change of the cells"] * 3]
    claims = [
        Claim(
            "RQ2",
            "Little interference between domains" if place == 0 else name,
            quantity,
            POINTS,
            parts[name],
            estimates.transfer_cells if place == 0 else (lambda tables, name=name: estimates.transfer_mean(tables, name)),
            "simultaneous intervals of all cells" if place == 0 else "",
            joint=place == 0,
            **sides[name],
        )
        for place, (name, quantity) in enumerate(zip(names, quantities))
    ]
    return [whole, *claims]


def _rq3() -> list[Claim]:
    return [
        Claim(
            "RQ3",
            "The size of the KL does not predict what is lost",
            "rank correlation of KL and ΔPerf within domains",
            CORRELATION,
            published_evidence.UNREAD,
            estimates.kl_and_loss,
            "under ten points nothing is said",
            above=-NEGLIGIBLE,
            below=NEGLIGIBLE,
            primary=True,
        ),
        Claim(
            "RQ3",
            "Policy neighbourhoods explain more than the KL",
            "error on a left-out domain, by KL less by neighbours",
            POINTS,
            published_evidence.UNREAD,
            estimates.neighbours_against_kl,
            "the paper's rule of neighbours; t over domains",
            above=0.0,
        ),
        Claim(
            "RQ3",
            "Merging with a neighbour adds more than with another expert",
            "gain over merge(A, SFT): neighbours less others",
            POINTS,
            published_evidence.UNREAD,
            estimates.merging_with_neighbours,
            above=0.0,
        ),
        Claim(
            "RQ3",
            "A neighbour helps one way: coding helps math, math not coding",
            "what coding adds to math less what math adds to coding",
            POINTS,
            published_evidence.pair_asymmetry(),
            estimates.pair_asymmetry,
            "the two averaged, each on its benchmarks against its expert",
            above=0.0,
        ),
        Claim(
            "RQ3",
            "Changed weights overlap above chance",
            "Jaccard of two experts' 10% largest shifts, above matched masks and RL-Null",
            "Jaccard",
            published_evidence.overlap_above_chance(),
            estimates.overlap_above_chance,
            "the unit is an expert (jackknife)",
            above=0.0,
        ),
        Claim(
            "RQ3",
            "Weight shifts point the same way",
            "exact cosine of two experts' shifts, above that with RL-Null",
            "cosine",
            published_evidence.UNREAD,
            estimates.shared_direction,
            "the unit is an expert (jackknife)",
            above=0.0,
        ),
    ]


def _rq4(margin: float) -> list[Claim]:
    return [
        Claim(
            "RQ4",
            "A seesaw: no merging method is best everywhere",
            "gain of choosing the method by benchmark, above luck",
            POINTS,
            published_evidence.seesaw(),
            lambda tables: estimates.seesaw_beyond_luck(tables, margin),
            "p and interval from the null of equal methods; contradicted if the leader is shown nowhere behind by more than the margin",
            above=0.0,
            primary=True,
        ),
        Claim(
            "RQ4",
            "TIES is best on average",
            "TIES − another method, the least favourable",
            POINTS,
            published_evidence.ties_ahead(),
            estimates.ties_against,
            "better than every other method",
            above=0.0,
        ),
        Claim(
            "RQ4",
            "MT-OPD is close to TIES",
            "TIES − MT-OPD, mean over domains",
            POINTS,
            published_evidence.ties_against_distilled(),
            lambda tables: estimates.ties_against(tables, "mt-opd"),
            above=-margin,
            below=margin,
            equivalence=True,
        ),
        Claim(
            "RQ4",
            "Mixing has skills that no expert has",
            "excess of RL-Multi over the best of SFT and experts",
            POINTS,
            published_evidence.UNREAD,
            estimates.new_skills,
            f"{LUCK:g} points also come of taking the wrong expert for the best",
            above=LUCK,
        ),
    ]


def _rq5(margin: float) -> list[Claim]:
    def of(names: list[str], paradigm: str):
        return lambda tables: estimates.judging(tables, names, paradigm)

    experts, suits = "single experts", "process judging suits logic, outcome judging instructions"
    return [
        Claim(
            "RQ5",
            suits[0].upper() + suits[1:],
            "process − outcome on logic domains, less on instruction following",
            POINTS,
            published_evidence.judging(),
            of(["contrast"], experts),
            "experts on the shared set",
            above=0.0,
            primary=True,
        ),
        Claim(
            "RQ5",
            "Process judging suits logic domains",
            "process − outcome, logic domains",
            POINTS,
            published_evidence.UNREAD,
            of(["process on logic"], experts),
            above=0.0,
        ),
        Claim(
            "RQ5",
            "Outcome judging suits instruction following",
            "outcome − process, instruction following",
            POINTS,
            published_evidence.UNREAD,
            of(["outcome on instructions"], experts),
            above=0.0,
        ),
        Claim(
            "RQ5",
            "Mixing keeps both",
            "RL-Multi − single experts as judges, the less favourable",
            POINTS,
            published_evidence.UNREAD,
            of(["keeps process on logic", "keeps outcome on instructions"], "RL-Multi"),
            "neither is behind by more than the margin",
            above=-margin,
            equivalence=True,
        ),
    ]
