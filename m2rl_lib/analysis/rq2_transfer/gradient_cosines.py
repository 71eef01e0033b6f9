"""The gradient lens of RQ2: do the domains' policy gradients point the same way, at SFT and along the mixed run?

The cosine of two gradients is divided by √(r₁r₂), r the cosine of one half of a domain's prompts with the other, averaged over
all ways to halve the folds; it is refused where r < 0.3 (our rule, not the paper's)."""

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from m2rl_lib.stats.comparisons import display_name

LEAST = 0.3  # of a domain's cosine with itself, below which its cosines are refused


@dataclass
class Lens:
    """One checkpoint's gradients: `parts` has a row for each domain and fold, `products` the folds' inner products."""

    parts: pd.DataFrame
    products: np.ndarray


def signal(lens: Lens, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Products (D, D) of the domains' gradients without their noise, and the noise (D,) of one fold, from the folds `kept`."""
    names = pd.unique(lens.parts["domain"])
    places = [np.flatnonzero((lens.parts["domain"] == name).to_numpy() & kept) for name in names]
    products = np.array([[lens.products[np.ix_(one, other)].mean() for other in places] for one in places])
    square = np.array([lens.products[one, one].mean() for one in places])
    count = np.array([len(one) for one in places])
    with np.errstate(invalid="ignore", divide="ignore"):
        own = (count * products.diagonal() - square) / (count - 1)
    products[np.diag_indices(len(names))] = own
    return products, square - own


def domain_table(lens: Lens) -> pd.DataFrame:
    """Prompts, completions, mean reward, informative (share of groups of unequal rewards), norm (with noise), itself (r)."""
    products, noise = signal(lens, np.ones(len(lens.parts), dtype=bool))
    grouped = lens.parts.groupby("domain", sort=False)
    table = grouped.agg({"prompts": "sum", "completions": "sum", "reward": "mean", "informative": "mean"}).reset_index()
    norm = np.sqrt(products.diagonal() + noise / grouped.size().to_numpy())
    return table.assign(norm=norm, itself=products.diagonal() / _halves(lens, products, noise))


def _halves(lens: Lens, products: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Squared norm (D,) of the gradient of half a domain's folds, its noise included; NaN where all rewards are equal."""
    square = products.diagonal() + noise / (lens.parts.groupby("domain", sort=False).size().to_numpy() / 2)
    return np.where(square > 0, square, np.nan)


def _corrected(products: np.ndarray) -> np.ndarray:
    """Cosines (D, D) with the noise out of the norms: those of halves divided by √(r₁r₂). NaN where no signal is left."""
    norm = np.sqrt(np.where(products.diagonal() > 0, products.diagonal(), np.nan))
    return products / norm[:, None] / norm


def cosine_table(lens: Lens) -> pd.DataFrame:
    """Cosines of all pairs of domains: plain (of halves), cosine (by √(r₁r₂); noise can take it beyond 1), low, high, reason."""
    products, noise = signal(lens, np.ones(len(lens.parts), dtype=bool))
    cosine, halves = _corrected(products), _halves(lens, products, noise)
    itself, variance, folds = products.diagonal() / halves, np.zeros_like(cosine), {}
    for name, rows in lens.parts.groupby("domain", sort=False):
        folds[name] = len(rows)
        without = np.array([_corrected(signal(lens, lens.parts.index != i)[0]) for i in rows.index])
        variance += (len(rows) - 1) / len(rows) * ((without - without.mean(axis=0)) ** 2).sum(axis=0)
    found = []
    for (i, one), (j, other) in itertools.combinations(enumerate(folds), 2):
        half = stats.t.ppf(0.975, folds[one] + folds[other] - 2) * np.sqrt(variance[i, j])
        noisy = [f"{name} {itself[d]:.2f}" for d, name in ((i, one), (j, other)) if not itself[d] >= LEAST]
        reason = f"cosine with itself under {LEAST}: {', '.join(noisy)}".replace("nan", "undefined") if noisy else ""
        values = (np.nan,) * 3 if noisy else (cosine[i, j] + side * half for side in (0, -1, 1))
        found.append((one, other, products[i, j] / np.sqrt(halves[i] * halves[j]), *values, reason))
    return pd.DataFrame(found, columns=["domain", "other", "plain", "cosine", "low", "high", "reason"])


def sentence(table: pd.DataFrame) -> str:
    """What `cosine_table` says of one model (column `model`): how many pairs were not refused, and which intervals exclude 0."""
    known = table[table["cosine"].notna()]
    found = []
    for side, rows in {"above": known[known["low"] > 0], "below": known[known["high"] < 0]}.items():
        spans = [f"{r.domain} with {r.other} {r.cosine:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in rows.itertuples()]
        found.append(f"{len(rows)} {side} 0" + f" ({', '.join(spans)})" * bool(spans))
    refused, words = len(table) - len(known), f"{len(known)} of {len(table)} cosines can be measured"
    words += f" ({refused} refused as too noisy)" * bool(refused) + f"; of these lie {' and '.join(found)}" * bool(len(known))
    return f"{display_name(table['model'].iloc[0])}: {words}."
