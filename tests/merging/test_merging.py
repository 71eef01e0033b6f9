"""Merging by weights: hand calculations, identities, planted truths and refusals, on tiny real models."""

import math
import shutil

import pytest
import torch
from mergekit import merge_methods
from mergekit.merge_methods.base import TensorGroup
from safetensors.torch import load_file, save_file

from m2rl_lib.config import locations, schedule
from m2rl_lib.merging import merge, ram, sce, task_arithmetic, task_vectors, ties, tsv
from m2rl_lib.merging.merge import Recipe
from m2rl_lib.rollout import decoding
from m2rl_lib.storage import artifacts, result_tables
from m2rl_lib.training import micro_model

A, B = [4.0, -2.0, 0.0, 1.0], [-1.0, -4.0, 3.0, 0.5]  # two task vectors
KEY = "model.norm.weight"
VARIANTS = [*((method, False) for method in merge.METHODS), *((method, True) for method in schedule.TWO_DEFINITIONS)]


def moved(tokenizer, vector):
    """The tiny model, its final norm moved at the first places; all else equal."""
    model = micro_model.build_model(tokenizer, 32, 2, 2, 512, 0)
    with torch.no_grad():
        model.model.norm.weight[: len(vector)] += torch.tensor(vector)
    return model


@pytest.fixture
def experts(publish_model, tokenizer):
    """SFT and two experts whose final norm is moved by A and by B."""
    base = publish_model("sft", moved(tokenizer, [0.0] * 4))
    return base, [publish_model(f"rl-{name}", moved(tokenizer, vector), [base]) for name, vector in (("math", A), ("coding", B))]


def merged(p, base, experts, method: str, *, scale=1.0, density=1.0, paper=False, trim=1.0, places=4) -> torch.Tensor:
    """The merge's task vector at the first places of the final norm."""
    folder = merge.merge(p, Recipe(method, tuple(experts), base, scale, density, paper, trim), f"merge-{method}")
    return (load_file(folder / "model.safetensors")[KEY] - load_file(base / "model.safetensors")[KEY])[:places]


def numbers(base) -> int:
    return sum(tensor.numel() for tensor in load_file(base / "model.safetensors").values())


BY_HAND = {
    "average": [1.5, -3.0, 1.5, 0.75],
    "task-arithmetic": [3.0, -6.0, 3.0, 1.5],
    # signs elected by the sum: +, -, +, +; the mean of those that agree
    "ties": [4.0, -3.0, 3.0, 0.75],
    # weights ∝ mean square (21 : 26.25), then the weighted mean of those that agree in sign
    "sce": [4.0, (-2 * 21 - 4 * 26.25) / 47.25, 3.0, (1 * 21 + 0.5 * 26.25) / 47.25],
    # three elements moved by both: their mean; one by B alone: whole, in RAM+ × (1 + 0.1 × 0.2), as 3 shared to 1 is above 0.2
    "ram": [1.5, -3.0, 3.0, 0.75],
    "ram-plus": [1.5, -3.0, 3.06, 0.75],
    "tsv": [1.5, -3.0, 1.5, 0.75],  # no matrix: the mean
}


@pytest.mark.parametrize(("method", "paper"), [variant for variant in VARIANTS if variant[0] in BY_HAND])
def test_merges_equal_the_hand_calculation(smoke, experts, method, paper):
    assert torch.allclose(merged(smoke, *experts, method, paper=paper), torch.tensor(BY_HAND[method]), atol=1e-5)


def test_mergekits_ties_trims_each_tensor_and_the_papers_the_whole_model(smoke, experts):
    # mergekit: 2 of this tensor's 32 elements of each: 4 and -2 of A, -4 and 3 of B
    assert torch.allclose(merged(smoke, *experts, "ties", density=2 / 32), torch.tensor([4.0, -3.0, 3.0, 0.0]), atol=1e-5)
    # the paper: k of all elements. Only these are moved, so 3 of each are kept: 4, -2, 1 and -1, -4, 3 (not 0.5)
    made = merged(smoke, *experts, "ties", density=3.5 / numbers(experts[0]), paper=True)
    assert torch.allclose(made, torch.tensor([4.0, -3.0, 3.0, 1.0]), atol=1e-5)


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.2, 0.5, 1.0])
def test_largest_is_the_element_of_that_rank(share):
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(1000, generator=generator).abs(), torch.randn(37, 11, generator=generator).abs() * 1e-4]
    every = torch.cat([part.flatten() for part in parts]).sort(descending=True).values
    assert ties.largest(lambda: iter(parts), share) == (float(every[max(1, int(share * len(every))) - 1]), 1)
    assert ties.largest(lambda: iter([torch.tensor([3.0, 1, 2]), torch.tensor([2.0, 2])]), 0.6) == (2.0, 2)


