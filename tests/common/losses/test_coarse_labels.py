from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_programs import run_on_two_processes
from torch.nn import functional as F

from common.errors import UserError
from common.losses.coarse_labels import CoarseLabelsLoss
from common.losses.partial_cross_entropy import PartialCrossEntropyLoss
from common.networks.coarse_annotation_unet import CoarseAnnotationUNet
from common.networks.confusion_matrices import full_matrices

# two classes on 2 x 2 pixels; the last pixel of the label and the first of the complement's last row are not annotated
LABEL = torch.tensor([[[[0, 1], [1, 2]]]])
COMPLEMENT = torch.tensor([[[[1, 1], [2, 0]]]])
TARGET = {"label": LABEL, "complement": COMPLEMENT}


def everywhere(values: list, size: tuple[int, int] = (2, 2)) -> torch.Tensor:
    """The same vector or matrix at every pixel of one image."""
    tensor = torch.tensor(values)
    return tensor.view(1, *tensor.shape, 1, 1).repeat(1, *[1] * tensor.ndim, *size)


def quarters(size: tuple[int, int] = (2, 2)) -> torch.Tensor:
    """Logits of the probabilities (1/4, 3/4)."""
    return everywhere([0.0, math.log(3.0)], size)


A = everywhere([[0.8, 0.2], [0.2, 0.8]])
B = everywhere([[0.9, 0.2], [0.1, 0.8]])


def random_case(batch: int = 2, num_classes: int = 3, form: str = "full") -> tuple[list[torch.Tensor], dict[str, Any]]:
    """What a network that is not at its start returns, and drawings of which a quarter is missing."""
    torch.manual_seed(0)
    network = CoarseAnnotationUNet(1, num_classes, filters=3, depth=1, confusion=form).train()
    for head in network.confusion_heads.values():
        torch.nn.init.normal_(head.output.weight)
    heads = [head.detach().requires_grad_() for head in network(torch.randn(batch, 1, 6, 7))]
    drawn = [torch.randint(0, num_classes + 1, (batch, 1, 6, 7)) for _ in range(2)]
    return heads, {"label": drawn[0], "complement": drawn[1]}


def test_two_classes_by_hand() -> None:
    loss = CoarseLabelsLoss(2, lambda_trace=0.1, warm_start=0.0)
    value = loss((quarters(), A, B), TARGET)
    # A p = (0.8/4 + 0.2 * 3/4, 0.65) = (0.35, 0.65), drawn are 0, 1, 1; tr(A) = 1.6
    l_obj = -(math.log(0.35) + 2 * math.log(0.65)) / 3
    # B p = (0.9/4 + 0.2 * 3/4, 0.625) = (0.375, 0.625); M^T turns it round: (0.625, 0.375); marked are 1, 1, 0; tr 1.7
    l_comp = -(2 * math.log(0.375) + math.log(0.625)) / 3
    assert value.item() == pytest.approx(l_obj + l_comp + 0.1 * (1.6 + 1.7), rel=1e-6)
    named = {name: term.item() for name, term in loss.terms.items()}
    assert named == pytest.approx({"l_obj": l_obj, "trace_obj": 1.6, "l_comp": l_comp, "trace_comp": 1.7}, rel=1e-6)


def test_three_classes_by_hand_with_uniform_and_with_learned_transition() -> None:
    logits = everywhere([0.0, math.log(2.0), math.log(5.0)])  # probabilities 0.125, 0.25, 0.625
    matrix = everywhere([[0.8, 0.1, 0.2], [0.1, 0.7, 0.2], [0.1, 0.2, 0.6]])
    complement = {"complement": torch.tensor([[[[0, 1], [2, 3]]]])}
    loss = CoarseLabelsLoss(3, lambda_trace=0.0, warm_start=0.0)
    # u = (0.1 + 0.025 + 0.125, 0.0125 + 0.175 + 0.125, 0.0125 + 0.05 + 0.375) = (0.25, 0.3125, 0.4375)
    # uniform M: v = (1 - u) / 2 = (0.375, 0.34375, 0.28125)
    value = loss((logits, matrix, matrix), complement)
    assert value.item() == pytest.approx(-math.log(0.375 * 0.34375 * 0.28125) / 3, rel=1e-6)
    # v_0 = 0.5 u_1 + 0.3 u_2 = 0.2875, v_1 = 0.6 u_0 + 0.7 u_2 = 0.45625, v_2 = 0.4 u_0 + 0.5 u_1 = 0.25625
    transition = torch.tensor([[0, 0.6, 0.4], [0.5, 0, 0.5], [0.3, 0.7, 0]])
    value = loss((logits, matrix, matrix, transition), complement)
    assert value.item() == pytest.approx(-math.log(0.2875 * 0.45625 * 0.25625) / 3, rel=1e-6)


