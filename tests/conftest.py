"""What the tests share: made-up hearts, real data where they are, and bounded threads."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

# one thread each where several processes share the cores, and so in every program that they start
THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
torch.set_num_threads(THREADS)

sys.path.append(str(Path(__file__).parent / "shared"))

# a shell that starts the tests in the background makes them ignore Ctrl-C, and every program that they start as well
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ORGANS = {63: (14, 12, 9), 126: (34, 10, 5), 189: (34, 30, 5), 252: (15, 32, 5)}
"""CHAOS: the grey value of each organ, and row, column and radius of its disc."""

SLICE_AXES = np.array([[0.96, 0.28, 0.0], [-0.168, 0.576, 0.8]])
"""The directions of a made-up slice's rows and of its columns, towards left, posterior and superior."""


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The folder of the checkout."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real data sets; without it the test is skipped."""
    folder = os.environ.get("SCRIBBLE_DATA_ROOT")
    if not folder:
        pytest.skip("SCRIBBLE_DATA_ROOT is not set: this test reads real data")
    if not Path(folder).is_dir():
        pytest.skip(f"SCRIBBLE_DATA_ROOT={folder} is no folder: this test reads real data")
    return Path(folder)


@pytest.fixture(autouse=True)
def _log_handlers_of_one_test() -> Iterator[None]:
    """Take the log's handlers away with the test that set them: they write to a stream that is closed after it."""
    before = {logger: list(logger.handlers) for logger in _loggers()}
    yield
    for logger in _loggers():
        logger.handlers[:] = before.get(logger, [])


def _loggers() -> list[logging.Logger]:
    named = logging.root.manager.loggerDict.values()
    return [logging.root, *(logger for logger in named if isinstance(logger, logging.Logger))]


@pytest.fixture
def bfloat16_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``amp`` networks compute in bfloat16 on every machine, on older ones slowly."""
    monkeypatch.setattr("common.engines.bfloat16_inferer.has_bfloat16", lambda device: True)


@pytest.fixture(scope="session")
def phantom_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small made-up data set with its datalist.json, made once and only to be read."""
    from common.data.phantom import make_phantom

    return make_phantom(tmp_path_factory.mktemp("data") / "phantom", num_patients=6, seed=0).parent


@pytest.fixture(scope="session")
def few_cases(phantom_dir: Path) -> Callable[[Path, int], Path]:
    """A function that writes a datalist of a few made-up hearts, one of them to validate on, and returns its path."""
    from common.data.datalist import datalist_info, load_datalist
    from common.data.datalist_writer import write_datalist

    source = phantom_dir / "datalist.json"

    def write(folder: Path, training: int) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        counts = {"training": training, "validation": 1}
        sections = {name: load_datalist(source, name)[:count] for name, count in counts.items()}
        write_datalist(folder / "datalist.json", datalist_info(source) | sections)
        return folder / "datalist.json"

    return write


