from __future__ import annotations

import math

import pytest
import torch

from common.losses.batch_statistics import labelled_counts
from common.losses.partial_cross_entropy import PartialCrossEntropyLoss


@pytest.fixture
def example() -> tuple[torch.Tensor, torch.Tensor]:
    # one image of 1 x 4 pixels, two classes; logits (0, log 3) mean probabilities (1/4, 3/4) at every pixel
    logits = torch.tensor([0.0, math.log(3.0)]).view(1, 2, 1, 1).repeat(1, 1, 1, 4)
    target = torch.tensor([[[[0, 1, 1, 2]]]])  # the last pixel is not annotated
    return logits, target


def test_plain_by_hand(example):
    # -(log 1/4 + 2 log 3/4) / 3
    expected = (math.log(4) + 2 * math.log(4 / 3)) / 3
    assert float(PartialCrossEntropyLoss(2)(*example)) == pytest.approx(expected, rel=1e-6)


def test_papers_weights_by_hand(example):
    # n = (1, 2), n_tot = 3: w = (2/3, 1/3)
    expected = (2 / 3 * math.log(4) + 2 * 1 / 3 * math.log(4 / 3)) / 3
    assert float(PartialCrossEntropyLoss(2, weighting="frequency")(*example)) == pytest.approx(expected, rel=1e-6)


def test_authors_weights_by_hand(example):
    # w = (3, 3/2)
    expected = (3 * math.log(4) + 2 * 1.5 * math.log(4 / 3)) / 3
    assert float(PartialCrossEntropyLoss(2, weighting="inverse")(*example)) == pytest.approx(expected, rel=1e-6)


WEIGHTINGS = pytest.mark.parametrize("weighting", ["none", "frequency", "inverse"])


@WEIGHTINGS
def test_no_gradient_on_unannotated_pixels_and_codes_do_not_matter(weighting):
    torch.manual_seed(0)
    loss = PartialCrossEntropyLoss(3, weighting=weighting)
    logits = torch.randn(2, 3, 5, 4, requires_grad=True)
    target = torch.randint(0, 4, (2, 1, 5, 4))
    value = loss(logits, target)
    value.backward()
    free = (target == 3).expand(-1, 3, -1, -1)
    assert free.any()
    assert logits.grad[free].abs().max() == 0
    assert logits.grad[~free].abs().min() > 0
    torch.testing.assert_close(loss(logits, torch.where(target == 3, 255, target)), value)
    torch.testing.assert_close(loss(logits, torch.where(target == 3, -1, target)), value)
    changed = torch.where(free, torch.randn_like(logits), logits)
    torch.testing.assert_close(loss(changed, target), value)


@WEIGHTINGS
def test_normalised_over_the_batch(weighting):
    torch.manual_seed(1)
    loss = PartialCrossEntropyLoss(3, weighting=weighting)
    logits, target = torch.randn(2, 3, 6, 6), torch.randint(0, 4, (2, 1, 6, 6))
    target[1, :, :4] = 3  # the items differ in their number of annotated pixels
    twice = loss(logits.repeat(2, 1, 1, 1), target.repeat(2, 1, 1, 1))
    torch.testing.assert_close(twice, loss(logits, target))
    side_by_side = loss(torch.cat([logits[:1], logits[1:]], dim=3), torch.cat([target[:1], target[1:]], dim=3))
    torch.testing.assert_close(side_by_side, loss(logits, target))


@WEIGHTINGS
def test_nothing_annotated_gives_zero_with_a_gradient_path(weighting):
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    value = PartialCrossEntropyLoss(3, weighting=weighting)(logits, torch.full((2, 1, 4, 4), 3))
    value.backward()
    assert value.item() == 0.0
    assert logits.grad.abs().max() == 0


def test_one_class_alone_has_weight_zero_in_the_papers_form(example):
    logits, target = example
    only = torch.where(target == 1, 1, 2)
    assert float(PartialCrossEntropyLoss(2, weighting="frequency")(logits, only)) == 0.0
    assert float(PartialCrossEntropyLoss(2)(logits, only)) == pytest.approx(math.log(4 / 3), rel=1e-6)


def test_first_of_several_heads_counts(example):
    logits, target = example
    loss = PartialCrossEntropyLoss(2)
    torch.testing.assert_close(loss((logits, torch.randn(1, 2, 1, 2)), target), loss(logits, target))


def test_uint8_targets_and_half_precision_logits(example):
    logits, target = example
    loss = PartialCrossEntropyLoss(2, weighting="frequency")
    assert loss(logits.bfloat16(), target.to(torch.uint8)).dtype == torch.float32


def test_large_logits_stay_finite():
    logits = torch.tensor([1e4, -1e4]).view(1, 2, 1, 1)
    assert torch.isfinite(PartialCrossEntropyLoss(2)(logits, torch.ones(1, 1, 1, 1)))


def test_labelled_counts():
    assert labelled_counts(torch.tensor([0, 1, 1, 3, 255, -1]), 3).tolist() == [1.0, 2.0, 0.0]


@pytest.mark.parametrize("weighting", ["none", "frequency", "inverse"])
def test_several_annotators_are_summed_each_with_weights_of_its_own(weighting):
    """L_SUP = L_SUP^1 + L_SUP^2 + L_SUP^3 (Valvano et al., section V-E); the third annotator drew nothing."""
    torch.manual_seed(0)
    loss = PartialCrossEntropyLoss(3, weighting=weighting)
    logits = torch.randn(2, 3, 5, 4)
    target = torch.randint(0, 4, (2, 3, 5, 4))
    target[:, 2] = 3
    apart = loss(logits, target[:, 0:1]) + loss(logits, target[:, 1:2])
    torch.testing.assert_close(loss(logits, target), apart)
    torch.testing.assert_close(loss(logits, target[:, [1, 2, 0]]), apart)


def test_ill_options_and_shapes():
    with pytest.raises(ValueError, match="weighting"):
        PartialCrossEntropyLoss(2, weighting="other")
    with pytest.raises(ValueError, match=r"target \(1, 4, 4\) must be \(1, \'A\', 4, 4\)"):
        PartialCrossEntropyLoss(2)(torch.randn(1, 2, 4, 4), torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="expected 3 channels"):
        PartialCrossEntropyLoss(3)(torch.randn(1, 2, 4, 4), torch.zeros(1, 1, 4, 4))
