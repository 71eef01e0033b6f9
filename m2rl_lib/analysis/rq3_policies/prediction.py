"""Does a policy distance, or having a neighbour, predict what a merged or mixed model loses against an expert (RQ3)?"""

import numpy as np
import pandas as pd
from scipy import stats

from m2rl_lib.analysis.rq3_policies.policy_neighbours import NEIGHBOUR
from m2rl_lib.analysis.rq3_weights import mask_overlap
from m2rl_lib.stats.comparisons import benjamini_hochberg, compare_alone
from m2rl_lib.stats.graded_samples import models_in, require_columns
from m2rl_lib.stats.over_seeds import t_interval, widest

LEAST = 1e-6  # nats: a smaller KL is rounding
PREDICTORS = {  # name: columns of `prediction_points`
    "mean of the other domains": [],
    "KL": ["log_kl"],
    "neighbours": ["neighbours"],
    "neighbours, the paper's rule": ["target_neighbours"],
    "KL and neighbours": ["log_kl", "neighbours"],
    "KL and neighbours, the paper's rule": ["log_kl", "target_neighbours"],
}

# by the verdict: it is claimed not to
KL_SAID = {"supported": "No", "contradicted": "Yes", "undecided": "Undecided", "not testable": "Not testable"}
ORDER_SAID = {"as planted": "yes", "not as planted": "no", "undecided": "undecided"}
PREDICTED = {"kl": "KL", "neighbours": "neighbours", "target_neighbours": "neighbours, the paper's rule"}  # x, in figures


def performance_changes(scores: pd.DataFrame, targets: dict[str, list[str]], margin: float, draws: int = 10_000) -> pd.DataFrame:
    """ΔPerf(target, A) = score of the target − score of A's expert on A's benchmarks, paired, on each target's domains. A target
    without scores is left out: a seed has no merge with the settings that another seed's selection problems chose."""
    frames, there = [], models_in(scores)
    for domain in dict.fromkeys(name for where in targets.values() for name in where):
        asked = [target for target, where in targets.items() if domain in where and target in there]
        pairs = [(target, f"rl-{domain}") for target in asked if target != f"rl-{domain}"]
        if pairs:
            frames.append(compare_alone(scores[scores["domain"] == domain], pairs, [domain], margin, draws))
    named = {"model": "target", "over": "domain", "estimate": "delta", "low": "delta_low", "high": "delta_high"}
    columns = [*named.values(), "verdict", "n", "seeds", "scope"]
    return pd.concat(frames, ignore_index=True).rename(columns=named)[columns]


def prediction_points(
    table: pd.DataFrame, changes: pd.DataFrame, parts: dict[str, list[str]], own: pd.DataFrame, of_target: pd.DataFrame
) -> pd.DataFrame:
    """One point a multi-domain model and domain A it is made of (and a seed, where `table` and `changes` have one): `changes`
    with kl, se (of D_A(A‖target)), log_kl, and the shares of its other experts that neighbour A by `own` and `of_target`
    (`neighbour_table`s)."""
    require_columns(table, ["domain", "source", "target", "kl", "se"], "KL cross table")
    diagonal = table[table["source"] == "rl-" + table["domain"]]
    columns = [name for name in ("seed", "target", "domain", "kl", "se") if name in table]
    points = changes[changes["target"].isin(parts)].merge(diagonal[columns])
    points["log_kl"] = np.log(points["kl"].clip(lower=LEAST))
    near = {(row.domain, row.expert) for row in own.itertuples() if row.label == NEIGHBOUR}
    near_target = {(row.domain, row.expert, row.target) for row in of_target.itertuples() if row.label == NEIGHBOUR}
    cells = list(zip(points["domain"], points["target"]))
    others = [[part for part in parts[target] if part != domain] for domain, target in cells]
    points["neighbours"] = [np.mean([(d, part) in near for part in some]) for (d, _), some in zip(cells, others)]
    points["target_neighbours"] = [np.mean([(d, part, t) in near_target for part in some]) for (d, t), some in zip(cells, others)]
    return points


def held_out_errors(points: pd.DataFrame) -> pd.DataFrame:
    """Root mean square error of ΔPerf of each domain, predicted by least squares on PREDICTORS from the other domains' points."""
    domains, delta = list(pd.unique(points["domain"])), points["delta"].to_numpy()
    if len(domains) < 2:
        raise ValueError(f"points of {', '.join(domains) or 'no domain'}: leaving one domain out needs at least two")
    rows = []
    for predictor, columns in PREDICTORS.items():
        design = np.column_stack([np.ones(len(points)), points[columns].to_numpy(float)])
        for domain in domains:
            out = (points["domain"] == domain).to_numpy()
            fitted = np.linalg.lstsq(design[~out], delta[~out], rcond=None)[0]
            rmse = float(np.sqrt(((delta[out] - design[out] @ fitted) ** 2).mean()))
            rows.append((predictor, domain, rmse, int(out.sum())))
    return pd.DataFrame(rows, columns=["predictor", "domain", "rmse", "n"])


