"""Finding label files and naming what is written for them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from common.data.label_files import annotation_file, earlier_annotations, find_label_files, label_entries
from common.errors import UserError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def found(source: Path | str, **options: tuple[str, ...]) -> dict[str, str]:
    return {entry.case: entry.path.name for entry in find_label_files(str(source), option="--masks", **options)}


def test_of_a_folder_with_images_the_masks_are_taken(tmp_path: Path) -> None:
    touch(tmp_path, "p1.nii.gz", "p1_gt.nii.gz", "sub/p2_mask.nrrd", "p3_label.mha", "p4_scribble.nii.gz", "p5.png")
    assert found(tmp_path) == {"p1": "p1_gt.nii.gz", "p2": "p2_mask.nrrd", "p3": "p3_label.mha"}
    assert found(tmp_path, roles=("scribble",)) == {"p4": "p4_scribble.nii.gz"}


def test_a_folder_of_masks_alone_and_what_was_written_to_it(tmp_path: Path) -> None:
    touch(tmp_path, "p2.nii.gz", "p1.nii.gz")
    touch(tmp_path, "p1_scribble.nii.gz", "p1_scribble_2.nii.gz", "p2_coarse.nii.gz", "p2_not.nii.gz")
    assert list(found(tmp_path)) == ["p1", "p2"]


def test_files_and_patterns_are_taken_as_they_are(tmp_path: Path) -> None:
    touch(tmp_path, "p1.nii.gz", "p1_gt.nii.gz", "p1_scribble.nii.gz")
    assert found(tmp_path / "p1.nii.gz") == {"p1": "p1.nii.gz"}
    assert found(tmp_path / "*_scribble.nii.gz") == {"p1": "p1_scribble.nii.gz"}


def test_files_that_are_called_alike_are_named_by_their_folders(tmp_path: Path) -> None:
    touch(tmp_path, "p1/mask.nii.gz", "p2/mask.nii.gz")
    assert list(found(tmp_path)) == ["p1", "p2"]


def test_what_cannot_be_found(tmp_path: Path) -> None:
    touch(tmp_path, "p1.png")
    message = f"{tmp_path}: no label file found; give a folder of files ending in .nii.gz, .nii, .nrrd, .mha, .mhd"
    with pytest.raises(UserError, match=f"^{re.escape(message)}.* such as _gt, _mask or _seg"):
        found(tmp_path)
    with pytest.raises(UserError, match=r"such as _scribble or _label\)$"):
        found(tmp_path, roles=("scribble",))
    touch(tmp_path, "p1_gt.nii.gz", "p1_seg.nii.gz")
    with pytest.raises(UserError, match=r"are both of case p1; rename one, or let --masks be a pattern"):
        found(tmp_path)


def test_a_folder_may_be_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "p1_gt.nii.gz", "out/p1_scribble.nii.gz")
    entries = label_entries(str(tmp_path), roles=("mask", "scribble"), skip=tmp_path / "out")
    assert [entry.path.name for entry in entries] == ["p1_gt.nii.gz"]


def test_the_file_of_an_annotation(tmp_path: Path) -> None:
    mask = tmp_path / "in" / "p1.nii.gz"
    left = [tmp_path / f".{number:012x}.p1_scribble.nii.gz" for number in range(2)]
    touch(tmp_path, "in/p1.nii.gz", *(path.name for path in left), ".000000000000.p2_scribble.nii.gz")
    assert annotation_file(tmp_path, "p1_scribble.nii.gz", mask) == tmp_path / "p1_scribble.nii.gz"
    assert not any(path.exists() for path in left)  # what a killed process left there
    assert (tmp_path / ".000000000000.p2_scribble.nii.gz").exists()


def test_files_that_must_not_be_written(tmp_path: Path) -> None:
    touch(tmp_path, "p1.nii.gz", "image.nii.gz")
    os.link(tmp_path / "image.nii.gz", tmp_path / "p1_scribble.nii.gz")
    sources = (tmp_path / "p1.nii.gz", tmp_path / "image.nii.gz")
    with pytest.raises(UserError, match=r"p1_scribble\.nii\.gz: is what its annotation is made from, and would be"):
        annotation_file(tmp_path, "p1_scribble.nii.gz", *sources)
    for name in ("../p1.nii.gz", "/p1.nii.gz", "a/../../p1.nii.gz"):
        with pytest.raises(
            UserError, match=r"p1\.nii\.gz: its case .* leads out of the output folder; rename the case"
        ):
            annotation_file(tmp_path, name, *sources)


def test_annotations_that_an_earlier_run_left(tmp_path: Path) -> None:
    stale = ["p1_coarse.nii.gz", "p1_scribble_2.nii.gz", "sub/p2_not.nii.gz"]
    others = ["p1.nii.gz", "p1_gt.nii.gz", "p1_scribble.nrrd", "p10_scribble.nii.gz", "p2_not.nii.gz", "p3_not.nii.gz"]
    written = ["p1_scribble_1.nii.gz", "sub/p2_scribble.nii.gz"]
    touch(tmp_path, *stale, *others, *written, ".000000000000.p1_scribble.nii.gz")
    told = earlier_annotations(tmp_path, ["p1", "sub/p2"], [str(tmp_path / name) for name in written])
    assert [line.split(" was there before; ")[0] for line in told] == [str(tmp_path / name) for name in stale]
