"""The real MONAI Label server, as a process of its own on a loopback port."""

from __future__ import annotations

import contextlib
import email
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from environments import FOLDER, REPO_ROOT, environment

VERSION = "0.8.5"
# what the bundles use and MONAI Label's own list asks for otherwise
PINS = ("torch==2.13.0", "numpy<2", "pydicom<3")
MONAI = "monai[ignite,itk,nibabel,fire,tqdm,psutil,tensorboard,skimage,mlflow,lmdb]==1.6.1"
WITHOUT = {"torchvision", "monai", "pydicom", "ninja", "sam2"}
# torchvision's operators are built for CUDA and do not load beside a torch for CPUs; MONAI Label needs none of them
OPERATORS = """import torch

library = torch.library.Library("torchvision", "FRAGMENT")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
# no address leads out: whoever asks for another machine is refused at once
NO_NETWORK = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
NO_NETWORK |= {name: "127.0.0.1,localhost" for name in ("no_proxy", "NO_PROXY")}
START = 240.0
TAIL = 4000


def label_python() -> Path:
    """The Python of MONAI Label's environment, which is made on first use."""
    return environment("monailabel", label_installs(), {"sitecustomize.py": OPERATORS})


def label_installs() -> list[list[str]]:
    """What is installed in MONAI Label's environment: the arguments of one ``pip install`` after the other."""
    return [
        ["torch==2.13.0"],
        ["--no-deps", f"monailabel=={VERSION}", "torchvision==0.28.0"],
        [*PINS, MONAI, *_requirements()],
    ]


def _requirements() -> list[str]:
    """MONAI Label's own requirements, as its wheel tells them."""
    folder = FOLDER / "wheels"
    if not list(folder.glob(f"monailabel-{VERSION}*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
        subprocess.run([*command, f"monailabel=={VERSION}"], check=True)
    [wheel] = folder.glob(f"monailabel-{VERSION}*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        lines = email.message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []
    wanted = [line.partition(";")[0].strip() for line in lines]
    return sorted(line for line in wanted if re.split(r"[^\w-]", line)[0] not in WITHOUT)


def sample_app(folder: Path) -> Path:
    """A copy of the sample app ``monaibundle``, as ``monailabel apps --download`` makes it; it has no model yet."""
    app = folder / "monaibundle"
    source = label_python().parents[1] / "monailabel" / "sample-apps" / "monaibundle"
    shutil.copytree(source, app, ignore=shutil.ignore_patterns("logs", "model", "__pycache__"))
    return app


def app_with(folder: Path, bundles: Sequence[str | Path], *options: str) -> Path:
    """A copy of the sample app in which our own command has installed bundles.

    Args:
        folder: where the app is put.
        bundles: names of this checkout, zip files or folders.
        options: further ones of the command.
    """
    app = sample_app(folder)
    command = [sys.executable, "-W", "ignore", "-m", "tools", "label", "install", *map(str, bundles)]
    done = subprocess.run(
        [*command, "--app", str(app), *options], cwd=REPO_ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return app


@dataclass
class LabelServer:
    """A running server.

    Args:
        url: its address, without a slash at the end.
        studies: its folder of images.
        log_file: what it prints.
        process: its process, the first of a group of its own.
    """

    url: str
    studies: Path
    log_file: Path
    process: subprocess.Popen

    def log(self) -> str:
        """What it has printed so far."""
        return self.log_file.read_text(errors="replace")

    def get(self, path: str, *, timeout: float = 300.0, **params: Any) -> requests.Response:
        """Ask for something; an answer that tells of an error fails the test with the log's last lines."""
        return self.request("GET", path, params=params, timeout=timeout)

    def post(self, path: str, *, timeout: float = 300.0, body: Any = None, **params: Any) -> requests.Response:
        """Send a request; ``body`` goes as JSON, ``params`` into the address."""
        return self.request("POST", path, params=params, json=body, timeout=timeout)

    def put(self, path: str, *, files: Mapping[str, Any] | None = None, **params: Any) -> requests.Response:
        """Send files, ``params`` go into the address; ``data`` of a form can go among the files as (None, text)."""
        return self.request("PUT", path, params=params, files=files, timeout=300.0)

    def request(self, method: str, path: str, *, check: bool = True, **options: Any) -> requests.Response:
        """One request of ``requests``, checked unless ``check`` is off."""
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(method, f"{self.url}/{path.lstrip('/')}", **options)
        if check and not answer.ok:
            time.sleep(1)  # the traceback comes after the answer
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text[:500]}\n{self.log()[-TAIL:]}")
        return answer


@contextlib.contextmanager
def label_server(
    app: Path,
    studies: Path,
    models: Sequence[str],
    *,
    conf: Mapping[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[LabelServer]:
    """Start the server, wait until it answers, and stop all of its processes at the end.

    It finds no other machine: whatever it wants from the network would fail.

    Args:
        app: folder of the app.
        studies: folder of the images.
        models: names of bundles to serve.
        conf: further ``--conf`` pairs.
        variables: further variables of its environment.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pairs = {"models": ",".join(models), "zoo_source": "ngc", "sam2": "false", **(conf or {})}
    python = label_python()
    command = [str(python.with_name("monailabel")), "start_server", "--app", str(app), "--studies", str(studies)]
    command += [word for pair in pairs.items() for word in ("--conf", *pair)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    log_file = app.parent / f"server_{port}.log"
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    with log_file.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=app.parent,
            env={**inherited, **NO_NETWORK, "PATH": path, "PYTHONUNBUFFERED": "1", **(variables or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = LabelServer(f"http://127.0.0.1:{port}", studies, log_file, process)
    try:
        _wait(server)
        yield server
    finally:
        stop_group(process)


def _wait(server: LabelServer) -> None:
    end = time.monotonic() + START
    while time.monotonic() < end:
        if server.process.poll() is not None:
            raise AssertionError(f"the server stopped with {server.process.returncode}\n{server.log()[-TAIL:]}")
        with contextlib.suppress(requests.ConnectionError):
            if server.request("GET", "info", check=False, timeout=60).ok:
                return
        time.sleep(0.5)
    raise AssertionError(f"the server did not answer within {START:.0f} s\n{server.log()[-TAIL:]}")


def stop_group(process: subprocess.Popen) -> None:
    """Ask the whole group of a process to end, and end it after a while."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
            break
    with contextlib.suppress(ProcessLookupError):  # whom the first one left behind
        os.killpg(process.pid, signal.SIGKILL)
