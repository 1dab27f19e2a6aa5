"""Segmenting image by image with a bundle's configuration: equal to the bundle's own run, and clear about mistakes."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from monai.bundle import ConfigParser, create_workflow
from PIL import Image

from common.engines.bundle_predictor import BundlePredictor, reason_of
from common.errors import UserError
from common.model_settings import write_settings

REPO_ROOT = Path(__file__).resolve().parents[3]
BUNDLES = sorted(path.name for path in (REPO_ROOT / "bundles").iterdir() if (path / "configs").is_dir())
SMALL = {"pixdim": [4.0, 4.0], "roi_size": [48, 48], "filters": 4, "device": "cpu"}


def config_of(bundle: str) -> Path:
    return REPO_ROOT / "bundles" / bundle / "configs" / "inference.json"


def tiny(bundle: str, folder: Path) -> dict[str, Any]:
    """Options that make a bundle small, with random weights, biased so that every class is predicted somewhere."""
    parser = ConfigParser(ConfigParser.load_config_file(config_of(bundle)))
    parser.update(SMALL)
    torch.manual_seed(3)
    network = parser.get_parsed_content("network_def").eval()
    heads = [each for each in network.modules() if isinstance(each, torch.nn.Conv2d) and each.out_channels == 4]
    with torch.no_grad():
        for _ in range(3):
            shift = network(torch.randn(4, 1, 48, 48)).mean(dim=(0, 2, 3))
            for head in heads:
                if head.bias is not None:
                    head.bias -= shift
    path = folder / f"{bundle}.pt"
    torch.save(network.state_dict(), path)
    return {**SMALL, "weights": str(path)}


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tiny("maag", tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def scans(phantom_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A NIfTI, an NRRD and a PNG file."""
    folder = tmp_path_factory.mktemp("scans")
    volume = nib.load(phantom_dir / "patient001" / "patient001_frame01.nii.gz")
    nib.save(volume.slicer[20:140, 10:141, :3], folder / "a.nii.gz")
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(folder / "a.nii.gz")), folder / "b.nrrd")
    grey = np.random.default_rng(0).integers(0, 255, (61, 70)).astype(np.uint8)
    Image.fromarray(grey).save(folder / "c.png")
    return folder


@pytest.mark.parametrize("bundle", BUNDLES)
def test_label_maps_are_those_of_the_bundles_own_run(bundle: str, scans: Path, tmp_path: Path) -> None:
    settings = tiny(bundle, tmp_path)
    predictor = BundlePredictor([config_of(bundle)], overrides=settings)
    made = {}
    for image in sorted(scans.iterdir()):
        (tmp_path / image.stem).mkdir()
        made[image.name] = predictor.segment(image, tmp_path / image.stem)
    create_workflow(
        config_file=str(config_of(bundle)),
        workflow_type="infer",
        logging_file=False,
        dataset_dir=str(scans),
        output_dir=str(tmp_path / "run"),
        **settings,
    ).run()
    assert sorted(path.name for path in made.values()) == sorted(path.name for path in (tmp_path / "run").iterdir())
    for path in made.values():
        assert path.read_bytes() == (tmp_path / "run" / path.name).read_bytes()
    assert len(np.unique(nib.load(made["a.nii.gz"]).dataobj)) > 1


def test_what_a_bundle_tells(options: dict[str, Any]) -> None:
    predictor = BundlePredictor([config_of("maag")], overrides=options)
    assert predictor.name == "MAAG cardiac scribble segmentation"
    assert (predictor.version, predictor.num_classes) == ("0.1.0", 4)
    assert predictor.class_names() == ["background", "RV", "MYO", "LV"]
    assert predictor.class_names(["bg", "a", "b", "c"]) == ["bg", "a", "b", "c"]
    assert predictor.exclude is None
    with pytest.raises(UserError, match=r"--class_names names 2 classes, bg, a; the network has 4"):
        predictor.class_names(["bg", "a"])


def test_settings_digest_changes_with_what_changes_the_label_maps(options: dict[str, Any], tmp_path: Path) -> None:
    def digest(**changes: Any) -> str:
        return BundlePredictor([config_of("maag")], overrides=options | changes).settings_digest

    content = torch.load(options["weights"], weights_only=True)
    torch.save(content, tmp_path / "copy.pt")
    before = digest()
    assert before == digest(weights=options["weights"]) == digest(exclude=["_x"])
    assert before != digest(pixdim=[3.0, 4.0])
    assert before != digest(preset="paper")
    content[next(iter(content))] += 1
    torch.save(content, tmp_path / "other.pt")
    assert before != digest(weights=str(tmp_path / "other.pt"))


def test_settings_of_the_weights_count_and_change_the_digest(options: dict[str, Any], tmp_path: Path) -> None:
    weights = str(shutil.copy(options["weights"], tmp_path / "model.pt"))
    remembered = {key: value for key, value in options.items() if key in ("pixdim", "roi_size", "filters")}
    digests = []
    for changes in ({}, {"clip_percentiles": [1.0, 98.0]}, {}):
        write_settings(weights, remembered | changes, {"seed": len(digests)})
        digests.append(BundlePredictor([config_of("maag")], overrides={"weights": weights}).settings_digest)
    assert digests[0] == digests[2] != digests[1]
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(UserError, match=r"model\.json: cannot be read as the settings of the weights"):
        BundlePredictor([config_of("maag")], overrides={"weights": weights})


def test_a_preset_yields_to_what_is_set_by_hand(options: dict[str, Any]) -> None:
    settings = options | {"preset": "paper", "clip_percentiles": [1.0, 98.0]}
    predictor = BundlePredictor([config_of("maag")], overrides=settings)
    assert predictor._parser["clip_percentiles"] == [1.0, 98.0]
    predictor = BundlePredictor([config_of("maag")], overrides=options | {"preset": "paper"})
    assert predictor._parser["clip_percentiles"] == [0.0, 100.0]


