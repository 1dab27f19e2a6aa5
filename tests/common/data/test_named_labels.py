"""Labels whose segments have names: of a datastore as 3D Slicer writes them, and of its own files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged

from common.data.checks import check_items, inspect_item
from common.data.label_loading import LoadLabelsd
from common.data.named_labels import naming, read_named_label
from common.errors import UserError
from common.transforms.orient_slices import OrientSlicesd

NAMES = ["background", "RV", "LV"]
AFFINE = np.diag([1.5, 1.25, 8.0, 1.0])
ORDER = ("LV", "bg_scribble", "RV")
DRAWN = np.zeros((4, 5, 2), np.uint8)
DRAWN[0, :, 0], DRAWN[1, :3, 0], DRAWN[2, 2:, 1] = 1, 2, 3
# in the order 0, LV, background, RV
WANTED = np.array([3, 2, 0, 1])[DRAWN]
Item = dict[str, Any]


def submit(folder: Path, voxels: np.ndarray, told: Any, name: str = "p1") -> Item:
    """An image in a datastore, and a label map for it with what the plugin tells of its segments."""
    (folder / "labels" / "final").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    image = nib.Nifti1Image(rng.integers(0, 900, voxels.shape).astype(np.int16), AFFINE)
    files = {"image": folder / f"{name}.nii.gz", "label": folder / "labels" / "final" / f"{name}.nii.gz"}
    nib.save(image, files["image"])
    nib.save(nib.Nifti1Image(voxels, AFFINE), files["label"])
    if isinstance(told, (tuple, list)) and all(isinstance(entry, str) for entry in told):
        told = [{"name": entry, "idx": number} for number, entry in enumerate(told, start=1)]
    final = {"ext": ".nii.gz", "info": {} if told is None else {"label_info": told}}
    objects = {name: {"image": {"ext": ".nii.gz", "info": {}}, "labels": {"final": final}}}
    (folder / "datastore_v2.json").write_text(json.dumps({"labels_dir": "labels", "objects": objects}))
    return {key: str(path) for key, path in files.items()}


def save_segments(path: Path, layers: Sequence[np.ndarray], segments: Sequence[tuple[str, int, int]], start: int = 0):
    """A .seg.nrrd file as 3D Slicer writes it, its first voxel being ``start`` voxels along each axis."""
    voxels = np.stack([layer.transpose(2, 1, 0) for layer in layers], axis=-1)
    image = SimpleITK.GetImageFromArray(voxels if len(layers) > 1 else voxels[..., 0], isVector=len(layers) > 1)
    image.SetSpacing((1.5, 1.25, 8.0))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))  # NIfTI's axes point the other way
    image.SetOrigin((-1.5 * start, -1.25 * start, 8.0 * 0))
    for number, (name, value, layer) in enumerate(segments):
        image.SetMetaData(f"Segment{number}_Name", name)
        image.SetMetaData(f"Segment{number}_LabelValue", str(value))
        image.SetMetaData(f"Segment{number}_Layer", str(layer))
    SimpleITK.WriteImage(image, str(path))


def check(item: Item, kind: str = "scribble", **options: Any) -> None:
    check_items([item], num_classes=3, kind=kind, class_names=NAMES, **options)


def refused(item: Item, kind: str = "scribble") -> str:
    """The one line of the check, which the loading says too."""
    with pytest.raises(UserError) as caught:
        check(item, kind)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{item['label']}: ")
    with pytest.raises(UserError) as loading:
        LoadLabelsd("label", NAMES, num_classes=3, coarse=kind == "coarse")(item)
    assert str(loading.value) == text
    return text.removeprefix(f"{item['label']}: ")


def test_a_label_as_slicer_submits_it(tmp_path: Path) -> None:
    item = submit(tmp_path, DRAWN, ORDER)
    check(item)
    loaded = LoadLabelsd("label", NAMES, num_classes=3)(item)
    assert set(loaded) == {"image", "label"}
    assert isinstance(loaded["label"], MetaTensor)
    assert loaded["label"].dtype == torch.float32
    np.testing.assert_array_equal(loaded["label"], WANTED[None])
    np.testing.assert_allclose(loaded["label"].affine, AFFINE)
    found = inspect_item(item, num_classes=3, kind="scribble", class_names=NAMES)
    # 5 voxels of LV, 3 of background, 3 of RV, of 40
    assert found["annotated_share"] == {0: 3 / 40, 1: 3 / 40, 2: 5 / 40}
    assert [line.partition(": ")[2].partition(";")[0] for line in found["warnings"]] == [
        "has only 3 of class 0, 3 of class 1, 5 of class 2 (voxels)"
    ]


@pytest.mark.parametrize(
    "told",
    [
        ("lv", "BG_Scribble", " rv "),
        ("LV", "Background Scribble", "RV"),
        [{"name": "RV", "idx": 3}, {"name": "LV", "idx": 1}, {"name": "bg_scribble", "idx": 2}],
        # a segment called background came first, which the plugin counts and Slicer does not
        [{"name": "LV", "idx": 2}, {"name": "bg_scribble", "idx": 3}, {"name": "RV", "idx": 4}],
    ],
)
def test_the_same_by_other_names(tmp_path: Path, told: Any) -> None:
    loaded = LoadLabelsd("label", NAMES, num_classes=3)(submit(tmp_path, DRAWN, told))
    np.testing.assert_array_equal(loaded["label"], WANTED[None])


def test_numbers_with_gaps(tmp_path: Path) -> None:
    told = [{"name": "LV", "idx": 2}, {"name": "RV", "idx": 5}, {"name": "bg_scribble", "idx": 9}]
    item = submit(tmp_path, np.array([0, 2, 9, 5], np.uint8)[DRAWN], told)
    check(item)
    np.testing.assert_array_equal(LoadLabelsd("label", NAMES, num_classes=3)(item)["label"], WANTED[None])


def test_labels_of_a_datalist_pass_unchanged(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    nib.save(nib.Nifti1Image(WANTED.astype(np.uint8), AFFINE), folder / "p1.nii.gz")
    own = {"label": str(folder / "p1.nii.gz")}
    np.testing.assert_array_equal(LoadLabelsd("label", NAMES, num_classes=3)(own)["label"], WANTED[None])
    several = LoadLabelsd("label", NAMES, num_classes=3)({"label": [own["label"]] * 2})
    np.testing.assert_array_equal(several["label"], np.stack([WANTED, WANTED]))
    assert LoadLabelsd("label", NAMES, num_classes=3, allow_missing_keys=True)({"image": 1}) == {"image": 1}
    assert read_named_label(own["label"], NAMES, num_classes=3) is None
    assert naming(own["label"]) is None


def test_without_names_the_values_are_looked_at_as_they_are(tmp_path: Path) -> None:
    item = submit(tmp_path, DRAWN, ORDER)
    assert inspect_item(item, num_classes=3, kind="scribble")["problems"] == []  # 0 and 3 are in it, by chance


def test_a_finished_segmentation_with_its_background(tmp_path: Path) -> None:
    """No voxel is left out, which of scribbles without names would be refused."""
    item = submit(tmp_path, np.where(DRAWN == 0, 2, DRAWN).astype(np.uint8), ORDER)
    check(item)
    label = LoadLabelsd("label", NAMES, num_classes=3)(item)["label"]
    np.testing.assert_array_equal(label, np.where(WANTED == 3, 0, WANTED)[None])


def test_an_empty_segment_is_a_class_that_is_not_there(tmp_path: Path) -> None:
    item = submit(tmp_path, DRAWN * (DRAWN != 3), ORDER)
    check(item)
    label = LoadLabelsd("label", NAMES, num_classes=3)(item)["label"]
    np.testing.assert_array_equal(label, np.where(WANTED == 1, 3, WANTED)[None])


SUBMIT = "and submit the label again"
NOTHING_SAYS = (
    "so nothing says what is background; draw strokes of it, or fill it outside of all other segments where these are "
    f"complete, {SUBMIT}"
)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (None, "datastore_v2.json has no names for its values (label_info); open the image in 3D Slicer and submit the "
               "label again"),
        (("LV", "RV", "MYO"), 'no class is called "MYO"; the names may be bg_scribble, RV, LV, or not_<class>; '
                              "rename it"),
        (("LV", "bg_scribble", "Segment_3"), 'no class is called "Segment_3"; the names may be bg_scribble, RV, LV, or '
                                             "not_<class>; rename it"),
        (("LV", "bg_scribble"), f'there is no segment called "RV"; add it in 3D Slicer, even if nothing is drawn in '
                                f"it, {SUBMIT}"),
        (("bg_scribble", "Background", "LV", "RV"), '"bg_scribble", "Background" mean the same class; join the two, or '
                                                    "rename one"),
        (("LV", "lv", "bg_scribble", "RV"), '"LV", "lv" mean the same class; join the two, or rename one'),
        (("LV", "bg_scribble", "RV", "not_RV"), '"not_RV" is a negative drawing, which the bundle coarse_labels alone '
                                                "learns from"),
        (("LV", "foreground_scribbles", "RV"), 'no class is called "foreground_scribbles"; the names may be '
                                               "bg_scribble, RV, LV, or not_<class>; rename it"),
        ([{"name": "LV", "idx": 1}, {"name": "RV", "idx": 1}, {"name": "bg_scribble", "idx": 2}],
         '"LV", "RV" have the same value 1; remove one of the names'),
        ([{"name": "LV", "idx": 1}, {"name": "RV", "idx": 4}, {"name": "bg_scribble", "idx": 2}],
         "there are voxels of value 3, which has no name; name it, or remove the voxels"),
        ([{"name": "LV", "idx": 1}, {"name": "RV", "idx": 2}, {"name": "bg_scribble", "idx": 0}],
         '"bg_scribble" has the value 0, which means "not annotated"; give it another value'),
    ],
)  # fmt: skip
def test_names_that_cannot_be_used(tmp_path: Path, told: Any, message: str) -> None:
    assert refused(submit(tmp_path, DRAWN, told)) == message


def test_what_is_drawn_cannot_be_used(tmp_path: Path) -> None:
    no_rv = DRAWN * (DRAWN != 3)
    assert refused(submit(tmp_path, DRAWN * 0, ORDER)) == "nothing is drawn in it; draw, or remove the label"
    # a prediction that was corrected: background is what is left, and Slicer leaves it out
    told = ("RV", "LV")
    assert refused(submit(tmp_path, no_rv, told)) == f'there is no segment called "bg_scribble", {NOTHING_SAYS}'
    assert refused(submit(tmp_path, no_rv, told), "either").startswith('there is no segment called "bg_scribble"')
    empty = submit(tmp_path, DRAWN * (DRAWN != 2), ORDER)
    assert refused(empty) == f'nothing is drawn in "bg_scribble", {NOTHING_SAYS}'


def test_the_other_checks_stay(tmp_path: Path) -> None:
    item = submit(tmp_path, DRAWN, ORDER)
    nib.save(nib.Nifti1Image(DRAWN[:3], AFFINE), item["label"])
    with pytest.raises(UserError, match=r"p1\.nii\.gz: shape \(3, 5, 2\) differs from the image's \(4, 5, 2\); save"):
        check(item)
    moved = AFFINE.copy()
    moved[0, 3] = 2
    nib.save(nib.Nifti1Image(DRAWN, moved), item["label"])
    with pytest.raises(UserError, match=r"affine differs from the image's by 2\.000 mm"):
        check(item)
    Path(item["label"]).write_bytes(b"no image")
    with pytest.raises(UserError, match=r"p1\.nii\.gz: cannot be read"):
        check(item)
    item = submit(tmp_path, DRAWN, ORDER)
    (tmp_path / "datastore_v2.json").write_text("{")
    with pytest.raises(UserError, match=r"datastore_v2\.json: cannot be read as the datastore of p1\.nii\.gz; restore"):
        check(item)
    with pytest.raises(UserError, match=r"^--class_names: 3 names \(background, RV, LV\) where --num_classes is 4"):
        check_items([submit(tmp_path, DRAWN, ORDER)], num_classes=4, kind="scribble", class_names=NAMES)


def test_a_dense_mask_leaves_nothing_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds 3 \(not annotated\) where a dense mask with 0\.\.2 is expected"):
        check(submit(tmp_path, DRAWN, ORDER), "dense")
    check(submit(tmp_path, np.where(DRAWN == 0, 2, DRAWN).astype(np.uint8), ORDER), "dense")


def test_positive_and_negative_drawings(tmp_path: Path) -> None:
    item = submit(tmp_path, DRAWN, ("RV", "LV", "not_LV"))
    check(item, "coarse")
    load = LoadLabelsd(("label", "complement"), NAMES, num_classes=3, coarse=True, complement="complement")
    load.allow_missing_keys = True
    loaded = load(item)
    assert set(loaded) == {"image", "label", "complement"}
    np.testing.assert_array_equal(loaded["label"], np.array([3, 1, 2, 3])[DRAWN][None])
    np.testing.assert_array_equal(loaded["complement"], np.array([3, 3, 3, 2])[DRAWN][None])
    # of a validation the positive one counts
    alone = LoadLabelsd("label", NAMES, num_classes=3, coarse=True)(item)
    assert set(alone) == {"image", "label"}
    np.testing.assert_array_equal(alone["label"], loaded["label"])
    check(item, "either", coarse=True)


def test_negative_drawings_alone(tmp_path: Path) -> None:
    """An empty positive drawing beside them must not say that all is background."""
    item = submit(tmp_path, np.array([0, 0, 1, 2], np.uint8)[DRAWN], ("not_RV", "not_LV", "RV", "LV"))
    check(item, "coarse")
    options: dict[str, Any] = {"num_classes": 3, "coarse": True}
    loaded = LoadLabelsd("label", NAMES, complement="complement", **options)(item)
    assert set(loaded) == {"image", "complement"}
    np.testing.assert_array_equal(loaded["complement"], np.array([3, 3, 1, 2])[DRAWN][None])
    np.testing.assert_array_equal(LoadLabelsd("label", NAMES, **options)(item)["label"], np.full((1, 4, 5, 2), 3))
    assert refused(submit(tmp_path, DRAWN, ("LV", "not_LV", "bg_scribble")), "coarse").startswith("there is no segment")


def test_coarse_drawings_need_no_background_but_may_say_it(tmp_path: Path) -> None:
    """Where it is said, what is not drawn says nothing, and is not taken for background later."""
    load = LoadLabelsd("label", NAMES, num_classes=3, coarse=True, complement="complement")
    no_background = load(submit(tmp_path, DRAWN * (DRAWN < 3), ("RV", "LV")))
    assert set(no_background) == {"image", "label"}
    with_background = load(submit(tmp_path, DRAWN, ORDER))
    assert set(with_background) == {"image", "label", "unknown"}
    np.testing.assert_array_equal(with_background["unknown"], DRAWN[None] == 0)


def test_a_file_that_names_its_segments(tmp_path: Path) -> None:
    """Of a datastore or not; its own names go before the datastore's, and those of the plugin's tools are left out."""
    own = [("LV", 1, 0), ("bg_scribble", 2, 0), ("RV", 3, 0), ("background", 4, 0), ("foreground_scribbles", 5, 0)]
    submitted = submit(tmp_path, DRAWN, ("RV", "LV", "bg_scribble"))
    for folder in (tmp_path, tmp_path / "labels" / "final"):
        path = folder / "p1.nrrd"
        save_segments(path, [DRAWN], own)
        item = {"image": submitted["image"], "label": str(path)}
        check(item)
        loaded = LoadLabelsd("label", NAMES, num_classes=3)(item)["label"]
        np.testing.assert_array_equal(loaded, WANTED[None])
        np.testing.assert_allclose(loaded.affine, AFFINE)


def test_a_file_cropped_to_what_is_drawn_and_with_overlaps(tmp_path: Path) -> None:
    image = submit(tmp_path, DRAWN, ORDER)["image"]
    path = tmp_path / "p1.seg.nrrd"
    # LV apart from the others; both cut to rows 1.. and columns 1.., the first stroke of LV being in row 0
    layers = [np.where(DRAWN == 1, 1, 0).astype(np.uint8), np.where(DRAWN > 1, DRAWN, 0).astype(np.uint8)]
    layers[0][1:3] = layers[0][0]
    segments = [("LV", 1, 0), ("bg_scribble", 2, 1), ("RV", 3, 1)]
    save_segments(path, layers, segments)
    assert refused({"image": image, "label": str(path)}) == (
        '"LV", "bg_scribble" overlap; erase one of them where both are drawn'
    )
    layers[0][1:3] = 0
    layers[0][3] = layers[0][0]
    save_segments(path, [layer[1:, 1:] for layer in layers], segments, start=1)
    wanted = WANTED.copy()
    wanted[3, :, 0], wanted[0], wanted[:, 0] = 2, 3, 3
    item = {"image": image, "label": str(path)}
    check(item)
    loaded = LoadLabelsd("label", NAMES, num_classes=3)(item)["label"]
    np.testing.assert_array_equal(loaded, wanted[None])
    np.testing.assert_allclose(loaded.affine, AFFINE)


@pytest.mark.parametrize("shape", [(4, 6, 2), (5, 7, 3)], ids=["even", "odd"])
def test_a_drawing_on_an_image_without_a_place(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """ITK, with which 3D Slicer reads, and nibabel take such a file to lie in different places."""
    image = nib.Nifti1Image(np.zeros(shape, np.int16), None)
    image.header.set_zooms((1.5, 1.25, 8.0))
    nib.save(image, tmp_path / "p1.nii.gz")
    drawn = np.zeros(shape, np.uint8)
    drawn[:4, :5, :2] = DRAWN
    path = tmp_path / "p1.seg.nrrd"
    save_segments(path, [drawn[:3]], [("LV", 1, 0), ("bg_scribble", 2, 0), ("RV", 3, 0)])  # no more rows are drawn in
    label, placed = (SimpleITK.ReadImage(str(file)) for file in (path, tmp_path / "p1.nii.gz"))
    label.SetOrigin(placed.GetOrigin())
    label.SetDirection(placed.GetDirection())
    SimpleITK.WriteImage(label, str(path))
    item = {"image": str(tmp_path / "p1.nii.gz"), "label": str(path)}
    check(item)
    loaded = LoadLabelsd("label", NAMES, num_classes=3)(item)["label"]
    np.testing.assert_array_equal(loaded, np.array([3, 2, 0, 1])[drawn][None])
    np.testing.assert_allclose(loaded.affine, nib.load(tmp_path / "p1.nii.gz").affine)


HEADERS = {
    "none": ((None, 0), (None, 0)),
    "sform": ((AFFINE, 2), (None, 0)),
    "qform": ((None, 0), (AFFINE, 1)),
    "contrary": ((AFFINE, 2), (np.diag([-1.5, -1.25, 8.0, 1.0]) + np.eye(4, k=3) * 7.3, 1)),
}


def submit_by_itk(folder: Path, header: str, *, shift: float = 0.0, mirrored: bool = False) -> Item:
    """A label on the grid that ITK reads, as 3D Slicer has it, or beside it by a part of a voxel or mirrored."""
    item = submit(folder, DRAWN, ORDER)
    image = nib.Nifti1Image(np.asarray(nib.load(item["image"]).dataobj), None)
    image.header.set_zooms((1.5, 1.25, 8.0))
    for place, (affine, code) in zip((image.set_sform, image.set_qform), HEADERS[header], strict=True):
        place(affine, code)
    nib.save(image, item["image"])
    drawn_on = SimpleITK.ReadImage(item["image"])
    label = SimpleITK.GetImageFromArray(DRAWN.T)
    label.CopyInformation(drawn_on)
    label.SetOrigin(np.add(label.GetOrigin(), [1.5 * shift, 0, 0]))
    if mirrored:
        label.SetDirection(np.ravel(np.reshape(label.GetDirection(), (3, 3)) @ np.diag([-1, -1, 1])))
    SimpleITK.WriteImage(label, item["label"])
    return item


@pytest.mark.parametrize("header", HEADERS)
def test_submitted_on_the_grid_that_itk_reads(tmp_path: Path, header: str) -> None:
    item = submit_by_itk(tmp_path, header)
    check(item)
    image = LoadImaged("image", ensure_channel_first=True)(item)
    for given in (item, image):  # whether the image is loaded before or not
        loaded = LoadLabelsd("label", NAMES, num_classes=3)(given)["label"]
        np.testing.assert_array_equal(loaded, WANTED[None])
        np.testing.assert_array_equal(loaded.affine, nib.load(item["image"]).affine)
    turned = Compose([OrientSlicesd("image"), LoadLabelsd("label", NAMES, num_classes=3)])(image)
    placed = OrientSlicesd("label", like="image")(turned)
    assert torch.equal(placed["image"].affine, placed["label"].affine)


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("beside", [{"shift": 0.01}, {"shift": 1.0}, {"mirrored": True}], ids=str)
def test_submitted_on_another_grid_is_refused(tmp_path: Path, header: str, beside: dict[str, Any]) -> None:
    item = submit_by_itk(tmp_path, header, **beside)
    with pytest.raises(UserError, match=r"labels/final/p1\.nii\.gz: affine differs from the image's by .* mm"):
        check(item)
    steps = [
        LoadImaged("image", ensure_channel_first=True),
        OrientSlicesd("image"),
        LoadLabelsd("label", NAMES, num_classes=3),
        OrientSlicesd("label", like="image"),
    ]
    with pytest.raises(RuntimeError) as caught:
        Compose(steps)(item)
    assert "affine differs from the image's by" in str(caught.value.__cause__)


@pytest.mark.parametrize("affine", [np.diag([1.2, 1.2, 1, 1]), np.diag([-1.2, -1.2, 1, 1])])
@pytest.mark.parametrize("with_image", [True, False])
def test_names_on_a_flat_image_turn_with_it(tmp_path: Path, affine: np.ndarray, with_image: bool) -> None:
    voxels = np.zeros((20, 24), np.uint8)
    voxels[2:5, 3:6], voxels[12:15, 17:20] = 1, 2
    voxels[8, 8] = 3
    nib.save(nib.Nifti1Image(voxels.astype(np.float32) * 100, affine), tmp_path / "p1.nii.gz")
    save_segments(tmp_path / "p1.seg.nrrd", [voxels[..., None]], [("RV", 1, 0), ("LV", 2, 0), ("bg_scribble", 3, 0)])
    header = SimpleITK.ReadImage(str(tmp_path / "p1.seg.nrrd"))
    placed = SimpleITK.ReadImage(str(tmp_path / "p1.nii.gz"))
    header.SetSpacing((*placed.GetSpacing(), 1.0))
    header.SetOrigin((*placed.GetOrigin(), 0.0))
    flip = np.sign(-affine[0, 0])
    header.SetDirection((flip, 0, 0, 0, flip, 0, 0, 0, 1))
    SimpleITK.WriteImage(header, str(tmp_path / "p1.seg.nrrd"))
    item = {"image": str(tmp_path / "p1.nii.gz"), "label": str(tmp_path / "p1.seg.nrrd")}
    load = [
        LoadImaged("image", ensure_channel_first=True),
        OrientSlicesd("image", pixdim=[2.4, 2.4]),
        LoadLabelsd("label", NAMES, num_classes=3),
    ]
    loaded = Compose(load)(item)
    image = loaded["image"] if with_image else loaded.pop("image")
    label = OrientSlicesd("label", like="image", pixdim=[2.4, 2.4])(loaded)["label"]
    for value, shade in ((1, 100), (2, 200), (0, 300)):
        assert image.as_tensor()[label.as_tensor() == value].unique().tolist() == [shade]
    assert torch.allclose(label.affine, image.affine)


def test_named_files_of_several_annotators(tmp_path: Path) -> None:
    item = submit(tmp_path, DRAWN, ORDER)
    with pytest.raises(
        UserError, match=r"the segments of 2 files of an item have names; .*`python -m tools import_lab"
    ):
        LoadLabelsd("label", NAMES, num_classes=3)(item | {"label": [item["label"]] * 2})


def test_naming_follows_the_datastore(tmp_path: Path) -> None:
    item = submit(tmp_path, DRAWN, ORDER)
    first = naming(item["label"], item["image"])
    submit(tmp_path, DRAWN, ("RV", "bg_scribble", "LV"))
    assert naming(item["label"], item["image"]) not in (None, first)
    (tmp_path / "datastore_v2.json").write_text("{")
    assert "cannot be read" in str(naming(item["label"]))
