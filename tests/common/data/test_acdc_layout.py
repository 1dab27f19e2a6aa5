"""ACDC: the committed splits, and the datalist built from the official layout."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from common.data import acdc
from common.data.acdc import SECTIONS, build_acdc_datalist, load_splits
from common.errors import UserError

SPLITS = load_splits()
EIGHTY = sorted(number for section in SECTIONS for number in SPLITS["half35"][section])
SEED = 2021


def per_block(ids: list[int]) -> list[int]:
    """How many of the ids lie in each diagnosis block 1-20, 21-40, ... 81-100."""
    counts = Counter((number - 1) // 20 for number in ids)
    return [counts[block] for block in range(5)]


@pytest.mark.parametrize(
    ("name", "counts"),
    [("maag_split0", [35, 35, 15, 15]), ("half35", [35, 35, 10, 0]), ("all64", [64, 0, 16, 0])],
)
def test_splits_are_disjoint_and_of_the_stated_size(name: str, counts: list[int]) -> None:
    split = SPLITS[name]
    assert [len(split[section]) for section in SECTIONS] == counts
    ids = [number for section in SECTIONS for number in split[section]]
    assert len(set(ids)) == len(ids)
    assert set(ids) <= set(range(1, 101))
    assert split["description"]
    assert split["source"]


def test_the_published_split_covers_all_patients() -> None:
    split = SPLITS["maag_split0"]
    assert sorted(number for section in SECTIONS for number in split[section]) == list(range(1, 101))
    # The sum of the published list tells a slip of the pen: 5+39+77+82+78+10+64+24+30+73+80+41+36+60+72 = 771.
    assert sum(split["test"]) == 771
    assert sum(split["validation"]) == 84 + 32 + 27 + 96 + 17 + 18 + 57 + 81 + 79 + 22 + 1 + 44 + 49 + 25 + 95
    assert {37, 50, 19, 100, 54, 90} <= set(split["training"])
    assert {2, 76, 34, 66, 20, 15} <= set(split["unpaired_masks"])


def test_the_drawn_splits_are_stratified_by_diagnosis() -> None:
    assert per_block(EIGHTY) == [16, 16, 16, 16, 16]
    half, whole = SPLITS["half35"], SPLITS["all64"]
    assert [per_block(half[section]) for section in SECTIONS[:3]] == [[7] * 5, [7] * 5, [2] * 5]
    assert per_block(whole["validation"]) == [3, 3, 3, 3, 4]
    assert sorted(whole["training"] + whole["validation"]) == EIGHTY
    assert set(half["validation"]) <= set(whole["validation"])


def test_the_drawn_splits_can_be_drawn_again() -> None:
    draw, half, whole = random.Random(SEED), SPLITS["half35"], SPLITS["all64"]
    for block in range(5):
        ids = [number for number in EIGHTY if (number - 1) // 20 == block]
        draw.shuffle(ids)
        assert set(ids[:2]) <= set(half["validation"])
        assert set(ids[2:9]) <= set(half["training"])
        assert set(ids[9:]) <= set(half["unpaired_masks"])
        assert set(ids[: 4 if block == 4 else 3]) <= set(whole["validation"])
    assert f"random.Random({SEED})" in half["source"]


def test_the_file_documents_the_diagnosis_blocks() -> None:
    blocks = json.loads(acdc._SPLITS_FILE.read_text())["diagnosis_blocks"]
    assert [(block["diagnosis"], block["first"], block["last"]) for block in blocks] == [
        ("DCM", 1, 20),
        ("HCM", 21, 40),
        ("MINF", 41, 60),
        ("NOR", 61, 80),
        ("RV", 81, 100),
    ]


def test_the_eighty_patients_are_those_at_hand(data_root: Path) -> None:
    names = [folder.name for folder in (data_root / "acdc" / "training").iterdir()]
    assert sorted(int(name.removeprefix("patient")) for name in names) == EIGHTY


SMALL = {
    "description": "Four patients.",
    "source": "made up",
    "training": [3, 1],
    "unpaired_masks": [2],
    "validation": [4],
    "test": [],
}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Patients 1-4 with frames 1 and 12 and scribbles for all of them; the protocols are small ones."""
    monkeypatch.setattr(acdc, "load_splits", lambda: {"small": SMALL, "mini": SMALL | {"training": [1]}})
    (tmp_path / "scribbles").mkdir()
    for number in range(1, 5):
        add_patient(tmp_path, number)
    return tmp_path


