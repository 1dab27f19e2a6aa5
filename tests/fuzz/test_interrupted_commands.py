"""Stopping every command while it writes: nothing is half-written, and running it again completes the work."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="copies the process that runs the commands")

WRITING = (
    "check_image-.nii.gz",
    "datalist_image-.nii.gz",
    "datalist_series-series",
    "scribble_mask-.nii.gz",
    "scribble_in_processes-.nii.gz",
    "evaluate_prediction-.nii.gz",
    "evaluate_in_processes-.nii.gz",
    "import_label-.nii.gz",
    "predict_image-.nii.gz",
    "predict_series-series",
    "report_image-.nii.gz",
    "prepare_chaos_t1-tree",
    "prepare_lvsc-tree",
    "prepare_ppss-tree",
)
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
WORDS = {signal.SIGINT: "error: interrupted\n", signal.SIGTERM: "error: terminated\n", signal.SIGKILL: ""}
MOST_PLACES = 40

Stop = Callable[[str, int, signal.Signals], dict[str, Any]]


@pytest.fixture
def stop(fuzz_worker: Any, tmp_path_factory: pytest.TempPathFactory) -> Stop:
    def run(stage: str, at: int, sent: signal.Signals) -> dict[str, Any]:
        return fuzz_worker.run(f"{stage}-healthy", tmp_path_factory.mktemp("stop"), at=at, signal=int(sent))

    return run


def is_temporary(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def check(result: dict[str, Any], sent: signal.Signals) -> None:
    healthy, again = result["healthy"], result["again"]
    assert (result["status"], result["err"]) == (STATUS[sent], WORDS[sent])
    written = {name: said for name, said in result["written"].items() if not is_temporary(name)}
    assert written.items() <= healthy.items()  # what has its name is whole
    if sent != signal.SIGKILL:  # nobody can tidy up then
        assert written == result["written"]
    assert (again["status"], again["err"]) == (0, "")
    assert again["written"] == healthy  # and of the first run nothing is left


SIGNALS = ((signal.SIGINT, 1), (signal.SIGTERM, 2), (signal.SIGKILL, 1))
"""Signals with the place, counted from 1 on, at which they come."""
TWO_OF_EACH = [
    (stage, *SIGNALS[(number + more) % len(SIGNALS)]) for number, stage in enumerate(WRITING) for more in (0, 1)
]


@pytest.mark.parametrize(("stage", "sent", "at"), TWO_OF_EACH)
def test_a_stop_while_writing(stage: str, sent: signal.Signals, at: int, stop: Stop) -> None:
    result = stop(stage, at, sent)
    assert result["reached"]
    check(result, sent)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("sent", STATUS)
@pytest.mark.parametrize("stage", WRITING)
def test_stops_everywhere(stage: str, sent: signal.Signals, stop: Stop) -> None:
    for at in range(1, MOST_PLACES):
        result = stop(stage, at, sent)
        if not result["reached"]:
            assert at > 1
            break
        check(result, sent)