def test_rank1_equals_its_full_matrices() -> None:
    heads, target = random_case(form="rank1")
    loss = CoarseLabelsLoss(3, warm_start=0.0)
    value = loss(heads, target)
    torch.testing.assert_close(loss([heads[0], *map(full_matrices, heads[1:])], target), value)


@pytest.mark.parametrize("identity", ["matrices", "warm start", "none"])
def test_identity_gives_the_cross_entropy_and_the_complementary_one(identity: str) -> None:
    heads, target = random_case()
    logits = heads[0]
    loss = CoarseLabelsLoss(3, lambda_trace=0.0, warm_start=0.5 if identity == "warm start" else 0.0)
    loss.progress = 0.49
    if identity == "matrices":
        heads = [logits] + [torch.eye(3).view(1, 3, 3, 1, 1).expand_as(head) for head in heads[1:]]
    value = loss(logits if identity == "none" else heads, target)
    marked = target["complement"][:, 0] < 3
    certain = logits.softmax(dim=1).gather(1, target["complement"].clamp(max=2))[:, 0]
    complementary = -torch.log((1 - certain[marked]) / 2).mean()  # M^T p = (1 - p) / (L - 1)
    torch.testing.assert_close(value, PartialCrossEntropyLoss(3)(logits, target["label"]) + complementary)


def test_warm_start_ends_with_its_share_of_the_training() -> None:
    heads = [head.requires_grad_() for head in (quarters(), A.clone(), B.clone())]
    loss = CoarseLabelsLoss(2, warm_start=0.1)
    for progress, warm in ((0.0, True), (0.0999, True), (0.1, False), (1.0, False)):
        loss.progress = progress
        gradients = torch.autograd.grad(loss(heads, TARGET), heads)
        assert all((gradient.abs().max() == 0) == warm for gradient in gradients[1:])
        assert ("trace_obj" in loss.terms) != warm
        assert gradients[0].abs().max() > 0


def test_warm_start_without_progress_is_an_error() -> None:
    with pytest.raises(UserError, match=r"^warm_start over 0 .*TrainingProgress.*--warm_start 0$"):
        CoarseLabelsLoss(2)((quarters(), A, B), TARGET)
    CoarseLabelsLoss(2)(quarters(), TARGET)  # without matrices there is nothing to warm up


def test_gradients_by_hand() -> None:
    logits, a = quarters((1, 1)).requires_grad_(), A[..., :1, :1].clone().requires_grad_()
    loss = CoarseLabelsLoss(2, lambda_trace=0.1, warm_start=0.0)
    loss((logits, a), torch.ones(1, 1, 1, 1)).backward()
    # d/dA_1j of -log(A p)_1 is -p_j / 0.65, and the trace adds 0.1 on the diagonal
    assert a.grad is not None
    expected = torch.tensor([[0.1, 0.0], [-0.25 / 0.65, 0.1 - 0.75 / 0.65]])
    torch.testing.assert_close(a.grad[0, :, :, 0, 0], expected)
    # d/dp = -(0.2, 0.8) / 0.65; through the softmax p_j (g_j - sum g p), sum g p = -1
    assert logits.grad is not None
    expected = torch.tensor([0.25 * (1 - 0.2 / 0.65), 0.75 * (1 - 0.8 / 0.65)])
    torch.testing.assert_close(logits.grad.flatten(), expected)


