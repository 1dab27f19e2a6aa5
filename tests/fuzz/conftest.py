"""A process that runs damaged cases, under a limit of time."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# test files are imported by their path, so that what they share has to be found first
sys.path.insert(0, str(Path(__file__).parent))

START, CASE = 300, 60
"""The most seconds that the start and a case may take, on a busy machine."""


class Worker:
    """The process; it is started when it is needed, and anew after a case that it did not survive."""

    def __init__(self, template: Path) -> None:
        self.template = template
        self.process: subprocess.Popen[str] | None = None
        self.answers: queue.Queue[str] = queue.Queue()

    def run(self, case: str, folder: Path, **request: int) -> dict[str, Any]:
        """What came of a case; ``hangs`` or ``killed`` where it did not end in order.

        Args:
            case: its name.
            folder: an empty folder, which is removed afterwards.
            request: ``signal``, the number of one, and ``at``, to stop it while it writes.
        """
        if self.process is None:
            self._start()
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"case": case, "folder": str(folder), **request}) + "\n")
        self.process.stdin.flush()
        answer = self._answer(CASE)
        shutil.rmtree(folder)
        return answer

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _start(self) -> None:
        self.answers = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fuzz_worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "FUZZ_TEMPLATE": str(self.template), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        )
        threading.Thread(target=self._listen, args=(self.process, self.answers), daemon=True).start()
        assert "ready" in self._answer(START)

    @staticmethod
    def _listen(process: subprocess.Popen[str], answers: queue.Queue[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            answers.put(line)
        answers.put("")

    def _answer(self, seconds: float) -> dict[str, Any]:
        try:
            line = self.answers.get(timeout=seconds)
        except queue.Empty:
            self.stop()
            return {"hangs": seconds}
        if not line:
            assert self.process is not None
            status = self.process.wait()
            self.process = None
            return {"killed": status}
        return json.loads(line)


@pytest.fixture(scope="session")
def fuzz_template(tmp_path_factory: pytest.TempPathFactory, chaos_tree: Path, lvsc_tree: Path, ppss_tree: Path) -> Path:
    """What stages start from: the layouts of data sets, and what the worker adds."""
    folder = tmp_path_factory.mktemp("template")
    for name, tree in (("chaos", chaos_tree), ("lvsc", lvsc_tree), ("ppss", ppss_tree)):
        shutil.copytree(tree, folder / name)
    return folder


@pytest.fixture(scope="session")
def fuzz_worker(fuzz_template: Path) -> Iterator[Worker]:
    """The process."""
    worker = Worker(fuzz_template)
    yield worker
    worker.stop()


@pytest.fixture(scope="session")
def faults(fuzz_worker: Worker, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """A function that runs a case and gives what is wrong with how it ended."""
    from fuzz_verdict import faults_of

    def judge(case: str) -> list[str]:
        result = fuzz_worker.run(case, tmp_path_factory.mktemp("case"))
        if "hangs" in result:
            return [f"does not end within {result['hangs']} s"]
        if "killed" in result:
            return [f"the process died, status {result['killed']}"]
        found = faults_of(case, result)
        if found:
            fuzz_worker.stop()  # what went wrong must not spoil the next case
            found.append(f"{result['out'][-1500:]}{result['err'][-1500:]}{result['crash'][-2500:]}")
        return found

    return judge
