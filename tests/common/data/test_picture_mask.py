"""Masks stored as pictures."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.data.picture_mask import read_picture_mask
from common.errors import UserError

CODES = {range(1): 0, range(55, 71): 1, range(240, 256): 2, range(39, 40): 1}
VALUES = np.array([[0, 55, 70, 39], [240, 255, 63, 0], [0, 0, 0, 252]], np.uint8)
MASK = [[0, 1, 1, 1], [2, 2, 1, 0], [0, 0, 0, 2]]


def save(path: Path, picture: Image.Image) -> Path:
    picture.save(path)
    return path


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "I;16"])
def test_kinds_of_pictures(tmp_path: Path, mode: str) -> None:
    if mode == "P":  # the index counts, whatever its colour
        picture = Image.fromarray(VALUES, "P")
        picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    elif mode == "I;16":
        picture = Image.fromarray(VALUES.astype(np.uint16))
    else:
        picture = Image.fromarray(VALUES).convert(mode)
    mask = read_picture_mask(save(tmp_path / "mask.png", picture), CODES)
    assert mask.dtype == np.uint8
    assert mask.tolist() == MASK


def test_a_picture_of_one_bit(tmp_path: Path) -> None:
    file = save(tmp_path / "mask.png", Image.fromarray(VALUES > 0))
    np.testing.assert_array_equal(read_picture_mask(file, {range(1): 0, range(1, 256): 1}), VALUES > 0)


@pytest.mark.parametrize("value", [1, 54, 71, 40, 239])
def test_values_of_no_class(tmp_path: Path, value: int) -> None:
    file = save(tmp_path / "mask.png", Image.fromarray(np.array([[0, value, value]], np.uint8)))
    message = f"{file}: holds 2 pixels of value {value}; a mask has the values 0, 55-70, 240-255, 39"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        read_picture_mask(file, CODES)


def test_pictures_that_are_no_masks(tmp_path: Path) -> None:
    file = tmp_path / "mask.png"
    with pytest.raises(UserError, match=r"mask\.png: no such mask; restore the file$"):
        read_picture_mask(file, CODES)
    save(file, Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)))
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UserError, match=r"mask\.png: cannot be read as a picture"):
        read_picture_mask(file, CODES)
    save(file, Image.fromarray(np.arange(36, dtype=np.uint8).reshape(3, 4, 3)))
    with pytest.raises(UserError, match=r"mask\.png: is a colour picture"):
        read_picture_mask(file, CODES)
