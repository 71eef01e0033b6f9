"""RQ2: what training on one domain does to the others. T(i→r) is the change against SFT, in points, of the expert of domain i on
the benchmarks of r (the paper's). Labels, margin and baselines are ours: a gain that SFT at its best temperature matches is no
transfer."""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from m2rl_lib.stats.bootstrap import Resample, interval, mean_over_seeds, resample
from m2rl_lib.stats.comparisons import LEVEL, MARGIN, display_domain, display_name
from m2rl_lib.stats.graded_samples import models_in, models_lacking, problem_means

REFERENCES = ("rl-multi", "rl-math@repeat=1", "sft-sharpened", "rl-null")  # rows below the experts, where there
REASONING = ("math", "coding", "science")  # the paper's reasoning domains
INSTRUCTIONS = "instruction_following"
PREDICTED = {"rises": "synergy", "falls": "interference"}  # what a planted change is called, where an instrument is right
ALIKE = "every problem changed alike: the spread is unknown"
NO_GAIN = "no gain shown at pass@K"


def simultaneous(
    points: np.ndarray, draws: np.ndarray, n: np.ndarray, strata: np.ndarray, models: int = 1
) -> tuple[np.ndarray, np.ndarray, float]:
    """Intervals (C,), (C,) that cover all cells at once with probability 95%, and the critical |t|, from `points` (C, S) of each
    cell and seed, `draws` (B, C, S) their joint bootstrap resamples, and each cell's problems `n` and benchmarks `strata` (C,).
    Half-widths are the 95% quantile of max_c |draw − estimate| / sd, taken as a normal quantile and turned into Student's with n
    − strata degrees of freedom, times sd √(n / (n − strata)); of several seeds at least a Bonferroni t interval over seeds, of
    the variance pooled over cells, with `models` × (S − 1) degrees of freedom. NaN where resamples never differ; within ±100."""
    estimate, means, free = points.mean(axis=1), mean_over_seeds(draws), n - strata
    error = means.std(axis=0, ddof=1)
    error = np.where((error > 1e-9) & (free > 0), error, np.nan)
    if np.isnan(error).all():
        return error, error, np.nan
    critical = float(np.quantile(np.nanmax(np.abs(means - estimate) / error, axis=1), 0.95))
    half = stats.t.isf(stats.norm.sf(critical), np.fmax(free, 1)) * error * np.sqrt(n / np.fmax(free, 1))
    seeds = points.shape[1]
    if seeds > 1:
        over_seeds = np.sqrt(points.var(axis=1, ddof=1).mean() / seeds)
        half = np.fmax(half, over_seeds * stats.t.ppf(1 - (1 - 0.95) / (2 * len(points)), models * (seeds - 1)))
    return np.fmax(estimate - half, -100), np.fmin(estimate + half, 100), critical


def label(low: float, high: float, margin: float = MARGIN) -> str:
    """'synergy', 'interference', 'neither' or 'undecided' (also of NaN): (4, 12), (-12, -4), (-2, 2), (1, 9) at margin 3."""
    if low > margin or high < -margin:
        return "synergy" if low > margin else "interference"
    return "neither" if -margin < low and high < margin else "undecided"


def _intervals(sample: Resample, cells: pd.DataFrame, reference: str) -> pd.DataFrame:
    """change, low, high, seeds, reason of each cell; simultaneous over those of role 'off-diagonal', ordinary elsewhere."""
    rows = []
    for model, part in cells.groupby("model", sort=False):
        seeds, points, draws, reasons = sample.changes([(model, domain) for domain in part["domain"]], reference)
        for place, reason in enumerate(reasons):
            found = {} if reason else interval(points[place], draws[:, place])
            rows.append((*(found.get(key, np.nan) for key in ("estimate", "low", "high")), len(seeds), reason))
    found = pd.DataFrame(rows, cells.index, ["change", "low", "high", "seeds", "reason"]).astype({"reason": object})
    family = cells.index[(cells["role"] == "off-diagonal") & (found["reason"] == "")]
    if len(family):
        pairs = list(cells.loc[family, ["model", "domain"]].itertuples(index=False, name=None))
        _, points, draws, _ = sample.changes(pairs, reference)
        models = cells.loc[family, "model"].nunique()
        sizes = sample.benchmarks.groupby("domain")["n"].agg(["sum", "size"]).loc[[domain for _, domain in pairs]].to_numpy()
        low, high, found.attrs["critical"] = simultaneous(points, draws, *sizes.T, models)
        found.loc[family, "low"], found.loc[family, "high"] = low, high
        found.loc[family[np.isnan(low)], "reason"] = ALIKE
    return found


