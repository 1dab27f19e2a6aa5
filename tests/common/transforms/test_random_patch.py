"""Random windows of a batch: where they lie, that image and label move together, and their seed."""

from __future__ import annotations

import pytest
import torch

from common.errors import UserError
from common.transforms.random_patch import RandomPatch


def places(batch: int, height: int, width: int) -> torch.Tensor:
    """Index maps ``[B, 1, H, W]`` in which each pixel is its own number, the items' numbers following each other."""
    return torch.arange(batch * height * width).view(batch, 1, height, width)


def test_windows_are_parts_of_their_own_slices() -> None:
    torch.manual_seed(0)
    given = places(40, 6, 9)
    _, cut = RandomPatch([4, 5])(None, given)
    assert cut is not None
    assert cut.shape == (40, 1, 4, 5)
    first = cut[:, :, :1, :1]
    # neighbours of a window are neighbours of the slice: 1 apart in a row, the width apart in a column
    expected = first + 9 * torch.arange(4).view(4, 1) + torch.arange(5)
    assert torch.equal(cut, expected)
    assert torch.equal(cut.flatten(1)[:, 0] // 54, torch.arange(40))
    corners = {divmod(int(number) % 54, 9) for number in first.flatten()}
    assert {row for row, _ in corners} == {0, 1, 2}  # 6 - 4 + 1 places
    assert {column for _, column in corners} == {0, 1, 2, 3, 4}


def test_image_and_labels_are_cut_alike() -> None:
    torch.manual_seed(1)
    label = places(8, 12, 7).repeat(1, 2, 1, 1)
    label[:, 1] += 10_000
    image = torch.cat([label, -label], dim=1).float()
    cut_image, cut_label = RandomPatch((5, 7))(image, label)
    assert cut_image is not None
    assert cut_label is not None
    assert cut_image.shape == (8, 4, 5, 7)
    assert cut_image.dtype == torch.float32
    assert cut_label.dtype == label.dtype
    assert torch.equal(cut_image, torch.cat([cut_label, -cut_label], dim=1).float())
    assert torch.equal(cut_label[:, 1], cut_label[:, 0] + 10_000)


def test_the_seed_decides() -> None:
    patch, given = RandomPatch([3, 3]), places(16, 20, 20)

    def cut(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        result = patch(given.float(), given)[1]
        assert result is not None
        return result

    assert torch.equal(cut(4), cut(4))
    assert not torch.equal(cut(4), cut(5))


def test_windows_as_large_as_the_slices_and_none_at_all() -> None:
    image, label = torch.rand(2, 3, 5, 4), places(2, 5, 4)
    whole = RandomPatch([5, 4])(image, label)
    assert torch.equal(whole[0], image)
    assert torch.equal(whole[1], label)
    left = RandomPatch(None)(image, label)
    assert left[0] is image
    assert left[1] is label
    assert RandomPatch([5, 4])(None, None) == (None, None)
    assert RandomPatch([2, 2])(image, None)[1] is None


def test_windows_are_augmented() -> None:
    def augmentation(image: torch.Tensor | None, label: torch.Tensor | None) -> tuple:
        assert image is not None
        assert label is not None
        return image.flip(3), label.flip(3)

    given = places(3, 6, 6)
    torch.manual_seed(2)
    plain = RandomPatch([2, 4])(given.float(), given)
    torch.manual_seed(2)
    turned = RandomPatch([2, 4], augmentation)(given.float(), given)
    for one, two in zip(plain, turned, strict=True):
        assert torch.equal(one.flip(3), two)
    assert torch.equal(RandomPatch(None, augmentation)(given.float(), given)[1], given.flip(3))


def test_a_window_larger_than_the_slice_names_both_keys() -> None:
    message = r"^patch_size \[4, 7\] is larger than the slices; raise roi_size or lower it$"
    with pytest.raises(UserError, match=message):
        RandomPatch([4, 7])(torch.rand(1, 1, 6, 6), None)


@pytest.mark.parametrize("size", [64, [64], [64, 64, 3], [64, 0], [64.0, 64.0], "64"])
def test_sizes_that_are_no_pair_of_pixels(size) -> None:
    with pytest.raises(UserError, match="patch_size must be a height and a width in pixels, or null, got "):
        RandomPatch(size)