def test_trimming_keeps_just_the_share_and_of_equals_the_first(monkeypatch):
    monkeypatch.setattr(task_vectors, "BLOCK", 3)
    delta = torch.tensor([0.5, -2.0, 2.0, 3.0, -2.0, 0.0, 2.0])
    blocks = task_vectors.task_vector(torch.zeros(7), delta)
    assert torch.cat(list(ties.trim(blocks, 2.0, 2)())).tolist() == [0, -2, 2, 3, 0, 0, 0]  # 3 largest of 7
    assert torch.cat(list(ties.trim(blocks, 2.0)())).tolist() == [0, -2, 2, 3, -2, 0, 2]  # the paper's: all equals


LIBRARYS = {  # mergekit's own method, ours, and the parameters of each
    "ties": ("ties", {"weight": 1.0, "density": 0.2, "lambda": 0.7}, {"share": 0.2, "density": 1.0, "scale": 0.7}),
    "ties-dare": ("dare_ties", {"weight": 1.0, "density": 0.6, "normalize": True}, {"share": 1.0, "density": 0.6, "scale": 1.0}),
    "task-arithmetic": ("task_arithmetic", {"weight": 1.0, "lambda": 0.7}, {"density": 1.0, "scale": 0.7}),
    "task-arithmetic-dare": ("dare_linear", {"weight": 1.0, "density": 0.6}, {"density": 0.6, "scale": 1.0}),
    "sce": ("sce", {"select_topk": 1.0}, {"select_topk": 1.0}),
    "sce-selected": ("sce", {"select_topk": 0.3}, {"select_topk": 0.3}),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1,), (5,), (64,), (13, 19), (67, 129), (3, 7, 191)])
@pytest.mark.parametrize("name", LIBRARYS)
def test_blocks_give_the_numbers_of_mergekits_own_methods(monkeypatch, name, shape, dtype):
    """Five experts, tensors of odd sizes cut into blocks of 64: equal to the last bit. Twice: DARE draws on for the second."""
    monkeypatch.setattr(task_vectors, "BLOCK", 64)
    generator = torch.Generator().manual_seed(sum(shape))
    base = torch.randn(shape, generator=generator).to(dtype)
    experts = [(base + torch.randn(shape, generator=generator)).to(dtype) for _ in range(5)]
    if name == "ties" and dtype == torch.bfloat16:  # no equal magnitudes: which of them mergekit keeps is up to its sort
        base, distinct = torch.zeros_like(base), torch.randperm(base.numel(), generator=generator) + 1.0
        experts = [distinct.roll(i).reshape(shape).to(dtype) for i in range(5)]
        if base.numel() > 256:
            pytest.skip("bfloat16 has not that many distinct whole numbers")
    kind, theirs, ours = LIBRARYS[name]
    widened = TensorGroup.from_tensors([tensor.float() for tensor in (base, *experts)], base_index=0)
    torch.manual_seed(1)
    expected = merge_methods.get(kind)([widened, widened], parameters=theirs)
    torch.manual_seed(1)
    method = sce.sce if kind == "sce" else ties.ties if "ties" in kind else task_arithmetic.task_arithmetic
    given = ours | {"paper": False} | ({} if kind == "sce" else {"seed": 0}) | ({"threshold": 0.0} if "ties" in kind else {})
    made = method([TensorGroup.from_tensors([base, *experts], base_index=0)] * 2, parameters=given)
    assert made[0].dtype == torch.float32 and made[0].shape == shape
    assert torch.equal(made[0], expected[0]) and torch.equal(made[1], expected[1])


def after_dare(delta, *settings):
    return torch.cat(list(task_arithmetic.papers_dare(torch.zeros_like(delta), delta, *settings)()))


def test_dare_keeps_the_density_and_rescales_as_each_definition_says(smoke, experts):
    delta = torch.randn(40_000, generator=torch.Generator().manual_seed(0))
    kept = after_dare(delta, 0.8, 0, "rl-math", "w")
    assert (kept != 0).float().mean() == pytest.approx(0.8, abs=0.01)
    assert torch.allclose(kept[kept != 0], delta[kept != 0] / 0.8)
    assert torch.equal(kept, after_dare(delta, 0.8, 0, "rl-math", "w"))
    assert not torch.equal(kept, after_dare(delta, 0.8, 0, "rl-coding", "w"))
    base, folders = experts
    papers = merged(smoke, base, folders[:1], "task-arithmetic-dare", density=0.5, paper=True)
    assert set((papers / torch.tensor(A))[papers != 0].round(decimals=4).tolist()) == {2.0}  # 1 / 0.5
    mergekits = merged(smoke, base, folders[:1], "task-arithmetic-dare", density=0.5)
    assert mergekits.abs().sum() == pytest.approx(7.0, abs=1e-4)  # the L1 norm of A


