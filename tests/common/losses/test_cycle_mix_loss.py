from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_programs import run_on_two_processes
from torch.nn import functional as F

from common.losses.cycle_mix import CycleMixLoss, _cosine_of_pixels
from common.transforms.mix_plan import MixPlan

LOG3 = math.log(3.0)
ALONE: dict[str, Any] = {"lambda_unmix": 0.0, "lambda_mix": 0.0, "lambda_con_g": 0.0, "lambda_con_l": 0.0}


def only(name: str, num_classes: int = 2, **options: Any) -> CycleMixLoss:
    return CycleMixLoss(num_classes, **{**ALONE, name: 1.0, **options})


def logits_of(pixels: list[list[float]]) -> torch.Tensor:
    """Logits ``[1, C, 1, W]`` whose softmax is the given probabilities of each pixel."""
    return torch.tensor(pixels).log().T[None, :, None, :].clone().requires_grad_()


# item 0: pixels (1/4, 3/4) and (1/2, 1/2), item 1: (3/4, 1/4) and (1/4, 3/4)
ORIGINAL = torch.cat([logits_of([[0.25, 0.75], [0.5, 0.5]]), logits_of([[0.75, 0.25], [0.25, 0.75]])]).detach()
LABEL = torch.tensor([[[[0, 2]]], [[[0, 1]]]])
SWAP = torch.tensor([1, 0])


def mixed_target(weight: list[list[float]], **more: Any) -> dict[str, Any]:
    share = torch.tensor(weight)[:, None, None, :]
    plan = MixPlan(SWAP, share)
    return {"label": LABEL, "label_a": LABEL, "label_b": LABEL[SWAP], "weight": share, "plan": plan, **more}


def test_cross_entropy_of_the_originals_by_hand() -> None:
    # -log 1/4 - log 3/4 - log 3/4 at the three annotated pixels, of four
    total = math.log(4) + 2 * math.log(4 / 3)
    assert only("lambda_unmix")(ORIGINAL, LABEL).item() == pytest.approx(total / 4)
    # the paper's sums over the annotated pixels of an image, and the mean of two images
    assert only("lambda_unmix", reduction="sum")(ORIGINAL, LABEL).item() == pytest.approx(total / 2)


def test_cross_entropy_of_the_mix_by_hand() -> None:
    target = mixed_target([[0.5, 0.25], [1.0, 0.0]])
    # item 0 pixel 0: both parts are class 0, log 4; pixel 1: own not annotated, 3/4 of class 1: 3/4 log 2
    # item 1 pixel 0: own class 0, log 4/3; pixel 1: the partner's, not annotated: 0
    total = math.log(4) + 0.75 * math.log(2) + math.log(4 / 3)
    loss = only("lambda_mix")
    assert loss((None, ORIGINAL), target).item() == pytest.approx(total / 4)
    assert only("lambda_mix", reduction="sum")((None, ORIGINAL), target).item() == pytest.approx(total / 2)
    assert loss.terms["l_mix"].item() == pytest.approx(total / 4)


def test_the_mix_of_labels_is_the_soft_label_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, label = torch.randn(3, 4, 6, 5), torch.randint(0, 5, (3, 1, 6, 5))
    share = torch.rand(3, 1, 6, 5)
    partner = torch.tensor([2, 0, 1])
    one_hot = torch.nn.functional.one_hot(label[:, 0], 5)[..., :4].permute(0, 3, 1, 2)
    soft = share * one_hot + (1 - share) * one_hot[partner]
    expected = -(soft * logits.log_softmax(dim=1)).sum() / (3 * 6 * 5)
    target = {"label_a": label, "label_b": label[partner], "weight": share, "plan": MixPlan(partner, share)}
    torch.testing.assert_close(only("lambda_mix", 4)((None, logits), target), expected)


def cosine(first: Sequence[float], second: Sequence[float]) -> float:
    product = sum(a * b for a, b in zip(first, second, strict=True))
    return product / math.sqrt(sum(a * a for a in first) * sum(b * b for b in second))