def compare_predictors(errors: pd.DataFrame) -> pd.DataFrame:
    """rmse(other) − rmse(one) of the predictors on left-out domains, with the wider t interval over domains or seeds."""
    wide, (nothing, kl, *rest) = errors.pivot(index="domain", columns=["predictor", "seed"], values="rmse"), PREDICTORS
    rows = []
    for one, other in [(kl, nothing), *((one, other) for other in (nothing, kl) for one in rest)]:
        gains = (wide[other] - wide[one]).to_numpy()
        gain = widest(gains)
        mean, low, high = t_interval(gain)
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        p = float(2 * stats.t.sf(abs(mean) / error, len(gain) - 1)) if error > 1e-12 else float(abs(mean) < 1e-12)
        rows.append((one, other, mean, low, high, p, *gains.shape, len(gain) - 1))
    table = pd.DataFrame(rows, columns=["one", "other", "gain", "low", "high", "p", "domains", "seeds", "df"])
    table.insert(6, "p_adjusted", benjamini_hochberg(table["p"]))
    return table


def answer_sentence(summary: pd.DataFrame, entries: pd.DataFrame, order: pd.DataFrame | None = None) -> str:
    """What weights and policies say, and whether the planted order was seen, as questions and their answers: of
    `mask_overlap.summarise_pairs`, the ledger's `entries` and `planted_order.order_table` (None: nothing was planted)."""
    masks, angle = mask_overlap.judged(summary).iloc[0], summary[summary["kind"] == "cosine"].iloc[0]
    judged = entries.drop_duplicates("unit").set_index("unit")
    kl, (overlap, direction) = judged.loc["rank correlation"], judged.loc[["Jaccard", "cosine"], "verdict"]
    null = f" ({angle['with_null']:.2f} with RL-Null)" if pd.notna(angle["with_null"]) else ""
    seeds = f" ({masks['pairs'] // masks['seeds']:.0f} pairs, {masks['seeds']:.0f} seeds)" if masks["seeds"] > 1 else ""
    size = f" (rank correlation {kl['estimate']:+.2f})".replace("-", "−") if pd.notna(kl["estimate"]) else ""
    said = [
        f"**Do experts change the same weights?** {masks['above_matched']} of {masks['pairs']} pairs of experts{seeds} do so more than "
        f"matched random masks (overlap {masks['mean']:.2f} against {masks['matched']:.2f}); whether experts of other domains would "
        f"is {overlap}.",
        f"**In the same direction?** Their task vectors have a mean cosine of {angle['mean']:.2f}{null}; for other domains this is "
        f"{direction}.",
        f"**Does the KL between policies predict the score?** {KL_SAID[kl['verdict']]}{size}.",
    ]
    if order is not None:
        answers = []
        for verdict in ("verdict", "words_verdict"):
            named = order.groupby(verdict, sort=False)["instrument"].agg(", ".join)
            answers.append(", ".join(f"{ORDER_SAID[found]} by {by}" for found, by in named.items()))
        said.append(f"**Are pairs with more planted in common (thinking, words) nearer?** {answers[0].capitalize()}.")
        said.append(f"By words alone, among pairs that both learn to think: {answers[1]}.")
    return " ".join(said)


def answer_table(summary: pd.DataFrame, ranked: pd.DataFrame, entries: pd.DataFrame) -> pd.DataFrame:
    """RQ3's answer as `plot_answer` draws it: panel, row, value, low, high, least, most. Overlaps and cosines are those of
    `mask_overlap.summarise_pairs` with their controls, their intervals as wide as those of the ledger's `entries` (of the unit
    'Jaccard' or 'cosine'), which decide; correlations are the `rank_correlation`s of PREDICTED with ΔPerf."""
    judged = entries.drop_duplicates("unit").set_index("unit")[["estimate", "low", "high"]].astype(float)
    kinds = {"overlap": mask_overlap.judged(summary), "cosine": summary[summary["kind"] == "cosine"]}
    controls = {"matched": "matched random masks", "with_null": "expert and RL-Null", "other_seed": "one domain, 2 seeds"}
    rows = []
    for panel, chosen in kinds.items():
        ends = judged.reindex([{"overlap": "Jaccard"}.get(panel, panel)]).iloc[0]
        for _, row in chosen.iterrows():
            span = {side: row["mean"] + ends[side] - ends["estimate"] for side in ("low", "high")}
            rows.append({"panel": panel, "row": "two experts", "value": row["mean"], **span, **row[["least", "most"]]})
            known = controls if panel == "overlap" else {name: words for name, words in controls.items() if name != "matched"}
            rows += [{"panel": panel, "row": words, "value": row[name]} for name, words in known.items() if pd.notna(row[name])]
    found = ranked[ranked["x"].isin(PREDICTED) & (ranked["y"] == "delta")]
    rows += found.assign(panel="rank", row=found["x"].map(PREDICTED), value=found["rho"]).to_dict("records")
    columns = ["panel", "row", "value", "low", "high", "least", "most"]
    return pd.DataFrame(rows).reindex(columns=columns).astype(dict.fromkeys(columns[2:], float))
