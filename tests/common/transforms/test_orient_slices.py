"""OrientSlicesd: the slice axis last, in-plane axes to left, posterior, inferior, and an exact way back."""

from __future__ import annotations

import pickle

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import Compose, Invertd

from common.errors import UserError
from common.transforms.orient_slices import OrientSlicesd
from common.transforms.volume_axes import AFFINE_TOLERANCE, affine_gap, through_plane_axis


def volume(codes: str, spacing: dict[str, float], size: tuple[int, int, int] = (5, 6, 7)) -> MetaTensor:
    """A volume whose axes run towards ``codes``; ``spacing`` is given per anatomical pair (R, A, S)."""
    affine = np.linalg.inv(nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(codes), (1, 1, 1)))
    affine = np.diag([spacing["R"], spacing["A"], spacing["S"], 1.0]) @ affine
    affine[:3, 3] = [-11.1, 22.2, 33.3]
    voxels = torch.arange(float(np.prod(size))).reshape(1, *size)
    return MetaTensor(voxels, affine=torch.as_tensor(affine))


AXIAL, SAGITTAL, CORONAL = ({"R": 1.0, "A": 1.0, "S": 1.0, wide: 4.0} for wide in "SRA")


@pytest.mark.parametrize(
    ("codes", "spacing", "expected"),
    [
        ("RAS", AXIAL, "LPS"),  # in-plane axes flipped, slices as stored
        ("LPS", AXIAL, "LPS"),
        ("LPI", AXIAL, "LPI"),  # the slice axis is never flipped
        ("PIR", SAGITTAL, "PIR"),
        ("RSA", CORONAL, "LIA"),
        ("SAR", SAGITTAL, "PIR"),  # P/A before I/S
        ("SAR", AXIAL, "LPS"),  # stored first axis is the slice axis
        ("PSR", SAGITTAL, "PIR"),
        ("LSP", CORONAL, "LIP"),
    ],
)
def test_radiological_axes(codes: str, spacing: dict[str, float], expected: str) -> None:
    turned = OrientSlicesd("image")({"image": volume(codes, spacing)})["image"]
    assert "".join(nib.aff2axcodes(turned.affine)) == expected
    assert np.linalg.norm(turned.affine[:3, 2]) == pytest.approx(4.0)


def test_affines_of_one_grid() -> None:
    affine = volume("SAR", AXIAL).affine
    moved = affine.clone()
    moved[1, 3] -= 0.25
    assert affine_gap(affine, affine.numpy()) == 0.0
    assert affine_gap(affine.numpy(), moved) == pytest.approx(0.25)
    for nowhere in (np.nan, np.inf):
        moved[0, 0] = nowhere
        assert affine_gap(affine, moved) > AFFINE_TOLERANCE
        assert affine_gap(moved, moved) > AFFINE_TOLERANCE


def test_voxels_keep_their_place_in_the_patient() -> None:
    image = volume("SAR", AXIAL)
    turned = OrientSlicesd("image")({"image": image})["image"]
    # Every value is unique: where value v lies in mm, before and after, must agree.
    before = np.argwhere(np.ones(image.shape[1:])) @ image.affine[:3, :3].numpy().T + image.affine[:3, 3].numpy()
    after = np.argwhere(np.ones(turned.shape[1:])) @ turned.affine[:3, :3].numpy().T + turned.affine[:3, 3].numpy()
    order_before = np.argsort(image.numpy().ravel())
    order_after = np.argsort(turned.numpy().ravel())
    np.testing.assert_allclose(before[order_before], after[order_after], atol=1e-9)


def test_stored_in_plane_axes() -> None:
    turned = OrientSlicesd("image", in_plane="stored")({"image": volume("SAR", AXIAL)})["image"]
    assert "".join(nib.aff2axcodes(turned.affine)) == "ARS"
    assert turned.shape == (1, 6, 7, 5)


@pytest.mark.parametrize(
    ("spacing", "shape", "axis"),
    [
        ((1.0, 1.0, 4.0), (9, 9, 9), 2),
        ((4.0, 1.0, 1.0), (9, 9, 9), 0),
        ((1.4, 1.0, 1.0), (9, 9, 9), 2),  # 1.4 < 1.5 * 1: nearly isotropic, the last axis as stored
        ((1.5, 1.0, 1.0), (9, 9, 9), 0),  # 1.5 >= 1.5 * 1
        ((1.0, 1.0, 1.0), (9, 9, 9), 2),
        ((3.0, 3.0, 1.0), (9, 9, 9), 1),  # two equally wide axes: the later one
        ((1.5, 1.5, 0.5), (9, 9, 1), 2),  # one slice thinner than its pixels
        ((1.0, 1.0, 1.0), (1, 9, 9), 0),
        ((1.0, 1.0, 4.0), (1, 9, 1), 2),  # two axes of one voxel: the spacing decides
    ],
)
def test_through_plane_axis(spacing: tuple, shape: tuple, axis: int) -> None:
    assert through_plane_axis(spacing, shape) == axis


