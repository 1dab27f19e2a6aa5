"""The environment of NVFlare: the packages that the project depends on, and NVFlare beside them."""

from __future__ import annotations

import tomllib
from pathlib import Path

from environments import REPO_ROOT, environment

NVFLARE = "nvflare==2.9.0"


def nvflare_python() -> Path:
    """Its Python. The project itself is not in it."""
    torch, *others = tomllib.loads((REPO_ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return environment("nvflare", [[torch], [*others, NVFLARE]])
