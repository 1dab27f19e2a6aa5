"""List the images of a folder for inference."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from monai.config import PathLike

from ..errors import UserError
from ..transforms.save_segmentation import segmentation_path
from .case_names import IMAGE_EXTENSIONS, is_left_out
from .phantom import default_phantom_dir, ensure_phantom

__all__ = ["list_images"]

logger = logging.getLogger(__name__)


def list_images(
    dataset_dir: PathLike,
    *,
    output_dir: PathLike | None = None,
    exclude: Sequence[str] | None = None,
    extensions: Sequence[str] = IMAGE_EXTENSIONS,
) -> list[dict[str, str]]:
    """List every image below a folder, sorted by name; the default phantom is made first where it is missing.

    Links are followed. Hidden files and folders, label files and 4D series (by the end of their name) and what lies in
    ``output_dir`` are left out.

    Args:
        dataset_dir: a folder, or one image file.
        output_dir: folder of the results, not searched where it lies inside ``dataset_dir``.
        exclude: ends of file names, before the extension, that are left out; None as :func:`~.case_names.is_left_out`.
        extensions: file name extensions of images; upper and lower case are the same.

    Returns:
        Items ``{"image": path, "case": path below dataset_dir without extension}``.

    Raises:
        UserError: if the folder is missing, unreadable or without an image, or if the label maps of two images would
            have the same name.
    """
    root = Path(os.path.expanduser(dataset_dir))
    if root.absolute() == default_phantom_dir():
        ensure_phantom(root)
    endings = tuple(sorted((extension.lower() for extension in extensions), key=len, reverse=True))
    if root.is_file():
        case = _case(root.name, endings)
        if case is None:
            raise UserError(f"{root}: not an image file; expected one of {', '.join(extensions)}")
        return [{"image": str(root), "case": case}]
    if not root.is_dir():
        raise UserError(f"{root}: no such file or folder; set dataset_dir to the folder of the images")

    results = None if output_dir is None else os.path.realpath(os.path.expanduser(output_dir))
    items: list[dict[str, str]] = []
    for path in _walk(root, (), results):
        case = _case(path.name, endings)
        if case is not None and not is_left_out(case, exclude):
            items.append({"image": str(path), "case": (path.relative_to(root).parent / case).as_posix()})
    if not items:
        raise UserError(f"{root}: no image found; expected files ending in {', '.join(extensions)}")
    items.sort(key=lambda item: item["image"])
    _check_names(items, root)
    return items


def _walk(folder: Path, ancestors: tuple[str, ...], results: str | None) -> Iterator[Path]:
    """Yield the files below a folder, entering no folder inside itself through a link."""
    real = os.path.realpath(folder)
    if real in ancestors or (real == results and ancestors):
        return
    try:
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); correct its permissions") from error
    for entry in entries:
        if os.path.isdir(entry.path):
            yield from _walk(Path(entry.path), (*ancestors, real), results)
        elif os.path.isfile(entry.path):
            yield Path(entry.path)
        else:
            logger.warning("%s: left out, a link to nothing or no plain file", entry.path)


def _case(name: str, endings: Sequence[str]) -> str | None:
    """Return a file name without its image extension, or None if it has none."""
    ending = next((ending for ending in endings if name.lower().endswith(ending)), None)
    return None if ending is None else name[: -len(ending)] or None


def _check_names(items: Sequence[dict[str, str]], root: Path) -> None:
    taken: dict[Path, str] = {}
    for item in items:
        name = segmentation_path(item["image"], output_dir="", data_root_dir=root)
        if name in taken:
            raise UserError(f"{taken[name]} and {item['image']} would both be saved as {name}: rename or move one")
        taken[name] = item["image"]
