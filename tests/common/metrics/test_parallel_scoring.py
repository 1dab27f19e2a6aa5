"""Scoring from file to file, in one process and in several, and what is said of files that cannot be scored."""

from __future__ import annotations

import gzip
import math
import multiprocessing
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from common.errors import UserError
from common.metrics import parallel_scoring
from common.metrics.case_files import Reference
from common.metrics.parallel_scoring import score_cases

NAMES = ["background", "RV", "LV"]
AFFINE = np.diag([2.0, 1.5, 5.0, 1.0])


def volume(shift: int = 0) -> np.ndarray:
    """RV a bar of 4 voxels along the first axis, LV a block."""
    voxels = np.zeros((12, 6, 4), np.uint8)
    voxels[1 + shift : 5 + shift, 0, 0] = 1
    voxels[6:9, 2:5, 1:3] = 2
    return voxels


def saved(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> str:
    """Write NIfTI; the affine goes into the header by hand, since nibabel refuses some that other programs write."""
    nib.save(nib.Nifti1Image(voxels, AFFINE), path)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[280:328] = affine[:3].astype("<f4").tobytes()  # srow_x, srow_y, srow_z
    path.write_bytes(gzip.compress(bytes(content)))
    return str(path)


def data_set(folder: Path, cases: int = 3) -> tuple[list[Reference], dict[str, dict[str, str]]]:
    """References and two methods: ``right`` is, ``moved`` has the RV of the k-th case moved by k voxels."""
    names = [f"c{number}" for number in range(cases)]
    references = [Reference(n, saved(folder / f"{n}_gt.nii.gz", volume()), (n,), f"p{n}", "ED") for n in names]
    moved = {n: saved(folder / f"{n}_m.nii.gz", volume(number)) for number, n in enumerate(names)}
    return references, {"right": {each.case: each.path for each in references}, "moved": moved}


def scored(references, predictions, **options):
    return score_cases(references, predictions, **{"class_names": NAMES, **options})


def test_by_hand(tmp_path):
    found = scored(*data_set(tmp_path))
    assert list(found) == ["c0", "c1", "c2"]
    assert all(case.slices == 4 for case in found.values())
    for case, rows in ((case, of_case.rows["right"]) for case, of_case in found.items()):
        assert [row["class_name"] for row in rows] == ["RV", "LV"]
        for row in rows:
            assert list(row)[:4] == ["case", "patient", "phase", "class_name"]
            assert (row["case"], row["patient"], row["phase"]) == (case, f"p{case}", "ED")
            assert (row["dice"], row["iou"], row["hd95"], row["assd"]) == (1, 1, 0, 0)
    right = [of_case.rows["moved"][0] for of_case in found.values()]
    # moved by 0, 1, 2 voxels of 2 mm, the bars of 4 share 4, 3, 2; at one voxel each way 0 0 0 2, at two 0 0 2 4
    assert [row["dice"] for row in right] == pytest.approx([1, 3 / 4, 2 / 4])
    assert [row["iou"] for row in right] == pytest.approx([1, 3 / 5, 2 / 6])
    # of 0 0 0 0 2 2 4 4, at position 6.65
    assert [row["hd95"] for row in right] == pytest.approx([0, 2, 4])
    assert [row["assd"] for row in right] == pytest.approx([0, 0.5, 1.5])
    assert [row["prediction_ml"] for row in right] == pytest.approx(3 * [0.06])


def test_the_number_of_processes_does_not_matter(tmp_path):
    references, predictions = data_set(tmp_path, 7)
    del predictions["moved"]["c3"]
    one = scored(references, predictions, jobs=1)
    assert repr(scored(references, predictions, jobs=2)) == repr(scored(references, predictions, jobs=32)) == repr(one)
    assert list(one) == [each.case for each in references]


def test_a_missing_prediction_counts_as_empty(tmp_path):
    references, predictions = data_set(tmp_path)
    del predictions["right"]["c1"]
    empty = {**predictions["right"], "c1": saved(tmp_path / "empty.nii.gz", np.zeros_like(volume()))}
    found = scored(references, {**predictions, "empty": empty})
    for row in found["c1"].rows["right"]:
        assert (row["outcome"], row["dice"], row["prediction_ml"]) == ("missed", 0, 0)
        # 24 x 9 x 20 mm: sqrt(576 + 81 + 400)
        assert row["hd95_penalised"] == pytest.approx(math.sqrt(1057))
    assert repr(found["c1"].rows["right"]) == repr(found["c1"].rows["empty"])


def test_options_go_through(tmp_path):
    references, predictions = data_set(tmp_path, 1)
    hidden = volume()
    hidden[..., 0] = 9
    (tmp_path / "c0_gt.nii.gz").unlink()
    saved(tmp_path / "c0_gt.nii.gz", hidden)
    case = scored(references, {"moved": predictions["moved"]}, ignore_index=9, surface=False)["c0"]
    assert case.slices == 3
    assert [row["outcome"] for row in case.rows["moved"]] == ["absent", "scored"]
    assert "hd95" not in case.rows["moved"][0]


def test_other_formats_have_the_same_grid(tmp_path):
    """ITK's axes point to the left and to the back, NIfTI's to the right and to the front."""
    lps = np.diag([-2.0, -1.5, 5.0, 1.0])
    reference = Reference("a", saved(tmp_path / "a.nii.gz", volume(), lps), ("a",))
    image = SimpleITK.GetImageFromArray(volume(1).T)
    image.SetSpacing((2.0, 1.5, 5.0))
    for ending in ("nrrd", "mha", "nii.gz"):
        SimpleITK.WriteImage(image, tmp_path / f"p.{ending}", useCompression=True)
        rows = scored([reference], {"m": {"a": str(tmp_path / f"p.{ending}")}})["a"].rows["m"]
        assert [row["dice"] for row in rows] == pytest.approx([3 / 4, 1])
        assert [row["hd95"] for row in rows] == pytest.approx([2, 0])


def segmentation(path: Path, voxels: np.ndarray, **values: int) -> str:
    """Write a segmentation as 3D Slicer does, with values of its own for what is here background, RV and LV."""
    stored = np.zeros_like(voxels)
    for label, value in enumerate(values.values()):
        stored[voxels == label] = value
    image = SimpleITK.GetImageFromArray(stored.T)
    image.SetSpacing((2.0, 1.5, 5.0))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))  # ITK's axes point the other way
    for number, (name, value) in enumerate(values.items()):
        image.SetMetaData(f"Segment{number}_Name", name)
        image.SetMetaData(f"Segment{number}_LabelValue", str(value))
    SimpleITK.WriteImage(image, str(path))
    return str(path)


