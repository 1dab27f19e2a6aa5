"""list_images: what counts as an image of a folder tree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from common.data.inference_items import list_images
from common.errors import UserError


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def cases(root: Path, **options) -> list[str]:
    return [item["case"] for item in list_images(root, **options)]


def test_tree(tmp_path: Path) -> None:
    make(
        tmp_path,
        "p2/b.nii",
        "p1/a_frame01.nii.gz",
        "p1/a_frame01_gt.nii.gz",
        "p1/a_frame01_scribble.nii.gz",
        "p1/a_frame01_seg.nii.gz",
        "p1/a_frame01_coarse.nii.gz",
        "p1/a_frame01_not.nii.gz",
        "p1/a_frame01_mask.nii.gz",
        "p1/a_frame01_scribble_2.nii.gz",
        "p1/a_frame01_GT.nii.gz",
        "p1/a_4D.nii.gz",
        "p1/a_frame01.seg.nrrd",
        "c_manual.mha",
        "c.MHA",
        "d.v2.png",
        "e.nrrd",
        "notes.txt",
        ".hidden.nii",
        ".cache/x.nii",
        ".nii.gz",
    )
    items = list_images(tmp_path)
    assert [item["case"] for item in items] == ["c", "d.v2", "e", "p1/a_frame01", "p2/b"]
    assert items[3]["image"] == str(tmp_path / "p1/a_frame01.nii.gz")
    assert cases(tmp_path, extensions=[".nii"]) == ["p2/b"]
    assert cases(tmp_path, extensions=[".mha"], exclude=[]) == ["c", "c_manual"]


def test_single_file(tmp_path: Path) -> None:
    make(tmp_path, "a_gt.nii.gz", "notes.txt")
    assert list_images(tmp_path / "a_gt.nii.gz") == [{"image": str(tmp_path / "a_gt.nii.gz"), "case": "a_gt"}]
    with pytest.raises(UserError, match=r"notes\.txt: not an image file; expected one of \.nii\.gz, "):
        list_images(tmp_path / "notes.txt")


def test_links_are_followed_and_loops_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "in/p1/a.nii", "store/b.nii")
    os.symlink(tmp_path / "store", tmp_path / "in/linked")
    os.symlink(tmp_path / "in", tmp_path / "in/p1/up")
    os.symlink(tmp_path / "in/p1", tmp_path / "store/other")
    os.symlink("me.nii", tmp_path / "in/me.nii")
    os.symlink("nowhere.nii", tmp_path / "in/gone.nii")
    assert cases(tmp_path / "in") == ["linked/b", "linked/other/a", "p1/a"]
    assert "gone.nii: left out" in caplog.text


def test_results_inside_the_folder_are_left_out(tmp_path: Path) -> None:
    make(tmp_path, "a.nii", "results/b.nii", "results2/c.nii")
    assert cases(tmp_path, output_dir=tmp_path / "results") == ["a", "results2/c"]
    assert cases(tmp_path, output_dir=tmp_path) == ["a", "results/b", "results2/c"]


def test_equal_output_names(tmp_path: Path) -> None:
    make(tmp_path, "p/a.nii", "q/a.nii", "p/a.png", "a.mha")
    assert cases(tmp_path) == ["a", "p/a", "p/a", "q/a"]
    make(tmp_path, "p/a.nii.gz")
    with pytest.raises(UserError, match=r"p/a\.nii and .*p/a\.nii\.gz would both be saved as p/a_seg\.nii\.gz: rename"):
        list_images(tmp_path)


def test_nothing_to_do(tmp_path: Path) -> None:
    make(tmp_path, "a_gt.nii.gz")
    expected = r"no image found; expected files ending in \.nii\.gz, \.nii, \.nrrd, \.mha, \.mhd, \.png"
    with pytest.raises(UserError, match=expected) as caught:
        list_images(tmp_path)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(UserError, match="absent: no such file or folder; set dataset_dir"):
        list_images(tmp_path / "absent")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_unreadable_folder(tmp_path: Path) -> None:
    make(tmp_path, "a.nii", "locked/b.nii")
    (tmp_path / "locked").chmod(0)
    try:
        with pytest.raises(UserError, match=r"locked: cannot be read \(Permission denied\)"):
            list_images(tmp_path)
    finally:
        (tmp_path / "locked").chmod(0o755)