@pytest.mark.parametrize("in_plane", ["radiological", "stored"])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAR", "ASL", "IRP"])
def test_inverse_is_exact(codes: str, in_plane: str) -> None:
    generator = np.random.default_rng(3)
    image = volume(codes, AXIAL)
    image.affine[:3] += torch.as_tensor(generator.normal(0, 0.05, (3, 4)))
    transform = OrientSlicesd("image", in_plane=in_plane)
    before = image.clone()
    restored = transform.inverse(transform({"image": image}))["image"]
    assert torch.equal(restored.as_tensor(), before.as_tensor())
    assert torch.equal(restored.affine, before.affine)
    assert restored.applied_operations == []
    assert torch.equal(image.as_tensor(), before.as_tensor())
    assert torch.equal(image.affine, before.affine)


def test_image_and_label_turn_together_and_a_missing_label_is_skipped() -> None:
    image, label = volume("SAR", AXIAL), volume("SAR", AXIAL)
    turned = OrientSlicesd(["image", "label"])({"image": image, "label": label, "case": "a"})
    assert torch.equal(turned["image"].as_tensor(), turned["label"].as_tensor())
    assert turned["case"] == "a"
    only = OrientSlicesd(["image", "label"], allow_missing_keys=True)({"image": image})
    assert set(only) == {"image"}
    with pytest.raises(KeyError):
        OrientSlicesd(["image", "label"])({"image": image})


def both(image: MetaTensor, label: MetaTensor, **options: object) -> dict[str, MetaTensor]:
    """An image turned, then its label like it, as the bundles do."""
    turned = OrientSlicesd("image", **options)({"image": image, "label": label})
    return OrientSlicesd("label", like="image", **options)(turned)


@pytest.mark.parametrize("wide", [0.9, 1.05, 1.2, 2.4])
@pytest.mark.parametrize("slices", ["first", "last"])
def test_headers_of_32_bits_do_not_part_label_and_image_at_the_threshold(wide: float, slices: str) -> None:
    narrow = wide / 1.5
    spacing = (wide, narrow, narrow) if slices == "first" else (narrow, narrow, wide)
    exact = np.diag([*spacing, 1.0])
    voxels = torch.rand(1, 6, 5, 4)
    for rounded in (exact.astype(np.float32), exact * (1 - 1e-7), exact * (1 + 1e-7)):
        image = MetaTensor(voxels, affine=torch.as_tensor(exact))
        item = both(image, MetaTensor(voxels, affine=torch.as_tensor(rounded)))
        assert torch.equal(item["label"].as_tensor(), item["image"].as_tensor())
        assert torch.equal(item["label"].affine, item["image"].affine)


def test_directions_halfway_between_two_axes_turn_image_and_label_alike() -> None:
    turn, voxels = np.sqrt(0.5), torch.rand(1, 6, 5, 4)
    exact = np.diag([1.0, 1.0, 5.0, 1.0])
    exact[:2, :2] = [[turn, -turn], [turn, turn]]
    for nudge in (1e-6, -1e-6):
        nudged = exact.copy()
        nudged[:2, :2] += nudge * np.array([[1, 1], [-1, 1]])
        image, label = (MetaTensor(voxels, affine=torch.as_tensor(each)) for each in (exact, nudged))
        as_the_image = OrientSlicesd("label", like="image")
        item = as_the_image(OrientSlicesd("image")({"image": image, "label": label}))
        assert torch.equal(item["label"].as_tensor(), item["image"].as_tensor())
        restored = as_the_image.inverse(item)["label"]
        assert torch.equal(restored.as_tensor(), voxels)
        assert torch.equal(restored.affine, torch.as_tensor(nudged))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR"])
def test_label_without_an_image_is_turned_by_its_own_affine(codes: str) -> None:
    label = volume(codes, AXIAL)
    alone = OrientSlicesd("label", like="image")({"label": label})["label"]
    assert torch.equal(alone.as_tensor(), OrientSlicesd("label")({"label": label})["label"].as_tensor())


def test_label_of_a_picture_is_left_as_it_is_drawn() -> None:
    voxels = torch.rand(1, 8, 6)
    label = MetaTensor(voxels[..., None], affine=torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0])))
    item = both(MetaTensor(voxels), label, pixdim=[1.5, 1.5])
    assert torch.equal(item["label"].as_tensor(), item["image"].as_tensor())
    assert torch.equal(item["label"].affine, item["image"].affine)


