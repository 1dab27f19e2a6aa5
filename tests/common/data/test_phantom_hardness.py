"""Whether the phantom tells methods apart: brightness and scribbles alone fall short of dense masks, which suffice."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.networks.nets import UNet
from nibabel.affines import voxel_sizes
from scipy import ndimage
from scipy.cluster.vq import kmeans2
from torch.nn import functional as F

from common.data.datalist import load_datalist
from common.data.phantom import make_phantom
from common.transforms.batch_augmentation import BatchAugmentation

SPACING, SIZE = 3.0, 72  # mm, pixels: 216 mm hold every heart and most of the chest
STEPS, BATCH = 500, 8


@pytest.fixture(autouse=True)
def one_thread():
    """Two threads wait for each other more than they compute: the images are small, and the machine may be busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def coarse(path: str, *, fill: float | None = None) -> torch.Tensor:
    """A volume as slices [Z, SIZE, SIZE] of SPACING mm, cut or filled around its middle; images get zero mean."""
    file = nib.load(path)
    volume = np.asarray(file.dataobj).astype(np.float32)
    if fill is None:
        volume = np.minimum(volume, np.percentile(volume, 99))
        volume = ndimage.gaussian_filter((volume - volume.mean()) / volume.std(), (0.6, 0.6, 0))
        fill = float(volume.min())
    offset = (np.arange(SIZE) - (SIZE - 1) / 2) * SPACING / voxel_sizes(file.affine)[0]
    rows, columns = (np.rint(offset + (extent - 1) / 2).astype(int) + SIZE for extent in volume.shape[:2])
    padded = np.pad(volume, ((SIZE, SIZE), (SIZE, SIZE), (0, 0)), constant_values=fill)
    return torch.from_numpy(np.moveaxis(padded[rows][:, columns], 2, 0).copy())


def mean_dice(images: torch.Tensor, labels: torch.Tensor, test: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Train a small U-Net with cross entropy and give its Dice over classes and test volumes."""
    torch.manual_seed(0)
    net = UNet(2, 1, 4, channels=(12, 24, 48, 96), strides=(2, 2, 2), num_res_units=1, norm="batch")
    optimizer = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=STEPS)
    augment = BatchAugmentation(
        ignore_index=4, rotation=20, translation=0.08, scale=0.12, brightness=0.1, contrast=0.15, noise=0.05
    )
    for _ in range(STEPS):
        chosen = torch.randint(len(images), (BATCH,))
        image, label = augment(images[chosen], labels[chosen])
        optimizer.zero_grad()
        F.cross_entropy(net(image), label[:, 0], ignore_index=4).backward()
        optimizer.step()
        schedule.step()
    net.eval()
    scores = []
    for image, mask in test:
        with torch.no_grad():
            prediction = net(image).argmax(1, keepdim=True)
        for index in (1, 2, 3):
            found, true = prediction == index, mask == index
            scores.append(2 * (found & true).sum().item() / (found.sum() + true.sum()).item())
    return float(np.mean(scores))


def test_brightness_alone_does_not_tell_the_classes(phantom_dir: Path):
    scores = []
    for path in sorted(phantom_dir.glob("*/*_gt.nii.gz")):
        mask = np.asarray(nib.load(path).dataobj).ravel()
        stored = np.asarray(nib.load(str(path).replace("_gt.nii", ".nii")).dataobj).ravel().astype(float)
        start = np.quantile(stored, (0.1, 0.5, 0.8, 0.95))[:, None]
        cluster = kmeans2(stored[:, None], start, minit="matrix")[1]
        overlap = np.histogram2d(cluster, mask, bins=[np.arange(5), np.arange(5)])[0]
        dice = 2 * overlap / (overlap.sum(1)[:, None] + overlap.sum(0))
        matches = itertools.permutations(range(4), 3)
        scores.append(max(dice[list(match), [1, 2, 3]].mean() for match in matches))
    assert len(scores) == 12
    assert np.mean(scores) < 0.4
    assert np.max(scores) < 0.6


@pytest.mark.slow
def test_scribbles_alone_fall_short_of_dense_masks(tmp_path: Path):
    datalist = make_phantom(tmp_path / "phantom", num_patients=24, seed=0)
    training = load_datalist(datalist, "training")
    images = torch.cat([coarse(item["image"]) for item in training])[:, None]
    scribbles = torch.cat([coarse(item["label"], fill=4) for item in training])[:, None].long()
    masks = [item["label"].replace("_scribble.nii", "_gt.nii") for item in training]
    dense = torch.cat([coarse(mask, fill=0) for mask in masks])[:, None].long()
    test = [
        (coarse(item["image"])[:, None], coarse(item["label"], fill=0)[:, None].long())
        for item in load_datalist(datalist, "test")
    ]
    assert len(test) == 12
    with_masks, with_scribbles = mean_dice(images, dense, test), mean_dice(images, scribbles, test)
    print(f"dense {with_masks:.3f}, scribbles {with_scribbles:.3f}")
    assert with_masks >= 0.85
    assert with_scribbles <= with_masks - 0.10
