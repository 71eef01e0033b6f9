"""RQ3, weights: tables of task vectors, changed shares, mask overlaps and cosines from `footprints`, and sentences of them.

An overlap is read against independent masks (*chance*, the paper's), random masks that change as many weights in every tensor and
octave of |w_SFT| (*matched*), RL-Null, and the same domain with another seed. `type` is 'all' or a type of tensor, `layer` its
depth or missing for all."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pandas as pd

from m2rl_lib.analysis.rq3_weights.footprints import PAPER_ETA, ROUNDED, Footprints
from m2rl_lib.analysis.rq3_weights.projection import cosines
from m2rl_lib.config.model_names import parse_model_name
from m2rl_lib.stats.over_seeds import t_interval

NULL = "rl-null"
DENSITY = 0.1  # of the masks whose overlap is judged: at the paper's η a mask of float32 weights may hold nearly all of them
SURE = 3  # standard deviations of the matched null
NARROW = 0.02  # rl-null and other seed nearer than this are no scale to place a pair on


def _parts(found: Footprints, crossed: bool = False) -> Iterator[tuple[dict, np.ndarray]]:
    """Which tensors make up the whole, each type and each layer; if crossed, also each type within each layer."""
    kinds, layers = found.tensors["type"], found.tensors["layer"]
    for layer in [pd.NA, *sorted(layers.dropna().unique())]:
        inside = np.full(len(layers), True) if pd.isna(layer) else (layers == layer).fillna(False).to_numpy(bool)
        yield {"type": "all", "layer": layer}, np.flatnonzero(inside)
        for kind in pd.unique(kinds[inside]) if crossed or pd.isna(layer) else ():
            yield {"type": kind, "layer": layer}, np.flatnonzero(inside & (kinds == kind))


def _stack(frames: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([frame.assign(layer=frame["layer"].astype("Int64")) for frame in frames], ignore_index=True)


def whole(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table that speak of all weights."""
    return table[(table["type"] == "all") & table["layer"].isna()]


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table, or of `summarise_pairs`, that speak of the masks of density DENSITY."""
    return table[(table["kind"] == "density") & np.isclose(table["level"].astype(float), DENSITY)]


def mean_over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """A table of several seeds with each number's mean over those that have it; `reason` is of a seed without."""
    known = table.assign(reason="") if "reason" not in table else table
    numbers = known.select_dtypes("number").columns.difference(["seed", "layer", "level", "weights"], sort=False)
    keys = [name for name in known.columns.drop(["seed", "reason"]) if name not in numbers]
    means = known.groupby(keys, sort=False, dropna=False).agg(dict.fromkeys(numbers, "mean") | {"reason": "max"})
    return means.reset_index()[[name for name in table if name != "seed"]]


def shift_table(found: Footprints) -> pd.DataFrame:
    """How far each model moved: norm (L2 of its task vector) and relative (to the norm of SFT's weights), by part."""
    frames = []
    for part, inside in _parts(found, crossed=True):
        tensors = found.tensors.iloc[inside]
        norm = np.sqrt(np.diag(found.products[inside].sum(axis=0)))
        frame = pd.DataFrame({"model": found.models, **part, "weights": tensors["weights"].sum(), "norm": norm})
        frames.append(frame.assign(relative=norm / np.sqrt(tensors["sft"].sum())))
    return _stack(frames)


def mask_table(found: Footprints) -> pd.DataFrame:
    """The share of weights in each mask, `changed` (0 to 1); of a density mask, `level` is the share asked for."""
    frames = []
    for part, inside in _parts(found, crossed=True):
        weights = found.tensors["weights"].iloc[inside].sum()
        shares = found.both[inside].sum(axis=0).diagonal(axis1=1, axis2=2) / weights  # (K, M)
        for mask, row in zip(found.masks.to_dict("records"), shares):
            frames.append(pd.DataFrame({"model": found.models, **part, **mask, "changed": row}))
    return _stack(frames)


def pair_table(found: Footprints) -> pd.DataFrame:
    """Overlaps of two models' masks: jaccard, chance, matched, matched_sd, reason ('' or why there is no overlap)."""
    frames = []
    for part, inside in _parts(found):
        for k, mask in enumerate(found.masks.to_dict("records")):
            measured = overlap_of(found.both[inside, k].sum(axis=0), found.changed[inside, k], found.octaves[inside])
            frame = _pair_frame(found, part | mask, measured)
            frames.append(frame.assign(reason=np.where(frame["jaccard"].isna(), "no weight changed in either model", "")))
    return _stack(frames)


