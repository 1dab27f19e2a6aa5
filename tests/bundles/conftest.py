"""What the tests of the bundles share."""

from __future__ import annotations

import sys
from pathlib import Path

# test files are imported by their path, so that what they share has to be found first
sys.path.insert(0, str(Path(__file__).parent))