def transfer_table(
    scores: pd.DataFrame, domains: list[str], pass_k: int, planted: pd.DataFrame | None = None, margin=MARGIN, draws: int = 10_000
) -> pd.DataFrame:
    """The transfer matrix in long form: every expert, and the reference rows there are, on every domain. change, low, high are
    points against SFT, pass_… those of pass@`pass_k`, over_… those against SFT at its best temperature; label is of off-diagonal
    cells, called of a synergy (`beyond_sharpening`). Of `planted.expected_changes` come expected (points), predicted ('' where
    nothing is) and call: 'rightly' where the label is the predicted one, 'undecided', or 'wrongly'."""
    experts = [f"rl-{domain}" for domain in domains]
    if lacking := models_lacking(scores, ["sft", "sft-sharpened", "rl-null", *experts]):
        raise ValueError(f"scores has no {', '.join(lacking)}: every expert, sft, sft-sharpened and rl-null are needed")
    rows = [*experts, *sorted({*REFERENCES} & models_in(scores), key=REFERENCES.index)]
    kept = scores[scores["model"].isin(["sft", *rows]) & scores["domain"].isin(domains)]
    table = pd.DataFrame([(model, domain) for model in rows for domain in domains], columns=["model", "domain"])
    own = table["model"] == "rl-" + table["domain"]
    table["role"] = np.select([own, table["model"].isin(experts)], ["own", "off-diagonal"], "reference")
    sample, tries = (resample(problem_means(kept, k), draws=draws) for k in (None, pass_k))
    change = _intervals(sample, table, "sft")
    off = table["role"] == "off-diagonal"
    table[["change", "low", "high"]] = change[["change", "low", "high"]]
    table["label"] = np.where(off, [label(low, high, margin) for low, high in zip(table["low"], table["high"])], "")
    table[["pass_change", "pass_low", "pass_high"]] = _intervals(tries, table, "sft")[["change", "low", "high"]]
    table[["over_sharpened", "over_low", "over_high"]] = _intervals(sample, table, "sft-sharpened")[["change", "low", "high"]]
    table[["seeds", "reason"]] = change[["seeds", "reason"]]
    called = [beyond_sharpening(*ends, margin) for ends in zip(table["over_low"], table["over_high"], table["pass_low"])]
    table["called"] = np.where(table["label"] == "synergy", called, "")
    cells = {} if planted is None else {(f"rl-{i}", r): known for i, r, *known in planted.to_numpy() if i != r}
    known = [cells.get(key, (np.nan, "")) for key in zip(table["model"], table["domain"])]
    table["expected"], table["predicted"] = zip(*known)
    right = table["label"] == table["predicted"].map(PREDICTED)
    cases = [table["predicted"] == "", right, table["label"] == "undecided"]
    table["call"] = np.select(cases, ["", "rightly", "undecided"], "wrongly")
    table["n"] = table["domain"].map(sample.benchmarks.groupby("domain")["n"].sum())
    table.attrs = {"critical": change.attrs.get("critical", np.nan), "cells": int(off.sum()), "margin": margin, "pass_k": pass_k}
    return table


def beyond_sharpening(low: float, high: float, pass_low: float, margin: float = MARGIN) -> str:
    """What a gain is called, by its interval against SFT at its best temperature: 'transfer' above 0, where pass@K has gained as well
    (`pass_low`, the low end of its interval against SFT, above 0), else NO_GAIN; 'sharpening' below +margin; else 'undecided'."""
    if low > 0:
        return "transfer" if pass_low > 0 else NO_GAIN
    return "sharpening" if high < margin else "undecided"


def asymmetry_table(scores: pd.DataFrame, domains: list[str], draws: int = 10_000) -> pd.DataFrame:
    """T(i→r) / T(r→r) − T(r→i) / T(i→i) of every pair of domains; NaN and a reason where an own gain is not surely above 0."""
    kept = scores[scores["model"].isin(["sft", *(f"rl-{domain}" for domain in domains)]) & scores["domain"].isin(domains)]
    sample, rows = resample(problem_means(kept), draws=draws), []
    for first, second in combinations(domains, 2):
        pairs = [(first, second), (second, second), (second, first), (first, first)]
        seeds, points, resampled, reasons = sample.changes([(f"rl-{i}", r) for i, r in pairs], "sft")
        for own in (1, 3):
            if not any(reasons) and interval(points[own], resampled[:, own])["low"] <= 0:
                reasons.append(f"the 95% interval of {display_domain(pairs[own][0])}'s own gain is not above 0")
        row = {"first": first, "second": second} | dict.fromkeys(["gives", "takes", "asymmetry", "low", "high", "p"], np.nan)
        if not any(reasons):
            means = mean_over_seeds(resampled)
            of_resamples = means[:, 0] / means[:, 1] - means[:, 2] / means[:, 3]
            a, b, c, d = points.mean(axis=1)
            # one seed: a/b − c/d itself; several: the value of each seed, linearised about the means
            linear = a / b - c / d + (points[0] - a / b * points[1]) / b - (points[2] - c / d * points[3]) / d
            found = interval(linear, of_resamples[:, None])
            row |= {"gives": a / b, "takes": c / d, "asymmetry": a / b - c / d}
            row |= {key: found[key] for key in ("low", "high", "p")}
        rows.append(row | {"seeds": len(seeds), "reason": next(filter(None, reasons), "")})
    return pd.DataFrame(rows)


