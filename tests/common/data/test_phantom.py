from __future__ import annotations

import json
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import voxel_sizes
from scipy import ndimage

from common.data import phantom
from common.data.checks import check_items
from common.data.datalist import load_datalist
from common.data.phantom import default_phantom_dir, ensure_phantom, make_phantom
from common.errors import UserError

SECTIONS = ("training", "unpaired_masks", "unlabelled", "validation", "test")


def voxels(path: str | Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def annotated_images(folder: Path) -> list[Path]:
    return [path.with_name(path.name.replace("_gt", "")) for path in sorted(folder.glob("*/*_gt.nii.gz"))]


def sibling(image: Path, kind: str) -> np.ndarray:
    return voxels(image.with_name(image.name.replace(".nii.gz", f"_{kind}.nii.gz")))


@pytest.fixture(scope="module")
def images(phantom_dir) -> list[Path]:
    return annotated_images(phantom_dir)


@pytest.mark.parametrize(
    ("patients", "expected"),
    [(4, (1, 1, 1, 1)), (6, (2, 2, 1, 1)), (12, (4, 4, 1, 3)), (24, (8, 8, 2, 6))],
)
def test_patients_are_split_in_proportion(patients, expected, tmp_path, monkeypatch):
    def write_patient(folder, number, seed, *, with_extra_frame):
        frames = [{"image": "i", "mask": "m", "scribble": "s", "case": "c", "patient": f"{number}", "phase": "ED"}] * 2
        return frames + [{"image": "i", "case": "c", "patient": f"{number}"}] * with_extra_frame

    monkeypatch.setattr(phantom, "_write_patient", write_patient)
    content = json.loads(make_phantom(tmp_path / "phantom", num_patients=patients).read_text())
    found = {name: {item["patient"] for item in content[name]} for name in SECTIONS}
    assert tuple(len(found[name]) for name in SECTIONS if name != "unlabelled") == expected
    assert len(set().union(*found.values())) == patients
    assert found["unlabelled"] == found["training"]
    assert len(content["unlabelled"]) == 3 * expected[0]
    assert all("image" not in item for item in content["unpaired_masks"])


def test_the_files_pass_the_checks_of_user_data(phantom_dir):
    kinds = ("scribble", "mask", "image", "dense", "dense")
    for section, kind in zip(SECTIONS, kinds, strict=True):
        items = load_datalist(phantom_dir / "datalist.json", section)
        check_items(items, num_classes=4, kind=kind)
        assert all(item["phase"] in ("ED", "ES") for item in items if section != "unlabelled")
    assert voxels(items[0]["image"]).dtype == np.int16
    assert voxels(items[0]["label"]).dtype == np.uint8


def test_grids_differ_between_patients_and_are_oblique(images):
    files = [nib.load(image) for image in images[::2]]
    spacings = np.array([voxel_sizes(file.affine) for file in files])
    np.testing.assert_allclose(spacings[:, 0], spacings[:, 1])
    assert ((spacings >= (1.25, 1.25, 8)) & (spacings <= (1.7, 1.7, 10))).all()
    assert len(np.unique(spacings.round(4), axis=0)) == len(files)
    for file in files:
        x, y, slices = file.shape
        assert 160 <= x <= 200
        assert 172 <= y <= 216
        assert 6 <= slices <= 12
        turn = file.affine[:3, :3] / voxel_sizes(file.affine)
        np.testing.assert_allclose(turn.T @ turn, np.eye(3), atol=1e-5)
        assert (np.abs(turn) > 1e-3).all()  # turned about all axes
        assert (np.abs(np.diag(turn)) > 0.7).all()  # yet each axis keeps its name
        np.testing.assert_allclose(file.header.get_qform(), file.header.get_sform(), atol=1e-3)
        assert file.header["qform_code"] == file.header["sform_code"] == 1
        assert np.linalg.norm(file.affine[:3, 3]) > 10


def test_the_anatomy_holds(images):
    centres, apical = [], []
    for image in images:
        mask = sibling(image, "gt")
        area = np.array([(mask == index).sum(axis=(0, 1)) for index in range(4)])
        heart_slices = np.flatnonzero(area[3])
        assert len(heart_slices) >= 4
        # the pool is enclosed: nothing next to it (not even diagonally) is background or right ventricle
        grown = ndimage.binary_dilation(mask == 3, np.ones((3, 3, 1)))
        assert not np.isin(mask[grown], (0, 1)).any()
        # the right ventricle touches the ring and is smaller in its last slice than in its first
        assert (ndimage.binary_dilation(mask == 1, np.ones((3, 3, 1))) & (mask == 2)).any()
        right = np.flatnonzero(area[1])
        assert right.max() <= heart_slices.max()
        apical.append(heart_slices.max() - right.max())
        assert area[1][right.max()] < area[1][right.min()]
        assert area[3][heart_slices.max()] < 0.6 * area[3].max()
        spacing = voxel_sizes(nib.load(image).affine)
        middle = np.argwhere(mask[..., heart_slices[0]] == 3).mean(axis=0) - (np.array(mask.shape[:2]) - 1) / 2
        centres.append(middle * spacing[:2])
    assert (np.ptp(centres, axis=0) > (10, 10)).all()  # mm: hearts lie in different places
    assert np.mean(apical) >= 0.75  # slices near the apex without right ventricle
    without_heart = [(sibling(image, "gt") > 0).any(axis=(0, 1)) for image in images]
    assert any(not slices.all() for slices in without_heart)


def test_the_heart_contracts(images):
    for diastole, systole in zip(images[::2], images[1::2], strict=True):
        assert diastole.parent == systole.parent
        assert diastole.name.endswith("_frame01.nii.gz")
        first, second = sibling(diastole, "gt"), sibling(systole, "gt")
        assert 0.2 < (second == 3).sum() / (first == 3).sum() < 0.85
        assert (second == 1).sum() < (first == 1).sum()

        def thickness(mask):  # mm-free: mean depth of the ring in its largest slice
            plane = mask[..., (mask == 3).sum(axis=(0, 1)).argmax()] == 2
            return ndimage.distance_transform_edt(plane)[plane].mean()

        assert thickness(second) > 1.05 * thickness(first)


def test_pools_are_bright_and_papillary_muscles_belong_to_the_pool(images):
    scale = []
    for image in images:
        stored, mask = voxels(image), sibling(image, "gt")
        pool, ring = np.median(stored[mask == 3]), np.median(stored[mask == 2])
        assert 0.25 < ring / pool < 0.7
        assert (stored[mask == 3] < 1.3 * ring).mean() > 0.03
        background = stored[mask == 0]
        assert (background > pool).sum() > 0.1 * (mask == 3).sum()  # as bright as the pool, yet background
        scale.append(pool)
    assert max(scale) > 1.5 * min(scale)


def test_scribbles_agree_with_the_masks_and_cover_as_much_as_acdc(images):
    shares = []
    for image in images:
        mask, scribble = sibling(image, "gt"), sibling(image, "scribble")
        drawn = scribble < 4
        np.testing.assert_array_equal(scribble[drawn], mask[drawn])
        for z in range(mask.shape[2]):
            assert set(np.unique(scribble[..., z])) - {4} == set(np.unique(mask[..., z])) | {0}
        shares.append([100 * (scribble == index).mean() for index in range(4)])
    # percent of the pixels in ACDC: 0.64, 0.12, 0.18, 0.12
    mean = np.mean(shares, axis=0)
    assert (mean > (0.32, 0.05, 0.09, 0.05)).all()
    assert (mean < (1.28, 0.25, 0.36, 0.25)).all()


def test_a_patient_depends_on_the_seed_and_its_number_alone(phantom_dir, tmp_path):
    again = make_phantom(tmp_path / "again", num_patients=4, seed=0).parent
    other = make_phantom(tmp_path / "other", num_patients=4, seed=1).parent
    for image in annotated_images(again):
        theirs = phantom_dir / image.relative_to(again)
        for kind in ("", "_gt", "_scribble"):
            first, second = (Path(str(path).replace(".nii.gz", f"{kind}.nii.gz")) for path in (image, theirs))
            assert first.read_bytes() == second.read_bytes()
    first = "patient001/patient001_frame01.nii.gz"
    assert (again / first).read_bytes() != (other / first).read_bytes()


def small_patient(folder, number, seed, *, with_extra_frame):
    (folder / f"{number}").write_text("voxels")
    return [{"image": f"{number}", "mask": f"{number}", "scribble": f"{number}", "case": "c", "patient": f"{number}"}]


def test_concurrent_makers_do_not_clash(tmp_path, monkeypatch):
    barrier = threading.Barrier(4)

    def write_patient(folder, number, seed, *, with_extra_frame):
        if number == 4:
            barrier.wait(timeout=20)  # all have begun, none has finished
        return small_patient(folder, number, seed, with_extra_frame=with_extra_frame)

    monkeypatch.setattr(phantom, "_write_patient", write_patient)
    paths: list[Path] = []
    makers = [
        threading.Thread(target=lambda: paths.append(make_phantom(tmp_path / "phantom", num_patients=4)))
        for _ in range(4)
    ]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join(timeout=30)
    assert paths == [tmp_path / "phantom" / "datalist.json"] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["phantom"]
    assert len(load_datalist(paths[0], "training")) == 1


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of paint")

    monkeypatch.setattr(phantom, "_write_patient", fail)
    with pytest.raises(RuntimeError, match="out of paint"):
        make_phantom(tmp_path / "phantom")
    assert not list(tmp_path.iterdir())


def test_another_phantom_is_neither_taken_nor_overwritten(tmp_path, monkeypatch):
    monkeypatch.setattr(phantom, "_write_patient", small_patient)
    datalist = make_phantom(tmp_path / "phantom", num_patients=4, seed=0)
    before = datalist.stat().st_mtime_ns
    assert make_phantom(tmp_path / "phantom", num_patients=4, seed=0) == datalist
    for options in ({"num_patients": 4, "seed": 1}, {"num_patients": 5, "seed": 0}):
        with pytest.raises(UserError, match="holds something else"):
            make_phantom(tmp_path / "phantom", **options)
    assert datalist.stat().st_mtime_ns == before


def test_ensure_makes_the_default_phantom_alone(tmp_path, monkeypatch):
    default = tmp_path / "data" / "phantom"
    monkeypatch.setattr(phantom, "_write_patient", small_patient)
    monkeypatch.setattr(phantom, "default_phantom_dir", lambda: default)
    other = tmp_path / "mine"
    with pytest.raises(UserError, match=r"mine: holds no datalist\.json.*tools prepare.*dataset_dir"):
        ensure_phantom(other)
    assert not other.exists()
    made = ensure_phantom(default)
    assert made == default / "datalist.json"
    changed = made.stat().st_mtime_ns
    assert ensure_phantom(str(default)) == made
    assert made.stat().st_mtime_ns == changed
    other.mkdir()
    (other / "datalist.json").write_text("{}")
    assert ensure_phantom(other) == other / "datalist.json"


def test_the_default_folder(repo_root):
    assert default_phantom_dir() == repo_root / "data" / "phantom"


@pytest.mark.parametrize(("options", "message"), [({"num_patients": 3}, "at least 4"), ({"seed": -1}, "seed is -1")])
def test_wrong_options(options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        make_phantom(tmp_path / "phantom", **options)
