"""Starts Python programs from a process that has imported what all of them import, which saves each of them seconds.

It has imported libraries alone: the project's own modules are read by every program anew. Called as a script, this file
is that process.
"""

from __future__ import annotations

import atexit
import contextlib
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

LIBRARIES = ("monai.bundle", "torch.utils.tensorboard", "nibabel", "SimpleITK", "skimage.graph", "scipy.stats")
_servers: list[subprocess.Popen[bytes]] = []


class ForkedProgram:
    """A program that was started; a pytest process has one at a time."""

    def __init__(self, server: subprocess.Popen[bytes]) -> None:
        self.server = server
        self.pid = int(self._answer(120))
        self.returncode: int | None = None

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
        """Send it a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, sent)

    def _ended(self, timeout: float) -> int | None:
        if self.returncode is None:
            answer = self._answer(timeout)
            self.returncode = int(answer) if answer else None
        return self.returncode

    def _answer(self, timeout: float) -> bytes:
        stream = self.server.stdout
        assert stream is not None
        if not select.select([stream], [], [], timeout)[0]:
            return b""
        line = stream.readline()
        assert line, "the process that programs start from has ended"
        return line


def start(words: Sequence[str], cwd: Path, out: Path, err: Path) -> ForkedProgram:
    """Start ``python`` with ``-m <module> …``, ``-c <code> …`` or ``<file> …``; its output is added to two files."""
    if not _servers:
        command = [sys.executable, __file__]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "bufsize": 0}
        server: subprocess.Popen[bytes] = subprocess.Popen(command, env=environment, **pipes)
        atexit.register(server.kill)
        _servers.append(server)
    stream = _servers[0].stdin
    assert stream is not None
    request = {"words": list(words), "cwd": str(cwd), "out": str(out), "err": str(err)}
    stream.write(json.dumps(request).encode() + b"\n")
    return ForkedProgram(_servers[0])


def run(words: Sequence[str], cwd: Path, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        status = start(words, cwd, out, err).wait(timeout)
        return subprocess.CompletedProcess(list(words), status, out.read_text(), err.read_text())


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
    for path, stream in ((os.devnull, 0), (out, 1), (err, 2)):
        opened = os.open(path, os.O_RDONLY if stream == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, stream)
        os.close(opened)
    os.chdir(cwd)
    sys.path[0] = cwd
    match words:
        case "-m", module, *arguments:
            sys.argv = [module, *arguments]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case "-c", code, *arguments:
            sys.argv = ["-c", *arguments]
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        case file, *arguments:
            sys.argv = [file, *arguments]
            sys.path[0] = os.path.dirname(os.path.abspath(file))
            runpy.run_path(file, run_name="__main__")


if __name__ == "__main__":
    asked = serve()
    if asked is not None:
        become(**asked)
