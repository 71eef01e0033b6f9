"""RQ3's weights: every measure against brute force, a hand calculation or a planted truth; bad checkpoints refused in a line."""

import json
import tracemalloc
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from m2rl_lib.analysis.rq3_weights import footprints, mask_overlap, projection
from m2rl_lib.analysis.rq3_weights.mask_overlap import cosine_table, mask_table, overlap_of, pair_table, shift_table, whole
from m2rl_lib.storage import checkpoints

SHAPES = {
    "model.embed_tokens.weight": (37, 8),
    "model.layers.0.self_attn.q_proj.weight": (16, 8),
    "model.layers.0.mlp.down_proj.weight": (8, 21),
    "model.layers.1.self_attn.q_proj.weight": (16, 8),
    "model.layers.1.input_layernorm.weight": (8,),
    "model.norm.weight": (8,),
}
WEIGHTS = sum(int(np.prod(shape)) for shape in SHAPES.values())


def draw(seed: int, scale: float = 0.1, shapes=SHAPES) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: scale * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def write(folder, tensors, tied=True, **files):
    """A checkpoint folder of one file, or of several: `one=[names]` is the shard one.safetensors, with an index."""
    folder.mkdir(parents=True)
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    (folder / "config.json").write_text(json.dumps({"tie_word_embeddings": tied}))
    for file, names in (files or {"model": list(tensors)}).items():
        save_file({name: tensors[name] for name in names}, folder / f"{file}.safetensors")
    if files:
        placed = {name: f"{file}.safetensors" for file, names in files.items() for name in names}
        (folder / checkpoints.INDEX).write_text(json.dumps({"weight_map": placed}))
    return folder


def measure(tmp_path, sft, models, **settings):
    folders = {name: write(tmp_path / name, tensors) for name, tensors in models.items()}
    return footprints.measure_footprints(folders, write(tmp_path / "sft", sft), **settings)


def measured(found):
    """The tables of masks, pairs and cosines."""
    return mask_table(found), pair_table(found), cosine_table(found)


def select(frame, depth, **values):
    rows = frame if depth is not None else frame[frame["layer"].isna()]
    for column, value in values.items():
        rows = rows[rows[column] == value]
    assert len(rows)
    return rows


def flat(tensors, names=SHAPES):
    return torch.cat([tensors[name].double().flatten() for name in names]).numpy()


def matrix(n: int, piece: int, dimensions=16, block=64, seed=3) -> np.ndarray:
    """The matrix (dimensions, n) by which vectors that come in pieces are projected: one column a unit vector."""
    units = np.eye(n, dtype=np.float32)
    return sum([projection.project(units[:, at : at + piece], (seed, at), dimensions, block) for at in range(0, n, piece)]).T


@pytest.mark.parametrize(("n", "piece"), [(64, 64), (512, 512), (512, 128), (512, 64)])
def test_projection_is_orthogonal_whatever_the_pieces(n, piece):
    rows = matrix(n, piece)
    assert rows @ rows.T == pytest.approx(n / 16 * np.eye(16), abs=1e-4)
    assert np.abs(rows) == pytest.approx(np.full((16, n), 0.25))  # ±1 / √16: every weight counts alike


def test_a_last_block_that_is_not_full_is_filled_with_zeros():
    vectors = np.random.default_rng(0).standard_normal((3, 100)).astype(np.float32)
    padded = np.pad(vectors, ((0, 0), (0, 28)))
    assert projection.project(vectors, (1, 2), 16, 64) == pytest.approx(projection.project(padded, (1, 2), 16, 64))


