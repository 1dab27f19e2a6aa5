"""``python -m tools import_labels``: drawings of ITK-SNAP and 3D Slicer become annotations of this project."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from common.data.checks import inspect_item
from common.data.datalist import load_datalist
from common.errors import UserError
from tools import datalist
from tools.__main__ import main as run_tools
from tools.import_labels import main

SHAPE = (12, 10, 4)
NAMES = "background,RV,MYO,LV"
SLICER_VALUES = {"LV": 1, "bg_scribble": 2, "RV": 3, "MYO": 4}
"""Values in the order in which somebody made the segments."""


def oblique_affine() -> np.ndarray:
    """Voxels of 1.4 x 1.5 x 8 mm, turned by 20 degrees around one axis and by 35 around another."""
    first, second = np.deg2rad([20, 35])
    around_z = [[np.cos(first), -np.sin(first), 0], [np.sin(first), np.cos(first), 0], [0, 0, 1]]
    around_x = [[1, 0, 0], [0, np.cos(second), -np.sin(second)], [0, np.sin(second), np.cos(second)]]
    affine = np.eye(4)
    affine[:3, :3] = np.array(around_z) @ around_x @ np.diag([1.4, 1.5, 8])
    affine[:3, 3] = [-31.5, 12.25, 7.125]
    return affine


def strokes() -> np.ndarray:
    """What somebody drew, in this project's values: 4 is not annotated."""
    drawn = np.full(SHAPE, 4, np.uint8)
    drawn[2:9, 2, 1:3] = 0
    drawn[3:8, 4, 1:3] = 1
    drawn[3:6, 6, 1] = 2
    drawn[5:9, 7, 2] = 3
    return drawn


def with_values(drawn: np.ndarray, values: dict[str, int]) -> np.ndarray:
    """The same as another program writes it: 0 is not annotated, the others have the values of their names."""
    order = ["bg_scribble", *NAMES.split(",")[1:]]
    return np.array([*(values[name] for name in order), 0], np.uint8)[drawn]


def save_image(path: Path, affine: np.ndarray | None = None, shape: tuple[int, ...] = SHAPE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros(shape, np.int16), oblique_affine() if affine is None else affine), path)


def save_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, oblique_affine() if affine is None else affine), path)


def save_slicer(
    path: Path,
    layers: np.ndarray,
    segments: Sequence[tuple[str, int | None, int | None]],
    *,
    start: Sequence[int] = (0, 0, 0),
    affine: np.ndarray | None = None,
) -> None:
    """Write a .seg.nrrd file as 3D Slicer does.

    Args:
        path: the file.
        layers: voxels [L, X, Y, Z].
        segments: names, values and layers; None as in old files.
        start: the voxel of the image at which the cropped extent begins.
        affine: the image's affine.
    """
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ (
        oblique_affine() if affine is None else affine
    )  # towards left, posterior
    vectors = ["({})".format(",".join(repr(float(value)) for value in column)) for column in affine[:3].T]
    origin = "({})".format(",".join(repr(float(value)) for value in (affine @ [*start, 1])[:3]))
    several = len(layers) > 1
    sizes = layers.shape if several else layers.shape[1:]
    lines = [
        "NRRD0004",
        "type: unsigned char",
        f"dimension: {len(sizes)}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, sizes))}",
        f"space directions: {'none ' if several else ''}{' '.join(vectors[:3])}",
        f"kinds: {'list ' if several else ''}domain domain domain",
        "encoding: raw",
        f"space origin: {origin}",
    ]
    ends = " ".join(f"0 {extent - 1}" for extent in layers.shape[1:])
    for number, (name, value, layer) in enumerate(segments):
        fields = {"ID": f"Segment_{number + 1}", "Name": name, "Extent": ends, "Color": "0.5 0.6 0.7"}
        fields |= {} if value is None else {"LabelValue": value}
        fields |= {} if layer is None else {"Layer": layer}
        lines += [f"Segment{number}_{key}:={text}" for key, text in fields.items()]
    lines += ["Segmentation_SourceRepresentation:=Binary labelmap"]
    lines += [f"Segmentation_ReferenceImageExtentOffset:={' '.join(map(str, start))}"]
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = layers if several else layers[0]
    path.write_bytes("\n".join([*lines, "", ""]).encode() + voxels.astype(np.uint8).tobytes(order="F"))


