"""Which prediction belongs to which reference: names alone, so that the files may be empty."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from common.errors import UserError
from common.metrics.case_files import find_references, listed, match_predictions


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def matched(folder: Path, references: list) -> dict[str, str]:
    found, unmatched = match_predictions(folder, references)
    assert unmatched == []
    return {case: Path(path).relative_to(folder).as_posix() for case, path in found.items()}


def datalist(folder: Path, *items: dict) -> Path:
    touch(folder, *(item[key] for item in items for key in ("image", "label")))
    (folder / "datalist.json").write_text(json.dumps({"test": items}))
    return folder / "datalist.json"


@pytest.mark.parametrize("mark", ["_gt", "_manual", ""])
@pytest.mark.parametrize("name", ["a_seg.nii.gz", "a.nii.gz", "sub/a_seg.nii", "a.nrrd", "a_seg.mha", "a.png"])
def test_names(tmp_path, mark, name):
    references = find_references(touch(tmp_path / "references", f"x/a{mark}.nii.gz"))
    assert [each.case for each in references] == ["a"]
    assert matched(touch(tmp_path / "predictions", name, ".a_seg.nii.gz", "notes.txt"), references) == {"a": name}


def test_images_and_scribbles_beside_the_references_do_not_count(tmp_path):
    names = ["a.nii.gz", "a_gt.nii.gz", "a_scribble.nii.gz", "a_4d.nii.gz"]
    references = find_references(touch(tmp_path, *(f"{n}/p{n}{name}" for n in (2, 1) for name in names)))
    assert [each.case for each in references] == ["p1a", "p2a"]


def test_subfolders_tell_files_of_one_name_apart(tmp_path):
    references = find_references(touch(tmp_path / "r", "p1/heart_gt.nii.gz", "p2/heart_gt.nii.gz", "p2/liver_gt.nii"))
    predictions = touch(tmp_path / "p", "p1/heart_seg.nii.gz", "p2/heart_seg.nii.gz", "liver_seg.nii.gz")
    assert matched(predictions, references) == {
        "p1/heart": "p1/heart_seg.nii.gz",
        "p2/heart": "p2/heart_seg.nii.gz",
        "liver": "liver_seg.nii.gz",
    }
    with pytest.raises(UserError, match="may be a prediction of p1/heart and of p2/heart"):
        match_predictions(touch(tmp_path / "flat", "heart_seg.nii.gz"), references)


def test_other_subfolders_do_not_count_where_names_are_enough(tmp_path):
    references = find_references(touch(tmp_path / "r", "p1/p1_gt.nii.gz", "p2/p2_gt.nii.gz"))
    apart = touch(tmp_path / "apart", "p1_t/p1_seg.nii.gz", "run/1/p2_seg.nii.gz")
    assert matched(apart, references) == {"p1": "p1_t/p1_seg.nii.gz", "p2": "run/1/p2_seg.nii.gz"}
    # the right subfolder comes first: p3's file of this name is not taken for p2's
    both = touch(tmp_path / "both", "p1/p1_seg.nii.gz", "p2/p2_seg.nii.gz", "p3/p2_seg.nii.gz")
    assert match_predictions(both, references)[1] == ["p3/p2"]


def test_other_subfolders_count_where_references_share_a_name(tmp_path):
    references = find_references(touch(tmp_path / "r", "p1/heart_gt.nii.gz", "p2/heart_gt.nii.gz"))
    with pytest.raises(UserError, match="no prediction belongs to a reference"):
        match_predictions(touch(tmp_path / "p", "p3/heart_seg.nii.gz"), references)


def test_datalist_items_are_known_by_case_or_image(tmp_path):
    items = [
        {"image": "p1/image.nii.gz", "label": "p1/mask.nii.gz", "case": "first", "patient": 7, "phase": "ED"},
        {"image": "p2/image.nii.gz", "label": "p2/mask.nii.gz", "case": "second"},
        {"image": "third.nii.gz", "label": "third_label.nii.gz"},
    ]
    references = find_references(datalist(tmp_path, *items))
    assert [(each.case, each.patient, each.phase) for each in references] == [
        ("first", "7", "ED"),
        ("second", None, None),
        ("third", None, None),
    ]
    assert references[0].path == str(tmp_path / "p1" / "mask.nii.gz")
    predictions = touch(tmp_path / "out", "first_seg.nii.gz", "p2/image_seg.nii.gz", "third.nii.gz")
    assert matched(predictions, references) == {
        "first": "first_seg.nii.gz",
        "second": "p2/image_seg.nii.gz",
        "third": "third.nii.gz",
    }


def test_letters_with_accents_in_either_form(tmp_path):
    name = "M\u00fcller 1"
    references = find_references(touch(tmp_path / "r", f"{unicodedata.normalize('NFD', name)}_gt.nii.gz"))
    assert matched(touch(tmp_path / "p", f"{name}_seg.nii.gz"), references) == {
        unicodedata.normalize("NFC", name): f"{name}_seg.nii.gz"
    }


def test_files_without_a_counterpart(tmp_path):
    references = find_references(touch(tmp_path / "r", "a_gt.nii.gz", "b_gt.nii.gz"))
    found, unmatched = match_predictions(touch(tmp_path / "p", "b_seg.nii.gz", "c_seg.nii.gz"), references)
    assert (list(found), unmatched) == (["b"], ["c"])
    with pytest.raises(UserError, match="no prediction belongs to a reference; predictions are d, references a, b"):
        match_predictions(touch(tmp_path / "q", "d_seg.nii.gz"), references)


def test_two_files_of_one_case(tmp_path):
    references = find_references(touch(tmp_path / "r", "a_gt.nii.gz"))
    for number, names in enumerate((["a.nii.gz", "a_seg.nii.gz"], ["a.nii", "a.nii.gz"], ["1/a.nii", "2/a.nii"])):
        with pytest.raises(UserError, match=r"both .*of the case a; keep one of them"):
            match_predictions(touch(tmp_path / str(number), *names), references)
    with pytest.raises(UserError, match=r"a_gt\.nii\.gz and .*a_manual\.nii\.gz are both of the case a"):
        find_references(touch(tmp_path / "r", "a_manual.nii.gz"))
    item = {"image": "a.nii.gz", "label": "a_gt.nii.gz", "case": "a"}
    with pytest.raises(UserError, match="are both of the case a"):
        find_references(datalist(tmp_path / "list", item, {**item, "label": "b_gt.nii.gz"}))


def test_mistakes(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="neither a folder nor a datalist"):
        find_references(tmp_path / "missing")
    with pytest.raises(UserError, match="empty: no image found"):
        find_references(tmp_path / "empty")
    with pytest.raises(UserError, match="is a folder"):
        find_references(tmp_path / "empty", "test")
    with pytest.raises(UserError, match="no such folder"):
        match_predictions(tmp_path / "missing", [])
    with pytest.raises(UserError, match='section "validation" is missing'):
        find_references(datalist(tmp_path, {"image": "a.nii", "label": "b.nii"}), "validation")


def test_long_lists_are_cut():
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcd"), 2) == "a, b and 2 more"
