"""Starts Python programs from a process that has imported what all of them import, which saves each of them seconds.

It has imported libraries alone: the project's own modules are read by every program anew. Called as a script, this file
is that process.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPO_ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("monai.bundle", "torch.utils.tensorboard", "nibabel", "SimpleITK", "skimage.graph", "scipy.stats")
_free: list[subprocess.Popen[bytes]] = []
"""The processes from which no program was forked that still runs."""


class ForkedProgram:
    """A program that was started.

    Args:
        server: the process that it is forked from, which forks the next one when this one has ended.
    """

    def __init__(self, server: subprocess.Popen[bytes]) -> None:
        self.server = server
        self.returncode: int | None = None
        self.pid = int(self._answer(120))

    def poll(self) -> int | None:
        """The status that it ended with, negative for a signal; None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float) -> int:
        """Wait for its end; one that does not come in time is killed."""
        status = self._ended(timeout)
        if status is None:
            self.send_signal(signal.SIGKILL)
            self._ended(60)
            raise AssertionError(f"the program did not end in {timeout} s")
        return status

    def send_signal(self, sent: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, sent)

    def _ended(self, timeout: float) -> int | None:
        if self.returncode is None:
            answer = self._answer(timeout)
            self.returncode = int(answer) if answer else None
            if answer:
                _free.append(self.server)
        return self.returncode

    def _answer(self, timeout: float) -> bytes:
        stream = self.server.stdout
        assert stream is not None
        if not select.select([stream], [], [], timeout)[0]:
            return b""
        line = stream.readline()
        assert line, "the process that programs start from has ended"
        return line


def start(words: Sequence[Any], out: Path, err: Path, *, cwd: Path = REPO_ROOT) -> ForkedProgram:
    """Start a program, which finds the modules beside this file.

    Args:
        words: those after ``python``: ``-m <module> …``, ``-c <code> …`` or ``<script> …``.
        out: the file that its output is added to.
        err: the same of its errors.
        cwd: where it runs, and looks for modules first.
    """
    server = _free.pop() if _free else _server()
    request = {"words": list(map(str, words)), "cwd": str(cwd), "out": str(out), "err": str(err)}
    assert server.stdin is not None
    server.stdin.write(json.dumps(request).encode() + b"\n")
    return ForkedProgram(server)


def run(words: Sequence[Any], *, timeout: float, cwd: Path = REPO_ROOT) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        status = start(words, out, err, cwd=cwd).wait(timeout)
        return subprocess.CompletedProcess(list(words), status, out.read_text(), err.read_text())


def run_on_two_processes(code: str, folder: Path) -> None:
    """Run a code twice at the same time, with a folder and the number of the process, 0 or 1, as its words."""
    logs = [folder / f"process{rank}.log" for rank in range(2)]
    started = [start(["-c", code, folder, rank], log, log) for rank, log in enumerate(logs)]
    try:
        assert [process.wait(120) for process in started] == [0, 0]
    finally:
        for process, log in zip(started, logs, strict=True):
            process.send_signal(signal.SIGKILL)  # one whose other has failed waits for it
            print(log.read_text())


def _server() -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    server: subprocess.Popen[bytes] = subprocess.Popen([sys.executable, __file__], env=environment, bufsize=0, **pipes)
    atexit.register(server.kill)
    return server


def serve() -> dict[str, Any] | None:
    """Fork for each request, and answer with the number of the process and how it ended.

    Returns:
        In a forked process its request; None at the end of all requests.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries tell things as they are imported
    for name in LIBRARIES:
        importlib.import_module(name)
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            answers.close()
            return json.loads(line)
        print(process, file=answers)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), file=answers)
    return None


def become(words: Sequence[str], cwd: str, out: str, err: str) -> None:
    """Be the program that Python would be with these words."""
    for file, stream in ((os.devnull, 0), (out, 1), (err, 2)):
        opened = os.open(file, os.O_RDONLY if stream == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, stream)
        os.close(opened)
    os.chdir(cwd)
    sys.path.insert(0, cwd)
    match words:
        case "-m", module, *arguments:
            sys.argv = [module, *arguments]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case "-c", code, *arguments:
            sys.argv = ["-c", *arguments]
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        case script, *_:
            sys.path[0] = os.path.dirname(script)
            sys.argv = list(words)
            runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    asked = serve()
    if asked is not None:
        become(**asked)
