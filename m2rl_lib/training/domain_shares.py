"""What each domain's part of a rollout is like, and weights by which every domain has an equal share of the gradient."""

import pandas as pd

UNITS = ("tokens", "rows")  # of `balance`: what each domain shall have as much of


def by_domain(rows: pd.DataFrame) -> pd.DataFrame:
    """Of a rollout's `rows` (domain, advantage, tokens; the completions of a prompt have one `group`): by domain the mean `length`
    in tokens, the share of groups without variance (`zero_std`), and its shares of the `tokens` and `rows` with an advantage."""
    learned = rows["advantage"] != 0
    found = rows.assign(learned=learned, learned_tokens=rows["tokens"] * learned)
    flat = ~found.groupby(["domain", "group"])["learned"].any()
    sums = found.groupby("domain", sort=False)[["learned_tokens", "learned"]].sum()
    table = pd.DataFrame({"length": found.groupby("domain")["tokens"].mean(), "zero_std": flat.groupby("domain").mean()})
    return table.join(sums.set_axis(UNITS, axis=1) / sums.sum().clip(lower=1).to_numpy())


def weights(rows: pd.DataFrame, unit: str) -> pd.Series:
    """A weight for each domain with advantages, by which all of them have as many `unit` (tokens or rows) with an advantage; its
    mean over the rows with an advantage is 1. 30 rows of one domain and 10 of another: 2/3 and 2."""
    shares = by_domain(rows)[unit]
    inverse = 1 / shares[shares > 0]
    learned = rows.loc[rows["advantage"] != 0, "domain"]
    return inverse / learned.map(inverse).mean() if len(learned) else inverse
