"""Loading the state of a training that goes on, perhaps with a learning rate or a schedule of its own."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..distributed import unwrapped

__all__ = ["load_states"]

_COUNTERS = ("last_epoch", "_step_count", "_last_lr", "_get_lr_called_within_step", "_is_initial")
"""What a schedule of a learning rate counts, and what its configuration does not say."""


def load_states(objects: Mapping[str, Any], saved: Mapping[str, Any]) -> list[str]:
    """Load what was saved into networks, optimizers, schedules and whatever else has a state.

    Learning rates and schedules are the configuration's: where they differ from the saved ones, the schedule goes on
    from the step that it had reached, with the rate that the new one has there.

    Args:
        objects: objects with ``state_dict`` and ``load_state_dict``, by name; schedules after their optimizers.
        saved: their states, by the same names.

    Returns:
        The names of the optimizers and schedules that changed.

    Raises:
        KeyError: a state is missing.
        RuntimeError: a state belongs to a network of another shape.
        ValueError: a state belongs to another optimizer.
    """
    changed = []
    for name, each in objects.items():
        target = unwrapped(each)
        if isinstance(target, Optimizer):
            differs = _load_optimizer(target, saved[name])
        elif isinstance(target, LRScheduler):
            differs = _load_schedule(target, saved[name])
        else:
            target.load_state_dict(saved[name])
            differs = False
        if differs:
            changed.append(name)
    return changed


def _load_optimizer(optimizer: Optimizer, saved: Mapping[str, Any]) -> bool:
    """Load moments; the configured rate stays where no schedule sets it. Whether that rate is another one."""
    own = [dict(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(dict(saved))
    differs = False
    for group, configured in zip(optimizer.param_groups, own, strict=True):
        # a schedule notes the rate that it started from
        key = "initial_lr" if "initial_lr" in configured else "lr"
        differs |= group.get(key) != configured[key]
        group[key] = configured[key]
    return differs


def _load_schedule(schedule: LRScheduler, saved: Mapping[str, Any]) -> bool:
    """Load counters; the configured form of the schedule stays. Whether that form is another one."""
    own = {key: value for key, value in schedule.state_dict().items() if key not in _COUNTERS}
    changed = {key: value for key, value in own.items() if value != saved.get(key)}
    schedule.load_state_dict(dict(saved))
    if not changed:
        return False
    schedule.__dict__.update(changed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a schedule wants to be asked for its rate by its own step alone
        rates = getattr(schedule, "_get_closed_form_lr", schedule.get_lr)()
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    schedule._last_lr = list(rates)
    return True
