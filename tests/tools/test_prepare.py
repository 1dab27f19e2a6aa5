"""``python -m tools prepare``: from the official layout to a datalist."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from common.data.acdc import SECTIONS, load_splits
from common.data.datalist import datalist_info, load_datalist, of_fold
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


def test_folds_go_to_files_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All 100 patients as empty files: five datalists, each patient tested once."""
    for number in range(1, 101):
        folder = tmp_path / "training" / f"patient{number:03d}"
        folder.mkdir(parents=True)
        for frame in ("01", "12"):
            for suffix in ("", "_gt", "_scribble"):
                (folder / f"{folder.name}_frame{frame}{suffix}.nii.gz").touch()
    out = tmp_path / "out"
    main("acdc", source=str(tmp_path), scribbles=str(tmp_path / "training"), output=str(out), split="folds")
    assert sorted(path.name for path in out.iterdir()) == [f"datalist_fold{fold}.json" for fold in range(1, 6)]
    tested: list[str] = []
    for fold in range(1, 6):
        patients = {item["patient"] for item in load_datalist(of_fold(str(out), fold), "test")}
        trained = {item["patient"] for item in load_datalist(of_fold(str(out), fold), "training")}
        assert (len(patients), len(trained)) == (20, 80)
        assert not patients & trained
        tested += patients
    assert len(set(tested)) == 100
    assert of_fold(str(out), 0) == str(out / "datalist.json")
    assert capsys.readouterr().out.count("training: 160 volumes of 80 patients") == 5


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
    options: dict[str, Any] = {"source": str(download / "database"), "scribbles": str(broken), "split": "half35"}
    with pytest.raises(UserError, match=rf"^{re.escape(str(spoiled))}: cannot be read"):
        main("acdc", output=str(tmp_path / "new"), check=True, **options)
    assert not (tmp_path / "new").exists()


def test_unknown_data_set(tmp_path: Path) -> None:
    known = "acdc, lvsc, chaos_t1, chaos_t2, ppss, mnist, les_av, mscmr, cityscapes"
    with pytest.raises(UserError, match=rf'^unknown data set "emnist"; the known ones are {known}$'):
        main("emnist", source=str(tmp_path), scribbles=str(tmp_path), output=str(tmp_path))


