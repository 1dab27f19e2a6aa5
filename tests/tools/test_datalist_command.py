"""``python -m tools datalist``: from folders of images, scribbles and masks to a datalist."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK

from common.data import series_conversion
from tools import datalist as module
from tools.__main__ import main

NAMES = "background,liver,left kidney"
SHAPE = (12, 10, 4)
AFFINE = np.array([[-1.5, 0, 0, 20], [0, -1.25, 0, 30], [0, 0, 8, -40], [0, 0, 0, 1.0]])
Writer = Callable[..., None]


def voxels(kind: str, seed: int = 0) -> np.ndarray:
    """An image, its dense mask (0 to 2) or its scribbles (0 to 2, 3 = not annotated)."""
    if kind == "image":
        return np.random.default_rng(seed).integers(0, 900, SHAPE).astype(np.int16)
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:5, 2:8], mask[6:9, 2:8] = 1, 2
    return mask if kind == "mask" else np.where(np.arange(SHAPE[0])[:, None, None] % 3 == 0, mask, 3).astype(np.uint8)


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    """Write a volume in the format of the file's name, with one place in the scanner whatever the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(data, affine), path)
        return
    image = SimpleITK.GetImageFromArray(data.T)
    turned = np.diag([-1.0, -1, 1, 1]) @ affine  # these formats count towards left and posterior
    spacing = np.linalg.norm(turned[:3, :3], axis=0)
    image.SetSpacing(spacing)
    image.SetDirection((turned[:3, :3] / spacing).ravel())
    image.SetOrigin(turned[:3, 3])
    SimpleITK.WriteImage(image, str(path))


def save_series(folder: Path, data: np.ndarray, writer: Writer) -> None:
    for number in range(data.shape[2]):
        writer(folder / f"{9 - number}.dcm", data[:, :, number].T.astype(np.uint16), number=number, spacing=8.0)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten patients with image and mask, of whom the first six have scribbles; two of these have no mask."""
    monkeypatch.chdir(tmp_path)
    for number in range(10):
        save(tmp_path / "scans" / f"p{number}.nii.gz", voxels("image", number))
        if number < 6:
            save(tmp_path / "drawn" / f"p{number}_scribble.nii.gz", voxels("scribble"))
        if number not in (0, 1):
            save(tmp_path / "masks" / f"p{number}_gt.nii.gz", voxels("mask"))
    return tmp_path


def run(*extra: str, status: int = 0, output: str = "out", **options: str) -> Any:
    """Run the command in the study's folder and read the datalist."""
    given = {"images": "scans", "labels": "drawn", "masks": "masks", "class_names": NAMES, "output": output} | options
    words = [word for key, value in given.items() if value for word in (f"--{key}", value)]
    assert main(["datalist", *words, *extra]) == status
    path = Path(output) / "datalist.json" if not output.endswith(".json") else Path(output)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def patients(content: dict[str, Any], section: str) -> list[str]:
    return [item["patient"] for item in content[section]]


