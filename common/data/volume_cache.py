"""Preprocessed volumes kept on disk, so that a second start on the same files does not resample them again."""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
import os
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

import monai
import numpy as np
import torch
from monai.transforms import Transform, reset_ops_id
from monai.utils import TraceKeys

from ..files import atomic_file, writable_folder
from ..shared_batch import process_rank
from .datalist import files_of
from .itk_header import meta_image_data
from .named_labels import naming

__all__ = ["CachedTransform"]

logger = logging.getLogger(__name__)

# what MONAI's image metadata are made of; everything else in a cached file is refused on reading
_SAFE_TYPES: list[Any] = [
    TraceKeys,
    np.ndarray,
    np.dtype,
    np.empty(0).__reduce__()[0],  # what arrays are put together by, which NumPy keeps in other places by its version
    *{
        type(np.dtype(name))
        for name in ("bool", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "S1")
    },
]

# what tells all of itself in its text
_SHOWN = (
    *(bool, int, float, complex, str, bytes, slice, range, type, Enum, PurePath),
    *(np.generic, np.dtype, torch.dtype, torch.device),
)


class CachedTransform(Transform):
    """Deterministic transforms of datalist items, whose results are kept in files and read back the next time.

    A result is found again by the paths of the item's files and everything that the transforms consist of: their
    classes, parameters and, for this package's own, their source. Where a parameter does not show what it consists of,
    nothing is kept, and a warning says so. A file that changed since (its size or time, or what a MONAI Label datastore
    calls a label's segments) replaces the older result. Files are written whole or not at all and read with
    ``weights_only=True``; one that cannot be read is made again. Of processes that train together the first one writes;
    the others read what is there already, and otherwise prepare in memory.

    Args:
        transform: deterministic transforms of a datalist item; the results hold tensors, numbers, texts and lists.
        cache_dir: folder of the files, shared by runs of any settings; empty or None for no cache.

    Raises:
        UserError: if the folder cannot be written to.
    """

    def __init__(self, transform: Callable[[dict[str, Any]], dict[str, Any]], cache_dir: str | None) -> None:
        self.transform = transform
        writes = process_rank() == 0
        self.folder = Path(writable_folder(cache_dir) if writes else cache_dir) if cache_dir else None
        self._settings = ""
        if self.folder is not None:
            try:
                self._settings = _digest([monai.__version__, torch.__version__, np.__version__, transform])
            except _NotDescribedError as error:
                logger.warning("prepared volumes are not kept: what a %s of the transforms does is not known", error)
                self.folder = None

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Return the transformed item, from its file where there is one."""
        if self.folder is None:
            return self.transform(dict(item))
        name = f"{_digest([self._settings, item])}-"
        path = self.folder / f"{name}{_digest(_stamps(files_of(item)) + _namings(item))}.pt"
        if path.is_file():
            try:
                with torch.serialization.safe_globals(_SAFE_TYPES):
                    return torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:
                logger.warning("%s: cannot be read (%s), preparing its volume again", path, type(error).__name__)
        result = self.transform(dict(item))
        reset_ops_id(result)
        if process_rank() > 0:
            return result
        with atomic_file(path) as temporary:
            torch.save(result, temporary)
        for outdated in set(self.folder.glob(f"{name}*.pt")) - {path}:
            with suppress(OSError):
                outdated.unlink()
        return result


def _stamps(files: Iterable[str]) -> list[Any]:
    """Size and time of each file, and of its voxels where they lie apart; of a folder, those of all its files."""
    stamps: list[Any] = []
    for file in files:
        within = sorted(Path(file).rglob("*")) if os.path.isdir(file) else [Path(file)]
        with suppress(OSError):
            within += meta_image_data(file)
        for path in within:
            with suppress(OSError):
                status = path.stat()
                stamps.append([path.name, status.st_size, status.st_mtime_ns])
    return stamps


def _namings(item: Mapping[str, Any]) -> list[Any]:
    """What datastores say of the item's labels, which is not in their files."""
    image = item.get("image")
    labels = [file for file in files_of(item) if file != image]
    return [found for file in labels if (found := naming(file, image)) is not None]


class _NotDescribedError(Exception):
    """An object that shows nothing of what it consists of."""


def _digest(value: Any) -> str:
    return hashlib.sha256("\n".join(_described(value, set())).encode()).hexdigest()[:32]


def _described(value: Any, seen: set[int]) -> Iterator[str]:
    """Lines that tell any two settings apart and are the same in every process."""
    if value is None or value is Ellipsis or isinstance(value, _SHOWN):
        yield repr(value)
    elif isinstance(value, (np.random.RandomState, np.random.Generator, torch.Generator)):
        yield "generator"
    elif isinstance(value, (np.ndarray, torch.Tensor)):
        yield repr(np.asarray(value).tolist())
    elif id(value) in seen:
        yield "seen"
    elif isinstance(value, Mapping):
        yield "{"
        for key in sorted(value, key=str):
            yield str(key)
            yield from _described(value[key], {*seen, id(value)})
        yield "}"
    elif isinstance(value, (list, tuple)):
        yield "["
        for element in value:
            yield from _described(element, {*seen, id(value)})
        yield "]"
    elif isinstance(value, (set, frozenset)):
        yield repr(sorted("\n".join(_described(element, {*seen, id(value)})) for element in value))
    elif isinstance(value, types.FunctionType):
        closure = [cell.cell_contents for cell in value.__closure__ or ()]
        parts = [value.__code__, value.__defaults__, value.__kwdefaults__, closure]
        yield f"{value.__module__}.{value.__qualname__}"
        yield from _described(parts, {*seen, id(value)})
    elif isinstance(value, types.CodeType):  # whose text would hold its place in memory
        yield f"{value.co_code.hex()} {value.co_names}"
        yield from _described(value.co_consts, {*seen, id(value)})
    elif isinstance(value, types.ModuleType):
        yield value.__name__
    elif isinstance(value, types.MethodType):
        yield from _described([value.__func__, value.__self__], {*seen, id(value)})
    elif isinstance(value, (types.BuiltinFunctionType, np.ufunc)):
        owner = getattr(value, "__self__", None)
        yield f"{value.__module__}.{getattr(value, '__qualname__', value.__name__)}"
        yield from _described(owner, {*seen, id(value)})
    elif isinstance(value, functools.partial):
        yield "partial"
        yield from _described([value.func, value.args, value.keywords], {*seen, id(value)})
    elif not hasattr(value, "__dict__"):
        raise _NotDescribedError(f"{type(value).__module__}.{type(value).__qualname__}")
    else:
        kind = type(value)
        yield f"{kind.__module__}.{kind.__qualname__}"
        if kind.__module__.split(".")[0] == __name__.split(".")[0]:
            yield inspect.getsource(inspect.getmodule(kind) or kind)
        yield from _described(value.__dict__, {*seen, id(value)})
