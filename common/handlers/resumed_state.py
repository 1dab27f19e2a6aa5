"""What an earlier training left in a folder: whether it goes on from there, loading its state, or putting it aside.

A training that goes on may have a learning rate, a schedule and other numbers of its optimizer of its own.
"""

from __future__ import annotations

import glob
import math
import os
import platform
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ..distributed import unwrapped
from ..errors import UserError

__all__ = ["check_fits", "load_states", "set_aside"]

_COUNTERS = ("last_epoch", "_step_count", "_last_lr", "_get_lr_called_within_step", "_is_initial")
"""What a schedule of a learning rate counts, and what its configuration does not say."""

_FUNCTIONS = "lr_lambdas"
"""Where the state of a schedule has the attributes of its functions, or None for each that has none to keep."""

_FILES = ("checkpoint.pt", "model.pt", "model.json", "model_best.pt", "model_best.json")
"""What a training writes, the checkpoint first: without it, nothing goes on from a folder that is half put aside."""

_EVENTS = "events.out.tfevents.*"
_REPLACED, _STAGING = "replaced", ".replaced"


def check_fits(
    path: Path,
    saved: Mapping[str, Any],
    *,
    settings: Mapping[str, Any],
    epoch_length: int | None,
    max_epochs: int | None,
) -> None:
    """Refuse a checkpoint that a training cannot go on from.

    Weights that were trained with other settings so far than those that will be written beside them are one reason.
    Another one is a number of iterations that was counted in epochs of another length: the epochs to come would be cut
    short, or be none at all.

    Args:
        path: the checkpoint's file.
        saved: its content; what an older one lacks is not looked at.
        settings: the settings now, as JSON has them.
        epoch_length: iterations of an epoch now, None where that is not known.
        max_epochs: epochs of the whole training now, None where its length is not counted in them.

    Raises:
        UserError: it is of another training.
    """
    trained: Mapping[str, Any] = saved.get("settings") or {}
    for key in sorted(set(trained) & set(settings)):
        if trained[key] != settings[key]:
            raise UserError(
                f"{path}: was trained with {key} {trained[key]!r}, which is {settings[key]!r} now; resume with the "
                "same, or give another output_dir"
            )
    length = saved.get("epoch_length")
    if None not in (length, epoch_length) and length != epoch_length:
        raise UserError(
            f"{path}: was trained with {length} batches in an epoch, which are {epoch_length} now; resume with the "
            "same batch_size, processes and datalist, or give another output_dir"
        )
    if max_epochs is not None and saved["epoch"] > max_epochs:
        raise UserError(f"{path}: has {saved['epoch']} epochs already; set max_epochs higher to go on")


def load_states(objects: Mapping[str, Any], saved: Mapping[str, Any]) -> list[str]:
    """Load what was saved into networks, optimizers, schedules and whatever else has a state.

    Learning rates, their schedules and the optimizers' other numbers, such as weight decay, are the configuration's:
    where they differ from the saved ones, the schedule goes on from the step that it had reached, with the rate that
    the new one has there.

    Args:
        objects: objects with ``state_dict`` and ``load_state_dict``, by name; schedules after their optimizers.
        saved: their states, by the same names.

    Returns:
        What changed, each in words: the name of an optimizer or a schedule, and what is how much instead of how much.

    Raises:
        KeyError: a state is missing.
        RuntimeError: a state belongs to a network of another shape.
        ValueError: a state belongs to another optimizer.
        UserError: the schedule ends before the step that was reached.
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
            differs = []
        changed += [f"{name} {words}" for words in differs]
    return changed


def _load_optimizer(optimizer: Optimizer, saved: Mapping[str, Any]) -> list[str]:
    """Load moments; what is configured stays, where no schedule sets it. What of that is another value."""
    own = [dict(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(dict(saved))
    changed: dict[str, None] = {}  # once, where several groups have the same
    for group, configured in zip(optimizer.param_groups, own, strict=True):
        # a schedule notes what it started from
        scheduled = {"lr"} if "initial_lr" in configured else set()
        scheduled |= {"momentum", "betas"} if "max_momentum" in configured else set()
        for key in configured.keys() - scheduled - {"params"}:
            # what a schedule notes of itself, it tells itself
            if key in optimizer.defaults and key in group and group[key] != configured[key]:
                changed[f"{key} {configured[key]} instead of {group[key]}"] = None
            group[key] = configured[key]
    return sorted(changed)


def _load_schedule(schedule: LRScheduler, saved: Mapping[str, Any]) -> list[str]:
    """Load counters; the configured form of the schedule stays. What of that form, or of the rate, is another one."""
    own = {key: value for key, value in schedule.state_dict().items() if key not in (*_COUNTERS, _FUNCTIONS)}
    changed = {key: value for key, value in own.items() if value != saved.get(key)}
    # the functions are the configured ones, whatever attributes those of then had
    functions = {_FUNCTIONS: [None] * len(saved[_FUNCTIONS])} if _FUNCTIONS in saved else {}
    schedule.load_state_dict({**saved, **functions})
    # whether a function is another one, its state does not say, but its rate
    if not changed and not isinstance(schedule, LambdaLR):
        return []
    schedule.__dict__.update(changed)
    before = list(schedule._last_lr)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a schedule wants to be asked for its rate by its own step alone
        rates = getattr(schedule, "_get_closed_form_lr", schedule.get_lr)()
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    schedule._last_lr = list(rates)
    # another machine may have computed the last digit otherwise
    if all(math.isclose(rate, old, rel_tol=1e-9) for rate, old in zip(rates, before, strict=True)):
        return sorted(changed)
    return [f"lr {', '.join(f'{rate:.6g}' for rate in rates)} instead of {', '.join(f'{old:.6g}' for old in before)}"]


def set_aside(folder: Path) -> list[str]:
    """Move what an earlier training left in a folder to its subfolder ``replaced``, in place of what is there.

    A later resume would take the checkpoint for this training's own, and a report the weights and the curves. Event
    files of TensorBoard that this process opened stay. Each file is renamed, and all of them are in a folder beside
    ``replaced`` before that goes: a process that is killed meanwhile loses nothing, and the next start does the rest.

    Args:
        folder: output folder of the training.

    Returns:
        The names of the files.

    Raises:
        UserError: a file cannot be moved.
    """
    own = glob.escape(f".{platform.node()}.{os.getpid()}.")  # after the time, and before a number
    events = sorted(set(folder.glob(_EVENTS)) - set(folder.glob(f"{_EVENTS}{own}*")))
    found = [path for path in (*(folder / name for name in _FILES), *events) if path.is_file()]
    staging, replaced = folder / _STAGING, folder / _REPLACED
    if not found and not staging.is_dir():
        return []
    try:
        staging.mkdir(exist_ok=True)
        for path in found:
            os.replace(path, staging / path.name)
        if replaced.is_dir():
            for path in (*(replaced / name for name in _FILES), *replaced.glob(_EVENTS)):
                path.unlink(missing_ok=True)
            replaced.rmdir()  # fails where there is more, which no training wrote
        names = sorted(path.name for path in staging.iterdir())
        os.replace(staging, replaced)
    except OSError as error:
        raise UserError(
            f"{replaced}: cannot take the files of an earlier training ({error.strerror or error}); remove it, or give "
            "another output_dir"
        ) from error
    return names
