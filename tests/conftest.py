"""What the tests share: made-up hearts, real data where they are, and bounded threads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(2)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The folder of the checkout."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real data sets; without it the test is skipped."""
    folder = os.environ.get("SCRIBBLE_DATA_ROOT")
    if not folder:
        pytest.skip("SCRIBBLE_DATA_ROOT is not set: this test reads real data")
    if not Path(folder).is_dir():
        pytest.skip(f"SCRIBBLE_DATA_ROOT={folder} is no folder: this test reads real data")
    return Path(folder)


@pytest.fixture(scope="session")
def phantom_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small made-up data set with its datalist.json, made once and only to be read."""
    from common.data.phantom import make_phantom

    return make_phantom(tmp_path_factory.mktemp("data") / "phantom", num_patients=6, seed=0).parent