def test_global_consistency_by_hand() -> None:
    target = mixed_target([[0.5, 0.0], [1.0, 0.25]])
    mixed = ORIGINAL.flip(3)
    # expected: (1/2, 1/2), (1/4, 3/4); (3/4, 1/4), 1/4 (1/4, 3/4) + 3/4 (1/2, 1/2) = (7/16, 9/16)
    # found: (1/2, 1/2), (1/4, 3/4); (1/4, 3/4), (3/4, 1/4)
    distances = [1 - cosine([3, 1], [1, 3]), 1 - cosine([7, 9], [3, 1])]
    loss = only("lambda_con_g")
    assert loss((ORIGINAL, mixed), target).item() == pytest.approx(sum(distances) / 4, abs=1e-6)
    # hidden pixels add nothing to the sum
    target = mixed_target([[0.5, 0.0], [1.0, 0.25]], visible=torch.tensor([[[[0.0, 1.0]]], [[[1.0, 0.0]]]]))
    assert loss((ORIGINAL, mixed), target).item() == pytest.approx(distances[0] / 4, abs=1e-6)


def test_cosine_of_whole_images_by_hand() -> None:
    target = mixed_target([[1.0, 1.0], [1.0, 1.0]], visible=torch.tensor([[[[1.0, 1.0]]], [[[1.0, 0.0]]]]))
    # what is hidden expects nothing, but counts for the size of what is found (Eq. 10)
    found = [
        cosine([0.25, 0.75, 0.5, 0.5], [0.75, 0.25, 0.25, 0.75]),
        cosine([0.75, 0.25, 0, 0], [0.25, 0.75, 0.5, 0.5]),
    ]
    value = only("lambda_con_g", cosine="image")((ORIGINAL, ORIGINAL[SWAP]), target)
    assert value.item() == pytest.approx(1 - sum(found) / 2, abs=1e-6)


def test_the_cosine_of_pixels_is_that_of_pytorch_with_its_gradient() -> None:
    first, second = torch.rand(2, 2, 4, 5, 6, dtype=torch.float64)
    first[:, :, 1, 2] = 0.0  # a pixel that was hidden
    first.requires_grad_()
    second.requires_grad_()
    found = [way(first, second) for way in (_cosine_of_pixels, partial(F.cosine_similarity, dim=1))]
    gradients = [torch.autograd.grad(value.square().sum(), [first, second]) for value in found]
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("cosine", ["pixel", "image"])
def test_global_consistency_of_identical_maps_is_0(cosine: str) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 9, 7)
    share = (torch.rand(2, 1, 9, 7) < 0.5).float()
    plan = MixPlan(SWAP, share)
    target = {"weight": share, "plan": plan, "visible": torch.ones(2, 1, 9, 7)}
    assert only("lambda_con_g", 4, cosine=cosine)((logits, plan.mix(logits)), target).item() == pytest.approx(
        0, abs=1e-6
    )


def test_global_consistency_sends_gradients_to_both_predictions_and_none_to_what_is_hidden() -> None:
    torch.manual_seed(0)
    original, mixed = (torch.randn(2, 3, 4, 4, requires_grad=True) for _ in range(2))
    visible = torch.ones(2, 1, 4, 4)
    visible[:, :, :2] = 0
    target = {"weight": torch.ones(2, 1, 4, 4), "plan": MixPlan(SWAP, torch.ones(2, 1, 4, 4)), "visible": visible}
    only("lambda_con_g", 3)((original, mixed), target).backward()
    for logits in (original, mixed):
        assert logits.grad is not None
        assert (logits.grad[:, :, :2] == 0).all()
        assert (logits.grad[:, :, 2:] != 0).all()


def test_pixels_to_which_nothing_moved_expect_nothing() -> None:
    source = torch.tensor([[[[-1, 0]]], [[[0, 1]]]])
    target = mixed_target([[1.0, 1.0], [1.0, 1.0]])
    target["plan"] = MixPlan(SWAP, target["weight"], source)
    # item 0's pixel 1 expects what pixel 0 was, (1/4, 3/4), and finds (1/2, 1/2)
    value = only("lambda_con_g")((ORIGINAL, ORIGINAL), target)
    assert value.item() == pytest.approx((1 - cosine([1, 3], [1, 1])) / 4, abs=1e-6)


def test_local_consistency_by_hand() -> None:
    # four pixels of class 1, 0, 1, 1: the first is not of the largest component and should be background
    logits = logits_of([[0.25, 0.75], [0.75, 0.25], [0.4, 0.6], [0.25, 0.75]])
    distances = [1 - cosine(p, e) for p, e in (([1, 3], [1, 0]), ([3, 1], [1, 0]), ([2, 3], [0, 1]), ([1, 3], [0, 1]))]
    value = only("lambda_con_l")(logits, torch.full((1, 1, 1, 4), 2))
    assert value.item() == pytest.approx(sum(distances) / 4, abs=1e-6)
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient[0, 1, 0, 0] > 0  # class 1 goes down where it is cut off, up where it is kept
    assert gradient[0, 1, 0, 2] < 0