def overlap_of(both: np.ndarray, changed: np.ndarray, octaves: np.ndarray) -> dict[str, np.ndarray]:
    """Jaccard indices of M masks (M, M), and those of independent and of matched random masks, with the latter's sd. `both` (M,
    M) counts weights in both masks; `changed` (T, M, S) and `octaves` (T, S) those changed and all, by tensor and octave."""
    own = np.diag(both)
    added, weights = own[:, None] + own[None, :], octaves.sum()
    a, n = changed.swapaxes(0, 1).reshape(len(own), -1), octaves.ravel()
    a, n = a[:, n > 0], n[n > 0]
    expected = (a / n) @ a.T
    spread = a * (n - a)
    variance = (spread / (n**2 * np.maximum(n - 1, 1))) @ spread.T
    with np.errstate(divide="ignore", invalid="ignore"):
        product = np.outer(own, own) / weights
        return {
            "jaccard": both / (added - both),
            "chance": product / (added - product),
            "matched": expected / (added - expected),
            "matched_sd": np.sqrt(variance) * added / (added - expected) ** 2,
        }


def cosine_table(found: Footprints) -> pd.DataFrame:
    """Cosines of two models' task vectors: cosine (exact), projected (256 dimensions), reason (names a model equal to SFT)."""
    frames = []
    for part, inside in _parts(found):
        products, sketch = found.products[inside].sum(axis=0), found.projected[inside].sum(axis=0)
        frame = _pair_frame(found, part, {"cosine": cosines(products), "projected": cosines(sketch @ sketch.T)})
        still = [name for name, square in zip(found.models, np.diag(products)) if square == 0]
        said = {name: f"{name} is identical to SFT: its task vector has no direction" for name in still}
        pairs = zip(frame["model"], frame["other"])
        frames.append(frame.assign(reason=["; ".join(said[name] for name in pair if name in said) for pair in pairs]))
    return _stack(frames)


def _pair_frame(found: Footprints, known: dict, measured: dict[str, np.ndarray]) -> pd.DataFrame:
    """A row for each two models, from matrices (M, M)."""
    pairs = np.triu_indices(len(found.models), 1)
    model, other = (np.array(found.models, dtype=object)[side] for side in pairs)
    return pd.DataFrame({"model": model, "other": other, **known, **{name: values[pairs] for name, values in measured.items()}})


TABLES = {"weights_shifts": shift_table, "weights_masks": mask_table}
TABLES |= {"weights_pairs": pair_table, "weights_cosines": cosine_table}
SUMMARY = ["kind", "level", "precision", "seeds", "pairs", "undefined", "mean", "low", "high", "least", "most", "matched"]
SUMMARY += ["above_matched", "with_null", "above_null", "other_seed", "place"]


def summarise_pairs(overlaps: pd.DataFrame, directions: pd.DataFrame, experts: list[str]) -> pd.DataFrame:
    """One row a measure, over the pairs of `experts` on the whole model in all seeds, from the tables of pairs and of cosines.
    low, high: 95% t interval of mean over seeds, NaN for one; least, most: of all pairs; pairs: those of each seed counted;
    undefined: pairs without a value; matched: mean, 0 for a cosine; above_matched: pairs above it by SURE standard deviations;
    with_null: mean of an expert with rl-null; above_null: pairs above both experts' values with rl-null; place: of the mean
    between with_null, 0, and other_seed, 1. Missing: not in this study."""
    angles = directions.assign(kind="cosine", level=np.nan, precision="stored", jaccard=directions["cosine"])
    every = whole(pd.concat([overlaps, angles.assign(matched=0.0, matched_sd=0.0)], ignore_index=True))
    every = every.assign(seed=every.get("seed", 0))
    rows = []
    for key, table in every.groupby(SUMMARY[:3], sort=False, dropna=False):
        cells, seeds = table[["seed", "model", "other", "jaccard"]].itertuples(index=False), list(pd.unique(table["seed"]))
        value = {(seed, frozenset(pair)): number for seed, *pair, number in cells}
        twice = [number for (_, pair), number in value.items() if _is_repeat(*pair)]
        null = pd.Series({(n, one): value.get((n, frozenset((one, NULL))), np.nan) for n, one in product(seeds, experts)})
        pairs = table[table["model"].isin(experts) & table["other"].isin(experts)]
        among = pairs.dropna(subset="jaccard")
        sides = (null.reindex(pd.MultiIndex.from_frame(among[["seed", side]])).to_numpy() for side in ("model", "other"))
        controls, values, null_mean = np.fmax(*sides), among["jaccard"], null.mean()
        (mean, low, high), ceiling = t_interval(values.groupby(among["seed"]).mean()), float(np.mean(twice)) if twice else np.nan
        above = int((values > among["matched"] + SURE * among["matched_sd"]).sum())
        above_null = int((values > controls).sum()) if np.isfinite(null_mean) else pd.NA
        place = (mean - null_mean) / (ceiling - null_mean) if ceiling - null_mean > NARROW else np.nan
        counts, spread = (len(seeds), len(among), len(pairs) - len(among)), (mean, low, high, values.min(), values.max())
        rows.append((*key, *counts, *spread, among["matched"].mean(), above, null_mean, above_null, ceiling, place))
    return pd.DataFrame(rows, columns=SUMMARY).astype({"above_null": "Int64"})


def _is_repeat(one: str, two: str) -> bool:
    """Whether one is the other's run with another draw of prompts and samples: rl-math and rl-math@repeat=1."""
    (base, variant), (other, others) = sorted((parse_model_name(one), parse_model_name(two)), key=lambda name: len(name[1]))
    return base == other and not variant and others.keys() == {"repeat"}


