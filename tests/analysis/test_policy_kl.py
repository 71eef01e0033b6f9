"""Policies: KL against analytic values and a naive loop, errors by prompt, which models are compared, planted neighbours."""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from m2rl_lib import domains
from m2rl_lib.analysis.rq3_policies import policy_kl, policy_neighbours, policy_samples
from m2rl_lib.analysis.rq3_policies.policy_samples import Trajectory
from m2rl_lib.config import schedule
from m2rl_lib.data import problem_sets, sft_corpus
from m2rl_lib.training import micro_model

BENCHMARKS = [next(iter(module.BENCHMARKS)) for module in domains.DOMAINS.values()]


class Table(torch.nn.Module):
    """A policy whose next token depends on the last one alone: row s of `logits` (V, V) are the logits after token s."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.as_tensor(np.asarray(logits)), requires_grad=False)

    def forward(self, ids, attention_mask=None):
        return SimpleNamespace(logits=self.logits[ids])


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def walk(probabilities, generator, problem, sample):
    """A trajectory from token 1 until token 0, which ends it."""
    ids = [1]
    while ids[-1] != 0:
        ids.append(int(generator.choice(len(probabilities), p=probabilities[ids[-1]])))
    return Trajectory(problem, sample, ids, [0] + [1] * (len(ids) - 1), False)


def test_kl_of_markov_policies_is_the_analytic_value():
    generator = np.random.default_rng(0)
    p_logits, q_logits = generator.normal(size=(2, 5, 5))
    p, q = softmax(p_logits), softmax(q_logits)
    by_state = (p * np.log(p / q)).sum(-1)
    walks = [walk(p, generator, f"{problem:03}", sample) for problem in range(400) for sample in range(5)]
    rows = policy_samples.sequence_kl(Table(p_logits), {"q": Table(q_logits)}, walks, tokens=500)
    along = [by_state[one.ids[:-1]].sum() for one in walks]
    assert rows.sort_values(["problem_id", "sample"])["kl"].to_numpy() == pytest.approx(along, rel=1e-5)

    visits = np.linalg.inv(np.eye(4) - p[1:, 1:])[0]  # expected visits of tokens 1..4 from token 1, before the end
    truth = visits @ by_state[1:]
    cell = policy_kl.kl_table(rows.assign(domain="math", source="p", seed=0)).iloc[0]
    assert abs(cell["kl"] - truth) < 3 * cell["se"] and cell["se"] < 0.06 * truth
    assert abs(cell["kl_token"] - truth / visits.sum()) < 3 * cell["se_token"] < 0.09 * truth / visits.sum()
    assert (cell["prompts"], cell["completions"], cell["tokens"]) == (400, 2000, sum(len(one.ids) - 1 for one in walks))


def build(tokenizer, seed):
    model = micro_model.build_model(tokenizer, hidden_size=32, layers=2, heads=2, context=512, seed=seed).eval()
    for parameter in model.parameters():
        parameter.data *= 3  # far from uniform, so that a wrong position shows
    return model


def test_kl_agrees_with_a_naive_loop(tokenizer):
    p_model, q_model = build(tokenizer, 1), build(tokenizer, 2)
    rows = sum((problem_sets.benchmark_problems(name, "test", 2, sft_corpus.DEMONSTRATED) for name in BENCHMARKS), [])
    sampled = policy_samples.sample_trajectories(p_model, tokenizer, rows, 2, max_tokens=12, batch=8, seed=0)
    assert [(one.problem_id, one.sample) for one in sampled] == [(row["problem_id"], k) for row in rows for k in (0, 1)]
    assert all(tokenizer.decode(one.ids[: one.loss_mask.index(1)]).endswith("<|im_start|>assistant\n") for one in sampled)
    sampled[3].loss_mask[-4:-2] = [0, 0]  # as if a tool had written these
    frame = policy_samples.sequence_kl(p_model, {"p": p_model, "q": q_model}, sampled, tokens=300)
    frame = frame.set_index(["target", "problem_id", "sample"]).sort_index()
    assert (frame.loc["p", "kl"] == 0).all() and (frame.loc["q", "kl"] > 0).all()
    for one in sampled:
        expected = 0.0
        for place in np.flatnonzero(one.loss_mask):
            with torch.no_grad():
                prefix = torch.tensor([one.ids[:place]])
                p_log, q_log = (m(prefix).logits[0, -1].double().log_softmax(-1) for m in (p_model, q_model))
            expected += float((p_log.exp() * (p_log - q_log)).sum())
        found = frame.loc[("q", one.problem_id, one.sample)]
        assert found["kl"] == pytest.approx(expected, rel=1e-4)
        assert found["tokens"] == sum(one.loss_mask) and found["truncated"] == one.truncated


@pytest.mark.parametrize(
    ("logits", "walks", "message"),
    [
        (np.zeros((4, 4)), [([0, 1], [0, 1])], "rl-x has a vocabulary of 4, the source 3"),
        (np.full((3, 3), np.nan), [([0, 1], [0, 1])], "rl-x gives logits that are NaN"),
        (np.zeros((3, 3)), [], "0 trajectories"),
        (np.zeros((3, 3)), [([1], [1])], "prompt of at least one token"),
    ],
)
def test_what_kl_refuses(logits, walks, message):
    with pytest.raises(ValueError, match=message):
        walks = [Trajectory("a", 0, *walk, False) for walk in walks]
        policy_samples.sequence_kl(Table(np.zeros((3, 3))), {"rl-x": Table(logits)}, walks)


def test_errors_are_clustered_by_prompt():
    assert policy_kl.ratio_by_cluster(np.array([1, 1, 3, 3.0]), np.ones(4), list("aabb")) == (2.0, 1.0, 2)
    generator, covered, naive = np.random.default_rng(0), 0, 0
    for _ in range(400):  # 12 prompts × 4 completions, most of the spread between prompts; the true mean is 5
        values = 5 + np.repeat(generator.normal(size=12), 4) + 0.5 * generator.normal(size=48)
        mean, se, prompts = policy_kl.ratio_by_cluster(values, np.ones(48), np.repeat(np.arange(12), 4))
        covered += abs(mean - 5) < se * stats.t.ppf(0.975, prompts - 1)
        naive += abs(mean - 5) < 1.96 * values.std(ddof=1) / np.sqrt(48)
    assert 0.92 < covered / 400 < 0.98 and naive / 400 < 0.8


def test_which_models_are_compared_where():
    names = ["math", "coding", "science"]
    models = ["rl-math", "rl-null", "rl-multi", "rl-multi@step=80", "merge-ties", "merge-ties@step=64", "rl-math@repeat=1"]
    models += ["merge-average@experts=math+coding", "merge-average@experts=math+null", "merge-ties@density=0.5"]
    models += ["rl-math@repeat=1,step=40", "sft-sharpened", "base", "sft"]
    plan = policy_kl.kl_targets(models, names)
    everywhere = dict.fromkeys(["sft", "rl-math", "rl-null", "rl-multi", "merge-ties", "merge-ties@density=0.5"], names)
    assert plan == everywhere | {"rl-math@repeat=1": ["math"], "merge-average@experts=math+coding": ["math", "coding"]}
    assert list(plan)[:3] == ["sft", "rl-math", "rl-null"]


@pytest.fixture
def little_study(smoke, tokenizer, publish_model):
    """Random models under a study's names, and what is compared with what."""
    smoke.domains, smoke.analysis_kl_problems, smoke.analysis_kl_samples = ["math", "agent", "science"], 7, 2
    names = ["sft", "rl-math", "rl-agent", "rl-null", "merge-average@experts=math+agent", "merge-ties@density=0.5"]
    for seed, name in enumerate(names):
        publish_model(name, build(tokenizer, seed))
    rows = policy_samples.kl_rows(smoke, ["rl-math", "rl-agent", "rl-null"], policy_kl.kl_targets(names, smoke.domains))
    return smoke, names, rows


