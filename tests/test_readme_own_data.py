"""The README's "Own data in ten minutes": its commands are taken from the page and run, word for word."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import forked_programs
import nibabel as nib
import numpy as np
import pytest
import SimpleITK

CLASSES = ("background", "RV", "MYO", "LV")
DRAWN = ("p01", "p02")
DENSE = ("p07", "p08")


@pytest.fixture(scope="module")
def section(repo_root: Path) -> str:
    page = (repo_root / "README.md").read_text(encoding="utf-8")
    return page.partition("## Own data in ten minutes\n")[2].partition("\n## ")[0]


@pytest.fixture(scope="module")
def workplace(repo_root: Path, phantom_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundles, and made-up hearts in the files that the section asks for.

    Two patients have strokes as 3D Slicer saves them, two have dense masks, and one has neither. Of each volume
    there are two slices, of 128 x 128 pixels about the heart.
    """
    root = tmp_path_factory.mktemp("workplace")
    (root / "bundles").symlink_to(repo_root / "bundles")
    for folder in ("images", "drawn", "masks"):
        (root / "my_data" / folder).mkdir(parents=True)
    made = sorted(path for path in phantom_dir.glob("*/*_frame01.nii.gz"))
    names = (*DRAWN, *DENSE, "p09")
    for name, path in zip(names, made[: len(names)], strict=True):
        mask = nib.load(str(path).replace(".nii", "_gt.nii"))
        middle = np.argwhere(mask.get_fdata() > 0).mean(0).astype(int)
        start = [int(np.clip(middle[axis] - 64, 0, mask.shape[axis] - 128)) for axis in (0, 1)]
        box = (*(slice(first, first + 128) for first in start), slice(middle[2], middle[2] + 2))
        cut = nib.load(path).slicer[box]
        nib.save(cut, root / "my_data" / "images" / f"{name}.nii.gz")
        if name in DENSE:
            nib.save(mask.slicer[box], root / "my_data" / "masks" / f"{name}.nii.gz")
        if name in DRAWN:
            strokes = np.asarray(nib.load(str(path).replace(".nii", "_scribble.nii")).slicer[box].dataobj)
            save_segmentation(root / "my_data" / "drawn" / f"{name}.seg.nrrd", strokes, cut.affine)
    return root


def save_segmentation(path: Path, strokes: np.ndarray, affine: np.ndarray) -> None:
    """Write strokes as 3D Slicer does: 0 is not annotated, the segments' values follow no order of the classes."""
    values = {"LV": 1, "bg_scribble": 2, "RV": 3, "MYO": 4}
    stored = np.zeros(strokes.shape, np.uint8)
    image_affine = np.diag([-1.0, -1, 1, 1]) @ affine
    for name, value in values.items():
        stored[strokes == (0 if name == "bg_scribble" else CLASSES.index(name))] = value
    image = SimpleITK.GetImageFromArray(stored.T)
    spacing = np.linalg.norm(image_affine[:3, :3], axis=0)
    image.SetSpacing(spacing)
    image.SetDirection((image_affine[:3, :3] / spacing).ravel())
    image.SetOrigin(image_affine[:3, 3])
    for number, (name, value) in enumerate(values.items()):
        fields = {"ID": f"Segment_{number}", "Name": name, "LabelValue": str(value), "Layer": "0"}
        for field, text in fields.items():
            image.SetMetaData(f"Segment{number}_{field}", text)
    SimpleITK.WriteImage(image, str(path), useCompression=True)


def run(commands: list[list[str]], folder: Path) -> str:
    told = ""
    for words in commands:
        done = forked_programs.run(words[1:], cwd=folder, timeout=600)
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        told += done.stdout
    return told


def test_from_files_to_segmentations(section: str, workplace: Path) -> None:
    blocks = [block.replace("\\\n", " ") for block in re.findall(r"```bash\n(.*?)```", section, re.DOTALL)]
    first, second = (
        [words for line in block.splitlines() if (words := shlex.split(line, comments=True))] for block in blocks
    )
    assert (len(first), len(second)) == (2, 7)
    assert {tuple(words[:2]) for words in (*first, *second)} == {("python", "-m")}

    run(first, workplace)
    data = workplace / "my_data"
    for name in DRAWN:
        strokes = np.asarray(nib.load(data / "scribbles" / f"{name}_scribble.nii.gz").dataobj)
        assert np.unique(strokes).tolist() == [0, 1, 2, 3, 4]
    assert len(list((data / "simulated").glob("*_scribble.nii.gz"))) == len(DENSE)

    told = run(second, workplace)
    content = json.loads((workplace / "data" / "own" / "datalist.json").read_text())
    listed = {name: [item["case"] for item in content[name]] for name in ("training", "unlabelled")}
    assert listed == {"training": list(DRAWN), "unlabelled": ["p09"]}
    assert sorted(content[name][0]["case"] for name in ("validation", "test")) == list(DENSE)
    assert (content["num_classes"], content["class_names"]) == (4, list(CLASSES))
    assert "5 items: 5 without problems, 0 with" in told

    for folder in ("evaluation", "scores"):
        with (workplace / "runs" / "own" / folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [(row["case"], row["class_name"]) for row in rows] == [
            (content["test"][0]["case"], name) for name in CLASSES[1:]
        ]
    page = (workplace / "runs" / "own" / "report.html").read_text(encoding="utf-8")
    assert content["test"][0]["case"] in page
    assert "data:image/png" in page
    remembered = json.loads((workplace / "runs" / "own" / "model.json").read_text())
    assert remembered["training"]["class_names"] == list(CLASSES)
    for image in (data / "images").iterdir():
        found = nib.load(workplace / "runs" / "own" / "predictions" / image.name.replace(".nii", "_seg.nii"))
        np.testing.assert_allclose(found.affine, nib.load(image).affine, atol=1e-4)
        assert found.shape == nib.load(image).shape
        assert set(np.unique(found.dataobj)) <= {0, 1, 2, 3}


def test_the_words_that_the_page_explains_are_those_of_the_commands(section: str) -> None:
    """The files that the section shows are those that its commands name."""
    shown = set(re.findall(r"^(my_data/\w+)/", section, re.MULTILINE))
    assert shown == {"my_data/images", "my_data/drawn", "my_data/masks"}
    used = set(re.findall(r"--(?:images|labels|masks|input) (my_data/\w+)", section))
    assert used == shown | {"my_data/scribbles"}
    assert "--output my_data/scribbles" in section