def pair_sentence(row: pd.Series) -> str:
    """A row of `summarise_pairs` in English, whatever it says."""
    n, cosine = row["pairs"], row["kind"] == "cosine"
    what = "Cosines of task vectors" if cosine else f"Overlap of changed weights ({mask_words(row)})"
    if not n:
        why = "one of each did not move from SFT" if cosine else "neither changed a weight"
        return f"{what}: undefined for every pair of experts, since {why}."

    def reached(count: int) -> str:
        return "all" if count == n else f"{count} of {n}"

    more = f" ({row['undefined']} more undefined)" if row["undefined"] else ""
    reference = "0" if cosine else f"matched random masks ({row['matched']:.3f}) by {SURE} standard deviations"
    several = bool(row["seeds"] > 1)
    over, within = f" of {row['seeds']} seeds" * several, f" [{row['low']:.3f}, {row['high']:.3f} over seeds]" * several
    start = f"{what}, {n} pair{'s' if n > 1 else ''} of experts{over}{more}: {row['mean']:.3f}{within} on average, "
    start += f"from {row['least']:.3f} to {row['most']:.3f}; {reached(row['above_matched'])} above {reference}"
    if pd.isna(row["with_null"]):
        return start + "; no null run to read it against."
    start += f"; {reached(row['above_null'])} above both experts' with RL-Null ({row['with_null']:.3f} on average)"
    if pd.isna(row["other_seed"]):
        return start + "; no second seed of an expert to say what high is."
    start += f"; the same domain with another seed has {row['other_seed']:.3f}"
    if pd.isna(row["place"]):
        return start + f", not {NARROW} more than with RL-Null: no scale to place the pairs on."
    return start + f": the pairs are {row['place']:.0%} of the way there from RL-Null."


def sweep_table(masks: pd.DataFrame, summary: pd.DataFrame, experts: list[str]) -> pd.DataFrame:
    """What `plot_sweep` draws, in panels; low and high are the least and the most of the experts, or of their pairs."""
    shares = whole(masks).query("kind == 'relative' and precision == 'stored'")
    shares = shares.pivot(index="level", columns="model", values="changed")
    own = shares[experts]
    rows = [pd.DataFrame({"series": "experts", "value": own.mean(axis=1), "low": own.min(axis=1), "high": own.max(axis=1)})]
    lines = {NULL: "RL-Null", "rl-multi": "RL-Multi", ROUNDED: "SFT rounded to bfloat16"}
    rows += [pd.DataFrame({"series": name, "value": shares[model]}) for model, name in lines.items() if model in shares]
    panels = [pd.concat(rows).rename_axis("level").reset_index().assign(panel="changed")]
    series = {"matched": "matched random masks", "with_null": "an expert and RL-Null", "other_seed": "one domain, two seeds"}
    for kind in ("relative", "density"):
        rows = summary[(summary["kind"] == kind) & (summary["precision"] == "stored")].drop(columns=["low", "high"])
        rows = rows.assign(panel=kind)
        panels.append(rows.rename(columns={"mean": "value", "least": "low", "most": "high"}).assign(series="pairs of experts"))
        others = (rows.rename(columns={column: "value"}).assign(series=name) for column, name in series.items())
        panels += [other.dropna(subset="value") for other in others]
    return pd.concat(panels, ignore_index=True).reindex(columns=["panel", "series", "level", "value", "low", "high"])


def mask_words(mask: pd.Series) -> str:
    """A mask in words: 'η = 0.001', 'η = 0.001 after rounding to bfloat16', 'the 10% largest changes'."""
    if mask["kind"] == "density":
        return f"the {mask['level']:.0%} largest changes"
    return f"η = {mask['level']:g}" + (" after rounding to bfloat16" if mask["precision"] == "bf16" else "")


def saturation_sentence(masks: pd.DataFrame, experts: list[str]) -> str:
    """Whether the paper's η leaves a mask scope to say something, from the shares changed, and by rounding."""
    found = whole(masks)
    found = found[(found["kind"] == "relative") & (found["level"] == PAPER_ETA)]
    shares = found.set_index(["precision", "model"])["changed"]
    stored = shares["stored"].reindex(experts)
    text = f"At η = {PAPER_ETA:g} the experts change {stored.min():.1%} to {stored.max():.1%} of their weights"
    if ROUNDED in shares["stored"]:
        text += f" ({shares['bf16'].reindex(experts).mean():.1%} on average after rounding to bfloat16)"
        text += f"; rounding SFT to bfloat16, without training, 'changes' {shares['stored'][ROUNDED]:.1%}"
    else:
        text += "; the checkpoints are stored in bfloat16, so an η below 0.4% asks whether any bit changed"
    share = stored.mean()
    said = "the mask is saturated: read the masks of equal density" if share > 0.5 else "the mask is not saturated"
    return f"{text}. Independent masks of the mean share overlap {share / (2 - share):.2f}: {said}."
