"""What our result tables say of each finding `claims.csv` names: tables in, estimate and interval (`claim_ledger.Found`) out."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from m2rl_lib.analysis.rq2_transfer.transfer_matrix import CLAIMS, planted_words
from m2rl_lib.analysis.rq3_policies.policy_neighbours import NEIGHBOUR, PARTNERS
from m2rl_lib.analysis.rq3_weights.mask_overlap import judged, whole
from m2rl_lib.analysis.rq4_methods.gain_vectors import LEAST_SAMPLES
from m2rl_lib.analysis.rq4_methods.seesaw import GAIN
from m2rl_lib.config.model_names import parse_model_name
from m2rl_lib.paper.claim_ledger import Found, NotTestable, of_row, p_beyond
from m2rl_lib.paper.score_tables import Tables
from m2rl_lib.stats.bootstrap import OVERALL, interval
from m2rl_lib.stats.comparisons import LEVEL, display_domain, display_name
from m2rl_lib.stats.rank_correlation import FEWEST

PAIR = ("math", "coding")  # domain A, and B that the paper says to help it


def _need(tables: Tables, name: str) -> pd.DataFrame:
    table = tables.get(name, f"needs the study's table {name}, which scores do not hold")
    if isinstance(table, str):
        raise NotTestable(table)
    return table


def _one(rows: pd.DataFrame, why: str) -> pd.Series:
    """The first row; NotTestable `why` where there is none, or for the `reason` that it gives itself."""
    if rows.empty or rows.iloc[0].get("reason", ""):
        raise NotTestable(why if rows.empty else rows.iloc[0]["reason"])
    return rows.iloc[0]


def mixing_against_merging(tables: Tables) -> Found:
    """RL-Multi − the best merge, mean over domains."""
    row = _need(tables, "contest").iloc[0]
    return of_row(row, f"{row['n']} problems", f"the best merge: {row['chosen']}")


def cost_of_mixing(tables: Tables) -> Found:
    """RL-Multi over the experts in device-seconds; the range holds prompts and generated tokens too."""
    runs = _need(tables, "costs").query("stage == 'rl'")
    experts = runs["model"].map(_is_expert)
    counts = ["device_seconds", "prompts", "generated_tokens"]
    mixed = runs[runs["model"] == "rl-multi"].groupby("seed")[counts].sum()
    there = runs[experts].groupby("seed")["model"].nunique()
    whole = there.index[there == there.max()]  # a seed whose experts are not all trained has no cost to compare with
    ratio = (mixed / runs[experts].groupby("seed")[counts].sum().loc[whole]).dropna()
    if ratio.empty:
        raise NotTestable("no costs of RL-Multi and of experts of one seed")
    limits = ratio["device_seconds"].mean(), ratio.min(axis=None), ratio.max(axis=None)
    note = f"device seconds in the mean of the seeds' ratios; the range is of single seeds and of {', '.join(counts).replace('_', ' ')}"
    note += ", of the runs alone; the budgets set most of it"
    return Found(*limits, f"{runs.loc[experts, 'model'].nunique()} experts", len(ratio), note=note, counted=True)


def _is_expert(model: str) -> bool:
    base, variant = parse_model_name(model)
    return base.startswith("rl-") and base not in ("rl-multi", "rl-null") and not variant


def transfer_cells(tables: Tables) -> list[Found]:
    """The change of every domain by every expert of another, with simultaneous intervals."""
    cells = _need(tables, "transfer").query("role == 'off-diagonal'")
    named = [f"{display_name(row.model)} on {display_domain(row.domain).lower()}" for row in cells.itertuples()]
    rows = [row.rename({"change": "estimate"}) for _, row in cells.iterrows()]
    return [of_row(row, f"{len(rows)} cells", row["reason"] or name) for row, name in zip(rows, named)]


def transfer_mean(tables: Tables, part: str) -> Found:
    """The mean change of the cells of a part of `transfer_matrix.CLAIMS`, and what keeps it from being transfer."""
    row = _one(_need(tables, "rq2").query("claim == @part"), f"no row of {part}")
    notes = [planted_words(int(row["planted"]), row["cells"])] if row["planted"] > 0 else []
    notes += ["SFT at its best temperature gains no less there"] if row["called"] == "sharpening" else []
    n = f"{row['cells']} cell{'s' if row['cells'] > 1 else ''}"
    return of_row(row.rename({"change": "estimate"}), n, "; ".join(notes))


def _inside(part: str, found: Found, edge: float, sign: int) -> Found:
    """How far the quantity of a part of a claim lies above (sign 1) or below (−1) its edge."""
    low, high = sorted(sign * (limit - edge) for limit in (found.low, found.high))
    note = f"{part}{'; ' * bool(found.note)}{found.note}"
    return replace(found, estimate=sign * (found.estimate - edge), low=low, high=high, note=f"the part: {note}")


def transfer_whole(tables: Tables, margin: float) -> list[Found]:
    """The four parts of RQ2, each as its distance from its edge: the worst cells, and the three means."""
    cells = transfer_cells(tables)
    unknown = [cell for cell in cells if not np.isfinite(cell.low)]
    lowest = [min(cells, key=lambda cell: getattr(cell, side)) for side in ("low", "high")]
    worst = unknown[:1] or (lowest if lowest[0] is not lowest[1] else lowest[:1])
    first, *means = CLAIMS
    parts = [_inside(first, cell, -margin, 1) for cell in worst]
    return parts + [_inside(part, transfer_mean(tables, part), margin, sign) for part, sign in zip(means, (1, 1, -1))]


def kl_and_loss(tables: Tables) -> Found:
    """Rank correlation, within domains, of the KL from a domain's expert to a merged model with what that model lost there."""
    row = _one(_need(tables, "rank_correlations").query("x == 'kl' and y == 'delta'"), "no rank correlation of the KL")
    if row["points"] < FEWEST or pd.isna(row["rho"]):
        raise NotTestable(f"{row['points']} points, of which at least {FEWEST} that differ are needed")
    return of_row(row.rename({"rho": "estimate"}), f"{row['points']} points, {row['targets']} models")


