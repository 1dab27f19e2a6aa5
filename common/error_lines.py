"""How an error ends a program: a mistake of the user's as one line, anything else with its trace."""

from __future__ import annotations

import logging
import sys
from types import TracebackType

from .distributed import first_to_fail
from .errors import UserError

__all__ = ["one_line", "tell_once"]


def one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """To be ``sys.excepthook``: print a UserError as one line, an interruption as one word, and others whole."""
    cause = _told_in_words(error)
    if not first_to_fail():
        return
    if isinstance(cause, UserError):
        sys.stderr.write(f"error: {cause}\n")
    elif isinstance(cause, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
    else:
        sys.__excepthook__(kind, error, trace)


def tell_once() -> None:
    """Keep from the log that a UserError ends an engine, which :func:`one_line` tells at the end.

    Ignite's engines and MONAI's ``StatsHandler`` log an error that passes them, with its trace, and raise it again.
    Loggers that exist already stay as they are.
    """
    existing = logging.getLoggerClass()
    if not issubclass(existing, _TellsOnce):
        logging.setLoggerClass(type(_TellsOnce.__name__, (_TellsOnce, existing), {}))


class _TellsOnce(logging.Logger):
    def handle(self, record: logging.LogRecord) -> None:
        passing = sys.exc_info()[1] if record.levelno >= logging.ERROR else None
        if passing is None or not isinstance(_told_in_words(passing), UserError):
            super().handle(record)


def _told_in_words(error: BaseException) -> BaseException | None:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, (UserError, KeyboardInterrupt)):
        cause = cause.__cause__ or cause.__context__
    return cause
