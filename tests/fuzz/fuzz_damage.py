"""Damage to files of images and labels: to their bytes, their headers, their voxels, and where they lie.

A damage is a function of the file's path and a random generator. It says what has to come of it for an image and for a
label: "error" (it is refused by name), "same" (the result is that of the healthy file) or "any" of the two and a
result of its own. What is ``gone`` is no file any more: commands that search a folder do not find it.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from fuzz_files import AFFINE, SHAPE, VOLUMES, image, mask, save
from PIL import Image

Apply = Callable[[Path, np.random.Generator], None]
NIFTI = (".nii.gz", ".nii")
ANY = (*VOLUMES, ".png")
GZIP_CHECKED = (".nii.gz",)


class Damage(NamedTuple):
    """What is done, to files of which endings, and what has to come of it; ``seeded`` if each seed does another."""

    apply: Apply
    endings: tuple[str, ...]
    image: str = "error"
    label: str = "error"
    seeded: bool = False
    gone: bool = False


DAMAGES: dict[str, Damage] = {}


def damage(name: str, endings: tuple[str, ...], **expected: Any) -> Callable[[Apply], Apply]:
    def register(apply: Apply) -> Apply:
        DAMAGES[name] = Damage(apply, endings, **expected)
        return apply

    return register


def _register(name: str, endings: tuple[str, ...], apply: Apply, **expected: Any) -> None:
    DAMAGES[name] = Damage(apply, endings, **expected)


def _payload(path: Path) -> Path:
    """The file with the voxels: of a ``.mhd`` header its neighbour."""
    return path.with_suffix(".raw") if path.suffix == ".mhd" else path


def _cut(share: float = 1.0, less: int = 0) -> Apply:
    def apply(path: Path, _: np.random.Generator) -> None:
        target = _payload(path)
        data = target.read_bytes()
        target.write_bytes(data[: max(int(len(data) * share) - less, 0)])

    return apply


def _bytes(content: bytes) -> Apply:
    return lambda path, _: _ignore(path.write_bytes(content))


def _ignore(_: object) -> None:
    return None


def _picture() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


for _share in (0.02, 0.25, 0.5, 0.9):
    _register(f"cut_to_{_share:g}", ANY if _share < 0.6 else VOLUMES, _cut(_share))
_register("cut_last_bytes", VOLUMES, _cut(less=9))
_register("cut_end_mark", (".png",), _cut(less=9), image="any", label="any")
_register("cut_last_byte", (".nii.gz", ".nii", ".mhd"), _cut(less=1))
_register("empty", ANY, _cut(0))
_register("zeros", ANY, _bytes(b"\0" * 5000))
_register("text", ANY, _bytes(b"liver spleen kidney\n" * 40))
_register("web_page", ANY, _bytes(b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n" * 9))
_register("git_lfs_pointer", ANY, _bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"))
_register("zip", ANY, _bytes(b"PK\x03\x04" + b"\x14\0\0\0\x08\0" * 200))
_register("picture_inside", NIFTI, _bytes(_picture()))
_register("picture_as_volume", (".nrrd", ".mha", ".mhd"), _bytes(_picture()), image="any", label="any")
_register("gzip_of_nothing", ANY, _bytes(gzip.compress(b"")))
_register("gzip_of_junk", ANY, _bytes(gzip.compress(b"\1\2\3" * 999)))


@damage("not_compressed", (".nii.gz",), image="any", label="any")
def _not_compressed(path: Path, _: np.random.Generator) -> None:
    path.write_bytes(gzip.decompress(path.read_bytes()))


@damage("compressed_twice", (".nii.gz", ".nii", ".nrrd", ".mha"))
def _compressed_twice(path: Path, _: np.random.Generator) -> None:
    path.write_bytes(gzip.compress(gzip.compress(path.read_bytes())))


@damage("bytes_behind_the_end", (".nii.gz",), image="any", label="any")
def _bytes_behind(path: Path, _: np.random.Generator) -> None:
    path.write_bytes(path.read_bytes() + b"more")


@damage("flip", (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".png"), image="any", label="any", seeded=True)
def _flip(path: Path, rng: np.random.Generator) -> None:
    """One to three flipped bits anywhere."""
    target = path if rng.random() < 0.5 else _payload(path)
    data = bytearray(target.read_bytes())
    for place in rng.integers(0, 8 * len(data), rng.integers(1, 4)):
        data[place // 8] ^= 1 << (place % 8)
    target.write_bytes(data)


@damage("scramble", (".nii.gz", ".nii", ".nrrd", ".mha", ".png"), image="any", label="any", seeded=True)
def _scramble(path: Path, rng: np.random.Generator) -> None:
    """A stretch of other bytes, and perhaps a cut."""
    data = bytearray(path.read_bytes())
    start, length = int(rng.integers(0, len(data))), int(rng.integers(1, 80))
    data[start : start + length] = rng.bytes(length)
    path.write_bytes(data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data)


def _edit_nifti(path: Path, change: Callable[[bytearray], None]) -> None:
    """Change the bytes of a NIfTI file, and give it a check sum that fits."""
    packed = path.name.endswith(".gz")
    raw = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    change(raw)
    path.write_bytes(gzip.compress(bytes(raw)) if packed else bytes(raw))


@damage("header_flip", NIFTI, image="any", label="any", seeded=True)
def _header_flip(path: Path, rng: np.random.Generator) -> None:
    """Flipped bits in the header, under a check sum that fits."""

    def change(raw: bytearray) -> None:
        for place in rng.integers(0, 8 * 352, rng.integers(1, 6)):
            raw[place // 8] ^= 1 << (place % 8)

    _edit_nifti(path, change)


@damage("header_scramble", NIFTI, image="any", label="any", seeded=True)
def _header_scramble(path: Path, rng: np.random.Generator) -> None:
    """Fields that readers use, each with a value that tests a limit."""
    fields = [("h", 40 + 2 * index) for index in range(8)] + [("h", 70), ("h", 72), ("h", 252), ("h", 254), ("i", 0)]
    fields += [("f", 76 + 4 * index) for index in range(8)] + [("f", place) for place in (108, 112, 116, 280, 300)]
    limits = {
        "h": [0, -1, 1, 2, 3, 7, 8, 128, 255, 256, 512, 1024, 1536, 1792, 2048, 2304, 32767, -32768],
        "i": [0, 348, 540, -1, 2**31 - 1],
        "f": [0.0, -1.0, 1.0, 1e-38, 1e38, float("nan"), float("inf"), -float("inf"), 352.0, 3.4e38],
    }

    def change(raw: bytearray) -> None:
        for _ in range(rng.integers(1, 4)):
            kind, place = fields[rng.integers(len(fields))]
            value = limits[kind][rng.integers(len(limits[kind]))]
            raw[place : place + struct.calcsize(kind)] = struct.pack(f"<{kind}", value)

    _edit_nifti(path, change)


def _field(form: str, place: int, *values: float) -> Apply:
    def change(raw: bytearray) -> None:
        raw[place : place + struct.calcsize(f"<{form}")] = struct.pack(f"<{form}", *values)

    return lambda path, _: _edit_nifti(path, change)


_NAN, _INF = float("nan"), float("inf")
_register("nifti_wrong_magic", NIFTI, _field("4s", 344, b"n+9\0"))
_register("nifti_pair_magic", NIFTI, _field("4s", 344, b"ni1\0"), image="any", label="any")
_register("nifti_header_size", NIFTI, _field("i", 0, 349), image="any", label="any")
_register("nifti_zero_axis", NIFTI, _field("4h", 40, 3, 9, 0, 4))
_register("nifti_zero_axes", NIFTI, _field("8h", 40, 3, 0, 0, 0, 0, 0, 0, 0))
_register("nifti_no_dimensions", NIFTI, _field("h", 40, 0), image="any", label="any")
_register("nifti_eight_dimensions", NIFTI, _field("h", 40, 8))
_register("nifti_negative_dimensions", NIFTI, _field("h", 40, -3))
_register("nifti_negative_axis", NIFTI, _field("4h", 40, 3, 9, -8, 4))
_register("nifti_huge_2_gb", NIFTI, _field("4h", 40, 3, 1024, 1024, 1300))
_register("nifti_huge_70_gb", NIFTI, _field("4h", 40, 3, 32767, 32767, 33))
_register("nifti_huge_7d", NIFTI, _field("8h", 40, 7, *[32767] * 7))
_register("nifti_one_slice_more", NIFTI, _field("4h", 40, 3, *SHAPE[:2], SHAPE[2] + 1))
_register("nifti_unknown_type", NIFTI, _field("h", 70, 9999))
_register("nifti_type_zero", NIFTI, _field("h", 70, 0))
_register("nifti_colours", NIFTI, _field("2h", 70, 128, 24))
_register("nifti_complex", NIFTI, _field("2h", 70, 32, 64))
_register("nifti_long_double", NIFTI, _field("2h", 70, 1536, 128))
_register("nifti_far_offset", NIFTI, _field("f", 108, 1e9))
_register("nifti_negative_offset", NIFTI, _field("f", 108, -500.0), image="any", label="any")
_register("nifti_nan_offset", NIFTI, _field("f", 108, _NAN), image="any", label="any")
_register("nifti_nan_slope", NIFTI, _field("2f", 112, _NAN, 0), image="same", label="same")
_register("nifti_zero_slope", NIFTI, _field("2f", 112, 0, 0), image="same", label="same")
_register("nifti_infinite_slope", NIFTI, _field("2f", 112, _INF, 0), image="any", label="any")
_register("nifti_half_slope", NIFTI, _field("2f", 112, 0.5, 0), image="any", label="error")
_register("nifti_huge_slope", NIFTI, _field("2f", 112, 3e38, 0), image="any", label="error")
_register("nifti_negative_spacing", NIFTI, _field("3f", 80, -1.5, -1.25, -8), image="any", label="any")
_register("nifti_zero_spacing_no_matrix", NIFTI, lambda path, _: _no_matrix(path, 0.0), image="any", label="any")
_register("nifti_negative_spacing_no_matrix", NIFTI, lambda path, _: _no_matrix(path, -1.5), image="any", label="any")
_register("nifti_nan_spacing_no_matrix", NIFTI, lambda path, _: _no_matrix(path, _NAN))
_register("nifti_singular_matrix", NIFTI, _field("4f", 280, 0, 0, 0, 0))
_register("nifti_nan_matrix", NIFTI, _field("f", 284, _NAN))
_register("nifti_infinite_matrix", NIFTI, _field("f", 296, _INF))
_register("nifti_huge_matrix", NIFTI, _field("4f", 280, 1e30, 0, 0, 0), image="any", label="any")
_register("nifti_other_place", NIFTI, _field("f", 292, 500.0), image="any", label="any")
_register("nifti_unknown_form_codes", NIFTI, _field("2h", 252, 99, -7), image="any", label="any")
_register("nifti_extension_flag", NIFTI, _field("i", 348, 1), image="any", label="any")


def _no_matrix(path: Path, spacing: float) -> None:
    """Spacings alone, as in files of old programs."""
    _field("3f", 80, spacing, spacing, spacing)(path, np.random.default_rng(0))
    _field("2h", 252, 0, 0)(path, np.random.default_rng(0))


@damage("nifti_2", NIFTI, image="same", label="same")
def _nifti_2(path: Path, _: np.random.Generator) -> None:
    volume = nib.load(path)
    nib.save(nib.Nifti2Image(np.asanyarray(volume.dataobj).copy(), volume.affine), path)


@damage("nifti_big_endian", NIFTI, image="same", label="same")
def _big_endian(path: Path, _: np.random.Generator) -> None:
    volume = nib.load(path)
    header = volume.header.as_byteswapped(">")
    nib.save(nib.Nifti1Image(np.asanyarray(volume.dataobj).copy(), None, header), path)


def _voxels(change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray = AFFINE) -> Apply:
    """Write the file anew with other voxels or an other affine."""

    def apply(path: Path, _: np.random.Generator) -> None:
        is_label = any(word in path.stem for word in ("_gt", "_seg", "_scribble"))
        healthy = mask(int("_seg" in path.stem)) if is_label else image()
        if "_scribble" in path.stem:
            healthy = np.where(mask() == 0, 3, mask())
        path.unlink()
        save(path, change(healthy), affine)

    return apply


def _with(value: float, dtype: Any = np.float32) -> Apply:
    def change(voxels: np.ndarray) -> np.ndarray:
        voxels = voxels.astype(dtype)
        voxels[4, 4, 1] = value
        return voxels

    return _voxels(change)


_register("nan", VOLUMES, _with(_NAN))
_register("infinite", VOLUMES, _with(_INF))
_register("all_nan", VOLUMES, _voxels(lambda voxels: np.full(voxels.shape, _NAN, np.float32)))
_register("half", VOLUMES, _with(0.5), image="any", label="error")
_register("large_label", VOLUMES, _with(1e30), image="any", label="error")
_register("negative_label", VOLUMES, _with(-1, np.int16), image="any", label="error")
_register("label_255", VOLUMES, _with(255, np.int16), image="any", label="error")
_register("four_axes", VOLUMES, _voxels(lambda voxels: np.stack([voxels] * 4, axis=-1)), image="any")
_register("two_axes", NIFTI, _voxels(lambda voxels: voxels[..., 0]), image="any", label="any")
_register("one_axis", NIFTI, _voxels(lambda voxels: voxels[:, 0, 0]))
_register("another_shape", VOLUMES, _voxels(lambda voxels: voxels[:-1]), image="any", label="any")
_register("one_voxel", VOLUMES, _voxels(lambda voxels: voxels[:1, :1, :1]), image="any", label="any")
_register("constant", VOLUMES, _voxels(lambda voxels: voxels * 0), image="any", label="any")
_register("far_away", VOLUMES, _voxels(lambda voxels: voxels, AFFINE + 300 * np.eye(4, k=3)), image="any", label="any")
_register(
    "mirrored", VOLUMES, _voxels(lambda voxels: voxels, AFFINE @ np.diag([-1, 1, 1, 1])), image="any", label="any"
)


def _replace(make: Callable[[Path], object]) -> Apply:
    def apply(path: Path, _: np.random.Generator) -> None:
        path.unlink()
        make(path)

    return apply


def _circle(path: Path) -> None:
    other = path.with_name(f"other_{path.name}")
    path.symlink_to(other)
    other.symlink_to(path)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(here)


_register("missing", ANY, _replace(lambda path: None), gone=True)
_register("folder", ANY, _replace(lambda path: path.mkdir()), gone=True)
_register("full_folder", ANY, _replace(lambda path: shutil.copytree(path.parent, path)), gone=True)
_register("dangling_link", ANY, _replace(lambda path: path.symlink_to("nowhere.nii.gz")), gone=True)
_register("link_to_itself", ANY, _replace(lambda path: path.symlink_to(path.name)), gone=True)
_register("links_in_a_circle", ANY, _replace(_circle), gone=True)
_register("link_to_zeros", ANY, _replace(lambda path: path.symlink_to("/dev/zero")), gone=True)
_register("fifo", ANY, _replace(os.mkfifo), gone=True)
_register("socket", ANY, _replace(_socket), gone=True)


@damage("linked", ANY, image="same", label="same")
def _linked(path: Path, _: np.random.Generator) -> None:
    """The file itself lies elsewhere, in a folder that no command searches."""
    home = path.parent.parent / ".store"
    home.mkdir()
    for file in {path, _payload(path)}:
        shutil.move(file, home / file.name)
        file.symlink_to(home / file.name)


@damage("folder_in_a_circle", ANY, image="same", label="same")
def _folder_in_a_circle(path: Path, _: np.random.Generator) -> None:
    (path.parent / "again").symlink_to(path.parent, target_is_directory=True)


@damage("twin_of_other_format", VOLUMES, image="any", label="any")
def _twin(path: Path, _: np.random.Generator) -> None:
    """Two files of one case."""
    stem = path.name.split(".")[0]
    save(path.with_name(f"{stem}{'.nrrd' if path.name.endswith('.nii.gz') else '.nii.gz'}"), mask())


@damage("twin_in_a_subfolder", ANY, image="any", label="any")
def _twin_below(path: Path, _: np.random.Generator) -> None:
    (path.parent / "copy of é").mkdir()
    shutil.copy(path, path.parent / "copy of é" / path.name)


@damage("hidden_twin", ANY, image="same", label="same")
def _hidden_twin(path: Path, _: np.random.Generator) -> None:
    """What macOS puts beside each file on foreign disks."""
    (path.parent / f"._{path.name}").write_bytes(b"\0\5\26\7" * 99)


@damage("name_that_is_no_unicode", ANY, image="any", label="any")
def _no_unicode(path: Path, _: np.random.Generator) -> None:
    shutil.copy(path, os.path.join(os.fsencode(path.parent), b"\xff\xfe_" + os.fsencode(path.name)))


for _name in ("flip", "scramble", "cut_to_0.5", "empty", "folder", "fifo"):
    DAMAGES[_name] = DAMAGES[_name]._replace(endings=(*DAMAGES[_name].endings, ".events"))


@damage("one_file", ("tree",), image="any", seeded=True)
def _one_file(path: Path, rng: np.random.Generator) -> None:
    """Some damage to some file of a folder's tree."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    kinds = ("flip", "scramble", "cut_to_0.5", "empty", "text", "picture_inside", "missing", "folder", "dangling_link")
    DAMAGES[kinds[rng.integers(len(kinds))]].apply(files[rng.integers(len(files))], rng)
