"""The one rule by which every finding is judged: from one estimate and its interval to a verdict.

A claim is a *region* of values of one quantity: *supported* if it is shown to lie inside, *contradicted* if outside, else
*undecided*. Shown: p < 0.05 (of the 95% interval; of two one-sided tests for an *equivalence*), adjusted by Bonferroni over the
primary claims (one per question) or Benjamini–Hochberg among the exploratory ones of a question."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from m2rl_lib.stats.bootstrap import SCOPES
from m2rl_lib.stats.comparisons import LEVEL, benjamini_hochberg

SUPPORTED, CONTRADICTED, UNDECIDED, NOT_TESTABLE = "supported", "contradicted", "undecided", "not testable"
VERDICTS = (SUPPORTED, CONTRADICTED, UNDECIDED, NOT_TESTABLE)
ASKED_BY_US = "asked by us, not by the paper"
POINTS, RATIO = "points", "ratio"  # units that are written in a way of their own


class NotTestable(ValueError):
    """Why a claim cannot be tested here, in one line."""


@dataclass(frozen=True)
class Found:
    """One measured quantity: estimate and 95% interval."""

    estimate: float
    low: float
    high: float
    n: str  # from how many problems, in words
    seeds: int = 1
    df: int | None = None  # of the interval's t law (None: normal)
    note: str = ""
    p: float | None = None  # two-sided, where the test is not the interval's
    inside: bool = True  # the side of the edge that this p is for
    counted: bool = False  # a range of counts without p
    these_weights: bool = False  # about fixed checkpoints, whatever the seeds


@dataclass(frozen=True)
class Claim:
    """A finding of the paper as a region (`above`, `below`) of one quantity."""

    question: str
    claim: str
    quantity: str
    unit: str
    published: tuple[float, str]  # the paper's value (or NaN) and evidence in words
    measure: Callable[[dict], Found | Sequence[Found]]  # of result tables; several must all lie in the region
    rule: str = ""  # what the general rule does not say
    above: float = -np.inf
    below: float = np.inf
    primary: bool = False
    equivalence: bool = False
    joint: bool = False  # the intervals of several are simultaneous already


def of_row(row: pd.Series, n: str, note: str = "") -> Found:
    """A row with estimate, low, high and seeds as Found; over several seeds its interval counts as a t interval."""
    seeds = int(row["seeds"]) if pd.notna(row.get("seeds")) else 1
    return Found(row["estimate"], row["low"], row["high"], n, seeds, seeds - 1 if seeds > 1 else None, note)


def _laws(found: Found) -> list:
    """The laws that an interval may have: the wider of t over seeds and the bootstrap's is shown, and which it was is not kept."""
    return [stats.norm] if found.df is None else [stats.norm, stats.t(found.df)]


def _stretch(found: Found, quantile: float) -> float:
    """The distance of this quantile from the estimate, in half-widths of the 95% interval; of two laws the larger."""
    return max(law.ppf(quantile) / law.ppf(0.975) for law in _laws(found))


def p_beyond(found: Found, edge: float, upward: bool) -> float:
    """One-sided p against 'the quantity is not above (`upward`) or below `edge`'. 4 [1, 7] above 1 has p = 0.025."""
    half = found.estimate - found.low if upward else found.high - found.estimate
    half = half if half > 0 else (found.high - found.low) / 2  # an estimate outside its own bootstrap interval
    distance = found.estimate - edge if upward else edge - found.estimate
    return float(max(law.sf(distance / half * law.ppf(0.975)) for law in _laws(found)))


def p_region(claim: Claim, found: Found, inside: bool) -> float:
    """p of the test that shows the quantity inside, or outside, the region: two-sided; inside an equivalence one-sided."""
    edges = [(claim.above, inside), (claim.below, not inside)]
    one_sided = [p_beyond(found, edge, upward) for edge, upward in edges if np.isfinite(edge)]
    return max(one_sided) * (1 if claim.equivalence else 2) if inside else 2 * min(one_sided)


def weigh(claim: Claim, found: Found | Sequence[Found]) -> tuple[Found, float, bool, int]:
    """The Found to show, the claim's p before adjustment, whether it speaks for the claim, and of how many tests that p is. Of
    several parts, for the claim the largest p counts (all must be inside), against it the smallest, times the number of parts
    unless their intervals are simultaneous. NotTestable where an estimate is missing or its interval has no width."""
    parts = [found] if isinstance(found, Found) else list(found)
    for part in parts:
        if not np.isfinite([part.estimate, part.low, part.high]).all():
            raise NotTestable(part.note or "the estimate or its interval is undefined")
        if part.p is None and not part.counted and not part.low < part.high:
            raise NotTestable(f"every problem came out alike ({part.estimate:g} {claim.unit}): the spread is unknown")
    if parts[0].counted:
        return parts[0], np.nan, bool(claim.above < parts[0].estimate < claim.below), 1
    if parts[0].p is not None:
        return parts[0], parts[0].p, parts[0].inside, 1
    for_it, against = ([p_region(claim, part, inside) for part in parts] for inside in (True, False))
    times = 1 if claim.joint else len(parts)
    if times * min(against) < LEVEL or (len(parts) == 1 and against[0] < for_it[0]):
        return parts[int(np.argmin(against))], min(1.0, times * min(against)), False, times
    return parts[int(np.argmax(for_it))], min(1.0, max(for_it)), True, 1


