"""What the tests of the bundles share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# test files are imported by their path, so that what they share has to be found first
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def bfloat16_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``amp`` bundles compute in bfloat16 on every machine, on older ones slowly."""
    monkeypatch.setattr("common.engines.bfloat16_inferer.has_bfloat16", lambda device: True)
