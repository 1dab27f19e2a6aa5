"""The codes of segments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom.sr._concepts_dict import concepts

from common.data import segment_codes as module
from common.data.segment_codes import Code, SegmentCode, code_segments, read_segment_codes
from common.errors import UserError


def test_every_code_of_the_table_has_the_meaning_that_the_dicom_standard_gives_it() -> None:
    meanings: dict[str, set[str]] = {}
    for entries in concepts["SCT"].values():
        for value, (meaning, _) in entries.items():
            meanings.setdefault(value, set()).add(meaning)
    table = json.loads(Path(module.__file__).with_name("segment_codes.json").read_text())
    codes = [code for entry in table.values() for code in entry.values() if code is not entry.get("aliases")]
    codes += [module._ANATOMY, module._TISSUE]
    for value, scheme, meaning in codes:
        assert scheme == "SCT"
        assert meaning in meanings[value]


def test_known_names_are_found_however_they_are_written_and_others_are_tissue() -> None:
    names = ["background", "RV", "Myo", "left_ventricle", "Kidney-Left", "widget"]
    anatomy = Code("91723000", "SCT", "Anatomical Structure")
    tissue = Code("85756007", "SCT", "Tissue")
    assert code_segments(names, read_segment_codes()) == [
        SegmentCode("RV", anatomy, Code("53085002", "SCT", "Right ventricle")),
        SegmentCode("Myo", anatomy, Code("49848007", "SCT", "Left Ventricle Myocardium")),
        SegmentCode("left_ventricle", anatomy, Code("87878005", "SCT", "Left ventricle")),
        SegmentCode("Kidney-Left", anatomy, Code("64033007", "SCT", "Kidney"), Code("7771000", "SCT", "Left")),
        SegmentCode("widget", tissue, tissue),
    ]


def test_a_table_of_ones_own_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "codes.json"
    own = {"widget": {"type": ["W1", "99OWN", "Widget"], "aliases": ["gadget"], "category": ["C1", "99OWN", "Thing"]}}
    path.write_text(json.dumps(own | {"LV": {"type": ["X", "99OWN", "My ventricle"]}}))
    [gadget, ventricle, liver] = code_segments(["bg", "Gadget", "lv", "liver"], read_segment_codes(path))
    assert gadget[1:3] == (("C1", "99OWN", "Thing"), ("W1", "99OWN", "Widget"))
    assert ventricle.type == ("X", "99OWN", "My ventricle")
    assert liver.type.value == "10200004"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"is no JSON"),
        ([], r"is no table of segment codes"),
        ({"a": {}}, r"'a': must be an object with \"type\""),
        ({"a": {"type": ["1", "S", "M"], "typo": 1}}, r"'a': must be an object with \"type\""),
        ({"a": {"type": ["1", "S"]}}, r"'a': type: must be \[value, scheme, meaning\]"),
        ({"a": {"type": ["1", "S", ""]}}, r"'a': type: must be \[value, scheme, meaning\]"),
        ({"a": {"type": ["1", "S", 3]}}, r"'a': type: must be \[value, scheme, meaning\]"),
        ({"a": {"type": ["1" * 17, "S", "M"]}}, r"its value '1{17}' is longer than the 16 characters"),
        ({"a": {"type": ["1", "S", "M"], "aliases": "b"}}, r"'a': aliases must be a list of names"),
        ({"a": {"type": ["1", "S", "M"]}, "A": {"type": ["2", "S", "M"]}}, r"'A' is named twice"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "codes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=rf"^{path}: .*{message}|^{path}: {message}"):
        read_segment_codes(path)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"codes\.json: cannot be read \(No such file or directory\)"):
        read_segment_codes(tmp_path / "codes.json")
