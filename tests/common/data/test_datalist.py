"""Datalists: reading, companions, shares and writing."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from common.data import datalist as module
from common.data.datalist import classes_of, datalist_info, load_datalist, write_datalist
from common.errors import UserError

HEAD = {"name": "toy", "num_classes": 3, "class_names": ["background", "a", "b"]}


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Two training patients, one mask, files that exist, paths relative to the datalist."""
    for name in ("a.nii.gz", "a_s.nii.gz", "b.nii.gz", "b_s.nii.gz", "m.nii.gz"):
        (tmp_path / name).touch()
    sections = {
        "training": [
            {"image": "a.nii.gz", "label": "a_s.nii.gz", "case": "a", "patient": "pa", "phase": "ED"},
            {"image": str(tmp_path / "b.nii.gz"), "label": "b_s.nii.gz", "case": "b", "patient": "pb"},
        ],
        "unpaired_masks": [{"label": "m.nii.gz", "case": "m", "patient": "pm"}],
        "validation": [],
    }
    path = tmp_path / "list.json"
    path.write_text(json.dumps(HEAD | sections))
    return path


def put(path: Path, **content: Any) -> Path:
    path.write_text(json.dumps(HEAD | content))
    return path


@pytest.fixture
def absent_phantom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A default phantom that does not exist and is made by a stand-in."""
    folder = tmp_path / "phantom"

    def ensure(dataset_dir: Path) -> None:
        dataset_dir.mkdir()
        (dataset_dir / "p.nii.gz").touch()
        items = [{"image": "p.nii.gz", "label": "p.nii.gz", "case": "p", "patient": "p"}]
        put(dataset_dir / "datalist.json", training=items, unpaired_masks=[{"label": "p.nii.gz"}])

    monkeypatch.setattr(module, "default_phantom_dir", lambda: folder)
    monkeypatch.setattr(module, "ensure_phantom", ensure)
    return folder / "datalist.json"


def test_items_come_with_absolute_paths_and_all_their_keys(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(toy.parent)
    folder = toy.parent
    for path in (toy, "list.json"):
        assert load_datalist(path, "training") == [
            {
                "image": f"{folder}/a.nii.gz",
                "label": f"{folder}/a_s.nii.gz",
                "case": "a",
                "patient": "pa",
                "phase": "ED",
            },
            {"image": f"{folder}/b.nii.gz", "label": f"{folder}/b_s.nii.gz", "case": "b", "patient": "pb"},
        ]


def error_of(path: Path, section: str = "training") -> str:
    with pytest.raises(UserError) as caught:
        load_datalist(path, section)
    return str(caught.value)


def test_missing_datalist(tmp_path: Path) -> None:
    path = tmp_path / "no.json"
    assert error_of(path) == f"{path}: no such datalist; correct the path or prepare the data first"


def test_a_folder_is_no_datalist(tmp_path: Path) -> None:
    assert error_of(tmp_path) == f"{tmp_path}: cannot be read as a JSON file; name a datalist"


def test_invalid_json_names_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text('{\n  "training": [\n    {"image" 1}\n]}')  # the colon is missing in column 14 of line 3
    expected = f"{path}: invalid JSON at line 3, column 14: Expecting ':' delimiter; correct the file"
    assert error_of(path) == expected


def test_json_of_another_shape(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text("[]")
    assert error_of(path) == f'{path}: holds no JSON object; a datalist looks like {{"training": [...], ...}}'
    put(path, training={"image": "a"})
    assert error_of(path) == f'{path}: section "training" must be a list of objects such as {{"image": "..."}}'


@pytest.mark.parametrize("section", ["validation", "test"])
def test_empty_and_absent_sections(toy: Path, section: str) -> None:
    assert load_datalist(toy, section, required=False) == []
    expected = f'{toy}: section "{section}" is missing or empty; list at least one item there'
    assert error_of(toy, section) == expected


@pytest.mark.parametrize(
    ("section", "item", "key"),
    [
        ("training", {"image": "a.nii.gz"}, "label"),
        ("validation", {"label": "a.nii.gz"}, "image"),
        ("unpaired_masks", {"image": "a.nii.gz"}, "label"),
        ("unlabelled", {"label": "a.nii.gz"}, "image"),
    ],
)
def test_items_need_the_keys_of_their_section(toy: Path, section: str, item: dict[str, str], key: str) -> None:
    good = {"image": "a.nii.gz", "label": "a_s.nii.gz"}
    put(toy, **{section: [good, item]})
    assert error_of(toy, section) == f'{toy}: item 2 of "{section}" has no "{key}"; add the path of its file'


def test_paths_are_strings(toy: Path) -> None:
    put(toy, unlabelled=[{"image": ["a.nii.gz"]}])
    expected = f'{toy}: "image" of item 1 of "unlabelled" is [\'a.nii.gz\']; give a path'
    assert error_of(toy, "unlabelled") == expected


def test_missing_files_are_counted_and_the_first_is_named(toy: Path) -> None:
    (toy.parent / "a_s.nii.gz").unlink()
    (toy.parent / "b.nii.gz").unlink()
    assert error_of(toy) == (
        f'{toy}: 2 of 4 files listed under "training" do not exist, first {toy.parent}/a_s.nii.gz; '
        "correct the paths or prepare the data again"
    )


def test_the_default_phantom_is_made_when_it_is_asked_for(absent_phantom: Path) -> None:
    assert [item["case"] for item in load_datalist(absent_phantom, "training")] == ["p"]
    assert absent_phantom.is_file()


def test_no_phantom_is_made_in_other_folders(absent_phantom: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such datalist"):
        load_datalist(tmp_path / "other" / "datalist.json", "training")
    assert not absent_phantom.exists()


def test_an_image_may_have_labels_of_several_annotators(toy: Path) -> None:
    item = {"image": "a.nii.gz", "label": ["a_s.nii.gz", "b_s.nii.gz"], "dense_label": "m.nii.gz"}
    put(toy, training=[item])
    folder = toy.parent
    expected = {
        "image": f"{folder}/a.nii.gz",
        "label": [f"{folder}/a_s.nii.gz", f"{folder}/b_s.nii.gz"],
        "dense_label": f"{folder}/m.nii.gz",
    }
    assert load_datalist(toy, "training") == [expected]
    write_datalist(folder / "again.json", {"training": [expected]})
    assert json.loads((folder / "again.json").read_text())["training"] == [item]
    put(toy, training=[item | {"label": []}])
    assert error_of(toy) == f'{toy}: "label" of item 1 of "training" is []; give a path'
    (folder / "b_s.nii.gz").unlink()
    put(toy, training=[item])
    assert error_of(toy).startswith(f'{toy}: 1 of 4 files listed under "training" do not exist')


def test_a_training_image_may_have_a_negative_drawing_alone(toy: Path) -> None:
    item = {"image": "a.nii.gz", "complement": "a_s.nii.gz"}
    put(toy, training=[item, item | {"label": "b_s.nii.gz"}], validation=[item])
    folder = toy.parent
    expected = [{"image": f"{folder}/a.nii.gz", "complement": f"{folder}/a_s.nii.gz"}]
    expected.append(expected[0] | {"label": f"{folder}/b_s.nii.gz"})
    assert load_datalist(toy, "training") == expected
    assert error_of(toy, "validation") == f'{toy}: item 1 of "validation" has no "label"; add the path of its file'
    write_datalist(folder / "again.json", {"training": expected})
    assert json.loads((folder / "again.json").read_text())["training"] == [item, item | {"label": "b_s.nii.gz"}]
    (folder / "a_s.nii.gz").unlink()
    assert error_of(toy).startswith(f'{toy}: 1 of 3 files listed under "training" do not exist')
    put(toy, training=[item | {"complement": ["a_s.nii.gz"]}])
    assert error_of(toy) == f'{toy}: "complement" of item 1 of "training" is [\'a_s.nii.gz\']; give a path'


def test_info(toy: Path) -> None:
    assert datalist_info(toy) == HEAD


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": None}, 'has no "num_classes"; add it at the top level'),
        ({"num_classes": "3"}, "\"num_classes\" is '3'; give the number of classes with background"),
        ({"num_classes": 1}, '"num_classes" is 1; give the number of classes with background'),
        ({"num_classes": 4}, '"class_names" must list 4 names ("num_classes"), background first'),
        ({"class_names": ["a", None, "b"]}, '"class_names" must list 3 names ("num_classes"), background first'),
        ({"class_names": ["a", " ", "b"]}, '"class_names" must list 3 names ("num_classes"), background first'),
    ],
)
def test_info_that_contradicts_itself(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = put(tmp_path / "list.json", **change)
    with pytest.raises(UserError, match=f"^{re.escape(f'{path}: {message}')}$"):
        datalist_info(path)


@pytest.mark.parametrize("value", ["", "a\nb", "a\0", "\ud800", ["a"], True, 0.5])
@pytest.mark.parametrize("key", ["case", "patient", "phase"])
def test_names_that_are_none(toy: Path, key: str, value: Any) -> None:
    put(toy, training=[{"image": "a.nii.gz", "label": "a_s.nii.gz", key: value}])
    assert error_of(toy) == f'{toy}: "{key}" of item 1 of "training" is {value!r}; give a name'


def test_names_of_all_sorts(toy: Path) -> None:
    item = {"image": "a.nii.gz", "label": "a_s.nii.gz", "case": "Ärztin 日本 🫀", "patient": 17, "phase": None}
    put(toy, training=[item])
    [found] = load_datalist(toy, "training")
    assert {key: found[key] for key in ("case", "patient", "phase")} == {
        key: item[key] for key in ("case", "patient", "phase")
    }


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' + 5000 * "9" + "}"])
def test_json_that_python_does_not_take(toy: Path, text: str) -> None:
    toy.write_text(text)
    assert error_of(toy) == f"{toy}: cannot be read as a JSON file; name a datalist"


def test_a_path_of_two_lines(toy: Path) -> None:
    put(toy, training=[{"image": "a\nb.nii.gz", "label": "a_s.nii.gz"}])
    assert error_of(toy) == f'{toy}: "image" of item 1 of "training" is \'a\\nb.nii.gz\'; give a path'


def test_writing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "datalist.json"
    training = [
        {"image": str(tmp_path / "new" / "p" / "a.nii.gz"), "label": str(tmp_path / "s.nii.gz"), "case": "ä"},
        {"image": "p/b.nii.gz", "label": "../s.nii.gz"},
    ]
    write_datalist(path, {"name": "toy", "class_names": ["background", "x"], "training": training, "test": []})
    assert path.read_text(encoding="utf-8") == (
        "{\n"
        '  "name": "toy",\n'
        '  "class_names": ["background", "x"],\n'
        '  "training": [\n'
        f'    {{"image": "p/a.nii.gz", "label": "{tmp_path}/s.nii.gz", "case": "ä"}},\n'
        f'    {{"image": "p/b.nii.gz", "label": "{tmp_path}/s.nii.gz"}}\n'
        "  ],\n"
        '  "test": []\n'
        "}\n"
    )
    assert os.listdir(path.parent) == ["datalist.json"]


def test_a_failed_write_leaves_the_old_datalist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "datalist.json")
    before = path.read_text()

    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    expected = f"{path}: cannot be written (No space left on device); choose another folder"
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
        write_datalist(path, {"training": []})
    assert path.read_text() == before
    assert os.listdir(tmp_path) == ["datalist.json"]


def test_the_number_of_classes_is_the_datalists(toy: Path, absent_phantom: Path) -> None:
    assert classes_of(toy, default=7) == 3
    assert classes_of(absent_phantom, default=7) == 7
    assert not absent_phantom.exists()
    with pytest.raises(UserError, match='"num_classes" is 1; give the number of classes with background'):
        classes_of(put(toy, num_classes=1), default=7)