def test_kl_of_a_study(little_study, monkeypatch):
    p, names, rows = little_study
    assert list(rows.columns) == [*policy_kl.COLUMNS, "seed"] and (rows.loc[rows["source"] == rows["target"], "kl"] == 0).all()
    table = policy_kl.kl_table(rows)
    assert table["prompts"].tolist() == np.where(table["source"] == "rl-" + table["domain"], 7, 2).tolist()
    assert (table["completions"] == 2 * table["prompts"]).all()
    cells = table.groupby("target")[["domain", "source"]].apply(lambda part: set(part.itertuples(index=False, name=None)))
    every = set(itertools.product(["math", "agent", "science"], ["rl-math", "rl-agent", "rl-null"]))
    assert all(cells[name] == every for name in names[:4])
    assert cells["merge-average@experts=math+agent"] == set(itertools.product(["math", "agent"], ["rl-math", "rl-agent"]))
    assert cells["merge-ties@density=0.5"] == {cell for cell in every if cell[1] != "rl-null"}
    prompts = rows[(rows["domain"] == "math") & (rows["target"] == "sft")].groupby("source")["problem_id"].agg(set)
    assert prompts["rl-agent"] < prompts["rl-math"]

    monkeypatch.setattr(policy_samples, "RESIDENT", 1)  # how many models are in memory changes nothing
    again = policy_samples.kl_rows(p, ["rl-math", "rl-agent", "rl-null"], policy_kl.kl_targets(names, p.domains))
    one, two = (frame.sort_values(policy_kl.COLUMNS[:5], ignore_index=True) for frame in (rows, again))
    pd.testing.assert_frame_equal(one, two)


