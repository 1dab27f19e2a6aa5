"""Matching images, scribbles and masks by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.data.own_cases import OwnCase, find_cases
from common.errors import UserError

SERIES = ("p1/MR/s1", "p2/MR/s1")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(root: Path, images: str, labels: str | None = None, masks: str | None = None) -> dict[str, list[str | None]]:
    """Image, scribbles and mask of each case, by their paths below the root."""
    cases = find_cases(*(None if part is None else str(root / part) for part in (images, labels, masks)))  # type: ignore[arg-type]

    def below(path: Path | None) -> str | None:
        return None if path is None else path.relative_to(root).as_posix()

    return {
        case.name: [below(case.image and case.image.path), *map(below, case.scribbles), below(case.mask)]
        for case in cases
    }


def refused(root: Path, *parts: str) -> str:
    with pytest.raises(UserError) as caught:
        found(root, *parts)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{root}/", "")


def test_separate_folders(tmp_path: Path) -> None:
    touch(tmp_path, "i/p1_ED_0000.nii.gz", "i/p2.mha", "i/p3.nrrd", "l/p1_ED_scribble.nrrd", "l/sub/p2.nii.gz")
    touch(tmp_path, "m/p1_ED_gt.nii.gz", "m/p9.nii.gz")
    assert found(tmp_path, "i", "l", "m") == {
        "p1_ED": ["i/p1_ED_0000.nii.gz", "l/p1_ED_scribble.nrrd", "m/p1_ED_gt.nii.gz"],
        "p2": ["i/p2.mha", "l/sub/p2.nii.gz", None],
        "p3": ["i/p3.nrrd", None],
        "p9": [None, "m/p9.nii.gz"],
    }
    case = find_cases(str(tmp_path / "i"), str(tmp_path / "l"))[0]
    assert (case.name, case.patient, case.phase) == ("p1_ED", "p1", "ED")


def test_one_folder_for_everything(tmp_path: Path) -> None:
    touch(tmp_path, "d/p1.nii", "d/p1_scribble.nii", "d/p1_gt.nii", "d/p2.nii", "d/p2_gt.nii")
    expected = {"p1": ["d/p1.nii", "d/p1_scribble.nii", "d/p1_gt.nii"], "p2": ["d/p2.nii", "d/p2_gt.nii"]}
    assert found(tmp_path, "d", "d", "d") == expected
    assert found(tmp_path, "d/*.nii", "d/*_scribble.nii", "d/*_gt.nii") == expected
    assert found(tmp_path, "d", None, "d/*_gt.nii") == {
        "p1": ["d/p1.nii", "d/p1_gt.nii"],
        "p2": ["d/p2.nii", "d/p2_gt.nii"],
    }
    assert refused(tmp_path, "d", "d") == (
        "d/p1_gt.nii and d/p1_scribble.nii are both of case p1; rename one, or let --labels be a pattern that leaves "
        "one out"
    )


def test_folders_within_folders(tmp_path: Path) -> None:
    touch(tmp_path, "d/p1.nii", "d/labels/p1.nii", "d/labels/masks/p1.nii")
    assert found(tmp_path, "d", "d/labels", "d/labels/masks") == {
        "p1": ["d/p1.nii", "d/labels/p1.nii", "d/labels/masks/p1.nii"]
    }


def test_scribbles_of_several_annotators(tmp_path: Path) -> None:
    touch(tmp_path, "i/p1.nii", "l/p1_scribble_2.nii", "l/p1_scribble_1.nii", "m/p1_gt.nii")
    expected = ["i/p1.nii", "l/p1_scribble_1.nii", "l/p1_scribble_2.nii", "m/p1_gt.nii"]
    assert found(tmp_path, "i", "l", "m") == {"p1": expected}
    assert refused(tmp_path, "i", "m", "l") == (
        "l/p1_scribble_1.nii and l/p1_scribble_2.nii are masks of one case; keep one"
    )


def test_files_called_alike_are_named_by_their_folders(tmp_path: Path) -> None:
    touch(tmp_path, *(f"d/site/p{number}/{name}.nii" for number in (1, 2) for name in ("t2", "t2_scribble")))
    touch(tmp_path, "d/site/p1/t2_gt.nii")
    assert found(tmp_path, "d", "d/*/*/*_scribble.nii", "d/**/*_gt.nii") == {
        "p1": ["d/site/p1/t2.nii", "d/site/p1/t2_scribble.nii", "d/site/p1/t2_gt.nii"],
        "p2": ["d/site/p2/t2.nii", "d/site/p2/t2_scribble.nii", None],
    }


def test_frames_called_alike(tmp_path: Path) -> None:
    touch(tmp_path, *(f"d/p{number}/{name}.nii" for number in (1, 2) for name in ("ED", "ES")))
    touch(tmp_path, "l/p1/ED_scribble.nii", "l/p2/labels/ES.nii", "l/p2_ED.nii")
    assert found(tmp_path, "d", "l") == {
        "p1_ED": ["d/p1/ED.nii", "l/p1/ED_scribble.nii", None],
        "p1_ES": ["d/p1/ES.nii", None],
        "p2_ED": ["d/p2/ED.nii", "l/p2_ED.nii", None],
        "p2_ES": ["d/p2/ES.nii", "l/p2/labels/ES.nii", None],
    }
    assert {case.patient for case in find_cases(str(tmp_path / "d"))} == {"p1", "p2"}


@pytest.fixture
def series(tmp_path: Path, dicom_writer: Callable[..., None]) -> Path:
    for folder in SERIES:
        for number in range(2):
            path = tmp_path / "dicom" / folder / f"{number}.dcm"
            dicom_writer(path, np.zeros((4, 4), np.uint16), number=number, spacing=5.0)
    return tmp_path


def test_dicom_series_are_named_by_their_folders(series: Path) -> None:
    touch(series, "l/p1_scribble.nii.gz", "m/p2/mask.nii.gz")
    assert found(series, "dicom", "l", "m") == {
        "p1": ["dicom/p1/MR/s1", "l/p1_scribble.nii.gz", None],
        "p2": ["dicom/p2/MR/s1", "m/p2/mask.nii.gz"],
    }
    assert list(found(series, "dicom/p1")) == ["MR"]
    assert list(found(series, "dicom/p1/MR/s1")) == ["s1"]
    assert refused(series, "m", "dicom") == "dicom/p1/MR/s1: is a DICOM series; save labels as NIfTI, NRRD or MetaImage"


def test_several_series_of_a_patient(series: Path, dicom_writer: Callable[..., None]) -> None:
    for number in range(2):
        path = series / "dicom" / "p2" / "MR" / "s2" / f"{number}.dcm"
        dicom_writer(path, np.zeros((4, 4), np.uint16), number=number, spacing=5.0)
    assert list(found(series, "dicom")) == ["p1", "p2_MR_s1", "p2_MR_s2"]


def test_unmatched_scribbles_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "i/p1.nii", "l/p1.nii", "l/p2.nii", "l/p3.nii")
    assert refused(tmp_path, "i", "l") == (
        "scribbles of 2 of 3 cases have no image of their name, first l/p2.nii; rename it, or complete --images"
    )


def test_ambiguous_images_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "i/p1.nii", "i/p1.nii.gz")
    assert refused(tmp_path, "i") == (
        "i/p1.nii and i/p1.nii.gz are both of case p1; rename one, or let --images be a pattern that leaves one out"
    )


def test_channels_in_several_files(tmp_path: Path) -> None:
    touch(tmp_path, "i/p1_0000.nii", "i/p1_0001.nii")
    assert refused(tmp_path, "i") == (
        "i/p1_0001.nii: is another channel of p1_0000; put the channels into one file, or name one of them: "
        "'folder/*_0000.nii.gz'"
    )
    assert found(tmp_path, "i/*_0000.nii") == {"p1": ["i/p1_0000.nii", None]}


def test_a_file_with_two_roles(tmp_path: Path) -> None:
    touch(tmp_path, "i/p1.nii", "l/p1.nii")
    assert refused(tmp_path, "i", "l/*", "l/p*") == (
        "l/p1.nii: is given as scribble and as mask; name separate folders or patterns"
    )


def test_roles_that_names_do_not_tell(tmp_path: Path) -> None:
    touch(tmp_path, "i/p1.nii", "l/p1_label.nii")
    assert refused(tmp_path, "i", "l", "l") == (
        "l: no file there is called like scribbles (_scribble) or a coarse drawing (_coarse, _not); give --labels as a "
        "pattern"
    )
    assert refused(tmp_path, "l").endswith(": no file there is called like an image; give --images as a pattern")


def coarse_found(root: Path, *parts: str) -> dict[str, tuple[list[str], str | None, str | None]]:
    """The positive drawings, the negative one and the mask of each case, by their names."""
    cases = find_cases(*(str(root / part) for part in parts))
    return {
        case.name: (
            [path.name for path in case.scribbles],
            case.complement and case.complement.name,
            case.mask and case.mask.name,
        )
        for case in cases
        if case.coarse
    }


def test_coarse_drawings(tmp_path: Path) -> None:
    touch(tmp_path, *(f"i/p{number}.nii" for number in range(1, 5)))
    touch(tmp_path, "l/p1_coarse.nii", "l/p1_not.nii", "l/p2_not.nii", "l/p3_coarse.nii", "m/p1_gt.nii", "m/p4.nii")
    expected = {
        "p1": (["p1_coarse.nii"], "p1_not.nii", "p1_gt.nii"),
        "p2": ([], "p2_not.nii", None),
        "p3": (["p3_coarse.nii"], None, None),
    }
    assert coarse_found(tmp_path, "i", "l", "m") == expected
    assert [case.annotated for case in find_cases(str(tmp_path / "i"), str(tmp_path / "l"))] == [True] * 3 + [False]
    assert list(coarse_found(tmp_path, "i", "l/*_not.nii")) == ["p1", "p2"]
    # everything in one folder, and files called alike in the folders of the cases
    touch(tmp_path, "one/p1.nii", "one/p1_coarse.nii", "one/p1_not.nii", "one/p1_gt.nii")
    assert coarse_found(tmp_path, "one", "one", "one") == {"p1": expected["p1"]}
    touch(tmp_path, *(f"f/p{number}/{name}.nii" for number in (1, 2) for name in ("t2", "t2_coarse", "t2_not")))
    assert coarse_found(tmp_path, "f", "f") == {name: (["t2_coarse.nii"], "t2_not.nii", None) for name in ("p1", "p2")}


def test_coarse_drawings_that_make_no_sense(tmp_path: Path) -> None:
    touch(tmp_path, "i/p1.nii", "i/p2.nii", "l/p1_coarse.nii", "l/p1_not.nii", "l/p2_scribble.nii")
    mixed = (
        "l/p2_scribble.nii is called like scribbles, l/p1_coarse.nii like a coarse drawing, and no training takes "
        "both; let --labels be a pattern of one sort, or call a positive coarse drawing <case>_coarse"
    )
    assert refused(tmp_path, "i", "l") == mixed
    touch(tmp_path, "l/p1_scribble.nii")  # the case that has both is named first
    assert refused(tmp_path, "i", "l") == mixed.replace("p2_scribble", "p1_scribble")
    assert list(coarse_found(tmp_path, "i", "l/p1_[cn]o*")) == ["p1"]
    touch(tmp_path, "x/p1_not.nii", "x/p1_not.nii.gz", "y/p1_not.nii", "y/p7_not.nii")
    assert refused(tmp_path, "i", "x").startswith("x/p1_not.nii and x/p1_not.nii.gz are both of case p1; rename one")
    assert refused(tmp_path, "i", "y") == (
        "scribbles of 1 of 2 cases have no image of their name, first y/p7_not.nii; rename it, or complete --images"
    )
    with pytest.raises(
        UserError, match=r"p1_not\.nii: is called like a coarse drawing and given as a dense mask; name"
    ):
        find_cases(str(tmp_path / "i"), masks=str(tmp_path / "y"))
    touch(tmp_path, "s/p1_not.seg.nrrd")
    assert refused(tmp_path, "i", "s").startswith("s/p1_not.seg.nrrd: is a 3D Slicer segmentation")


def test_slicer_segmentations_have_to_be_exported(tmp_path: Path) -> None:
    touch(tmp_path, "i/p1.nrrd", "l/p1.seg.nrrd")
    assert refused(tmp_path, "i", "l") == (
        "l/p1.seg.nrrd: is a 3D Slicer segmentation, whose numbers follow the order of its segments; bring it to this "
        "project's values by `python -m tools import_labels`"
    )


def test_a_pattern_for_patients(tmp_path: Path) -> None:
    touch(tmp_path, "i/a_07_x.nii", "i/a_07_y.nii")
    cases = find_cases(str(tmp_path / "i"), patient_pattern=r"_(\d+)_")
    assert [case.patient for case in cases] == ["07", "07"]
    assert isinstance(cases[0], OwnCase)
