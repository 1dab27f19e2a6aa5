"""Slices as small PNG pictures within a page: images in grey or 256 colours, and see-through labels over them."""

from __future__ import annotations

import base64
import io
from functools import reduce

import numpy as np
from PIL import Image
from scipy import ndimage

from .palette import class_colour

__all__ = ["annotation_pictures", "image_pictures", "mask_pictures"]

_FILL_ALPHA, _EDGE_ALPHA = 110, 255
_EDGE = 5
"""Pixels, of labels as they are drawn, in whose middle an outline stands where they are of several classes."""
_FINE = 3
"""Labels are drawn this much finer than the image, so that outlines and strokes are thin and smooth in place."""


def image_pictures(image: np.ndarray, *, size: int) -> list[str]:
    """Encode the slices of an image.

    Args:
        image: ``[S, H, W]`` or ``[S, H, W, 3]``, uint8.
        size: the most pixels of the longer side; larger images are reduced.

    Returns:
        A data URI for each slice.
    """
    height, width = _reduced(image.shape[1], image.shape[2], size)
    found = []
    for pixels in image:
        picture = Image.fromarray(pixels)
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        found.append(_uri(picture.quantize(256) if picture.mode == "RGB" else picture))
    return found


def mask_pictures(label: np.ndarray, *, num_classes: int, size: int) -> list[str]:
    """Encode the slices of a dense label: classes filled lightly, with an outline.

    Args:
        label: ``[S, H, W]``; the background and values from ``num_classes`` on are not drawn.
        num_classes: number of classes with background.
        size: as for :func:`image_pictures`; labels may be three times finer.

    Returns:
        A data URI for each slice, empty for one without any class.
    """
    fine = _resized(np.where(label < num_classes, label, 0).astype(np.uint8), size=size)
    inside = _of_window(np.minimum, fine) == _of_window(np.maximum, fine)
    return [_labels_uri(drawn, num_classes) for drawn in np.where(inside | (fine == 0), fine, fine + num_classes)]


def annotation_pictures(label: np.ndarray, *, num_classes: int, size: int) -> list[str]:
    """Encode the slices of an annotation: strokes in full colour, a little wider than they are, background in white.

    Args:
        label: ``[S, H, W]``; the value ``num_classes`` is not annotated.
        num_classes: number of classes with background.
        size: as for :func:`mask_pictures`.

    Returns:
        A data URI for each slice, empty for one without annotation.
    """
    height, width = label.shape[1:]
    # strokes must outlive the reduction of a large image, in which single pixels get lost
    reach = max(1.0, max(height, width) / (_FINE * size))
    found = []
    for pixels in label:
        strokes = pixels != num_classes
        if reach > 1 and strokes.any():
            pixels = _spread(pixels, strokes, reach)
        fine = _resized(pixels[None], size=size)[0]
        strokes = fine != num_classes
        grown = _spread(fine, strokes, 1.0) if strokes.any() else fine
        drawn = np.where(grown == num_classes, 0, grown + num_classes)
        found.append(_labels_uri(drawn, num_classes))
    return found


def _of_window(smallest_or_largest: np.ufunc, label: np.ndarray) -> np.ndarray:
    """The smallest or the largest value around each pixel, as SciPy's filters give it, in a tenth of their time."""
    reach = _EDGE // 2
    found = np.pad(label, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    for _ in range(2):  # along the rows, then along the columns
        extent = found.shape[1] - 2 * reach
        found = reduce(smallest_or_largest, [found[:, first : first + extent] for first in range(_EDGE)])
        found = found.swapaxes(1, 2)
    return found


def _spread(label: np.ndarray, strokes: np.ndarray, reach: float) -> np.ndarray:
    """Widen strokes by ``reach`` pixels; where two meet, neither covers the other."""
    distance, nearest = ndimage.distance_transform_edt(~strokes, return_indices=True)
    return np.where(distance <= reach, label[tuple(nearest)], label)


def _resized(label: np.ndarray, *, size: int) -> np.ndarray:
    """Make ``[S, H, W]`` finer by repetition, or coarser by leaving pixels out where it is large."""
    height, width = label.shape[1:]
    factor = max(height, width) / (_FINE * size)
    if factor <= 1:
        repeat = min(_FINE, max(1, int(1 / factor)))
        return label.repeat(repeat, axis=1).repeat(repeat, axis=2)
    rows, columns = (np.arange(int(extent / factor)) for extent in (height, width))
    return label[:, ((rows + 0.5) * factor).astype(int)][:, :, ((columns + 0.5) * factor).astype(int)]


def _reduced(height: int, width: int, size: int) -> tuple[int, int]:
    share = min(1.0, size / max(height, width))
    return max(1, round(height * share)), max(1, round(width * share))


def _labels_uri(drawn: np.ndarray, num_classes: int) -> str:
    """A palette picture: 0 is see-through, 1 to C-1 are fillings, C to 2C-1 outlines or strokes of classes 0 to C-1."""
    if not drawn.any():
        return ""
    colours = [class_colour(index) for index in range(num_classes)]
    alpha = [0] + [_FILL_ALPHA] * (num_classes - 1) + [_EDGE_ALPHA] * num_classes
    picture = Image.fromarray(drawn.astype(np.uint8))
    picture.putpalette([value for colour in colours * 2 for value in colour])
    return _uri(picture, transparency=bytes(alpha))


def _uri(picture: Image.Image, **options: bytes) -> str:
    data = io.BytesIO()
    picture.save(data, format="PNG", **options)  # "optimize" takes ten times as long for a sixth of the bytes
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode("ascii")
