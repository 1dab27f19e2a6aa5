"""Where the files of a case lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from common.errors import UserError
from common.reporting.case_sources import find_sources
from common.reporting.run_folder import Run


def touch(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), path)
    return str(path)


def run(name: str, predictions: Path | None, **meta: Any) -> Run:
    return Run(name, {"class_names": ["background", "A"], "meta": meta}, None, Path("."), predictions, None)


@pytest.fixture
def datalist(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    content = {
        "test": [
            {"image": touch(images / "p1.nii.gz"), "label": touch(tmp_path / "gt" / "p1.nii.gz"), "case": "p1"},
            {"image": touch(images / "p2.nii.gz"), "label": touch(tmp_path / "gt" / "p2.nii.gz")},
        ],
        "training": [
            {"image": str(images / "p2.nii.gz"), "label": ["s1.nii.gz", "s2.nii.gz"], "dense_label": "d.nii.gz"},
            {"image": "p3.nii.gz", "label": "dense.nii.gz", "supervision": "dense"},
        ],
    }
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    touch(tmp_path / "predictions" / "sub" / "p1_seg.nii.gz")
    return tmp_path / "datalist.json"


def test_images_references_and_predictions_by_case(datalist: Path) -> None:
    root = datalist.parent
    found, notes = find_sources([run("x", root / "predictions"), run("y", None)], datalist=str(datalist))
    assert list(found) == ["p1", "p2"]
    assert found["p1"].image == str(root / "images" / "p1.nii.gz")
    assert found["p1"].reference == str(root / "gt" / "p1.nii.gz")
    assert found["p1"].predictions == {"x": str(root / "predictions" / "sub" / "p1_seg.nii.gz")}
    assert found["p2"].predictions == {}
    assert notes == ["y: no folder of predictions was found; give --predictions y=FOLDER"]


def test_annotations_of_the_training_items_of_the_image_or_of_a_folder(datalist: Path) -> None:
    root = datalist.parent
    runs = [run("x", root / "predictions")]
    assert find_sources(runs, datalist=str(datalist))[0]["p1"].annotation == ()
    beside = touch(root / "images" / "p1_scribble.nii.gz")
    found, _ = find_sources(runs, datalist=str(datalist))
    assert found["p1"].annotation == (beside,)
    assert found["p2"].annotation == (str(root / "s1.nii.gz"), str(root / "s2.nii.gz"))
    drawn = touch(root / "drawn" / "p1_scribble.nii.gz")
    touch(root / "drawn" / "p2.nii.gz")
    found, _ = find_sources(runs, datalist=str(datalist), annotations=str(root / "drawn"))
    assert found["p1"].annotation == (drawn,)
    assert found["p2"].annotation == ()  # only what is called a scribble counts where something is


def test_training_items_show_their_scribbles_and_dense_masks(datalist: Path) -> None:
    root = datalist.parent
    found, _ = find_sources([run("x", root / "predictions")], datalist=str(datalist), section="training")
    assert found["p2"].annotation == (str(root / "s1.nii.gz"), str(root / "s2.nii.gz"))
    assert found["p2"].reference == str(root / "d.nii.gz")
    assert (found["p3"].annotation, found["p3"].reference) == ((), str(root / "dense.nii.gz"))


def test_the_datalist_of_the_evaluation_is_the_default(datalist: Path) -> None:
    predictions = datalist.parent / "predictions"
    recorded = run("x", predictions, datalist=str(datalist), section="test")
    assert list(find_sources([recorded])[0]) == ["p1", "p2"]
    assert list(find_sources([run("x", predictions, references=str(datalist))])[0]) == ["p1", "p2"]
    found, notes = find_sources([run("x", predictions, references="masks")])
    assert found == {}
    assert notes == ["x: its evaluation names no datalist that is here; give --datalist"]
    found, notes = find_sources([run("x", predictions, datalist=str(datalist), section="validation")])
    assert found == {}
    assert 'section "validation" is missing or empty' in notes[0]


def test_predictions_of_other_cases_are_told(datalist: Path) -> None:
    touch(datalist.parent / "others" / "q_seg.nii.gz")
    _, notes = find_sources([run("x", datalist.parent / "others")], datalist=str(datalist))
    assert len(notes) == 1
    assert "no prediction belongs to a reference" in notes[0]


def test_named_files_must_be_there(datalist: Path) -> None:
    with pytest.raises(UserError, match="no such datalist"):
        find_sources([run("x", None)], datalist=str(datalist.parent / "gone.json"))
    with pytest.raises(UserError, match=r"--annotations: .*gone is no folder"):
        find_sources([run("x", None)], datalist=str(datalist), annotations=str(datalist.parent / "gone"))
