from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.optim.lr_scheduler import CyclicLR, LambdaLR

from common.engines.polynomial_decay import polynomial_decay
from common.errors import UserError
from common.handlers.resumed_state import load_states, set_aside


def sgd(lr: float = 0.1, **options: float) -> torch.optim.SGD:
    return torch.optim.SGD(torch.nn.Linear(2, 1).parameters(), lr=lr, **options)


def decaying(steps: int, lr: float = 0.1, done: int = 0) -> dict[str, torch.optim.Optimizer | LambdaLR]:
    """An optimizer and its schedule, after some steps."""
    return scheduled(polynomial_decay(steps=steps, power=0.9), lr, done)


def scheduled(
    function: Callable[[int], float], lr: float = 0.1, done: int = 0
) -> dict[str, torch.optim.Optimizer | LambdaLR]:
    optimizer = sgd(lr)
    schedule = LambdaLR(optimizer, function)
    for _ in range(done):
        optimizer.step()
        schedule.step()
    return {"optimizer": optimizer, "lr_scheduler": schedule}


def states(objects: dict) -> dict:
    return {name: each.state_dict() for name, each in objects.items()}


def test_without_a_schedule_the_rate_is_the_configured_one():
    before, after = sgd(0.1, momentum=0.9), sgd(0.01, momentum=0.9)
    assert load_states({"optimizer": after}, {"optimizer": before.state_dict()}) == ["optimizer lr 0.01 instead of 0.1"]
    assert after.param_groups[0]["lr"] == 0.01
    assert load_states({"optimizer": before}, {"optimizer": before.state_dict()}) == []


def test_other_numbers_of_an_optimizer_are_the_configured_ones():
    before, after = sgd(momentum=0.9, weight_decay=1e-4), sgd(momentum=0.5, weight_decay=0.01)
    told = ["optimizer momentum 0.5 instead of 0.9", "optimizer weight_decay 0.01 instead of 0.0001"]
    assert load_states({"optimizer": after}, {"optimizer": before.state_dict()}) == told
    assert after.param_groups[0]["momentum"] == 0.5
    assert after.param_groups[0]["weight_decay"] == 0.01


def test_a_momentum_that_a_schedule_sets_is_where_it_was():
    before, after = sgd(momentum=0.9), sgd(momentum=0.9)
    cycles = [CyclicLR(each, 0.01, 0.1, 4, base_momentum=0.5, max_momentum=0.9) for each in (before, after)]
    before.step()
    cycles[0].step()
    both = {"optimizer": after, "lr_scheduler": cycles[1]}
    assert load_states(both, {"optimizer": before.state_dict(), "lr_scheduler": cycles[0].state_dict()}) == []
    assert after.param_groups[0]["momentum"] == before.param_groups[0]["momentum"] < 0.9


def test_a_training_that_goes_on_for_longer_has_the_rate_of_the_longer_schedule():
    at_its_end = states(decaying(10, done=10))
    assert at_its_end["optimizer"]["param_groups"][0]["lr"] == 0.0
    longer, whole = decaying(20), decaying(20, done=10)
    expected = whole["optimizer"].param_groups[0]["lr"]
    assert load_states(longer, at_its_end) == [f"lr_scheduler lr {expected:.6g} instead of 0"]
    assert longer["optimizer"].param_groups[0]["lr"] == expected > 0.05
    assert longer["lr_scheduler"].get_last_lr() == [expected]
    longer["optimizer"].step()
    longer["lr_scheduler"].step()
    whole["lr_scheduler"].step()
    assert longer["optimizer"].param_groups[0]["lr"] == whole["optimizer"].param_groups[0]["lr"]


def test_the_same_schedule_goes_on_with_the_same_rate():
    before, after = decaying(10, done=3), decaying(10)
    assert load_states(after, states(before)) == []
    assert after["optimizer"].param_groups[0]["lr"] == before["optimizer"].param_groups[0]["lr"]


def test_another_rate_is_told_once():
    before, after = decaying(10, done=3), decaying(10, lr=0.2)
    rate = before["optimizer"].param_groups[0]["lr"]
    assert load_states(after, states(before)) == [f"lr_scheduler lr {2 * rate:.6g} instead of {rate:.6g}"]
    assert after["optimizer"].param_groups[0]["lr"] == pytest.approx(2 * rate)


def test_a_schedule_that_ends_before_is_refused():
    with pytest.raises(UserError, match=r"^the learning rate came to zero after 5 iterations.*set schedule_epochs"):
        load_states(decaying(5), states(decaying(10, done=8)))


class Halving:
    """A schedule's function that is an object, whose attributes its state has."""

    def __init__(self, period: int) -> None:
        self.period = period

    def __call__(self, step: int) -> float:
        return 0.5 ** (step // self.period)


def test_a_function_with_a_state_is_the_configured_one():
    after = scheduled(Halving(1))
    assert load_states(after, states(scheduled(Halving(2), done=4))) == ["lr_scheduler lr 0.00625 instead of 0.025"]
    assert after["lr_scheduler"].lr_lambdas[0].period == 1


OTHERS = "events.out.tfevents.1700000000.elsewhere.7.0"


def left(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text(name)


def test_nothing_is_put_aside_where_nothing_is(tmp_path):
    assert set_aside(tmp_path / "none") == []
    left(tmp_path, "notes.txt")
    assert set_aside(tmp_path) == []
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_what_was_put_aside_before_goes(tmp_path):
    left(tmp_path / "replaced", "checkpoint.pt", "model_best.pt", "events.out.tfevents.1.a.1.0")
    left(tmp_path, "checkpoint.pt", OTHERS)
    assert set_aside(tmp_path) == ["checkpoint.pt", OTHERS]
    assert os.listdir(tmp_path) == ["replaced"]
    assert sorted(os.listdir(tmp_path / "replaced")) == ["checkpoint.pt", OTHERS]


def test_files_of_another_kind_in_that_folder_are_nobodys_to_remove(tmp_path):
    left(tmp_path / "replaced", "notes.txt")
    left(tmp_path, "checkpoint.pt", "model.pt")
    with pytest.raises(UserError, match=r"replaced: cannot take the files of an earlier .* \(.*\); remove it"):
        set_aside(tmp_path)
    assert (tmp_path / "replaced" / "notes.txt").is_file()
    (tmp_path / "replaced" / "notes.txt").unlink()
    assert set_aside(tmp_path) == ["checkpoint.pt", "model.pt"]


@pytest.mark.parametrize("call", range(4))
def test_a_start_that_is_killed_loses_no_file(tmp_path, monkeypatch, call):
    left(tmp_path / "replaced", "model.pt")
    names = ["checkpoint.pt", OTHERS, "model.pt"]
    left(tmp_path, *names)
    calls, replace = [], os.replace

    def killed(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) > call:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        set_aside(tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "checkpoint.pt").exists() == (call == 0)
    assert set_aside(tmp_path) == names
    assert os.listdir(tmp_path) == ["replaced"]
    assert sorted(os.listdir(tmp_path / "replaced")) == names