def test_policies_of_a_map_are_those_of_each_budget(little_study, tokenizer, publish_model):
    p, *_ = little_study
    p.domains, p.map_budgets = ["math", "agent"], [0.5, 1.0]
    for name, seed in (("rl-math@step=2", 1), ("rl-agent@step=2", 0)):  # half-way math is the finished one, agent still SFT
        publish_model(name, build(tokenizer, seed))
    rows = policy_samples.rows_by_budget(p)
    assert {*rows["source"], *rows["target"]} == {"sft", "rl-math", "rl-agent"} and set(rows["budget"]) == {0.5, 1.0}
    own = rows[rows["source"] == "rl-" + rows["domain"]]
    zero = own.groupby(["budget", "source", "target"])["kl"].max().eq(0)
    assert zero[0.5, "rl-agent", "sft"] and not zero[1.0, "rl-agent", "sft"] and not zero[0.5, "rl-math", "rl-agent"]
    found = policy_neighbours.neighbour_table(rows[rows["budget"] == 0.5], p.domains).set_index("domain")["prompts"]
    assert found.to_dict() == {"math": 7, "agent": 7}


def test_rules_use_the_prompts_that_both_policies_have(little_study):
    p, _, rows = little_study
    assert set(policy_neighbours.neighbour_table(rows, p.domains)["prompts"]) == {7}
    table = policy_neighbours.neighbour_table(rows, p.domains, target="merge-average@experts=math+agent")
    table = table.set_index(["domain", "expert"])
    assert list(table.index) == [("math", "agent"), ("agent", "math")] and set(table["prompts"]) == {2}
    math = rows[(rows["domain"] == "math") & (rows["target"] == "merge-average@experts=math+agent")]
    means = math.groupby(["source", "problem_id"])["kl"].mean().unstack("source").dropna()
    row = table.loc[("math", "agent")]
    assert (row["distance"], row["epsilon"]) == (pytest.approx(means["rl-agent"].mean()), pytest.approx(means["rl-math"].mean()))


