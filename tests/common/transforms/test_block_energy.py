from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from common.transforms.block_energy import block_energy, block_saliency
from common.transforms.mask_cut import labelling_energy

SWAP = torch.tensor([1, 0])


def test_block_saliency_by_hand() -> None:
    saliency = torch.zeros(2, 1, 4, 4)
    saliency[0, 0, 0, 0], saliency[0, 0, 3, 2] = 1.0, 3.0
    expected = torch.tensor([[[0.25, 0.0], [0.0, 0.75]], [[0.0, 0.0], [0.0, 0.0]]])
    torch.testing.assert_close(block_saliency(saliency, 2), expected)


def test_saliency_and_prior_by_hand() -> None:
    saliency = torch.zeros(2, 1, 2, 2)
    saliency[0, 0, 0, 0] = saliency[1, 0, 1, 1] = 2.0
    costs, right, down = block_energy(torch.zeros(2, 1, 2, 2), saliency, SWAP, share=0.25, blocks=2, eta=0.2, beta=1.6)
    # showing an image hides the other's saliency; of three labels the middle one hides half of either
    hidden = torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.5, 0.0]])
    # -0.2 / 2^2 log of 1/16, 2 * 3/16 and 9/16
    prior = torch.tensor([0.05 * math.log(16), 0.05 * math.log(16 / 6), 0.05 * math.log(16 / 9)])
    torch.testing.assert_close(costs[0].permute(1, 2, 0).reshape(4, 3), hidden + prior)
    # beta / 16 / 2 = 0.05 between shares, a quarter of it between labels
    torch.testing.assert_close(right, torch.full((2, 2, 1), 0.0125))
    torch.testing.assert_close(down, torch.full((2, 1, 2), 0.0125))


def test_differences_along_a_border_by_hand() -> None:
    # 4 x 4 pixels, blocks of 2 x 2, compared pixel by pixel
    image = torch.zeros(2, 1, 4, 4)
    image[0, 0, :2, 1] = torch.tensor([2.0, 4.0])  # left of the upper border, item 0
    image[1, 0, :2, 2] = 6.0  # right of it, item 1
    options: dict[str, Any] = {
        "share": 0.5,
        "blocks": 2,
        "n_labels": 2,
        "eta": 0.0,
        "beta": 32.0,
        "gamma": 0.5,
        "neigh_size": 1,
    }
    costs, right, _ = block_energy(image, torch.zeros(2, 1, 4, 4), SWAP, **options)
    # halved intensities: item 0 at the left (1, 2), item 1 at the right (3, 3), all else equal; b = 32 / 32 = 1
    # d_11 = mean(1, 2) = 1.5, d_12 = mean(2, 1) = 1.5, d_21 = 0, d_22 = 3, each times 1 * 0.5
    # w = 0.5 * (1.5 + 0 - 1.5 - 3) / 2 = -0.75, w + b = 0.25
    assert right[0, 0, 0].item() == pytest.approx(0.25)
    left_block, right_block = costs[0, :, 0, 0], costs[0, :, 0, 1]
    # halves: left 1: (1.5 + 1.5) / 2, left 2: (0 + 3) / 2; right 1: (1.5 + 0) / 2, right 2: (1.5 + 3) / 2; times 0.5
    # below the left block: mean over columns 0 and 1 of item 0's (0, 2) is 1, of item 1's 0: d_11 = d_12 = 1
    # below the right block: item 1's (3, 0), mean 1.5: d_21 = d_22 = 1.5
    assert left_block.tolist() == pytest.approx([0.75 + 0.5 * (1 + 1) / 2, 0.75])
    assert right_block.tolist() == pytest.approx([0.375, 1.125 + 0.5 * (1.5 + 1.5) / 2])


def plain_energy(shown: np.ndarray, image: np.ndarray, saliency: np.ndarray, share: float, gamma: float) -> float:
    """Energy of a mask of two images ``[2, H, W]``, 0 or 1 for each of 2 x 2 blocks, as the terms say."""
    smooth = 1.2 / 16 / 2
    block = image.shape[1] // 2
    image = image * 0.5 + 0.5
    pooled = saliency.reshape(2, 2, block, 2, block).sum(axis=(2, 4)) / saliency.sum(axis=(1, 2))[:, None, None]
    total = sum(pooled[1 - shown[i, j], i, j] for i in range(2) for j in range(2))
    for i in range(2):
        left, right = image[shown[i, 0], :, block - 1], image[shown[i, 1], :, block]
        total += smooth * gamma * np.abs(left - right)[i * block : (i + 1) * block].mean()
        total += smooth * (shown[i, 0] != shown[i, 1])
        top, bottom = image[shown[0, i], block - 1], image[shown[1, i], block]
        total += smooth * gamma * np.abs(top - bottom)[i * block : (i + 1) * block].mean()
        total += smooth * (shown[0, i] != shown[1, i])
    chosen = shown.sum()
    return float(total - 0.2 / 4 * ((4 - chosen) * math.log(share + 1e-8) + chosen * math.log(1 - share + 1e-8)))


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_energies_of_all_masks_of_two_labels_differ_as_the_terms_say(gamma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 1, 6, 6, generator=generator)
    saliency = torch.rand(2, 1, 6, 6, generator=generator)
    options: dict[str, Any] = {"share": 0.3, "blocks": 2, "n_labels": 2, "gamma": gamma, "neigh_size": 1}
    energy = [part[:1].double().numpy() for part in block_energy(image, saliency, SWAP, **options)]
    masks = np.array(list(itertools.product(range(2), repeat=4))).reshape(-1, 2, 2)
    found = labelling_energy(masks, *(np.repeat(part, len(masks), axis=0) for part in energy))
    pair = image[:, 0].double().numpy(), saliency[:, 0].double().numpy()
    expected = np.array([plain_energy(mask, *pair, 0.3, gamma) for mask in masks])
    np.testing.assert_allclose(found - found[0], expected - expected[0], atol=1e-6)


def test_strong_edges_never_make_a_weight_negative() -> None:
    image = 100 * torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    _, right, down = block_energy(image, torch.ones(4, 1, 32, 32), torch.tensor([1, 2, 3, 0]), share=0.5, blocks=8)
    assert right.min() == down.min() == 0


def test_pooling_stops_at_the_size_of_a_block() -> None:
    image = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    given: dict[str, Any] = {"share": 0.5, "blocks": 4, "n_labels": 3}
    # blocks of 2 x 2 pixels: pooled by 4 they are compared as wholes
    for wide, exact in zip(
        block_energy(image, torch.ones(2, 1, 8, 8), SWAP, neigh_size=4, **given),
        block_energy(image, torch.ones(2, 1, 8, 8), SWAP, neigh_size=2, **given),
        strict=True,
    ):
        assert torch.equal(wide, exact)


def test_oblong_images() -> None:
    generator = torch.Generator().manual_seed(0)
    image, saliency = torch.randn(2, 1, 8, 32, generator=generator), torch.rand(2, 1, 8, 32, generator=generator)
    given: dict[str, Any] = {"share": 0.4, "blocks": 2}
    costs, right, down = block_energy(image, saliency, SWAP, **given)
    turned = block_energy(image.mT, saliency.mT, SWAP, **given)
    torch.testing.assert_close(turned, (costs.mT, down.mT, right.mT))
