"""Learning curves with Wilson's interval (ours), which does not end at 0 or 1 and has a width where all or none are right."""

import numpy as np
import pandas as pd
from scipy import stats

from m2rl_lib.stats.comparisons import display_domain
from m2rl_lib.stats.graded_samples import require_columns

PARTS = {  # of a domain in a training log: how it is logged, and what it is
    "rewards/{}/mean": "reward",
    "entropy/{}": "entropy, nats a token",
    "zero_std/{}": "groups without variance, share",
    "rows/{}": "share of completions with an advantage",
    "tokens/{}": "share of tokens with an advantage",
    "length/{}": "completion length, tokens",
}


def by_domain(log: pd.DataFrame, domains: list[str]) -> pd.DataFrame:
    """A training log's numbers of each domain, one a row: step, domain, measure (of PARTS), value; without those that it lacks."""
    parts = [
        pd.DataFrame({"step": log["step"], "domain": domain, "measure": measure, "value": log[column.format(domain)]})
        for column, measure in PARTS.items()
        for domain in domains
        if column.format(domain) in log
    ]
    return pd.concat(parts, ignore_index=True).dropna(subset="value").astype({"value": float})


def gains_sentence(curves: pd.DataFrame, trained: list[str], how: str = "Trained") -> str:
    """Where each domain's selection reward began and ended in a run's `curve_table`, those that it was `trained` on first, by `how`."""
    ends = curves[curves["kind"] == "selection"].sort_values("step").groupby("domain", sort=False).agg(["first", "last"])
    others = [domain for domain in ends.index if domain not in trained]

    def words(domains: list[str]) -> str:
        last = {domain: ends.loc[domain] for domain in domains}
        return ", ".join(
            f"{display_domain(domain).lower()} from {row['reward', 'first']:.2f} to {row['reward', 'last']:.2f} "
            f"[{row['low', 'last']:.2f}, {row['high', 'last']:.2f}]"
            for domain, row in last.items()
        )

    said = f"**Reward on selection problems (n = {curves['n'].max():.0f} a domain).** {how}: {words(trained)}."
    return f"{said} Not trained: {words(others)}." if others else said


def distance_sentence(distances: pd.DataFrame) -> str:
    """How far a student is from its teachers at the first and the last step of a `distillation` table, mean over domains."""
    first, last = (distances.loc[distances["step"] == distances["step"].agg(end), "kl"].mean() for end in ("min", "max"))
    return f"**The KL to the teachers goes from {first:.2f} to {last:.2f} nats a token** (mean over domains)."


def curve_table(curves: pd.DataFrame, problems: int) -> pd.DataFrame:
    """`curves` with low, high (95%) and n, missing for training rewards: a selection point is one completion per problem."""
    require_columns(curves, ["model", "step", "domain", "kind", "reward"], "curves")
    z2 = stats.norm.ppf(0.975) ** 2
    middle = (curves["reward"] + z2 / (2 * problems)) / (1 + z2 / problems)
    spread = curves["reward"] * (1 - curves["reward"]) / problems + z2 / (4 * problems**2)
    half = np.sqrt(z2 * spread.clip(lower=0)) / (1 + z2 / problems)
    found = pd.DataFrame({"low": middle - half, "high": middle + half, "n": problems})
    return pd.concat([curves, found.where(curves["kind"] == "selection")], axis=1)
