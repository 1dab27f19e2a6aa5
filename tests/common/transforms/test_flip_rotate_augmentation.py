from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scipy import ndimage

from common.engines.prepare_batch import AugmentingPrepareBatch
from common.transforms.flip_rotate_augmentation import FlipRotateAugmentation

# A draw in 0 .. 1 for every choice: turn by right angles or else rotate or not, the angle, the quarter turns, the axis.
TURN, LEAVE_OR_ROTATE = 0.2, 0.8
ROTATE, LEAVE = 0.2, 0.8

Draws = Callable[[list[list[float]]], None]


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> Draws:
    """Set what is drawn for each item: [branch, rotate, angle, quarters, axis]."""

    def given(items: list[list[float]]) -> None:
        def rand(*shape: int, **_: object) -> torch.Tensor:
            assert shape == (5, len(items))
            return torch.tensor(items).T

        monkeypatch.setattr(torch, "rand", rand)

    return given


def label_like(image: torch.Tensor, num_classes: int = 4) -> torch.Tensor:
    return torch.randint(0, num_classes, (image.shape[0], 1, *image.shape[2:]), dtype=torch.uint8)


@pytest.mark.parametrize("size", [6, 7])
def test_turns_and_flips_of_a_square_bit_for_bit(size: int, draws: Draws) -> None:
    choices = [(quarters, axis) for quarters in range(4) for axis in range(2)]
    draws([[TURN, ROTATE, 0.9, (quarters + 0.5) / 4, (axis + 0.5) / 2] for quarters, axis in choices])
    image, augment = torch.randn(8, 2, size, size), FlipRotateAugmentation(ignore_index=4)
    label = label_like(image)
    moved_image, moved_label = augment(image, label)
    assert moved_image is not None
    assert moved_label is not None
    for item, (quarters, axis) in enumerate(choices):
        for before, after in ((image, moved_image), (label, moved_label)):
            expected = torch.flip(torch.rot90(before[item], quarters, (1, 2)), (1 + axis,))
            assert torch.equal(after[item], expected)


def test_oblong_images_are_turned_by_half_turns_alone(draws: Draws) -> None:
    fractions = [0.1, 0.4, 0.6, 0.9]
    draws([[TURN, ROTATE, 0.9, fraction, 0.2] for fraction in fractions])
    image = torch.randn(4, 1, 5, 8)
    moved, _ = FlipRotateAugmentation(ignore_index=4)(image, None)
    assert moved is not None
    for item, quarters in enumerate([0, 0, 2, 2]):
        assert torch.equal(moved[item], torch.flip(torch.rot90(image[item], quarters, (1, 2)), (1,)))


def test_items_left_alone_come_back_bit_for_bit(draws: Draws) -> None:
    draws([[LEAVE_OR_ROTATE, LEAVE, 0.9, 0.6, 0.2]] * 3)
    image = torch.randn(3, 1, 9, 14)
    label = label_like(image)
    moved_image, moved_label = FlipRotateAugmentation(ignore_index=4)(image, label)
    assert moved_image is not None
    assert moved_label is not None
    assert torch.equal(moved_image, image)
    assert torch.equal(moved_label, label)


def test_without_right_angles_those_items_stay_as_they_are(draws: Draws) -> None:
    draws([[TURN, ROTATE, 1.0, 0.6, 0.2], [LEAVE_OR_ROTATE, ROTATE, 1.0, 0.6, 0.2]])
    image = torch.randn(2, 1, 16, 16)
    moved, _ = FlipRotateAugmentation(ignore_index=4, right_angles=False)(image, None)
    assert moved is not None
    assert torch.equal(moved[0], image[0])
    assert not torch.equal(moved[1], image[1])


@pytest.mark.parametrize("size", [(40, 40), (41, 64)])
@pytest.mark.parametrize("draw", [0.0, 0.3, 0.99])
def test_rotation_equals_scipys_order_0(size: tuple[int, int], draw: float, draws: Draws) -> None:
    draws([[LEAVE_OR_ROTATE, ROTATE, draw, 0.6, 0.2]])
    image = torch.randn(1, 1, *size)
    moved, _ = FlipRotateAugmentation(ignore_index=4)(image, None)
    assert moved is not None
    angle = (2 * draw - 1) * 20
    reference = ndimage.rotate(image[0, 0].numpy(), angle, order=0, reshape=False, mode="grid-constant", cval=0.0)
    # they may differ where a source lies half-way between two pixels
    assert (moved[0, 0] == torch.from_numpy(reference)).float().mean() > 0.998


