"""``python -m tools check``: the table, the verdicts and the exit status."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from common.data.acdc import build_acdc_datalist
from common.data.datalist_writer import write_datalist
from tools.__main__ import main

AFFINE = np.diag([1.5, 1.25, 8, 1])
SHAPE = (20, 16, 4)
NAMES = ["background", "liver", "spleen"]


def mask() -> np.ndarray:
    """1280 voxels, of which 12 * 4 = 48 are liver (1) and 24 * 4 = 96 spleen (2)."""
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[2:5, 3:7], voxels[8:14, 3:7] = 1, 2
    return voxels


def strokes() -> np.ndarray:
    """One row of each: 16 background voxels in a slice, 4 of each class; the others, 3, are not annotated."""
    voxels = np.full(SHAPE, 3, np.uint8)
    for row in (0, 3, 9):
        voxels[row] = np.where(mask()[row] == mask()[row, 4, 0], mask()[row], 3)
    return voxels


def image(seed: int) -> np.ndarray:
    voxels = np.random.default_rng(seed).integers(0, 900, SHAPE).astype(np.int16)
    voxels[0, 0, 0], voxels[1, 1, 1] = -5, 1200
    return voxels


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> str:
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return str(path)


def of_patient(folder: Path, name: str, kind: str, seed: int) -> dict[str, Any]:
    files = {"image": save(folder / f"{name}.nii.gz", image(seed))} if kind != "mask" else {}
    label = strokes() if kind == "scribble" else mask()
    return files | {"label": save(folder / f"{name}_label.nii.gz", label), "case": name, "patient": name}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two patients to train, one mask of another patient and one patient to validate, in a folder called ``a ü``."""
    folder = tmp_path / "a ü"
    folder.mkdir()
    content = {
        "name": "toy",
        "num_classes": 3,
        "class_names": NAMES,
        "training": [of_patient(folder, name, "scribble", seed) for seed, name in enumerate(("p1", "p2"))],
        "unpaired_masks": [of_patient(folder, "p3", "mask", 3)],
        "unlabelled": [{"image": save(folder / "p1_2.nii.gz", image(9)), "case": "p1_2", "patient": "p1"}],
        "validation": [of_patient(folder, "p4", "dense", 4)],
    }
    write_datalist(folder / "datalist.json", content)
    return folder