def test_segments_with_names_are_mapped_by_them(tmp_path):
    """As raw values, LV = 1 would count as RV."""
    plain = saved(tmp_path / "a.nii.gz", volume(1))
    named = segmentation(tmp_path / "a.seg.nrrd", volume(), bg_scribble=3, RV=2, LV=1)
    for reference, prediction in ((named, plain), (plain, named)):
        rows = scored([Reference("a", reference, ("a",))], {"m": {"a": prediction}})["a"].rows["m"]
        assert [row["dice"] for row in rows] == pytest.approx([3 / 4, 1])
        assert [row["hd95"] for row in rows] == pytest.approx([2, 0])


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"bg_scribble": 3, "Lung": 2, "LV": 1}, 'no class is called "Lung"'),
        ({"bg_scribble": 3, "LV": 2}, 'there is no segment called "RV"'),
        ({"RV": 2, "LV": 1}, 'there is no segment called "bg_scribble", so nothing says what is background'),
    ],
)
def test_segments_whose_names_do_not_tell_all_are_refused(tmp_path, values, told):
    plain = saved(tmp_path / "a.nii.gz", volume())
    named = segmentation(tmp_path / "a.seg.nrrd", volume(), **values)
    for reference, prediction in ((named, plain), (plain, named)):
        with pytest.raises(UserError, match=rf"a\.seg\.nrrd: {told}"):
            scored([Reference("a", reference, ("a",))], {"m": {"a": prediction}})


def test_a_segmentation_cropped_to_what_is_drawn_is_scored_on_its_image(tmp_path):
    plain, drawn = saved(tmp_path / "a.nii.gz", volume(1)), volume()[:, :, :3]
    named = segmentation(tmp_path / "a.seg.nrrd", drawn, bg_scribble=3, RV=2, LV=1)
    image = saved(tmp_path / "image.nii.gz", np.zeros((12, 6, 4), np.uint8))
    reference, predictions = Reference("a", named, ("a",), image=image), {"m": {"a": plain}}
    case = scored([reference], predictions, ignore_index=3)["a"]
    assert case.slices == 3
    assert [row["dice"] for row in case.rows["m"]] == pytest.approx([3 / 4, 1])
    os.remove(image)  # what is not there cannot tell
    with pytest.raises(UserError, match=r"a\.nii\.gz: shape \(12, 6, 4\) differs from \(12, 6, 3\) of "):
        scored([reference], predictions, ignore_index=3)


def test_pictures(tmp_path):
    for name, shift in (("r", 0), ("p", 1)):
        Image.fromarray(volume(shift)[..., 0]).save(tmp_path / f"{name}.png")
    case = scored([Reference("a", str(tmp_path / "r.png"), ("a",))], {"m": {"a": str(tmp_path / "p.png")}})["a"]
    assert case.slices == 1
    assert case.rows["m"][0]["dice"] == pytest.approx(3 / 4)
    assert case.rows["m"][1]["outcome"] == "absent"


def moved_affine(mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] += mm
    return affine


def not_a_number() -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 0] = np.nan
    return affine


