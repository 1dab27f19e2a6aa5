"""Starts a bundle under torchrun, on CPUs, and notes which of its processes writes which file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import forked_programs

REPO_ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.name for path in (REPO_ROOT / "bundles").iterdir() if (path / "configs").is_dir())
SMALL = {"pixdim": "[4.0,4.0]", "roi_size": "[48,48]", "filters": 4, "progress": "false"}

# Python calls this file on its start. Whatever opens a file for writing, or gives one its name, is noted under the
# number of its process; torch.save opens files without Python's knowledge, but all of ours are renamed.
NOTES = """
import os, sys

def note(event, arguments, place=os.environ.get("WRITES"), rank=os.environ.get("RANK")):
    if event == "open":
        path, mode, flags = arguments
        if not flags & (os.O_WRONLY | os.O_RDWR) or not isinstance(path, (str, bytes)):
            return
    elif event == "os.rename":
        path = arguments[1]
    elif event == "os.mkdir":
        path = arguments[0]
    else:
        return
    line = f"{event} {os.path.abspath(os.fsdecode(path))}\\n".encode()
    os.write(stream, line)

if os.environ.get("WRITES") and os.environ.get("RANK"):
    stream = os.open(f"{os.environ['WRITES']}/{os.environ['RANK']}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.addaudithook(note)
"""


def command(bundle: str, *overlays: str, processes: int = 2, launch: tuple[str, ...] = (), **options: Any) -> list[str]:
    """The words of a training, or with the overlay ``evaluate`` of an evaluation; overlays by their names or paths."""
    folder = f"bundles/{bundle}/configs"
    paths = [name if name.startswith("/") else f"{folder}/{name}.json" for name in ("train", *overlays)]
    files = ",".join(f"'{path}'" for path in paths)
    settings = {"batch_size": 4, **({} if "evaluate" in overlays else SMALL), **options}
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    place = launch or ("--standalone", f"--nproc_per_node={processes}")
    launcher = ["-m", "torch.distributed.run", *place] if processes else []
    return [sys.executable, *launcher, "-m", "monai.bundle", "run", "--config_file", f"[{files}]", *words]


def start(words: list[str], *, notes: Path | None = None, **options: Any) -> subprocess.Popen:
    """Start it in a process group of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCHELASTIC_ENABLE_FILE_TIMER": "0"}
    if notes is not None:
        notes.mkdir(parents=True)
        (notes / "sitecustomize.py").write_text(NOTES)
        environment |= {"WRITES": str(notes), "PYTHONPATH": str(notes)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, cwd=REPO_ROOT, env=environment, start_new_session=True, **pipes, **options)


def finish(process: subprocess.Popen, timeout: float = 500) -> subprocess.CompletedProcess:
    """Wait for it, and for no longer than a hang would be told from a slow machine."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"it hangs:\n{out[-2000:]}\n{err[-2000:]}") from None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run(bundle: str, *overlays: str, notes: Path | None = None, **options: Any) -> subprocess.CompletedProcess:
    """Run it to its end."""
    words = command(bundle, *overlays, **options)
    if words[2] == "monai.bundle":  # one process, without a launcher
        return forked_programs.run(words[1:], timeout=500)
    return finish(start(words, notes=notes))


def errors(result: subprocess.CompletedProcess) -> list[str]:
    """The lines that tell the user what went wrong, without the process's number, which PyTorch adds."""
    return re.findall(r"^(?:\[rank\d\]: )?(error:.*|interrupted)$", result.stderr, re.MULTILINE)


def written(notes: Path, rank: int, folder: Path) -> list[str]:
    """The files below a folder that a process opened for writing or gave their names, relative to it."""
    lines = (notes / str(rank)).read_text().splitlines()
    paths = [Path(line.partition(" ")[2]) for line in lines]
    return [path.relative_to(folder).as_posix() for path in paths if path.is_relative_to(folder)]