@pytest.mark.parametrize("missing", ["label", "complement"])
@pytest.mark.parametrize("how", ["absent", "None", "not painted"])
def test_one_kind_of_annotation_may_be_missing(missing: str, how: str) -> None:
    heads, target = random_case()
    (kept,) = target.keys() - {missing}
    loss = CoarseLabelsLoss(3, warm_start=0.0)
    given = {kept: target[kept]}
    if how != "absent":
        given[missing] = None if how == "None" else torch.full_like(target[missing], 3)
    value = loss(heads, given)
    gradients = torch.autograd.grad(value, heads)
    assert gradients[1 if missing == "label" else 2].abs().max() == 0
    assert gradients[2 if missing == "label" else 1].abs().max() > 0
    both = loss(heads, target)
    terms = loss.terms
    rest = {"label": "obj", "complement": "comp"}[missing]
    torch.testing.assert_close(value, both - terms[f"l_{rest}"] - 0.01 * terms[f"trace_{rest}"])


def test_an_image_without_a_drawing_adds_nothing_not_even_to_the_trace() -> None:
    heads, target = random_case(batch=3)
    loss = CoarseLabelsLoss(3, warm_start=0.0)
    target["label"][1] = 3
    value = loss(heads, target)
    terms = dict(loss.terms)
    gradient = torch.autograd.grad(value, heads[1])[0]
    assert gradient[1].abs().max() == 0
    assert gradient[0].abs().max() > 0
    alone = [0, 2]
    loss([head[alone] for head in heads], {"label": target["label"][alone]})
    # two of the three images have the drawing
    torch.testing.assert_close(loss.terms["l_obj"] * 2 / 3, terms["l_obj"])
    torch.testing.assert_close(loss.terms["trace_obj"] * 2 / 3, terms["trace_obj"])


def test_kinds_of_annotation_count_by_their_images() -> None:
    """The paper sums over images: four dense masks are not outweighed by one coarse image."""
    heads, target = random_case(batch=5)
    dense = torch.randint(0, 3, target["label"].shape)
    target["label"][1:], target["complement"][1:], dense[0] = 3, 3, 3
    loss = CoarseLabelsLoss(3, warm_start=0.0)
    value = loss(heads, {**target, "label": torch.cat([target["label"], dense], dim=1)})
    coarse = loss([head[:1] for head in heads], {key: index[:1] for key, index in target.items()})
    torch.testing.assert_close(value, coarse / 5 + F.cross_entropy(heads[0][1:], dense[1:, 0]) * 4 / 5)
    # an image without any annotation changes nothing
    more = [torch.cat([head, head[:1]]) for head in heads]
    nothing = torch.full_like(dense[:1], 3)
    label = torch.cat([torch.cat([target["label"], dense], dim=1), torch.cat([nothing, nothing], dim=1)])
    again = loss(more, {"label": label, "complement": torch.cat([target["complement"], nothing])})
    torch.testing.assert_close(again, value)


def test_no_gradient_on_unannotated_pixels_and_codes_do_not_matter() -> None:
    heads, target = random_case()
    loss = CoarseLabelsLoss(3, warm_start=0.0)
    value = loss(heads, target)
    gradients = torch.autograd.grad(value, heads)
    free = {key: (index == 3)[:, 0] for key, index in target.items()}
    assert gradients[0].movedim(1, -1)[free["label"] & free["complement"]].abs().max() == 0
    assert gradients[0].movedim(1, -1)[~free["label"]].abs().max() > 0
    assert gradients[1].movedim((1, 2), (-2, -1))[free["label"]].abs().max() == 0
    assert gradients[2].movedim((1, 2), (-2, -1))[free["complement"]].abs().max() == 0
    for code in (255, -1):
        torch.testing.assert_close(loss(heads, {k: torch.where(v == 3, code, v) for k, v in target.items()}), value)
    changed = torch.where((free["label"] & free["complement"])[:, None], torch.randn_like(heads[0]), heads[0])
    torch.testing.assert_close(loss([changed, *heads[1:]], target), value)


def test_normalised_over_the_batch() -> None:
    heads, target = random_case()
    target["label"][1, :, :4] = 3  # the items differ in their number of annotated pixels
    loss = CoarseLabelsLoss(3, warm_start=0.0)
    twice = loss([torch.cat([head, head]) for head in heads], {k: torch.cat([v, v]) for k, v in target.items()})
    torch.testing.assert_close(twice, loss(heads, target))


