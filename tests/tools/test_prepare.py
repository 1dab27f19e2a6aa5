"""``python -m tools prepare``: from the official layout to a datalist."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from common.data.acdc import SECTIONS, load_splits
from common.data.datalist import load_datalist
from common.errors import UserError
from tools.prepare import main


@pytest.fixture(scope="module")
def download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official layout with the 80 patients of half35, two tiny frames each, and their scribbles beside it."""
    root = tmp_path_factory.mktemp("acdc")
    strokes = np.full((3, 3, 1), 4, np.uint8)
    strokes[0] = np.arange(3).reshape(3, 1)
    volumes = {"": np.zeros((3, 3, 1), np.int16), "_gt": strokes % 4, "_scribble": strokes}
    split = load_splits()["half35"]
    (root / "scribbles").mkdir()
    for number in (number for section in SECTIONS for number in split[section]):
        name = f"patient{number:03d}"
        folder = root / "database" / "training" / name
        folder.mkdir(parents=True)
        for frame in ("frame01", "frame10"):
            for suffix, voxels in volumes.items():
                target = root / "scribbles" if suffix == "_scribble" else folder
                nib.save(nib.Nifti1Image(voxels, np.eye(4)), target / f"{name}_{frame}{suffix}.nii.gz")
    return root


def prepare(download: Path, output: Path, split: str = "half35", *, check: bool = False) -> None:
    source, scribbles = str(download / "database"), str(download / "scribbles")
    main("acdc", source=source, scribbles=scribbles, output=str(output), split=split, check=check)


def test_datalist_and_counts(download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(download, tmp_path / "out", check=True)
    path = tmp_path / "out" / "datalist.json"
    assert capsys.readouterr().out == (
        f"{path}: split half35\n"
        "  training: 70 volumes of 35 patients\n"
        "  unpaired_masks: 70 volumes of 35 patients\n"
        "  unlabelled: 70 volumes of 35 patients\n"
        "  validation: 20 volumes of 10 patients\n"
        "  test: 0 volumes of 0 patients\n"
    )
    assert len(load_datalist(path, "training")) == 70
    before = path.read_bytes()
    prepare(download, tmp_path / "out")
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["datalist.json"]


def test_paths_below_the_output_are_relative(download: Path) -> None:
    prepare(download, download, "all64")
    content = json.loads((download / "datalist.json").read_text())
    assert content["training"][0]["image"] == "database/training/patient001/patient001_frame01.nii.gz"
    assert (len(content["training"]), len(content["validation"])) == (128, 32)


def test_the_published_split_needs_all_patients(download: Path, tmp_path: Path) -> None:
    expected = (
        f"{download}/database/training: split maag_split0 lacks 20 of 100 patients (patient021, patient031, "
        "patient037, …); splits that work with these files: half35, all64"
    )
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
        prepare(download, tmp_path, "maag_split0")


def test_faulty_files_are_found_before_anything_is_written(download: Path, tmp_path: Path) -> None:
    prepare(download, tmp_path)  # links to the files of another folder, so that the shared tree stays whole
    broken = tmp_path / "scribbles"
    broken.mkdir()
    for file in (download / "scribbles").iterdir():
        (broken / file.name).symlink_to(file)
    number = load_splits()["half35"]["training"][0]
    spoiled = broken / f"patient{number:03d}_frame01_scribble.nii.gz"
    spoiled.unlink()
    spoiled.write_bytes(b"cut")
    options = {"source": str(download / "database"), "scribbles": str(broken), "split": "half35"}
    with pytest.raises(UserError, match=rf"^{re.escape(str(spoiled))}: cannot be read"):
        main("acdc", output=str(tmp_path / "new"), check=True, **options)
    assert not (tmp_path / "new").exists()


def test_unknown_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'^unknown data set "mnist"; the known one is acdc$'):
        main("mnist", source=str(tmp_path), scribbles=str(tmp_path), output=str(tmp_path))


def test_the_command_line(download: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools", "prepare", "acdc", "--source", str(download / "database")]
    command += ["--scribbles", str(download / "scribbles"), "--output", str(tmp_path / "out")]
    done = subprocess.run([*command, "--split", "half35"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0
    assert "  validation: 20 volumes of 10 patients\n" in done.stdout
    failed = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert failed.returncode == 1
    lines = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert lines[0].endswith("splits that work with these files: half35, all64")
    assert "Traceback" not in failed.stderr


def test_real_acdc(data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    acdc = data_root / "acdc"
    start = time.monotonic()
    main(
        "acdc",
        source=str(acdc),
        scribbles=str(acdc / "acdc_scribbles"),
        output=str(tmp_path),
        split="half35",
        check=True,
    )
    assert time.monotonic() - start < 60
    content = json.loads((tmp_path / "datalist.json").read_text())
    counts = [len(content[section]) for section in ("training", "unpaired_masks", "unlabelled", "validation", "test")]
    assert counts == [70, 70, 70, 20, 0]
    assert "training: 70 volumes of 35 patients" in capsys.readouterr().out