CLAIMS = {  # the paper's answer to RQ2, part by part: the domains trained on, and those tested on (None: all)
    "Little interference": (None, None),
    "Reasoning domains help each other": (REASONING, REASONING),
    "Instruction following helps reasoning": ((INSTRUCTIONS,), REASONING),
    "Reasoning hardly helps instruction following": (REASONING, (INSTRUCTIONS,)),
}


def claimed_changes(
    scores: pd.DataFrame, table: pd.DataFrame, domains: list[str], margin: float = MARGIN, draws: int = 10_000
) -> pd.DataFrame:
    """What the ledger reads of each part of the paper's answer to RQ2 (`CLAIMS`), from `transfer_table`: counts of labels,
    planted (cells planted to rise or fall), change with its interval (the worst cell, or the mean of the cells), sharpened (mean
    change of SFT at its best temperature there), called (of a gain), reason (why there is no number)."""
    kept = scores[scores["model"].isin(["sft", "sft-sharpened", *table["model"]]) & scores["domain"].isin(domains)]
    sample, tries = (resample(problem_means(kept, k), draws=draws) for k in (None, table.attrs["pass_k"]))
    rows, indexed = [], table.set_index(["model", "domain"])
    for claim, (trained, tested) in CLAIMS.items():
        pairs = [(f"rl-{i}", r) for i in trained or domains for r in tested or domains if i != r and {i, r} <= {*domains}]
        row = {"claim": claim, "cells": len(pairs), "called": ""}
        if not pairs or indexed.loc[pairs, "change"].isna().any():
            rows.append(row | {"reason": "the study has no such cells" if not pairs else "a score was refused"})
            continue
        cells = indexed.loc[pairs]
        row |= {kind: int((cells["label"] == kind).sum()) for kind in ("synergy", "interference", "neither", "undecided")}
        row["planted"] = int((cells["predicted"] != "").sum())
        seeds, *change = sample.changes(pairs, "sft")
        if trained is None:
            row |= cells.loc[cells["change"].idxmin(), ["change", "low", "high"]].to_dict()
            alike = cells["low"].isna().all()
        else:
            _, *over = sample.changes(pairs, "sft-sharpened")
            _, *solved = tries.changes(pairs, "sft")
            means = (interval(points.mean(axis=0), part.mean(axis=1)) for points, part, _ in (change, over, solved))
            found, beyond, passed = means
            row |= {"change": found["estimate"], "low": found["low"], "high": found["high"]}
            row["sharpened"] = row["change"] - beyond["estimate"]
            if row["low"] > 0:
                row["called"] = beyond_sharpening(beyond["low"], beyond["high"], passed["low"], margin)
            alike = row["low"] == row["high"]
        rows.append(row | {"seeds": len(seeds), "reason": ALIKE if alike else ""})
    return pd.DataFrame(rows)


def planted_words(planted: int, cells: int) -> str:
    """What a verdict on planted cells is about: '6 of 6 cells were planted by the micro world's parameters: …'."""
    words = "were planted by the micro world's parameters: there the instrument is tested, not language models"
    return f"{planted} of {cells} cells {words}"


SAID = {  # by whether any cell is synergy, any interference
    (True, True): "helps some domains and harms others",
    (True, False): "helps some other domains and is not shown to harm any",
    (False, True): "harms some other domains and is not shown to help any",
    (False, False): "is shown neither to help nor to harm another",
}