def test_nothing_annotated_gives_zero_with_a_gradient_path() -> None:
    heads, target = random_case()
    value = CoarseLabelsLoss(3, warm_start=0.0)(heads, {key: torch.full_like(v, 3) for key, v in target.items()})
    gradients = torch.autograd.grad(value, heads)
    assert value.item() == 0.0
    assert all(gradient.abs().max() == 0 for gradient in gradients)


def test_renaming_the_classes_changes_nothing() -> None:
    heads, target = random_case()
    order = torch.tensor([2, 0, 1])
    inverse = torch.tensor([1, 2, 0, 3])  # old class -> new one; 3 stays "not annotated"
    loss = CoarseLabelsLoss(3, warm_start=0.0)
    renamed = [heads[0][:, order], *(head[:, order][:, :, order] for head in heads[1:])]
    value = loss(renamed, {key: inverse[index] for key, index in target.items()})
    torch.testing.assert_close(value, loss(heads, target))


def test_certain_and_wrong_predictions_keep_a_finite_gradient() -> None:
    logits = everywhere([30.0, -30.0], (1, 1)).requires_grad_()
    marked = {"label": torch.full((1, 1, 1, 1), 2), "complement": torch.zeros(1, 1, 1, 1)}
    value = CoarseLabelsLoss(2)(logits, marked)
    value.backward()
    # not class 0 although it is certain: -log of the other one's probability, 60, and a gradient of 1
    assert value.item() == pytest.approx(60.0, rel=1e-4)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad.flatten(), torch.tensor([1.0, -1.0]))


def test_dense_masks_in_a_second_channel_are_true() -> None:
    heads, target = random_case(batch=3)
    loss = CoarseLabelsLoss(3, warm_start=0.0)
    coarse = loss(heads, target)
    dense = torch.randint(0, 3, target["label"].shape)
    dense[0] = 3
    value = loss(heads, {**target, "label": torch.cat([target["label"], dense], dim=1)})
    # two of the three images have one
    plain = F.cross_entropy(heads[0][1:], dense[1:, 0]) * 2 / 3
    torch.testing.assert_close(loss.terms["l_dense"], plain.detach())
    torch.testing.assert_close(value, coarse + plain)


def test_index_map_alone_and_half_precision() -> None:
    loss = CoarseLabelsLoss(2, warm_start=0.0)
    torch.testing.assert_close(loss((quarters(), A, B), LABEL), loss((quarters(), A), {"label": LABEL}))
    value = loss((quarters().bfloat16(), A, B), {key: index.to(torch.uint8) for key, index in TARGET.items()})
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss((quarters(), A, B), TARGET), rtol=2e-2, atol=0)


def test_every_weight_gets_a_gradient_in_every_phase() -> None:
    network = CoarseAnnotationUNet(1, 3, filters=2, depth=1, transition="learned").train()
    loss = CoarseLabelsLoss(3, warm_start=0.1)
    label = torch.randint(0, 3, (1, 1, 6, 6))
    for progress in (0.0, 0.5):
        for target in ({"label": label}, {"complement": label}, {"label": label, "complement": label}):
            network.zero_grad()
            loss.progress = progress
            loss(network(torch.randn(1, 1, 6, 6)), target).backward()
            assert all(parameter.grad is not None for parameter in network.parameters())


ON_TWO_PROCESSES = """
import sys
import torch
import torch.distributed as dist
from common.losses.coarse_labels import CoarseLabelsLoss

folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
case = torch.load(f"{folder}/case.pt", weights_only=True)
part = [slice(0, 1), slice(1, 3)][rank]
heads = [head[part].clone().requires_grad_() for head in case["heads"]]
loss = CoarseLabelsLoss(3, warm_start=0.0)
loss(heads, {key: index[part] for key, index in case["target"].items()}).backward()
torch.save({"terms": loss.terms, "gradients": [head.grad for head in heads]}, f"{folder}/{rank}.pt")
dist.barrier()
dist.destroy_process_group()
"""


