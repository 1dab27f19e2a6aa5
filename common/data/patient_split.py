"""Dividing a data set's patients into the sections of a datalist where no ids were published."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..errors import UserError

__all__ = ["split_patients", "split_training"]


def split_patients(patients: Sequence[str], *, seed: int) -> dict[str, list[str]]:
    """Divide patients as Valvano et al. (IEEE TMI 2021, section IV-A) do: 70 % training, 15 % validation, 15 % test.

    The training patients are halved: one half has scribbles, the other one gives unpaired masks alone. The sorted
    patients are shuffled by one ``random.Random(seed)``; the first are the test patients, the next the validation
    patients, and the rest the training patients.

    Args:
        patients: names, at least four of them.
        seed: seed of the order.

    Returns:
        The sorted names by section: ``training``, ``unpaired_masks``, ``validation`` and ``test``. With n patients
        there are max(1, round(0.15 n)) in each of the last two; of an odd number of training patients the larger half
        has scribbles.

    Raises:
        UserError: there are fewer than four patients.
    """
    if len(patients) < 4:
        raise UserError(f"{len(patients)} patients are too few: the sections of a datalist need at least 4")
    order = _shuffled(patients, seed)
    share = max(1, round(0.15 * len(order)))
    held_out = {"validation": sorted(order[share : 2 * share]), "test": sorted(order[:share])}
    return _halves(order[2 * share :]) | held_out


def split_training(groups: Sequence[str], *, seed: int) -> dict[str, list[str]]:
    """Divide what is not test data: 90 % training, in halves as in :func:`split_patients`, and 10 % validation.

    Args:
        groups: names of what stays together, such as cameras, at least three of them.
        seed: seed of the order.

    Returns:
        The sorted names by section: ``training``, ``unpaired_masks`` and ``validation``, the last one with
        max(1, round(0.1 n)) of n.

    Raises:
        UserError: there are fewer than three groups.
    """
    if len(groups) < 3:
        raise UserError(f"{len(groups)} groups are too few: training, masks and validation need at least 3")
    order = _shuffled(groups, seed)
    share = max(1, round(0.1 * len(order)))
    return _halves(order[share:]) | {"validation": sorted(order[:share])}


def _shuffled(names: Sequence[str], seed: int) -> list[str]:
    order = sorted(names)
    random.Random(seed).shuffle(order)
    return order


def _halves(names: Sequence[str]) -> dict[str, list[str]]:
    middle = (len(names) + 1) // 2
    return {"training": sorted(names[:middle]), "unpaired_masks": sorted(names[middle:])}
