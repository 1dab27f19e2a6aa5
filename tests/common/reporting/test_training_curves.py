"""Curves from TensorBoard's files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter

from common.reporting.training_curves import in_order, read_curves, thinned


def write(folder: Path, values: dict[int, float], tag: str = "train_loss", wall: float = 1.0) -> Path:
    """Write a file of its own."""
    before = set(folder.glob("*"))
    with SummaryWriter(str(folder)) as writer:
        for step, value in values.items():
            writer.add_scalar(tag, value, step, walltime=wall)
    (new,) = set(folder.glob("*")) - before
    return new


def test_scalars_of_all_files_by_step(tmp_path: Path) -> None:
    write(tmp_path, {2: 0.5, 1: 1.0})
    write(tmp_path, {3: 0.25}, tag="val_mean_dice")
    assert read_curves(tmp_path) == {"train_loss": [(1, 1.0), (2, 0.5)], "val_mean_dice": [(3, 0.25)]}


def test_a_resumed_run_replaces_the_steps_that_it_repeats(tmp_path: Path) -> None:
    write(tmp_path, {1: 1.0, 2: 0.5, 3: 9.0}, wall=5.0)
    write(tmp_path, {3: 0.25, 4: 0.125}, wall=7.0)
    assert read_curves(tmp_path)["train_loss"] == [(1, 1.0), (2, 0.5), (3, 0.25), (4, 0.125)]


def test_other_kinds_of_data_are_passed_over_and_infinity_is_a_gap(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_histogram("weights", np.arange(5.0), 1)
        writer.add_text("words", "text", 1)
        writer.add_image("picture", np.zeros((1, 4, 4), np.uint8), 1)
        writer.add_scalar("loss", math.inf, 1)
    curves = read_curves(tmp_path)
    assert list(curves) == ["loss"]
    assert math.isnan(curves["loss"][0][1])


def test_damaged_files_give_what_stands_before_the_damage(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", {1: 1.0, 2: 0.5})
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / whole.name).write_bytes(whole.read_bytes()[:-10])
    (tmp_path / "cut" / "events.out.tfevents.0").write_bytes(b"no events at all" * 20)
    (tmp_path / "cut" / "events.out.tfevents.1").write_bytes(b"")
    assert read_curves(tmp_path / "cut") == {"train_loss": [(1, 1.0)]}
    assert read_curves(tmp_path / "nothing") == {}


def test_validation_comes_first_then_the_loss() -> None:
    assert in_order(["train_a0", "val_mean_dice", "train_loss", "train_a0", "other"]) == [
        "val_mean_dice",
        "train_loss",
        "other",
        "train_a0",
    ]


@pytest.mark.parametrize("length", [10, 5000])
def test_thinning_keeps_ends_peaks_and_gaps(length: int) -> None:
    curve = [(step, math.sin(step)) for step in range(length)]
    curve[length // 2] = (length // 2, 50.0)
    curve[length // 3] = (length // 3, math.nan)
    few = thinned(curve, most=400)
    assert len(few) == min(length, len(few)) <= 400
    assert (few[0], few[-1]) == (curve[0], curve[-1])
    assert (length // 2, 50.0) in few
    assert any(math.isnan(value) for _, value in few)
    assert [step for step, _ in few] == sorted(step for step, _ in few)
