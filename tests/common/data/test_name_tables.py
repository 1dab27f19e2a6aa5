"""Tables of names: of ITK-SNAP, of 3D Slicer, in JSON and on the command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.data.name_tables import parse_names, read_name_table, table_beside
from common.errors import UserError
from common.transforms.named_segments import Segment

ITK_SNAP = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
################################################
    0     0    0    0        0  0  0    "Clear Label"
    3   255    0    0        1  1  1    "RV"
    1     0  255    0     0.55  1  1    "left ventricle 2"
"""

SLICER = """\
# Color table file /tmp/p1_ColorTable.ctbl
# 3 values
0 Background 0 0 0 0
3 RV 216 101 79 255
1 left_ventricle_2 241 214 145 255
"""

EXPECTED = {"RV": 3, "left_ventricle_2": 1}


def as_names(segments: list[Segment]) -> dict[str, int]:
    assert all(segment.layer == 0 for segment in segments)
    return {segment.name.replace(" ", "_"): segment.value for segment in segments if segment.value}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", ITK_SNAP),
        ("a.txt", ITK_SNAP.replace("\n", "\r\n")),
        ("a.label", ITK_SNAP),
        ("a.ctbl", SLICER),
        ("a.txt", SLICER),
        ("A.CTBL", "\ufeff" + SLICER),
        ("a.ctbl", SLICER.replace("_ventricle_", " ventricle ")),
        ("a.csv", "LabelValue,Name,Color_R,Color_G,Color_B\n3,RV,1,2,3\n1,left ventricle 2,4,5,6\n"),
        ("a.json", '{"RV": 3, "left_ventricle_2": 1}'),
        ("a.json", '{"3": "RV", "1": "left_ventricle_2"}'),
        ("a.json", '{"name": "own", "labels": {"background": 0, "RV": 3, "left_ventricle_2": 1}}'),
    ],
)
def test_tables(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode())
    assert as_names(read_name_table(path)) == EXPECTED
    assert parse_names(str(path)) == read_name_table(path)


def test_the_order_and_the_entry_of_0_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(ITK_SNAP)
    found = [("Clear Label", 0), ("RV", 3), ("left ventricle 2", 1)]
    assert [(segment.name, segment.value) for segment in read_name_table(path)] == found


def test_names_that_are_there_twice_are_not_swallowed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"RV": 3, "RV": 1}')
    assert read_name_table(path) == [Segment("RV", 3), Segment("RV", 1)]


def test_names_in_an_option() -> None:
    assert parse_names("RV=3, left ventricle = 1,a=b=2") == [
        Segment("RV", 3),
        Segment("left ventricle", 1),
        Segment("a=b", 2),
    ]


@pytest.mark.parametrize("text", ["", "RV", "RV=", "=3", "RV=3,", "RV=-1", "RV=1.5", "RV:3", "RV=" + 5000 * "9"])
def test_options_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UserError, match=f"^--names {re.escape(repr(text))}: write the value of each name such as"):
        parse_names(text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", ""),
        ("a.txt", "# Color procedural file\n0 0 0 0\n63 0 0.5 0.7\n"),
        ("a.txt", "RV 3\n"),
        ("a.txt", ITK_SNAP + "x\n"),
        ("a.csv", ""),
        ("a.csv", "Value,Label\n3,RV\n"),
        ("a.csv", "LabelValue,Name\n3.5,RV\n"),
        ("a.csv", "Name,LabelValue\nRV\n"),
        ("a.json", "{"),
        ("a.json", "{}"),
        ("a.json", "[1, 2]"),
        ("a.json", '{"RV": 3.0}'),
        ("a.json", '{"RV": true}'),
        ("a.json", '{"RV": null}'),
        ("a.json", '{"RV": [3]}'),
        ("a.json", '{"x": "RV"}'),
        ("a.json", '{"labels": 5}'),
        ("a.json", "[" * 100_000),
        ("a.json", '"RV"'),
        ("a.json", '[[["RV"], 3]]'),
    ],
)
def test_files_that_are_no_tables(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: is no table of names; give a label description"):
        read_name_table(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(UserError, match=r"a\.txt: no such file; correct the path of the table of names$"):
        parse_names(str(path))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"a\.txt: cannot be read as a table of names; save it as UTF-8 text$"):
        read_name_table(path)
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(UserError, match=r"b\.txt: cannot be read as a table of names"):
        read_name_table(tmp_path / "b.txt")
    for name, text in (("a.txt", '3 0 0 0 1 1 1 " "\n'), ("a.csv", "LabelValue,Name\n3\n"), ("a.json", '{"": 1}')):
        path.with_name(name).write_text(text)
        with pytest.raises(
            UserError, match=f"{name}: a value has an empty name; give each a name, or remove its line$"
        ):
            read_name_table(path.with_name(name))


def test_the_table_beside_a_label(tmp_path: Path) -> None:
    label = tmp_path / "p1_seg.nii.gz"
    assert table_beside(label) is None
    for name in ("p1_seg_ColorTable.ctbl", "p1_seg.txt"):
        (tmp_path / name).touch()
        assert table_beside(label) == tmp_path / name
    assert table_beside(tmp_path / "p2_seg.nii.gz") is None
