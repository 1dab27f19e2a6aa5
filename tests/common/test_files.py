from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import UserError
from common.files import (
    atomic_file,
    claim_folder,
    read_text,
    remove_leftovers,
    remove_leftovers_below,
    writable_folder,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def half_write(path: Path, failure: BaseException) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text("half")
        raise failure


def test_the_file_appears_whole_under_its_name(tmp_path):
    with atomic_file(tmp_path / "new" / "scan.nii.gz") as temporary:
        temporary.write_text("content")
        assert temporary.name.endswith(".scan.nii.gz")
        assert not (tmp_path / "new" / "scan.nii.gz").exists()
    assert (tmp_path / "new" / "scan.nii.gz").read_text() == "content"
    assert names(tmp_path / "new") == ["scan.nii.gz"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError, MemoryError])
def test_a_crash_leaves_the_old_file_and_no_rubbish(tmp_path, failure):
    (tmp_path / "model.pt").write_text("old")
    with pytest.raises(failure):
        half_write(tmp_path / "model.pt", failure())
    assert (tmp_path / "model.pt").read_text() == "old"
    assert names(tmp_path) == ["model.pt"]


def test_a_full_disk_is_one_line(tmp_path):
    message = r"model\.pt: cannot be written \(No space left on device\); choose another folder"
    with pytest.raises(UserError, match=message):
        half_write(tmp_path / "model.pt", OSError(errno.ENOSPC, "No space left on device"))
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"file/run/model\.pt: cannot be written"):
        half_write(tmp_path / "file" / "run" / "model.pt", ValueError())


def test_writable_folder(tmp_path):
    assert writable_folder(tmp_path / "a" / "b") == str(tmp_path / "a" / "b")
    assert names(tmp_path / "a" / "b") == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"file: cannot write there \(File exists\); choose another output_dir"):
        writable_folder(tmp_path / "file")
    with pytest.raises(UserError, match=r"cannot write there \(Not a directory\)"):
        writable_folder(tmp_path / "file" / "below")


def test_leftovers_are_removed_and_other_hidden_files_are_not(tmp_path):
    kept = [".0123456789ab", ".hidden.txt", ".0123456789aX.a.txt", "a.txt", "0123456789ab.a.txt"]
    (tmp_path / "below").mkdir()
    for name in (*kept, ".0123456789ab.a.txt", ".0123456789ab.b.txt", "below/.fedcba987654.a.txt"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path / "a.txt")
    assert names(tmp_path) == sorted([*kept, ".0123456789ab.b.txt", "below"])
    remove_leftovers_below(tmp_path)
    assert names(tmp_path) == sorted([*kept, "below"])
    assert names(tmp_path / "below") == []
    remove_leftovers_below(tmp_path / "nowhere")


def test_what_has_no_end_is_not_read(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    assert read_text(tmp_path / "a.json") == "{}"
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "b.json")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises(OSError, match="it is no file"):
            read_text(path)
    (tmp_path / "a.json").write_bytes(b"\xff")
    with pytest.raises(UnicodeDecodeError):
        read_text(tmp_path / "a.json")


def claims(folder: Path, then: str = "") -> subprocess.Popen[str]:
    """Another process that claims a folder, says so, and does something then."""
    program = f"from common.files import claim_folder\nclaim_folder({str(folder)!r})\nprint('mine', flush=True)\n{then}"
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks no folders")
def test_a_folder_belongs_to_one_process_at_a_time(tmp_path):
    give_back = claim_folder(tmp_path)
    claim_folder(tmp_path)()  # it is this process's already, and stays so
    assert "another training writes there; wait for it" in claims(tmp_path).communicate()[1]
    assert claims(tmp_path.parent).communicate()[0] == "mine\n"
    give_back()
    give_back()
    assert claims(tmp_path).communicate()[0] == "mine\n"
    assert names(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks no folders")
def test_a_process_that_is_killed_leaves_no_claim(tmp_path):
    other = claims(tmp_path, then="input()")
    assert other.stdout is not None
    assert other.stdout.readline() == "mine\n"
    with pytest.raises(UserError, match=r": another training writes there; wait for it, or give another output_dir$"):
        claim_folder(tmp_path)
    other.send_signal(signal.SIGKILL)
    other.communicate()
    claim_folder(tmp_path)()


def test_a_file_system_without_locks_gives_the_folder_to_all(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refused(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    claim_folder(tmp_path)()