@pytest.fixture(scope="module")
def bandits():
    """KL rows of bandits on 40 prompts: small tilts from SFT that are aligned with math's, orthogonal to it, and opposed."""
    generator, prompts, arms = np.random.default_rng(0), 40, 6
    start = generator.normal(size=(prompts, arms))
    weights = softmax(start)

    def product(one, other):
        return (weights * one * other).sum(1, keepdims=True)

    tilt, across = (move - product(move, 1) for move in generator.normal(size=(2, prompts, arms)))
    across -= tilt * product(across, tilt) / product(tilt, tilt)
    tilt, across = (0.2 * move / np.sqrt(product(move, move)) for move in (tilt, across))
    moves = {"sft": 0, "rl-math": tilt, "rl-aligned": tilt / 2, "rl-orthogonal": across, "rl-opposed": -tilt, "rl-null": 0}
    tables = {}
    for name, move in moves.items():
        logits = np.full((prompts + arms, prompts + arms), -60.0)
        logits[:prompts, prompts:] = start + move
        tables[name] = Table(logits)
    walks = [Trajectory(str(i), k, [i, prompts + k], [0, 1], False) for i in range(prompts) for k in (0, 1)]
    frames = [policy_samples.sequence_kl(tables[name], tables, walks).assign(source=name, domain="math") for name in tables]
    return pd.concat(frames).assign(seed=0)


ALL = ["math", "aligned", "orthogonal", "opposed"]


def of_math(table):
    return table[table["domain"] == "math"].set_index("expert")


def test_neighbours_of_bandits(bandits):
    table = of_math(policy_neighbours.neighbour_table(bandits, ALL))
    assert table["ratio"].to_dict() == pytest.approx({"aligned": 0.25, "orthogonal": 2, "opposed": 4, "null": 1}, rel=0.1)
    labels = {"aligned": "neighbour", "orthogonal": "not a neighbour", "opposed": "not a neighbour", "null": "undecided"}
    assert table["label"].to_dict() == labels  # the null did not move: exactly as far as SFT is
    assert (table["prompts"] == 40).all() and (table["epsilon"] == table.loc["null", "distance"]).all()


def test_a_target_that_one_of_two_seeds_has_is_judged_by_that_seed(bandits):
    other = bandits[bandits["target"] != "rl-opposed"].assign(seed=1)
    one, two = (
        policy_neighbours.neighbour_table(rows, ALL, target="rl-opposed") for rows in (bandits, pd.concat([bandits, other]))
    )
    pd.testing.assert_frame_equal(one, two)
    assert len(one) and one["distance"].notna().all()


def test_epsilon_is_swept(bandits):
    near = {f: of_math(policy_neighbours.neighbour_table(bandits, ALL, f))["label"] == "neighbour" for f in (0.2, 0.5, 3, 5)}
    counts = {factor: set(labels.index[labels]) for factor, labels in near.items()}
    assert counts == {0.2: set(), 0.5: {"aligned"}, 3: {"aligned", "orthogonal", "null"}, 5: {*ALL[1:], "null"}}


def test_neighbours_by_the_papers_rule(bandits):
    with_b = of_math(policy_neighbours.neighbour_table(bandits, ALL, target="rl-aligned"))["label"]
    assert with_b["aligned"] == "neighbour" and (with_b[["orthogonal", "opposed"]] == "not a neighbour").all()
    assert with_b["null"] == "undecided"  # half of the tilt away on one side, math on the other
    with_a = of_math(policy_neighbours.neighbour_table(bandits, ALL, target="rl-math"))["label"]
    assert (with_a == "not a neighbour").all()  # nobody is nearer to A than A itself


def test_expert_as_far_as_sft_is_rarely_called_a_neighbour():
    """B and SFT are equally far in truth: 'neighbour' in about 2.5% of studies, as often as 'not a neighbour'."""
    generator, labels = np.random.default_rng(0), []
    for _ in range(300):
        kl = 1 + 0.3 * generator.normal(size=(2, 12))
        frames = [pd.DataFrame({"kl": one, "problem_id": range(12)}).assign(target=t) for t, one in zip(("sft", "rl-b"), kl)]
        rows = pd.concat([pd.concat(frames).assign(domain="a", source=source, seed=0) for source in ("rl-a", "rl-b")])
        labels.append(policy_neighbours.neighbour_table(rows, ["a", "b"])["label"].item())
    counts = pd.Series(labels).value_counts()
    assert counts["undecided"] > 0.92 * 300 and 0 < counts["neighbour"] < 0.05 * 300


