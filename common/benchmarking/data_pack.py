"""The files of datalists in 8 or 16 bits, compressed into parts that are small enough to carry."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ..data.datalist import datalist_info, load_datalist
from ..data.datalist_writer import FILE_KEYS
from ..data.nifti_writer import nifti_volume
from ..data.prepared_case import KIND_OF_SECTION
from ..errors import UserError
from ..files import NIFTI_EXTENSIONS, atomic_file, read_text, staged_folder, write_json

__all__ = ["pack_data", "unpack_data"]

_MANIFEST, _PART = "pack.json", "data.tar.xz.{:02d}"
_LABELS = {"label", "dense_label", "complement"}
_TYPES = {8: np.uint8, 16: np.uint16}


def pack_data(datalists: Mapping[str, Path], folder: Path, *, bits: int = 8, part_mb: float = 24.0) -> list[Path]:
    """Pack the volumes of datalists, each once.

    Labels are kept as they are. An image whose values are whole numbers that fit into the bits is kept exactly; any
    other is scaled to use all of them, which changes a value by at most half of one step of its range, and says so in
    its header. Pictures (PNG, GIF) go along as files.

    Args:
        datalists: the datalists by the name of their suite.
        folder: gets the parts and ``pack.json``, which knows them by their SHA-256.
        bits: 8 or 16.
        part_mb: the most megabytes of a part.

    Returns:
        The files written.

    Raises:
        UserError: an option is out of its range, a datalist or a file is faulty, or a file cannot be written.
    """
    if bits not in _TYPES:
        raise UserError(f"--bits is {bits!r}; give 8 or 16")
    if not part_mb > 0:
        raise UserError(f"--part_mb is {part_mb!r}; give a number above 0")
    names: dict[str, str] = {}
    contents = {f"{suite}.json": _renamed(path, names) for suite, path in datalists.items()}
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    with lzma.open(buffer, "wb", preset=6) as stream, tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in sorted(contents.items()):
            _add(archive, name, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode())
        for source, name in sorted(names.items(), key=lambda pair: pair[1]):
            _add(archive, name, _bytes_of(Path(source), name, bits))
    whole, size = buffer.getvalue(), int(part_mb * 2**20)
    written = []
    parts = {_PART.format(index): whole[start : start + size] for index, start in enumerate(range(0, len(whole), size))}
    for old in folder.glob(_PART.format(0)[:-2] + "*"):
        old.unlink()
    for name, part in parts.items():
        with atomic_file(folder / name) as temporary:
            temporary.write_bytes(part)
        written.append(folder / name)
    manifest = {"bits": bits, "suites": sorted(datalists), "files": len(names)}
    manifest |= {"parts": {name: hashlib.sha256(part).hexdigest() for name, part in parts.items()}}
    write_json(folder / _MANIFEST, manifest, indent=1)
    return [*written, folder / _MANIFEST]


def unpack_data(folder: Path, target: Path) -> list[Path]:
    """Unpack what :func:`pack_data` wrote, unless it has been done before.

    Args:
        folder: the folder of the parts.
        target: the folder of ``<suite>.json`` and the files; one of other data is replaced as a whole.

    Returns:
        The datalists.

    Raises:
        UserError: a part is missing or changed, or names a file outside of the target.
    """
    try:
        manifest = json.loads(read_text(folder / _MANIFEST))
        suites, expected = list(manifest["suites"]), dict(manifest["parts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / _MANIFEST}: cannot be read; pack the data again") from error
    made = [target / f"{suite}.json" for suite in suites]
    if _is_unpacked(target, manifest, made):
        return made
    chunks = []
    for name, digest in sorted(expected.items()):
        path = folder / os.path.basename(name)
        chunks.append(path.read_bytes() if path.is_file() else b"")
        if hashlib.sha256(chunks[-1]).hexdigest() != digest:
            raise UserError(f"{path}: is missing or damaged; pack the data again")
    with staged_folder(target, lambda: _is_unpacked(target, manifest, made)) as staging:
        try:
            with lzma.open(io.BytesIO(b"".join(chunks))) as stream, tarfile.open(fileobj=stream) as archive:
                archive.extractall(staging, filter="data")
        except (lzma.LZMAError, tarfile.TarError, EOFError) as error:
            raise UserError(f"{folder}: cannot be unpacked ({error}); pack the data again") from error
        write_json(staging / _MANIFEST, manifest, indent=1)
    return made


def _is_unpacked(target: Path, manifest: Any, made: list[Path]) -> bool:
    stamp = target / _MANIFEST
    return stamp.is_file() and json.loads(read_text(stamp)) == manifest and all(path.is_file() for path in made)


def _renamed(datalist: Path, names: dict[str, str]) -> dict[str, Any]:
    """A datalist whose files have the names that they get in the pack, which are put down in ``names``."""
    content: dict[str, Any] = dict(datalist_info(datalist))
    for section in KIND_OF_SECTION:
        items = []
        for item in load_datalist(datalist, section, required=False):
            packed = dict(item)
            for key in FILE_KEYS:
                if key in item:
                    several = item[key] if isinstance(item[key], list) else [item[key]]
                    given = [names.setdefault(file, _name(file, key, len(names))) for file in several]
                    packed[key] = given if isinstance(item[key], list) else given[0]
            items.append(packed)
        content[section] = items
    return content


def _name(file: str, key: str, number: int) -> str:
    """A name that tells what the file is, and that no other file has."""
    kind = "labels" if key in _LABELS else "images"
    base = os.path.basename(file)
    base = base.removesuffix(".gz") if _is_nifti(base) else base
    return f"{kind}/{number:04d}_{base}"


def _is_nifti(name: str) -> bool:
    return name.lower().endswith(NIFTI_EXTENSIONS)


def _bytes_of(source: Path, name: str, bits: int) -> bytes:
    if not _is_nifti(source.name):
        return source.read_bytes()
    try:
        volume: Any = nib.load(source)
        voxels = np.asanyarray(volume.dataobj)
    except Exception as error:
        raise UserError(f"{source}: cannot be read ({type(error).__name__}); restore it") from error
    label = name.startswith("labels/")
    stored, slope, offset = _quantised(voxels, _TYPES[8 if label else bits], str(source), exact=label)
    image = nifti_volume(stored, volume.affine)
    image.header.set_slope_inter(slope, offset)
    return image.to_bytes()


def _quantised(voxels: np.ndarray, kind: type, source: str, *, exact: bool) -> tuple[np.ndarray, float, float]:
    """The voxels as whole numbers of a type, with the slope and the offset that lead back."""
    if bad := int(np.count_nonzero(~np.isfinite(voxels))):
        raise UserError(f"{source}: holds {bad} NaN or infinite voxels; replace them by numbers")
    low, high = float(voxels.min()), float(voxels.max())
    most = float(np.iinfo(kind).max)
    if low >= 0 and high <= most and np.array_equal(voxels, np.round(voxels)):
        return voxels.astype(kind), 1.0, 0.0
    if exact:
        raise UserError(f"{source}: holds values from {low:g} to {high:g}; a label has whole numbers from 0 to 255")
    slope = (high - low) / most or 1.0
    return np.round((voxels.astype(np.float64) - low) / slope).astype(kind), slope, low


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