def in_one_layer(values: dict[str, int]) -> list[tuple[str, int | None, int | None]]:
    return [(name, value, 0) for name, value in values.items()]


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    save_image(tmp_path / "scans" / "p1.nii.gz")
    return tmp_path / "scans"


@pytest.fixture
def bring(tmp_path: Path, scans: Path) -> Callable[..., dict[str, np.ndarray]]:
    """Import what lies in the folder drawn and give the voxels by file, after a look at the grid of each."""

    def run(**options: Any) -> dict[str, np.ndarray]:
        named = {"labels": str(tmp_path / "drawn"), "images": str(scans), "class_names": NAMES} | options
        main(output=str(tmp_path / "out"), **named)
        found = {}
        for path in sorted((tmp_path / "out").iterdir()):
            file, image = nib.load(path), nib.load(scans / f"{path.name.partition('_')[0]}.nii.gz")
            assert file.shape == image.shape
            assert np.array_equal(file.affine, image.affine)
            assert file.get_data_dtype() == np.uint8
            found[path.name] = np.asarray(file.dataobj)
        return found

    return run


def refused(**options: Any) -> str:
    with pytest.raises(UserError) as caught:
        main(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_itk_snap_with_its_label_descriptions(bring: Callable[..., Any], tmp_path: Path) -> None:
    """Two label maps whose labels have another order each, each with the table of names beside it."""
    save_image(tmp_path / "scans" / "p2.nii.gz")
    orders = {"p1": SLICER_VALUES, "p2": {"bg_scribble": 5, "RV": 2, "MYO": 1, "LV": 9}}
    for case, values in orders.items():
        save_nifti(tmp_path / "drawn" / f"{case}_seg.nii.gz", with_values(strokes(), values).astype(np.uint16))
        lines = [f'    {value}  255 0 0  1  1 1  "{name}"' for name, value in values.items()]
        text = "\n".join(["# ITK-SnAP Label Description File", '0 0 0 0 0 0 0 "Clear Label"', *lines, ""])
        (tmp_path / "drawn" / f"{case}_seg.txt").write_text(text + '8 1 1 1 1 1 1 "Label 8"\n')
    found = bring()
    assert list(found) == ["p1_scribble.nii.gz", "p2_scribble.nii.gz"]
    for voxels in found.values():
        np.testing.assert_array_equal(voxels, strokes())


def test_a_segmentation_of_slicer_cropped_to_what_is_drawn(
    bring: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cropped = with_values(strokes(), SLICER_VALUES)[2:9, 2:8, 1:3]
    save_slicer(tmp_path / "drawn" / "p1.seg.nrrd", cropped[None], in_one_layer(SLICER_VALUES), start=(2, 2, 1))
    found = bring()
    assert list(found) == ["p1_scribble.nii.gz"]
    np.testing.assert_array_equal(found["p1_scribble.nii.gz"], strokes())
    # strokes of 7, 5 voxels in 2 slices, of 3 and of 4 in one
    assert capsys.readouterr().out.splitlines() == [
        "p1.seg.nrrd -> p1_scribble.nii.gz: bg_scribble 2 is 0 (background), 14 voxels; RV 3 is 1 (RV), 10 voxels; "
        "MYO 4 is 2 (MYO), 3 voxels; LV 1 is 3 (LV), 4 voxels",
        f"{tmp_path / 'out'}: 1 files of 1 cases, background, RV, MYO, LV",
        f"next: python -m tools datalist --images {tmp_path / 'scans'} --labels {tmp_path / 'out'} --class_names "
        f"{NAMES} --output '<folder>'",
    ]


def test_overlapping_segments_of_slicer_in_layers(bring: Callable[..., Any], tmp_path: Path) -> None:
    drawn = strokes()
    layers = np.stack([np.select([drawn == 3, drawn == 0], [7, 1]), np.select([drawn == 1, drawn == 2], [1, 2])])
    segments = [("MYO", 2, 1), ("bg_scribble", 1, 0), ("LV", 7, 0), ("RV", 1, 1)]
    save_slicer(tmp_path / "drawn" / "p1.seg.nrrd", layers, segments)
    np.testing.assert_array_equal(bring()["p1_scribble.nii.gz"], drawn)
    layers[1][drawn == 0] = 2
    save_slicer(tmp_path / "drawn" / "p1.seg.nrrd", layers, segments)
    with pytest.raises(UserError, match=r'p1\.seg\.nrrd: "MYO", "bg_scribble" overlap; erase one of them'):
        bring()


def test_old_files_of_slicer(bring: Callable[..., Any], tmp_path: Path) -> None:
    """They tell no values: each segment has a layer; a lone one has no axis of layers."""
    order = {"LV": 3, "bg_scribble": 0, "MYO": 2, "RV": 1}
    layers = np.stack([strokes() == index for index in order.values()])
    save_slicer(tmp_path / "drawn" / "p1.seg.nrrd", layers, [(name, None, None) for name in order])
    np.testing.assert_array_equal(bring()["p1_scribble.nii.gz"], strokes())
    save_slicer(tmp_path / "drawn" / "p1.seg.nrrd", layers[:1], [("LV", None, None)])
    found = bring(allow_missing=True)["p1_scribble.nii.gz"]
    np.testing.assert_array_equal(found, np.where(strokes() == 3, 3, 4))


def test_label_maps_of_slicer(bring: Callable[..., Any], tmp_path: Path) -> None:
    """An exported label map, NRRD with axes towards left and posterior, its colour table beside it or named."""
    folder = tmp_path / "drawn"
    save_slicer(folder / "p1-label.nrrd", with_values(strokes(), SLICER_VALUES)[None], [])
    table = "\n".join(f"{value} {name} 1 2 3 255" for name, value in SLICER_VALUES.items())
    (folder / "p1-label_ColorTable.ctbl").write_text(f"# Color table file x.ctbl\n0 Background 0 0 0 0\n{table}\n")
    np.testing.assert_array_equal(bring()["p1_scribble.nii.gz"], strokes())
    (tmp_path / "n.json").write_text(json.dumps(SLICER_VALUES | {"Atrium": 9}))
    for names in (str(tmp_path / "n.json"), "LV=1,bg_scribble=2,RV=3,MYO=4"):
        (folder / "p1-label_ColorTable.ctbl").write_text("# not read\n")
        np.testing.assert_array_equal(bring(names=names)["p1_scribble.nii.gz"], strokes())


def save_two_faced(path: Path, shape: tuple[int, ...], header: str) -> SimpleITK.Image:
    """A NIfTI image that ITK and nibabel take to lie in different places, as ITK reads it."""
    image = nib.Nifti1Image(np.zeros(shape, np.int16), None)
    image.header.set_zooms((1.5, 1.25, 8.0))
    if header == "contrary":
        image.set_sform(np.diag([1.5, 1.25, 8.0, 1.0]), 2)
        image.set_qform(np.diag([-1.5, -1.25, 8.0, 1.0]) + np.eye(4, k=3) * 7.3, 1)
    nib.save(image, path)
    read = SimpleITK.ReadImage(str(path))
    by_itk = np.diag([-1, -1, 1]) @ np.reshape(read.GetDirection(), (3, 3)) @ np.diag(read.GetSpacing())
    places = [np.append(by_itk, (np.array([-1, -1, 1]) * read.GetOrigin())[:, None], axis=1), nib.load(path).affine[:3]]
    assert not np.allclose(*places)
    return read


@pytest.mark.parametrize("header", ["silent", "contrary"])
@pytest.mark.parametrize("shape", [SHAPE, (13, 11, 5)], ids=["even", "odd"])
@pytest.mark.parametrize("ending", ["seg.nrrd", "mha", "nii.gz"])
@pytest.mark.parametrize("cropped", [False, True])
def test_images_whose_place_itk_reads_otherwise(
    bring: Callable[..., Any], tmp_path: Path, header: str, shape: tuple[int, ...], ending: str, cropped: bool
) -> None:
    drawn = np.full(shape, 4, np.uint8)
    drawn[:12, :10, :4] = strokes()
    image = save_two_faced(tmp_path / "scans" / "p1.nii.gz", shape, header)
    label = SimpleITK.GetImageFromArray(with_values(drawn, SLICER_VALUES).T)
    label.CopyInformation(image)
    if cropped and ending != "nii.gz":  # only formats of ITK are cropped, by 3D Slicer
        label = label[2:9, 2:8, 1:3]
    for number, (name, value) in enumerate(SLICER_VALUES.items() if ending == "seg.nrrd" else ()):
        label.SetMetaData(f"Segment{number}_Name", name)
        label.SetMetaData(f"Segment{number}_LabelValue", str(value))
        label.SetMetaData(f"Segment{number}_Layer", "0")
    (tmp_path / "drawn").mkdir()
    SimpleITK.WriteImage(label, str(tmp_path / "drawn" / f"p1.{ending}"))
    found = bring(**({} if ending == "seg.nrrd" else {"names": "LV=1,bg_scribble=2,RV=3,MYO=4"}))
    np.testing.assert_array_equal(found["p1_scribble.nii.gz"], drawn)


def test_nifti_labels_on_the_grid_that_nibabel_reads(bring: Callable[..., Any], tmp_path: Path) -> None:
    save_two_faced(tmp_path / "scans" / "p1.nii.gz", SHAPE, "silent")
    affine = nib.load(tmp_path / "scans" / "p1.nii.gz").affine
    save_nifti(tmp_path / "drawn" / "p1.nii.gz", with_values(strokes(), SLICER_VALUES), affine)
    found = bring(names="LV=1,bg_scribble=2,RV=3,MYO=4")
    np.testing.assert_array_equal(found["p1_scribble.nii.gz"], strokes())


def test_axes_in_another_order_and_direction(bring: Callable[..., Any], tmp_path: Path) -> None:
    image = nib.Nifti1Image(with_values(strokes(), SLICER_VALUES), oblique_affine())
    turned = image.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    (tmp_path / "drawn").mkdir()
    nib.save(turned, tmp_path / "drawn" / "p1_scribble.nii.gz")
    found = bring(names="LV=1,bg_scribble=2,RV=3,MYO=4")
    np.testing.assert_array_equal(found["p1_scribble.nii.gz"], strokes())


def test_coarse_labels_with_what_is_not(
    bring: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    positive = np.where(strokes() == 0, 4, strokes())
    negative = np.full(SHAPE, 4, np.uint8)
    negative[:, :5], negative[:, 8:] = 2, 3  # not MYO, not LV
    layers = np.stack([np.array([0, 3, 1, 2, 0])[positive], np.array([0, 0, 5, 6, 0])[negative]])
    segments = [("RV", 3, 0), ("not_MYO", 5, 1), ("MYO", 1, 0), ("not_LV", 6, 1), ("LV", 2, 0)]
    save_slicer(tmp_path / "drawn" / "p1.seg.nrrd", layers, segments)
    found = bring()
    assert list(found) == ["p1_coarse.nii.gz", "p1_not.nii.gz"]
    np.testing.assert_array_equal(found["p1_coarse.nii.gz"], positive)
    np.testing.assert_array_equal(found["p1_not.nii.gz"], negative)
    text = capsys.readouterr().out
    assert "p1.seg.nrrd -> p1_coarse.nii.gz, p1_not.nii.gz: RV 3 is 1 (RV), 10 voxels; MYO 1 is 2 (MYO), 3" in text
    assert "not_MYO 5 of layer 1 is not 2 (MYO), 240 voxels" in text  # 12 x 5 x 4
    assert text.splitlines()[-1].startswith("next: python -m tools datalist --images ")
    item = {"image": str(tmp_path / "scans" / "p1.nii.gz"), "case": "p1"}
    item |= {"label": str(tmp_path / "out" / "p1_coarse.nii.gz"), "complement": str(tmp_path / "out" / "p1_not.nii.gz")}
    assert inspect_item(item, num_classes=4, kind="coarse")["problems"] == []
    os.rename(tmp_path / "drawn" / "p1.seg.nrrd", tmp_path / "drawn" / "p1_scribble_2.seg.nrrd")
    with pytest.raises(UserError, match=r"p1_scribble_2\.seg\.nrrd: an image has one coarse drawing"):
        bring()


def test_several_annotators_and_a_datalist_of_the_result(
    bring: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_image(tmp_path / "scans" / "p2.nii.gz")
    orders = [SLICER_VALUES, dict(zip(SLICER_VALUES, (4, 3, 2, 1), strict=True))]
    for number, values in enumerate(orders, start=1):
        voxels = with_values(strokes(), values)[None]
        save_slicer(tmp_path / "drawn" / f"p1_scribble_{number}.seg.nrrd", voxels, in_one_layer(values))
    save_slicer(tmp_path / "drawn" / "p2_scribble.seg.nrrd", voxels, in_one_layer(values))
    found = bring()
    assert list(found) == ["p1_scribble_1.nii.gz", "p1_scribble_2.nii.gz", "p2_scribble.nii.gz"]
    for voxels in found.values():
        np.testing.assert_array_equal(voxels, strokes())
    options = {"images": str(tmp_path / "scans"), "labels": str(tmp_path / "out"), "class_names": NAMES}
    datalist.main(**options, output=str(tmp_path / "own"), validation_share=0)
    path = tmp_path / "own" / "datalist.json"
    first, second = load_datalist(path, "training")
    assert [Path(file).name for file in first["label"]] == ["p1_scribble_1.nii.gz", "p1_scribble_2.nii.gz"]
    assert inspect_item(second, num_classes=4, kind="scribble")["problems"] == []
    # the class names of that datalist serve as well
    before = {name: (tmp_path / "out" / name).read_bytes() for name in found}
    bring(class_names=None, datalist=str(path))
    assert {name: (tmp_path / "out" / name).read_bytes() for name in found} == before
    assert "warning" not in capsys.readouterr().out
    os.remove(tmp_path / "drawn" / "p1_scribble_2.seg.nrrd")
    bring()
    old = tmp_path / "out" / "p1_scribble_2.nii.gz"
    warned = f"warning: {old} was there before; take it away, or `datalist` finds it beside the new ones"
    assert [line for line in capsys.readouterr().out.splitlines() if "warning" in line] == [warned]


def test_images_that_are_dicom_series(tmp_path: Path, dicom_writer: Callable[..., None]) -> None:
    for number in range(4):
        dicom_writer(
            tmp_path / "scans" / "p1" / f"{number}.dcm", np.zeros((10, 12), np.uint16), number=number, spacing=6.0
        )
    series = SimpleITK.ReadImage([str(tmp_path / "scans" / "p1" / f"{number}.dcm") for number in range(4)])
    drawn = with_values(strokes(), SLICER_VALUES)
    image = SimpleITK.GetImageFromArray(drawn.transpose(2, 1, 0))
    image.CopyInformation(series)
    (tmp_path / "drawn").mkdir()
    SimpleITK.WriteImage(image[2:9, 2:8, 1:3], str(tmp_path / "drawn" / "p1.mha"))
    names = ",".join(f"{name}={value}" for name, value in SLICER_VALUES.items())
    options = {"labels": str(tmp_path / "drawn"), "images": str(tmp_path / "scans"), "class_names": NAMES}
    main(**options, output=str(tmp_path / "out"), names=names)
    written = nib.load(tmp_path / "out" / "p1_scribble.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), strokes())
    spacing = np.linalg.norm(written.affine[:3, :3], axis=0)
    np.testing.assert_allclose(spacing, [1.25, 1.5, 6], rtol=1e-5)


def test_images_and_labels_in_one_folder_and_the_output_within(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    save_image(folder / "p1.nii.gz")
    save_slicer(folder / "p1.seg.nrrd", with_values(strokes(), SLICER_VALUES)[None], in_one_layer(SLICER_VALUES))
    options = {"labels": str(folder), "images": str(folder), "output": str(folder / "out"), "class_names": NAMES}
    for _ in range(2):  # what the first run wrote is no label of the second
        main(**options)
        assert [path.name for path in (folder / "out").iterdir()] == ["p1_scribble.nii.gz"]
    np.testing.assert_array_equal(np.asarray(nib.load(folder / "out" / "p1_scribble.nii.gz").dataobj), strokes())
    nested = tmp_path / "nested"
    save_image(nested / "p1.nii.gz")
    os.renames(folder / "p1.seg.nrrd", nested / "drawn" / "p1.seg.nrrd")
    main(**options | {"labels": str(nested / "drawn"), "images": str(nested)})


def test_leftovers_of_a_killed_run_go_and_sources_are_never_replaced(tmp_path: Path, scans: Path) -> None:
    save_slicer(
        tmp_path / "drawn" / "p1.seg.nrrd", with_values(strokes(), SLICER_VALUES)[None], in_one_layer(SLICER_VALUES)
    )
    left = tmp_path / "out" / ".0123456789ab.p1_scribble.nii.gz"
    left.parent.mkdir()
    left.touch()
    options = {"labels": str(tmp_path / "drawn"), "images": str(scans), "class_names": NAMES}
    main(**options, output=str(left.parent))
    assert [path.name for path in left.parent.iterdir()] == ["p1_scribble.nii.gz"]
    for option in ("labels", "images"):
        assert refused(**options, output=f"{options[option]}/") == (
            f"{options[option]}/: is the folder of --{option}; choose another --output"
        )
    names = ",".join(f"{name}={value}" for name, value in SLICER_VALUES.items())
    save_nifti(tmp_path / "drawn" / "p1_scribble.nii.gz", with_values(strokes(), SLICER_VALUES))
    pattern = str(tmp_path / "drawn" / "p1_scribble*")
    message = refused(**options | {"labels": pattern}, names=names, output=str(tmp_path / "drawn"))
    assert message.startswith(f"{pattern}: no image found")  # nor is the output folder searched for labels


def write_label(folder: Path, **changes: Any) -> Path:
    """A good segmentation, but for the changes."""
    arguments: dict[str, Any] = {
        "layers": with_values(strokes(), SLICER_VALUES)[None],
        "segments": in_one_layer(SLICER_VALUES),
    }
    path = folder / "drawn" / "p1.seg.nrrd"
    save_slicer(path, **arguments | changes)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"segments": in_one_layer({"LV": 1, "bg": 2, "RV": 3, "MYO": 4})},
            'no class is called "bg"; the names may be',
        ),
        ({"segments": in_one_layer({"LV": 1, "bg_scribble": 2, "RV": 3})}, "there are voxels of value 4, which has no"),
        ({"segments": in_one_layer(SLICER_VALUES | {"lv": 5})}, '"LV", "lv" mean the same class; join the two'),
        ({"segments": []}, "does not tell what its values are called; give --names, a table or RV=3,MYO=1"),
        ({"segments": [("LV", 1, 3)]}, 'segment "LV" is said to be in layer 3, but there are 1'),
        ({"layers": np.zeros((1, *SHAPE))}, "nothing is drawn in it; draw, or take the file away"),
        ({"layers": np.zeros((1, 1, 1, 1))}, "nothing is drawn in it; draw, or take the file away"),
        ({"layers": np.zeros((2, *SHAPE)), "segments": []}, "has 2 layers or channels without names; give a label map"),
        ({"start": (0, 0, 2)}, "16 of its voxels lie outside of the image; is it the drawing of another image?"),
        ({"start": (0.5, 0, 0)}, "its voxels are up to 0.5 voxels beside the image's; export it on the image's grid"),
    ],
)
def test_files_that_do_not_fit(changes: dict[str, Any], message: str, tmp_path: Path, scans: Path) -> None:
    path = write_label(tmp_path, **changes)
    options = {"labels": str(path), "images": str(scans), "class_names": NAMES, "output": str(tmp_path / "out")}
    assert refused(**options).startswith(f"{path}: {message}")
    assert not list((tmp_path / "out").iterdir())


def test_a_class_without_a_segment(tmp_path: Path, scans: Path) -> None:
    drawn = np.where(strokes() == 2, 4, strokes())
    values = {name: value for name, value in SLICER_VALUES.items() if name != "MYO"}
    path = write_label(tmp_path, layers=with_values(drawn, SLICER_VALUES)[None], segments=in_one_layer(values))
    options = {"labels": str(path), "images": str(scans), "class_names": NAMES, "output": str(tmp_path / "out")}
    assert refused(**options) == (
        f'{path}: there is no segment called "MYO"; add it, even if it is empty, or set allow_missing'
    )
    main(**options, allow_missing=True)
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "out" / "p1_scribble.nii.gz").dataobj), drawn)