def seen(found: Found, tests: int = 1) -> float:
    """The minimum detectable effect, at 80% power, in one of `tests` (Bonferroni): half-width 3, 3 × (1.96 + 0.84) / 1.96 = 4.3."""
    return float((found.high - found.low) / 2 * (_stretch(found, 1 - LEVEL / 2 / tests) + _stretch(found, 0.8)))


def _deciding(claim: Claim, found: Found, inside: bool, tests: int) -> dict[str, float]:
    """The ends of the interval that decides: of 95%, or of 90% inside an equivalence; adjusted over `tests`."""
    wider = 1 if found.counted else _stretch(found, 1 - LEVEL / (1 if claim.equivalence and inside else 2) / tests)
    ends = (("decides_low", found.low), ("decides_high", found.high))
    return {name: found.estimate + wider * (limit - found.estimate) for name, limit in ends}


def _rule_words(claim: Claim) -> str:
    """The claim's rule in words, its own addition at the end."""
    level, added = "90" if claim.equivalence else "95", f"; {claim.rule}" if claim.rule else ""
    supported = f"supported if the {level}% interval lies {_region_words(claim)}"
    return f"{supported}, contradicted if the 95% interval lies wholly outside, each with p < {LEVEL:g} after adjustment{added}"


def _region_words(claim: Claim) -> str:
    """'above −3 points', 'below 1', 'between −0.3 and 0.3'."""
    unit = f" {claim.unit}" if claim.unit == POINTS else ""
    low, high = (f"{edge:g}".replace("-", "−") for edge in (claim.above, claim.below))
    if np.isinf(claim.below):
        return f"above {low}{unit}"
    return f"below {high}{unit}" if np.isinf(claim.above) else f"between {low} and {high}{unit}"


def region_edges(words: str) -> tuple[float, float]:
    """The edges of a region in words: 'above −3 points' → (−3, inf), 'between −0.3 and 0.3' → (−0.3, 0.3)."""
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", words.replace("−", "-"))]
    if words.startswith("between"):
        return numbers[0], numbers[1]
    return (numbers[0], np.inf) if words.startswith("above") else (-np.inf, numbers[0])


COLUMNS = [
    *("id", "question", "role", "claim", "published", "published_value", "quantity", "unit", "region", "rule"),
    *("estimate", "low", "high", "p", "family", "p_adjusted", "verdict", "seen", "n", "seeds", "scope", "reason"),
    *("decides_low", "decides_high"),
]


def _row(claim: Claim, tables: dict, looks: int) -> dict:
    row = {name: getattr(claim, name) for name in ("question", "claim", "quantity", "unit")}
    row |= {"role": "primary" if claim.primary else "exploratory", "region": _region_words(claim), "rule": _rule_words(claim)}
    row["published_value"], row["published"] = claim.published
    try:
        found, p, inside, parts = weigh(claim, claim.measure(tables))
    except NotTestable as why:
        return row | {"reason": str(why), "p": np.nan, "verdict": NOT_TESTABLE}
    leaning = SUPPORTED if inside else CONTRADICTED
    if found.counted and len({claim.above < end < claim.below for end in (found.low, found.high)}) > 1:  # in part: undecided
        leaning = UNDECIDED
    row |= {name: getattr(found, name) for name in ("estimate", "low", "high", "n", "seeds")}
    tests = looks if claim.primary else 1
    row |= _deciding(claim, found, inside, tests * parts)
    scope, able = SCOPES[found.seeds == 1 or found.these_weights], np.nan if found.counted else seen(found, tests)
    return row | {"p": p, "verdict": leaning, "seen": able, "scope": scope, "reason": found.note}


def ledger(claims: Sequence[Claim], tables: dict[str, pd.DataFrame | str], question: str | None = None) -> pd.DataFrame:
    """One row per claim, of all questions or one: COLUMNS. `tables`: result tables, or in a table's place why it is not there."""
    asked = [claim for claim in claims if question in (None, claim.question)]
    looks = sum(claim.primary for claim in claims)
    rows = pd.DataFrame([_row(claim, tables, looks) for claim in asked]).reindex(columns=COLUMNS)
    rows["id"] = rows["question"] + "." + (rows.groupby("question").cumcount() + 1).astype(str)
    primary = rows["role"] == "primary"
    rows["family"] = np.where(primary, f"Bonferroni, {looks} primary claims", "Benjamini–Hochberg, " + rows["question"])
    rows["p_adjusted"] = (looks * rows["p"]).clip(upper=1).where(primary)
    for _, part in rows[~primary & rows["p"].notna()].groupby("question"):
        rows.loc[part.index, "p_adjusted"] = benjamini_hochberg(part["p"])
    rows.loc[rows["p"].notna() & ~(rows["p_adjusted"] < LEVEL), "verdict"] = UNDECIDED
    return rows.astype({"p_adjusted": float, "seeds": "Int64"})


