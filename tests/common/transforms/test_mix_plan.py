from __future__ import annotations

import torch

from common.transforms.mix_plan import MixPlan, moved

# two items of 1 x 2 pixels
VALUES = torch.tensor([[[[1.0, 2.0]]], [[[30.0, 40.0]]]])
SWAP = torch.tensor([1, 0])
WEIGHT = torch.tensor([[[[1.0, 0.5]]], [[[0.0, 0.25]]]])


def test_mix_by_hand() -> None:
    # item 0: 1, (2 + 40) / 2; item 1: 1 of item 0, 40 / 4 + 2 * 3 / 4
    assert MixPlan(SWAP, WEIGHT).mix(VALUES).tolist() == [[[[1.0, 21.0]]], [[[1.0, 11.5]]]]


def test_moves_by_hand() -> None:
    own = torch.tensor([[[[1, 0]]], [[[0, -1]]]])
    other = torch.tensor([[[[0, 0]]], [[[-1, 1]]]])
    plan = MixPlan(SWAP, WEIGHT, own, other)
    first, second = plan.parts(VALUES, fill=7)
    assert first.tolist() == [[[[2.0, 1.0]]], [[[30.0, 7.0]]]]
    # the partner's part moves by the item's plan
    assert second.tolist() == [[[[30.0, 30.0]]], [[[7.0, 2.0]]]]
    # where nothing moves, predictions and images have 0: 2; (1 + 30) / 2; 0; 3 / 4 * 2
    assert plan.mix(VALUES).tolist() == [[[[2.0, 15.5]]], [[[0.0, 1.5]]]]
    assert torch.equal(plan.at_rest().mix(VALUES), MixPlan(SWAP, WEIGHT).mix(VALUES))


def test_a_partner_for_every_pixel() -> None:
    partner = torch.tensor([[[[1, 0]]], [[[1, 1]]]])
    plan = MixPlan(partner, torch.zeros_like(WEIGHT))
    two_channels = torch.cat([VALUES, -VALUES], dim=1)
    assert plan.mix(two_channels).tolist() == [[[[30.0, 2.0]], [[-30.0, -2.0]]], [[[30.0, 40.0]], [[-30.0, -40.0]]]]


def test_weights_0_and_1_give_the_parts_bit_for_bit() -> None:
    values = torch.randn(4, 3, 9, 11)
    partner = torch.tensor([2, 0, 3, 1])
    one, zero = torch.ones(4, 1, 9, 11), torch.zeros(4, 1, 9, 11)
    assert torch.equal(MixPlan(partner, one).mix(values), values)
    assert torch.equal(MixPlan(partner, zero).mix(values), values[partner])


def test_labels_keep_their_type_and_their_values() -> None:
    label = torch.randint(0, 5, (2, 2, 6, 6), dtype=torch.uint8)
    source = torch.randint(-1, 36, (2, 1, 6, 6))
    for part in MixPlan(SWAP, torch.full((2, 1, 6, 6), 0.5), source, source).parts(label, fill=4):
        assert part.dtype == torch.uint8
        assert part.shape == label.shape
        assert set(part.unique().tolist()) <= {0, 1, 2, 3, 4}


def test_gradients_pass_to_the_pixels_that_are_shown() -> None:
    values = VALUES.clone().requires_grad_()
    plan = MixPlan(SWAP, WEIGHT, torch.tensor([[[[1, 1]]], [[[0, -1]]]]))
    plan.mix(values)[0].sum().backward()
    # item 0's second pixel appears with weights 1 and 0.5, item 1's pixels with 0 and 0.5
    assert values.grad is not None
    assert values.grad.tolist() == [[[[0.0, 1.5]]], [[[0.0, 0.5]]]]


def test_moved_without_a_source_is_the_very_tensor() -> None:
    assert moved(VALUES, None) is VALUES