def test_one_prompt_leaves_neighbours_undecided(bandits):
    alone = policy_neighbours.neighbour_table(bandits[bandits["problem_id"] == "0"], ALL)
    assert (alone["label"] == "undecided").all() and alone["low"].isna().all()
    with pytest.raises(ValueError, match="factor = 0"):
        policy_neighbours.neighbour_table(bandits, ALL, 0)


def test_seeds_are_pooled_and_the_wider_interval_counts():
    """Prompts differ by far more, but paired B is 0.15 nearer than SFT in the first seed, surely; over seeds −0.15, 0.05 and −0.2 nothing is sure, nor is the KL."""
    level = np.arange(1.0, 21)
    gaps = {0: -0.15, 1: 0.05, 2: -0.2}
    cells = [(n, target, level + (target == "rl-b") * gap) for n, gap in gaps.items() for target in ("sft", "rl-b")]
    frames = [pd.DataFrame({"seed": n, "target": target, "problem_id": range(20), "kl": kl}) for n, target, kl in cells]
    rows = pd.concat(frames).assign(domain="a", sample=0, tokens=2, truncated=False)
    rows = pd.concat([rows.assign(source=source) for source in ("rl-a", "rl-b")])
    alone = policy_neighbours.neighbour_table(rows[rows["seed"] == 0], ["a", "b"]).iloc[0]
    row = policy_neighbours.neighbour_table(rows, ["a", "b"]).iloc[0]
    assert (alone["label"], row["label"], row["prompts"]) == ("neighbour", "undecided", 20)
    half = np.std(list(gaps.values()), ddof=1) / np.sqrt(3) * stats.t.ppf(0.975, 2)
    assert row[["difference", "low", "high"]].tolist() == pytest.approx([-0.1, -0.1 - half, -0.1 + half])
    rows["kl"] = np.where(rows["target"] == "rl-b", 1.0 + rows["seed"], 1.0)  # prompts alike, seeds 1, 2 and 3
    cell = policy_kl.kl_table(rows).set_index(["source", "target"]).loc[("rl-a", "rl-b")]
    assert cell[["kl", "se", "kl_token", "se_token"]].tolist() == pytest.approx([2, 3**-0.5, 1, 3**-0.5 / 2])
    assert cell[["prompts", "completions"]].tolist() == [20, 60]


def test_asymmetry():
    near, far, unsure = policy_neighbours.NEIGHBOUR, policy_neighbours.STRANGER, policy_neighbours.UNDECIDED
    labels = dict.fromkeys(["ab", "ba", "ac", "ca", "ad", "da", "bc", "cb", "bd", "db", "cd", "dc"], far)
    labels |= {"ab": near, "ac": near, "ca": near, "ad": near, "da": unsure}
    rows = [(a, b, label, i) for i, ((a, b), label) in enumerate(labels.items())]
    found = policy_neighbours.asymmetry(pd.DataFrame(rows, columns=["domain", "expert", "label", "ratio"]))
    kinds = dict(zip(found["one"] + found["other"], found["kind"]))
    assert kinds == {"ab": "one way", "ac": "mutual", "ad": "undecided", "bc": "neither", "bd": "neither", "cd": "neither"}
    assert found.loc[0, ["ratio of one to other", "ratio of other to one"]].tolist() == [0, 1]


def test_pair_names(smoke):
    others = [(a, b) for a in smoke.domains for b in [*smoke.domains, "sft", "null"] if a != b]
    assert {policy_neighbours.pair_model(smoke.domains, a, b) for a, b in others} == set(schedule.pairs(smoke))
    assert policy_neighbours.pair_model(["math", "agent"], "null", "agent") == "merge-average@experts=agent+null"
    assert policy_neighbours.pair_model(["math", "agent"], "agent", "math") == "merge-average@experts=math+agent"
    with pytest.raises(ValueError, match="pair with 'law': allowed are math, agent, sft, null"):
        policy_neighbours.pair_model(["math", "agent"], "law", "math")
