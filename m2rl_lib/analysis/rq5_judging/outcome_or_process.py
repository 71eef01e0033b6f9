"""Outcome or process: whether RQ5 can be asked of a study's judges, and the paper's answer to it, part by part. The paper:
judging the process suits logic domains, judging the outcome suits instruction following, and mixing keeps both. Each part is a
paired linear combination of accuracies (`judge_accuracy`), of domains that SFT judges above chance."""

import itertools

import numpy as np
import pandas as pd

from m2rl_lib.analysis.rq2_transfer.transfer_matrix import INSTRUCTIONS, REASONING
from m2rl_lib.analysis.rq5_judging.judge_accuracy import NUMBERS, SIGNS, Measured, add_up, combine, name_experts
from m2rl_lib.evaluation.judging import OWN, SHARED
from m2rl_lib.stats.comparisons import BEST_MERGE, display_domain, display_name

CHANCE = 50.0  # points, on a balanced set
CONTRAST = "contrast"
LOGIC, FORM = "every logic domain", "instruction following"  # what a claim needs


def gate(measured: Measured, names: list[str], name: str = SHARED) -> pd.DataFrame:
    """Whether SFT judges a domain above chance in at least one mode, on the set `name`: what RQ5 needs to be asked there."""
    rows = []
    for domain in names:
        found = {mode: combine(measured, [(1.0, (name, "sft", domain, mode, "accuracy"))]) for _, mode in SIGNS}
        spans = {mode: f"{one['estimate']:.1f} [{one['low']:.1f}, {one['high']:.1f}]" for mode, one in found.items()}
        shown = {mode: "–" if found[mode]["reason"] else span for mode, span in spans.items()}
        reasons = sorted({one["reason"].split(":")[0] for one in found.values()} - {""})
        above = any(one["low"] > CHANCE for one in found.values())
        reason = "" if above else "; ".join(reasons) or "no interval above chance"
        counts = {name: min(one[name] for one in found.values()) for name in ("problems", "seeds")}
        rows.append({"domain": domain, **shown, **counts, "answerable": above, "reason": reason})
    return pd.DataFrame(rows)


def gate_sentences(table: pd.DataFrame) -> list[str]:
    """One sentence a domain: whether the question can be asked of it at this scale."""
    lines = []
    for row in table.itertuples():
        found = f"outcome {row.outcome}, process {row.process}; n = {int(row.problems)} problems, "
        found += f"{int(row.seeds)} seed{'' if row.seeds == 1 else 's'}"
        verdict = f"cannot be asked ({row.reason}; {found})."
        if row.answerable:
            verdict = f"SFT judges above chance (50) in at least one mode: {found}."
        lines.append(f"{display_domain(row.domain)}: {verdict}")
    return lines


def answer_sentence(table: pd.DataFrame, differences: pd.DataFrame) -> str:
    """Of which domains the question can be asked, from `gate`, and where it cannot, what the judges' `difference_table` shows."""
    asked = [display_domain(name) for name in table.loc[table["answerable"], "domain"]]
    if not asked:
        said = f"**The question cannot be asked here:** SFT is shown to judge no domain above chance ({CHANCE:g} points), by either mode."
        shared = differences[differences["set"] == SHARED].dropna(subset=["estimate"])
        shown = shared[(shared["low"] > 0) | (shared["high"] < 0)].sort_values("estimate")
        named = [
            f"{display_name(row.judge)} on {display_domain(row.domain).lower()} {row.estimate:+.1f} [{row.low:.1f}, {row.high:.1f}]"
            for row in shown.itertuples()
        ]
        if shared.empty:
            return said
        said += f" Of {len(shared)} unadjusted 95% intervals of process − outcome (a judge on a domain) {len(shown)} exclude 0, "
        said += f"where {0.05 * len(shared):.1f} would by chance"
        return f"{said} ({'; '.join(named)})." if named else f"{said}."
    rest = [display_domain(name) for name in table.loc[~table["answerable"], "domain"]]
    left_out = f", but not in {', '.join(rest)}, which what follows leaves out" if rest else ""
    return f"SFT judges above chance in {', '.join(asked)}{left_out}."