@pytest.mark.parametrize("kind", ["dense", "a few large weights", "one column of every row", "all of one sign"])
def test_projected_products_are_unbiased_on_large_vectors(kind):
    """Two vectors at cosine 0.5 of 2^17 weights: the mean over draws is theirs, the spread that of 256 dimensions."""
    generator = np.random.default_rng(0)
    n, draws = 2**17, 300
    a, b = generator.standard_normal((2, n))
    some = {"a few large weights": np.arange(n) < 100, "one column of every row": np.arange(n) % 1024 == 7}
    a, b = (np.abs(a) if kind == "all of one sign" else a) * some.get(kind, 1), b * some.get(kind, 1)
    b -= a * (a @ b) / (a @ a)
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    vectors = np.array([a, 0.5 * a + np.sqrt(0.75) * b], dtype=np.float32)
    projected = np.array([projection.project(vectors, (seed, 0)) for seed in range(draws)])
    products = np.einsum("dmi,dni->dmn", projected, projected)
    assert products.mean(axis=0) == pytest.approx(np.array([[1, 0.5], [0.5, 1]]), abs=4 * np.sqrt(2 / 256 / draws))
    found = products[:, 0, 1] / np.sqrt(products[:, 0, 0] * products[:, 1, 1])
    assert found.std() == pytest.approx((1 - 0.5**2) / np.sqrt(256), rel=0.25)  # that of a correlation of 256 numbers


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("piece", [2**17, 50])
def test_masks_overlaps_norms_and_cosines_are_the_definitions(tmp_path, monkeypatch, dtype, piece):
    monkeypatch.setattr(footprints, "PIECE", piece)
    sft = {name: tensor.to(dtype) for name, tensor in draw(0).items()}
    moves = {f"rl-{n}": draw(n, 10.0**-n) for n in (1, 2, 3)}
    models = {name: {k: (v.float() + move[k]).to(dtype) for k, v in sft.items()} for name, move in moves.items()}
    found = measure(tmp_path, sft, models)
    assert (footprints.ROUNDED in found.models) == (dtype == torch.float32)  # nothing to round in bfloat16
    parts = {
        ("all", None): list(SHAPES),
        ("q", None): [name for name in SHAPES if "q_proj" in name],
        ("norm", None): [name for name in SHAPES if "norm" in name],
        ("embedding", None): ["model.embed_tokens.weight"],
        ("all", 1): [name for name in SHAPES if ".1." in name],
    }
    vectors, (masks, pairs, angles) = shift_table(found), measured(found)
    for (kind, layer), names in parts.items():
        at = {"type": kind} | ({} if layer is None else {"layer": layer})
        start, w = flat(sft, names), {model: flat(tensors, names) for model, tensors in models.items()}
        d = {model: values - start for model, values in w.items()}
        for eta in footprints.ETAS:
            at_eta = at | {"kind": "relative", "level": eta, "precision": "stored"}
            mask = {m: np.abs(d[m]) > eta * np.maximum(np.abs(v), np.abs(start)) for m, v in w.items()}
            changed = select(masks, layer, **at_eta).set_index("model")["changed"]
            assert changed[list(w)].to_dict() == pytest.approx({m: v.mean() for m, v in mask.items()}, abs=1e-12)
            for row in select(pairs, layer, **at_eta).itertuples():
                if row.model in mask and row.other in mask:
                    a, b = mask[row.model], mask[row.other]
                    assert row.jaccard == pytest.approx((a & b).sum() / (a | b).sum(), abs=1e-12)
        for row in select(vectors, layer, **at).itertuples():
            if row.model in w:
                norm = np.linalg.norm(d[row.model])
                assert (row.norm, row.relative) == pytest.approx((norm, norm / np.linalg.norm(start)), rel=1e-6)
                assert row.weights == len(start)
        for row in select(angles, layer, **at).itertuples():
            if row.model in w and row.other in w:
                a, b = d[row.model], d[row.other]
                assert row.cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-6)