BAD = {
    "another shape": (volume()[:-1], AFFINE, r"shape \(11, 6, 4\) differs from \(12, 6, 4\) of .*c1_gt\.nii\.gz"),
    "transposed": (volume().swapaxes(0, 1), AFFINE, r"shape \(6, 12, 4\) differs"),
    "another origin": (volume(), moved_affine(1.0), r"affine differs by 1\.000 mm from that of .*c1_gt\.nii\.gz"),
    "flipped axis": (volume(), np.diag([-2.0, 1.5, 5.0, 1.0]), r"affine differs by 4\.000 mm"),
    "another spacing": (volume(), np.diag([2.0, 1.5, 8.0, 1.0]), r"affine differs by 3\.000 mm"),
    "no affine": (volume(), not_a_number(), r"affine differs by inf mm"),
    "unknown class": (np.where(volume() == 1, 7, volume()), AFFINE, "the prediction holds the value 7, which is none"),
    "fractions": (volume() * 0.5, AFFINE, "the prediction holds fractions"),
    "nan": (np.where(volume() == 1, np.nan, volume()), AFFINE, "the prediction holds fractions"),
    "two channels": (np.stack([volume()] * 2, -1), AFFINE, r"has the shape \(12, 6, 4, 2\); give an index map"),
    "no voxels": (volume()[:0], AFFINE, r"give an index map|cannot be read"),
}


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("what", BAD)
def test_bad_predictions_are_named(tmp_path, what, jobs):
    references, predictions = data_set(tmp_path)
    voxels, affine, told = BAD[what]
    bad = saved(tmp_path / "bad.nii.gz", voxels, affine)
    with pytest.raises(UserError, match=rf"^{bad}.*({told})") as caught:
        scored(references, {"m": {**predictions["moved"], "c1": bad}}, jobs=jobs)
    assert "\n" not in str(caught.value)


def test_a_tiny_difference_of_the_grids_is_rounding(tmp_path):
    references, _ = data_set(tmp_path, 1)
    near = saved(tmp_path / "near.nii.gz", volume(), moved_affine(0.0009))
    assert scored(references, {"m": {"c0": near}})["c0"].rows["m"][0]["dice"] == 1


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    if how == "cut":
        content = content[:middle]
    elif how == "bit flipped":
        content = content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]
    elif how == "no gzip":
        content = b"not an image"
    elif how == "empty":
        content = b""
    elif how == "promises more":
        header = bytearray(gzip.decompress(content))
        header[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
        content = gzip.compress(bytes(header))
    elif how == "check sum":
        content = content[:-8] + bytes(4) + content[-4:]
    path.write_bytes(content)


@pytest.mark.parametrize("who", ["prediction", "reference"])
@pytest.mark.parametrize("how", ["cut", "bit flipped", "no gzip", "empty", "promises more", "check sum"])
def test_damaged_files_are_named(tmp_path, how, who):
    references, predictions = data_set(tmp_path)
    path = Path(predictions["moved"]["c1"] if who == "prediction" else references[1].path)
    damage(path, how)
    with pytest.raises(UserError, match=rf"^{path}: .*(cannot be read|damaged)") as caught:
        scored(references, {"moved": predictions["moved"]})
    assert "\n" not in str(caught.value)


def test_flipped_bits_never_give_other_scores(tmp_path):
    """In a file of usual size nibabel notices few of them: it never comes to the check sum."""
    noise = np.random.default_rng(0).integers(0, 3, (90, 80, 10), dtype=np.uint8)
    reference = Reference("a", saved(tmp_path / "a.nii.gz", noise), ("a",))
    content = (tmp_path / "a.nii.gz").read_bytes()
    for at in np.random.default_rng(1).integers(200, len(content), 25):
        (tmp_path / "b.nii.gz").write_bytes(content[:at] + bytes([content[at] ^ 2]) + content[at + 1 :])
        with pytest.raises(UserError, match=r"b\.nii\.gz: "):
            scored([reference], {"m": {"a": str(tmp_path / "b.nii.gz")}}, surface=False)


def test_of_several_bad_files_the_first_is_named(tmp_path):
    """Whichever process comes first."""
    references, predictions = data_set(tmp_path, 5)
    for case in ("c1", "c3", "c4"):
        Path(predictions["moved"][case]).write_bytes(b"")
    for jobs in (1, 2, 5):
        with pytest.raises(UserError, match=r"c1_m\.nii\.gz: "):
            scored(references, predictions, jobs=jobs)


def test_a_bad_reference_without_prediction_is_named(tmp_path):
    references, predictions = data_set(tmp_path, 2)
    saved(tmp_path / "c0_gt.nii.gz", volume() + 5)
    with pytest.raises(UserError, match=r"^[^ ]*c0_gt\.nii\.gz: the reference holds the value"):
        scored(references, {"m": {"c1": predictions["moved"]["c1"]}})


def test_a_reference_whose_grid_has_no_extent(tmp_path):
    flat = np.diag([0.0, 1.5, 5.0, 1.0])
    path = saved(tmp_path / "a.nii.gz", volume(), flat)
    with pytest.raises(UserError, match=rf"{path}: the spacing must be 3 positive numbers"):
        scored([Reference("a", path, ("a",))], {"m": {"a": path}})


def die(*args: object, **kwargs: object) -> None:
    os._exit(9)


@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="the processes have to inherit the patch")
def test_a_killed_process_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel_scoring, "read_checked_volume", die)
    with pytest.raises(UserError, match="a process was killed, perhaps for want of memory; give fewer --jobs"):
        scored(*data_set(tmp_path), jobs=2)