def answer_rows(measures: pd.DataFrame, differences: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """What `rq5_judging.plot_answer` draws: SFT's accuracy by domain and mode on SFT's trajectories, and process − outcome of the
    domain's expert and RL-Multi, from the tables of `judge_accuracy` and `gate`."""
    columns = ["panel", "domain", "judge", "mode", "estimate", "low", "high", "seeds"]
    accuracy = measures[(measures["measure"] == "accuracy") & (measures["judge"] == "sft") & (measures["set"] == SHARED)]
    asked = name_experts(differences[differences["set"] == SHARED])
    asked = asked[asked["judge"].isin(["expert", "rl-multi"])].assign(mode="")
    rows = pd.concat([accuracy.assign(panel="accuracy"), asked.assign(panel="difference")], ignore_index=True)
    order = pd.Index(table["domain"])
    rows = rows[rows["estimate"].notna()].sort_values("domain", key=order.get_indexer, kind="stable", ignore_index=True)
    return rows[columns].assign(asked=rows["domain"].map(table.set_index("domain")["answerable"]))


def judges_of(who: dict[str, dict[str, str]]) -> dict[str, list[str]]:
    """The domains that each model judges, from `paradigms`."""
    found: dict[str, list[str]] = {}
    for domain, judge in (pair for judge_of in who.values() for pair in judge_of.items()):
        found.setdefault(judge, []).append(domain)
    return found


def chosen_merges(judged: pd.DataFrame) -> dict[int, str]:
    """The merge that judged in each seed, which is the one that seed's selection problems chose: seed -> model."""
    return judged[judged["judge"].str.startswith("merge-")].groupby("seed")["judge"].first().to_dict()


def name_merge(judged: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The verdicts with the seeds' chosen merges under one name, and that name: BEST_MERGE where they differ."""
    merges = chosen_merges(judged)
    name = next(iter(merges.values())) if len(set(merges.values())) == 1 else BEST_MERGE
    return judged.assign(judge=judged["judge"].replace(dict.fromkeys(merges.values(), name))), name


def merge_sentence(merges: dict[int, str]) -> str:
    """Which merge stands for merging, by seed."""
    named = ", ".join(f"{display_name(name)} (seed {seed})" for seed, name in merges.items())
    return f"The best merge, chosen on each seed's own selection problems: {named}."


def paradigms(names: list[str], merge: str) -> dict[str, dict[str, str]]:
    """Who judges each domain, by paradigm; `merge` is the merge that stands for merging."""
    one = {"SFT": "sft", "single experts": "rl-{}", "RL-Multi": "rl-multi", "best merge": merge, "MT-OPD": "mt-opd"}
    return {paradigm: {name: judge.format(name) for name in names} for paradigm, judge in one.items()}


def part_table(measured: Measured, judges: dict[str, dict[str, str]], answerable: list[str]) -> pd.DataFrame:
    """Each part of the paper's answer (`claim_terms`) for each paradigm, on accuracy; the ledger reads it."""
    rows = []
    for (claim, paradigm, name), (terms, reason) in claim_terms(judges, answerable).items():
        found = {"reason": reason} if reason else combine(measured, terms)
        rows.append({"claim": claim, "paradigm": paradigm, "set": name, **found})
    return pd.DataFrame(rows).reindex(columns=["claim", "paradigm", "set", *NUMBERS])


def claim_terms(judges: dict[str, dict[str, str]], answerable: list[str]) -> dict[tuple, tuple[list, str]]:
    """(claim, paradigm, set) -> the terms that add up to it (`combine`), of `answerable` domains, and why it cannot be asked ('':
    it can). *process on logic*: process − outcome, mean over the logic domains. *outcome on instructions*: outcome − process
    there. *contrast*: the sum of the two. *keeps …*: the paradigm − single experts, in the mode that suits."""
    logic = [domain for domain in REASONING if domain in answerable]
    form = [INSTRUCTIONS] if INSTRUCTIONS in answerable else []
    lacking = {what: names for what, names, some in ((LOGIC, REASONING, logic), (FORM, (INSTRUCTIONS,), form)) if not some}
    absent = [what for what, names in lacking.items() if not {*names} & {*judges["SFT"]}]
    found, experts = {}, judges["single experts"]

    def add(claim: str, paradigm: str, name: str, terms: list, *needs: str) -> None:
        hidden = " or ".join(need for need in needs if need in lacking and need not in absent)
        reasons = [f"the study lacks {need}" for need in needs if need in absent]
        reasons += [f"SFT is not shown to judge {hidden} above chance"] * bool(hidden)
        found[claim, paradigm, name] = terms, "; ".join(reasons)

    for name, (paradigm, judge) in itertools.product((SHARED, OWN), judges.items()):
        if name == OWN and paradigm == "SFT":
            continue
        share = {domain: 1 / len(logic) for domain in logic} | {domain: -1 for domain in form}
        terms = {d: [(w * sign, (name, judge[d], d, mode, "accuracy")) for sign, mode in SIGNS] for d, w in share.items()}
        on_logic, on_form = (sum((terms[domain] for domain in some), []) for some in (logic, form))
        add("process on logic", paradigm, name, on_logic, LOGIC)
        add("outcome on instructions", paradigm, name, on_form, FORM)
        add(CONTRAST, paradigm, name, on_logic + on_form, LOGIC, FORM)
    for paradigm, judge in judges.items():
        for claim, names, mode, need in KEEPS if paradigm not in ("single experts", "SFT") else ():
            some, sides = [domain for domain in names if domain in answerable], ((1.0, judge), (-1.0, experts))
            terms = [(sign / len(some), (SHARED, who[d], d, mode, "accuracy")) for d in some for sign, who in sides]
            add(claim, paradigm, SHARED, terms, need)
    return found


KEEPS = (
    ("keeps process on logic", REASONING, "process", LOGIC),
    ("keeps outcome on instructions", (INSTRUCTIONS,), "outcome", FORM),
)


def spread_table(measured: Measured, judges: dict[str, dict[str, str]], answerable: list[str]) -> pd.DataFrame:
    """SFT's accuracy and each paradigm's contrast by seed (points), seed_sd, and problem_sd (of bootstrap resamples)."""
    asked, rows, seeds = {}, [], set()
    for domain, (_, mode) in itertools.product(judges["SFT"], SIGNS):
        terms = [(1.0, (SHARED, "sft", domain, mode, "accuracy"))]
        asked[f"SFT's accuracy, {display_domain(domain).lower()}, {mode}"] = terms
    for (claim, paradigm, name), (terms, reason) in claim_terms(judges, answerable).items():
        if (claim, name, reason) == (CONTRAST, SHARED, ""):
            asked[f"contrast, {paradigm}"] = terms
    for quantity, terms in asked.items():
        by_seed, found = add_up(measured, terms), combine(measured, terms)
        variances = [vector[1:].var(ddof=1) for vector in by_seed.values()]
        spread = {"mean": found["estimate"], "problem_sd": np.sqrt(np.mean(variances)) if variances else np.nan}
        rows.append({"quantity": quantity, **found, **spread, **{f"seed {seed}": vector[0] for seed, vector in by_seed.items()}})
        seeds |= set(by_seed)
    columns = ["mean", "low", "high", "seed_sd", "problem_sd", "seeds"]
    return pd.DataFrame(rows).reindex(columns=["quantity", *(f"seed {seed}" for seed in sorted(seeds)), *columns])
