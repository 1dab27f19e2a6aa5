"""Preprocessed volumes on disk: found again, made again when a file or a setting changes, never half written."""

from __future__ import annotations

import functools
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

import forked_programs
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Lambdad, LoadImaged, ScaleIntensityd, Spacingd

from common.data.volume_cache import CachedTransform
from common.errors import UserError
from common.transforms.orient_slices import OrientSlicesd


class Counting:
    """Transforms that count their calls."""

    def __init__(self, *transforms: Any) -> None:
        self.transform = Compose(list(transforms))

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        Counting.calls += 1
        return self.transform(item)


@pytest.fixture(autouse=True)
def _from_zero() -> None:
    Counting.calls = 0


def write(path: Path, seed: int = 0) -> None:
    voxels = np.random.default_rng(seed).integers(0, 900, (9, 4, 8)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([1.5, 8.0, 1.2, 1.0])), path)


@pytest.fixture
def item(tmp_path: Path) -> dict[str, Any]:
    write(tmp_path / "image.nii.gz")
    return {"image": str(tmp_path / "image.nii.gz"), "case": "a"}


def pipeline(pixdim: float = 2.0, **options: Any) -> Counting:
    return Counting(
        LoadImaged("image", ensure_channel_first=True),
        OrientSlicesd("image"),
        Spacingd("image", pixdim=(pixdim, pixdim, -1)),
        ScaleIntensityd("image", **options),
    )


def test_the_second_time_is_read_from_disk(item: dict[str, Any], tmp_path: Path) -> None:
    first = CachedTransform(pipeline(), str(tmp_path / "cache"))(item)
    again = CachedTransform(pipeline(), str(tmp_path / "cache"))(item)
    assert Counting.calls == 1
    assert isinstance(again["image"], MetaTensor)
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["image"].affine, again["image"].affine)
    assert again["case"] == "a"
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".pt"]


def test_what_was_read_back_can_be_inverted(item: dict[str, Any], tmp_path: Path) -> None:
    transform = pipeline().transform
    CachedTransform(transform, str(tmp_path / "cache"))(item)
    fresh = pipeline().transform
    read = CachedTransform(fresh, str(tmp_path / "cache"))(item)
    read["pred"] = MetaTensor(read["image"].as_tensor(), meta=read["image"].meta)
    back = Invertd("pred", transform=fresh, orig_keys="image", nearest_interp=False)(read)["pred"]
    assert back.shape[1:] == (9, 4, 8)
    np.testing.assert_allclose(back.affine, np.diag([1.5, 8.0, 1.2, 1.0]), atol=1e-6)


@pytest.mark.parametrize("changed", [pipeline(pixdim=2.5), pipeline(minv=-1.0), Counting(LoadImaged("image"))])
def test_other_settings_are_prepared_apart(item: dict[str, Any], tmp_path: Path, changed: Counting) -> None:
    CachedTransform(pipeline(), str(tmp_path / "cache"))(item)
    CachedTransform(changed, str(tmp_path / "cache"))(item)
    assert Counting.calls == 2
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_functions_are_told_apart_by_what_they_do(item: dict[str, Any], tmp_path: Path) -> None:
    def added(number: int) -> Counting:
        return Counting(LoadImaged("image"), Lambdad("image", lambda image: image + number))

    results = [CachedTransform(added(n), str(tmp_path / "cache"))(item)["image"].min() for n in (1, 2, 1)]
    assert Counting.calls == 2
    assert results[1] == results[0] + 1 == results[2] + 1


# pairs that differ in one thing each
ALIKE: list[tuple[Any, Any]] = [
    (lambda x: torch.log1p(x), lambda x: torch.sqrt(x)),
    (lambda x: [torch.sqrt(y) for y in x], lambda x: [torch.log1p(y) for y in x]),
    (torch.log1p, torch.sqrt),
    (np.log1p, np.sqrt),
    (np.clip, np.sum),
    (functools.partial(np.clip, a_max=1), functools.partial(np.clip, a_max=100)),
    (functools.partial(np.clip), functools.partial(np.sum)),
    (re.compile("a").pattern.upper, re.compile("b").pattern.upper),
    (Counting(Spacingd("image", 1.0)).__call__, Counting(Spacingd("image", 2.0)).__call__),
    (Path("/a"), Path("/b")),
    (np.int64(3), np.int64(4)),
    (np.float32(3), np.float32(4)),
    (slice(0, 3), slice(0, 4)),
    (range(3), range(4)),
    (3 + 0j, 4 + 0j),
    (torch.device("cpu"), torch.device("meta")),
    ({(1, 2)}, {(1, 3)}),
]


@pytest.mark.parametrize("pair", ALIKE, ids=lambda pair: str(pair[0]).partition(" at ")[0])
def test_parameters_of_any_kind_are_told_apart(tmp_path: Path, pair: tuple[Any, Any]) -> None:
    def names(parameter: Any) -> list[str]:
        transform = Counting()
        transform.parameter = parameter
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        CachedTransform(transform, str(folder))({"case": "a"})
        return [path.name for path in folder.iterdir()]

    first, again, second = names(pair[0]), names(pair[0]), names(pair[1])
    assert first == again
    assert len(first) == 1
    assert first != second