def neighbours_against_kl(tables: Tables) -> Found:
    """By how much the error of predicting a left-out domain's losses is smaller with neighbours than with the KL."""
    rows = _need(tables, "predictors").query("one == 'neighbours, the paper\\'s rule' and other == 'KL'")
    row = _one(rows, "no comparison of neighbours with the KL")
    n = f"{row['domains']} domains left out in turn"
    return Found(row["gain"], row["low"], row["high"], n, int(row["seeds"]), int(row["df"]))


def merging_with_neighbours(tables: Tables) -> Found:
    """What a neighbour adds to a merge beyond what another expert does, both against merge(A, SFT)."""
    rows = _need(tables, "neighbour_groups")
    rows = rows[(rows["against"] == PARTNERS["sft"]) & (rows["group"] == "neighbour − not")].dropna(subset="estimate")
    row = _one(rows, "there are not both neighbours and experts that are shown to be none")
    return of_row(row, f"{row['pairs']} ordered pairs, {row['n']} problems")


def pair_asymmetry(tables: Tables) -> Found:
    """What coding, if it neighbours math, adds to math beyond SFT in its place, less what math so adds to coding, points."""
    rows = _need(tables, "neighbour_tests")
    rows, ways = rows[rows["against"] == PARTNERS["sft"]], (PAIR, PAIR[::-1])
    found = (rows[(rows["domain"] == one) & (rows["expert"] == other)] for one, other in ways)
    math, coding = (_one(row, "no merge of math and coding alone") for row in found)
    gains = [f"{row['estimate']:+.1f} [{row['low']:.1f}, {row['high']:.1f}]" for row in (math, coding)]
    note = "beyond merge(A, SFT) coding adds {} points to math, math {} to coding".format(*gains).replace("-", "−")
    if math["label"] != NEIGHBOUR:
        raise NotTestable(f"coding's label on math's prompts is '{math['label']}': no neighbour was added; {note}")
    half = sum((row["high"] - row["low"]) / 2 for row in (math, coding))  # one merge in both: not independent
    gap = math["estimate"] - coding["estimate"]
    both = pd.Series({"estimate": gap, "low": gap - half, "high": gap + half, "seeds": min(math["seeds"], coding["seeds"])})
    return of_row(both, f"{math['n'] + coding['n']} problems", note)


def _mean_excess(table: pd.DataFrame, value: str, control: str | None) -> Found:
    """The mean of `_excess` over pairs of experts, jackknifed over experts; of several seeds at least a t interval over seeds."""
    table = whole(table)
    experts = [name for name in pd.unique(table[["model", "other"]].to_numpy().ravel()) if _is_expert(name)]
    seeds = table["seed"] if "seed" in table else pd.Series(0, table.index)
    wide = pd.DataFrame({seed: _excess(rows, value, control, experts) for seed, rows in table.groupby(seeds)}).dropna()
    pairs, per_seed = wide.mean(axis=1), wide.mean().to_numpy()
    named = sorted({name for pair in pairs.index for name in pair})
    if len(named) < 3:
        raise NotTestable(f"pairs of {len(named)} experts: three at least are needed for an interval")
    left = [pairs[[name not in pair for pair in pairs.index]].mean() for name in named]
    df, n, estimate = len(named) - 1, f"{len(pairs)} pairs of {len(named)} experts", float(pairs.mean())
    mean = table.loc[table["model"].isin(named) & table["other"].isin(named), value].mean()
    note = f"the mean itself is {mean:.2f}, the larger of each pair's controls {mean - estimate:.2f}; the interval is over {{}}"
    half = np.sqrt(df * np.var(left)) * stats.t.ppf(0.975, df)
    over = interval(per_seed, np.tile(per_seed, (1000, 1)))
    if len(per_seed) > 1 and over["high"] - over["low"] > 2 * half:
        return Found(estimate, over["low"], over["high"], n, len(per_seed), len(per_seed) - 1, note.format("seeds"))
    note = note.format(f"the {len(named)} experts: it speaks of other domains, not only of other seeds of these")
    return Found(estimate, estimate - half, estimate + half, n, len(per_seed), df, note)


