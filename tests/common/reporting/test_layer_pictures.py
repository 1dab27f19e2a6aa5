"""Slices as small PNG pictures."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from common.reporting.layer_pictures import annotation_pictures, image_pictures, mask_pictures
from common.reporting.palette import class_colour


def decoded(uri: str) -> Image.Image:
    assert uri.startswith("data:image/png;base64,")
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def rgba(uri: str) -> np.ndarray:
    return np.asarray(decoded(uri).convert("RGBA"))


def test_grey_images_are_kept_and_large_ones_reduced() -> None:
    image = np.arange(2 * 6 * 8, dtype=np.uint8).reshape(2, 6, 8)
    first, second = image_pictures(image, size=64)
    np.testing.assert_array_equal(np.asarray(decoded(first)), image[0])
    np.testing.assert_array_equal(np.asarray(decoded(second)), image[1])
    assert decoded(image_pictures(np.zeros((1, 300, 200), np.uint8), size=60)[0]).size == (40, 60)


def test_colours_become_a_palette() -> None:
    pixels = np.zeros((1, 4, 4, 3), np.uint8)
    pixels[0, 0, 0] = (250, 10, 20)
    picture = decoded(image_pictures(pixels, size=64)[0])
    assert picture.mode == "P"
    assert picture.convert("RGB").getpixel((0, 0)) == (250, 10, 20)


def test_masks_are_filled_lightly_within_an_outline() -> None:
    label = np.zeros((2, 9, 9), np.uint8)
    label[0, 2:7, 2:7] = 2
    first, second = mask_pictures(label, num_classes=3, size=64)
    assert second == ""  # nothing to see
    found = rgba(first)
    assert found.shape == (27, 27, 4)  # three times finer
    assert found[0, 0, 3] == 0
    assert tuple(found[13, 13, :3]) == class_colour(2)
    assert found[13, 13, 3] == 110
    # the block covers 6..20; its outermost two pixels are the outline
    assert found[13, 6:9, 3].tolist() == [255, 255, 110]
    assert found[13, 5, 3] == 0
    assert tuple(found[13, 6, :3]) == class_colour(2)


@pytest.mark.parametrize("extents", [(40, 30), (3, 1), (1, 7)])
def test_an_outline_stands_where_a_window_has_several_classes(extents: tuple[int, int]) -> None:
    label = np.random.default_rng(0).integers(0, 4, (3, *extents))
    for pixels, uri in zip(
        label.repeat(3, axis=1).repeat(3, axis=2), mask_pictures(label, num_classes=4, size=64), strict=True
    ):
        several = ndimage.minimum_filter(pixels, size=5) != ndimage.maximum_filter(pixels, size=5)
        alpha = np.where(pixels == 0, 0, np.where(several, 255, 110))
        found = rgba(uri) if uri else np.zeros((*pixels.shape, 4), np.uint8)
        np.testing.assert_array_equal(found[..., 3], alpha)


def test_unknown_values_of_a_mask_are_not_drawn() -> None:
    assert mask_pictures(np.full((1, 4, 4), 3), num_classes=3, size=64) == [""]


def test_strokes_are_opaque_a_little_wider_and_do_not_cover_each_other() -> None:
    label = np.full((2, 5, 6), 3, np.uint8)
    label[0, 2, 2], label[0, 2, 3] = 0, 1  # background and class 1 side by side
    first, second = annotation_pictures(label, num_classes=3, size=64)
    assert second == ""
    found = rgba(first)
    assert found.shape == (15, 18, 4)
    assert tuple(found[7, 7]) == (255, 255, 255, 255)
    assert tuple(found[7, 10]) == (*class_colour(1), 255)
    # the strokes cover 6..8 and 9..11 of rows 6..8; one pixel wider outside, unchanged where they meet
    assert [bool(alpha) for alpha in found[7, 4:14, 3]] == [False, *[True] * 8, False]
    assert tuple(found[7, 8, :3]) == (255, 255, 255)
    assert tuple(found[7, 9, :3]) == class_colour(1)


def test_thin_strokes_outlive_the_reduction_of_a_large_image() -> None:
    label = np.full((1, 1200, 1600), 2, np.uint8)
    label[0, 601, :] = 1
    found = rgba(annotation_pictures(label, num_classes=2, size=100)[0])
    assert max(found.shape[:2]) <= 300
    assert (found[:, :, 3] > 0).any(axis=0).all()  # unbroken from left to right


def test_pictures_are_small_and_the_same_each_time() -> None:
    label = np.zeros((1, 200, 200), np.uint8)
    label[0, 50:150, 60:140] = 1
    first = mask_pictures(label, num_classes=4, size=256)
    assert first == mask_pictures(label, num_classes=4, size=256)
    assert len(first[0]) < 4000