def test_nothing_is_kept_of_what_does_not_show_its_parts(
    item: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    transform = pipeline()
    transform.secret = object()
    with caplog.at_level(logging.WARNING):
        cached = CachedTransform(transform, str(tmp_path / "cache"))
    cached(item)
    cached(item)
    line = "prepared volumes are not kept: what a builtins.object of the transforms does is not known"
    assert [record.message for record in caplog.records if record.name == "common.data.volume_cache"] == [line]
    assert Counting.calls == 2
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("told", "data"), [("a.raw", "a.raw"), ("LIST\n{}.raw", "{}.raw"), ("{}%02d.raw 1 3 1", "{}{:02d}.raw")]
)
def test_changed_voxels_beside_a_header_replace_their_result(tmp_path: Path, told: str, data: str) -> None:
    header = tmp_path / "a.mhd"
    told, voxels = told.format("b"), [np.full((5, 4), number, np.int16) for number in range(3)]
    files = [tmp_path / data.format("b", number + 1) for number in range(3)] if "%" in told else []
    if files:
        for file, plane in zip(files, voxels, strict=True):
            plane.tofile(file)
    else:
        files = [tmp_path / data.format("b")]
        np.stack(voxels).tofile(files[0])
    text = "ObjectType = Image\nNDims = 3\nDimSize = 4 5 3\nElementType = MET_SHORT\nElementDataFile = "
    header.write_text(text + told + "\n")

    def highest(given: dict[str, Any]) -> dict[str, Any]:
        Counting.calls += 1
        return {"highest": [int(np.fromfile(file, np.int16).max()) for file in files]}

    cached = CachedTransform(highest, str(tmp_path / "cache"))
    before = cached({"image": str(header)})
    assert cached({"image": str(header)}) == before
    np.full(files[-1].stat().st_size // 2, 7, np.int16).tofile(files[-1])
    assert cached({"image": str(header)})["highest"][-1] == 7
    assert Counting.calls == 2


def test_a_changed_file_replaces_its_result(item: dict[str, Any], tmp_path: Path) -> None:
    before = CachedTransform(pipeline(), str(tmp_path / "cache"))(item)["image"]
    write(Path(item["image"]), seed=1)
    os.utime(item["image"], ns=(1, 1))
    after = CachedTransform(pipeline(), str(tmp_path / "cache"))(item)["image"]
    assert Counting.calls == 2
    assert not torch.equal(before, after)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_changed_slice_of_a_series_counts(item: dict[str, Any], tmp_path: Path) -> None:
    series = tmp_path / "series"
    series.mkdir()
    (series / "1.dcm").write_bytes(b"one")

    def sizes(given: dict[str, Any]) -> dict[str, Any]:
        Counting.calls += 1
        return {"sizes": [path.stat().st_size for path in Path(given["image"]).iterdir()]}

    folder = {"image": str(series)}
    assert CachedTransform(sizes, str(tmp_path / "cache"))(folder) == {"sizes": [3]}
    (series / "1.dcm").write_bytes(b"other")
    assert CachedTransform(sizes, str(tmp_path / "cache"))(folder) == {"sizes": [5]}
    assert CachedTransform(sizes, str(tmp_path / "cache"))(folder) == {"sizes": [5]}
    assert Counting.calls == 2


def test_damaged_and_unsafe_files_are_made_again(item: dict[str, Any], tmp_path: Path) -> None:
    expected = CachedTransform(pipeline(), str(tmp_path / "cache"))(item)["image"]
    (path,) = (tmp_path / "cache").iterdir()
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", None):
        if content is None:
            torch.save({"image": Path("anything")}, path)  # a type that weights_only refuses
        else:
            path.write_bytes(content)
        again = CachedTransform(pipeline(), str(tmp_path / "cache"))(item)["image"]
        assert torch.equal(again, expected)
    assert Counting.calls == 4


def test_another_process_finds_it(item: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose sets have another order: it is not forked from this one."""
    program = (
        "import sys; from monai.transforms import Compose, Lambdad, LoadImaged, Spacingd\n"
        "from common.data.volume_cache import CachedTransform\n"
        "from common.transforms.orient_slices import OrientSlicesd\n"
        "pipeline = Compose([LoadImaged('image', ensure_channel_first=True), OrientSlicesd('image'),"
        " Spacingd('image', pixdim=(2.0, 2.0, -1)), Lambdad('image', lambda x: (lambda y: y in {'a', 'b'}) and x)])\n"
        "CachedTransform(pipeline, sys.argv[1])({'image': sys.argv[2]})\n"
    )
    words = [str(tmp_path / "cache"), item["image"]]

    def files() -> list[tuple[str, int]]:
        return sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "cache").iterdir())

    forked_programs.run(["-c", program, *words], timeout=60).check_returncode()
    first = files()
    monkeypatch.setattr(sys, "argv", ["-c", *words])
    exec(program, {"__name__": "__main__"})
    assert files() == first != []


def test_no_cache(item: dict[str, Any], tmp_path: Path) -> None:
    for _ in range(2):
        CachedTransform(pipeline(), "")(item)
    assert Counting.calls == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.nii.gz"]


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/cache: cannot write there"):
        CachedTransform(pipeline(), str(tmp_path / "file" / "cache"))


def test_of_several_processes_the_first_writes(
    item: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.data.volume_cache.process_rank", lambda: 1)
    other = CachedTransform(pipeline(), str(tmp_path / "cache"))
    prepared = other(item)["image"]
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr("common.data.volume_cache.process_rank", lambda: 0)
    CachedTransform(pipeline(), str(tmp_path / "cache"))(item)
    assert Counting.calls == 2
    monkeypatch.setattr("common.data.volume_cache.process_rank", lambda: 1)
    assert torch.equal(other(item)["image"], prepared)
    assert Counting.calls == 2