def edit(study: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = study / "datalist.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def check(capsys: pytest.CaptureFixture[str], *words: str | Path, status: int = 0) -> tuple[list[str], str]:
    """What the command prints, line by line, and its error line."""
    capsys.readouterr()
    assert main(["check", *map(str, words)]) == status
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    return told.out.splitlines(), told.err


def test_the_table(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, error = check(capsys, study)
    # 64 voxels of the background in 1280 are 5 %, and 16 of either class 1.25 %
    assert [" ".join(line.split()) for line in lines] == [
        "section case shape spacing (mm) axes intensities background liver spleen verdict",
        "training p1 20x16x4 1.5x1.25x8 RAS -5..1200 5.00% 1.25% 1.25% ok",
        "training p2 20x16x4 1.5x1.25x8 RAS -5..1200 5.00% 1.25% 1.25% ok",
        "unpaired_masks p3 20x16x4 1.5x1.25x8 RAS - 88.75% 3.75% 7.50% ok",
        "unlabelled p1_2 20x16x4 1.5x1.25x8 RAS -5..1200 - - - ok",
        "validation p4 20x16x4 1.5x1.25x8 RAS -5..1200 88.75% 3.75% 7.50% ok",
        # of four images the sides 1.5 mm * 20 = 30 mm and 1.25 mm * 16 = 20 mm
        "slices: median pixel 1.38 mm, median width 25 mm; choose --pixdim, --roi_size to suit",
        "5 items: 5 without problems, 0 with; 0 with warnings",
    ]
    assert error == ""
    places = [line.index("%") for line in lines[1:4]]
    assert len(set(places)) == 1, "the columns stand below each other"


def test_a_problem_is_told_below_its_case_and_ends_with_1(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label = study / "p2_label.nii.gz"
    save(label, np.where(strokes() == 0, 3, strokes()), np.diag([1.5, 1.25, 7, 1]))
    (study / "p4.nii.gz").unlink()
    lines, error = check(capsys, study, status=1)
    assert [line.split()[-1] for line in lines if line.startswith("training")] == ["ok", "problems"]
    at = next(number for number, line in enumerate(lines) if " p2 " in line)
    assert lines[at].endswith("  2 problems")
    assert lines[at + 1] == (
        f"    problem: {label}: affine differs from the image's by 1.000 mm (tolerance 0.001 mm); save the label on "
        f"the grid of {study / 'p2.nii.gz'}"
    )
    assert lines[at + 2] == (
        f"    problem: {label}: has no background scribble (value 0); draw at least one stroke on the background"
    )
    assert f"    problem: {study / 'p4.nii.gz'}: no such file; correct the path or restore the file" in lines
    assert lines[-1] == "5 items: 3 without problems, 2 with; 0 with warnings"
    assert error == f"error: {study / 'datalist.json'}: 2 of 5 items have problems, see above\n"


def test_warnings_leave_the_status_at_0(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voxels = strokes()
    voxels[0, :, 1:] = 3
    save(study / "p1_label.nii.gz", voxels)
    lines, _ = check(capsys, study)
    assert lines[1].endswith("  1 warning")
    assert lines[2].startswith(f"    warning: {study / 'p1_label.nii.gz'}: 3 of 4 slices have no background stroke; ")
    assert lines[-1] == "5 items: 5 without problems, 0 with; 1 with warnings"
    assert check(capsys, study, "--background_limit", "0.75")[0][1].endswith("  ok")


def test_what_the_datalist_as_a_whole_does_wrong(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(study, lambda content: content["validation"].append(content["validation"][0] | {"patient": "p1"}))
    lines, _ = check(capsys, study)
    warned = [line for line in lines if line.startswith("warning: ")]
    copies = "have the same image voxels, but are listed as different patients"
    assert warned == [
        "warning: training and validation: share patient p1; keep a patient in one section",
        "warning: unlabelled and validation: share patient p1; keep a patient in one section",
        "warning: validation: lists case p4 more than once; results would be mixed up",
        f"warning: p4 (validation) and p4 (validation): {copies}",
    ]


def test_the_table_as_a_file(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study / "p4.nii.gz").write_bytes(b"\x1f\x8b damaged")
    table = tmp_path / "new folder" / "table.csv"
    lines, _ = check(capsys, study, "--output", str(table), status=1)
    assert lines[-1] == f"table: {table}"
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["p1", "p2", "p3", "p1_2", "p4"]
    assert (rows[0]["spacing (mm)"], rows[0]["liver"], rows[0]["verdict"]) == ("1.5x1.25x8", "1.25%", "ok")
    assert rows[4]["verdict"] == "1 problem"
    assert rows[4]["problems"].endswith(
        "p4.nii.gz: cannot be read, it is cut short, damaged or no image; copy or export it again"
    )
    assert [path.name for path in table.parent.iterdir()] == ["table.csv"]


def damaged_bits(study: Path) -> str:
    path = study / "p1.nii.gz"
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # in the check sum: the voxels are read without complaint
    path.write_bytes(data)
    return "p1.nii.gz: is damaged or cut short; copy or export it again"


def singular(study: Path) -> str:
    volume = nib.Nifti1Image(image(0), None)
    volume.header.set_sform(np.diag([1.5, 0, 8, 1]), code=1)
    nib.save(volume, study / "p1.nii.gz")
    return "p1.nii.gz: its affine does not say where the voxels lie, it is singular; correct the header"


def not_a_number(study: Path) -> str:
    volume = nib.Nifti1Image(image(0), None)
    volume.header.set_sform(np.diag([1.5, np.nan, 8, 1]), code=1)
    nib.save(volume, study / "p1.nii.gz")
    return "p1.nii.gz: its affine does not say where the voxels lie, it is singular; correct the header"


def no_voxels(study: Path) -> str:
    save(study / "p1.nii.gz", np.zeros((20, 0, 4), np.int16))
    return "p1.nii.gz: has no voxels, its shape is (20, 0, 4); export it again"


def huge(study: Path) -> str:
    volume = nib.Nifti1Image(image(0), AFFINE)
    nib.save(volume, study / "p1.nii")
    data = bytearray((study / "p1.nii").read_bytes())
    data[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    (study / "p1.nii").write_bytes(data)
    edit(study, lambda content: content["training"][0].update(image="p1.nii"))
    return "p1.nii: cannot be read, it is cut short, damaged or no image; copy or export it again"


def loop(study: Path) -> str:
    (study / "p1.nii.gz").unlink()
    (study / "p1.nii.gz").symlink_to(study / "p1.nii.gz")
    return "p1.nii.gz: no such file; correct the path or restore the file"


def folder(study: Path) -> str:
    (study / "p1.nii.gz").unlink()
    (study / "p1.nii.gz").mkdir()
    return "p1.nii.gz: cannot be read, it is cut short, damaged or no image; copy or export it again"


def text(study: Path) -> str:
    (study / "p1.png").write_text("hello")
    edit(study, lambda content: content["training"][0].update(image="p1.png"))
    return "p1.png: cannot be read, it is cut short, damaged or no image; copy or export it again"


def frames(study: Path) -> str:
    save(study / "p1_label.nii.gz", np.stack([strokes()] * 2, axis=-1))
    return "p1_label.nii.gz: shape (20, 16, 4, 2) differs from the image's (20, 16, 4); save the label on the grid of "


def cine(study: Path) -> str:
    save(study / "p1.nii.gz", np.stack([image(0)] * 7, axis=-1))
    return (
        "p1.nii.gz: has 7 channels or frames; give each frame a file, such as p01_frame01, or, only if the fourth axis "
        "is channels, set --in_channels 7"
    )


def raw_values(study: Path) -> str:
    save(study / "p1_label.nii.gz", (strokes() + 1) % 4)  # what is not painted, 92.5 %, is 0 there
    return "p1_label.nii.gz: 92% of the voxels are 0, drawn background, and few are 3, not annotated; if 0 is what "


@pytest.mark.parametrize(
    "spoil",
    [damaged_bits, singular, not_a_number, no_voxels, huge, loop, folder, text, frames, cine, raw_values],
    ids=lambda function: function.__name__,
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_damaged_files_are_told_and_the_others_are_looked_at_all_the_same(
    study: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], str]
) -> None:
    expected = spoil(study)
    lines, error = check(capsys, study, status=1)
    assert any(line.startswith(f"    problem: {study / expected}") for line in lines), lines
    assert sum(line.endswith("  ok") for line in lines) == 4
    assert error == f"error: {study / 'datalist.json'}: 1 of 5 items have problems, see above\n"


def test_other_sorts_of_labels(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def without_masks(content: dict[str, Any]) -> None:
        content["training"] = [item | {"label": "p4_label.nii.gz"} for item in content["training"]]

    edit(study, without_masks)
    assert any(
        "a dense mask is given where scribbles are expected" in line for line in check(capsys, study, status=1)[0]
    )
    check(capsys, study, "--kind", "dense")
    check(capsys, study, "--kind", "either")
    check(capsys, study / "datalist.json", "--kind", "dense", "--in_channels", "1", "--jobs", "3")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--kind", "dens"], '--kind is "dens"; choose one of scribble, dense, either, coarse'),
        (["--in_channels", "0"], "--in_channels is 0; give a number from 1 on"),
        (["--background_limit", "2"], "--background_limit is 2; give a number from 0 to 1"),
        (["--background_limit", "much"], "--background_limit is 'much'; give a number from 0 to 1"),
        (["--jobs", "0"], "--jobs is 0; give a number from 1 on"),
        (["--output", "table.xlsx"], "table.xlsx: the table is written as CSV; let its name end in .csv"),
    ],
)
def test_options_that_make_no_sense(
    study: Path, capsys: pytest.CaptureFixture[str], options: list[str], line: str
) -> None:
    assert check(capsys, study, *options, status=1) == ([], f"error: {line}\n")


def test_datalists_without_items_or_none_at_all(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = study / "datalist.json"
    assert check(capsys, study / "no.json", status=1)[1] == (
        f"error: {study / 'no.json'}: no such datalist; correct the path or prepare the data first\n"
    )
    write_datalist(path, {"name": "toy", "num_classes": 3, "class_names": NAMES})
    assert check(capsys, study, status=1)[1] == (
        f"error: {path}: lists no items; add them or write it anew with python -m tools datalist\n"
    )
    path.write_text("[]")
    assert check(capsys, study, status=1)[1].startswith(f"error: {path}: holds no JSON object; a datalist looks like")


def test_the_phantom_has_no_problems(phantom_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = check(capsys, phantom_dir)
    assert lines[0].split()[-5:] == ["background", "RV", "MYO", "LV", "verdict"]
    assert lines[-1].split(" without")[0] == f"{len(lines) - 3} items: {len(lines) - 3}"


def test_acdc_within_a_minute(data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = build_acdc_datalist(
        data_root / "acdc" / "training", data_root / "acdc" / "acdc_scribbles", protocol="all64"
    )
    write_datalist(tmp_path / "datalist.json", content)
    started = time.perf_counter()
    lines, _ = check(capsys, tmp_path)
    assert time.perf_counter() - started < 60
    assert sum(len(content[section]) for section in ("training", "validation")) == 160
    assert lines[-1].endswith(" 0 with; 0 with warnings")