def test_local_consistency_of_the_union_or_of_classes_alone() -> None:
    # classes 1, 0, 2, 2: class 1 is its own largest component, but not of the union's
    certain = [[0.0001, 0.9998, 0.0001], [0.9998, 0.0001, 0.0001], [0.0001, 0.0001, 0.9998], [0.0001, 0.0001, 0.9998]]
    label = torch.full((1, 1, 1, 4), 3)
    assert only("lambda_con_l", 3, of_union=False)(logits_of(certain), label).item() == pytest.approx(0, abs=1e-3)
    assert only("lambda_con_l", 3)(logits_of(certain), label).item() == pytest.approx(0.25, abs=1e-3)


def test_defaults_are_those_of_the_authors_code_and_the_terms_are_unweighted() -> None:
    loss = CycleMixLoss(2)
    target = mixed_target([[0.5, 0.0], [1.0, 0.25]])
    value = loss((ORIGINAL, ORIGINAL.flip(3)), target)
    assert list(loss.terms) == ["l_unmix", "l_mix", "l_con_g", "l_con_l"]
    weights = torch.tensor([1.0, 1.0, 0.1, 0.1])
    torch.testing.assert_close(value, (weights * torch.stack(list(loss.terms.values()))).sum())
    assert not any(term.requires_grad for term in loss.terms.values())


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_unannotated_pixels_carry_nothing_whatever_their_code(reduction: str) -> None:
    logits = ORIGINAL.clone().requires_grad_()
    loss = CycleMixLoss(2, lambda_con_g=0.0, lambda_con_l=0.0, reduction=reduction)
    values = []
    for code in (2, 255, -1, 3):
        label = torch.where(LABEL == 2, code, LABEL)
        target = {**mixed_target([[0.5, 0.0], [1.0, 1.0]]), "label": label, "label_a": label, "label_b": label[SWAP]}
        value = loss((logits, logits), target)
        values.append(value.item())
        (gradient,) = torch.autograd.grad(value, logits)
        assert (gradient[0, :, 0, 0] != 0).all()
    assert len(set(values)) == 1
    (gradient,) = torch.autograd.grad(only("lambda_unmix", reduction=reduction)(logits, LABEL), logits)
    assert (gradient[0, :, 0, 1] == 0).all()


def doubled(target: dict[str, Any]) -> dict[str, Any]:
    twice = {key: torch.cat([value, value]) for key, value in target.items() if key != "plan"}
    partner = target["plan"].partner
    return {**twice, "plan": MixPlan(torch.cat([partner, partner + 2]), twice["weight"])}


@pytest.mark.parametrize("options", [{}, {"reduction": "sum"}, {"cosine": "image"}])
def test_a_doubled_batch_gives_the_same(options: dict[str, str]) -> None:
    loss = CycleMixLoss(2, **options)  # type: ignore[arg-type]
    target = mixed_target([[0.5, 0.0], [1.0, 0.25]], visible=torch.tensor([[[[1.0, 1.0]]], [[[1.0, 0.0]]]]))
    once = loss((ORIGINAL, ORIGINAL.flip(3)), target)
    logits = torch.cat([ORIGINAL, ORIGINAL])
    torch.testing.assert_close(loss((logits, logits.flip(3)), doubled(target)), once)


def test_nothing_annotated_gives_0_with_a_gradient() -> None:
    logits = ORIGINAL.clone().requires_grad_()
    empty = torch.full_like(LABEL, 2)
    target = {**mixed_target([[0.5, 0.0], [1.0, 1.0]]), "label": empty, "label_a": empty, "label_b": empty}
    value = CycleMixLoss(2, lambda_con_g=0.0, lambda_con_l=0.0)((logits, logits), target)
    assert value.item() == 0
    (gradient,) = torch.autograd.grad(value, logits)
    assert not gradient.any()


def test_annotators_losses_are_summed() -> None:
    torch.manual_seed(0)
    first, second = torch.randint(0, 3, (2, 2, 1, 1, 2)).unbind(0)
    loss = only("lambda_unmix")
    both = loss(ORIGINAL, torch.cat([first, second], dim=1))
    torch.testing.assert_close(both, loss(ORIGINAL, first) + loss(ORIGINAL, second))


