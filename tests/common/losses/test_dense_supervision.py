"""DenseSupervisionLoss: cross entropy and Dice over annotated pixels, with values worked out by hand."""

import math

import pytest
import torch

from common.errors import UserError
from common.losses.dense_supervision import DenseSupervisionLoss

# P of class 0 in three pixels: 1/2, 0.9, 0.2; the third one is not annotated
P = torch.tensor([0.5, 0.9, 0.2]).view(1, 1, 1, 3)
LOGITS = torch.cat([P, 1 - P], dim=1).log()
TARGET = torch.tensor([[[[0, 1, 2]]]])
CE = (math.log(2) - math.log(0.1)) / 2
# class 0: 1 - 2 * 0.5 / (0.25 + 0.81 + 1); class 1: 1 - 2 * 0.1 / (0.25 + 0.01 + 1)
DICE = ((1 - 1.0 / 2.06) + (1 - 0.2 / 1.26)) / 2


def test_value_and_terms() -> None:
    for weight in (0.0, 0.5, 0.3, 1.0):
        loss = DenseSupervisionLoss(2, dice_weight=weight)
        assert loss(LOGITS, TARGET).item() == pytest.approx((1 - weight) * CE + weight * DICE, abs=1e-4)
        assert {name: value.item() for name, value in loss.terms.items()} == pytest.approx(
            {"l_ce": CE, "l_dice": DICE}, abs=1e-4
        )


def test_what_is_not_annotated_has_no_part() -> None:
    loss = DenseSupervisionLoss(2)
    logits = LOGITS.clone().requires_grad_()
    loss(logits, TARGET).backward()
    assert logits.grad is not None
    assert logits.grad[..., 2].abs().sum() == 0
    assert (logits.grad[..., :2].abs().sum(dim=1) > 0).all()
    changed = LOGITS.clone()
    changed[..., 2] = 7.0
    torch.testing.assert_close(loss(changed, torch.where(TARGET == 2, 255, TARGET)), loss(LOGITS, TARGET))


def test_a_batch_twice_and_one_without_annotation() -> None:
    loss = DenseSupervisionLoss(2)
    twice = loss(LOGITS.repeat(2, 1, 1, 1), TARGET.repeat(2, 1, 1, 1))
    torch.testing.assert_close(twice, loss(LOGITS, TARGET), atol=1e-5, rtol=0)
    logits = LOGITS.clone().requires_grad_()
    nothing = loss(logits, torch.full_like(TARGET, 2))
    nothing.backward()
    assert nothing.item() == pytest.approx(0.0, abs=1e-6)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_kinds_of_annotation_are_summed() -> None:
    loss = DenseSupervisionLoss(2)
    both = torch.cat([TARGET, torch.full_like(TARGET, 2)], dim=1)
    torch.testing.assert_close(loss(LOGITS, both), loss(LOGITS, TARGET), atol=1e-5, rtol=0)
    assert loss((LOGITS, LOGITS + 1), torch.cat([TARGET, TARGET], dim=1)).item() == pytest.approx(CE + DICE, abs=1e-4)


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_mistakes(weight: float) -> None:
    with pytest.raises(UserError, match="dice_weight must be a number from 0 to 1, got"):
        DenseSupervisionLoss(2, dice_weight=weight)
