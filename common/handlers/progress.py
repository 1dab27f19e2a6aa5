"""A progress bar for people, silent in log files."""

from __future__ import annotations

import sys

from ignite.engine import Engine
from ignite.handlers.tqdm_logger import ProgressBar

from .listed_output import whole_output

__all__ = ["Progress"]


class Progress:
    """Show one bar per epoch with the running loss, if standard error is a terminal.

    Args:
        force: show it in any case.
    """

    def __init__(self, *, force: bool = False) -> None:
        self.force = force

    def attach(self, engine: Engine) -> None:
        """Draw the bar for an engine's epochs."""
        if self.force or sys.stderr.isatty():
            ProgressBar(desc="epoch", file=sys.stderr).attach(
                engine, output_transform=lambda _: {"loss": float(whole_output(engine)["loss"])}
            )