def add_patient(root: Path, number: int) -> Path:
    name = f"patient{number:03d}"
    folder = root / "training" / name
    folder.mkdir(parents=True)
    for frame in ("frame01", "frame12"):
        (folder / f"{name}_{frame}.nii.gz").touch()
        (folder / f"{name}_{frame}_gt.nii.gz").touch()
        (root / "scribbles" / f"{name}_{frame}_scribble.nii.gz").touch()
    return folder


def build(root: Path, protocol: str = "small") -> dict:
    return build_acdc_datalist(root, root / "scribbles", protocol)


def error_of(root: Path, protocol: str = "small") -> str:
    with pytest.raises(UserError) as caught:
        build(root, protocol)
    return str(caught.value)


def test_sections(tree: Path) -> None:
    content = build(tree)
    training, strokes = tree / "training", tree / "scribbles"
    head = {key: content[key] for key in ("name", "num_classes", "class_names", "description", "source")}
    assert head == {
        "name": "acdc",
        "num_classes": 4,
        "class_names": ["background", "RV", "MYO", "LV"],
        "description": "ACDC, split small. Four patients.",
        "source": "made up",
    }
    assert [(item["case"], item["phase"]) for item in content["training"]] == [
        ("patient001_frame01", "ED"),
        ("patient001_frame12", "ES"),
        ("patient003_frame01", "ED"),
        ("patient003_frame12", "ES"),
    ]
    assert content["training"][1] == {
        "image": f"{training}/patient001/patient001_frame12.nii.gz",
        "label": f"{strokes}/patient001_frame12_scribble.nii.gz",
        "dense_label": f"{training}/patient001/patient001_frame12_gt.nii.gz",
        "case": "patient001_frame12",
        "patient": "patient001",
        "phase": "ES",
    }
    assert content["unpaired_masks"][0] == {
        "label": f"{training}/patient002/patient002_frame01_gt.nii.gz",
        "case": "patient002_frame01",
        "patient": "patient002",
        "phase": "ED",
    }
    assert content["validation"][0] == {
        "image": f"{training}/patient004/patient004_frame01.nii.gz",
        "label": f"{training}/patient004/patient004_frame01_gt.nii.gz",
        "case": "patient004_frame01",
        "patient": "patient004",
        "phase": "ED",
    }
    assert content["test"] == []


def test_the_training_folder_itself_will_do(tree: Path) -> None:
    assert build_acdc_datalist(tree / "training", tree / "scribbles", "small") == build(tree)


def test_scribbles_may_lie_in_folders_of_their_patients(tree: Path) -> None:
    nested = tree / "scribbles" / "patient001" / "patient001_frame01_scribble.nii.gz"
    nested.parent.mkdir()
    (tree / "scribbles" / nested.name).rename(nested)
    assert build(tree)["training"][0]["label"] == str(nested)


def test_unlabelled_without_cine_files_are_the_training_images(tree: Path) -> None:
    content = build(tree)
    bare = [{key: item[key] for key in ("image", "case", "patient", "phase")} for item in content["training"]]
    assert content["unlabelled"] == bare


def test_training_patients_need_no_dense_masks(tree: Path) -> None:
    (tree / "training" / "patient001" / "patient001_frame12_gt.nii.gz").unlink()
    with_mask, without = build(tree)["training"][:2]
    assert "dense_label" in with_mask
    assert "dense_label" not in without