def test_outside_is_0_in_the_image_and_not_annotated_in_the_label(draws: Draws) -> None:
    draws([[LEAVE_OR_ROTATE, ROTATE, 1.0, 0.6, 0.2]])
    image, label = torch.full((1, 2, 30, 30), 0.5), torch.zeros(1, 1, 30, 30, dtype=torch.uint8)
    moved_image, moved_label = FlipRotateAugmentation(ignore_index=4)(image, label)
    assert moved_image is not None
    assert moved_label is not None
    outside = moved_label == 4
    corners = (..., [0, 0, -1, -1], [0, -1, 0, -1])
    assert outside[corners].all()
    # a square and the same one turned by 20 degrees share 2 / (1 + sin 20 + cos 20) = 87.65 % of their area
    assert outside.float().mean() == pytest.approx(0.1235, abs=0.01)
    assert torch.equal(moved_image, torch.where(outside, 0.0, 0.5).expand(-1, 2, -1, -1))
    assert moved_label.unique().tolist() == [0, 4]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_no_label_is_invented_and_image_and_label_move_together(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    label = torch.randint(0, 3, (64, 1, 20, 20)).to(dtype) * 2  # 0, 2, 4
    image, moved = FlipRotateAugmentation(ignore_index=5)(label.float() + 1.0, label)
    assert image is not None
    assert moved is not None
    assert moved.dtype == dtype
    assert moved.unique().tolist() == [0, 2, 4, 5]
    assert torch.equal(image, torch.where(moved == 5, 0.0, moved + 1.0))


def test_half_of_the_items_is_turned_and_a_quarter_rotated() -> None:
    torch.manual_seed(0)
    image = torch.rand(2000, 1, 12, 12) + 1.0
    moved, _ = FlipRotateAugmentation(ignore_index=4)(image, None)
    assert moved is not None
    same = (moved == image).flatten(1).all(dim=1)
    complete = torch.isclose(moved.sum(dim=(1, 2, 3)), image.sum(dim=(1, 2, 3)))
    turned = complete & ~same
    assert turned.float().mean() == pytest.approx(0.5, abs=0.04)
    # an angle below about 4 degrees moves no pixel of so small an image
    assert 0.25 <= same.float().mean() < 0.36
    reflections = [torch.rot90(image, quarters, (2, 3)).flip(2) for quarters in range(4)]
    shares = [(moved == reflection).flatten(1).all(dim=1).float().mean() for reflection in reflections]
    assert shares == pytest.approx([0.125] * 4, abs=0.03)


def test_seeded_and_each_item_by_its_own_draws() -> None:
    augment = FlipRotateAugmentation(ignore_index=4, noise=0.1)
    image = torch.randn(1, 1, 16, 16).repeat(16, 1, 1, 1)
    label = label_like(image[:1]).repeat(16, 1, 1, 1)
    torch.manual_seed(3)
    first = augment(image, label)
    torch.manual_seed(3)
    again = augment(image, label)
    for one, other in zip(first, again, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)
    assert first[1] is not None
    assert len(first[1].flatten(1).unique(dim=0)) > 4


def test_noise_is_the_images_alone(draws: Draws) -> None:
    draws([[LEAVE_OR_ROTATE, LEAVE, 0.5, 0.5, 0.5]] * 4)
    label = torch.ones(4, 1, 64, 64, dtype=torch.uint8)
    image, moved = FlipRotateAugmentation(ignore_index=4, noise=0.2)(torch.zeros(4, 1, 64, 64), label)
    assert image is not None
    assert moved is not None
    assert float(image.std()) == pytest.approx(0.2, rel=0.03)
    assert torch.equal(moved, label)


def test_either_part_may_be_missing() -> None:
    augment = FlipRotateAugmentation(ignore_index=4)
    assert augment(None, None) == (None, None)
    image, label = augment(torch.randn(2, 1, 8, 8), None)
    assert image is not None
    assert label is None
    image, label = augment(None, torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    assert image is None
    assert label is not None


def test_layouts_do_not_matter_and_batches_are_prepared_with_it() -> None:
    prepare = AugmentingPrepareBatch(FlipRotateAugmentation(ignore_index=4))  # type: ignore[arg-type]
    image = torch.randn(4, 3, 10, 10)
    torch.manual_seed(1)
    expected, _ = prepare({"image": image})
    torch.manual_seed(1)
    given, _ = prepare({"image": image.contiguous(memory_format=torch.channels_last)})
    assert given is not None
    assert expected is not None
    assert torch.equal(given, expected)
    assert given.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("option", ["rotation", "noise"])
def test_negative_option(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must not be negative, got -1"):
        FlipRotateAugmentation(ignore_index=4, **{option: -1})  # type: ignore[arg-type]
