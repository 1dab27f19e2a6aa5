from __future__ import annotations

import itertools

import numpy as np
import pytest

from common.transforms.mask_cut import labelling_energy, least_energy_labels


def all_labellings(count: int, height: int, width: int) -> np.ndarray:
    every = itertools.product(range(count), repeat=height * width)
    return np.array(list(every)).reshape(-1, height, width)


def energies(labels: np.ndarray, problem: tuple[np.ndarray, ...]) -> np.ndarray:
    return labelling_energy(labels, *(np.repeat(part, len(labels), axis=0) for part in problem))


def random_problem(
    rng: np.random.Generator, count: int, height: int, width: int, *, whole: bool = False, batch: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shapes = [(batch, count, height, width), (batch, height, width - 1), (batch, height - 1, width)]
    if whole:
        return tuple(rng.integers(0, 4, shape).astype(float) for shape in shapes)  # type: ignore[return-value]
    costs, right, down = (rng.random(shape) for shape in shapes)
    return costs - 0.5, right / 2, down / 2


def test_energy_by_hand() -> None:
    labels = np.array([[[0, 2], [1, 1]]])
    costs = np.array([[[[1, 9], [9, 9]], [[9, 9], [3, 4]], [[9, 2], [9, 9]]]])
    # 1 + 2 + 3 + 4 = 10; along rows 10 * (0 - 2)^2 + 20 * 0; along columns 100 * (0 - 1)^2 + 200 * (2 - 1)^2
    right, down = np.array([[[10], [20]]]), np.array([[[100, 200]]])
    assert labelling_energy(labels, costs, right, down).tolist() == [10 + 40 + 100 + 200]


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (0.0, [0, 2]),  # 0 + 0; (0, 1) costs 1 more
        (0.3, [0, 2]),  # 0 + 0 + 1.2 = 1.2; (0, 1): 0 + 1 + 0.3 = 1.3; (1, 1): 2
        (0.4, [0, 1]),  # 1.6; (0, 1) and (1, 2) 1.4 each: of two best labellings the lower one
        (2.0, [1, 1]),  # 8; 3; (1, 1): 2
    ],
)
def test_two_neighbours_by_hand(weight: float, expected: list[int]) -> None:
    costs = np.array([[[[0.0, 5.0]], [[1.0, 1.0]], [[5.0, 0.0]]]])
    found = least_energy_labels(costs, np.array([[[weight]]]), np.zeros((1, 0, 2)))
    assert found.tolist() == [[expected]]


@pytest.mark.parametrize(
    ("count", "height", "width"), [(2, 3, 4), (3, 2, 3), (3, 1, 7), (4, 2, 2), (3, 4, 1), (2, 1, 1)]
)
@pytest.mark.parametrize("whole", [True, False])
def test_the_least_energy_of_all_labellings(count: int, height: int, width: int, whole: bool) -> None:
    rng = np.random.default_rng(count * height * width)
    every = all_labellings(count, height, width)
    for _ in range(20):
        problem = random_problem(rng, count, height, width, whole=whole)
        found = least_energy_labels(*problem)
        energy = energies(every, problem)
        assert energies(found, problem)[0] == pytest.approx(energy.min(), abs=1e-7)
        if whole:  # with ties, of which the lowest labels win: they are best together, too
            assert np.array_equal(found[0], every[energy == energy.min()].min(axis=0))


def test_no_single_change_lowers_the_energy_of_a_large_grid() -> None:
    rng = np.random.default_rng(0)
    costs, right, down = random_problem(rng, 3, 16, 16, batch=4)
    labels = least_energy_labels(costs, right, down)
    least = labelling_energy(labels, costs, right, down)
    assert len(np.unique(labels)) == 3
    for row, column, label in itertools.product(range(16), range(16), range(3)):
        changed = labels.copy()
        changed[:, row, column] = label
        assert (labelling_energy(changed, costs, right, down) >= least - 1e-6).all()


def test_a_batch_gives_what_its_items_give() -> None:
    problem = random_problem(np.random.default_rng(1), 3, 5, 6, whole=True, batch=3)
    alone = [least_energy_labels(*(part[item : item + 1] for part in problem)) for item in range(3)]
    assert np.array_equal(least_energy_labels(*problem), np.concatenate(alone))


def test_nothing_to_choose_by_gives_label_0() -> None:
    zeros = np.zeros((2, 3, 2, 2)), np.zeros((2, 2, 1)), np.zeros((2, 1, 2))
    assert not least_energy_labels(*zeros).any()
    assert not least_energy_labels(zeros[0] + 7.5, zeros[1], zeros[2]).any()


@pytest.mark.parametrize("scale", [1e-12, 1e9])
def test_any_scale_of_energy(scale: float) -> None:
    problem = random_problem(np.random.default_rng(2), 3, 8, 8)
    scaled = least_energy_labels(*(part * scale for part in problem))
    assert np.array_equal(scaled, least_energy_labels(*problem))


def test_ill_input() -> None:
    costs, right, down = random_problem(np.random.default_rng(3), 3, 2, 2)
    with pytest.raises(ValueError, match="negative neighbour weight"):
        least_energy_labels(costs, right - 1, down)
    with pytest.raises(ValueError, match="finite"):
        least_energy_labels(costs * np.nan, right, down)
    with pytest.raises(ValueError, match=r"\(1, 1, 2\).*do not belong"):
        least_energy_labels(costs, down, right)
