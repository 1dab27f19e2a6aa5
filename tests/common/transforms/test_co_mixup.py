from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from common.transforms.co_mixup import CoMixUp, expanded_labels, potts_energy


def test_potts_energy_by_hand() -> None:
    costs = np.arange(8.0).reshape(2, 2, 2)
    # labels 0 1 / 1 1: costs 0 + 5 + 6 + 7, borders between the first and its two neighbours
    assert potts_energy(np.array([[0, 1], [1, 1]]), costs, 10.0) == 18 + 20


@pytest.mark.parametrize("count", [2, 3, 4])
def test_expansion_lowers_the_energy_and_no_single_expansion_is_left(count: int) -> None:
    rng = np.random.default_rng(count)
    every = np.array(list(itertools.product(range(count), repeat=4))).reshape(-1, 2, 2)
    least_found = 0
    for _ in range(40):
        costs, weight = rng.random((count, 2, 2)), float(rng.random())
        start = rng.integers(0, count, (2, 2))
        found = expanded_labels(costs, weight, start)
        energy = potts_energy(found, costs, weight)
        least = min(potts_energy(labels, costs, weight) for labels in every)
        assert energy <= potts_energy(start, costs, weight) + 1e-9
        assert energy <= 2 * least + 1e-9  # the bound of expansion moves
        least_found += energy <= least + 1e-6
        for label in range(count):
            for changed in itertools.product((False, True), repeat=4):
                candidate = np.where(np.reshape(changed, (2, 2)), label, found)
                assert potts_energy(candidate, costs, weight) >= energy - 1e-6
        assert count > 2 or energy == pytest.approx(least)  # one cut solves two labels
    assert least_found >= 36


def mixer_without(**options: float) -> CoMixUp:
    return CoMixUp(**{"block_num": 2, "beta": 0.0, "gamma": 0.0, "eta": 0.0, **options})  # type: ignore[arg-type]


SALIENT = np.array([[[0.7, 0.1], [0.1, 0.1]], [[0.1, 0.5], [0.2, 0.2]], [[0.0, 0.0], [0.3, 0.7]]])
SHARES = np.full(3, 1 / 3)
START = np.zeros((3, 2, 2), dtype=np.int64)


def test_blocks_show_the_most_salient_item() -> None:
    labels = mixer_without().labels(SALIENT, SHARES, START)
    assert labels.tolist() == [[[0, 1], [2, 2]]] * 3


def test_the_prior_asks_for_its_items() -> None:
    # -0.8 / 4 log p: 0 for item 0 and 0.2 * 18 for the others
    labels = mixer_without(eta=0.8).labels(SALIENT, np.array([1.0, 0.0, 0.0]), START)
    assert not labels.any()


def test_smoothness_joins_the_blocks() -> None:
    # item 0 everywhere: -1; beta / 4 = 2 for each border
    assert len(np.unique(mixer_without(beta=8.0).labels(SALIENT, SHARES, START)[0])) == 1


def test_overlap_beyond_the_threshold_makes_the_images_differ() -> None:
    labels = mixer_without(gamma=10.0, tau=0.0).labels(SALIENT, SHARES, START)
    # each image in turn takes the items of which the others have the fewest blocks, of equals the most salient:
    # image 0 none of item 0, which fills the others; image 1 neither, the others having 4 blocks of item 0 and 2 of
    # items 1 and 2; image 2 item 0 alone, of which nobody has any
    assert labels.tolist() == [[[1, 1], [2, 2]], [[1, 1], [2, 2]], [[0, 0], [0, 0]]]
    # the others never have more than 2 * 4 blocks of an item
    free = mixer_without(gamma=10.0, tau=3.0).labels(SALIENT, SHARES, START)
    assert free.tolist() == [[[0, 1], [2, 2]]] * 3


def test_distance_of_peaks_counts_by_omega() -> None:
    # with omega 1 an item pays for those far from it alone, and nothing for itself
    labels = mixer_without(gamma=10.0, tau=0.0, omega=1.0).labels(SALIENT, SHARES, START)
    same = mixer_without(gamma=10.0, tau=0.0, omega=0.0).labels(SALIENT, SHARES, START)
    assert not np.array_equal(labels, same)


@pytest.mark.parametrize("items", [1, 4])
def test_every_pixel_comes_from_one_item(items: int) -> None:
    torch.manual_seed(0)
    image = torch.arange(items).float().view(-1, 1, 1, 1).expand(-1, 1, 21, 34)
    plan = CoMixUp()(image, torch.rand(items, 1, 21, 34))
    mixed = plan.mix(image)
    assert torch.equal(mixed.long(), plan.partner)
    assert mixed.shape == image.shape
    assert set(mixed.unique().tolist()) <= set(map(float, range(items)))


def test_same_seed_same_bytes() -> None:
    image, saliency = torch.randn(4, 1, 32, 32), torch.rand(4, 1, 32, 32)
    mixed = []
    for _ in range(2):
        torch.manual_seed(5)
        mixed.append(CoMixUp()(image, saliency).mix(image))
    assert torch.equal(*mixed)


def test_no_saliency_at_all() -> None:
    image = torch.randn(3, 1, 8, 8)
    assert torch.isfinite(CoMixUp()(image, torch.zeros(3, 1, 8, 8)).mix(image)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_num": 0}, "block_num and n_iter must be at least 1, got 0 and 4"),
        ({"n_iter": 0}, "block_num and n_iter must be at least 1, got 4 and 0"),
        ({"alpha": 0.0}, r"alpha must be above 0, got 0.0"),
        ({"omega": -1.0}, r"omega must not be negative, got -1.0"),
        ({"tau": -1.0}, r"tau must not be negative, got -1.0"),
    ],
)
def test_options_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CoMixUp(**options)  # type: ignore[arg-type]
