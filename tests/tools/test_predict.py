"""``python -m tools predict``: files and DICOM series in, label maps and DICOM SEG objects out."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
import torch
from monai.bundle import ConfigParser

from common.data.dicom_series import sort_series
from common.data.series_conversion import convert_series
from common.engines.bundle_predictor import BundlePredictor
from tools.__main__ import main as program

REPO_ROOT = Path(__file__).resolve().parents[2]
BUNDLE = REPO_ROOT / "bundles" / "dmpls"
SMALL = {"pixdim": [4.0, 4.0], "roi_size": [32, 32], "filters": 4, "device": "cpu"}
SHAPE = (44, 40)  # rows, columns
Predict = Callable[..., int]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, biased so that every class is predicted somewhere."""
    parser = ConfigParser(ConfigParser.load_config_file(BUNDLE / "configs" / "inference.json"))
    parser.update(SMALL)
    torch.manual_seed(3)
    network = parser.get_parsed_content("network_def")
    with torch.no_grad():
        for _ in range(20):
            network(torch.rand(8, 1, 32, 32))  # for the statistics of its normalisations
    network.eval()
    heads = [each for each in network.modules() if isinstance(each, torch.nn.Conv2d) and each.out_channels == 4]
    with torch.no_grad():
        for _ in range(3):
            shift = network(torch.rand(8, 1, 32, 32)).mean(dim=(0, 2, 3))
            for head in heads:
                head.bias -= shift
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def predict(tmp_path: Path, weights: Path) -> Predict:
    """The command with the small bundle, from ``in`` to ``out``; gives its exit status."""

    def run(**options: Any) -> int:
        given = {"bundle": BUNDLE, "input": tmp_path / "in", "output": tmp_path / "out", "weights": weights}
        words = [f"--{key}={value}" for key, value in {**SMALL, **given, **options}.items() if value is not None]
        return program(["predict", *[word.replace(" ", "") if "[" in word else word for word in words]])

    return run


def volume(seed: int = 0, shape: tuple[int, ...] = (40, 44, 3)) -> nib.Nifti1Image:
    values = np.random.default_rng(seed).integers(0, 900, shape).astype(np.int16)
    return nib.Nifti1Image(values, np.diag([1.25, 1.5, 8.0, 1.0]))


