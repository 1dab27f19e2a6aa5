"""``python -m tools``: finding a command, its options and its exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import types
import warnings
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from tools import __main__ as program

REPO_ROOT = Path(__file__).resolve().parents[2]
CALLS: list[tuple[Any, ...]] = []


def toy(word: str, *, size: int = 1, name: str | None = None, check: bool = False, required: str) -> None:
    """Note what came in.

    Args:
        word: a word.
    """
    CALLS.append((word, size, name, check, required))
    if word == "mistake":
        raise UserError("toy.json: bad key; mend it")
    if word == "interrupt":
        raise KeyboardInterrupt
    if word == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    if word == "warn":
        warnings.warn("a library is not pleased", stacklevel=2)
    if word == "signs":
        raise UserError("a\nb\x1b[31m\ud800" + 2000 * "c")


@pytest.fixture(autouse=True)
def toy_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of commands that holds ``toy`` alone."""
    CALLS.clear()
    module = types.ModuleType("tools.toy")
    module.main = toy  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tools.toy", module)
    (tmp_path / "toy.py").write_text('"""Note things.\n\nAt length."""\n')
    (tmp_path / "__main__.py").touch()
    monkeypatch.setattr(program, "__file__", str(tmp_path / "__main__.py"))


def test_options_arrive_with_their_types() -> None:
    options = ["a", "--size", "3", "--name", "007", "--check", "true", "--required=1e3"]
    assert program.main(["toy", *options]) == 0
    assert program.main(["toy", "5", "--check", "--required", "x,y"]) == 0
    assert program.main(["toy", "a", "--check=False", "--required", "1"]) == 0
    assert CALLS == [("a", 3, "007", True, "1e3"), ("5", 1, None, True, "x,y"), ("a", 1, None, False, "1")]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["a", "--required", "x", "--sizes", "3"], "unknown option --sizes; see python -m tools toy --help"),
        (["a", "--requird", "x"], "unknown option --requird; see python -m tools toy --help"),
        (["a", "b", "--required", "x"], "Could not consume arg: b; see python -m tools toy --help"),
        (["a"], "missing --required; see python -m tools toy --help"),
    ],
)
def test_faulty_options_end_with_2_before_the_command_runs(
    options: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["toy", *options]) == 2
    assert capsys.readouterr() == ("", f"error: {line}\n")
    assert CALLS == []


def test_a_value_that_is_no_boolean(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["toy", "a", "--required", "x", "--check", "maybe"]) == 1
    assert capsys.readouterr().err == "error: --check is 'maybe'; write true or false\n"
    assert CALLS == []


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["tyo"]) == 2
    assert capsys.readouterr() == ("", 'error: unknown command "tyo"; the commands are toy\n')


def test_user_errors_end_with_1_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["toy", "mistake", "--required", "x"]) == 1
    assert capsys.readouterr() == ("", "error: toy.json: bad key; mend it\n")


def test_interrupts_end_with_130() -> None:
    assert program.main(["toy", "interrupt", "--required", "x"]) == 130


def test_a_request_to_end_tidies_up_and_ends_with_143(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert program.main(["toy", "terminate", "--required", "x"]) == 143
    assert capsys.readouterr() == ("", "error: terminated\n")
    assert signal.getsignal(signal.SIGTERM) is before


def test_commands_run_in_any_thread() -> None:
    status: list[int] = []
    thread = threading.Thread(target=lambda: status.append(program.main(["toy", "a", "--required", "x"])))
    thread.start()
    thread.join()
    assert status == [0]


def test_warnings_of_libraries_are_for_programmers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "warnoptions", [])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert program.main(["toy", "warn", "--required", "x"]) == 0
        assert caught == []
        monkeypatch.setattr(sys, "warnoptions", ["default"])
        assert program.main(["toy", "warn", "--required", "x"]) == 0
        assert [str(each.message) for each in caught] == ["a library is not pleased"]


def test_a_message_is_one_line_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["toy", "signs", "--required", "x"]) == 1
    err = capsys.readouterr().err
    start = "error: a\\u000ab\\u001b[31m\\ud800"
    assert err == start + "c" * (len("error: ") + 1500 - len(start)) + "…\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_overview(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(arguments) == 0
    expected = "usage: python -m tools <command> [options]; python -m tools <command> --help\n\n  toy  Note things.\n"
    assert capsys.readouterr().out == expected


def test_help_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["toy", "--help"]) == 0
    out = capsys.readouterr().out
    assert "python -m tools toy" in out
    assert "--required=REQUIRED (required)" in out
    assert CALLS == []


def test_a_reader_that_leaves_early_and_a_terminal_without_umlauts(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "tools"]
    leaves = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=REPO_ROOT
    )
    assert leaves.stdout is not None
    leaves.stdout.close()
    assert leaves.communicate()[1] == ""
    assert leaves.returncode == 141
    missing = tmp_path / "ü.json"
    done = subprocess.run(
        [*command, "check", str(missing)], capture_output=True, text=True, check=False, env=environment, cwd=REPO_ROOT
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == f"error: {tmp_path}/\\xfc.json: no such datalist; correct the path or prepare the data first\n"
    )


def test_the_overview_lists_the_real_commands_without_importing_them() -> None:
    code = "import sys; from tools.__main__ import main; main(['--help']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "\n  prepare " in done.stdout
    assert done.stdout.endswith("False\n")


def test_scoring_without_post_processing_waits_for_neither_torch_nor_monai() -> None:
    code = "import sys; import tools.evaluate; print({'torch', 'monai'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