def _digits_and_unit(row: pd.Series) -> tuple[int, str]:
    return (1, f" {row['unit']}") if row["unit"] == POINTS else (2, "")


def capitalise(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}"


def estimate_words(row: pd.Series) -> str:
    """'+4.1 points [1.6, 6.8]', or '–' where nothing was measured; points to one decimal, other units to two."""
    if pd.isna(row["estimate"]):
        return "–"
    digits, unit = _digits_and_unit(row)
    sign = "" if row["unit"] == RATIO else "+"
    return f"{row['estimate']:{sign}.{digits}f}{unit} [{row['low']:.{digits}f}, {row['high']:.{digits}f}]".replace("-", "−")


def claim_sentence(row: pd.Series, mark: str = "") -> str:
    """A row of the ledger in English, whatever its verdict, which stands between two of `mark`."""
    words = f"{row['id']} {row['claim']}{whose(row)}: {mark}{row['verdict']}{mark}. "
    reason = capitalise(f"{row['reason']}.") if row["reason"] else ""
    if row["verdict"] == NOT_TESTABLE:
        return words + reason
    overruled = after_adjustment(row)
    shown = row["family"] if overruled else f"p = {row['p_adjusted']:.2g}, {row['family']}"
    shown = "a count, not a sample" if pd.isna(row["p_adjusted"]) else shown
    words += f"{capitalise(row['quantity'])}: {estimate_words(row)}{overruled}, claimed {row['region']} ({shown}; {row['n']}, "
    words += f"{row['seeds']} seed{'' if row['seeds'] == 1 else 's'}: on {row['scope']})"
    if row["verdict"] == UNDECIDED and pd.notna(row["seen"]) and not overruled:
        digits, unit = _digits_and_unit(row)
        words += f"; {row['seen']:.{digits}f}{unit} beyond the edge is the minimum detectable effect"
    return f"{words}. {reason}".rstrip()


def whose(row: pd.Series) -> str:
    """' (ours)' of a finding that the paper does not state."""
    return " (ours)" if row["published"] == ASKED_BY_US else ""


def after_adjustment(row: pd.Series) -> str:
    """'; undecided by the adjustment for several tests alone, p = 0.056' where the interval beside it would decide; else ''."""
    overruled = row["verdict"] == UNDECIDED and row["p"] < LEVEL
    return f"; undecided by the adjustment for several tests alone, p = {row['p_adjusted']:.2g}" if overruled else ""


def what_would_change(rows: pd.DataFrame) -> str:
    """What the verdicts of the rows' primary claims hang on, in one sentence each: how near their interval comes to the edge."""
    lines = []
    for _, row in rows[rows["role"] == "primary"].iterrows():
        digits, unit = _digits_and_unit(row)
        if row["verdict"] == NOT_TESTABLE:
            lines.append(f"{row['id']} needs a result first: {row['reason']}.")
        elif row["verdict"] == UNDECIDED and pd.notna(row["seen"]):
            able = f"an estimate {row['seen']:.{digits}f}{unit} from the edge of the claimed region ({row['region']})"
            lines.append(f"{row['id']} is undecided: {able} would have decided it in four of five repetitions.")
        elif row["verdict"] == UNDECIDED:
            both = f"{estimate_words(row)} lies on both sides of the claimed region ({row['region']})"
            lines.append(f"{row['id']} is undecided: {both}.")
        else:
            (above, below), inside = region_edges(row["region"]), row["verdict"] == SUPPORTED
            low, high = (row[f"decides_{end}"] for end in ("low", "high"))
            room = max(min(low - above, below - high) if inside else max(above - high, low - below), 0)
            place = f"{room:.{digits}f}{unit} {'inside' if inside else 'outside'} the claimed region ({row['region']})"
            ends = f"[{low:.{digits}f}, {high:.{digits}f}]".replace("-", "−")
            adjusted = "" if pd.isna(row["p_adjusted"]) else f"the interval that decides, adjusted ({row['family']}), "
            lines.append(f"{row['id']} is {row['verdict']}: {adjusted}{ends} ends {place}; a change of that size would undo it.")
    return "**What would change the answer.** " + " ".join(lines)


def bullets(rows: pd.DataFrame) -> str:
    """Rows of the ledger as a Markdown list of sentences, their verdicts in bold."""
    return "\n".join(f"- {claim_sentence(row, '**')}" for _, row in rows.iterrows())