def answer_sentences(table: pd.DataFrame) -> str:
    """RQ2 in a few sentences: helps or harms, how many off-diagonal cells of `transfer_table` have which label, how small an effect
    can be labelled, and how many of the planted ones the matrix calls rightly; the largest fall on one domain."""
    off, margin = table[table["role"] == "off-diagonal"], table.attrs["margin"]
    count, found = off["label"].value_counts(), off[off["label"].isin(PREDICTED.values())]
    half = _half_width(off)
    synergy, interference, neither, undecided = (count.get(name, 0) for name in (*PREDICTED.values(), "neither", "undecided"))
    said = f"**RL on one domain {SAID[synergy > 0, interference > 0]}.** "
    said += f"Of {len(off)} effects of one domain on another, {synergy} are synergy, {interference} interference "
    said += f"(beyond ±{margin:g} points), {neither} neither, {undecided} undecided"
    if not np.isnan(half):
        worst = off.loc[off["change"].idxmin()]
        said += f"; one of less than about {margin + half:.0f} points could not have been labelled. The lowest change is "
        said += f"{_cell_words(worst)}, {worst['change']:+.1f} points [{worst['low']:.1f}, {worst['high']:.1f}]"
    if (off["predicted"] == "").all():
        return f"{said}."
    said += f". {planted_sentence(table)}"
    planted = f"{(found['predicted'] != '').sum()} of the {len(found)} labelled effects were planted"
    return f"{said} {planted}: there the instrument is tested, not language models." if len(found) else said


def asymmetry_sentence(table: pd.DataFrame, p: pd.Series) -> str:
    """Which pairs of `asymmetry_table` are shown to be one-sided, by their adjusted `p`."""
    ways = [(row.first, row.second)[:: 1 if row.asymmetry > 0 else -1] for row in table[p < LEVEL].itertuples()]
    said = [f"{giver.replace('_', ' ')} gives {taker.replace('_', ' ')} more than it takes" for giver, taker in ways]
    return f"Of {len(table)} pairs {len(said)} are shown to be one-sided{': ' * bool(said)}{'; '.join(said)}."


def family_sentence(table: pd.DataFrame) -> str:
    """How many off-diagonal cells of `transfer_table` have which label, and how large an effect the family could show."""
    off, margin = table[table["role"] == "off-diagonal"], table.attrs["margin"]
    start = f"{len(off)} off-diagonal cells: " + ", ".join(f"{n} {name}" for name, n in off["label"].value_counts().items())
    half = _half_width(off)
    if np.isnan(half):
        return f"{start}; no interval, since every problem changed alike."
    start += f"; critical |t| {table.attrs['critical']:.2f}, median half-width {half:.1f} points"
    start += f", so that only effects beyond about {margin + half:.1f} points can be labelled"
    return start + (f", and most cells are too wide to be called neither (margin ±{margin:g})." if half > margin else ".")


def _half_width(cells: pd.DataFrame) -> float:
    """The median half-width of cells' intervals, in points."""
    return ((cells["high"] - cells["low"]) / 2).median()


def planted_sentence(table: pd.DataFrame) -> str:
    """How many of the cells that were planted to rise or fall the matrix calls rightly, and which wrongly."""
    asked = table[table["predicted"] != ""]
    if asked.empty:
        return "Nothing is planted between these domains: the matrix cannot be scored."
    count, wrong = asked["call"].value_counts(), asked[asked["call"] == "wrongly"]
    named = [f"{_cell_words(row)} ({row.predicted}, called {row.label})" for row in wrong.itertuples()]
    said = ", ".join(f"{count.get(call, 0)} {call}" for call in ("rightly", "undecided", "wrongly"))
    inside = ((asked["low"] <= asked["expected"]) & (asked["expected"] <= asked["high"])).sum()
    said = f"Of {len(asked)} cells with a planted change the matrix calls the direction of {said}{': ' if named else ''}{'; '.join(named)}"
    return f"{said}. The planted size lies in the interval of {inside} of them."


def _cell_words(row) -> str:
    return f"{display_name(row.model)} on {display_domain(row.domain).lower()}"


def cell_sentences(table: pd.DataFrame) -> list[str]:
    """One line for each off-diagonal cell that is synergy or interference, largest change first."""
    found = table[table["label"].isin(["synergy", "interference"])]
    null = table[table["model"] == "rl-null"].set_index("domain")["change"]
    lines = []
    for row in found.sort_values("change", key=abs, ascending=False).itertuples():
        what = f"{_cell_words(row)}: {row.label}, {row.change:+.1f} points [{row.low:.1f}, {row.high:.1f}], pass@K {row.pass_change:+.1f}; "
        if row.label == "synergy":
            what += f"against SFT at best T {row.over_sharpened:+.1f} [{row.over_low:.1f}, {row.over_high:.1f}]: "
            what += "undecided whether transfer" if row.called == "undecided" else row.called
        else:
            what += f"RL-Null {null[row.domain]:+.1f}"
        lines.append(what + (f"; planted: {row.predicted} ({row.expected:+.0f})" if row.predicted else "; not planted"))
    return lines
