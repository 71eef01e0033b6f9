"""RQ2: what training on one domain does to the others, with labels that may be believed.

T(i→r) is the change against SFT, in points, of the expert of domain i on the benchmarks of r (paper, RQ2). Labels, margin and
baselines are ours: a gain that SFT at its best temperature matches is *sharpening*, no transfer.
"""

import numpy as np
import pandas as pd
from scipy import stats

from m2rl_lib.stats.bootstrap import Resample, interval, mean_over_seeds, problem_means, resample
from m2rl_lib.stats.comparisons import MARGIN, display_domain, display_name

REFERENCES = ("rl-multi", "rl-math@repeat=1", "sft-sharpened", "rl-null")  # rows below the experts, where there
ARITHMETIC = ("math", "coding", "science", "agent")  # share arithmetic where `data_shared_arithmetic` says so
REASONING = ("math", "coding", "science")  # the paper's reasoning domains
INSTRUCTIONS = "instruction_following"
ALIKE = "every problem changed alike: the spread is unknown"


def simultaneous(
    points: np.ndarray, draws: np.ndarray, n: np.ndarray, strata: np.ndarray, level: float = 0.95, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, float]:
    """Intervals (C,), (C,) that cover all cells at once with probability `level`, and the critical |t|.

    `points` (C, S) of each cell and seed, `draws` (B, C, S) their joint bootstrap resamples, `n` and `strata` (C,) each cell's
    problems and benchmarks. Half-widths are the `level` quantile of max_c |draw − estimate| / sd, taken as a normal quantile and
    turned into Student's with n − strata degrees of freedom, times sd √(n / (n − strata)); of several seeds at least a
    Bonferroni t interval over seeds. A cell whose resamples never differ gets NaN.
    """
    estimate, means, free = points.mean(axis=1), mean_over_seeds(draws, seed), n - strata
    error = means.std(axis=0, ddof=1)
    error = np.where((error > 1e-9) & (free > 0), error, np.nan)
    if np.isnan(error).all():
        return np.full(len(points), np.nan), np.full(len(points), np.nan), np.nan
    critical = float(np.quantile(np.nanmax(np.abs(means - estimate) / error, axis=1), level))
    half = stats.t.isf(stats.norm.sf(critical), np.fmax(free, 1)) * error * np.sqrt(n / np.fmax(free, 1))
    seeds = points.shape[1]
    if seeds > 1:
        over_seeds = points.std(axis=1, ddof=1) / np.sqrt(seeds)
        half = np.fmax(half, over_seeds * stats.t.ppf(1 - (1 - level) / (2 * len(points)), seeds - 1))
    return estimate - half, estimate + half, critical


def label(low: float, high: float, margin: float = MARGIN) -> str:
    """'synergy', 'interference', 'neither' or 'undecided' (also of NaN): (4, 12), (-12, -4), (-2, 2), (1, 9) at margin 3."""
    if low > margin:
        return "synergy"
    if high < -margin:
        return "interference"
    return "neither" if -margin < low and high < margin else "undecided"


