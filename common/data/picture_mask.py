"""Masks stored as pictures: one number a pixel, whatever kind of grey or indexed picture holds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UserError

__all__ = ["read_picture_mask"]


def read_picture_mask(file: Path, codes: Mapping[range, int]) -> np.ndarray:
    """Read a mask from a picture and turn its values into classes.

    Args:
        file: a grey or indexed picture (the index counts, not its colour), or a colour picture that is grey all over.
        codes: the class that the values of each range stand for.

    Returns:
        The mask [rows, columns], uint8.

    Raises:
        UserError: the picture cannot be read, has colours, or holds a value of no class.
    """
    try:
        with Image.open(file) as picture:
            values = np.asarray(picture)
    except FileNotFoundError:
        raise UserError(f"{file}: no such mask; restore the file") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{file}: cannot be read as a picture, it is cut short or damaged; copy it again") from error
    if values.ndim == 3:
        colours = values[..., : 3 if values.shape[2] >= 3 else 1]
        if (colours != colours[..., :1]).any():
            raise UserError(f"{file}: is a colour picture; a mask has one grey value for each class")
        values = colours[..., 0]
    values = values.astype(np.int64)
    mask = np.full(values.shape, 255, np.uint8)
    for span, index in codes.items():
        mask[(values >= span.start) & (values < span.stop)] = index
    unknown = values[mask == 255]
    if unknown.size:
        known = ", ".join(_text(span) for span in codes)
        raise UserError(f"{file}: holds {unknown.size} pixels of value {unknown[0]}; a mask has the values {known}")
    return mask


def _text(span: range) -> str:
    return str(span.start) if len(span) == 1 else f"{span.start}-{span.stop - 1}"
