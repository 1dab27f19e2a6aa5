"""What a MONAI Label datastore calls the values of a label, as 3D Slicer's plugin tells it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.data.label_studies import StudyLabel, segments_in_study, study_label
from common.errors import UserError
from common.transforms.named_segments import Segment

TOLD = [{"name": "LV", "idx": 1}, {"name": "RV", "idx": 2}]


def datastore(folder: Path, **labels: Any) -> Path:
    """A datastore with labels of the tag ``final``; the values are what it says of their segments."""
    entries = {}
    for name, told in labels.items():
        info = {"ts": 1700000000, "name": f"{name}.nii.gz"} | ({} if told is None else {"label_info": told})
        final = {"final": {"ext": ".nii.gz", "info": info}}
        entries[name] = {"image": {"ext": ".nii.gz", "info": {"name": f"{name}.nii.gz"}}, "labels": final}
        (folder / "labels" / "final").mkdir(parents=True, exist_ok=True)
        (folder / "labels" / "final" / f"{name}.nii.gz").touch()
        (folder / f"{name}.nii.gz").touch()
    content = {"name": "new-dataset", "images_dir": ".", "labels_dir": "labels", "objects": entries}
    (folder / "datastore_v2.json").write_text(json.dumps(content))
    return folder


def label(told: Any) -> StudyLabel:
    return StudyLabel(Path("studies/datastore_v2.json"), told)


def entries(*names: str, numbers: list[int]) -> list[dict[str, Any]]:
    return [{"name": name, "idx": number} for name, number in zip(names, numbers, strict=True)]


def test_a_label_of_a_datastore_and_others(tmp_path: Path) -> None:
    folder = datastore(tmp_path / "studies", p1=TOLD, p2=None)
    found = study_label(folder / "labels" / "final" / "p1.nii.gz")
    assert found == StudyLabel(folder / "datastore_v2.json", TOLD)
    # put there by hand: in the datastore, and without names
    assert study_label(folder / "labels" / "final" / "p2.nii.gz") == StudyLabel(folder / "datastore_v2.json", None)
    assert study_label(folder / "labels" / "final" / "p3.nii.gz") == StudyLabel(folder / "datastore_v2.json", None)
    # an image, and a label of another place
    assert study_label(folder / "p1.nii.gz") is None
    assert study_label(tmp_path / "elsewhere" / "labels" / "final" / "p1.nii.gz") is None
    (folder / "scribbles" / "final").mkdir(parents=True)
    (folder / "scribbles" / "final" / "p1.nii.gz").touch()
    assert study_label(folder / "scribbles" / "final" / "p1.nii.gz") is None


def test_links_that_the_server_follows(tmp_path: Path) -> None:
    folder = datastore(tmp_path / "studies", p1=TOLD)
    label_file = folder / "labels" / "final" / "p1.nii.gz"
    label_file.rename(tmp_path / "p1_drawn.nii.gz")
    label_file.symlink_to(tmp_path / "p1_drawn.nii.gz")
    assert study_label(label_file) == StudyLabel(folder / "datastore_v2.json", TOLD)
    assert study_label(label_file.resolve()) is None
    assert study_label(label_file.resolve(), folder / "p1.nii.gz") == StudyLabel(folder / "datastore_v2.json", TOLD)
    (folder / "labels").rename(tmp_path / "drawn")
    (folder / "labels").symlink_to(tmp_path / "drawn")
    own = (tmp_path / "drawn" / "final" / "p1.nii.gz", folder / "p1.nii.gz")
    own[0].unlink()
    own[0].touch()
    assert study_label(*own) == StudyLabel(folder / "datastore_v2.json", TOLD)
    # another label of an image that lies in a datastore is none of it
    assert study_label(tmp_path / "p1_drawn.nii.gz", folder / "p1.nii.gz") is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"objects": [1]}', '{"objects": {"p1": 1}}', '{"labels_dir": 1}'])
def test_a_damaged_datastore(tmp_path: Path, text: str) -> None:
    folder = datastore(tmp_path / "studies", p1=TOLD)
    (folder / "datastore_v2.json").write_text(text)
    with pytest.raises(UserError, match=r"datastore_v2\.json: cannot be read as the datastore of p1\.nii\.gz; restore"):
        study_label(folder / "labels" / "final" / "p1.nii.gz")


def test_segments_in_any_order() -> None:
    assert segments_in_study(label(TOLD), {1, 2}) == [Segment("LV", 1), Segment("RV", 2)]
    turned = entries("LV", "RV", numbers=[2, 1])
    assert segments_in_study(label(turned), {1, 2}) == [Segment("LV", 2), Segment("RV", 1)]
    # one of them is empty
    assert segments_in_study(label(TOLD), {2}) == [Segment("LV", 1), Segment("RV", 2)]
    # values without a name are left to who maps them
    assert segments_in_study(label(TOLD), {1, 7}) == [Segment("LV", 1), Segment("RV", 2)]


def test_gaps_are_read_as_the_voxels_say() -> None:
    """A segment called background came first: the plugin tells 2, 3, 4, Slicer writes 1, 2, 3."""
    told = label(entries("RV", "LV", "bg_scribble", numbers=[2, 3, 4]))
    assert segments_in_study(told, {1, 2, 3}) == [Segment("RV", 1), Segment("LV", 2), Segment("bg_scribble", 3)]
    assert segments_in_study(told, {2, 3, 4}) == [Segment("RV", 2), Segment("LV", 3), Segment("bg_scribble", 4)]
    message = (
        r"^its names may mean RV = 2, LV = 3, bg_scribble = 4 or RV = 1, LV = 2, bg_scribble = 3, since 3D Slicer left "
        r"a segment out; remove the segment called background, foreground_scribbles or background_scribbles, and submit"
    )
    with pytest.raises(UserError, match=message):
        segments_in_study(told, {2, 3})
    # the gap is behind all that is drawn, so that both ways say the same
    told = label(entries("RV", "LV", "bg_scribble", numbers=[1, 2, 4]))
    assert segments_in_study(told, {1, 2})[:2] == [Segment("RV", 1), Segment("LV", 2)]


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (None, "datastore_v2.json has no names for its values (label_info)"),
        ([], "datastore_v2.json has no names for its values (label_info)"),
        ("RV", "datastore_v2.json has label_info 'RV', no list of names"),
        (["RV"], "its label_info has an entry 'RV' without a name"),
        ([{"idx": 1}], "its label_info has an entry {'idx': 1} without a name"),
        ([{"name": " ", "idx": 1}], "its label_info has an entry {'name': ' ', 'idx': 1} without a name"),
        ([{"name": "R\nV", "idx": 1}], "its label_info has an entry {'name': 'R\\nV', 'idx': 1} without a name"),
        ([{"name": "RV"}], 'its label_info gives "RV" the number None'),
        ([{"name": "RV", "idx": "1"}], "its label_info gives \"RV\" the number '1'"),
        ([{"name": "RV", "idx": True}], 'its label_info gives "RV" the number True'),
        ([{"name": "RV", "idx": -1}], 'its label_info gives "RV" the number -1'),
    ],
)
def test_names_that_are_none(told: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        segments_in_study(label(told), {1})
    assert str(caught.value) == f"{message}; open the image in 3D Slicer and submit the label again"
