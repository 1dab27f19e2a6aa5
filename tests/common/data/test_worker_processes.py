"""Work spread over processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.data.worker_processes import spread
from common.errors import UserError


def square(number: int) -> tuple[int, int]:
    time.sleep(0.05 if number == 0 else 0)  # the first is done last
    return number**2, os.getpid()


def refuse(number: int) -> int:
    if number in (2, 3):
        raise UserError(f"{number} is odd; take another")
    return number


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def write_slowly(path: Path) -> None:
    path.write_text("half")
    time.sleep(0.3)
    path.write_text("whole")


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_the_order_of_the_items(jobs: int) -> None:
    results = list(spread(square, range(5), jobs))
    assert [value for value, _ in results] == [0, 1, 4, 9, 16]
    assert (os.getpid() in {process for _, process in results}) == (jobs == 1)
    assert list(spread(square, [], jobs)) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_error_of_the_first_item_is_raised(jobs: int) -> None:
    found: list[int] = []
    with pytest.raises(UserError, match=r"^2 is odd; take another$"):
        found.extend(spread(refuse, range(5), jobs))
    assert found == [0, 1]


def test_what_was_begun_is_finished(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}" for number in range(6)]
    results = spread(write_slowly, paths, 2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    written = [path.read_text() for path in paths if path.exists()]
    assert set(written) == {"whole"}


def test_a_killed_process_is_told() -> None:
    with pytest.raises(UserError, match=r"^a process was killed, perhaps for want of memory; give fewer --jobs$"):
        list(spread(die, range(3), 2))


def test_processes_compute_where_their_parent_has_computed_on_several_threads() -> None:
    program = """
import torch
from common.data.worker_processes import spread

def count(number):
    return int((torch.arange(2**20) % 7 == number).sum()), torch.get_num_threads()

torch.set_num_threads(2)
alone = count(3)
print(alone, list(spread(count, [3, 3], 2)), torch.get_num_threads())
"""
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert told == "(149797, 2) [(149797, 1), (149797, 1)] 2\n"
