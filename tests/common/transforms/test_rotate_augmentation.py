from __future__ import annotations

import math

import pytest
import torch
from scipy import ndimage

from common.transforms.rotate_augmentation import RotateAugmentation, rotated


def draw(monkeypatch: pytest.MonkeyPatch, angle: float, flipped: float, rows: float, columns: float) -> None:
    """Set what is drawn: the angle as a share of -180 .. 180 degrees, and the three choices."""
    given = torch.tensor([[angle], [flipped], [rows], [columns]])

    def rand(*shape: int, **_: object) -> torch.Tensor:
        return given.expand(shape)

    monkeypatch.setattr(torch, "rand", rand)


YES, NO = 0.2, 0.8


@pytest.mark.parametrize(
    ("choices", "axes"),
    [
        ((NO, YES, YES), ()),
        ((YES, NO, NO), ()),
        ((YES, YES, NO), (2,)),
        ((YES, NO, YES), (3,)),
        ((YES, YES, YES), (2, 3)),
    ],
)
def test_flips_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, choices: tuple[float, float, float], axes: tuple[int, ...]
) -> None:
    draw(monkeypatch, 0.5, *choices)
    image, label = torch.randn(2, 1, 9, 9), torch.randint(0, 5, (2, 1, 9, 9), dtype=torch.uint8)
    moved_image, moved_label = RotateAugmentation(ignore_index=4)(image, label)
    assert moved_image is not None
    assert moved_label is not None
    assert torch.equal(moved_image, image.flip(axes))
    assert torch.equal(moved_label, label.flip(axes))


@pytest.mark.parametrize("share", [0.1, 0.37, 0.93])
def test_rotation_equals_scipys_order_0(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    draw(monkeypatch, share, NO, YES, YES)
    image = torch.randn(1, 1, 41, 41)
    moved, _ = RotateAugmentation(ignore_index=4)(image, None)
    assert moved is not None
    angle = (2 * share - 1) * 180
    reference = ndimage.rotate(image[0, 0].numpy(), angle, order=0, reshape=False, mode="grid-constant", cval=0.0)
    # pixels exactly between two may go either way
    assert (moved[0, 0].numpy() != reference).mean() < 0.005


def test_corners_become_unlabelled_and_images_0() -> None:
    torch.manual_seed(0)
    image, label = torch.ones(50, 1, 32, 32), torch.ones(50, 1, 32, 32, dtype=torch.uint8)
    moved_image, moved_label = RotateAugmentation(ignore_index=4)(image, label)
    assert moved_image is not None
    assert moved_label is not None
    assert moved_label.unique().tolist() == [1, 4]
    assert torch.equal(moved_image == 0, moved_label == 4)
    assert (moved_label[:, 0, 0, 0] == 4).float().mean() > 0.9


def test_corners_are_background_only_where_something_is_annotated() -> None:
    torch.manual_seed(0)
    label = torch.full((50, 2, 32, 32), 4, dtype=torch.uint8)
    label[:, 0, 12:20, 12:20] = 1
    plain = torch.ones(50, 1, 32, 32)
    brought, moved = RotateAugmentation(ignore_index=4, outside=0)(plain, label)
    assert brought is not None
    assert moved is not None
    assert torch.equal(moved[:, :1] == 0, brought == 0)
    assert moved[:, 0].unique().tolist() == [0, 1, 4]
    assert (moved[:, 1] == 4).all()  # the channel of a mask that the items do not have


def test_a_quarter_is_mirrored_and_the_angles_are_even() -> None:
    torch.manual_seed(0)
    # two pixels at a right angle tell the angle and the hand
    image = torch.zeros(4000, 1, 21, 21)
    image[:, 0, 2, 10], image[:, 0, 10, 18] = 1.0, 2.0
    moved, _ = RotateAugmentation(ignore_index=4)(image, None)
    assert moved is not None
    first, second = ((moved == value).flatten(1) for value in (1.0, 2.0))
    found = first.any(dim=1) & second.any(dim=1)
    places = [flat[found].float().argmax(dim=1) for flat in (first, second)]
    down, right = ([place // 21 - 10 for place in places], [place % 21 - 10 for place in places])
    hand = torch.sign(down[0] * right[1] - right[0] * down[1])
    assert found.float().mean() > 0.8
    assert (hand > 0).float().mean() == pytest.approx(0.25, abs=0.03)
    quadrants = torch.atan2(down[0].float(), right[0].float()).div(math.pi / 2).floor().long() % 4
    assert torch.bincount(quadrants, minlength=4).float().div(len(quadrants)).tolist() == pytest.approx(
        [0.25] * 4, abs=0.04
    )


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [8, 9])
def test_right_angles_there_and_back_bit_for_bit(turns: int, size: int) -> None:
    values = torch.randn(2, 3, size, size)
    angle = torch.full((2,), turns * math.pi / 2)
    turned = rotated(values, angle)
    assert torch.equal(turned, torch.rot90(values, turns, (2, 3)))
    assert torch.equal(rotated(turned, -angle), values)


def test_each_item_has_its_own_angle_and_oblong_images_are_not_sheared() -> None:
    values = torch.zeros(2, 1, 21, 41)
    values[:, 0, 10, 20 + 8] = 1.0  # 8 to the right of the centre
    turned = rotated(values, torch.tensor([math.pi / 2, math.pi]))
    assert turned[0, 0].nonzero().tolist() == [[10 - 8, 20]]
    assert turned[1, 0].nonzero().tolist() == [[10, 20 - 8]]


def test_there_and_back_gives_what_stayed_inside() -> None:
    row, column = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    values = torch.stack([row, column])[None].expand(5, -1, -1, -1)
    angle = torch.linspace(0.1, 6.0, 5)
    back = rotated(rotated(values, angle), -angle)
    inside = rotated(torch.ones(5, 1, 64, 64), -angle).bool() & (row - 32).square().add((column - 32).square()).lt(900)
    # each rounding moves by half a pixel at most
    assert ((back - values).abs().amax(dim=1, keepdim=True)[inside] <= 1.5).all()


def test_gradients_pass() -> None:
    values = torch.randn(1, 1, 8, 8, requires_grad=True)
    rotated(values, torch.tensor([math.pi / 2]))[0, 0, 0, 0].backward()
    assert values.grad is not None
    assert values.grad.nonzero().tolist() == [[0, 0, 0, 7]]