def test_the_number_of_threads_and_shards_changes_no_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(footprints, "PIECE", 40)
    sft, expert, names = draw(0), draw(1), list(SHAPES)
    one = measure(tmp_path / "one", sft, {"rl-math": expert})
    shards = write(tmp_path / "shards", expert, first=names[::2], second=names[1::2])
    other = footprints.measure_footprints({"rl-math": shards}, tmp_path / "one" / "sft", threads=3)
    for name in ("products", "projected", "both", "octaves", "changed"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_a_real_model_saved_in_shards_has_every_type_and_layer(tmp_path, model):
    model.save_pretrained(tmp_path / "sft", max_shard_size="40KB")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01
    model.save_pretrained(tmp_path / "rl-math")
    assert (tmp_path / "sft" / checkpoints.INDEX).is_file() and not (tmp_path / "rl-math" / checkpoints.INDEX).is_file()
    found = footprints.measure_footprints({"rl-math": tmp_path / "rl-math"}, tmp_path / "sft")
    count = sum(parameter.numel() for parameter in model.parameters())
    assert set(found.tensors["type"]) == {"q", "k", "v", "o", "gate", "up", "down", "norm", "embedding"}
    assert set(found.tensors["layer"].dropna()) == {0, 1} and found.tensors["weights"].sum() == count
    row = whole(shift_table(found)).set_index("model").loc["rl-math"]
    assert row["norm"] == pytest.approx(0.01 * np.sqrt(count), rel=1e-4)


def test_memory_does_not_grow_with_the_model(tmp_path, monkeypatch):
    monkeypatch.setattr(footprints, "PIECE", 2**14)
    monkeypatch.setattr(footprints, "SAMPLE", 2**14)
    peaks = []
    for rows in (2**10, 2**12):
        shapes = {"model.embed_tokens.weight": (rows, 512)}
        found = [write(tmp_path / f"{rows}-{seed}", draw(seed, shapes=shapes)) for seed in (0, 1, 2)]
        tracemalloc.start()
        footprints.measure_footprints({"rl-a": found[1], "rl-b": found[2]}, found[0])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] and peaks[1] < 4 * 2**20  # one checkpoint of the larger is 8 MiB


def test_cosine_with_itself_negated_and_rotated(tmp_path):
    sft, v, u = draw(0), flat(draw(1)), flat(draw(2))
    u -= v * (u @ v) / (v @ v)
    u *= np.linalg.norm(v) / np.linalg.norm(u)
    vectors = {"rl-a": v, "rl-same": 2 * v, "rl-negated": -v, "rl-rotated": np.cos(1.0) * v + np.sin(1.0) * u}
    models = {name: place(flat(sft) + 1e-2 * vector) for name, vector in vectors.items()}
    rows = whole(cosine_table(measure(tmp_path, sft, models))).query("model == 'rl-a'").set_index("other")
    expected = {"rl-same": 1, "rl-negated": -1, "rl-rotated": np.cos(1.0)}
    assert rows["cosine"][list(expected)].to_dict() == pytest.approx(expected, abs=1e-5)
    assert rows["projected"][["rl-same", "rl-negated"]].tolist() == pytest.approx([1, -1], abs=1e-5)
    assert rows.loc["rl-rotated", "projected"] == pytest.approx(np.cos(1.0), abs=4 * np.sin(1.0) ** 2 / 16)
    assert (rows["reason"] == "").all()


def place(vector, shapes=SHAPES):
    """A flat vector as the tensors of a model."""
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    parts = np.split(vector, np.cumsum(sizes)[:-1])
    return {name: torch.tensor(part, dtype=torch.float32).reshape(shape) for (name, shape), part in zip(shapes.items(), parts)}


LARGE = {"model.embed_tokens.weight": (1000, 100), "model.layers.0.mlp.up_proj.weight": (1000, 100)}


def planted(tmp_path, first, second):
    """Two models that change just the weights in their masks (200,000 in two tensors), at η = 1e-3 of the overlap table."""
    start = flat(draw(0, shapes=LARGE), LARGE)
    models = {name: place(start * np.where(mask, 1.05, 1), LARGE) for name, mask in (("rl-a", first), ("rl-b", second))}
    pairs = whole(pair_table(measure(tmp_path, place(start, LARGE), models)))
    return select(pairs, None, kind="relative", level=1e-3, precision="stored", model="rl-a", other="rl-b").iloc[0]


def test_independent_masks_overlap_by_chance(tmp_path):
    row = planted(tmp_path, *(np.random.default_rng(0).random((2, 200_000)) < 0.3))
    assert row["chance"] == pytest.approx(0.3 / (2 - 0.3), abs=0.003)
    assert abs(row["jaccard"] - row["matched"]) < 4 * row["matched_sd"] < 0.01
    assert row["matched"] == pytest.approx(row["chance"], abs=0.001)