def test_terms_of_weight_0_are_left_out_and_say_what_they_need() -> None:
    needs = {"lambda_unmix": (True, False), "lambda_mix": (False, True), "lambda_con_g": (True, True)}
    for name, (originals, mixed) in {**needs, "lambda_con_l": (True, False)}.items():
        loss = only(name)
        assert (loss.needs_originals, loss.needs_mixed) == (originals, mixed)
        loss((ORIGINAL if originals else None, ORIGINAL if mixed else None), mixed_target([[1.0, 1.0]] * 2))
        assert list(loss.terms) == [f"l{name[6:]}"]


def test_half_precision_logits_and_uint8_labels() -> None:
    target = mixed_target([[0.5, 0.0], [1.0, 0.25]])
    exact = CycleMixLoss(2)((ORIGINAL, ORIGINAL), target)
    for key in ("label", "label_a", "label_b"):
        target[key] = target[key].to(torch.uint8)
    value = CycleMixLoss(2)((ORIGINAL.bfloat16(), ORIGINAL.bfloat16()), target)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact.item(), rel=2e-2)


ON_TWO_PROCESSES = """
import sys
import torch
import torch.distributed as dist
from common.losses.cycle_mix import CycleMixLoss
from common.transforms.mix_plan import MixPlan

folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
case = torch.load(f"{folder}/case.pt", weights_only=True)
part = slice(2 * rank, 2 * rank + 2)
results = []
for reduction in ("mean", "sum"):
    heads = [logits[part].clone().requires_grad_() for logits in case["heads"]]
    target = {key: case[key][part] for key in ("label", "label_a", "label_b", "weight", "visible")}
    target["plan"] = MixPlan(case["partner"][part], target["weight"])
    loss = CycleMixLoss(3, reduction=reduction)
    loss(heads, target).backward()
    results.append({"terms": loss.terms, "gradients": [logits.grad for logits in heads]})
torch.save(results, f"{folder}/{rank}.pt")
dist.barrier()
dist.destroy_process_group()
"""


def test_two_processes_give_the_gradients_of_the_whole_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    heads = [torch.randn(4, 3, 6, 6, requires_grad=True) for _ in range(2)]
    label, partner = torch.randint(0, 4, (4, 1, 6, 6)), torch.tensor([2, 0, 3, 1])
    target: dict[str, Any] = {"label": label, "label_a": label, "label_b": label[partner]}
    target |= {"weight": torch.rand(4, 1, 6, 6), "visible": (torch.rand(4, 1, 6, 6) < 0.8).float()}
    torch.save({"heads": [logits.detach() for logits in heads], "partner": partner, **target}, tmp_path / "case.pt")
    target["plan"] = MixPlan(partner, target["weight"])
    run_on_two_processes(ON_TWO_PROCESSES, tmp_path)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for index, reduction in enumerate(("mean", "sum")):
        loss = CycleMixLoss(3, reduction=reduction)
        expected = torch.autograd.grad(loss(heads, target), heads)
        for head in range(2):
            # DDP divides the sum of the processes' gradients by their number
            given = torch.cat([rank[index]["gradients"][head] for rank in ranks]) / 2
            torch.testing.assert_close(given, expected[head])
        for rank in ranks:
            torch.testing.assert_close(rank[index]["terms"], loss.terms)


def test_ill_options_and_inputs() -> None:
    with pytest.raises(ValueError, match=r"lambda_con_g must not be negative, got -0.1"):
        CycleMixLoss(2, lambda_con_g=-0.1)
    with pytest.raises(ValueError, match="all weights of the loss are 0"):
        CycleMixLoss(2, **ALONE)
    with pytest.raises(ValueError, match="reduction must be 'mean' or 'sum', got 'none'"):
        CycleMixLoss(2, reduction="none")
    with pytest.raises(ValueError, match="cosine must be 'pixel' or 'image', got 'class'"):
        CycleMixLoss(2, cosine="class")
    with pytest.raises(ValueError, match=r"label \(2, 1, 2\) must be \(2, 'A', 1, 2\)"):
        only("lambda_unmix")(ORIGINAL, LABEL[:, 0])
    with pytest.raises(ValueError, match="original images are missing"):
        only("lambda_unmix")((None, ORIGINAL), LABEL)
    with pytest.raises(ValueError, match="mixed images are missing"):
        CycleMixLoss(2)(ORIGINAL, LABEL)
