"""Segmenting one image after the other with a bundle's own inference configuration."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.transforms import SaveImaged

from ..bundle import apply_preset, check_overrides
from ..data.checks import check_items
from ..data.cine_series import frame_count, join_frames, split_frames
from ..data.class_names import channel_names
from ..data.prediction_record import digest, file_digest
from ..errors import UserError
from ..files import read_text
from ..handlers.atomic_checkpoint import load_weights
from ..model_settings import default_of, trained_names
from ..running_config import is_computed
from ..setting_limits import check_limits

__all__ = ["BundlePredictor", "reason_of"]

_SET_BY_CALLER = ("dataset_dir", "output_dir")
_WITHOUT_EFFECT = ("bundle_root", "dataset_dir", "output_dir", "weights", "exclude", "device", "num_workers", "imports")
_ITEMS = "dataset::data"


class BundlePredictor:
    """A bundle's network, loaded once, and its evaluator, which is run for each image.

    Everything is the configuration's: its preprocessing, inferer, postprocessing, evaluator and writer, so that the
    label maps are those of ``python -m monai.bundle run``, voxel by voxel. The configuration needs the keys that every
    bundle of this project has: ``weights``, ``network_def``, ``dataset``, ``postprocessing`` with a
    ``SaveSegmentationd``, and ``evaluator``.

    Args:
        config_files: ``inference.json``, and files that are laid over it.
        overrides: values of the configuration's keys, as on the command line.

    Attributes:
        name: the bundle's name, by its metadata.
        version: the bundle's version, by its metadata.
        manufacturer: the bundle's authors, by its metadata.
        num_classes: number of classes C with background.
        exclude: ends of file names that are left out, or None, see :func:`~..data.case_names.is_left_out`.
        weights: the file of the weights.
        weights_digest: its SHA-256.
        settings_digest: SHA-256 of everything that the label maps depend on beside the image.

    Raises:
        UserError: a file is missing or damaged, a key is unknown, a value of a wrong type, or nothing fits together.
    """

    def __init__(self, config_files: Sequence[str | Path], *, overrides: Mapping[str, Any] | None = None) -> None:
        files = [Path(file).expanduser() for file in config_files]
        metadata = _metadata(files[0].parent / "metadata.json")
        self.name = str(metadata.get("name") or files[0].resolve().parent.parent.name)
        self.version = str(metadata.get("version") or "unknown")
        self.manufacturer = str(metadata.get("authors") or "unknown")
        self._parser = _parser(files, dict(overrides or {}))
        settings = {key: value for key, value in self._parser.get().items() if key not in _WITHOUT_EFFECT}
        with _in_one_line(str(files[0])), _silence():  # MONAI's readers log what they go without
            self.num_classes = int(self._parser.get_parsed_content("num_classes"))
            self._in_channels = self._parser.get_parsed_content("in_channels")
            self.exclude: Sequence[str] | None = self._parser.get_parsed_content("exclude")
            self.weights = str(self._parser.get_parsed_content("weights"))
            for key, value in settings.items():
                if default_of(value) != value:  # the weights' settings decide
                    settings[key] = self._parser.get_parsed_content(key)
            load_weights(self._parser.get_parsed_content("network_def"), self.weights)
            self._parser.get_parsed_content("evaluator")  # whatever does not fit shows here, not in the first case
            self._dataset = self._parser.get_parsed_content("dataset")
            self._writer = _writer(self._parser.get_parsed_content("postprocessing").transforms)
        self._class_names = trained_names(self.weights)
        if not self._class_names:
            with contextlib.suppress(ValueError):  # a bundle of somebody else's need not name them
                self._class_names = channel_names(metadata)
        self.weights_digest = file_digest(self.weights)
        self.settings_digest = digest(self.name, self.version, settings, self.weights_digest)

    def class_names(self, given: Sequence[str] | None = None) -> list[str]:
        """The names of the C classes: those given, else what the weights remember, else the metadata's, else numbers.

        Raises:
            UserError: there are not C names.
        """
        names = list(given or self._class_names)
        if given and len(names) != self.num_classes:
            raise UserError(
                f"--class_names names {len(names)} classes, {', '.join(names)}; the network has {self.num_classes}"
            )
        if len(names) == self.num_classes:
            return names
        return ["background", *(f"class {index}" for index in range(1, self.num_classes))]

    def segment(self, image: Path, folder: Path) -> Path:
        """Segment one image; of a cine series, a NIfTI file ``[X, Y, Z, T]``, each frame by itself.

        Args:
            image: the image file.
            folder: an empty folder for the label map.

        Returns:
            The label map: on the image's grid, with values 0 to C - 1, and as many frames.

        Raises:
            UserError: the image is unfit, see :func:`~..data.checks.check_items`.
            Exception: whatever else goes wrong on the way; :func:`reason_of` tells it in a line.
        """
        item = {"image": str(image), "case": image.name}
        with _silence():  # what is wrong with a header is told by the check
            is_series = self._in_channels == 1 and frame_count(image) > 1
            checked = item | {"frames": "all"} if is_series else item
            check_items([checked], num_classes=self.num_classes, kind="image", in_channels=self._in_channels)
        if not is_series:
            return self._segment_volume(image, folder)
        label_map = folder / "label_map.nii.gz"
        with tempfile.TemporaryDirectory(prefix="frames_") as work, _silence():
            frames = split_frames(image, Path(work, "frames"))
            label_maps = [self._segment_volume(frame, Path(work, frame.name)) for frame in frames]
            join_frames(label_maps, image, label_map)
        return label_map

    def _segment_volume(self, image: Path, folder: Path) -> Path:
        self._writer.output_dir, self._writer.data_root_dir = str(folder), str(image)
        self._dataset.data = [{"image": str(image), "case": image.name}]
        # a fresh evaluator each time, as ignite's engines do not start again after an error; the network is kept
        self._parser.ref_resolver.remove_resolved_content("evaluator")
        with _silence():
            self._parser.get_parsed_content("evaluator").run()
        [label_map] = (path for path in folder.rglob("*") if path.is_file())
        return label_map


def reason_of(error: BaseException) -> str:
    """What went wrong, in a line: the message of the :class:`UserError` among its causes, else that of the first one.

    MONAI wraps an error of a transform or an expression in others, which tell where it happened but not what.
    """
    cause = _cause_of(error)
    text = " ".join(str(cause).split())
    return text if isinstance(cause, UserError) else f"{type(cause).__name__}: {text[:300]}".removesuffix(": ")


def _cause_of(error: BaseException) -> BaseException:
    while not isinstance(error, UserError) and (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return error


def _parser(files: Sequence[Path], overrides: dict[str, Any]) -> ConfigParser:
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise UserError(f"{missing}: no such configuration; name a bundle's folder, or its inference.json")
    try:
        content = ConfigParser.load_config_files([str(file) for file in files])
    except Exception as error:  # YAML's and JSON's own
        raise UserError(f"{files[0]}: is no configuration ({reason_of(error)}); correct it") from error
    taken = next((key for key in overrides if key in _SET_BY_CALLER), None)
    if taken is not None:
        raise UserError(f"--{taken}: is of no use here; the images are named by --input, the results by --output")
    config = ConfigParser(content)
    checked = check_overrides(ConfigParser(content), overrides)
    for key, value in checked.items():
        config[key] = value
    apply_preset(config, overrides)
    check_limits(config.get())
    for key in ("network_def", "evaluator", "weights", "num_classes", "in_channels", "exclude", _ITEMS):
        if key not in config:
            raise UserError(f"{files[0]}: has no key {key}; name the inference.json of a bundle")
    config[_ITEMS] = []
    # where a packed bundle's own modules lie, which its configuration imports
    home = files[0].parent.resolve()
    if home.name == "configs":
        home = home.parent
        if "bundle_root" not in overrides and is_computed(config.get("bundle_root")):
            config["bundle_root"] = str(home)  # of a copy, the copy
    if str(home) not in sys.path:
        sys.path.insert(1, str(home))
    return config


def _metadata(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as a bundle's metadata ({error}); restore it") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no bundle's metadata; restore it")
    return content


def _writer(transforms: Sequence[Any]) -> Any:
    # not by its class: a packed bundle brings a copy of its own
    writer = next(
        (each for each in transforms if isinstance(each, SaveImaged) and hasattr(each, "data_root_dir")), None
    )
    if writer is None:
        raise UserError("its postprocessing has no SaveSegmentationd; name the inference.json of a bundle")
    return writer


@contextlib.contextmanager
def _in_one_line(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        reason = reason_of(error)
        if isinstance(_cause_of(error), UserError):
            raise UserError(reason) from error
        raise UserError(f"{name}: does not work with these options ({reason})") from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep MONAI's warnings and ignite's and MONAI's log from the screen; they log errors that they also raise."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