def test_two_processes_give_the_gradients_of_the_whole_batch(tmp_path: Path) -> None:
    heads, target = random_case(batch=3)
    torch.save({"heads": [head.detach() for head in heads], "target": target}, tmp_path / "case.pt")
    run_on_two_processes(ON_TWO_PROCESSES, tmp_path)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    loss = CoarseLabelsLoss(3, warm_start=0.0)
    expected = torch.autograd.grad(loss(heads, target), heads)
    for head in range(3):
        # DDP divides the sum of the processes' gradients by their number
        given = torch.cat([rank["gradients"][head] for rank in ranks]) / 2
        torch.testing.assert_close(given, expected[head])
    for rank in ranks:
        torch.testing.assert_close(rank["terms"], loss.terms)


def test_drawings_that_are_always_true_make_the_matrices_reliable_again() -> None:
    """The trace alone would make them unreliable; without it nothing would."""
    torch.manual_seed(0)
    truth = torch.randint(0, 2, (1, 1, 12, 12))
    logits = 20.0 * (F.one_hot(truth[:, 0], 2).movedim(-1, 1) - 0.5)
    weights = torch.zeros(2, 2, requires_grad=True)
    loss = CoarseLabelsLoss(2, warm_start=0.0)
    optimizer = torch.optim.Adam([weights], lr=0.1)
    for _ in range(200):
        matrix = torch.softmax(weights, dim=0).view(1, 2, 2, 1, 1).expand(1, 2, 2, 12, 12)
        optimizer.zero_grad()
        loss((logits, matrix), truth).backward()
        optimizer.step()
    assert torch.softmax(weights, dim=0).diagonal().min() > 0.95


def test_ill_options_and_shapes() -> None:
    with pytest.raises(UserError, match=r"num_classes .* at least 2, got 1"):
        CoarseLabelsLoss(1)
    with pytest.raises(UserError, match="lambda_trace must not be negative, got -1"):
        CoarseLabelsLoss(2, lambda_trace=-1)
    with pytest.raises(UserError, match=r"warm_start must lie in 0 .. 1, got 10"):
        CoarseLabelsLoss(2, warm_start=10)
    loss = CoarseLabelsLoss(2, warm_start=0.0)
    with pytest.raises(ValueError, match="expected 2 channels"):
        loss(torch.zeros(1, 3, 2, 2), TARGET)
    with pytest.raises(ValueError, match="neither 'label' nor 'complement'"):
        loss(quarters(), {"image": quarters()})
    with pytest.raises(ValueError, match=r"label \(1, 3, 2, 2\) must be \(1, 1, 2, 2\) or \(1, 2, 2, 2\)"):
        loss(quarters(), LABEL.repeat(1, 3, 1, 1))
    with pytest.raises(ValueError, match=r"complement \(1, 1, 2\) must be \(1, 1, 2, 2\)"):
        loss(quarters(), {"complement": COMPLEMENT[..., 0]})


@pytest.mark.parametrize("warm_start", [0.0, 1.0])
def test_drawings_of_one_class_are_explained_away_by_the_matrices_unless_they_rest(warm_start: float) -> None:
    """The painted pixels of two classes alone: every drawn one is 1, every negative mark says "not 1"."""
    torch.manual_seed(0)
    truth = torch.randint(0, 2, (1, 1, 12, 12))
    target = {"label": torch.where(truth == 1, 1, 2), "complement": torch.where(truth == 0, 1, 2)}
    logits = torch.zeros(1, 2, 12, 12, requires_grad=True)
    weights = torch.zeros(2, 2, 2, requires_grad=True)
    loss = CoarseLabelsLoss(2, warm_start=warm_start)
    loss.progress = 0.5
    optimizer = torch.optim.Adam([{"params": [logits], "lr": 0.01}, {"params": [weights], "lr": 0.1}])
    for _ in range(300):
        matrices = torch.softmax(weights, dim=1).view(2, 1, 2, 2, 1, 1).expand(2, 1, 2, 2, 12, 12)
        optimizer.zero_grad()
        loss((logits, *matrices), target).backward()
        optimizer.step()
    certain = logits.softmax(dim=1).gather(1, truth).mean()
    assert certain > 0.9 if warm_start else certain < 0.6
