"""Packed data: what comes out is what went in, as far as the bits reach, and nothing leaves its folder."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import shutil
import tarfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from common.benchmarking.data_pack import pack_data, unpack_data
from common.data.datalist import datalist_info, load_datalist
from common.data.datalist_writer import write_datalist
from common.errors import UserError

AFFINE = np.array([[-1.5, 0, 0, 20], [0, 1.4, 0.2, -9], [0, -0.1, 8.0, 3], [0, 0, 0, 1.0]])


def save(path: Path, voxels: np.ndarray) -> str:
    nib.save(nib.Nifti1Image(voxels, AFFINE), path)
    return str(path)


@pytest.fixture
def datalist(tmp_path: Path) -> Path:
    """Images of whole numbers up to 200, of whole numbers up to 900, and of fractions, and their labels."""
    rng = np.random.default_rng(0)
    source = tmp_path / "source"
    source.mkdir()
    small = save(source / "small.nii.gz", rng.integers(0, 201, (6, 5, 3)).astype(np.int16))
    large = save(source / "large.nii.gz", rng.integers(0, 901, (6, 5, 3)).astype(np.int16))
    fractions = save(source / "fractions.nii", rng.normal(0, 3, (6, 5, 3)).astype(np.float32))
    labels = [save(source / f"l{n}.nii.gz", rng.integers(0, 5, (6, 5, 3)).astype(np.uint8)) for n in range(4)]
    (source / "p.png").write_bytes(b"picture")
    path = source / "datalist.json"
    content = {"name": "n", "num_classes": 4, "class_names": ["background", "a", "b", "c"]}
    content["training"] = [
        {"image": small, "label": [labels[0], labels[1]], "dense_label": labels[2], "case": "s", "patient": "p1"},
        {"image": large, "label": labels[1], "case": "l", "patient": "p2", "supervision": "dense"},
    ]
    content["unlabelled"] = [{"image": str(source / "p.png"), "case": "picture"}]
    content["validation"] = [{"image": fractions, "label": labels[3], "case": "f", "phase": "ED"}]
    write_datalist(path, content)
    return path


def voxels(path: str) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj, dtype=np.float64)


@pytest.mark.parametrize("bits", [8, 16])
def test_round_trip(datalist: Path, tmp_path: Path, bits: int) -> None:
    pack_data({"one": datalist, "two": datalist}, tmp_path / "packed", bits=bits)
    one, two = unpack_data(tmp_path / "packed", tmp_path / "here")
    assert (one.name, two.name) == ("one.json", "two.json")
    assert datalist_info(one) == datalist_info(datalist)
    for section in ("training", "unlabelled", "validation"):
        for before, after in zip(load_datalist(datalist, section), load_datalist(two, section), strict=True):
            assert {k: v for k, v in before.items() if k in ("case", "patient", "phase", "supervision")} == {
                k: v for k, v in after.items() if k in ("case", "patient", "phase", "supervision")
            }
            for key in ("label", "dense_label"):
                names = [before.get(key), after.get(key)]
                pairs = zip(*names, strict=True) if isinstance(names[0], list) else [names] if names[0] else []
                for old, new in pairs:
                    np.testing.assert_array_equal(voxels(old), voxels(new))
            if before["image"].endswith(".png"):
                assert Path(after["image"]).read_bytes() == b"picture"
                continue
            old, new = voxels(before["image"]), voxels(after["image"])
            np.testing.assert_allclose(nib.load(after["image"]).affine, AFFINE, atol=1e-5)
            # half a step of the range in 2^bits - 1 steps; whole numbers that fit are exact
            exact = before["case"] == "s" or (before["case"] == "l" and bits == 16)
            step = (old.max() - old.min()) / (2**bits - 1)
            assert np.abs(old - new).max() <= (0 if exact else 0.501 * step + 1e-6)
    # each file once: 3 images and 4 labels and a picture
    assert len([path for path in (tmp_path / "here").rglob("*") if path.is_file()]) == 8 + 3


def test_parts_are_small_and_the_same_each_time(datalist: Path, tmp_path: Path) -> None:
    files = pack_data({"one": datalist}, tmp_path / "packed", part_mb=0.001)
    parts = files[:-1]
    assert len(parts) > 1
    assert all(path.stat().st_size <= 1048 for path in parts)
    first = [path.read_bytes() for path in files]
    again = pack_data({"one": datalist}, tmp_path / "packed", part_mb=0.001)
    assert [path.read_bytes() for path in again] == first
    assert len(unpack_data(tmp_path / "packed", tmp_path / "here")) == 1
    # fewer parts than before: the others go
    pack_data({"one": datalist}, tmp_path / "packed", part_mb=1)
    assert sorted(path.name for path in (tmp_path / "packed").iterdir()) == ["data.tar.xz.00", "pack.json"]


def test_unpacking_again_does_nothing_and_new_data_are_noticed(datalist: Path, tmp_path: Path) -> None:
    pack_data({"one": datalist}, tmp_path / "packed")
    [made] = unpack_data(tmp_path / "packed", tmp_path / "here")
    before = made.stat().st_mtime_ns
    unpack_data(tmp_path / "packed", tmp_path / "here")
    assert made.stat().st_mtime_ns == before
    made.unlink()
    assert unpack_data(tmp_path / "packed", tmp_path / "here") == [made]
    pack_data({"one": datalist}, tmp_path / "packed", bits=16)
    unpack_data(tmp_path / "packed", tmp_path / "here")
    assert json.loads((tmp_path / "here" / "pack.json").read_text())["bits"] == 16


def test_runs_side_by_side_may_unpack_the_same(datalist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one is slower, and what the first one reads meanwhile stays as it is."""
    pack_data({"one": datalist}, tmp_path / "packed")
    target = tmp_path / "runs" / "here"
    inodes: list[dict[str, int]] = []

    def there() -> dict[str, int]:
        return {str(path): path.stat().st_ino for path in target.rglob("*") if path.is_file()}

    extract = tarfile.TarFile.extractall

    def slowly(archive: tarfile.TarFile, *args: Any, **options: Any) -> None:
        monkeypatch.setattr(tarfile.TarFile, "extractall", extract)
        unpack_data(tmp_path / "packed", target)
        inodes.append(there())
        archive.extractall(*args, **options)

    monkeypatch.setattr(tarfile.TarFile, "extractall", slowly)
    made = unpack_data(tmp_path / "packed", target)
    assert made == [target / "one.json"]
    assert len(inodes[0]) == 8 + 2
    assert there() == inodes[0]
    assert [path.name for path in target.parent.iterdir()] == ["here"], "nothing temporary is left"


