"""What the command lines of the benchmarks share."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any


def benchmark_parser(docstring: str | None, quick: str = "small sizes") -> argparse.ArgumentParser:
    """A parser described by the first line of ``docstring``, with ``--quick``, which means ``quick``."""
    parser = argparse.ArgumentParser(description=(docstring or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{quick}: a check that it runs, no measurement")
    return parser


def run_apart(*words: str) -> Any:
    """Run this program with its own words and ``words`` in a process of its own; return its last line, read as JSON.

    What a process has taken in memory never falls, and what it has loaded stays: two forms are only comparable in
    processes of their own.
    """
    command = [sys.executable, sys.argv[0], *sys.argv[1:], *words]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])
