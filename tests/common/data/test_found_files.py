"""Finding images in folders and by patterns."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.data.found_files import find_images
from common.errors import UserError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names_of(source: str | Path, root: Path, skip: Path | None = None) -> list[str]:
    return [entry.path.relative_to(root).as_posix() for entry in find_images(str(source), skip=skip)]


def refused(source: str | Path) -> str:
    with pytest.raises(UserError) as caught:
        find_images(str(source))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    touch(tmp_path / "d", "b.nii.gz", "a b/ü 1.nrrd", "a b/deep/c.mha", "a b/x_t2.nii", "a b/x_t1.nii", "notes.txt")
    return touch(tmp_path / "d", ".hidden.nii", ".trash/old.nii", "a b/._x_t1.nii")


def test_a_folder_with_its_subfolders(tree: Path) -> None:
    assert names_of(tree, tree) == ["a b/deep/c.mha", "a b/x_t1.nii", "a b/x_t2.nii", "a b/ü 1.nrrd", "b.nii.gz"]
    assert names_of(tree, tree, skip=tree / "a b" / "deep")[0] == "a b/x_t1.nii"
    entry = find_images(str(tree))[0]
    assert (entry.folders, entry.stem, entry.slices) == (("a b", "deep"), "c", ())


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", ["b.nii.gz"]),
        ("*/x_t?.nii", ["a b/x_t1.nii", "a b/x_t2.nii"]),
        ("*/x_t[2-9].nii", ["a b/x_t2.nii"]),
        ("**/*.mha", ["a b/deep/c.mha"]),
        ("**/x_t1.*", ["a b/x_t1.nii"]),
        ("**/b.nii.gz", ["b.nii.gz"]),
        ("a b/**", ["a b/deep/c.mha", "a b/x_t1.nii", "a b/x_t2.nii", "a b/ü 1.nrrd"]),
        ("b.nii.gz", ["b.nii.gz"]),
    ],
)
def test_patterns(tree: Path, pattern: str, found: list[str]) -> None:
    assert names_of(tree / pattern, tree) == found


def test_a_name_with_brackets_is_no_pattern_where_it_exists(tmp_path: Path) -> None:
    touch(tmp_path, "set[1]/a.nii", "set1/b.nii")
    assert names_of(tmp_path / "set[1]", tmp_path) == ["set[1]/a.nii"]


def test_relative_paths_and_home(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree.parent)
    monkeypatch.setenv("HOME", str(tree))
    assert names_of("d/*.gz", tree) == names_of("~", tree)[-1:] == ["b.nii.gz"]


def test_links_in_circles_and_second_ways(tree: Path) -> None:
    (tree / "a b" / "loop").symlink_to(tree)
    (tree / "again").symlink_to(tree / "a b")
    (tree / "self").symlink_to(tree / "self")
    (tree / "nothing.nii").symlink_to(tree / "gone.nii")
    found = names_of(tree, tree)
    assert found == ["a b/deep/c.mha", "a b/x_t1.nii", "a b/x_t2.nii", "a b/ü 1.nrrd", "b.nii.gz"]
    assert names_of(tree / "**" / "*.nii.gz", tree) == ["b.nii.gz"]


def test_one_file_under_two_names_would_be_two_cases(tree: Path) -> None:
    (tree / "c.nii.gz").symlink_to(tree / "b.nii.gz")
    assert refused(tree) == (
        f"{tree / 'b.nii.gz'} and {tree / 'c.nii.gz'} are one file under two names, a link; keep one of them"
    )


def test_what_is_not_there(tree: Path, tmp_path: Path) -> None:
    assert refused(tmp_path / "no") == f"{tmp_path / 'no'}: no such file or folder; correct the path"
    kinds = "expected files ending in .nii.gz, .nii, .nrrd, .mha, .mhd, .png, or DICOM series"
    assert refused(tree / "*.mha") == f"{tree / '*.mha'}: no image found; {kinds}"
    assert refused(tree / "notes.txt").startswith(f"{tree / 'notes.txt'}: not an image file; expected one of .nii.gz")
    assert refused("") == "a folder or pattern of images is empty; name one"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tree: Path) -> None:
    (tree / "a b").chmod(0)
    try:
        assert refused(tree) == f"{tree / 'a b'}: cannot be read (Permission denied); correct its permissions"
    finally:
        (tree / "a b").chmod(0o755)


def test_errors_of_the_file_system(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.listdir

    def listdir(folder: Path) -> list[str]:
        if Path(folder).name == "a b":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(os, "listdir", listdir)
    assert refused(tree) == f"{tree / 'a b'}: cannot be read (Permission denied); correct its permissions"


def test_a_folder_whose_files_may_not_be_opened(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "a b" and real(path, mode))
    assert refused(tree) == f"{tree / 'a b'}: cannot be read (Permission denied); correct its permissions"


def test_a_path_that_no_file_system_takes(tree: Path) -> None:
    assert refused(tree / ("x" * 300)).endswith("no such file or folder; correct the path")


def test_names_that_are_no_unicode(tree: Path) -> None:
    try:
        open(os.fsencode(tree) + b"/\xff.nii", "wb").close()
    except OSError:
        pytest.skip("this file system takes no such names")
    assert refused(tree) == f"{tree}: the name b'\\xff.nii' is no valid UTF-8; rename it"


def test_dicom_series(tmp_path: Path, dicom_writer: Callable[..., None]) -> None:
    pixels = np.zeros((4, 4), np.uint16)
    for number in range(2):
        dicom_writer(tmp_path / "p1" / "study" / f"1.2.{number}", pixels, number=number, spacing=5.0)
        dicom_writer(tmp_path / "p2" / f"{number}.dcm", pixels, number=number, spacing=5.0)
    (tmp_path / "p1" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "p2" / "readme.txt").write_text("hello")
    touch(tmp_path, "p3/volume.nii.gz")
    found = find_images(str(tmp_path))
    assert [entry.path.relative_to(tmp_path).as_posix() for entry in found] == ["p1/study", "p2", "p3/volume.nii.gz"]
    assert [[file.name for file in entry.slices] for entry in found] == [["1.2.0", "1.2.1"], ["0.dcm", "1.dcm"], []]
    assert (found[0].folders, found[0].stem) == (("p1", "study"), "study")
    assert [entry.path.name for entry in find_images(str(tmp_path / "*" / "study"))] == ["study"]
    assert [entry.path.name for entry in find_images(str(tmp_path / "*" / "*.dcm"))] == ["p2"]
    assert [entry.path.name for entry in find_images(str(tmp_path / "p2"))] == ["p2"]
