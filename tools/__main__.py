"""``python -m tools <command>``: one command for each module of this folder."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import inspect
import io
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import fire
from fire.core import FireExit
from fire.helptext import HelpText
from fire.trace import FireTrace

from common.errors import UserError

PROGRAM = "python -m tools"
_HELP = ("--help", "-h")
_LONGEST = 1500
"""The most signs of a message."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command's name and its options; by default those of the command line.

    Returns:
        The exit status: 0; 1 after a :class:`~common.errors.UserError`, printed as one line ``error: …``; 2 after an
        unknown command or option, before the command has done anything; 130 after an interrupt, 143 after a request
        to end, both of which leave no half-written file.
    """
    name, *options = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in _HELP:
        print(_overview())
        return 0
    if name not in _command_files():
        return _fail(f'unknown command "{name}"; the commands are {", ".join(_command_files())}', status=2)
    try:
        command = importlib.import_module(f"tools.{name}").main
        if any(option in _HELP for option in options):
            print(HelpText(command, FireTrace(command, name=f"{PROGRAM} {name}")))
            return 0
        try:
            call = _parse(command, options, name)
        except FireExit as error:
            return _fail(f"{_reason(error, command, options)}; see {PROGRAM} {name} --help", status=2)
        with _terminable(), warnings.catch_warnings():
            if not sys.warnoptions:  # what libraries warn of names no file, and is meant for programmers
                warnings.simplefilter("ignore")
            call()
    except UserError as error:
        return _fail(str(error), status=1)
    except _Terminated:
        return _fail("terminated", status=143)
    except KeyboardInterrupt:
        return _fail("interrupted", status=130)
    return 0


class _Terminated(KeyboardInterrupt):
    """Somebody asked the program to end."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let a request to end, as ``kill`` and schedulers send it, clean up as an interrupt does."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled by the main thread alone
        return

    def stop(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parse(command: Callable[..., Any], options: Sequence[str], name: str) -> Callable[[], Any]:
    """Bind the options to the command without running it.

    Fire runs a function before it complains about options that the function does not have; so Fire gets a stand-in
    with the same signature, and the command runs only once everything on the line was understood.
    """
    calls: list[Callable[[], Any]] = []

    @functools.wraps(command)
    def record(*args: Any, **kwargs: Any) -> None:
        calls.append(functools.partial(command, *args, **kwargs))

    for key, hint in get_type_hints(command).items():
        if hint is bool:
            fire.decorators.SetParseFn(functools.partial(_boolean, key), key)(record)
        elif hint in (str, str | None):
            fire.decorators.SetParseFn(str, key)(record)
    with contextlib.redirect_stderr(io.StringIO()):
        fire.Fire(record, command=list(options), name=f"{PROGRAM} {name}")
    return calls[0]


def _reason(error: FireExit, command: Callable[..., Any], options: Sequence[str]) -> str:
    """What is wrong with the options: a misspelt one explains more than the required one that it leaves missing."""
    known = inspect.signature(command).parameters
    for option in options:
        name = option.removeprefix("--").partition("=")[0].replace("-", "_")
        if option.startswith("--") and name not in known and name.removeprefix("no") not in known:
            return f"unknown option --{name}"
    text = error.trace.elements[-1].ErrorAsStr()
    missing = sorted(re.findall(r"'(\w+)'", text))
    return f"missing {', '.join(f'--{name}' for name in missing)}" if missing else text


def _boolean(key: str, text: str) -> bool:
    values = {"true": True, "false": False}
    if text.lower() not in values:
        raise UserError(f"--{key} is {text!r}; write true or false")
    return values[text.lower()]


def _command_files() -> dict[str, Path]:
    """The modules of this folder by the name of their command."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.py")) if not path.stem.startswith("_")}


def _overview() -> str:
    """The commands with the first line of their modules, read without importing them."""
    files = _command_files()
    width = max(map(len, files))
    lines = [f"  {name:{width}}  {_summary(path)}" for name, path in files.items()]
    return "\n".join([f"usage: {PROGRAM} <command> [options]; {PROGRAM} <command> --help", "", *lines])


def _summary(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


def _fail(message: str, *, status: int) -> int:
    """Print the message as one line, whatever signs the names and values have that it repeats."""
    text = "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in message)
    print(f"error: {text if len(text) <= _LONGEST else f'{text[:_LONGEST]}…'}", file=sys.stderr)
    return status


def _program() -> int:
    """Run a command for a terminal that may not know all letters, or a reader such as ``head`` that leaves early."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to say is said to nobody
        return 128 + signal.SIGPIPE
    return status


if __name__ == "__main__":
    sys.exit(_program())
