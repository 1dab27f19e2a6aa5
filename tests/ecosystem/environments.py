"""Virtual environments of programs that cannot live in the project's own, made from the package registries."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

REPO_ROOT = Path(__file__).resolve().parents[2]
FOLDER = REPO_ROOT / "build" / "environments"


def environment(
    name: str, installs: Sequence[Sequence[str]], files: Mapping[str, str] | None = None, *, folder: Path = FOLDER
) -> Path:
    """The Python of an environment, made on first use and kept for as long as its description stays the same.

    Args:
        name: what it is called.
        installs: arguments of ``pip install``, one list a call, in this order.
        files: texts of files to add to its site-packages, by name.
        folder: where environments are kept.

    Returns:
        path of its Python.

    Raises:
        RuntimeError: pip fails; with its last lines.
    """
    files = dict(files or {})
    description = json.dumps([sys.version, [list(install) for install in installs], files])
    root = folder / f"{name}-{hashlib.sha256(description.encode()).hexdigest()[:12]}"
    python = root / "bin" / "python"
    stamp = root / "complete"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker of the same test run may need it, too
        if stamp.exists():
            return python
        for older in folder.glob(f"{name}-*"):
            shutil.rmtree(older)
        _call([sys.executable, "-m", "venv", str(root)])
        for install in installs:
            _call([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *install])
        packages = Path(_call([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip())
        for file, text in files.items():
            (packages / file).write_text(text)
        stamp.touch()
    return python


def _call(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return done.stdout
