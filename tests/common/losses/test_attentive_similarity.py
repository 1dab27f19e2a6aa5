from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from common.losses import pair_attention
from common.losses.attentive_similarity import AttentiveSimilarityLoss
from common.losses.pair_attention import grid_pairs, symmetric_attention

HALF_AT_ONE = math.sqrt(0.5 / math.log(2))  # the sigma of exp(-1 / (2 sigma^2)) = 1/2


def logits_of(probabilities: list[list[float]]) -> torch.Tensor:
    # one image of 2 x 2 pixels, from P_p of the pixels (0,0), (0,1), (1,0), (1,1)
    return torch.tensor(probabilities).log().T.reshape(1, -1, 2, 2)


@pytest.fixture
def uniform() -> list[torch.Tensor]:
    # 2 x 2 grid, two classes. Queries of 0: every entry of A is 1/4, A + A^T is 1/2; w = 2 log 3: S = sigmoid(log 3)
    # = 3/4. With M = 1/2 for pairs side by side and 1/4 for the diagonal ones
    logits = logits_of([[0.75, 0.25], [0.25, 0.75], [0.25, 0.75], [0.25, 0.75]])
    return [
        logits,
        torch.zeros(1, 1, 2, 2, 1),
        torch.randn(1, 1, 2, 2, 1),
        torch.tensor([[2 * math.log(3), 0.0]]),
    ]


def random_heads(batch=2, classes=3, maps=2, size=(9, 12), grid=(3, 4), channels=5, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, classes, *size), (batch, maps, *grid, channels), (batch, maps, *grid, channels)]
    heads = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    weights = torch.randn(1, maps + 1, generator=generator, dtype=dtype).repeat(batch, 1)
    return [head.requires_grad_() for head in (*heads, weights)]


def random_label(batch=2, classes=3, size=(9, 12), seed=1):
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, classes, (batch, 1, *size), generator=generator)
    return torch.where(torch.rand(label.shape, generator=generator) < 0.05, label, classes)