@pytest.fixture(scope="session")
def chaos_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official layout of CHAOS with four made-up MR patients, only to be read.

    Patient 1 has file names that follow the slices upwards, the others downwards; in T2SPIR every file has a series
    identifier of its own, as published.
    """
    root = tmp_path_factory.mktemp("chaos")
    rng = np.random.default_rng(0)
    for patient in (1, 2, 3, 5):
        folder = root / "Train_Sets" / "MR" / str(patient)
        up = 1 if patient == 1 else -1
        for sequence, images, slices in (("T1DUAL", "DICOM_anon/InPhase", 4), ("T2SPIR", "DICOM_anon", 3)):
            (folder / sequence / "Ground").mkdir(parents=True)
            for number in range(slices):
                mask = np.zeros((48, 40), np.uint8)  # rows, columns
                for grey, (row, column, radius) in ORGANS.items():
                    mask[disc(mask.shape, row, column, radius - (number == 0))] = grey
                pixels = 100 + 2 * mask.astype(np.uint16) + rng.integers(0, 40, mask.shape, dtype=np.uint16)
                stem = f"IMG-000{patient}-{2 * number + 2:05d}"
                options = {"number": up * number, "spacing": 6.0, "series": f"1.2.{patient}"}
                if sequence == "T2SPIR":
                    options["series"] += f".{number}"
                write_dicom(folder / sequence / images / f"{stem}.dcm", pixels, **options)
                Image.fromarray(mask).save(folder / sequence / "Ground" / f"{stem}.png")
        write_dicom(folder / "T1DUAL" / "DICOM_anon" / "OutPhase" / "IMG-0001-00001.dcm", pixels, number=0, spacing=6.0)
    return root


@pytest.fixture(scope="session")
def lvsc_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official layout of LVSC with four made-up patients with masks and one without, only to be read.

    Each has three slices, numbered against the anatomy (the middle one last), in three phases with cavities of radius
    8, 6 and 4 pixels; of DET0000201 with 8, 4 and 6. The top slice's ring is open.
    """
    root = tmp_path_factory.mktemp("lvsc") / "Training"
    rng = np.random.default_rng(0)
    for patient in ("DET0000101", "DET0000201", "DET0000301", "DET0000401", "DET0000501"):
        for phase, radius in enumerate((8, 4, 6) if patient == "DET0000201" else (8, 6, 4)):
            for number, height in ((1, 0), (2, 2), (3, 1)):
                cavity, wall = disc((48, 40), 20, 18, radius), disc((48, 40), 20, 18, 11)
                mask = np.where(wall & ~cavity, 255, 0).astype(np.uint8)
                if height == 2:
                    mask[:20, 17:20] = 0
                pixels = 200 + 300 * cavity + 30 * height + rng.integers(0, 40, mask.shape)
                stem = f"{patient}_SA{number}_ph{phase}"
                write_dicom(root / patient / f"{stem}.dcm", pixels.astype(np.uint16), number=height, spacing=8.0)
                if patient != "DET0000501":
                    Image.fromarray(mask).save(root / patient / f"{stem}.png")
        write_dicom(root / patient / f"{patient}_LA1_ph0.dcm", pixels.astype(np.uint16), number=0, spacing=8.0)
    return root.parent


@pytest.fixture(scope="session")
def ppss_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official layout of PPSS with two made-up pictures of each of four cameras and of two test cameras."""
    root = tmp_path_factory.mktemp("ppss")
    rng = np.random.default_rng(0)
    for folder, cameras in (("TrainData", (1, 2, 3, 4)), ("TestData", (101, 102))):
        (root / folder).mkdir()
        for camera in cameras:
            for number in (1, 2):
                mask = np.zeros((160, 80), np.uint8)
                for row, grey in enumerate((9, 19, 29, 39, 60, 62)):
                    mask[10 + 22 * row : 32 + 22 * row, 25 - number : 55] = grey
                mask[60:90, 12:25] = 50
                pixels = np.repeat(mask[..., None], 3, axis=2) * 2 + rng.integers(0, 60, (160, 80, 3), dtype=np.uint8)
                size = (80 + 13 * camera % 50, 200 + camera % 3)
                picture = Image.fromarray(pixels).resize(size)
                picture.save(root / folder / f"{camera}_{number:04d}.jpg")
                Image.fromarray(mask).save(root / folder / f"{camera}_{number:04d}_m.png")
    return root


@pytest.fixture(scope="session")
def dicom_writer() -> Callable[..., None]:
    """The function that writes one DICOM slice, see :func:`write_dicom`."""
    return write_dicom


def disc(shape: tuple[int, int], row: int, column: int, radius: int) -> np.ndarray:
    """The pixels of an image that are less than the radius away from a point."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - row) ** 2 + (columns - column) ** 2 < radius**2


def write_dicom(path: Path, pixels: np.ndarray, *, number: float, spacing: float, series: str = "1.2.3") -> None:
    """Write one MR slice, ``number`` times ``spacing`` mm along the normal, with pixels of 1.25 x 1.5 mm."""
    import pydicom

    path.parent.mkdir(parents=True, exist_ok=True)
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[str(path)])
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    header.StudyInstanceUID = header.SeriesInstanceUID = series
    header.Modality = "MR"
    place = np.array([-30.0, 12.0, 5.0]) + number * spacing * np.cross(*SLICE_AXES)
    header.ImagePositionPatient = [f"{value:.6f}" for value in place]
    header.ImageOrientationPatient = [f"{value:.6f}" for value in SLICE_AXES.ravel()]
    header.PixelSpacing, header.SliceThickness = ["1.5", "1.25"], "5"  # between rows, between columns
    header.Rows, header.Columns = pixels.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 0
    header.PixelData = pixels.astype("<u2").tobytes()
    header.save_as(path, enforce_file_format=True)
