"""Datalists whose training items get simulated annotations."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.data.annotated_datalist import annotated_datalist, masks_of_datalist
from common.data.datalist import load_datalist, write_datalist
from common.data.label_files import LabelFile
from common.data.scribble_cases import Annotation
from common.errors import UserError

HEAD = {"name": "own", "description": "x", "num_classes": 2, "class_names": ["background", "a"]}


def write(folder: Path, training: Any, **sections: Any) -> Path:
    """A datalist with empty files of the items' names."""
    path = folder / "datalist.json"
    folder.mkdir(exist_ok=True)
    path.write_text(json.dumps(HEAD | {"training": training} | sections))
    for item in training:
        for value in item.values():
            for name in value if isinstance(value, list) else [value]:
                if str(name).endswith(".nii.gz"):
                    (folder / name).touch()
    return path


def drawn(case: str, *names: str, **files: list[str]) -> Annotation:
    return Annotation(case, files or {"scribble": list(names)}, {"scribble": [np.zeros((1, 2, 3), int)]})


def test_masks_are_dense_labels_or_else_labels(tmp_path: Path) -> None:
    training = [
        {"image": "b.nii.gz", "label": "b_scribble.nii.gz", "dense_label": "b_gt.nii.gz", "case": "b", "patient": "b"},
        {"image": "c.nii.gz", "label": "c_mask.nii.gz"},
        {"image": "a.nii.gz", "label": ["a1.nii.gz", "a2.nii.gz"], "dense_label": "a_gt.nii.gz", "case": "a"},
    ]
    path = write(tmp_path, training)
    assert masks_of_datalist(path) == [
        LabelFile(tmp_path / "a_gt.nii.gz", "a"),
        LabelFile(tmp_path / "b_gt.nii.gz", "b"),
        LabelFile(tmp_path / "c_mask.nii.gz", "c"),
    ]


def test_annotations_become_labels_and_masks_dense_labels(tmp_path: Path) -> None:
    training = [
        {"image": "a.nii.gz", "label": "a_gt.nii.gz", "case": "a", "patient": "p", "supervision": "dense"},
        {"image": "b.nii.gz", "label": "b_old.nii.gz", "dense_label": "b_gt.nii.gz", "case": "b", "phase": "ED"},
    ]
    other = {"image": "v.nii.gz", "label": "gone.nii.gz", "case": "v"}
    path = write(tmp_path, training, validation=[other], unlabelled=[], source="x")
    annotations = [drawn("a", "/o/a_scribble.nii.gz"), drawn("b", "/o/b_1.nii.gz", "/o/b_2.nii.gz")]
    found = annotated_datalist(path, annotations)
    root = f"{tmp_path}/"
    assert found["training"] == [
        {
            "image": f"{root}a.nii.gz",
            "label": "/o/a_scribble.nii.gz",
            "dense_label": f"{root}a_gt.nii.gz",
            "case": "a",
            "patient": "p",
        },
        {
            "image": f"{root}b.nii.gz",
            "label": ["/o/b_1.nii.gz", "/o/b_2.nii.gz"],
            "dense_label": f"{root}b_gt.nii.gz",
            "case": "b",
            "phase": "ED",
        },
    ]
    # the other sections and the head stay, their paths as absolute ones, whether or not the files exist
    rest = {"image": f"{root}v.nii.gz", "label": f"{root}gone.nii.gz", "case": "v"}
    assert {key: value for key, value in found.items() if key != "training"} == HEAD | {
        "validation": [rest],
        "unlabelled": [],
        "source": "x",
    }


def test_coarse_labels_and_the_datalist_as_written(tmp_path: Path) -> None:
    training = [{"image": "a.nii.gz", "label": "a_s.nii.gz", "complement": "a_n.nii.gz", "dense_label": "a_gt.nii.gz"}]
    path = write(tmp_path / "in", training)
    out = tmp_path / "out"
    out.mkdir()
    files = {name: [str(out / f"a_{name}.nii.gz")] for name in ("coarse", "not")}
    for (name,) in files.values():
        Path(name).touch()
    write_datalist(out / "datalist.json", annotated_datalist(path, [drawn("a", **files)]))
    (item,) = json.loads((out / "datalist.json").read_text())["training"]
    assert item["label"] == "a_coarse.nii.gz"  # below the new datalist, so by a path that moves with it
    assert item["complement"] == "a_not.nii.gz"
    assert item["dense_label"] == str(tmp_path / "in" / "a_gt.nii.gz")
    assert load_datalist(out / "datalist.json", "training")[0]["image"] == str(tmp_path / "in" / "a.nii.gz")


@pytest.mark.parametrize(
    ("training", "sections", "message"),
    [
        (
            [{"image": "a.nii.gz", "label": ["1.nii.gz", "2.nii.gz"]}],
            {},
            "/a.nii.gz has no dense mask; add the path of",
        ),
        (
            [{"image": "a.nii.gz", "complement": "n.nii.gz", "case": "a"}],
            {},
            "a has no dense mask; add the path of its",
        ),
        (
            [{"image": "a.nii.gz", "label": "1.nii.gz", "case": "a"}, {"image": "a.nii.gz", "label": "a_gt.nii.gz"}],
            {},
            'two items of "training" are of case a; give them names of their own',
        ),
        ([], {}, 'section "training" is missing or empty; list at least one item there'),
        ([{"image": "a.nii.gz", "label": "a_gt.nii.gz"}], {"test": 5}, 'section "test" must be a list of objects'),
        (
            [{"image": "a.nii.gz", "label": "a_gt.nii.gz"}],
            {"validation": [{"image": "x"}]},
            'item 1 of "validation" has',
        ),
    ],
)
def test_datalists_that_do_not_fit(training: Any, sections: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path, training, **sections)
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: .*{re.escape(message)}"):
        masks_of_datalist(path)


def test_masks_that_are_missing(tmp_path: Path) -> None:
    path = write(tmp_path, [{"image": "a.nii.gz", "label": "a_gt.nii.gz"}])
    (tmp_path / "a_gt.nii.gz").unlink()
    with pytest.raises(UserError, match=r'1 of 2 files listed under "training" do not exist, first .*a_gt\.nii\.gz'):
        masks_of_datalist(path)