def test_weights_remember_the_names_of_their_classes(options: dict[str, Any], tmp_path: Path) -> None:
    weights = str(shutil.copy(options["weights"], tmp_path / "model.pt"))
    names = ["background", "liver", "spleen", "kidney"]

    def told(given: list[str] | None = None, **training: Any) -> list[str]:
        write_settings(weights, {}, training)
        settings = options | {"weights": weights}
        return BundlePredictor([config_of("maag")], overrides=settings).class_names(given)

    assert told(class_names=names) == names
    assert told(names[::-1], class_names=names) == names[::-1]
    assert told(class_names=", ".join(names)) == names
    assert told(seed=1) == ["background", "RV", "MYO", "LV"]
    assert told(class_names=names[:3]) == ["background", "class 1", "class 2", "class 3"]


def test_a_copy_of_a_bundle_has_weights_of_its_own(tmp_path: Path) -> None:
    configs = shutil.copytree(config_of("maag").parent, tmp_path / "mine" / "configs")
    small = tiny("maag", tmp_path)
    weights = tmp_path / "mine" / "models" / "model.pt"
    weights.parent.mkdir()
    shutil.copy(small.pop("weights"), weights)
    predictor = BundlePredictor([configs / "inference.json"], overrides=small)
    assert predictor.weights == str(weights)
    other = BundlePredictor([configs / "inference.json"], overrides=small | {"bundle_root": str(weights.parents[1])})
    assert other.settings_digest == predictor.settings_digest


def test_other_numbers_of_classes_have_numbers_for_names(tmp_path: Path) -> None:
    parser = ConfigParser(ConfigParser.load_config_file(config_of("dmpls")))
    parser.update({**SMALL, "num_classes": 3})
    torch.save(parser.get_parsed_content("network_def").state_dict(), tmp_path / "x.pt")
    settings = {**SMALL, "num_classes": 3, "weights": str(tmp_path / "x.pt")}
    assert BundlePredictor([config_of("dmpls")], overrides=settings).class_names() == [
        "background",
        "class 1",
        "class 2",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filter": 4}, r"--filter: unknown key; did you mean --filters\?"),
        ({"output_dir": "x"}, r"--output_dir: is of no use here"),
        ({"filters": 8}, r"\.pt: the weights do not fit the network"),
        ({"weights": "/nowhere.pt"}, r"/nowhere\.pt: no such weights"),
        ({"preset": "odd"}, r"preset: no preset 'odd'"),
        ({"amp": "perhaps"}, r"--amp: must be true or false"),
        ({"device": "mars"}, r"^--device: PyTorch finds no device 'mars' here; give cpu, cuda or cuda:1"),
        ({"normalisation": "odd"}, r"normalisation|odd"),
    ],
)
def test_options_that_do_not_work(options: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        BundlePredictor([config_of("maag")], overrides=options | changes)
    assert "\n" not in str(caught.value)


def test_configurations_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "inference.json"
    with pytest.raises(UserError, match=r"inference\.json: no such configuration"):
        BundlePredictor([path])
    path.write_text("{")
    with pytest.raises(UserError, match=r"inference\.json: is no configuration"):
        BundlePredictor([path])
    path.write_text(json.dumps({"network_def": 1}))
    with pytest.raises(UserError, match=r"inference\.json: has no key evaluator"):
        BundlePredictor([path])
    (tmp_path / "metadata.json").write_text("[]")
    with pytest.raises(UserError, match=r"metadata\.json: is no bundle's metadata"):
        BundlePredictor([path])


def test_it_goes_on_after_an_error_and_loads_the_network_once(
    options: dict[str, Any], scans: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    predictor = BundlePredictor([config_of("maag")], overrides=options)
    network = predictor._parser.get_parsed_content("network")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first = predictor.segment(scans / "a.nii.gz", tmp_path / "first").read_bytes()

    volume = nib.load(scans / "a.nii.gz")
    values = volume.get_fdata()
    values[0, 0, 0] = np.nan
    nib.save(nib.Nifti1Image(values, volume.affine), tmp_path / "nan.nii.gz")
    with pytest.raises(UserError, match=r"nan\.nii\.gz: holds 1 NaN or infinite voxels"):
        predictor.segment(tmp_path / "nan.nii.gz", tmp_path / "second")

    good, predictor._writer.output_postfix = predictor._writer.output_postfix, "\0"  # no file can be called so
    capfd.readouterr()
    with pytest.raises(Exception) as caught:  # noqa: PT011
        predictor.segment(scans / "a.nii.gz", tmp_path / "second")
    assert "null byte" in reason_of(caught.value) or "null" in reason_of(caught.value)
    assert capfd.readouterr() == ("", "")
    assert logging.root.manager.disable == 0
    predictor._writer.output_postfix = good

    assert list((tmp_path / "second").iterdir()) == []
    assert predictor.segment(scans / "a.nii.gz", tmp_path / "second").read_bytes() == first
    assert predictor._parser.get_parsed_content("network") is network


def test_reasons_are_the_innermost_ones() -> None:
    def raised(inner: Exception) -> Exception:
        try:
            try:
                raise inner
            except Exception as error:
                raise RuntimeError("applying transform X") from error
        except RuntimeError as error:
            return error

    assert reason_of(raised(UserError("x.nii: bad; mend it"))) == "x.nii: bad; mend it"
    assert reason_of(raised(KeyError("lost\nhere"))) == r"KeyError: 'lost\nhere'"
    assert reason_of(MemoryError()) == "MemoryError"