def test_nested_masks_overlap_by_the_ratio_of_their_shares(tmp_path):
    draws = np.random.default_rng(0).random(200_000)
    row = planted(tmp_path, draws < 0.1, draws < 0.4)
    assert row["jaccard"] == pytest.approx((draws < 0.1).sum() / (draws < 0.4).sum(), abs=1e-12)
    assert row["jaccard"] > row["matched"] + 100 * row["matched_sd"]


def test_matched_null_explains_masks_that_share_only_tensors_and_magnitudes(tmp_path):
    """Both models prefer the first tensor and small weights, and draw independently there: above chance, not above matched."""
    octave = np.clip(np.floor(np.log2(np.abs(flat(draw(0, shapes=LARGE), LARGE)))), -10, 1)
    share = np.where(np.arange(200_000) < 100_000, 0.6, 0.1) * np.where(octave < -4, 1, 0.2)
    row = planted(tmp_path, *(np.random.default_rng(0).random((2, 200_000)) < share))
    assert row["jaccard"] > row["chance"] + 0.1
    assert abs(row["jaccard"] - row["matched"]) < 4 * row["matched_sd"]


def test_overlap_of_two_strata_by_hand():
    """Strata of 4 and 6 weights, 2 and 2 of 4, 3 and 0 of 6 changed; 1 in both: 1 of 6. Matched: 2·2/4 = 1 of 6 as well."""
    both = np.array([[5, 1], [1, 2]])
    changed = np.array([[[2, 3], [2, 0]]])  # one tensor, two models, two octaves
    found = overlap_of(both, changed, np.array([[4, 6]]))
    assert found["jaccard"][0, 1] == pytest.approx(1 / 6)
    assert found["chance"][0, 1] == pytest.approx(0.5 * 0.2 / (0.5 + 0.2 - 0.5 * 0.2))
    assert found["matched"][0, 1] == pytest.approx(1 / 6)
    assert found["matched_sd"][0, 1] == pytest.approx(np.sqrt(2 * 2 * 2 * 2 / (16 * 3)) * 7 / 36)