def test_the_papers_ties_dare_trims_what_dare_left(smoke, experts):
    base, folders = experts
    made = merged(smoke, base, folders[:1], "ties-dare", density=0.5, paper=True, trim=1.5 / numbers(base))
    dropped = after_dare(torch.tensor(A + [0.0] * 28), 0.5, smoke.seed, "rl-math", KEY)[:4]
    expected = torch.where(dropped.abs() == dropped.abs().max(), dropped, 0.0)
    assert dropped.abs().max() > 0 and torch.allclose(made, expected, atol=1e-5)


def test_sce_reports_its_branch_and_the_papers_definition_has_no_limit(smoke, publish_model, tokenizer):
    base = publish_model("sft", moved(tokenizer, [0.0, 0.0]))
    small = [publish_model(f"rl-{n}", moved(tokenizer, s), [base]) for n, s in (("math", [3e-4, 0.0]), ("coding", [1e-4, 0.0]))]
    branches = sce.branches(small, base).set_index("tensor")
    assert branches.loc[KEY, "uniform"] and branches.loc[KEY, "mean_squares"] == pytest.approx(1e-7 / 32, rel=1e-3)
    assert merged(smoke, base, small, "sce", places=1).item() == pytest.approx(2e-4, abs=1e-6)  # uniform: the mean
    assert merged(smoke, base, small, "sce", paper=True, places=1).item() == pytest.approx(2.8e-4, abs=1e-6)  # 9 : 1


@pytest.mark.parametrize(("method", "paper"), VARIANTS)
def test_identities(smoke, experts, publish_model, tokenizer, method, paper):
    """One expert, λ = 1, nothing trimmed: that expert. Equal experts: that expert. Another order: the same."""
    base, (first, second) = experts
    assert torch.allclose(merged(smoke, base, [first], method, paper=paper), torch.tensor(A), atol=1e-5)
    equal = [first, publish_model("rl-science", moved(tokenizer, A), [base])]
    scale = 0.5 if method.startswith("task") else 1.0  # a sum of two, not a mean
    assert torch.allclose(merged(smoke, base, equal, method, scale=scale, paper=paper), torch.tensor(A), atol=1e-5)
    one, other = (merged(smoke, base, order, method, paper=paper) for order in ([first, second], [second, first]))
    assert torch.allclose(one, other, atol=1e-6)


