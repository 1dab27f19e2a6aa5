from __future__ import annotations

import pytest
import torch

from common.losses.least_squares_adversarial import LeastSquaresDiscriminatorLoss, LeastSquaresGeneratorLoss


def test_generator_by_hand():
    # 1/2 * ((3-1)^2 + (0-1)^2) / 2 = 1.25
    assert float(LeastSquaresGeneratorLoss()(torch.tensor([[3.0], [0.0]]))) == pytest.approx(1.25)


def test_discriminator_by_hand():
    # real: 1/2 * ((2-1)^2 + (1-1)^2) / 2 = 0.25; fake: 1/2 * (1+1)^2 = 2
    loss = LeastSquaresDiscriminatorLoss(label_noise=0.0)
    assert float(loss(torch.tensor([[2.0], [1.0]]), torch.tensor([[1.0]]))) == pytest.approx(2.25)


def test_full_label_noise_swaps_every_target():
    # real against -1: 1/2 * 9 = 4.5; fake against 1: 1/2 * 4 = 2
    loss = LeastSquaresDiscriminatorLoss(label_noise=1.0)
    assert float(loss(torch.tensor([[2.0]]), torch.tensor([[-1.0]]))) == pytest.approx(6.5)


def test_label_noise_swaps_single_items_at_its_rate():
    torch.manual_seed(0)
    ones = torch.ones(200_000, 1)
    # a right real item costs 0, a swapped one 1/2 * 4 = 2, likewise a fake one: 2 * 2 * rate
    assert float(LeastSquaresDiscriminatorLoss(0.1)(ones, -ones)) == pytest.approx(0.4, rel=0.03)


def test_optimum():
    ones = torch.ones(4, 1)
    assert float(LeastSquaresDiscriminatorLoss(0.0)(ones, -ones)) == 0.0
    assert float(LeastSquaresGeneratorLoss()(ones)) == 0.0


def test_ill_option():
    with pytest.raises(ValueError, match="label_noise"):
        LeastSquaresDiscriminatorLoss(1.5)
