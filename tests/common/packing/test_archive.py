"""Zip files that are the same everywhere, and unpacking that stays where it is told."""

from __future__ import annotations

import hashlib
import stat
import zipfile

import pytest

from common.errors import UserError
from common.packing.archive import checksum, unpack, write_archive

FILES = {"b/z.txt": b"last", "b/a/x.bin": bytes(range(256)), "b/m.json": b"{}"}


def test_the_same_files_give_the_same_bytes_whatever_their_order(tmp_path):
    first = write_archive(tmp_path / "one" / "b.zip", FILES)
    second = write_archive(tmp_path / "two" / "b.zip", dict(reversed(FILES.items())))
    assert (tmp_path / "one" / "b.zip").read_bytes() == (tmp_path / "two" / "b.zip").read_bytes()
    assert first == second == hashlib.sha256((tmp_path / "one" / "b.zip").read_bytes()).hexdigest()
    assert (tmp_path / "one" / "b.zip.sha256").read_text() == f"{first}  b.zip\n"
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["b.zip", "b.zip.sha256"]


def test_entries_are_sorted_with_one_date_and_mode(tmp_path):
    write_archive(tmp_path / "b.zip", FILES)
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        assert archive.namelist() == ["b/a/x.bin", "b/m.json", "b/z.txt"]
        for entry in archive.infolist():
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
            assert entry.external_attr >> 16 == 0o100644
            assert (entry.create_system, entry.compress_type) == (3, zipfile.ZIP_STORED)


def test_what_is_written_is_unpacked(tmp_path):
    write_archive(tmp_path / "b.zip", FILES)
    assert unpack(tmp_path / "b.zip", tmp_path) == tmp_path / "b"
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == FILES
    with pytest.raises(UserError, match="is there already"):
        unpack(tmp_path / "b.zip", tmp_path)


def foreign(path, *names, mode=0o100644, content="content"):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, mode << 16
            archive.writestr(entry, content)
    return path


@pytest.mark.parametrize(
    "name", ["../out.txt", "b/../../out.txt", "/tmp/out.txt", "b/..\\..\\out.txt", "C:/out.txt", "b/c:d", "\\\\host\\x"]
)
def test_paths_that_lead_elsewhere_are_refused_before_anything_is_written(tmp_path, name):
    path = foreign(tmp_path / "bad.zip", "b/good.txt", name)
    (tmp_path / "into").mkdir()
    with pytest.raises(UserError, match="leads out of its folder"):
        unpack(path, tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path, kind):
    path = foreign(tmp_path / "bad.zip", "b/link", mode=kind | 0o777, content="/etc/passwd")
    with pytest.raises(UserError, match="a link or no plain file"):
        unpack(path, tmp_path)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/x", "b/x"], "holds 2 folders"),
        (["x"], "outside of a folder"),
        (["b/x", "b//x"], "twice"),
        ([], "0 folders"),
    ],
)
def test_other_layouts_are_refused(tmp_path, names, message):
    with pytest.raises(UserError, match=message):
        unpack(foreign(tmp_path / "bad.zip", *names), tmp_path)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_damaged_files_of_others_are_refused_in_one_line(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "b.zip", "w", method) as archive:
        archive.writestr("b/x.bin", bytes(range(256)) * 40)
    content = (tmp_path / "b.zip").read_bytes()
    start = 30 + len("b/x.bin") + (9 if method == zipfile.ZIP_LZMA else 0)  # the local header; LZMA's own
    (tmp_path / "b.zip").write_bytes(content[:start] + b"\xff" * 20 + content[start + 20 :])
    with pytest.raises(UserError, match="is no zip file that can be read"):
        unpack(tmp_path / "b.zip", tmp_path)


def test_damaged_files_are_refused_in_one_line(tmp_path):
    (tmp_path / "no.zip").write_bytes(b"no zip at all")
    with pytest.raises(UserError, match="is no zip file that can be read"):
        unpack(tmp_path / "no.zip", tmp_path)
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack(tmp_path / "absent.zip", tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        checksum(tmp_path / "absent.zip")
    write_archive(tmp_path / "b.zip", FILES)
    content = bytearray((tmp_path / "b.zip").read_bytes())
    content[content.index(b"last")] ^= 1  # the checksum of the entry no longer fits
    (tmp_path / "b.zip").write_bytes(content)
    with pytest.raises(UserError, match="is no zip file that can be read"):
        unpack(tmp_path / "b.zip", tmp_path)
