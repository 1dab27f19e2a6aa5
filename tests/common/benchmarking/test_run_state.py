"""What a run's folder knows of the time that it took."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest

from common.benchmarking.run_state import RunState
from common.errors import UserError

ABOUT = {"suite": "acdc", "seed": 1}


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    clock = {"time": 1000.0}
    monkeypatch.setattr("common.benchmarking.run_state.time.time", lambda: clock["time"])
    return clock


def test_time_of_attempts_adds_up(tmp_path: Path, now: dict[str, float]) -> None:
    with RunState.of(tmp_path, ABOUT).clock():
        now["time"] += 20.0
    with contextlib.suppress(KeyboardInterrupt), RunState.of(tmp_path, ABOUT).clock():
        now["time"] += 5.0
        raise KeyboardInterrupt
    state = RunState.of(tmp_path, ABOUT)
    assert (state.seconds, state.begun) == ({"training": 25.0}, None)
    state.advance("scoring")
    with state.clock():
        now["time"] += 2.0
    assert RunState.of(tmp_path, ABOUT).seconds == {"training": 25.0, "scoring": 2.0}


def test_an_attempt_that_was_killed_counts_until_it_last_wrote(tmp_path: Path, now: dict[str, float]) -> None:
    attempt = RunState.of(tmp_path, ABOUT).clock()
    attempt.__enter__()  # and never left
    for name, written in (("checkpoint.pt", 1060.0), ("train.log", 1090.0)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (written, written))
    now["time"] = 9000.0
    with RunState.of(tmp_path, ABOUT).clock():
        now["time"] += 7.0
    assert RunState.of(tmp_path, ABOUT).seconds == {"training": 97.0}


def test_an_attempt_that_was_killed_before_it_wrote_counts_nothing(tmp_path: Path, now: dict[str, float]) -> None:
    (tmp_path / "config.json").touch()
    os.utime(tmp_path / "config.json", (900.0, 900.0))
    attempt = RunState.of(tmp_path, ABOUT).clock()
    attempt.__enter__()
    now["time"] = 9000.0
    with RunState.of(tmp_path, ABOUT).clock():
        pass
    assert RunState.of(tmp_path, ABOUT).seconds == {"training": 0.0}


def test_the_datalist_is_kept_from_the_next_attempt_on(tmp_path: Path) -> None:
    RunState(tmp_path, ABOUT, "scoring").save()  # of a run that was begun before datalists were kept
    RunState.of(tmp_path, ABOUT | {"datalist": "aa"}).save()
    assert RunState.of(tmp_path, ABOUT | {"datalist": "aa"}).stage == "scoring"
    with pytest.raises(UserError, match=r"holds a run of another datalist; remove it, or choose another --output"):
        RunState.of(tmp_path, ABOUT | {"datalist": "bb"})


@pytest.mark.parametrize("change", [{"stage": "lunch"}, {"begun": "yesterday"}])
def test_a_damaged_state_says_so(tmp_path: Path, change: dict[str, str]) -> None:
    RunState(tmp_path, ABOUT).save()
    content = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(content | change))
    with pytest.raises(UserError, match=r"run\.json: cannot be read as the state of a run; remove the folder"):
        RunState.of(tmp_path, ABOUT)


def test_hardware_names_all_that_a_training_ran_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for threads in ("1", "1", "2", "1"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        state = RunState.of(tmp_path, ABOUT)
        state.note_hardware("cpu")
        state.save()
    noted = RunState.of(tmp_path, ABOUT).notes["hardware"]
    assert noted["device"] == "CPU"
    one, two = noted["cpu"].split(", then ")
    assert one.endswith(", 1 thread")
    assert two == one.removesuffix("1 thread") + "2 threads"