def factors(rank: int, *seeds: int) -> list[torch.Tensor]:
    """Matrices (12, 9) of that rank, whose rows and columns are orthogonal among the seeds."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(n, n, generator=generator)).Q for n in (12, 9))
    places = [slice(rank * seed, rank * (seed + 1)) for seed in seeds]
    return [left[:, place] * torch.arange(1.0, rank + 1) @ right[:, place].T for place in places]


def test_tsv_keeps_orthogonal_experts_whole_and_counts_a_shared_direction_once():
    one, other = factors(4, 0, 1)
    assert torch.allclose(tsv.merged_matrix([one]), one, atol=1e-5)
    assert torch.allclose(tsv.merged_matrix([one, other]), one + other, atol=1e-5)
    assert torch.allclose(tsv.merged_matrix([one, torch.zeros_like(one)]), one, atol=1e-5)
    assert torch.allclose(tsv.merged_matrix([one, one]), one, atol=1e-4)
    mixed = tsv.merged_matrix([one, one + torch.randn(12, 9, generator=torch.Generator().manual_seed(1))])
    kept = torch.linalg.svdvals(mixed)
    assert int((kept > 1e-4).sum()) <= 8  # half of 9 ranks of each


def test_tsv_is_the_published_code():
    """AntoAndGar/task_singular_vectors, `compute_and_sum_svd_mem_reduction`, written out for one matrix of three experts."""
    generator = torch.Generator().manual_seed(0)
    vectors = [torch.randn(20, 15, generator=generator) for _ in range(3)]
    sum_u, sum_s, sum_v = torch.zeros(20, 15), torch.zeros(15), torch.zeros(15, 15)
    for i, vector in enumerate(vectors):
        u, s, v = torch.linalg.svd(vector, full_matrices=False)
        place = slice(i * 5, (i + 1) * 5)
        sum_u[:, place], sum_s[place], sum_v[place] = u[:, :5], s[:5], v[:5]
    u_u, _, v_u = torch.linalg.svd(sum_u, full_matrices=False)
    u_v, _, v_v = torch.linalg.svd(sum_v, full_matrices=False)
    published = torch.linalg.multi_dot((u_u, v_u, torch.diag(sum_s), u_v, v_v))
    assert torch.allclose(tsv.merged_matrix(vectors), published, atol=1e-4)


def test_movers_counts_the_experts_that_move_an_element(experts):
    base, folders = experts
    share = ram.movers(folders, base) * numbers(base)
    assert share.tolist() == pytest.approx([numbers(base) - 4, 1, 3])


def test_the_best_lambda_is_the_known_one(smoke, publish_model, tokenizer):
    """Experts that each minimise a quadratic: of disjoint weights the best λ is 1, of the same weights 1 / experts."""
    base = publish_model("sft", moved(tokenizer, [0.0] * 2))
    disjoint, same = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[2.0, 3.0], [2.0, 3.0]])
    for vectors, names, best in ((disjoint, ("math", "coding"), 1.0), (same, ("science", "agent"), 0.5)):
        folders = [publish_model(f"rl-{n}", moved(tokenizer, v.tolist()), [base]) for n, v in zip(names, vectors)]
        losses = {}
        for scale in (0.25, 0.5, 0.75, 1.0, 1.25):
            made = merged(smoke, base, folders, "task-arithmetic", scale=scale, places=2)
            losses[scale] = float((made - vectors).square()[vectors != 0].sum())
        assert min(losses, key=losses.get) == best


def test_output_is_written_as_asked_from_float32_arithmetic(smoke, experts):
    smoke.merge_dtype = "bfloat16"
    merged(smoke, *experts, "average")
    folder = locations.model_folder(smoke.study, smoke.seed, "merge-average")
    made = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in made.values()} == {torch.bfloat16}
    assert torch.equal(made[KEY][:4], torch.tensor([2.5, -2.0, 2.5, 1.75]).bfloat16())
    model, tokenizer = decoding.load_model(artifacts.verify_model(folder))
    assert model.dtype == torch.bfloat16 and tokenizer.chat_template


def test_a_name_gives_the_recipe(smoke):
    def folder(name):
        return locations.model_folder(smoke.study, smoke.seed, name)

    made = merge.recipe(smoke, "merge-ties@density=0.5,lambda=0.7")
    assert (made.method, made.scale, made.density, made.paper) == ("ties", 0.7, 0.5, False)
    assert made.experts == tuple(folder(f"rl-{domain}") for domain in smoke.domains)
    assert merge.recipe(smoke, "merge-sce@definition=paper").paper
    assert merge.recipe(smoke, "merge-average@experts=math+null").experts == (folder("rl-math"), folder("rl-null"))
    assert merge.recipe(smoke, "merge-average@experts=agent+sft").experts == (folder("rl-agent"), folder("sft"))
    assert merge.recipe(smoke, "merge-ties@step=1").experts[0] == folder("rl-math@step=1")
    assert merge.recipe(smoke, "merge-ties-dare").density == smoke.merge_dare_density


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("merge-ties@density=0", "density is 0.0, but must be above 0 and at most 1"),
        ("merge-ties@lambda=nan", "lambda is nan, but must be a finite number"),
        ("merge-ties@size=3", "size is nothing that a merge varies in"),
    ],
)
def test_settings_out_of_range_are_refused(smoke, name, message):
    with pytest.raises(ValueError, match=message):
        merge.recipe(smoke, name)


def test_equal_norms_are_equal(smoke, experts):
    smoke.domains = ["math", "coding"]
    base, folders = experts
    models = {folder.name: folder for folder in folders}
    for name in ("merge-average", "merge-task-arithmetic"):
        merge.merge(smoke, merge.recipe(smoke, name), name)
        models[name] = merge.merge(smoke, merge.recipe(smoke, f"{name}@norm=equal"), f"{name}@norm=equal")
    norms = task_vectors.norms_and_cosines(models, base).set_index("model")["norm"]
    assert norms[["merge-average", "merge-task-arithmetic"]].tolist() == pytest.approx([1, 1], rel=1e-4)


def test_every_merge_of_a_study_is_made_and_its_cost_charged_once(smoke, experts, publish_model, tokenizer):
    smoke.domains, smoke.rlvr_mixed_steps = ["math", "coding"], 8
    base, _ = experts
    publish_model("rl-null", moved(tokenizer, [0.1] * 4), [base])
    folders = merge.run(smoke)
    assert [folder.name for folder in folders] == schedule.merges(smoke) == list(dict.fromkeys(schedule.merges(smoke)))
    assert "merge-average@experts=math+coding" in schedule.pairs(smoke)
    assert all(artifacts.verify_model(folder) for folder in folders)
    written = {folder: (folder / "manifest.json").stat().st_mtime_ns for folder in folders}
    locations.done_file(smoke.study, smoke.seed, "merges").unlink(missing_ok=True)
    (folders[3] / "model.safetensors").write_bytes(b"damaged")
    model, recipe = (folders[4] / "model.safetensors").read_bytes(), merge.recipe(smoke, folders[4].name)
    with artifacts.publish(folders[4], artifacts.record(smoke, [*recipe.experts, recipe.base])) as fresh:
        (fresh / "model.safetensors").write_bytes(model)  # as an earlier commit published it, without its seconds
    assert merge.run(smoke) == folders  # as after a kill: what is published and whole stays
    assert [folder for folder in folders if (folder / "manifest.json").stat().st_mtime_ns != written[folder]] == folders[3:5]
    costs = result_tables.read_table(smoke, "costs", ["merges"])
    assert set(costs.loc[costs["stage"] == "merge", "model"]) == set(schedule.candidates(smoke))
    assert set(result_tables.read_table(smoke, "sce", ["merges"])["tensor"]) == set(load_file(base / "model.safetensors"))


def test_a_map_makes_its_default_merges_at_each_budget(smoke, experts, publish_model, tokenizer):
    smoke.domains, smoke.map_budgets, smoke.merge_methods = ["math", "coding"], [0.5, 1.0], ["average", "tsv"]
    base, _ = experts
    for name in ("rl-math@step=2", "rl-coding@step=2"):
        publish_model(name, moved(tokenizer, [0.1] * 4), [base])
    names = ["merge-average@step=2", "merge-tsv@step=2", "merge-average", "merge-tsv"]
    assert [folder.name for folder in merge.run(smoke)] == names  # without RL-Null, which a map does not train
    read = {folder.name for folder in merge.read_by(smoke)}
    assert read == {"sft", "rl-math@step=2", "rl-coding@step=2", "rl-math", "rl-coding"}


def test_a_checkpoint_is_merged_not_the_run_it_belongs_to(smoke, experts, publish_model, tokenizer):
    base, _ = experts
    checkpoint = publish_model("rl-math@step=1", moved(tokenizer, [a / 4 for a in A]), [base])
    assert torch.allclose(merged(smoke, base, [checkpoint], "task-arithmetic"), torch.tensor(A) / 4, atol=1e-6)


def test_strangers_nan_missing_tensors_other_shapes_and_damage_are_refused(smoke, experts, publish_model, tokenizer):
    base, both = experts

    def refused(message: str, *others):
        with pytest.raises(ValueError, match=message):
            merged(smoke, base, others, "ties", density=0.2)

    shard = both[0] / "model.safetensors"
    tensors, whole = load_file(shard), shard.read_bytes()
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, shard)
    refused("damaged", *both)
    shard.write_bytes(whole)
    stranger = publish_model("rl-science", micro_model.build_model(tokenizer, 32, 2, 2, 512, 1))
    refused("rl-science was not trained from sft", *both, stranger)
    wider = micro_model.build_model(tokenizer, 64, 2, 2, 512, 1)
    refused("rl-science: tensor .* in sft", publish_model("rl-science", wider, [base]))
    refused("model.norm.weight has NaN", publish_model("rl-science", moved(tokenizer, [math.nan]), [base]))
    with artifacts.publish(base.with_name("rl-agent"), artifacts.record(smoke, [base])) as lacking:
        shutil.copy(both[0] / "config.json", lacking)
        tensors.pop(KEY)
        save_file(tensors, lacking / "model.safetensors", {"format": "pt"})
    refused("rl-agent has no tensor model.norm.weight, which sft has", base.with_name("rl-agent"))
    refused("no experts to merge")
    assert not locations.model_folder("smoke", 0, "merge-ties").exists()


def test_norms_and_cosines_of_task_vectors(experts):
    base, both = experts
    frame = task_vectors.norms_and_cosines({folder.name: folder for folder in both}, base).set_index("model")
    norms = torch.tensor([A, B]).norm(dim=1)
    assert frame.loc["rl-math", "norm"] == pytest.approx(float(norms[0] / norms.mean()), rel=1e-5)
    assert frame.loc["rl-math", "cosine rl-math"] == pytest.approx(1)
    expected = torch.cosine_similarity(torch.tensor(A), torch.tensor(B), dim=0)
    assert frame.loc["rl-math", "cosine rl-coding"] == pytest.approx(float(expected), abs=1e-5)