def _changes(sample: Resample, cells: list[tuple[str, str]], reference: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Change of each (model, domain) against `reference`: points (C, S), draws (B, C, S), why a cell is refused."""
    seeds = sorted(set.intersection(*(set(sample.seeds(model)) for model in [reference, *dict(cells)])))
    if not seeds:
        raise ValueError(f"{', '.join(dict(cells))} and {reference} have no seed in common: one is needed")
    both = [[sample.values(name, seeds, sample.weights(domain)) for name in (model, reference)] for model, domain in cells]
    points = np.array([a[0] - b[0] for a, b in both])
    draws = np.stack([a[1] - b[1] for a, b in both], axis=1)
    return points, draws, [a[2] or b[2] for a, b in both]


def _intervals(sample: Resample, cells: pd.DataFrame, reference: str) -> pd.DataFrame:
    """change, low, high, seeds, reason of each cell; simultaneous over those of role 'off-diagonal', ordinary elsewhere."""
    found = pd.DataFrame(index=cells.index, columns=["change", "low", "high", "seeds", "reason"])
    for model, rows in cells.groupby("model", sort=False):
        points, draws, reasons = _changes(sample, [(model, domain) for domain in rows["domain"]], reference)
        for place, row in enumerate(rows.index):
            one = {"estimate": np.nan, "low": np.nan, "high": np.nan}
            one = one if reasons[place] else interval(points[place], draws[:, place], sample.seed)
            found.loc[row] = [one["estimate"], one["low"], one["high"], points.shape[1], reasons[place]]
    family = cells.index[(cells["role"] == "off-diagonal") & (found["reason"] == "")]
    if len(family):
        pairs = list(cells.loc[family, ["model", "domain"]].itertuples(index=False, name=None))
        points, draws, _ = _changes(sample, pairs, reference)
        sizes = sample.benchmarks.groupby("domain")["n"].agg(["sum", "size"]).loc[[domain for _, domain in pairs]].to_numpy()
        low, high, critical = simultaneous(points, draws, *sizes.T, seed=sample.seed)
        found.loc[family, "low"], found.loc[family, "high"], found.attrs["critical"] = low, high, critical
        found.loc[family[np.isnan(low)], "reason"] = ALIKE
    return found.astype({"change": float, "low": float, "high": float, "seeds": int})


def transfer_table(
    scores: pd.DataFrame,
    domains: list[str],
    *,
    pass_k: int,
    shared_arithmetic: bool | list[str],
    margin: float = MARGIN,
    draws: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """The transfer matrix in long form: every expert, and the reference rows there are, on every domain.

    Columns: model, domain, role ('own', 'off-diagonal', 'reference'), change, low, high (points against SFT), label (of off-diagonal
    cells), pass_… (of pass@`pass_k`), over_… (against SFT sharpened), called (of a synergy, by `beyond_sharpening`), origin ('built
    in' where both domains were given arithmetic, else 'open'), n (problems), seeds, reason. `attrs`: critical |t|, cells, margin.
    """
    experts = [f"rl-{domain}" for domain in domains]
    rows = [*experts, *(model for model in REFERENCES if model in set(scores["model"]))]
    lacking = [model for model in ["sft", "sft-sharpened", "rl-null", *experts] if model not in set(scores["model"])]
    if lacking:
        raise ValueError(f"scores has no {', '.join(lacking)}: every expert, sft, sft-sharpened and rl-null are needed")
    kept = scores[scores["model"].isin(["sft", *rows]) & scores["domain"].isin(domains)]
    cells = pd.DataFrame([(model, domain) for model in rows for domain in domains], columns=["model", "domain"])
    own = cells["model"] == "rl-" + cells["domain"]
    cells["role"] = np.select([own, cells["model"].isin(experts)], ["own", "off-diagonal"], "reference")
    sample, tries = (resample(problem_means(kept, k), draws=draws, seed=seed) for k in (None, pass_k))
    change = _intervals(sample, cells, "sft")
    passed = _intervals(tries, cells, "sft").add_prefix("pass_")[["pass_change", "pass_low", "pass_high"]]
    over = _intervals(sample, cells, "sft-sharpened")[["change", "low", "high"]]
    over.columns = ["over_sharpened", "over_low", "over_high"]
    table = pd.concat([cells, change[["change", "low", "high"]], passed, over, change[["seeds", "reason"]]], axis=1)
    off = table["role"] == "off-diagonal"
    labels = [label(low, high, margin) for low, high in zip(table["low"], table["high"])]
    table.insert(6, "label", np.where(off, labels, ""))
    called = [beyond_sharpening(low, high, margin) for low, high in zip(table["over_low"], table["over_high"])]
    table["called"] = np.where(table["label"] == "synergy", called, "")
    shared = (
        {"math", *shared_arithmetic} if isinstance(shared_arithmetic, list) else {*ARITHMETIC} if shared_arithmetic else set()
    )
    built = [{model.removeprefix("rl-"), domain} <= shared for model, domain in zip(table["model"], table["domain"])]
    table["origin"] = np.where(off, np.where(built, "built in", "open"), "")
    table["n"] = table["domain"].map(sample.benchmarks.groupby("domain")["n"].sum())
    table.attrs = {"critical": change.attrs.get("critical", np.nan), "cells": int(off.sum()), "margin": margin}
    return table


def beyond_sharpening(low: float, high: float, margin: float = MARGIN) -> str:
    """What a gain is called, from the interval of model − SFT sharpened: 'transfer' above 0, 'sharpening' below +margin."""
    return "transfer" if low > 0 else "sharpening" if high < margin else "undecided"


def asymmetry_table(scores: pd.DataFrame, domains: list[str], draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """T(i→r) / T(r→r) − T(r→i) / T(i→i) of every pair of domains: what another domain's training gives as a share of one's own.

    gives is the first part, takes the second: gains 4 of 20 one way and 10 of 20 the other have asymmetry 0.2 − 0.5 = −0.3. NaN
    and a reason where an own gain's interval is not above 0.
    """
    experts = {domain: f"rl-{domain}" for domain in domains}
    kept = scores[scores["model"].isin(["sft", *experts.values()]) & scores["domain"].isin(domains)]
    sample, rows = resample(problem_means(kept), draws=draws, seed=seed), []
    for place, first in enumerate(domains):
        for second in domains[place + 1 :]:
            pairs = [(first, second), (second, second), (second, first), (first, first)]
            points, redrawn, reasons = _changes(sample, [(experts[i], r) for i, r in pairs], "sft")
            row = dict.fromkeys(["gives", "takes", "asymmetry", "low", "high", "p"], np.nan)
            reason = next((reason for reason in reasons if reason), "")
            for own in (1, 3):
                if not reason and interval(points[own], redrawn[:, own], seed)["low"] <= 0:
                    reason = f"the 95% interval of {display_domain(pairs[own][0])}'s own gain is not above 0"
            if not reason:
                (gives, takes), found = _ratio_difference(points, redrawn, seed)
                row = {"gives": gives, "takes": takes, "asymmetry": gives - takes} | {k: found[k] for k in ("low", "high", "p")}
            rows.append({"first": first, "second": second, **row, "seeds": points.shape[1], "reason": reason})
    return pd.DataFrame(rows)


def _ratio_difference(points: np.ndarray, draws: np.ndarray, seed: int) -> tuple[tuple[float, float], dict]:
    """Shares a/b and c/d of the cells a, b, c, d, (4, S) and (B, 4, S), and the interval of a/b − c/d."""
    a, b, c, d = points.mean(axis=1)
    means = mean_over_seeds(draws, seed)
    redrawn = means[:, 0] / means[:, 1] - means[:, 2] / means[:, 3]
    # one seed: a/b − c/d itself; several: the value of each seed, linearised about the means
    linear = a / b - c / d + (points[0] - a / b * points[1]) / b - (points[2] - c / d * points[3]) / d
    return (a / b, c / d), interval(linear, np.repeat(redrawn[:, None], len(linear), axis=1), seed)


CLAIMS = {  # the paper's answer to RQ2, part by part: the domains trained on, and those tested on (None: all)
    "Little interference": (None, None),
    "Reasoning domains help each other": (REASONING, REASONING),
    "Instruction following helps reasoning": ((INSTRUCTIONS,), REASONING),
    "Reasoning hardly helps instruction following": (REASONING, (INSTRUCTIONS,)),
}


def claimed_changes(
    scores: pd.DataFrame, table: pd.DataFrame, domains: list[str], margin: float = MARGIN, draws: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """What the ledger reads of each part of the paper's answer to RQ2 (`CLAIMS`); `table` is `transfer_table`'s.

    Counts of labels, built_in (cells between domains given arithmetic), change with its interval (the worst cell, or the mean of
    the cells), sharpened (mean change of SFT sharpened there), called (of a gain), reason (why there is no number).
    """
    kept = scores[scores["model"].isin(["sft", "sft-sharpened", *table["model"]]) & scores["domain"].isin(domains)]
    sample, rows = resample(problem_means(kept), draws=draws, seed=seed), []
    indexed = table.set_index(["model", "domain"])
    for claim, (trained, tested) in CLAIMS.items():
        pairs = [(f"rl-{i}", r) for i in trained or domains for r in tested or domains if i != r and {i, r} <= {*domains}]
        row = {"claim": claim, "cells": len(pairs), "called": ""}
        if not pairs or indexed.loc[pairs, "change"].isna().any():
            rows.append(row | {"reason": "the study has no such cells" if not pairs else "a score was refused"})
            continue
        cells = indexed.loc[pairs]
        row |= {kind: int((cells["label"] == kind).sum()) for kind in ("synergy", "interference", "neither", "undecided")}
        row["built_in"] = int((cells["origin"] == "built in").sum())
        points, redrawn, _ = _changes(sample, pairs, "sft")
        if trained is None:
            row |= cells.loc[cells["change"].idxmin(), ["change", "low", "high"]].to_dict()
            alike = cells["low"].isna().all()
        else:
            found = interval(points.mean(axis=0), redrawn.mean(axis=1), seed)
            row |= {"change": found["estimate"], "low": found["low"], "high": found["high"]}
            over, over_draws, _ = _changes(sample, pairs, "sft-sharpened")
            beyond = interval(over.mean(axis=0), over_draws.mean(axis=1), seed)
            row["sharpened"] = row["change"] - beyond["estimate"]
            row["called"] = beyond_sharpening(beyond["low"], beyond["high"], margin) if row["low"] > 0 else ""
            alike = row["low"] == row["high"]
        rows.append(row | {"seeds": points.shape[1], "reason": ALIKE if alike else ""})
    return pd.DataFrame(rows)


def family_sentence(table: pd.DataFrame) -> str:
    """How many off-diagonal cells of `transfer_table` have which label, and how large an effect the family could show."""
    off, margin = table[table["role"] == "off-diagonal"], table.attrs["margin"]
    counted = ", ".join(f"{count} {name}" for name, count in off["label"].value_counts().items())
    half = ((off["high"] - off["low"]) / 2).median()
    if np.isnan(half):
        return f"{len(off)} off-diagonal cells: {counted}; no interval, since every problem changed alike."
    told = f"{len(off)} off-diagonal cells: {counted}; critical |t| {table.attrs['critical']:.2f}, median half-width {half:.1f} points"
    able = f", so that only effects beyond about {margin + half:.1f} points can be labelled"
    return told + able + (f", and most cells are too wide to be called neither (margin ±{margin:g})." if half > margin else ".")


def cell_sentences(table: pd.DataFrame) -> list[str]:
    """One line for each off-diagonal cell that is synergy or interference, largest change first."""
    found = table[table["label"].isin(["synergy", "interference"])]
    floor = table[table["model"] == "rl-null"].set_index("domain")["change"]
    lines = []
    for row in found.sort_values("change", key=abs, ascending=False).itertuples():
        what = f"{display_name(row.model)} on {display_domain(row.domain).lower()}: {row.label}"
        what += f", {row.change:+.1f} points [{row.low:.1f}, {row.high:.1f}], pass@K {row.pass_change:+.1f}"
        if row.label == "synergy":
            built = "manipulated (built in)" if row.origin == "built in" else "not built in"
            what += f"; against SFT sharpened {row.over_sharpened:+.1f} [{row.over_low:.1f}, {row.over_high:.1f}]: "
            what += f"{'undecided whether transfer' if row.called == 'undecided' else row.called}; {built}"
        else:
            what += f"; RL-Null {floor[row.domain]:+.1f}"
        lines.append(what)
    return lines
