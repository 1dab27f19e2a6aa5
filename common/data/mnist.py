"""The MNIST digits as a segmentation task: small pictures, masks of the pen strokes and a datalist.

Layout (LeCun et al., Proceedings of the IEEE 1998): ``train-images-idx3-ubyte`` and ``t10k-images-idx3-ubyte`` hold the
digits, and files with ``labels-idx1`` for ``images-idx3`` in their names hold the figures they show; all of them may
end in ``.gz``. A mask is where a digit is brighter than half of the range (Zhang et al., arXiv 2508.18186, section 4).
As a threshold alone would solve that, the pictures get noise unless they are asked for as they are.
"""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UserError
from ..files import atomic_file
from .prepared_case import case_generator, empty_datalist

__all__ = ["CLASS_NAMES", "FORMS", "NOISE", "build_mnist_datalist", "read_idx"]

CLASS_NAMES = ("background", "digit")
FORMS = ("noisy", "clean")
NOISE = 0.5
"""Standard deviation of the noise of the form ``noisy``, as a share of the range of intensities."""

_TRAINING, _VALIDATION = 600, 200
_THRESHOLD = 127
_DOWNLOAD = "copy it again from the MNIST download"


def build_mnist_datalist(
    source: str | os.PathLike[str], output: str | os.PathLike[str], *, form: str = "noisy", seed: int = 0
) -> dict[str, Any]:
    """Write pictures and masks as PNG, 8 bits and one channel each, and build their datalist.

    600 digits to train and 200 others to validate with are drawn from the training file; all digits of the other file
    are test data. Masks are those of the digits without noise. A case is named after its file and its place there,
    from 0 on. Files of an earlier run are replaced.

    Args:
        source: the folder of the IDX files; those of the figures may be missing.
        output: the folder that gets ``images/`` and ``masks/``.
        form: ``"noisy"`` (normal noise of standard deviation ``NOISE * 255`` is added, and what leaves 0..255 is
            clipped) or ``"clean"``.
        seed: seed of the draw and of the noise, which depends on the seed and the case alone.

    Returns:
        The datalist with absolute paths, ready for :func:`~.datalist_writer.write_datalist`. An item's ``"digit"`` is
        the figure that it shows; training items have dense masks.

    Raises:
        UserError: ``form`` is unknown, files are missing or damaged, or there are too few digits.
    """
    if form not in FORMS:
        raise UserError(f'unknown form "{form}" of MNIST pictures; choose one of {", ".join(FORMS)}')
    root, folder = Path(os.path.abspath(source)), Path(os.path.abspath(output))
    digits: dict[str, np.ndarray] = {}
    figures: dict[str, np.ndarray | None] = {}
    for name in ("train", "t10k"):
        file = _find(root, f"{name}-images-idx3-ubyte")
        if file is None:
            raise UserError(f"{root}: has no {name}-images-idx3-ubyte or .gz; name the folder of the MNIST download")
        digits[name] = read_idx(file, dimensions=3)
        figures[name] = _read_figures(root, name, len(digits[name]))
    found, needed = len(digits["train"]), _TRAINING + _VALIDATION
    if found < needed:
        raise UserError(f"{root}: the training file holds {found} digits, {needed} are needed; {_DOWNLOAD}")
    drawn = np.random.default_rng(seed).permutation(found)
    sections = {
        "training": ("train", np.sort(drawn[:_TRAINING])),
        "validation": ("train", np.sort(drawn[_TRAINING:needed])),
        "test": ("t10k", np.arange(len(digits["t10k"]))),
    }
    content = empty_datalist(
        "mnist",
        description=f"MNIST digits ({form}), {_TRAINING} to train and {_VALIDATION} to validate with (seed {seed}).",
        source="LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, "
        "Proceedings of the IEEE 1998.",
        class_names=CLASS_NAMES,
    )
    for section, (name, indices) in sections.items():
        extra = {"supervision": "dense"} if section == "training" else {}
        shown = figures[name]
        for index in indices.tolist():
            case = f"{name.replace('t10k', 'test')}{index:05d}"
            item = _write_digit(folder, case, digits[name][index], form, seed) | extra
            figure = {} if shown is None else {"digit": int(shown[index])}
            content[section].append(item | {"case": case, "patient": case} | figure)
    return content


def read_idx(file: Path, *, dimensions: int) -> np.ndarray:
    """Read an IDX file of bytes.

    Args:
        file: the file, compressed where it ends in ``.gz``.
        dimensions: the number of dimensions that it must have.

    Returns:
        Its array, uint8, of as many dimensions.

    Raises:
        UserError: the file is missing, holds anything else, or is shorter or longer than it says.
    """
    try:
        data = file.read_bytes()
        data = gzip.decompress(data) if file.suffix == ".gz" else data
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; {_DOWNLOAD}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file}: cannot be read, it is cut short or damaged; {_DOWNLOAD}") from error
    magic = bytes((0, 0, 8, dimensions))
    if data[:4] != magic:
        raise UserError(f"{file}: begins with {data[:4].hex() or 'nothing'} instead of {magic.hex()}; {_DOWNLOAD}")
    header = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(data[place : place + 4], "big") for place in range(4, header, 4))
    expected = header + int(np.prod(shape, dtype=object))
    if len(data) < header or len(data) != expected:
        raise UserError(f"{file}: holds {len(data)} bytes instead of {max(expected, header)}; {_DOWNLOAD}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _find(root: Path, name: str) -> Path | None:
    return next((file for file in (root / name, root / f"{name}.gz") if file.is_file()), None)


def _read_figures(root: Path, name: str, count: int) -> np.ndarray | None:
    """The figures that the digits of a file show, None where their file is missing."""
    file = _find(root, f"{name}-labels-idx1-ubyte")
    if file is None:
        return None
    figures = read_idx(file, dimensions=1)
    if len(figures) != count:
        raise UserError(f"{file}: holds {len(figures)} figures for {count} digits; {_DOWNLOAD}")
    return figures


def _write_digit(folder: Path, case: str, digit: np.ndarray, form: str, seed: int) -> dict[str, str]:
    """Write a digit's picture and mask; gives their names."""
    files = {"image": folder / "images" / f"{case}.png", "label": folder / "masks" / f"{case}.png"}
    image = _with_noise(digit, case_generator(seed, case)) if form == "noisy" else digit
    for key, pixels in (("image", image), ("label", (digit > _THRESHOLD).astype(np.uint8))):
        with atomic_file(files[key]) as temporary:
            Image.fromarray(pixels).save(temporary)
    return {key: str(path) for key, path in files.items()}


def _with_noise(digit: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    noisy = digit + generator.normal(0.0, NOISE * 255.0, digit.shape)
    return np.round(np.clip(noisy, 0.0, 255.0)).astype(np.uint8)