def _excess(rows: pd.DataFrame, value: str, control: str | None, experts: list[str]) -> pd.Series:
    """Each pair of experts' `value` less the largest of its `control` (without: 0) and both experts' values with RL-Null."""
    table = rows.assign(control=rows[control] if control else 0.0).set_index(rows[["model", "other"]].apply(frozenset, axis=1))
    known, controls = table[value].to_dict(), table["control"].to_dict()
    found = {}
    for pair in combinations(experts, 2):
        null = [known.get(frozenset((name, "rl-null")), np.nan) for name in pair]
        found[pair] = known.get(frozenset(pair), np.nan) - np.nanmax([controls.get(frozenset(pair), 0.0), *null])
    return pd.Series(found, dtype=float)


def overlap_above_chance(tables: Tables) -> Found:
    """Overlap of two experts' largest task-vector entries, above matched random masks and above both experts' with RL-Null."""
    return _mean_excess(judged(_need(tables, "weights_pairs")), "jaccard", "matched")


def shared_direction(tables: Tables) -> Found:
    """Exact cosine of two experts' task vectors, above both experts' with RL-Null."""
    return _mean_excess(_need(tables, "weights_cosines"), "cosine", None)


def seesaw_beyond_luck(tables: Tables, margin: float) -> Found:
    """The gain of choosing by benchmark over luck; against it, a leader that is shown nowhere behind by more than the margin."""
    tested = _need(tables, "seesaw")
    row = tested[tested["measure"] == GAIN].sort_values("p").iloc[-1]
    limits = (row["observed"] - row[column] for column in ("expected", "high", "low"))
    n, note = f"{row['n']} problems, {row['methods']} methods", f"gain {row['observed']:.1f} of which luck {row['expected']:.1f}"
    found = Found(*limits, n, int(row["seeds"]), note=note, p=float(row["p"]), these_weights=True)  # the nulls resample no seeds
    cells = _need(tables, "leader")
    sides = [2 * p_beyond(of_row(cell, n), -margin, upward=True) for _, cell in cells.iterrows() if cell["low"] < cell["high"]]
    p = max(sides) if len(sides) == len(cells) else 1.0  # a cell without spread shows nothing
    if p < LEVEL:
        note += f"; {display_name(cells['model'].iloc[0])} is nowhere behind by more than {margin:g} points"
        return replace(found, note=note, p=p, inside=False)
    return found


def ties_against(tables: Tables, other: str | None = None) -> list[Found]:
    """TIES less each other method, or less `other`, mean over domains."""
    rows = _need(tables, "rivals")
    rows = rows[rows["reference"] == other] if other else rows
    _one(rows, f"no scores of {other}")
    notes = ["" if other else f"against {display_name(name)}" for name in rows["reference"]]
    return [of_row(row, f"{row['n']} problems", note) for (_, row), note in zip(rows.iterrows(), notes)]


def new_skills(tables: Tables) -> Found:
    """RL-Multi's cross-fitted excess over the best of SFT and the experts on each problem."""
    rows = _need(tables, "skills")
    found = (rows["model"] == "rl-multi") & (rows["over"] == OVERALL) & (rows["measure"] == "excess")
    row = _one(rows[found], "no excess of RL-Multi")
    return of_row(row, f"{row['n']} problems, K = {row['k']}")


def coverage(tables: Tables, margin: float) -> list[Found]:
    """pass@k − SFT's, of each way to one model, at the largest k: on composition where there is one, else on the trained domains."""
    rows = _need(tables, "coverage").query("reference == 'sft'")
    over, k = rows["over"].iloc[-1], rows["k"].max()  # composition comes last
    rows = rows[rows["over"] == over]
    last, once = (rows[rows["k"] == number].set_index("model") for number in (k, 1))
    room = 100 - last["reference_score"].iloc[0]
    if k < LEAST_SAMPLES:
        raise NotTestable(f"{k} samples a problem: at least {LEAST_SAMPLES} are needed")
    if room <= margin:
        raise NotTestable(f"SFT's pass@{k} is {100 - room:.1f} on {over}: no more than {room:.1f} points can be gained")
    note = f"{{}} on {over}: pass@1 {{}}; SFT's pass@{k} leaves room for {room:.1f}"
    firsts = [f"{first:+.1f}".replace("-", "−") for first in once["estimate"]]
    said = [note.format(display_name(model), first) for model, first in zip(last.index, firsts)]
    return [of_row(row, f"{row['n']} problems", words) for (_, row), words in zip(last.iterrows(), said)]


def judging(tables: Tables, paradigm: str, parts: str) -> list[Found]:
    """Rows of `outcome_or_process.part_table` ('+' between parts), on the set of trajectories that all judges share."""
    table, found = _need(tables, "rq5"), []
    for name in parts.split("+"):
        rows = table[(table["claim"] == name) & (table["paradigm"] == paradigm) & (table["set"] == "shared")]
        row = _one(rows, f"no row of {name} for {paradigm}")
        found.append(of_row(row, f"{int(row['problems'])} problems"))
    return found
