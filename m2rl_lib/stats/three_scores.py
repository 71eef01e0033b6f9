"""The three scores of a model: Avg@K at T = 1 (the paper's), greedy, and pass@K (unbiased); and what its completions are like.
SFT at its best temperature (`sft-sharpened`) keeps that temperature under every score: its greedy score is the mean of its K
samples."""

from functools import partial

import pandas as pd

from m2rl_lib.stats.averages import average_table
from m2rl_lib.stats.bootstrap import OVERALL, resample
from m2rl_lib.stats.comparisons import MARGIN, comparison_table, display_name
from m2rl_lib.stats.graded_samples import CELL, problem_means, require_columns
from m2rl_lib.stats.over_seeds import each_seed

SCORES = {"T=1": "Avg@K at T = 1", "greedy": "greedy decoding", "pass@K": "pass@K"}
LIKE = ["thought", "completion_tokens"]  # columns of `scores` that say what completions are like


def frames(test: pd.DataFrame, greedy: pd.DataFrame) -> dict[str, dict]:
    """What each score is made of: score -> scores and pass_k; no greedy score where `greedy` is empty."""
    control = test[test["model"] == "sft-sharpened"]
    k = int(test.groupby(CELL)["sample"].nunique().min())
    every = {"T=1": (test, None), "greedy": (pd.concat([greedy, control]), None), "pass@K": (test, k)}
    return {name: {"scores": rows, "pass_k": k} for name, (rows, k) in every.items() if len(greedy) or name != "greedy"}


def compare_each(test, greedy, pairs: list[tuple[str, str]], overs: list[str], margin: float = MARGIN, draws: int = 10_000):
    """`comparison_table` under each score, which is the first column."""
    how = {"pairs": pairs, "overs": overs, "margin": margin, "draws": draws}
    made = {name: comparison_table(**one, **how) for name, one in frames(test, greedy).items()}
    return pd.concat(made, names=["score", ""]).reset_index("score").reset_index(drop=True)


def differences(test, greedy, pair: tuple[str, str], margin: float = MARGIN, draws: int = 10_000) -> pd.DataFrame:
    """The overall difference of a pair under each score as `compare_each` has it: of all seeds (`seed` is null), then by seed."""
    both = [frame[frame["model"].isin(pair)] for frame in (test, greedy)]
    measure = partial(compare_each, pairs=[pair], overs=[OVERALL], margin=margin, draws=draws)
    return pd.concat([measure(*both), each_seed(measure, *both)], ignore_index=True)


def by_temperature(scores: pd.DataFrame, greedy: pd.DataFrame, models: list[str], draws: int = 10_000) -> pd.DataFrame:
    """Overall score against sampling temperature: SFT at each that was tried on selection problems ('sft@temperature=0.3'), and
    `models` on test problems, greedily and at T = 1: split, model, temperature, score, low, high (points), n, seeds."""
    tried = scores["model"].str.extract(r"^sft@temperature=([0-9.]+)$")[0].astype(float)
    frames = [scores[tried.notna() & (scores["split"] == "selection")]]
    frames += [frame[frame["model"].isin(models)] for frame in (greedy, scores[scores["split"] == "test"])]
    parts = []
    for rows, split, heat in zip(frames, ("selection", "test", "test"), (None, 0.0, 1.0)):
        if len(rows):
            found = average_table(rows, draws).query("domain == @OVERALL")
            if heat is None:
                heat = found["model"].str.rsplit("=", n=1).str[-1].astype(float)
                found = found.assign(model="sft")
            parts.append(found.assign(split=split, temperature=heat))
    table = pd.concat(parts, ignore_index=True).sort_values(["split", "model", "temperature"], ignore_index=True)
    return table[["split", "model", "temperature", "score", "low", "high", "n", "seeds"]]


def agreement(compared: pd.DataFrame, names: dict[str, str] | None = None) -> str:
    """One sentence on a pair of `compare_each`: whether the verdicts agree, or differ. `names` as in `verdict_sentence`."""
    a, b = ((names or {}).get(name) or display_name(name) for name in compared.iloc[0][["model", "reference"]])
    parts = {}
    for row in compared.itertuples():
        found = f"{SCORES[row.score]} ({row.estimate:+.1f} points [{row.low:.1f}, {row.high:.1f}])"
        parts.setdefault(row.verdict, []).append(found)
    said = "; ".join(f"{verdict} under {', '.join(found)}" for verdict, found in parts.items())
    return f"{a} against {b}: the verdicts {'agree' if len(parts) == 1 else 'differ'}: {said}."


def by_seed(test: pd.DataFrame, greedy: pd.DataFrame, models: list[str], overs: list[str]) -> pd.DataFrame:
    """Each seed's scores: seed, model, over ('overall', domain, benchmark), score, value (points), thought (share), tokens. A
    score is null where a benchmark of `over` is refused or lacking, thought where no completion on it has a mark of thinking."""
    require_columns(test, LIKE, "scores")
    parts = []
    for name, one in frames(test, greedy).items():
        rows = one["scores"][one["scores"]["model"].isin(models)]
        sample = resample(problem_means(rows, one["pass_k"]), draws=1)
        points = pd.DataFrame(sample.points, sample.benchmarks.index, sample.pairs)
        marked = rows.groupby("benchmark")["thought"].transform("count") > 0
        rows = rows.astype(dict.fromkeys(LIKE, "Float64"))
        rows["thought"] = rows["thought"].fillna(0).where(marked)
        like = rows.groupby(["benchmark", "seed", "model"])[LIKE].mean().astype(float)
        for over in overs:
            weights = pd.Series(sample.weights(over), points.index).loc[lambda share: share > 0]
            found = {"value": points.loc[weights.index].mul(weights, axis=0).sum(skipna=False)}
            for column in LIKE:
                wide = like[column].unstack(["seed", "model"]).loc[weights.index]
                found[column] = wide.mul(weights, axis=0).sum(min_count=1) / wide.notna().mul(weights, axis=0).sum()
            parts.append(pd.DataFrame(found).rename_axis(["seed", "model"]).reset_index().assign(over=over, score=name))
    table = pd.concat(parts, ignore_index=True).rename(columns={"completion_tokens": "tokens"})
    return table[["seed", "model", "over", "score", "value", "thought", "tokens"]]


def table(scores: pd.DataFrame) -> pd.DataFrame:
    """The means over seeds of `by_seed`, by over and model: the scores, and thinking (%) and tokens of samples and greedily."""
    wide = scores.groupby(["over", "model", "score"])[["value", "thought", "tokens"]].mean().unstack("score")
    shown = wide["value"].reindex(columns=list(SCORES))
    for column, scale, words in (("thought", 100, "thinks, %"), ("tokens", 1, "tokens")):
        for score, where in (("T=1", ""), ("greedy", ", greedy")):
            shown[words + where] = scale * wide[column].reindex(columns=[score])[score]
    return shown