def test_damage_is_found(datalist: Path, tmp_path: Path) -> None:
    files = pack_data({"one": datalist}, tmp_path / "packed", part_mb=0.001)
    content = bytearray(files[1].read_bytes())
    content[5] ^= 1
    files[1].write_bytes(content)
    with pytest.raises(UserError, match=r"data.tar.xz.01: is missing or damaged; pack the data again"):
        unpack_data(tmp_path / "packed", tmp_path / "here")
    files[0].unlink()
    with pytest.raises(UserError, match=r"data.tar.xz.00: is missing or damaged"):
        unpack_data(tmp_path / "packed", tmp_path / "here")
    (tmp_path / "packed" / "pack.json").write_text("{}")
    with pytest.raises(UserError, match=r"pack.json: cannot be read"):
        unpack_data(tmp_path / "packed", tmp_path / "here")


def test_nothing_is_unpacked_outside(datalist: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with lzma.open(buffer, "wb") as stream, tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../outside.txt"), io.BytesIO())
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "data.tar.xz.00").write_bytes(buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    manifest = {"suites": ["one"], "parts": {"data.tar.xz.00": digest}}
    (tmp_path / "bad" / "pack.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"bad: cannot be unpacked"):
        unpack_data(tmp_path / "bad", tmp_path / "here")
    assert not (tmp_path / "outside.txt").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_that_no_training_takes_is_not_packed(datalist: Path, tmp_path: Path, value: float) -> None:
    image = voxels(str(datalist.parent / "fractions.nii"))
    image[0, 0, :2] = value
    save(datalist.parent / "fractions.nii", image.astype(np.float32))
    with pytest.raises(UserError, match=r"fractions.nii: holds 2 NaN or infinite voxels; replace them by numbers"):
        pack_data({"one": datalist}, tmp_path / "packed")


def test_mistakes(datalist: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--bits is 12; give 8 or 16"):
        pack_data({"one": datalist}, tmp_path / "packed", bits=12)
    with pytest.raises(UserError, match=r"--part_mb is 0; give a number above 0"):
        pack_data({"one": datalist}, tmp_path / "packed", part_mb=0)
    save(datalist.parent / "l3.nii.gz", np.full((6, 5, 3), 1.5, np.float32))
    with pytest.raises(UserError, match=r"l3.nii.gz: holds values from 1.5 to 1.5; a label has whole numbers"):
        pack_data({"one": datalist}, tmp_path / "packed")
    shutil.copy(datalist, datalist.parent / "l3.nii.gz")
    with pytest.raises(UserError, match=r"l3.nii.gz: cannot be read"):
        pack_data({"one": datalist}, tmp_path / "packed")
