"""A record of a run for MLflow: its settings, its curves, each term of its loss, its files."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from monai.handlers import MLFlowHandler

from .loss_terms import loss_and_terms

__all__ = ["RunRecord"]

logger = logging.getLogger(__name__)

_FOLDER = "output_dir"
_LONGEST = 6000
"""Characters of a parameter's value that MLflow takes."""


class RunRecord(MLFlowHandler):
    """Record a run by MLflow, as MONAI's handler does, and besides the single terms of the loss.

    At every epoch the engine's metrics are recorded, which :class:`~.loss_terms.LossTerms` gives the mean of the loss
    and of each term as ``train_<term>``. With ``interval`` they are also recorded by iteration, as
    ``iteration_<term>``, with the learning rate.

    MONAI's handler joins whichever run of its experiment is not finished. This one knows runs by their ``output_dir``:
    a validation joins that of the training, a resumed training goes on with its own, and a new training, also
    in the folder of one that was killed, has a new one.

    Args:
        output_dir: folder of the run.
        join: go on with the newest run of that folder, if there is one.
        parameters: settings by name; of a run that goes on the first ones stay.
        config: the whole configuration, kept as the artifact ``config.json``; None for not.
        files: names of files in ``output_dir`` that are kept as artifacts at the end, where they are there.
        interval: iterations between two records of the terms; 0 for none by iteration.
        kwargs: arguments of MONAI's MLFlowHandler, such as ``tracking_uri``, ``experiment_name`` and ``run_name``.
    """

    experiment: Any
    cur_run: Any

    def __init__(
        self,
        output_dir: str | os.PathLike,
        *,
        join: bool = False,
        parameters: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        files: Sequence[str] = (),
        interval: int = 0,
        **kwargs: Any,
    ) -> None:
        iteration_log = (lambda engine, iteration: iteration % interval == 0) if interval else False
        artifacts = [Path(output_dir) / name for name in files]
        super().__init__(iteration_log=iteration_log, artifacts=artifacts, **kwargs)
        self.folder = str(Path(output_dir).resolve())
        self.join = join
        self.parameters = dict(parameters or {})
        self.config = config

    def start(self, engine: Engine) -> None:
        """Find or begin the run, and record its settings."""
        if self.cur_run is None:
            self._set_experiment()
            self.cur_run = self._of_this_folder() if self.join else None
            if self.cur_run is None:
                name = self.run_name or f"run_{time.strftime('%Y%m%d_%H%M%S')}"
                tags = {_FOLDER: self.folder}
                self.cur_run = self.client.create_run(self.experiment.experiment_id, tags=tags, run_name=name)
                logger.info("recorded as %r in %s", name, self.client.tracking_uri)
        run = self.cur_run.info.run_id
        self.client.update_run(run, status="RUNNING")
        super().start(engine)
        settings = {key: str(value)[:_LONGEST] for key, value in self.parameters.items()}
        self._delete_exist_param_in_dict(settings)
        self._log_params(settings)
        if self.config is not None:
            self.client.log_text(run, json.dumps(self.config, indent=4, default=str), "config.json")

    def _of_this_folder(self) -> Any:
        runs = self.client.search_runs([self.experiment.experiment_id], order_by=["attributes.start_time DESC"])
        return next((run for run in runs if run.data.tags.get(_FOLDER) == self.folder), None)

    def _default_iteration_log(self, engine: Any) -> None:
        values = {f"iteration_{name}": float(value) for name, value in loss_and_terms(engine).items()}
        for index, group in enumerate(engine.optimizer.param_groups):
            values[f"iteration_learning_rate{f'_{index}' if index else ''}"] = float(group["lr"])
        self._log_metrics(values, step=engine.state.iteration)
