"""Check sums of compressed images: what the readers take without a word must not pass."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from common.data.compressed_files import check_compressed
from common.errors import UserError

ENDINGS = (".nii.gz", ".mha", ".nrrd", ".mhd")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a compressed volume of each ending, and uncompressed ones called ``plain``."""
    folder = tmp_path_factory.mktemp("whole")
    voxels = np.random.default_rng(0).normal(100, 20, (5, 40, 60)).astype(np.uint8)
    image = SimpleITK.GetImageFromArray(voxels)
    for ending in ENDINGS:
        SimpleITK.WriteImage(image, folder / f"a{ending}", useCompression=True)
    for ending in (".nii", ".mha", ".nrrd", ".mhd"):
        SimpleITK.WriteImage(image, folder / f"plain{ending}", useCompression=False)
    return folder


def voxel_file(path: Path) -> Path:
    return path.with_suffix(".zraw") if path.suffix == ".mhd" else path


def damaged_copy(source: Path, folder: Path, content: bytes) -> Path:
    """The file in another folder, its voxels replaced."""
    (folder / source.name).write_bytes(source.read_bytes())
    (folder / voxel_file(source).name).write_bytes(content)
    return folder / source.name


def test_whole_files_pass(whole: Path) -> None:
    files = [path for path in whole.iterdir() if path.suffix not in (".raw", ".zraw")]
    assert len(files) == 8
    for path in files:
        check_compressed(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_flipped_bits_do_not_pass(whole: Path, tmp_path: Path, ending: str) -> None:
    source = whole / f"a{ending}"
    content = voxel_file(source).read_bytes()
    for at in np.random.default_rng(1).integers(500, len(content), 30):
        flipped = content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]
        with pytest.raises(UserError, match=rf"a{ending}: is damaged or cut short; copy or export it again$"):
            check_compressed(damaged_copy(source, tmp_path, flipped))


@pytest.mark.parametrize("ending", ENDINGS)
def test_cut_files_do_not_pass(whole: Path, tmp_path: Path, ending: str) -> None:
    source = whole / f"a{ending}"
    content = voxel_file(source).read_bytes()
    for length in (len(content) // 2, len(content) - 1):
        with pytest.raises(UserError, match="damaged or cut short"):
            check_compressed(damaged_copy(source, tmp_path, content[:length]))


def test_a_reader_alone_takes_other_voxels(whole: Path, tmp_path: Path) -> None:
    """Why there is a check at all: nibabel reads as many bytes as it needs, and never comes to the check sum."""
    content = gzip.decompress((whole / "a.nii.gz").read_bytes())
    other = bytearray(content)
    other[5000] ^= 1
    packed = gzip.compress(bytes(other))
    (tmp_path / "b.nii.gz").write_bytes(packed[:-8] + zlib.crc32(content).to_bytes(4, "little") + packed[-4:])
    assert np.asarray(nib.load(tmp_path / "b.nii.gz").dataobj).shape == (60, 40, 5)
    with pytest.raises(UserError, match="damaged"):
        check_compressed(tmp_path / "b.nii.gz")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "a.nrrd"])
@pytest.mark.parametrize("content", [b"", b"\n", b"ObjectType", b"NRRD0004\n", b"x" * 200_000])
def test_what_is_no_such_file_is_for_the_reader_to_refuse(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    if name == "a.nii.gz" and content:
        with pytest.raises(UserError, match="damaged"):
            check_compressed(tmp_path / name)
    else:
        check_compressed(tmp_path / name)


def test_files_that_cannot_be_opened_are_for_the_reader_to_refuse(tmp_path: Path) -> None:
    check_compressed(tmp_path / "missing.nii.gz")
    (tmp_path / "folder.mha").mkdir()
    check_compressed(tmp_path / "folder.mha")


def test_voxels_elsewhere(whole: Path, tmp_path: Path) -> None:
    """Voxel files that are not there are for the reader to miss; an NRRD header may name one too."""
    (tmp_path / "a.mhd").write_bytes((whole / "a.mhd").read_bytes())
    check_compressed(tmp_path / "a.mhd")
    (tmp_path / "a.nrrd").write_bytes(b"NRRD0004\nencoding: gzip\ndata file: a.raw.gz\n\nno voxels")
    check_compressed(tmp_path / "a.nrrd")


def test_gzip_of_several_members(tmp_path: Path) -> None:
    """As programs write that compress in parallel."""
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(b"one") + gzip.compress(b"two"))
    check_compressed(path)
    path.write_bytes(gzip.compress(b"one") + gzip.compress(b"two")[:-9])
    with pytest.raises(UserError, match="damaged"):
        check_compressed(path)


def meta_image(path: Path, **changes: str | None) -> Path:
    """A compressed file of 60 x 40 x 5 bytes with other lines in its header."""
    image = SimpleITK.GetImageFromArray(np.random.default_rng(0).integers(0, 9, (5, 40, 60), np.uint8))
    SimpleITK.WriteImage(image, path, useCompression=True)
    content = path.read_bytes()
    for key, value in changes.items():
        start = content.index(f"{key} = ".encode())
        end = content.index(b"\n", start) + 1
        content = content[:start] + (b"" if value is None else value.encode() + b"\n") + content[end:]
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"DimSize": "DimSize = 61 40 5"},
        {"ElementType": "ElementType = MET_USHORT"},
        {"CompressedDataSize": "CompressedDataSize = 50"},
        {"DimSize": "DimSize = 60 40 5\nElementNumberOfChannels = 3"},
    ],
)
def test_fewer_voxels_than_a_meta_image_says(tmp_path: Path, changes: dict[str, str]) -> None:
    check_compressed(meta_image(tmp_path / "a.mha"))
    with pytest.raises(UserError, match=r"a\.mha: is damaged or cut short; copy or export it again$"):
        check_compressed(meta_image(tmp_path / "a.mha", **changes))


def test_a_damaged_line_does_not_hide_damaged_voxels(tmp_path: Path) -> None:
    path = meta_image(tmp_path / "a.mha", CompressedDataSize="CompressedDataSize - 50")
    content = path.read_bytes()
    path.write_bytes(content[:-100] + bytes([content[-100] ^ 4]) + content[-99:])
    with pytest.raises(UserError, match=r"a\.mha: is damaged or cut short"):
        check_compressed(path)


@pytest.mark.parametrize("value", ["LIST", "slice%03d.raw 1 5 1"])
def test_voxels_in_several_files(tmp_path: Path, value: str) -> None:
    path = meta_image(tmp_path / "a.mha", ElementDataFile=f"ElementDataFile = {value}")
    with pytest.raises(UserError, match=r"a\.mha: has its voxels in several files; save it as one$"):
        check_compressed(path)


def test_pictures(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60), np.uint8)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    check_compressed(tmp_path / "a.png")
    for at in range(60, len(content) - 12, 97):
        (tmp_path / "b.png").write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with pytest.raises(UserError, match=r"b\.png: is damaged or cut short; copy or export it again$"):
            check_compressed(tmp_path / "b.png")
    (tmp_path / "c.png").write_text("no picture")
    check_compressed(tmp_path / "c.png")
