"""Bundles in the real MONAI Label server: listed, run, scored, and set up for other classes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from label_server import REPO_ROOT, LabelServer, app_with, label_python, label_server

pytestmark = pytest.mark.ecosystem

BUNDLES = sorted(path.parents[1].name for path in (REPO_ROOT / "bundles").glob("*/models/model.pt"))
HEART = {"rv": 1, "myo": 2, "lv": 3}  # MONAI Label writes names in lower case, and leaves the background out
ACDC = "acdc/training/patient*/patient*_frame01.nii.gz"
each_bundle = pytest.mark.parametrize("bundle", BUNDLES)


@pytest.fixture(scope="module")
def images(phantom_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hearts on grids that nobody expects: other orders and directions of the axes, oblique, of odd sizes."""
    folder = tmp_path_factory.mktemp("images")
    made = sorted(phantom_dir.glob("*/*_frame01.nii.gz"))
    for name, path, codes, angle, slices in (("pir", made[0], "PIR", 0.0, 5), ("oblique", made[1], "LAS", 0.35, 3)):
        cut = nib.load(path).slicer[3:136, 7:124, :slices]
        turned = cut.as_reoriented(
            nib.orientations.ornt_transform(nib.io_orientation(cut.affine), nib.orientations.axcodes2ornt(codes))
        )
        turn = np.eye(4)
        turn[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        nib.save(nib.Nifti1Image(np.asarray(turned.dataobj), turn @ turned.affine), folder / f"{name}.nii.gz")
    if os.environ.get("SCRIBBLE_DATA_ROOT"):
        (folder / "acdc.nii.gz").symlink_to(real_heart(Path(os.environ["SCRIBBLE_DATA_ROOT"])))
    return folder


def real_heart(data_root: Path) -> Path:
    return max(data_root.resolve().glob(ACDC))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return app_with(tmp_path_factory.mktemp("app"), BUNDLES)


@pytest.fixture(scope="module")
def server(app: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelServer]:
    studies = tmp_path_factory.mktemp("studies")
    for path in images.iterdir():
        (studies / path.name).write_bytes(path.read_bytes())
    blank = nib.load(images / "pir.nii.gz")
    nib.save(nib.Nifti1Image(np.full(blank.shape, 7, np.int16), blank.affine), studies / "blank.nii.gz")
    for number, bundle in enumerate(BUNDLES):  # a score is computed once for a date of the weights
        os.utime(app / "model" / bundle / "models" / "model.pt", (1e9 + number, 1e9 + number))
    conf = {"epistemic_model": ",".join(BUNDLES), "epistemic_simulation_size": "2"}
    # scoring starts by itself otherwise, whenever it likes
    with label_server(
        app, studies, BUNDLES, conf=conf, variables={"MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
    ) as running:
        yield running


def label_map(server: LabelServer, model: str, image: str, folder: Path) -> nib.Nifti1Image:
    path = folder / f"{model}_{image}.nii.gz"
    path.write_bytes(server.post(f"infer/{model}", image=image, output="image").content)
    return nib.load(path)


def run_of_monai(app: Path, bundle: str, images: Path, output: Path) -> None:
    """``monai.bundle run`` of an installed bundle, in MONAI Label's environment, where the project is not."""
    root = app / "model" / bundle
    command = [str(label_python()), "-W", "ignore", "-m", "monai.bundle", "run"]
    command += ["--config_file", "configs/inference.json", "--dataset_dir", str(images), "--output_dir", str(output)]
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_server_lists_every_bundle_with_its_labels(server: LabelServer) -> None:
    assert len(BUNDLES) >= 5
    info = server.get("info").json()
    models = info["models"]
    assert {name: (model["type"], model["labels"]) for name, model in models.items()} == {
        name: ("segmentation", HEART) for name in BUNDLES
    }
    assert sorted(info["trainers"]) == sorted(info["scoring"]) == BUNDLES
    assert info["labels"] == list(HEART)
    assert all(model["config"]["model_filename"] == ["model.pt"] for model in models.values())


@each_bundle
def test_infer_gives_what_a_run_of_the_bundle_gives(
    bundle: str, server: LabelServer, app: Path, images: Path, tmp_path: Path
) -> None:
    run_of_monai(app, bundle, images, tmp_path / "run")
    found = set()
    for path in sorted(images.iterdir()):
        name = path.name.removesuffix(".nii.gz")
        image, expected = nib.load(path), nib.load(tmp_path / "run" / f"{name}_seg.nii.gz")
        answer = label_map(server, bundle, name, tmp_path)
        assert answer.shape == expected.shape == image.shape
        np.testing.assert_allclose(answer.affine, image.affine, atol=1e-4)
        np.testing.assert_allclose(expected.affine, image.affine, atol=1e-4)
        assert np.array_equal(np.asarray(answer.dataobj), np.asarray(expected.dataobj)), name
        found |= set(np.unique(np.asarray(answer.dataobj)).tolist())
    assert found == {0, 1, 2, 3}


def test_a_real_heart(server: LabelServer, data_root: Path, tmp_path: Path) -> None:
    answer = np.asarray(label_map(server, "maag", "acdc", tmp_path).dataobj)
    mask = np.asarray(nib.load(str(real_heart(data_root)).replace(".nii", "_gt.nii")).dataobj)
    dice = [2 * ((answer == c) & (mask == c)).sum() / ((answer == c).sum() + (mask == c).sum()) for c in (1, 2, 3)]
    print("Dice of RV, MYO, LV:", np.round(dice, 4))
    assert np.mean(dice) > 0.5


@each_bundle
def test_an_image_of_one_value_gets_a_label_map_on_its_grid(bundle: str, server: LabelServer, tmp_path: Path) -> None:
    answer = label_map(server, bundle, "blank", tmp_path)
    assert answer.shape == label_map(server, bundle, "pir", tmp_path).shape
    assert set(np.unique(np.asarray(answer.dataobj)).tolist()) <= {0, 1, 2, 3}


def entropies(server: LabelServer) -> dict[str, float]:
    content = json.loads(server.get("datastore", output="all").text)
    return {name: entry["image"]["info"]["epistemic_entropy"] for name, entry in content["objects"].items()}


@each_bundle
def test_a_scoring_run_ranks_the_images(bundle: str, server: LabelServer) -> None:
    summary = server.post(f"scoring/{bundle}", run_sync="true").json()
    scores = entropies(server)
    assert (summary["executed"], summary["skipped"]) == (len(scores), 0)
    # the entropy of four probabilities lies between 0 and log 4; that of label maps would mean nothing
    assert all(0 < score < math.log(4) for score in scores.values()), scores
    assert len(set(scores.values())) == len(scores)
    command = [sys.executable, "-W", "ignore", "-m", "tools", "label", "rank", str(server.studies)]
    told = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[1] for line in told[:-1]] == sorted(scores, key=lambda name: -scores[name])
    # the same weights need no second look
    assert server.post(f"scoring/{bundle}", run_sync="true").json()["skipped"] == len(scores)


def test_next_samples_are_unlabelled_images(server: LabelServer) -> None:
    """The app of 0.8.5 offers no strategy that reads the scores, which is why there is ``label rank``."""
    assert sorted(server.get("info").json()["strategies"]) == ["first", "random"]
    unlabelled = sorted(entropies(server))
    assert server.post("activelearning/first", body={}).json()["id"] == unlabelled[0]
    assert server.post("activelearning/random", body={}).json()["id"] in unlabelled


def test_fresh_weights_and_other_classes_appear_and_run(
    images: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    app = app_with(tmp_path, ["cyclemix"], "--class_names", "background,Spleen,tumour")
    other = app_with(tmp_path_factory.mktemp("other"), ["maag"]) / "model" / "maag"
    command = [sys.executable, "-W", "ignore", "-m", "tools", "label", "init", str(other), "--seed", "3", "--force"]
    subprocess.run(command, cwd=REPO_ROOT, check=True)
    other.rename(app / "model" / "maag")
    studies = tmp_path / "studies"
    studies.mkdir()
    (studies / "pir.nii.gz").write_bytes((images / "pir.nii.gz").read_bytes())
    with label_server(app, studies, ["cyclemix", "maag"]) as server:
        models = server.get("info").json()["models"]
        assert models["cyclemix"]["labels"] == {"spleen": 1, "tumour": 2}
        assert models["maag"]["labels"] == HEART
        for name, classes in (("cyclemix", 3), ("maag", 4)):
            assert "untrained" in models[name]["description"]
            answer = np.asarray(label_map(server, name, "pir", tmp_path).dataobj)
            assert answer.shape == nib.load(images / "pir.nii.gz").shape
            assert set(np.unique(answer).tolist()) <= set(range(classes))
        assert "don't match" not in server.log()