def test_label_on_another_grid_is_refused() -> None:
    image, shifted = volume("LPS", AXIAL), volume("LPS", AXIAL)
    shifted.affine = shifted.affine + torch.as_tensor(np.outer([0.0, 0.25, 0, 0], [0, 0, 0, 1]))
    with pytest.raises(UserError, match=r"affine differs from the image's by 0\.250 mm .* save it on the grid of"):
        both(image, shifted)
    with pytest.raises(UserError, match=r"shape \(5, 6, 8\) differs from the image's \(5, 6, 7\); save it on"):
        both(image, volume("LPS", AXIAL, (5, 6, 8)))
    with pytest.raises(ValueError, match="has not been turned"):
        OrientSlicesd("label", like="image")({"image": image, "label": image})


@pytest.mark.parametrize("channels", [1, 3])
def test_picture_gets_a_slice_axis_and_the_spacing(channels: int) -> None:
    image = MetaTensor(torch.rand(channels, 8, 6))
    before = image.clone()
    transform = OrientSlicesd("image", pixdim=[1.5, 1.25])
    turned = transform({"image": image})["image"]
    assert torch.equal(turned.as_tensor()[..., 0], before.as_tensor())  # no flip, no swap
    assert turned.shape == (channels, 8, 6, 1)
    assert np.linalg.norm(turned.affine[:3, :3], axis=0).tolist() == [1.5, 1.25, 1.0]
    restored = transform.inverse({"image": turned})["image"]
    assert torch.equal(restored.as_tensor(), before.as_tensor())
    assert torch.equal(restored.affine, before.affine)


def test_flat_medical_image_keeps_its_own_spacing() -> None:
    affine = torch.diag(torch.tensor([0.8, 0.8, 5.0, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.rand(1, 8, 6), affine=affine, meta={"original_affine": affine.numpy()})
    turned = OrientSlicesd("image", pixdim=[1.5, 1.5])({"image": image})["image"]
    assert np.linalg.norm(turned.affine[:3, :3], axis=0) == pytest.approx([0.8, 0.8, 5.0])
    assert nib.aff2axcodes(turned.affine) == ("L", "P", "S")
    assert torch.equal(turned.as_tensor()[..., 0], image.as_tensor().flip([1, 2]))


def test_prediction_is_inverted_after_loader_workers() -> None:
    images = [volume(codes, AXIAL) for codes in ("SAR", "IAL")]
    transform = Compose([OrientSlicesd(["image", "label"])])
    items = [{"image": image, "label": image} for image in images]
    batch = next(iter(DataLoader(Dataset(items, transform), batch_size=2, num_workers=2)))
    del batch["label"]  # a prediction needs the image alone
    batch["pred"] = batch["image"] * 2
    invert = Invertd("pred", transform, orig_keys="image", nearest_interp=True)
    for image, item in zip(images, decollate_batch(batch), strict=True):
        restored = invert(item)["pred"]
        assert torch.equal(restored.as_tensor(), image.as_tensor() * 2)
        assert torch.equal(restored.affine, image.affine)


def test_a_pickled_transform_inverts_where_processes_are_spawned(monkeypatch: pytest.MonkeyPatch) -> None:
    transform, image = OrientSlicesd("image"), volume("SAR", AXIAL)
    turned = pickle.loads(pickle.dumps(transform({"image": image})))
    copy = pickle.loads(pickle.dumps(transform))
    monkeypatch.setattr(torch.multiprocessing, "get_start_method", lambda allow_none=False: "spawn")
    restored = copy.inverse(turned)["image"]
    assert torch.equal(restored.as_tensor(), image.as_tensor())
    assert torch.equal(restored.affine, image.affine)


def test_mistakes() -> None:
    with pytest.raises(UserError, match="orientation is 'neuro': choose one of radiological, stored"):
        OrientSlicesd("image", in_plane="neuro")
    with pytest.raises(UserError, match=r"pixdim is \[1\.5\]: give two positive"):
        OrientSlicesd("image", pixdim=[1.5])
    with pytest.raises(UserError, match="has 4 spatial axes"):
        OrientSlicesd("image")({"image": MetaTensor(torch.zeros(1, 2, 2, 2, 2))})
    flat = MetaTensor(torch.zeros(1, 4, 4, 4), affine=torch.diag(torch.tensor([1.0, 1.0, 0.0, 1.0])))
    with pytest.raises(UserError, match="without three directions"):
        OrientSlicesd("image")({"image": MetaTensor(torch.zeros(1, 4, 4, 4), affine=torch.full((4, 4), torch.nan))})
    with pytest.raises(UserError, match="without three directions"):
        OrientSlicesd("image")({"image": flat})
    with pytest.raises(TypeError, match="needs a MetaTensor"):
        OrientSlicesd("image")({"image": torch.zeros(1, 4, 4, 4)})