def test_unlabelled_are_all_frames_of_the_cine(tree: Path) -> None:
    cine = tree / "training" / "patient001" / "patient001_4d.nii.gz"
    cine.touch()
    content = build(tree)
    assert content["unlabelled"][0] == {
        "image": str(cine),
        "frames": "all",
        "case": "patient001_4d",
        "patient": "patient001",
    }
    assert [item["case"] for item in content["unlabelled"][1:]] == ["patient003_frame01", "patient003_frame12"]


def test_info_cfg_decides_on_the_phases(tree: Path) -> None:
    info = tree / "training" / "patient001" / "Info.cfg"
    info.write_text("ED: 12\nES: 1\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n")
    cases = [(item["case"], item["phase"]) for item in build(tree)["training"][:2]]
    assert cases == [("patient001_frame12", "ED"), ("patient001_frame01", "ES")]
    info.write_text("ED: 12\n")
    expected = f'{info}: needs one line "ED: <frame>" and one line "ES: <frame>"; restore the file'
    assert error_of(tree) == expected


def test_what_no_section_needs_may_be_missing(tree: Path) -> None:
    (tree / "training" / "patient001" / "patient001_frame01_gt.nii.gz").unlink()
    (tree / "training" / "patient002" / "patient002_frame01.nii.gz").unlink()
    (tree / "scribbles" / "patient004_frame01_scribble.nii.gz").unlink()
    build(tree)


def test_unknown_split(tree: Path) -> None:
    assert error_of(tree, "large") == 'unknown ACDC split "large"; choose one of small, mini'


def test_missing_folders(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        build_acdc_datalist(tmp_path / "no", tree / "scribbles", "small")
    assert str(caught.value) == f"{tmp_path}/no: no such folder; name the folder of the ACDC download"
    with pytest.raises(UserError) as caught:
        build_acdc_datalist(tree / "scribbles", tree / "scribbles", "small")
    assert str(caught.value) == (
        f"{tree}/scribbles: has no patientNNN folders, nor has its training/; name the folder of the ACDC download"
    )
    with pytest.raises(UserError) as caught:
        build_acdc_datalist(tree, tmp_path / "no", "small")
    assert str(caught.value) == f"{tmp_path}/no: no such folder; name the folder of the *_scribble.nii.gz files"


def test_missing_patients_and_the_splits_that_work(tree: Path) -> None:
    remove(tree / "training" / "patient003")
    assert error_of(tree) == (
        f"{tree}/training: split small lacks 1 of 4 patients (patient003); splits that work with these files: mini"
    )
    remove(tree / "training" / "patient002")
    assert error_of(tree) == f"{tree}/training: split small lacks 2 of 4 patients (patient003, patient002)"


def remove(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def test_missing_masks(tree: Path) -> None:
    for name in ("patient002", "patient004"):
        for frame in ("frame01", "frame12"):
            (tree / "training" / name / f"{name}_{frame}_gt.nii.gz").unlink()
    assert error_of(tree) == (
        f"{tree}/training: lacks 4 reference masks "
        "(patient002_frame01_gt.nii.gz, patient002_frame12_gt.nii.gz, patient004_frame01_gt.nii.gz, …)"
    )


def test_missing_image(tree: Path) -> None:
    (tree / "training" / "patient004" / "patient004_frame12.nii.gz").unlink()
    assert error_of(tree) == f"{tree}/training: lacks 1 images (patient004_frame12.nii.gz)"


def test_missing_scribbles(tree: Path) -> None:
    (tree / "scribbles" / "patient003_frame12_scribble.nii.gz").unlink()
    assert error_of(tree) == (
        f"{tree}/scribbles: lacks 1 scribble files (patient003_frame12_scribble.nii.gz); "
        "splits that work with these files: mini"
    )


def test_a_patient_with_one_frame(tree: Path) -> None:
    folder = tree / "training" / "patient004"
    for file in folder.glob("*frame12*"):
        file.unlink()
    assert error_of(tree) == f"{folder}: holds 1 annotated frames instead of 2 (ED and ES); restore its files"