def test_somebody_with_drawings_is_left_to_train_on(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (0, 1):  # without a mask, and so never held out
        (study / "drawn" / f"p{number}_scribble.nii.gz").unlink()
    halves = ("--validation_share", "0.5", "--test_share", "0.5")
    assert run(*halves, status=1) is None
    assert capsys.readouterr().err == (
        "error: all 4 patients with drawings validate or test, by --validation_share 0.5 and --test_share 0.5, so that "
        "none is left to train on; let the shares be under 1 together, draw on other patients, or leave --labels out "
        "where nobody is to train\n"
    )
    assert len(run("--validation_share", "0.2", "--test_share", "0.2")["training"]) == 2
    (study / "out" / "datalist.json").unlink()
    assert run(*halves, labels="")["training"] == []


def test_what_is_written_and_told(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = run("--validation_share", "0.25", "--test_share", "0.25")
    told = capsys.readouterr().out
    # 8 patients have image and mask, 4 of them scribbles as well: 2 of 8 validate and 2 test, one of each kind
    assert {section: len(content[section]) for section in ("validation", "test", "training", "unpaired_masks")} == {
        "validation": 2,
        "test": 2,
        "training": 4,
        "unpaired_masks": 2,
    }
    for section in ("validation", "test"):
        assert sorted(int(name[1:]) < 6 for name in patients(content, section)) == [False, True]
    everyone = [
        name for section in ("training", "unpaired_masks", "validation", "test") for name in patients(content, section)
    ]
    assert sorted(everyone) == [f"p{number}" for number in range(10)]
    assert (content["name"], content["num_classes"]) == ("out", 3)
    assert content["class_names"] == ["background", "liver", "left kidney"]
    assert content["training"][0] == {
        "image": str(study / "scans" / "p0.nii.gz"),
        "label": str(study / "drawn" / "p0_scribble.nii.gz"),
        "case": "p0",
        "patient": "p0",
    }
    assert told.splitlines()[:6] == [
        f"{study / 'out' / 'datalist.json'}: 3 classes, background, liver, left kidney",
        "  training: 4 volumes of 4 patients",
        "  unpaired_masks: 2 volumes of 2 patients",
        "  unlabelled: 0 volumes of 0 patients",
        "  validation: 2 volumes of 2 patients",
        "  test: 2 volumes of 2 patients",
    ]
    train = f"python -m monai.bundle run --config_file bundles/maag/configs/train.json --dataset_dir {study / 'out'}"
    assert told.splitlines()[6:] == [
        "check the files, then train:",
        f"  python -m tools check {study / 'out' / 'datalist.json'}",
        f"  {train} --output_dir runs/out",
    ]


def test_every_format_keeps_its_place_in_the_scanner(
    tmp_path: Path, dicom_writer: Writer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    images = {"a.nii.gz": AFFINE, "b ä.nrrd": AFFINE, "c.mha": AFFINE, "d.nii": AFFINE, "e.mhd": AFFINE}
    for seed, name in enumerate(images):
        save(tmp_path / "my scans" / name, voxels("image", seed))
    save_series(tmp_path / "my scans" / "f" / "MR 1", voxels("image", 9), dicom_writer)
    # the axes that the test's DICOM writer gives a slice, of pixels of 1.25 x 1.5 mm, and their cross product
    oblique = [[-1.2, 0.252, -1.792, 30], [-0.35, -0.864, 6.144, -12], [0, 1.2, 4.8, 5], [0, 0, 0, 1]]
    for name in ("a.nrrd", "b ä.mha", "c.nii.gz", "d.nii", "e.nrrd"):
        save(tmp_path / "drawn" / name, voxels("scribble"))
    save(tmp_path / "drawn" / "f.nii.gz", voxels("scribble"), np.array(oblique))
    content = run(images="my scans", masks="")
    assert [item["case"] for item in content["training"]] == ["a", "b ä", "c", "d", "e", "f"]
    assert content["training"][-1]["image"] == "from_dicom/f.nii.gz"
    volume = nib.load(tmp_path / "out" / "from_dicom" / "f.nii.gz")
    np.testing.assert_array_equal(volume.get_fdata(), voxels("image", 9))
    np.testing.assert_allclose(volume.affine, oblique, atol=1e-5)
    capsys.readouterr()
    assert main(["check", "out"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("training ")]
    assert [row[-1] for row in rows] == ["ok"] * 6
    assert {tuple(row[-8:-5]) for row in rows[:5]} == {("12x10x4", "1.5x1.25x8", "LPS")}
    assert rows[5][2:5] == ["12x10x4", "1.25x1.5x8", "LSA"]


def test_frames_of_a_dicom_cine_series_are_cases_of_one_patient(
    study: Path, dicom_writer: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = study / "scans" / "q1"
    for frame in (1, 2):
        save_series(folder / str(frame), voxels("image", frame), dicom_writer)
        for file in sorted((folder / str(frame)).iterdir()):
            header = pydicom.dcmread(file)
            header.TriggerTime = 40 * (frame - 1)
            header.save_as(folder / f"{file.stem}_{frame}.dcm")
        shutil.rmtree(folder / str(frame))
    save(study / "drawn" / "q1_frame02_scribble.nii.gz", voxels("scribble"))
    content = run()
    [drawn] = [item for item in content["training"] if item["patient"] == "q1"]
    assert (drawn["case"], drawn["image"]) == ("q1_frame02", "from_dicom/q1_frame02.nii.gz")
    [other] = [item for item in content["unlabelled"] if item["patient"] == "q1"]
    assert other["case"] == "q1_frame01"
    for item, seed in ((other, 1), (drawn, 2)):
        np.testing.assert_array_equal(nib.load(study / "out" / item["image"]).get_fdata(), voxels("image", seed))
    (study / "drawn" / "q1_frame02_scribble.nii.gz").rename(study / "drawn" / "q1_scribble.nii.gz")
    run(status=1)
    assert "q1_scribble.nii.gz; name its frame of the cine series, as q1_frame01, or" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ({"missing": 1}, "1 slices are missing between 8.dcm and 6.dcm; restore their files"),
        ({"move": (2, 1.0)}, "7.dcm and 8.dcm are duplicate slices of one place; remove one of them"),
        ({"move": (3, 3.4)}, "slices are not evenly spaced, 11.20 mm between 7.dcm and 6.dcm and 8.00 mm elsewhere"),
    ],
)
def test_a_faulty_series_is_refused_by_name(
    study: Path, dicom_writer: Writer, capsys: pytest.CaptureFixture[str], spoil: dict[str, Any], reason: str
) -> None:
    before = json.dumps(run())
    folder = study / "scans" / "q1"
    save_series(folder, voxels("image"), dicom_writer)
    save_series(study / "scans" / "q2", voxels("image", 1), dicom_writer)
    if "missing" in spoil:
        (folder / "7.dcm").unlink()
    else:
        number, place = spoil["move"]
        dicom_writer(folder / f"{9 - number}.dcm", np.zeros((10, 12), np.uint16), number=place, spacing=8.0)
    capsys.readouterr()
    assert json.dumps(run(status=1)) == before
    error = capsys.readouterr().err
    assert error.startswith(f"error: {folder} (case q1): {reason}")
    assert error.count("\n") == 1
    assert os.listdir(study / "out") == ["datalist.json"]


def test_a_second_run_changes_nothing_and_needs_no_class_names(study: Path) -> None:
    first = run("--validation_share", "0.3")
    written = (study / "out" / "datalist.json").read_bytes()
    assert run("--validation_share", "0.3", class_names="") == first
    assert (study / "out" / "datalist.json").read_bytes() == written


def test_new_patients_fill_the_sections_and_none_leaves_them(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run("--validation_share", "0.25", "--test_share", "0.25")
    for number in range(10, 18):
        save(study / "scans" / f"p{number}.nii.gz", voxels("image", number))
        save(study / "masks" / f"p{number}_gt.nii.gz", voxels("mask"))
    capsys.readouterr()
    second = run("--validation_share", "0.25", "--test_share", "0.25")  # of 16 patients 4 and 4
    for section in ("validation", "test"):
        assert len(second[section]) == 4
        assert set(patients(first, section)) < set(patients(second, section))
    assert "  as before: 2 patients in validation, 2 patients in test\n" in capsys.readouterr().out
    for section in ("training", "unpaired_masks"):
        assert set(patients(first, section)) <= set(patients(second, section))


def test_frames_of_a_patient_stay_together(study: Path) -> None:
    for path in list(study.glob("*/*.nii.gz")):
        stem, end = re.fullmatch(r"(p\d)(.*)", path.name).groups()  # type: ignore[union-attr]
        for frame in ("ED", "ES"):
            (path.parent / f"{stem}_{frame}{end}").write_bytes(path.read_bytes())
        path.unlink()
    content = run("--validation_share", "0.5")
    assert content["validation"][0]["phase"] == "ED"
    owners = {section: set(patients(content, section)) for section in ("training", "unpaired_masks", "validation")}
    assert [len(content[section]) for section in owners] == [2 * len(found) for found in owners.values()]
    assert sum(map(len, owners.values())) == len(set.union(*owners.values())) == 10


def test_sections_get_their_share_of_each_group(study: Path) -> None:
    (study / "groups.csv").write_text(
        "patient;group\n" + "".join(f"p{n};{'sick' if n > 7 else 'well'}\n" for n in range(10))
    )
    # p2 to p9 have masks; half of them validate: of the 2 sick ones 1, of the 6 well ones 3
    for seed in range(4):
        content = run("--validation_share", "0.5", "--stratify", "groups.csv", output=f"out{seed}", seed=str(seed))
        assert sorted(int(name[1:]) > 7 for name in patients(content, "validation")) == [False] * 3 + [True]


def test_patterns_and_a_name_of_ones_own(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = run(
        images="scans/p[0-3].nii.gz", labels="drawn/p[0-3]*", masks="", output="lists/my list.json", name="livers"
    )
    assert (content["name"], patients(content, "training")) == ("livers", ["p0", "p1", "p2", "p3"])
    told = capsys.readouterr().out
    assert "  no validation: it needs --validation_share over 0 and --masks of patients that need not train\n" in told
    # without masks of other patients there is nothing for MAAG's discriminator
    assert "bundles/dmpls/configs/train.json --datalist " + f"'{study}/lists/my list.json'" in told


def test_files_in_the_output_folder_are_named_relative_to_it(study: Path) -> None:
    content = run(images="scans", output=".")
    assert content["training"][0]["image"] == "scans/p0.nii.gz"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"labels": "", "masks": ""}, "neither --labels nor --masks is given; name scribbles, dense masks or both"),
        ({"class_names": ""}, '--class_names is missing; name the classes by their values, such as "background,liver"'),
        ({"class_names": "liver,kidney"}, '--class_names begins with "liver"; value 0 is the background, begin with'),
        ({"validation_share": "much"}, "--validation_share is 'much'; give a number from 0 to 1"),
        ({"validation_share": "1.5"}, "--validation_share is 1.5; give a number from 0 to 1"),
        ({"validation_share": "0.6", "test_share": "0.6"}, "--validation_share and --test_share are 1.2 together"),
        ({"seed": "-1"}, "--seed is -1; give a number from 0 on"),
        ({"seed": "1.5"}, "--seed is 1.5; give a number from 0 on"),
        ({"images": "nowhere"}, "{}/nowhere: no such file or folder; correct the path"),
        ({"images": "scans/*.mha"}, "scans/*.mha: no image found; expected files ending in .nii.gz"),
        ({"patient_pattern": "("}, "--patient_pattern '(' is no regular expression: "),
        ({"stratify": "nowhere.csv"}, "nowhere.csv: cannot be read as a CSV file; name a table of patient,group"),
        ({"output": "scans/p0.nii.gz"}, "{}/scans/p0.nii.gz/datalist.json: cannot be written ("),
    ],
)
def test_mistakes_end_in_one_line_and_leave_nothing(
    study: Path, capsys: pytest.CaptureFixture[str], options: dict[str, str], line: str
) -> None:
    assert run(status=1, **options) is None
    error = capsys.readouterr().err
    assert error.startswith("error: " + line.format(study))
    assert error.count("\n") == 1
    assert not (study / "out").exists()


def test_an_earlier_datalist_that_is_damaged_is_not_replaced(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run()
    (study / "out" / "datalist.json").write_text('{"name": ')
    assert main(["datalist", "--images", "scans", "--labels", "drawn", "--output", "out"]) == 1
    assert "datalist.json: invalid JSON at line 1, column 10" in capsys.readouterr().err
    assert (study / "out" / "datalist.json").read_text() == '{"name": '


def test_an_interrupt_leaves_the_earlier_datalist(
    study: Path, dicom_writer: Writer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = run()
    save_series(study / "scans" / "q1", voxels("image"), dicom_writer)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(series_conversion, "read_series", interrupted)
    assert run(status=130) == before
    assert os.listdir(study / "out" / module.CONVERTED) == []
    monkeypatch.undo()
    monkeypatch.chdir(study)
    assert run()["unlabelled"][0]["image"] == "from_dicom/q1.nii.gz"


def test_links_in_circles_do_no_harm(study: Path) -> None:
    before = run(output="one")
    (study / "scans" / "loop").symlink_to(study / "scans")
    (study / "scans" / "self.nii.gz").symlink_to(study / "scans" / "self.nii.gz")
    after = run(output="two")
    assert [before[section] for section in ("training", "validation")] == [
        after[section] for section in ("training", "validation")
    ]