def test_matched_null_is_what_drawing_such_masks_gives():
    generator = np.random.default_rng(0)
    n, a, b = np.array([50, 80, 20]), np.array([20, 10, 15]), np.array([30, 8, 3])
    drawn = []
    for _ in range(4000):
        masks = [np.concatenate([generator.permutation(np.arange(size) < k) for size, k in zip(n, counts)]) for counts in (a, b)]
        drawn.append((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum())
    found = overlap_of(np.diag([a.sum(), b.sum()]), np.array([[a, b]]), n[None])
    assert np.mean(drawn) == pytest.approx(found["matched"][0, 1], abs=0.002)
    assert np.std(drawn) == pytest.approx(found["matched_sd"][0, 1], rel=0.08)


def test_equal_density_is_exact_where_shifts_differ(tmp_path):
    found = measure(tmp_path, draw(0), {"rl-a": draw(1), "rl-b": draw(2, 1e-4)})
    rows = whole(mask_table(found)).query("kind == 'density' and model != @footprints.ROUNDED")
    assert (rows["changed"] * WEIGHTS).round(6).tolist() == [round(level * WEIGHTS) for level in rows["level"]]


def test_equal_density_takes_the_nearer_side_of_a_value_many_shifts_have():
    distances = np.repeat(np.array([0, 1, 2, 3], np.float32), [50, 30, 15, 5])
    kept = {share: float(np.mean(distances > footprints._threshold(distances, share))) for share in (0.05, 0.1, 0.18, 0.3, 0.6)}
    assert kept == {0.05: 0.05, 0.1: 0.05, 0.18: 0.2, 0.3: 0.2, 0.6: 0.5}


def test_a_sample_places_the_thresholds_of_a_large_model(tmp_path, monkeypatch):
    monkeypatch.setattr(footprints, "SAMPLE", 2**15)
    rows = whole(mask_table(measure(tmp_path, draw(0, shapes=LARGE), {"rl-a": draw(1, shapes=LARGE)}))).query("model == 'rl-a'")
    rows = rows[rows["kind"] == "density"]
    assert len(rows) == 3 and (rows["changed"] - rows["level"]).abs().max() < 0.01


def test_rounding_is_that_of_torch_and_its_share_is_measured(tmp_path):
    sft, expert = draw(0), draw(1)
    start, low, high = flat(sft), *(flat({k: v.bfloat16() for k, v in model.items()}) for model in (sft, expert))
    assert np.array_equal(checkpoints.round_to_bf16(start.astype(np.float32)), low)
    assert checkpoints.round_to_bf16(np.array([1 + 2**-8, 1 + 3 * 2**-8], np.float32)).tolist() == [1.0, 1 + 4 * 2**-8]
    found = measure(tmp_path, sft, {"rl-math": expert})
    masks = whole(mask_table(found)).set_index(["kind", "level", "precision", "model"])["changed"]
    share = np.mean(np.abs(low - start) > 1e-3 * np.maximum(np.abs(low), np.abs(start)))
    assert 0.5 < share < 0.75 and masks["relative", 1e-3, "stored", footprints.ROUNDED] == pytest.approx(share, abs=1e-12)
    both = np.mean(np.abs(high - low) > 1e-3 * np.maximum(np.abs(high), np.abs(low)))
    assert masks["relative", 1e-3, "bf16", "rl-math"] == pytest.approx(both, abs=1e-12)
    assert masks["relative", 1e-3, "bf16", footprints.ROUNDED] == 0


Q = "model.layers.0.self_attn.q_proj.weight"
HEAD = {checkpoints.HEAD: torch.zeros(37, 8)}
BAD = {
    "lacks": (lambda t: {name: t[name] for name in t if name != Q}, f"rl-math lacks {Q}, which sft has"),
    "more": (lambda t: t | {"model.extra.weight": torch.ones(2)}, "sft lacks model.extra.weight, which rl-math has"),
    "many": (lambda t: {"model.norm.weight": t["model.norm.weight"]}, "and 2 more tensors, which sft has"),
    "shape": (lambda t: t | {Q: torch.ones(8, 16)}, f"{Q} is F32 [8, 16] in rl-math and F32 [16, 8] in sft"),
    "dtype": (lambda t: t | {Q: t[Q].bfloat16()}, f"{Q} is BF16 [16, 8] in rl-math and F32 [16, 8] in sft"),
    "integers": (lambda t: t | {Q: torch.ones(16, 8, dtype=torch.int64)}, "is stored as I64; allowed are BF16, F16, F32, F64"),
    "untied": (lambda t: t | HEAD, "rl-math has an output head of its own (lm_head.weight), sft ties it to the embedding"),
    "nan": (lambda t: t | {Q: torch.full((16, 8), torch.nan)}, f"rl-math: tensor {Q} has NaN or infinite values"),
    "inf": (lambda t: t | {Q: torch.full((16, 8), torch.inf)}, f"rl-math: tensor {Q} has NaN or infinite values"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_checkpoints_that_cannot_be_compared_are_refused_in_one_line(tmp_path, case):
    change, line = BAD[case]
    sft, expert = write(tmp_path / "sft", draw(0)), write(tmp_path / "rl-math", change(draw(1)), tied=case != "untied")
    with pytest.raises(ValueError) as error:
        footprints.measure_footprints({"rl-math": expert}, sft)
    assert line in str(error.value) and "\n" not in str(error.value)


def test_a_stored_copy_of_a_tied_head_is_left_out(tmp_path):
    tensors = draw(1)
    copy = tensors | {checkpoints.HEAD: tensors["model.embed_tokens.weight"].clone()}
    sft, expert = write(tmp_path / "sft", draw(0)), write(tmp_path / "rl-math", copy)
    assert footprints.measure_footprints({"rl-math": expert}, sft).tensors["weights"].sum() == WEIGHTS


@pytest.mark.parametrize("keep", [-10, 100, 4])
def test_a_truncated_shard_is_refused_before_work(tmp_path, keep):
    names = list(SHAPES)
    sft = write(tmp_path / "sft", draw(0), first=names[:3], second=names[3:])
    shard = sft / "second.safetensors"
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(ValueError, match="sft: .*second.safetensors is (damaged: its header promises|cut short)") as error:
        footprints.measure_footprints({"rl-math": write(tmp_path / "rl-math", draw(1))}, sft)
    assert "\n" not in str(error.value)
    shard.unlink()
    with pytest.raises(FileNotFoundError, match="second.safetensors is missing; model.safetensors.index.json lists it"):
        checkpoints.open_checkpoint("sft", sft)


def test_an_index_that_names_a_tensor_no_shard_has_is_refused(tmp_path):
    folder = write(tmp_path / "sft", draw(0), first=list(SHAPES))
    index = json.loads((folder / checkpoints.INDEX).read_text())
    index["weight_map"]["model.lost.weight"] = "first.safetensors"
    (folder / checkpoints.INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match="sft: model.lost.weight in model.safetensors.index.json but in no shard"):
        checkpoints.open_checkpoint("sft", folder)


def test_folders_without_weights_and_no_models_are_refused(tmp_path):
    sft = write(tmp_path / "sft", draw(0))
    with pytest.raises(ValueError, match="no models"):
        footprints.measure_footprints({}, sft)
    with pytest.raises(FileNotFoundError, match="rl-math: .*model.safetensors is missing"):
        footprints.measure_footprints({"rl-math": tmp_path}, sft)


def test_an_expert_identical_to_sft_has_no_cosine_and_says_so(tmp_path):
    _, pairs, angles = measured(measure(tmp_path, draw(0), {"rl-a": draw(0), "rl-b": draw(1), "rl-c": draw(0)}))
    rows = whole(angles).set_index(["model", "other"])
    assert rows.loc[("rl-a", "rl-b"), ["cosine", "projected"]].isna().all()
    assert rows.loc[("rl-a", "rl-b"), "reason"] == "rl-a is identical to SFT: its task vector has no direction"
    assert rows.loc[("rl-a", "rl-c"), "reason"].count("is identical to SFT") == 2
    nothing = whole(pairs).query("model == 'rl-a' and other == 'rl-c'")
    assert nothing["jaccard"].isna().all() and (nothing["reason"] == "no weight changed in either model").all()
    one = whole(pairs).query("model == 'rl-a' and other == 'rl-b' and kind == 'relative'")
    assert (one["jaccard"] == 0).all() and (one["reason"] == "").all()  # nothing in common is a measured 0
    summary = mask_overlap.summarise_pairs(pairs, angles, ["rl-a", "rl-c"])
    assert "undefined for every pair of experts" in mask_overlap.pair_sentence(summary.iloc[-1])
    some = mask_overlap.summarise_pairs(pairs, angles, ["rl-a", "rl-b"])
    assert some["undefined"].tolist() == [0] * (len(some) - 1) + [1]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Tables of experts that share a direction, a second seed that shares more, and a null run that shares nothing."""
    sft, common = flat(draw(0)), flat(draw(50))
    shares = {"rl-math": 0.6, "rl-coding": 0.6, "rl-science": 0.6, "rl-null": 0.0}
    vectors = {name: share * common + (1 - share) * flat(draw(i)) for i, (name, share) in enumerate(shares.items(), 1)}
    vectors["rl-math@repeat=1"] = 0.9 * vectors["rl-math"] + 0.1 * flat(draw(9))
    vectors["rl-multi"] = vectors["rl-math"] + vectors["rl-coding"]
    models = {name: place(sft + 0.1 * vector) for name, vector in vectors.items()}
    return measured(measure(tmp_path_factory.mktemp("world"), place(sft), models))


EXPERTS = ["rl-math", "rl-coding", "rl-science"]


def test_pairs_are_placed_between_the_null_run_and_the_other_seed(world):
    _, pairs, angles = world
    summary = mask_overlap.summarise_pairs(pairs, angles, EXPERTS)
    row = summary[summary["kind"] == "cosine"].iloc[0]
    cosine = whole(angles).set_index(["model", "other"])["cosine"]
    mean = np.mean([cosine[pair] for pair in combinations(EXPERTS, 2)])
    null, seed = np.mean([cosine[expert, "rl-null"] for expert in EXPERTS]), cosine["rl-math", "rl-math@repeat=1"]
    assert row[["mean", "with_null", "other_seed"]].tolist() == pytest.approx([mean, null, seed])
    assert row["place"] == pytest.approx((mean - null) / (seed - null)) and 0.4 < row["place"] < 0.9
    assert row["pairs"] == row["above_matched"] == row["above_null"] == 3
    dense = summary[(summary["kind"] == "density") & (summary["level"] == 0.3)].iloc[0]
    assert dense["with_null"] < dense["mean"] < dense["other_seed"] and dense["above_matched"] == 3


def test_a_pair_is_above_the_null_run_where_it_is_above_both_of_its_experts():
    names = [("rl-a", "rl-b"), ("rl-a", "rl-null"), ("rl-b", "rl-null")]
    table = pd.DataFrame(names, columns=["model", "other"]).assign(type="all", layer=pd.array([None] * 3, "Int64"))
    table["cosine"] = [0.3, 0.1, 0.4]
    overlap = table.assign(kind="density", level=0.1, precision="stored", jaccard=[0.5, 0.1, 0.4], matched=0.45, matched_sd=0.02)
    row = mask_overlap.summarise_pairs(overlap, table, ["rl-a", "rl-b"]).set_index("kind")
    assert row["above_null"].tolist() == [1, 0] and row["above_matched"].tolist() == [0, 1]
    assert row["with_null"].tolist() == pytest.approx([0.25, 0.25])


def test_seeds_are_pooled(world):
    """A second seed in which every pair but the controls has 0.1 more: the mean rises by 0.05, its interval is t over the two."""
    _, pairs, angles = world
    experts = angles["model"].isin(EXPERTS) & angles["other"].isin(EXPERTS)
    seeds = [angles.assign(seed=0), angles.assign(seed=1, cosine=angles["cosine"] + 0.1 * experts)]
    both = mask_overlap.summarise_pairs(pd.concat([pairs.assign(seed=n) for n in (0, 1)]), pd.concat(seeds), EXPERTS).iloc[-1]
    one = mask_overlap.summarise_pairs(pairs, angles, EXPERTS).iloc[-1]
    assert both["mean"] == pytest.approx(one["mean"] + 0.05)
    assert both["high"] - both["mean"] == pytest.approx(12.706 * 0.05, rel=1e-3)
    assert both[["seeds", "pairs", "above_null"]].tolist() == [2, 6, 6] and both["with_null"] == pytest.approx(one["with_null"])
    assert "of 2 seeds" in mask_overlap.pair_sentence(both) and np.isnan(one["low"])
    pd.testing.assert_frame_equal(mask_overlap.mean_over_seeds(seeds[0]), angles)
    mean = mask_overlap.mean_over_seeds(pd.concat(seeds))
    assert (mean["cosine"] - angles["cosine"]).to_numpy() == pytest.approx(0.05 * experts.to_numpy())


def test_a_world_that_shares_nothing_is_not_called_overlap(tmp_path):
    models = {f"rl-{name}": place(flat(draw(0)) + 0.1 * flat(draw(i))) for i, name in enumerate("abc", 1)}
    _, pairs, angles = measured(measure(tmp_path, draw(0), models))
    summary = mask_overlap.summarise_pairs(pairs, angles, list(models)).set_index("kind")
    assert summary.loc["density", "above_matched"].tolist() == [0, 0, 0] and abs(summary.loc["cosine", "mean"]) < 0.1
    said = mask_overlap.pair_sentence(summary.reset_index().iloc[-1])
    assert said.endswith("; no null run to read it against.")


def test_saturation_is_seen_in_the_shares(world, tmp_path):
    said = mask_overlap.saturation_sentence(world[0], EXPERTS)
    assert "the mask is saturated" in said and "rounding SFT to bfloat16" in said
    few = np.random.default_rng(0).random(WEIGHTS) < 0.2
    sparse = measure(tmp_path, draw(0), {"rl-a": place(flat(draw(0)) * np.where(few, 1.1, 1))})
    share, said = few.mean(), mask_overlap.saturation_sentence(mask_table(sparse), ["rl-a"])
    assert f"change {share:.1%} to" in said and said.endswith(f"{share / (2 - share):.2f}: the mask is not saturated.")


def test_parts_of_tensors():
    names = (Q, "lm_head.weight", "model.layers.12.self_attn.k_norm.weight", "model.x.bias")
    assert [checkpoints.tensor_part(name) for name in names] == [("q", 0), ("head", None), ("norm", 12), ("other", None)]