def test_damaged_files(tmp_path: Path, scans: Path) -> None:
    path = write_label(tmp_path)
    options = {"labels": str(path), "images": str(scans), "class_names": NAMES, "output": str(tmp_path / "out")}
    whole = path.read_bytes()
    for content in (whole[:-100], whole[:60], b"", b"x" * 500):
        path.write_bytes(content)
        assert refused(**options).startswith(f"{path}: cannot be read, it is cut short, damaged or no image")
    path.write_bytes(whole)
    (scans / "p1.nii.gz").write_bytes(b"\x1f\x8b")
    assert refused(**options).startswith(f"{scans / 'p1.nii.gz'}: cannot be read, it is cut short")
    assert not list((tmp_path / "out").iterdir())


def test_cases_that_do_not_match(tmp_path: Path, scans: Path) -> None:
    path = write_label(tmp_path)
    options = {"labels": str(path.parent), "images": str(scans), "class_names": NAMES, "output": str(tmp_path / "out")}
    os.rename(path, path.with_name("p3.seg.nrrd"))
    assert refused(**options) == (
        f"{path.with_name('p3.seg.nrrd')}: no image is of its case, p3; rename it, or complete --images ({scans})"
    )
    os.rename(path.with_name("p3.seg.nrrd"), path)
    save_nifti(path.with_name("p1_label.nii.gz"), strokes())
    assert "p1.seg.nrrd" in (message := refused(**options))
    assert message.endswith("are both of case p1; rename one, or let --labels be a pattern that leaves one out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": None}, "give --class_names, or a --datalist that has them, and not both"),
        ({"datalist": "x.json"}, "give --class_names, or a --datalist that has them, and not both"),
        ({"class_names": None, "datalist": "x.json"}, "x.json: no such datalist; correct the path or prepare the data"),
        ({"class_names": "RV,MYO"}, '--class_names begins with "RV"; value 0 is the background, begin with'),
        ({"class_names": "background,RV,rv"}, 'class_names: "rv" is empty or may mean two things; give each class a'),
        ({"names": "RV:1"}, "--names 'RV:1': write the value of each name such as \"RV=3,MYO=1\", or name a table"),
        ({"names": "no.txt"}, "no.txt: no such file; correct the path of the table of names"),
        ({"labels": "nowhere"}, "nowhere: no such file or folder; correct the path"),
        ({"images": "nowhere"}, "nowhere: no such file or folder; correct the path"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str, tmp_path: Path, scans: Path) -> None:
    named = {"labels": str(write_label(tmp_path)), "images": str(scans), "class_names": NAMES}
    told = refused(**{"output": str(tmp_path / "out")} | named | options)
    assert re.sub(rf"^{re.escape(os.getcwd())}/", "", told).startswith(message)
    assert not (tmp_path / "out").exists()


def test_the_command_line(tmp_path: Path, scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_label(tmp_path)
    command = ["import_labels", "--labels", str(path), "--images", str(scans), "--output", str(tmp_path / "out")]
    assert run_tools([*command, "--class_names", NAMES]) == 0
    assert "1 files of 1 cases" in capsys.readouterr().out
    assert run_tools([*command, "--class_names", "background,RV"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f'error: {path}: no class is called "LV", "MYO"; the names may be bg_scribble, RV')