def dense_loss(
    heads, label, *, radius=5, sigma=6.0, scaled=False, mask_omega_u=False, single_class="scribble", scale=False
):
    """The equations with the matrix of all pairs, pixel masks by loops."""
    logits, queries, keys, weights = heads
    batch, classes, height, width = logits.shape
    maps, (rows, columns) = queries.shape[1], queries.shape[2:4]
    products = queries.flatten(2, 3) @ keys.flatten(2, 3).transpose(2, 3)
    attention = torch.softmax(products / (math.sqrt(queries.shape[-1]) if scaled else 1.0), dim=-1)
    symmetric = (attention + attention.transpose(2, 3)) * (rows * columns if scale else 1.0)
    similarity = torch.sigmoid((weights[:, :maps, None, None] * symmetric).sum(dim=1) + weights[:, maps:, None])
    distance = torch.zeros(rows * columns, rows * columns, dtype=logits.dtype)
    for p in range(rows * columns):
        for q in range(rows * columns):
            dy, dx = p // columns - q // columns, p % columns - q % columns
            if 0 < max(abs(dy), abs(dx)) <= radius:
                distance[p, q] = math.exp(-(dy * dy + dx * dx) / (2 * sigma**2))
    small = F.interpolate(logits.softmax(dim=1), size=(rows, columns), mode="bilinear", align_corners=False).flatten(2)
    cost = distance * similarity * (1 - small.transpose(1, 2) @ small)
    free = torch.ones(batch, rows * columns, dtype=logits.dtype)
    if mask_omega_u:
        for b, _, y, x in (label < classes).nonzero().tolist():
            free[b, (y * rows // height) * columns + x * columns // width] = 0
    cost = cost * free[:, :, None] * free[:, None]
    for b in range(batch):
        if single_class == "scribble" and len(set(label[b].flatten().tolist()) - {classes}) < 2:
            cost = cost * torch.tensor([float(i != b) for i in range(batch)]).view(-1, 1, 1)
    return cost.sum() / free.sum()


def test_by_hand_with_even_attention(uniform):
    # 1 - <P_p, P_q>: 1 - 6/16 = 5/8 for a pair with the first pixel, 1 - 10/16 = 3/8 for the others
    # pairs: (5/8) (1/2 + 1/2 + 1/4) + (3/8) (1/4 + 1/2 + 1/2) = 5/4; twice, times S, by 4 positions: 15/32
    loss = AttentiveSimilarityLoss(sigma=HALF_AT_ONE, single_class="keep")
    assert float(loss(uniform, torch.full((1, 1, 2, 2), 2))) == pytest.approx(15 / 32, rel=1e-6)
    # all S are 3/4 within the window, which holds all pairs; outside is the diagonal: 2 * 1/4 = 1/2 likewise
    assert float(loss.terms["similarity"]) == pytest.approx(0.75, rel=1e-6)
    assert float(loss.terms["similarity_outside"]) == pytest.approx(0.75, rel=1e-6)


def test_by_hand_with_one_peaked_row():
    # Q = 1 at the first position, keys 0, log 3, 0, 0: its row of A is (1, 3, 1, 1) / 6, the others are even at 1/4;
    # A + A^T is 1/2 + 1/4 = 3/4 for the first pair, 1/6 + 1/4 = 5/12 for the two others with the first position
    queries = torch.tensor([1.0, 0, 0, 0]).view(1, 1, 2, 2, 1)
    keys = torch.tensor([0, math.log(3), 0, 0]).view(1, 1, 2, 2, 1)
    logits = logits_of([[1.0, 1e-9], [1e-9, 1.0], [1e-9, 1.0], [1e-9, 1.0]])  # the first is alone in its class
    weights = torch.tensor([[1.0, 0.5]])

    def s(x: float) -> float:
        return 1 / (1 + math.exp(-x - 0.5))

    # 2 / 4 * (1/2 S(3/4) + 1/2 S(5/12) + 1/4 S(5/12))
    expected = 0.5 * (0.5 * s(3 / 4) + 0.75 * s(5 / 12))
    loss = AttentiveSimilarityLoss(sigma=HALF_AT_ONE, single_class="keep")
    value = loss([logits, queries, keys, weights], torch.full((1, 1, 2, 2), 2))
    assert float(value) == pytest.approx(expected, rel=1e-6)
    # of a softmax over columns instead of rows the value would be another
    other = loss([logits, keys, queries, weights], torch.full((1, 1, 2, 2), 2))
    assert float(other) != pytest.approx(expected, rel=1e-3)
    # the pairs without the first position have A + A^T = 1/2
    inside = (s(3 / 4) + 2 * s(5 / 12) + 3 * s(1 / 2)) / 6
    assert float(loss([logits, queries, keys, weights], torch.full((1, 1, 2, 2), 2))) > 0
    assert float(loss.terms["similarity"]) == pytest.approx(inside, rel=1e-6)
    # outside is the diagonal: A + A^T sums to 8, the pairs have 3/4 + 2 * 5/12 + 3 * 1/2 = 37/12 twice
    assert float(loss.terms["similarity_outside"]) == pytest.approx(s((8 - 37 / 6) / 4), rel=1e-6)


def test_unlabelled_region_by_hand(uniform):
    # the last position is annotated: pairs 5/8 (1/2 + 1/2) + 3/8 * 1/4 = 23/32; twice, times 3/4, by 3: 23/64
    loss = AttentiveSimilarityLoss(sigma=HALF_AT_ONE, single_class="keep", mask_omega_u=True)
    label = torch.tensor([[2, 2], [2, 1]]).view(1, 1, 2, 2)
    logits = uniform[0].requires_grad_()
    value = loss(uniform, label)
    value.backward()
    assert value.item() == pytest.approx(23 / 64, rel=1e-6)
    assert logits.grad[0, :, 1, 1].abs().max() == 0
    assert logits.grad[0, :, 0].abs().min() > 0


def test_window_by_hand():
    # 1 x 4 positions, even attention, S = 1/2 (w = b = 0), P one-hot 0, 1, 0, 1, sigma so large that M = 1
    logits = torch.tensor([[30.0, -30, 30, -30], [-30, 30, -30, 30]]).view(1, 2, 1, 4)
    heads = [logits, torch.zeros(1, 1, 1, 4, 1), torch.zeros(1, 1, 1, 4, 1), torch.zeros(1, 2)]
    label = torch.full((1, 1, 1, 4), 2)
    # differing pairs: three at distance 1, one at distance 3; each twice, times 1/2, by 4 positions
    for radius, expected in [(1, 3 / 4), (2, 3 / 4), (3, 1.0), (9, 1.0)]:
        loss = AttentiveSimilarityLoss(radius=radius, sigma=1e4, single_class="keep")
        assert float(loss(heads, label)) == pytest.approx(expected, rel=1e-6)


SWITCHES = [
    {},
    {"single_class": "keep"},
    {"scaled": True},
    {"mask_omega_u": True},
    {"scaled": True, "mask_omega_u": True, "radius": 2, "sigma": 1.5},
    {"scale_by_positions": True},
    {"radius": 1},
]


@pytest.mark.parametrize("options", SWITCHES, ids=str)
@pytest.mark.parametrize("maps", [1, 4])
def test_equals_the_full_matrix_in_value_and_gradients(options, maps, monkeypatch):
    # several chunks of rows, the last of them shorter
    monkeypatch.setattr(pair_attention, "CHUNK_ENTRIES", 5 * 2 * maps * 12)
    label = random_label()
    label[1] = torch.where(label[1] < 3, 0, 3)  # one class alone
    heads = random_heads(maps=maps, dtype=torch.float64)
    value = AttentiveSimilarityLoss(**options)(heads, label)
    dense = dense_loss(heads, label, **{key.removesuffix("_by_positions"): value for key, value in options.items()})
    torch.testing.assert_close(value, dense, rtol=1e-12, atol=0)
    found, expected = (torch.autograd.grad(total, heads) for total in (value, dense))
    for gradient, reference in zip(found, expected, strict=True):
        assert reference.abs().max() > 0
        torch.testing.assert_close(gradient, reference, rtol=1e-9, atol=1e-14)


def test_single_precision_with_sharp_attention_equals_double(monkeypatch):
    monkeypatch.setattr(pair_attention, "CHUNK_ENTRIES", 100)
    heads = random_heads(seed=3)
    sharp = [heads[0], 30 * heads[1], heads[2], heads[3]]  # products up to some hundreds
    loss = AttentiveSimilarityLoss()
    found = loss(sharp, random_label())
    torch.testing.assert_close(
        found.double(), loss([head.double() for head in sharp], random_label()), rtol=1e-5, atol=0
    )
    assert all(torch.isfinite(gradient).all() for gradient in torch.autograd.grad(found, heads))


def test_gradcheck(monkeypatch):
    monkeypatch.setattr(pair_attention, "CHUNK_ENTRIES", 2 * 2 * 6 * 4)
    heads = random_heads(size=(4, 6), grid=(2, 3), channels=2, dtype=torch.float64)
    label = random_label(size=(4, 6))
    label[:, 0, 0, :2] = torch.tensor([0, 1])
    for options in ({}, {"scaled": True, "mask_omega_u": True, "radius": 1}):
        loss = AttentiveSimilarityLoss(**options)
        assert torch.autograd.gradcheck(lambda *values, loss=loss: loss(values, label), heads)


def test_pairs_cover_the_window_once():
    pairs = grid_pairs(3, 5, 2, torch.device("cpu"))
    listed = sorted(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    brute = []
    for p in range(15):
        for q in range(p + 1, 15):
            if max(abs(p // 5 - q // 5), abs(p % 5 - q % 5)) <= 2:
                brute.append((p, q))
    assert listed == brute


def test_attention_of_pairs_sums_to_the_rows_when_the_window_is_the_grid():
    torch.manual_seed(0)
    queries, keys = torch.randn(2, 12, 3), torch.randn(2, 12, 3)
    pairs = grid_pairs(3, 4, 9, torch.device("cpu"))
    diagonal = torch.softmax(queries @ keys.transpose(1, 2), dim=2).diagonal(dim1=1, dim2=2)
    # the 12 rows sum to 12: the diagonal and both directions of each pair
    torch.testing.assert_close(
        symmetric_attention(queries, keys, pairs).sum(dim=1) + diagonal.sum(dim=1), torch.full((2,), 12.0)
    )


def test_classes_may_change_places():
    heads, label = random_heads(), random_label()
    order = torch.tensor([2, 0, 1])
    loss = AttentiveSimilarityLoss(mask_omega_u=True)
    moved = torch.argsort(order)[label.clamp(max=2)]
    permuted = loss([heads[0][:, order], *heads[1:]], torch.where(label < 3, moved, 3))
    torch.testing.assert_close(permuted, loss(heads, label))


@pytest.mark.parametrize("code", [255, -1])
def test_codes_of_unlabelled_pixels_do_not_matter(code):
    heads, label = random_heads(), random_label()
    for options in SWITCHES:
        loss = AttentiveSimilarityLoss(**options)
        torch.testing.assert_close(loss(heads, torch.where(label < 3, label, code)), loss(heads, label), rtol=0, atol=0)


@pytest.mark.parametrize("options", SWITCHES, ids=str)
def test_normalised_over_the_batch(options):
    heads, label = random_heads(), random_label()
    label[1, :, :5] = 3  # the slices differ in their number of annotated pixels
    loss = AttentiveSimilarityLoss(**options)
    twice = loss([torch.cat([head, head]) for head in heads], torch.cat([label, label]))
    torch.testing.assert_close(twice, loss(heads, label))


def test_slices_of_one_class_or_without_scribbles_cost_nothing_but_count():
    heads, label = random_heads(batch=3), random_label(batch=3)
    keep, drop = AttentiveSimilarityLoss(single_class="keep"), AttentiveSimilarityLoss()
    label[1] = torch.where(label[1] < 3, 1, 3)
    label[2] = 3
    value = drop(heads, label)
    first = keep([head[:1] for head in heads], label[:1])
    torch.testing.assert_close(value, first / 3)
    gradients = torch.autograd.grad(value, heads)
    assert all(gradient[1:].abs().max() == 0 for gradient in gradients)
    assert all(gradient[0].abs().max() > 0 for gradient in gradients)
    # dense masks decide otherwise
    dense = torch.zeros_like(label)
    dense[1:, :, :2] = 1
    by_dense = AttentiveSimilarityLoss(single_class="dense")
    last = keep([head[1:] for head in heads], label[1:])
    torch.testing.assert_close(by_dense(heads, {"label": label, "dense": dense}), last * 2 / 3)


def test_nothing_annotated_gives_zero_with_a_gradient_path():
    heads = random_heads()
    value = AttentiveSimilarityLoss()(heads, torch.full((2, 1, 9, 12), 3))
    gradients = torch.autograd.grad(value, heads)
    assert value.item() == 0
    assert all(gradient.abs().max() == 0 for gradient in gradients)


def test_everything_annotated_leaves_no_unlabelled_region():
    heads, label = random_heads(), torch.randint(0, 3, (2, 1, 9, 12))
    assert AttentiveSimilarityLoss(mask_omega_u=True)(heads, label).item() == 0.0


def test_one_position_has_no_neighbours():
    heads = random_heads(size=(3, 3), grid=(1, 1))
    value = AttentiveSimilarityLoss(single_class="keep")(heads, torch.full((2, 1, 3, 3), 3))
    gradients = torch.autograd.grad(value, heads)
    assert value.item() == 0
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_agreeing_predictions_cost_nothing():
    heads = random_heads()
    sure = torch.zeros(2, 3, 9, 12)
    sure[:, 1] = 60.0
    assert AttentiveSimilarityLoss()([sure, *heads[1:]], random_label()).item() == pytest.approx(0.0, abs=1e-6)


def test_half_precision_is_computed_in_single():
    heads, label = random_heads(), random_label()
    halves = [head.detach().bfloat16() for head in heads]
    loss = AttentiveSimilarityLoss()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(halves, label)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss([half.float() for half in halves], label), rtol=1e-6, atol=0)


@pytest.mark.parametrize("options", [{"radius": 0}, {"radius": 2.5}, {"sigma": 0.0}, {"single_class": "no"}])
def test_options_out_of_range(options):
    name, value = next(iter(options.items()))
    with pytest.raises(ValueError, match=f"{name} must be .*{value}"):
        AttentiveSimilarityLoss(**options)


def test_ill_input():
    heads, label = random_heads(), random_label()
    loss = AttentiveSimilarityLoss()
    with pytest.raises(ValueError, match=r"expected \(logits, queries, keys, weights\)"):
        loss(heads[0], label)
    with pytest.raises(ValueError, match=r"target \(2, 9, 12\) must be \(2, 'A', 9, 12\)"):
        loss(heads, label[:, 0])
    with pytest.raises(ValueError, match="do not belong together"):
        loss([*heads[:3], heads[3][:, :2]], label)
    with pytest.raises(ValueError, match="needs the dense mask"):
        AttentiveSimilarityLoss(single_class="dense")(heads, label)


def test_processes_share_the_divisor(monkeypatch):
    # DDP averages the gradients of two processes with one slice each: the sum over both by the positions of both
    heads, label = random_heads(), random_label()
    label[1, :, :5] = torch.where(label[1, :, :5] < 3, 3, label[1, :, :5])
    loss = AttentiveSimilarityLoss(mask_omega_u=True, single_class="keep")
    whole = loss(heads, label)
    counts = []
    monkeypatch.setattr("common.losses.attentive_similarity.all_reduced", lambda count: counts.append(count) or count)
    ranks = [([head[r : r + 1] for head in heads], label[r : r + 1]) for r in (0, 1)]
    for rank in ranks:
        loss(*rank)
    assert counts[0] != counts[1]
    monkeypatch.setattr("common.losses.attentive_similarity.all_reduced", lambda count: sum(counts))
    monkeypatch.setattr("common.losses.attentive_similarity.world_size", lambda: 2)
    torch.testing.assert_close((loss(*ranks[0]) + loss(*ranks[1])) / 2, whole)
