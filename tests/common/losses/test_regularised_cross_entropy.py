"""RegularisedCrossEntropyLoss: partial cross entropy and a regulariser, with values worked out by hand."""

import math

import pytest
import torch

from common.errors import UserError
from common.losses.gated_crf import GatedCRFLoss
from common.losses.regularised_cross_entropy import RegularisedCrossEntropyLoss

# two pixels with P = (1/2, 1/2) and (0.9, 0.1), the first drawn as class 0
LOGITS = torch.tensor([[[[0.5, 0.9]], [[0.5, 0.1]]]]).log()
LABEL = torch.tensor([[[[0, 2]]]])
IMAGE = torch.zeros(1, 1, 1, 2)


def gated_crf(**options: float) -> RegularisedCrossEntropyLoss:
    crf = GatedCRFLoss(kernels=[{"weight": 1.0, "intensity_sigma": 0.1}], radius=1)
    return RegularisedCrossEntropyLoss(2, regulariser=crf, name="l_crf", **options)


def test_value_and_terms_of_the_gated_crf() -> None:
    loss = gated_crf(weight=0.1)
    # pCE: -ln(1/2). The pixels look the same, so k = 1; 1 - <P, Q> = 1 - (0.5 * 0.9 + 0.5 * 0.1) = 0.5, once from
    # either pixel, over 2 pixels: 0.5. The drawn pixel counts like the other.
    assert loss(LOGITS, {"label": LABEL, "image": IMAGE}).item() == pytest.approx(math.log(2) + 0.1 * 0.5, abs=1e-5)
    assert {name: value.item() for name, value in loss.terms.items()} == pytest.approx(
        {"l_pce": math.log(2), "l_crf": 0.5}, abs=1e-5
    )


def test_a_weight_of_0_is_partial_cross_entropy_alone() -> None:
    loss = gated_crf(weight=0.0)
    assert loss(LOGITS, {"label": LABEL, "image": IMAGE}).item() == pytest.approx(math.log(2))
    assert set(loss.terms) == {"l_pce"}


def test_the_regulariser_gets_logits_and_image() -> None:
    seen = []

    def regulariser(logits: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        seen.append((logits, image))
        return logits.sum() * 0.0 + 3.0

    loss = RegularisedCrossEntropyLoss(2, regulariser=regulariser, weight=2.0)
    assert loss((LOGITS, LOGITS + 1), {"label": LABEL, "image": IMAGE}).item() == pytest.approx(math.log(2) + 6.0)
    assert seen[0][0] is LOGITS
    assert seen[0][1] is IMAGE
    assert loss.terms["l_regulariser"].item() == 3.0


def test_without_annotation_the_regulariser_alone_has_a_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    value = gated_crf(weight=1.0)(logits, {"label": torch.full_like(LABEL, 2), "image": IMAGE})
    value.backward()
    assert value.item() == pytest.approx(0.5, abs=1e-5)
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0


def test_mistakes() -> None:
    with pytest.raises(UserError, match="weight of l_crf must not be negative, got -1"):
        gated_crf(weight=-1)
    with pytest.raises(UserError, match="l_crf needs the image: set image_in_target"):
        gated_crf()(LOGITS, LABEL)
