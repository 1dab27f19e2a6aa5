"""Simulated annotations of files: what depends on what, on which grid, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from common.data import scribble_cases
from common.data.annotation_coverage import joint_counts
from common.data.label_files import LabelFile
from common.data.scribble_cases import Annotation, annotate_cases, check_drawing, highest_label
from common.errors import UserError
from common.transforms.scribble_forms import FORMS

AFFINE = np.array([[-1.2, 0.3, 0.0, 80.0], [0.4, 1.6, -0.5, -60.0], [0.02, 0.6, 7.9, 12.5], [0, 0, 0, 1]])


def heart(shape: tuple[int, int, int] = (40, 36, 4)) -> np.ndarray:
    """A ring (1) around a disc (2) in every slice along the last axis but the first."""
    rows, columns = np.indices(shape[:2])
    distance = np.hypot(rows - 18, columns - 17)
    mask = np.repeat(np.digitize(-distance, [-12, -8])[..., None], shape[2], axis=2).astype(np.uint8)
    mask[..., 0] = 0
    return mask


def save(path: Path, mask: np.ndarray, affine: np.ndarray = AFFINE) -> LabelFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(mask, affine), path)
    return LabelFile(path, path.name.partition("_")[0])


@pytest.fixture
def masks(tmp_path: Path) -> list[LabelFile]:
    return [save(tmp_path / "in" / f"p{number}_gt.nii.gz", heart()) for number in (1, 2, 3)]


def annotate(masks: list[LabelFile], folder: Path, form: str = "strokes", **options: Any) -> list[Annotation]:
    return list(annotate_cases(masks, folder, **{"num_classes": 3, "form": form} | options))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def voxels(path: str | Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


@pytest.mark.parametrize("form", FORMS)
def test_files_on_the_masks_grid(form: str, masks: list[LabelFile], tmp_path: Path) -> None:
    done = annotate(masks, tmp_path / "out", form)
    assert [each.case for each in done] == ["p1", "p2", "p3"]
    ends = ("coarse", "not") if form == "coarse" else ("scribble",)
    assert list(contents(tmp_path / "out")) == [f"p{number}_{end}.nii.gz" for number in (1, 2, 3) for end in ends]
    for each in done:
        assert each.files == {end: [str(tmp_path / "out" / f"{each.case}_{end}.nii.gz")] for end in ends}
        for name, (path,) in each.files.items():
            file, mask = nib.load(path), nib.load(masks[0].path)
            assert np.array_equal(file.affine, mask.affine)
            assert file.header.get_data_dtype() == np.uint8
            drawn = np.asarray(file.dataobj)
            counts = joint_counts(np.moveaxis(heart(), -1, 0), np.moveaxis(drawn, -1, 0), 3)
            np.testing.assert_array_equal(each.counts[name], [counts])
            if form != "coarse":
                np.testing.assert_array_equal(drawn[drawn != 3], heart()[drawn != 3])
                assert set(np.unique(drawn)) == {0, 1, 2, 3}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_seed_gives_the_same_bytes(form: str, masks: list[LabelFile], tmp_path: Path) -> None:
    annotate(masks, tmp_path / "a", form, seed=5)
    annotate(masks, tmp_path / "b", form, seed=5, jobs=2)
    annotate(masks[1:2], tmp_path / "c", form, seed=5)
    annotate(masks, tmp_path / "d", form, seed=6)
    first = contents(tmp_path / "a")
    assert contents(tmp_path / "b") == first  # whatever the number of processes
    alone = contents(tmp_path / "c")
    assert alone == {name: first[name] for name in alone}  # and whatever the other cases are
    same = contents(tmp_path / "d") == first
    assert same != FORMS[form].random
    annotate(masks, tmp_path / "a", form, seed=5)  # again, over what is there
    assert contents(tmp_path / "a") == first


def test_cases_with_one_mask_are_drawn_differently(masks: list[LabelFile], tmp_path: Path) -> None:
    one, two, _ = (voxels(each.files["scribble"][0]) for each in annotate(masks, tmp_path))
    assert (one != two).any(axis=(0, 1)).all()


@pytest.mark.parametrize("form", ["strokes", "walk"])
def test_annotators_differ_and_the_first_is_the_only_one(form: str, masks: list[LabelFile], tmp_path: Path) -> None:
    annotate(masks[:1], tmp_path / "one", form)
    (done,) = annotate(masks[:1], tmp_path / "three", form, annotators=3)
    names = [f"p1_scribble_{number}.nii.gz" for number in (1, 2, 3)]
    assert list(contents(tmp_path / "three")) == names
    assert done.files == {"scribble": [str(tmp_path / "three" / name) for name in names]}
    assert len(done.counts["scribble"]) == 3
    drawings = [voxels(path) for path in done.files["scribble"]]
    for first in range(3):
        assert set(np.unique(drawings[first])) == {0, 1, 2, 3}
        for second in range(first):
            assert (drawings[first] != drawings[second]).any(axis=(0, 1)).all()
    np.testing.assert_array_equal(drawings[0], voxels(tmp_path / "one" / "p1_scribble.nii.gz"))


def test_slices_run_along_the_axis_of_the_largest_spacing_or_the_one_that_is_given(tmp_path: Path) -> None:
    mask = np.moveaxis(heart(), 2, 0)
    file = save(tmp_path / "p1_gt.nii.gz", mask, np.diag([8.0, 1.5, 1.5, 1.0]))
    same = save(tmp_path / "in" / "p1_gt.nii.gz", heart(), np.diag([1.5, 1.5, 8.0, 1.0]))
    (first,), (second,) = annotate([file], tmp_path / "a"), annotate([same], tmp_path / "b")
    along, last = voxels(first.files["scribble"][0]), voxels(second.files["scribble"][0])
    np.testing.assert_array_equal(np.moveaxis(along, 0, 2), last)
    assert (along != 3).any(axis=(1, 2)).all()
    (other,) = annotate([file], tmp_path / "c", "skeleton", slices_axis=2)
    assert len(other.counts["scribble"][0]) == mask.shape[2]
    drawn = voxels(other.files["scribble"][0])
    np.testing.assert_array_equal(drawn[drawn != 3], mask[drawn != 3])
    assert (drawn != 3).any(axis=(0, 1)).all()


def test_other_formats_and_single_slices(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(heart().transpose(2, 1, 0))
    image.SetSpacing((1.5, 1.25, 8))
    image.SetOrigin((4, 5, 6))
    SimpleITK.WriteImage(image, str(tmp_path / "p1.nrrd"))
    SimpleITK.WriteImage(image[:, :, 2], str(tmp_path / "p2.mha"))
    plane = save(tmp_path / "p3_gt.nii.gz", heart()[..., 2])
    real = save(tmp_path / "p4_gt.nii.gz", heart().astype(np.float64))
    done = annotate(
        [LabelFile(tmp_path / "p1.nrrd", "p1"), LabelFile(tmp_path / "p2.mha", "p2"), plane, real], tmp_path
    )
    files = [nib.load(each.files["scribble"][0]) for each in done]
    assert [file.shape for file in files] == [(40, 36, 4), (40, 36), (40, 36), (40, 36, 4)]
    expected = np.diag([-1.5, -1.25, 8, 1])
    expected[:3, 3] = [-4, -5, 6]
    np.testing.assert_allclose(files[0].affine, expected)
    for file in files[1:3]:
        drawn = np.asarray(file.dataobj)
        np.testing.assert_array_equal(drawn[drawn != 3], heart()[..., 2][drawn != 3])


def test_the_share_of_the_slices(tmp_path: Path) -> None:
    masks = [save(tmp_path / f"p{depth}_gt.nii.gz", heart((40, 36, depth))) for depth in (4, 7, 10)]
    done = annotate(masks, tmp_path / "out", slice_share=0.35)
    shares = [(voxels(each.files["scribble"][0]) != 3).any(axis=(0, 1)).sum() for each in done]
    assert shares == [1, 2, 4]  # 1.4, 2.45 and 3.5, halves up


def test_the_highest_label(masks: list[LabelFile], tmp_path: Path) -> None:
    high = save(tmp_path / "p9_gt.nii.gz", np.full((3, 3, 2), 7, np.uint8))
    assert highest_label(masks) == 2
    assert highest_label([*masks, high], jobs=2) == 7


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (heart() + 1, "value 3 in a dense mask of 0..2; is num_classes right, or is it a scribble?"),
        (heart().astype(np.int16) - 1, "value -1 in a dense mask of 0..2; is num_classes right, or is it a scribble?"),
        (heart() + 0.5, "label value 0.5 is no integer; give a label map, not an image"),
        (np.full((3, 3, 2), np.nan), "label value nan is no integer; give a label map, not an image"),
        (np.zeros((3, 3, 2, 2), np.uint8), "its shape is (3, 3, 2, 2); give a volume [X, Y, Z] or a slice [X, Y]"),
    ],
)
def test_masks_that_do_not_fit(mask: np.ndarray, message: str, tmp_path: Path) -> None:
    file = save(tmp_path / "p1_gt.nii.gz", mask)
    with pytest.raises(UserError, match=f"^{re.escape(str(file.path))}: {re.escape(message)}"):
        annotate([file], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_masks(masks: list[LabelFile], tmp_path: Path) -> None:
    path = masks[1].path
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no gzip", whole[:40] + b"\xff\x00\xff" + whole[43:]):
        path.write_bytes(content)
        for jobs in (1, 2):
            with pytest.raises(UserError, match=f"^{re.escape(str(path))}: cannot be read, it is cut short, damaged"):
                annotate(masks, tmp_path / "out", jobs=jobs)
    path.unlink()
    with pytest.raises(
        UserError, match=f"^{re.escape(str(path))}: no such file; correct the path or restore the file$"
    ):
        annotate(masks, tmp_path / "out")
    image = SimpleITK.GetImageFromArray(np.zeros((2, 4, 4, 2), np.uint8), isVector=True)
    SimpleITK.WriteImage(image, str(tmp_path / "v.nrrd"))
    with pytest.raises(UserError, match=r"v\.nrrd: has 2 layers or channels; give a mask with one$"):
        annotate([LabelFile(tmp_path / "v.nrrd", "v")], tmp_path / "out")


def test_nothing_is_half_written(masks: list[LabelFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    annotate(masks, out)
    before = contents(out)

    def stop(path: Path, *_: Any) -> None:
        Path(path).with_name(f".0123456789ab.{Path(path).name}").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(scribble_cases, "write_label", stop)
        with pytest.raises(KeyboardInterrupt):
            annotate(masks, out, seed=1)
    assert {name: content for name, content in contents(out).items() if not name.startswith(".")} == before
    annotate(masks, out)
    assert contents(out) == before  # what a killed run left goes with the next one


def test_masks_are_never_replaced(tmp_path: Path) -> None:
    mask = save(tmp_path / "p1_scribble.nii.gz", heart())
    before = mask.path.read_bytes()
    with pytest.raises(UserError, match=r"p1_scribble\.nii\.gz: is what its annotation is made from, and would be"):
        annotate([mask], tmp_path)
    assert mask.path.read_bytes() == before
    with pytest.raises(UserError, match=r"its case \.\./x_scribble\.nii\.gz leads out of the output folder; rename"):
        annotate([LabelFile(mask.path, "../x")], tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, "num_classes is 1; give 2 to 255, background included"),
        ({"num_classes": 256}, "num_classes is 256; give 2 to 255, background included"),
        ({"num_classes": 3.0}, "num_classes is 3.0; give 2 to 255, background included"),
        ({"annotators": 0}, "annotators is 0; give a whole number from 1 on"),
        ({"seed": -1}, "seed is -1; give a whole number from 0 on"),
        ({"seed": "x"}, "seed is 'x'; give a whole number from 0 on"),
        ({"jobs": True}, "jobs is True; give a whole number from 1 on"),
        ({"slices_axis": 3}, "slices_axis is 3; give 0, 1 or 2, or leave it out"),
        ({"slices_axis": 1.0}, "slices_axis is 1.0; give 0, 1 or 2, or leave it out"),
        ({"form": "coarse", "annotators": 2}, "2 annotators of form coarse: an image has one such drawing; leave"),
        (
            {"form": "hull", "annotators": 2},
            "2 annotators of form hull would all draw the same; choose walk or strokes",
        ),
        ({"form": "x"}, 'unknown form "x"; choose one of skeleton, thick, hull, walk, strokes, coarse'),
        ({"width": 0}, "width is 0; give the strokes' width in pixels, a whole number from 1 on"),
        ({"slice_share": 0}, "slice_share is 0; give a number over 0 and up to 1"),
        ({"steps": 5}, "form strokes has no option steps; its options are slice_share, width"),
    ],
)
def test_options_are_checked_before_a_file_is_read(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    named = {"num_classes": 3, "form": "strokes"} | options
    nothing = LabelFile(tmp_path / "nowhere.nii.gz", "p1")
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        list(annotate_cases([nothing], tmp_path / "out", **named))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        check_drawing(**named)  # type: ignore[arg-type]
    check_drawing(None, "strokes")


def test_masks_whose_values_follow_the_order_of_segments_are_refused(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(heart().T)
    for number, (name, value) in enumerate((("LV", 1), ("MYO", 2))):
        image.SetMetaData(f"Segment{number}_Name", name)
        image.SetMetaData(f"Segment{number}_LabelValue", str(value))
    for name in ("p1.seg.nrrd", "p1_gt.nrrd"):
        SimpleITK.WriteImage(image, str(tmp_path / name))
        mask = LabelFile(tmp_path / name, "p1")
        told = f"^{re.escape(str(mask.path))}: is a 3D Slicer segmentation, whose numbers follow .*import_labels`"
        with pytest.raises(UserError, match=told):
            annotate([mask], tmp_path / "out")
        with pytest.raises(UserError, match=told):
            highest_label([mask])
    labels = tmp_path / "labels" / "final"
    mask = save(labels / "p1.nii.gz", heart())
    assert highest_label([mask]) == 2
    (tmp_path / "datastore_v2.json").write_text("{}")
    with pytest.raises(UserError, match="is a 3D Slicer segmentation"):
        highest_label([mask])
