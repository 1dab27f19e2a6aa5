"""Checkpoints that are never half written, and resuming from them."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from ..distributed import unwrapped
from ..errors import UserError
from ..files import atomic_file, claim_folder, remove_leftovers, writable_folder
from ..model_settings import check_settings, settings_file, write_settings
from ..shared_batch import of_all_processes
from .resumed_state import check_fits, load_states, set_aside

__all__ = ["AtomicCheckpoint", "load_weights"]

logger = logging.getLogger(__name__)

_CHECKPOINT = "checkpoint.pt"


def load_weights(network: torch.nn.Module, path: str | os.PathLike) -> None:
    """Load a state dict into a network; every key and shape must fit.

    Raises:
        UserError: if the file is missing, no state dict, or belongs to a network of other settings.
    """
    content = _read(path)
    try:
        network.load_state_dict(content)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: the weights do not fit the network; use the settings of its training ({reason})"
        ) from error


def _read(path: str | os.PathLike) -> Any:
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such weights; train first or name a file with --weights")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path}: cannot be read as weights ({type(error).__name__}); the file is damaged") from error


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without the difference between tuples and lists."""
    return json.loads(json.dumps(settings))


class AtomicCheckpoint:
    """Save the whole state of a training after each epoch, and its weights; resume on request.

    Files in ``output_dir``, each written under a temporary name and renamed:

    - ``checkpoint.pt``: state of every object, the engine's counters, the number of iterations in an epoch and the
      settings, which may not change on the way, read with ``weights_only=True``; learning rates, their schedules and
      the like may, see :mod:`.resumed_state`;
    - ``model.pt``: state dict of ``network`` after the last epoch, the headline of a run;
    - ``model_best.pt``: state dict with the best key metric of ``validator``, an extra;
    - ``model.json``, ``model_best.json``: the settings of these weights, put in place just before them.

    While a training lasts, no other process trains into its folder. One that does not resume first moves these files,
    and curves, of an earlier one to the folder ``replaced``. All processes note in ``engine.state.has_checkpoint`` that
    there is a checkpoint to resume this training from.

    Args:
        output_dir: folder of the run.
        network: the inference network.
        state: further objects with ``state_dict`` and ``load_state_dict``, by name; None values are left out.
        validator: MONAI evaluator that runs as validation, None for no selection.
        higher_is_better: direction of the validator's key metric.
        patience: stop after so many validations in a row without improvement.
        resume: continue from ``checkpoint.pt`` if there is one.
        rank: this process's number; only process 0 writes.
        publish: also copy the final weights, and their settings, to this file, None for not.
        settings: what the network and its preprocessing are built with, by key, which is written beside weights, see
            :mod:`~..model_settings`; None for no such files.
        training: what these files also tell of the training, such as its seed; epochs and iterations are added.

    Raises:
        UserError: for settings that JSON does not know.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        network: torch.nn.Module,
        state: dict[str, Any],
        *,
        validator: Engine | None = None,
        higher_is_better: bool = True,
        patience: int | None = None,
        resume: bool = False,
        rank: int = 0,
        publish: str | os.PathLike | None = None,
        settings: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
    ) -> None:
        check_settings({**(settings or {}), **(training or {})})
        self.path = Path(output_dir) / _CHECKPOINT
        self.network = network
        self.state = {"network": network, **{name: value for name, value in state.items() if value is not None}}
        self.validator = validator
        self.higher_is_better = higher_is_better
        self.patience = patience
        self.resume = resume
        self.rank = rank
        self.publish = publish
        self.settings = settings
        self.training = dict(training or {})
        self.best: float | None = None
        self.without_improvement = 0
        self._has_started = False
        self._give_back: Callable[[], None] = lambda: None

    def attach(self, engine: Engine) -> None:
        """Serve a trainer; attach after the handlers whose effects belong into the checkpoint."""
        engine.add_event_handler(Events.STARTED, self._start)
        if self.validator is not None:
            self.validator.add_event_handler(Events.COMPLETED, self._compare, engine)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)
        if self.rank == 0:
            engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        if self.rank == 0:
            self._give_back = claim_folder(writable_folder(self.path.parent))
        # MONAI's client of federated learning starts the trainer once a round: what is here then is this training's
        if self._has_started:
            return
        if self.rank == 0:
            self._prepare_folders()
        if self.resume:
            self._resume(engine)
        self._has_started = True

    def _prepare_folders(self) -> None:
        if self.publish is not None:
            try:
                writable_folder(Path(self.publish).parent)
            except UserError as error:
                reason = getattr(error.__cause__, "strerror", None) or error
                raise UserError(
                    f"{self.publish}: cannot be written at the end ({reason}); give --publish false to do without, or "
                    "make its folder writable"
                ) from error
        weights = [self.path.with_name(name) for name in ("model.pt", "model_best.pt")]
        remove_leftovers(self.path, *weights, *map(settings_file, weights))
        if not self.resume and (names := set_aside(self.path.parent)):
            logger.info("%s: moved files of an earlier training to replaced: %s", self.path.parent, ", ".join(names))

    def _resume(self, engine: Any) -> None:
        seen = of_all_processes(self.path.is_file())
        if not any(seen):
            logger.info("nothing to resume at %s: starting from the beginning", self.path)
            return
        if not all(seen):
            raise UserError(
                f"{self.path}: process {seen.index(True)} sees it, process {seen.index(False)} does not; put "
                "output_dir on a file system that all machines share"
            )
        saved = _read(self.path)
        check_fits(
            self.path,
            saved,
            settings=_as_json(self._described()),
            epoch_length=engine.state.epoch_length,
            max_epochs=engine.state.max_epochs,
        )
        try:
            changed = load_states(self.state, saved)
        except UserError:  # told in words of its own
            raise
        except (KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{self.path}: belongs to a run of other settings ({reason}); resume with the same"
            ) from error
        for name in ("best", "without_improvement"):
            setattr(self, name, saved[name])
        for name in ("epoch", "iteration"):
            setattr(engine.state, name, saved[name])
        engine.state.has_checkpoint = True
        logger.info("resuming after epoch %d from %s", saved["epoch"], self.path)
        if changed:
            logger.info("not as in the training until then: %s", "; ".join(changed))
        if self._has_run_out_of_patience():
            engine.terminate()

    def _described(self) -> dict[str, Any]:
        """The settings, and of what else is known of the training all but the seed, which may change."""
        return {**{key: value for key, value in self.training.items() if key != "seed"}, **(self.settings or {})}

    def _has_run_out_of_patience(self) -> bool:
        return self.patience is not None and self.without_improvement >= self.patience

    def _compare(self, validator: Any, trainer: Engine) -> None:
        value = float(validator.state.metrics[validator.state.key_metric_name])
        if math.isnan(getattr(validator.state, "best_metric", value)):
            # MONAI took a first score that is none for the best, and would find no later one better
            validator.state.best_metric_epoch = -1
        better = self.best is None or (value > self.best if self.higher_is_better else value < self.best)
        if math.isnan(value) or not better:
            self.without_improvement += 1
            if self._has_run_out_of_patience():
                logger.info("no better validation in %d rounds: stopping", self.without_improvement)
                trainer.terminate()
            return
        self.best, self.without_improvement = value, 0
        if self.rank == 0:
            self._write_weights(trainer, self.path.with_name("model_best.pt"))

    def _save(self, engine: Any) -> None:
        if self.rank == 0:
            content = {name: unwrapped(value).state_dict() for name, value in self.state.items()}
            counters = {name: getattr(engine.state, name) for name in ("epoch", "iteration", "epoch_length")}
            selection = {"best": self.best, "without_improvement": self.without_improvement}
            with atomic_file(self.path) as temporary:
                torch.save({**content, **counters, **selection, "settings": _as_json(self._described())}, temporary)
        engine.state.has_checkpoint = True

    def _finish(self, engine: Engine) -> None:
        for target in (self.path.with_name("model.pt"), *([Path(self.publish)] if self.publish is not None else [])):
            self._write_weights(engine, target)
            logger.info("weights of the last epoch: %s", target)
        self._give_back()

    def _write_weights(self, engine: Engine, target: Path) -> None:
        with atomic_file(target) as temporary:
            torch.save(unwrapped(self.network).state_dict(), temporary)
            # only now that the weights are written: a kill while that lasts leaves older weights with their settings
            if self.settings is not None:
                counters = {"epochs": engine.state.epoch, "iterations": engine.state.iteration}
                write_settings(target, self.settings, {**self.training, **counters})
