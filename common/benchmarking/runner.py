"""Running a benchmark: what is finished is skipped, what was cut off goes on, and all ends in time."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.datalist import load_datalist
from ..errors import UserError
from ..files import write_json
from ..packing.archive import checksum
from ..packing.bundle_folder import bundle_folder
from .label_variants import variant_datalist
from .prediction_stage import inference_configs, predict
from .results import RESULT, read_result, write_result
from .run_config import CONFIG, resolved_config
from .run_state import RunState
from .scoring_stage import POST_PROCESSED, score
from .suite import Row, Suite
from .training_stage import progress_of, train

__all__ = ["Benchmark"]

logger = logging.getLogger(__name__)

_CHOICES = {"last": "model.pt", "best": "model_best.pt"}
_LEAST = 20.0
"""Seconds under which no run is begun."""
_PER_VOLUME = 1.5
"""Seconds that predicting and scoring a volume is thought to take before any run has shown it."""


@dataclass
class Benchmark:
    """A suite at one setting, and where its data and runs lie.

    Args:
        suite: the suite.
        setting: one of its settings.
        datalist: its datalist.
        output: folder of all benchmarks; a run is ``<suite>/<setting>/<method>/seed<k>``.
        device: where to compute, None for a GPU where there is one.
        deadline: seconds since 1970 at which all has to be over; None for no limit.
        tell: gets a line at each step.
    """

    suite: Suite
    setting: str
    datalist: Path
    output: Path
    device: str | None = None
    deadline: float | None = None
    tell: Callable[[str], None] = logger.info
    _worked: bool = field(default=False, init=False)
    """Whether some of the time is spent already, on a stage of any run."""

    @property
    def folder(self) -> Path:
        """The folder of the suite's runs at this setting."""
        return self.output / self.suite.name / self.setting

    def run_folder(self, row: Row, seed: int) -> Path:
        """The folder of a run."""
        return self.folder / row.name / f"seed{seed}"

    def run(self, rows: Sequence[Row], seeds: Sequence[int]) -> dict[tuple[str, int], str]:
        """Do what is left of all runs, one after the other.

        Returns:
            for each row and seed what has become of it: ``finished``, ``unavailable``, ``not begun``, or which stage it
            was cut off in.

        Raises:
            UserError: a run fails.
        """
        done = {}
        for seed in seeds:
            for row in rows:
                done[row.name, seed] = self._one(row, seed)
                self.tell(f"{row.name}, seed {seed}: {done[row.name, seed]}")
        return done

    def _one(self, row: Row, seed: int) -> str:
        if row.unavailable:
            return f"unavailable: {row.unavailable}"
        folder = self.run_folder(row, seed)
        about = {"suite": self.suite.name, "setting": self.setting, "method": row.name, "seed": seed}
        about |= {"definition": self.suite.digest(row, self.setting), "datalist": checksum(self.datalist)}
        state = RunState.of(folder, about)
        finished = state.stage == "finished"
        if finished and (self._is_scored(state) or self._left() < _LEAST):
            return "finished"
        if self._left() < _LEAST:
            return "not begun" if not folder.exists() else f"cut off in {state.stage}"
        folder.mkdir(parents=True, exist_ok=True)
        if finished:  # scored before the suite had all of its scores; label maps that are there are not made again
            state.advance("prediction")
        if state.stage == "training" and not self._train(row, seed, state):
            at = progress_of(folder)
            return f"cut off in training after epoch {at['epochs']} ({at['iterations']} steps)"
        if state.stage == "prediction" and not self._predict(row, state):
            return "cut off in prediction"
        if state.stage == "scoring" and not self._score(row, state):
            return "cut off before scoring"
        return "finished"

    def _train(self, row: Row, seed: int, state: RunState) -> bool:
        state.note_hardware(self.device)
        state.notes["steps_wanted"] = self.suite.steps(row, self.setting)
        state.save()
        config = state.folder / CONFIG
        if not config.is_file():  # one that was begun goes on as it began
            keys, steps = self.suite.keys(row, self.setting), self.suite.steps(row, self.setting)
            content = resolved_config(row.bundle, row.overlays, keys, steps=steps, seed=seed)
            write_json(config, content, indent=2)
        datalist = self.datalist
        if row.variant is not None:
            place = self.output / self.suite.name / "labels" / row.variant
            datalist = variant_datalist(self.datalist, place, self.suite.variants[row.variant])
        options: dict[str, Any] = {"dataset_dir": datalist.parent, "datalist": datalist}
        options |= {"cache_dir": self.output / self.suite.name / "cache"}
        options |= {} if self.device is None else {"device": self.device}
        deadline = None if self.deadline is None else self.deadline - self._reserve()
        logs = bundle_folder(row.bundle) / "configs" / "logging.conf"
        self.tell(f"{row.name}, seed {seed}: training, log in {state.folder / 'train.log'}")
        with self._clock(state):
            done = train(config, state.folder, options, logging_conf=logs, deadline=deadline)
        state.notes |= progress_of(state.folder)
        if done:
            state.advance("prediction")
        return done

    def _predict(self, row: Row, state: RunState) -> bool:
        files = inference_configs(bundle_folder(row.bundle), row.inference_overlays)
        items = load_datalist(self.datalist, self.suite.section)
        overrides = {} if self.device is None else {"device": self.device}
        with self._clock(state):
            done = all(
                predict(
                    files,
                    state.folder / _CHOICES[choice],
                    items,
                    state.folder / choice / "predictions",
                    overrides=overrides,
                    deadline=self.deadline,
                )
                for choice in self._choices(state)
            )
        if done:
            state.advance("scoring")
        return done

    def _score(self, row: Row, state: RunState) -> bool:
        known = self._seconds("scoring")
        wanted = 1.2 * max(known) if known else state.seconds.get("prediction", 0.0)  # which takes longer
        if self._worked and self._left() < wanted:  # what does not do with all of the time never would
            return False
        results = {}
        with self._clock(state):
            for name, choice, post_processing in self._scores(state):
                meta = {"section": self.suite.section, "weights": str(state.folder / _CHOICES[choice])}
                meta |= {"datalist": str(self.datalist), "supervision": row.supervision, "checkpoint": choice}
                results[name] = score(
                    self.suite,
                    self.datalist,
                    state.folder / choice / "predictions",
                    state.folder / name,
                    meta=meta,
                    post_processing=post_processing,
                )
        write_result(state.folder / RESULT, row, state, results)
        state.advance("finished")
        return True

    def _is_scored(self, state: RunState) -> bool:
        return not self.suite.post_processing or POST_PROCESSED in read_result(state.folder / RESULT)["scores"]

    def _scores(self, state: RunState) -> Iterator[tuple[str, str, Mapping[str, int]]]:
        """Each score's name, the checkpoint whose label maps it is of, and how they are post-processed first."""
        for choice in self._choices(state):
            yield choice, choice, {}
            if choice == "last" and self.suite.post_processing:
                yield POST_PROCESSED, choice, self.suite.post_processing

    @contextlib.contextmanager
    def _clock(self, state: RunState) -> Iterator[None]:
        self._worked = True
        with state.clock():
            yield

    @staticmethod
    def _choices(state: RunState) -> list[str]:
        return [choice for choice, name in _CHOICES.items() if (state.folder / name).is_file()]

    def _left(self) -> float:
        return float("inf") if self.deadline is None else self.deadline - time.time()

    def _reserve(self) -> float:
        """Seconds to keep for predicting and scoring, by the runs that have done it or else by a guess.

        No more than half of what is left, so that a short budget trains as well: what is cut off later goes on.
        """
        known = self._seconds("prediction", "scoring")
        cases = len(load_datalist(self.datalist, self.suite.section))
        return min(1.2 * max(known) if known else _PER_VOLUME * cases, self._left() / 2)

    def _seconds(self, *stages: str) -> list[float]:
        """The seconds that each finished run at this setting took for these stages together."""
        known = []
        for path in self.folder.glob(f"*/*/{RESULT}"):
            with contextlib.suppress(UserError):
                seconds = read_result(path)["seconds"]
                known.append(sum(seconds.get(stage, 0.0) for stage in stages))
        return known
