"""An error of the user's is told once, and others with their trace."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import pytest
from ignite.engine import Engine
from monai.handlers import StatsHandler

from common.error_lines import one_line, tell_once
from common.errors import UserError


def raised(*errors: Exception) -> Exception:
    """The last error, each caused by the one before."""
    caught: Exception | None = None
    for error in errors:
        try:
            raise error from caught
        except Exception as passing:
            caught = passing
    assert caught is not None
    return caught


def test_user_errors_print_one_line_and_others_their_trace(capsys: pytest.CaptureFixture[str]) -> None:
    error = raised(UserError("file.nii: broken; mend it"), RuntimeError("Failed to evaluate"))
    one_line(type(error), error, error.__traceback__)
    assert capsys.readouterr().err == "error: file.nii: broken; mend it\n"
    error = raised(KeyError("inner"))
    one_line(type(error), error, error.__traceback__)
    assert "Traceback" in capsys.readouterr().err
    one_line(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == "interrupted\n"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[[Exception], None]:
    """A training whose step raises an error, as a bundle's would."""
    monkeypatch.setattr(logging, "_loggerClass", logging.getLoggerClass())
    tell_once()
    tell_once()

    class Trainer(Engine):
        """Its logger is of this name, and made anew for each test."""

    Trainer.__name__ = f"Trainer of {request.node.name}"

    def trained(error: Exception) -> None:
        def step(*_: object) -> None:
            raise error

        trainer = Trainer(step)
        trainer.logger.addHandler(logging.StreamHandler(sys.stdout))
        StatsHandler(name=f"log of {request.node.name}", iteration_log=False).attach(trainer)
        with pytest.raises(type(error)):
            trainer.run([0], max_epochs=1)
        trainer.logger.error("and something else")

    return trained


def test_the_log_leaves_errors_of_the_user_to_that_line(run, capsys: pytest.CaptureFixture[str]) -> None:
    run(UserError("file.nii: broken; mend it"))
    assert capsys.readouterr().out == "and something else\n"


def test_the_log_tells_of_errors_that_a_user_error_caused(run, capsys: pytest.CaptureFixture[str]) -> None:
    run(raised(UserError("file.nii: broken; mend it"), RuntimeError("in a transform")))
    assert capsys.readouterr().out == "and something else\n"


def test_the_log_has_the_trace_of_all_others(run, capsys: pytest.CaptureFixture[str]) -> None:
    run(KeyError("inner"))
    out = capsys.readouterr().out
    assert "Traceback" in out
    assert out.count("inner") > 1
