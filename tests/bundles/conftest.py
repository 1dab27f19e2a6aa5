"""What the tests of the bundles share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# test files are imported by their path, so that what they share has to be found first
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _amp_on_every_machine(bfloat16_everywhere: None) -> None:
    """What a bundle computes with ``amp`` is tested on older machines too."""