@pytest.mark.parametrize(
    ("dataset", "training", "unlabelled", "others"),
    [
        ("lvsc", "2 volumes of 1 patients", "1 volumes of 1 patients", "2 volumes of 1 patients"),
        ("chaos_t1", "1 volumes of 1 patients", "1 volumes of 1 patients", "1 volumes of 1 patients"),
        ("chaos_t2", "1 volumes of 1 patients", "1 volumes of 1 patients", "1 volumes of 1 patients"),
        ("ppss", "4 pictures of 2 cameras", "4 pictures of 2 cameras", "2 pictures of 1 cameras"),
    ],
)
def test_data_sets_with_drawn_scribbles(
    dataset: str,
    training: str,
    unlabelled: str,
    others: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree = request.getfixturevalue(f"{dataset.partition('_')[0]}_tree")
    main(dataset, source=str(tree), output=str(tmp_path / "out"), seed=4, check=True)
    path = tmp_path / "out" / "datalist.json"
    assert capsys.readouterr().out == (
        f"{path}: split maag, seed 4\n"
        f"  training: {training}\n"
        f"  unpaired_masks: {others}\n"
        f"  unlabelled: {unlabelled}\n"
        f"  validation: {others}\n"
        f"  test: {training if dataset == 'ppss' else others}\n"
    )
    content = json.loads(path.read_text())
    assert list(content)[:2] == ["name", "description"]
    assert datalist_info(path)["num_classes"] == len(content["class_names"])
    assert "seed 4" in content["description"]
    assert all(not os.path.isabs(item["image"]) for item in content["training"])
    for section in ("training", "unpaired_masks", "unlabelled", "validation", "test"):
        assert len(load_datalist(path, section)) == len(content[section])
    assert not [file for file in path.parent.rglob(".*") if file.is_file()]  # no temporary file is left


def printed_counts(text: str) -> list[str]:
    """What is said of the sections training, validation and test."""
    return re.findall(r"^  (?:training|validation|test): (.*)$", text, re.MULTILINE)


def test_mscmr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = np.arange(4, dtype=np.uint16).reshape(2, 2, 1).repeat(3, axis=0)
    for part, number, suffix in (("train", 5, "_scribble"), ("val", 1, "_manual")):
        labels = np.where(np.arange(6)[:, None, None] < 4, 4, mask) if part == "train" else mask
        labels[0, 0] = 0
        for folder, ending, voxels in (("images", "", mask), ("labels", suffix, labels.astype(np.uint16))):
            file = tmp_path / "in" / part / folder / f"subject{number}_DE{ending}.nii.gz"
            file.parent.mkdir(parents=True)
            nib.save(nib.Nifti1Image(voxels, np.eye(4)), file)
    main("mscmr", source=str(tmp_path / "in"), output=str(tmp_path / "out"), check=True)
    text = capsys.readouterr().out
    assert text.startswith(f"{tmp_path / 'out' / 'datalist.json'}: split published\n")
    assert printed_counts(text) == ["1 volumes of 1 patients"] * 2 + ["0 volumes of 0 patients"]
    assert len(load_datalist(tmp_path / "out" / "datalist.json", "unlabelled")) == 1
    nib.save(nib.Nifti1Image(voxels + 4, np.eye(4)), file)
    with pytest.raises(UserError, match=r"subject1_DE_manual\.nii\.gz: unknown label value"):
        main("mscmr", source=str(tmp_path / "in"), output=str(tmp_path / "out"), check=True)


@pytest.mark.parametrize("form", ["simulated", "polygons"])
def test_cityscapes(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = np.tile(np.arange(34, dtype=np.uint8), (4, 1))  # of which 15 are no classes, so not annotated
    for part, city in (("train", "aachen"), ("train", "bochum"), ("train", "ulm"), ("val", "lindau")):
        for kind in ("leftImg8bit", "gtFine_labelIds", "gtCoarse_labelIds"):
            file = tmp_path / "in" / kind.partition("_")[0] / part / city / f"{city}_000000_000019_{kind}.png"
            file.parent.mkdir(parents=True)
            Image.fromarray(numbers).save(file)
    options: dict[str, Any] = {"source": str(tmp_path / "in"), "output": str(tmp_path / "out"), "form": form}
    main("cityscapes", check=True, **options)
    text = capsys.readouterr().out
    assert text.startswith(f"{tmp_path / 'out' / 'datalist.json'}: split aachen\n")
    assert printed_counts(text) == ["1 pictures"] * 3
    item = json.loads((tmp_path / "out" / "datalist.json").read_text())["training"][0]
    folder = {"simulated": "masks", "polygons": "drawings"}[form]
    assert item["label"] == f"{folder}/aachen_000000_000019.png"
    main("cityscapes", split="all", **options)
    assert printed_counts(capsys.readouterr().out) == ["2 pictures", "1 pictures", "1 pictures"]


def test_real_mnist_les_av_and_mscmr(data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = {
        "mnist": ("drawn, seed 0", ["600 digits", "200 digits"]),
        "les_av": ("committed", ["14 photographs", "4 photographs"]),
        "mscmr": ("published", ["25 volumes of 25 patients", "5 volumes of 5 patients"]),
    }
    for dataset, (split, counts) in expected.items():
        path = tmp_path / dataset / "datalist.json"
        main(dataset, source=str(data_root / dataset), output=str(path.parent), check=dataset == "mscmr")
        text = capsys.readouterr().out
        assert text.startswith(f"{path}: split {split}\n")
        assert printed_counts(text)[:2] == counts
        assert len(load_datalist(path, "training")) == int(counts[0].split()[0])


def test_forms_of_scribbles(chaos_tree: Path, lvsc_tree: Path, tmp_path: Path) -> None:
    main("chaos_t1", source=str(chaos_tree), output=str(tmp_path / "chaos"), form="thick")
    assert "skeletons (thick)" in json.loads((tmp_path / "chaos" / "datalist.json").read_text())["description"]
    main("lvsc", source=str(lvsc_tree), output=str(tmp_path / "lvsc"), form="king")
    assert "random walks (king)" in json.loads((tmp_path / "lvsc" / "datalist.json").read_text())["description"]


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        ("acdc", {}, "acdc needs --scribbles, the folder of the *_scribble.nii.gz files"),
        ("acdc", {"form": "diag"}, "acdc has no --form; its options are --source, --output, --scribbles, --split"),
        ("lvsc", {"scribbles": "x"}, "lvsc has no --scribbles; its options are --source, --output, --form, --seed"),
        ("ppss", {"split": "maag"}, "ppss has no --split; its options are --source, --output, --form, --seed"),
        ("mnist", {"split": "x"}, "mnist has no --split; its options are --source, --output, --form, --seed"),
        ("mnist", {"form": "x"}, 'unknown form "x" of MNIST pictures; choose one of noisy, clean'),
        ("les_av", {"form": "x"}, "les_av has no --form; its options are --source, --output"),
        ("mscmr", {"split": "x"}, "mscmr has no --split; its options are --source, --output"),
        ("cityscapes", {"split": "x"}, 'unknown Cityscapes split "x"; choose one of aachen, all'),
        ("lvsc", {"seed": -1}, "--seed is -1; give a number from 0 on"),
        ("lvsc", {"seed": "x"}, "--seed is 'x'; give a number from 0 on"),
        ("lvsc", {"form": "x"}, 'unknown form "x" of LVSC scribbles; choose one of diag, four, king, v2'),
        ("chaos_t2", {"split": "x"}, 'unknown CHAOS split "x"; choose one of maag, attenscribble_fold1'),
    ],
)
def test_options_that_do_not_fit(dataset: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        main(dataset, source=str(tmp_path), output=str(tmp_path / "out"), **options)
    assert not (tmp_path / "out").exists()


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