def save(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(volume(seed), path)
    return path


def write_series(
    folder: Path, writer: Callable[..., None], heights: list[float], uid: str = "1.2.3", **tags: Any
) -> None:
    """Write oblique slices whose file names run against their places."""
    rng = np.random.default_rng(len(uid))
    for index, height in enumerate(heights):
        path = folder / f"{uid}_{9 - index}.dcm"
        writer(path, rng.integers(0, 900, SHAPE).astype(np.uint16), number=height, spacing=8.0, series=uid)
        header = pydicom.dcmread(path)
        for tag, value in ({"FrameOfReferenceUID": "1.2.9", "StudyInstanceUID": "1.2.8"} | tags).items():
            setattr(header, tag, value)
        header.save_as(path)


def results(folder: Path) -> list[str]:
    """All files below a folder, hidden ones included, without the record."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(set(path.relative_to(folder).as_posix() for path in files) - {"predictions.json"})


def seconds_aside(text: str) -> str:
    return re.sub(r"\d+\.\d+ s", "N s", text)


def test_files_of_a_folder(predict: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Equally named files of two folders, another format, and label files that are left out."""
    for name in ("p1/t2.nii.gz", "p 2/t2.nii.gz", "p1/t2_gt.nii.gz"):
        save(tmp_path / "in" / name, seed=len(name))
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(tmp_path / "in" / "p1" / "t2.nii.gz")), tmp_path / "in" / "x.nrrd")
    assert predict() == 0
    assert results(tmp_path / "out") == ["p 2/t2_seg.nii.gz", "p1/t2_seg.nii.gz", "x_seg.nii.gz"]
    first, same = (nib.load(tmp_path / "out" / name) for name in ("p1/t2_seg.nii.gz", "x_seg.nii.gz"))
    assert (first.shape, first.get_data_dtype()) == ((40, 44, 3), np.uint8)
    np.testing.assert_allclose(first.affine, volume().affine)
    assert set(np.unique(first.dataobj)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(np.asarray(first.dataobj), np.asarray(same.dataobj))
    out, err = capsys.readouterr()
    line = f"{tmp_path}/out: segmented 3 in N s, N s each; 0 were there already; 0 failed\n"
    assert (seconds_aside(out), err) == (line, "")
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert (record["bundle"], record["class_names"][1:]) == ("DMPLS cardiac scribble segmentation", ["RV", "MYO", "LV"])
    assert record["cases"]["x"]["source"] == str(tmp_path / "in" / "x.nrrd")


def test_a_dicom_series(predict: Predict, tmp_path: Path, dicom_writer: Callable[..., None]) -> None:
    """The NIfTI is what the bundle makes of the converted series; the SEG object holds the same on its slices."""
    folder = tmp_path / "in"
    write_series(folder, dicom_writer, [2, 0, 3, 1], PatientName="Doe^Jane", SeriesNumber=5)
    assert predict() == 0
    assert results(tmp_path / "out") == ["in_seg.dcm", "in_seg.nii.gz"]
    slices = sort_series(sorted(folder.iterdir()), "x")
    converted = convert_series({"image": slices}, tmp_path / "converted")["image"]
    label_map = nib.load(tmp_path / "out" / "in_seg.nii.gz")
    labels = np.asarray(label_map.dataobj)
    np.testing.assert_allclose(label_map.affine, nib.load(converted).affine, atol=1e-5)
    assert predict(input=converted, output=tmp_path / "again") == 0
    np.testing.assert_array_equal(labels, nib.load(tmp_path / "again" / "image_seg.nii.gz").dataobj)
    assert set(np.unique(labels)) == {0, 1, 2, 3}

    object_ = hd.seg.segread(tmp_path / "out" / "in_seg.dcm")
    sources = [pydicom.dcmread(file) for file in slices]
    assert [source.ImagePositionPatient[2] for source in sources] == sorted(
        source.ImagePositionPatient[2] for source in sources
    )
    pixels = object_.get_pixels_by_source_instance(
        [source.SOPInstanceUID for source in sources], combine_segments=True, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(pixels, labels.transpose(2, 1, 0))
    assert (object_.FrameOfReferenceUID, object_.StudyInstanceUID, object_.PatientName) == (
        "1.2.9",
        "1.2.8",
        "Doe^Jane",
    )
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
    [algorithm] = object_.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == (metadata["name"], metadata["version"])
    kinds = [each.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for each in object_.SegmentSequence]
    assert kinds == ["Right ventricle", "Left Ventricle Myocardium", "Left ventricle"]


def test_a_cine_series_in_dicom(predict: Predict, tmp_path: Path, dicom_writer: Callable[..., None]) -> None:
    """Each frame is segmented as if it were alone, and its SEG object refers to its own slices."""
    frames = {1: ("1.2.3", 0.0), 2: ("1.2.44", 31.5)}
    for number, (seed, time) in frames.items():
        for folder in (tmp_path / "in" / "sax", tmp_path / "alone" / str(number)):
            write_series(folder, dicom_writer, [0, 2, 1], seed, SeriesInstanceUID="1.2.5", TriggerTime=time)
    assert predict() == 0
    names = [f"sax_frame{number:02d}_seg" for number in frames]
    assert results(tmp_path / "out") == [f"{name}.{end}" for name in names for end in ("dcm", "nii.gz")]
    assert predict(input=tmp_path / "alone", output=tmp_path / "expected") == 0
    for name, (number, (seed, _)) in zip(names, frames.items(), strict=True):
        alone = nib.load(tmp_path / "expected" / f"{number}_seg.nii.gz")
        found = nib.load(tmp_path / "out" / f"{name}.nii.gz")
        np.testing.assert_array_equal(found.dataobj, alone.dataobj)
        np.testing.assert_array_equal(found.affine, alone.affine)
        referred = hd.seg.segread(tmp_path / "out" / f"{name}.dcm").get_source_image_uids()
        slices = (tmp_path / "in" / "sax").glob(f"{seed}_*.dcm")
        assert {uids[2] for uids in referred} == {pydicom.dcmread(file).SOPInstanceUID for file in slices}


def test_several_series_in_one_folder(
    predict: Predict, tmp_path: Path, dicom_writer: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Good series are segmented; a localizer, a series with a gap and one without a place are refused by name."""
    folder = tmp_path / "in" / "p1"
    write_series(folder, dicom_writer, [0, 1, 2], "1.2.3", SeriesNumber=3, SeriesDescription="T2")
    write_series(
        folder, dicom_writer, [0, 1, 2], "1.2.44", SeriesNumber=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    write_series(folder, dicom_writer, [0, 1, 3, 4], "1.2.555", SeriesNumber=4)
    write_series(folder, dicom_writer, [0, 1, 2], "1.2.6666", SeriesNumber=5, FrameOfReferenceUID="")
    assert predict() == 1
    assert results(tmp_path / "out") == ["p1/003_T2_seg.dcm", "p1/003_T2_seg.nii.gz"]
    err = capsys.readouterr().err.splitlines()
    assert err[0].startswith(f"failed: p1/001: {folder} (series 1): is a localizer, not a volume;")
    assert re.match(rf"failed: p1/004: {folder} \(case 004\): 1 slices are missing between", err[1])
    assert re.match(
        rf"failed: p1/005: {folder}/1\.2\.6666_\d\.dcm: has no FrameOfReferenceUID, .*--dicom_seg false", err[2]
    )
    assert err[3:] == ["error: 3 cases failed: p1/001, p1/004, p1/005; see above"]
    assert predict(dicom_seg="false") == 1
    assert results(tmp_path / "out") == [
        f"p1/{name}" for name in ("003_T2_seg.dcm", "003_T2_seg.nii.gz", "005_seg.nii.gz")
    ]


def test_an_own_table_of_codes_and_own_class_names(
    predict: Predict, tmp_path: Path, dicom_writer: Callable[..., None]
) -> None:
    write_series(tmp_path / "in", dicom_writer, [0, 1])
    codes = {"widget": {"type": ["W1", "99OWN", "A widget"]}}
    (tmp_path / "codes.json").write_text(json.dumps(codes))
    datalist = {"name": "x", "description": "", "num_classes": 4, "class_names": ["bg", "widget", "thing", "liver"]}
    (tmp_path / "datalist.json").write_text(json.dumps(datalist))
    assert predict(segment_codes=tmp_path / "codes.json", class_names=tmp_path / "datalist.json") == 0
    segments = hd.seg.segread(tmp_path / "out" / "in_seg.dcm").SegmentSequence
    assert [each.SegmentLabel for each in segments] == ["widget", "thing", "liver"]
    types = [each.SegmentedPropertyTypeCodeSequence[0] for each in segments]
    assert [(each.CodeValue, each.CodingSchemeDesignator) for each in types] == [
        ("W1", "99OWN"),
        ("85756007", "SCT"),
        ("10200004", "SCT"),
    ]


def test_a_configuration_with_another_laid_over_it(predict: Predict, tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.nii.gz")
    (tmp_path / "over.json").write_text(json.dumps({"pixdim": [9.0, 9.0], "output_dir": "/nowhere"}))
    config = BUNDLE / "configs" / "inference.json"
    assert predict(bundle=None, config=f"{config},{tmp_path}/over.json", pixdim=None) == 0
    assert predict(output=tmp_path / "plain", pixdim="[9.0,9.0]") == 0
    over, plain = (tmp_path / folder / "a_seg.nii.gz" for folder in ("out", "plain"))
    assert over.read_bytes() == plain.read_bytes()


def test_a_bad_case_among_good_ones(predict: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "c", "e"):
        save(tmp_path / "in" / f"{name}.nii.gz")
    whole = (tmp_path / "in" / "a.nii.gz").read_bytes()
    (tmp_path / "in" / "b.nii.gz").write_bytes(whole[: len(whole) // 2])
    bad_series = np.zeros((8, 8, 3, 2), np.float32)
    bad_series[0, 0, 0, 1] = np.nan
    nib.save(nib.Nifti1Image(bad_series, np.eye(4)), tmp_path / "in" / "d.nii.gz")
    whole = (tmp_path / "in" / "d.nii.gz").read_bytes()
    (tmp_path / "in" / "f.nii.gz").write_bytes(whole[: len(whole) // 2])
    assert predict() == 1
    assert results(tmp_path / "out") == ["a_seg.nii.gz", "c_seg.nii.gz", "e_seg.nii.gz"]
    out, err = capsys.readouterr()
    assert "segmented 3 in" in out
    assert out.endswith("; 0 were there already; 3 failed\n")
    bad, series, bad_series, last = err.splitlines()
    assert bad.startswith(f"failed: b: {tmp_path}/in/b.nii.gz: ")
    assert series.startswith(f"failed: d: {tmp_path}/in/d.nii.gz: holds 1 NaN or infinite voxels")
    assert bad_series.startswith(f"failed: f: {tmp_path}/in/f.nii.gz: ")
    assert last == "error: 3 cases failed: b, d, f; see above"


def test_a_cine_series_is_segmented_frame_by_frame(predict: Predict, tmp_path: Path) -> None:
    """Each frame is what it would be as a file; the series' grid, times and units stay, whatever its numbers' scale."""
    series = volume(shape=(40, 44, 3, 3))
    series.header.set_zooms((1.25, 1.5, 8.0, 0.03))
    series.header.set_xyzt_units("mm", "sec")
    series.header.set_slope_inter(0.5, -7.0)
    path = tmp_path / "in" / "p1_4d.nii.gz"
    path.parent.mkdir()
    nib.save(series, path)
    stored = nib.load(path)
    for index in range(3):
        frame = nib.Nifti1Image(np.asarray(stored.dataobj[..., index], np.float32), stored.affine)
        (tmp_path / "frames").mkdir(exist_ok=True)
        nib.save(frame, tmp_path / "frames" / f"{index}.nii.gz")
    assert predict(input=path) == 0
    assert results(tmp_path / "out") == ["p1_4d_seg.nii.gz"]
    made = nib.load(tmp_path / "out" / "p1_4d_seg.nii.gz")
    assert (made.shape, made.get_data_dtype()) == ((40, 44, 3, 3), np.uint8)
    np.testing.assert_array_equal(made.affine, stored.affine)
    np.testing.assert_allclose(made.header.get_zooms(), (1.25, 1.5, 8.0, 0.03))
    assert made.header.get_xyzt_units() == ("mm", "sec")
    assert predict(input=tmp_path / "frames", output=tmp_path / "each") == 0
    for index in range(3):
        alone = nib.load(tmp_path / "each" / f"{index}_seg.nii.gz")
        np.testing.assert_array_equal(np.asarray(made.dataobj)[..., index], np.asarray(alone.dataobj))
    assert len({np.asarray(made.dataobj)[..., index].tobytes() for index in range(3)}) == 3
    assert predict() == 1, "in a folder, names that end in _4d are left out"
    assert predict(exclude="['_gt']") == 0


def test_a_second_run_makes_what_is_missing_or_changed(
    predict: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        save(tmp_path / "in" / f"{name}.nii.gz")
    assert predict() == 0
    before = (tmp_path / "out" / "a_seg.nii.gz").stat().st_mtime_ns
    save(tmp_path / "in" / "b.nii.gz", seed=1)
    save(tmp_path / "in" / "c.nii.gz")
    capsys.readouterr()
    assert predict() == 0
    assert "segmented 2 in" in capsys.readouterr().out
    assert (tmp_path / "out" / "a_seg.nii.gz").stat().st_mtime_ns == before
    assert predict() == 0
    assert capsys.readouterr().out == f"{tmp_path}/out: segmented 0; 3 were there already; 0 failed\n"
    assert predict(clip_percentiles="[1.0,98.0]") == 0
    assert predict(clip_percentiles="[1.0,98.0]", overwrite="true") == 0
    assert len(re.findall("segmented 3 in", capsys.readouterr().out)) == 2


def test_work_of_others_is_not_replaced(predict: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        save(tmp_path / "in" / f"{name}.nii.gz")
    by_hand = save(tmp_path / "in" / "a_seg.nii.gz", seed=5).read_bytes()
    assert predict(output=tmp_path / "in") == 1
    assert (tmp_path / "in" / "a_seg.nii.gz").read_bytes() == by_hand
    assert results(tmp_path / "in") == ["a.nii.gz", "a_seg.nii.gz", "b.nii.gz", "b_seg.nii.gz"]
    reason = "a_seg.nii.gz is in the output folder already, and not as this command left it; move it away, or add "
    assert f"failed: a: {reason}--overwrite true\n" in capsys.readouterr().err
    assert predict(output=tmp_path / "in", overwrite="true") == 0
    assert (tmp_path / "in" / "a_seg.nii.gz").read_bytes() != by_hand


def test_a_corrected_file_is_not_replaced_after_a_run_that_failed(
    predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*args: Any) -> Path:
        raise RuntimeError("out of memory")

    save(tmp_path / "in" / "a.nii.gz")
    assert predict() == 0
    with monkeypatch.context() as patch:
        patch.setattr("common.engines.bundle_predictor.BundlePredictor.segment", fails)
        assert predict(clip_percentiles="[1.0,98.0]") == 1
    corrected = save(tmp_path / "out" / "a_seg.nii.gz", seed=5).read_bytes()
    capsys.readouterr()
    assert predict(clip_percentiles="[1.0,98.0]") == 1
    assert "a_seg.nii.gz is in the output folder already, and not as this command left it" in capsys.readouterr().err
    assert (tmp_path / "out" / "a_seg.nii.gz").read_bytes() == corrected


@pytest.mark.parametrize("before", [True, False])
def test_a_run_that_is_stopped_while_a_file_is_put_in_place_is_gone_on_with(
    predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], before: bool
) -> None:
    replace = os.replace

    def stopped(source: Path, target: Path) -> None:
        now = target == tmp_path / "out" / "a_seg.nii.gz"
        if not (now and before):
            replace(source, target)
        if now:
            raise KeyboardInterrupt

    save(tmp_path / "in" / "a.nii.gz")
    assert predict() == 0
    save(tmp_path / "in" / "a.nii.gz", seed=1)
    with monkeypatch.context() as patch:
        patch.setattr("common.files.os.replace", stopped)
        assert predict() == 130
    assert results(tmp_path / "out") == ["a_seg.nii.gz"]
    capsys.readouterr()
    assert predict() == 0
    assert f"segmented {int(before)}" in capsys.readouterr().out


def test_an_interrupt_leaves_whole_cases_only(
    predict: Predict,
    tmp_path: Path,
    dicom_writer: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save(tmp_path / "in" / "a.nii.gz")
    write_series(tmp_path / "in" / "b", dicom_writer, [0, 1])
    save(tmp_path / "in" / "c.nii.gz")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))

    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tools.predict.write_dicom_segmentation", interrupted)
        assert predict() == 130
    assert capsys.readouterr().err == "error: interrupted\n"
    assert results(tmp_path / "out") == ["a_seg.nii.gz"]
    assert results(scratch) == []
    assert predict() == 0
    assert "segmented 2 in" in capsys.readouterr().out
    assert results(tmp_path / "out") == ["a_seg.nii.gz", "b_seg.dcm", "b_seg.nii.gz", "c_seg.nii.gz"]


def test_an_unexpected_error_is_one_line_and_leaves_nothing(
    predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        save(tmp_path / "in" / f"{name}.nii.gz")
    real = BundlePredictor.segment

    def faulty(self: BundlePredictor, image: Path, folder: Path) -> Path:
        path = real(self, image, folder)
        if image.name == "a.nii.gz":
            raise RuntimeError("CUDA out of memory\nTried to allocate")
        return path

    monkeypatch.setattr(BundlePredictor, "segment", faulty)
    assert predict() == 1
    lines = ["failed: a: RuntimeError: CUDA out of memory Tried to allocate", "error: 1 case failed: a; see above"]
    assert capsys.readouterr().err.splitlines() == lines
    assert results(tmp_path / "out") == ["b_seg.nii.gz"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "in: no image found; expected files ending in"),
        ({"input": "/nowhere"}, "/nowhere: no such file or folder"),
        ({"bundle": None}, "name either --bundle, such as bundles/maag, or --config"),
        ({"config": "x.json"}, "name either --bundle, such as bundles/maag, or --config"),
        ({"bundle": None, "config": "x.json"}, "x.json: no such configuration"),
        ({"bundle": "/nowhere"}, "/nowhere: no such folder; name that of a bundle"),
        ({"output": "x.nii.gz"}, "--output x.nii.gz: name a folder"),
        ({"weights": "/nowhere.pt"}, "/nowhere.pt: no such weights"),
        ({"ouput": "x"}, "--ouput: unknown key; did you mean --output_dir?"),
        ({"class_names": "bg,bg"}, "--class_names bg,bg: write two or more names"),
        ({"class_names": "bg,a", "num_classes": 4}, "--class_names names 2 classes, bg, a; the network has 4"),
        ({"class_names": "bg,a"}, "model.pt: the weights do not fit the network"),
        ({"segment_codes": "/nowhere.json"}, "/nowhere.json: cannot be read"),
        ({"dicom_seg": "perhaps"}, "--dicom_seg is 'perhaps'; write true or false"),
    ],
)
def test_mistakes_are_told_in_one_line_before_anything_is_written(
    predict: Predict, tmp_path: Path, options: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    assert predict(**options) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "out").exists()


def test_the_progress_bar_is_for_terminals(predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "in" / "a.nii.gz")
    disabled: list[bool | None] = []
    import tools.predict

    real = tools.predict.tqdm

    class Bar(real):  # type: ignore[misc,valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            disabled.append(kwargs["disable"])
            assert kwargs["file"] is sys.stderr
            super().__init__(*args, **kwargs)

    monkeypatch.setattr("tools.predict.tqdm", Bar)
    assert predict() == 0
    assert predict(progress="false") == 0
    assert disabled == [None, True]  # None: tqdm looks whether the file is a terminal


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert program(["predict", "--help"]) == 0
    out = capsys.readouterr().out
    for option in ("--input", "--segment_codes", "--overwrite"):
        assert option in out


@pytest.mark.slow
@pytest.mark.parametrize("bundle", ["maag", "dmpls"])
def test_real_hearts_are_segmented_as_by_the_bundle_with_its_own_weights(
    data_root: Path, tmp_path: Path, bundle: str
) -> None:
    for name in ("patient001_frame01", "patient050_frame12"):
        (tmp_path / "in" / name[:10]).mkdir(parents=True)
        source = data_root / "acdc" / "training" / name[:10] / f"{name}.nii.gz"
        shutil.copy(source, tmp_path / "in" / name[:10])
    folders = [tmp_path / "out", tmp_path / "run"]
    config = f"bundles/{bundle}/configs/inference.json"
    own = [
        "-m",
        "tools",
        "predict",
        "--bundle",
        f"bundles/{bundle}",
        "--input",
        tmp_path / "in",
        "--output",
        folders[0],
    ]
    run = ["-m", "monai.bundle", "run", "--config_file", config, "--dataset_dir", tmp_path / "in"]
    for words in (own, [*run, "--output_dir", folders[1]]):
        subprocess.run([sys.executable, *map(str, words)], cwd=REPO_ROOT, check=True, env={**os.environ})
    assert results(folders[0]) == results(folders[1])
    assert len(results(folders[0])) == 2
    for name in results(folders[0]):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
