"""The weights of a run as a bundle's own, with the figures of the run in the bundle's metadata and README."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..data.datalist import load_datalist
from ..data.volume_reader import read_volume
from ..errors import UserError
from ..files import atomic_file, read_text
from ..json_layout import format_text
from ..model_settings import settings_file, settings_text
from ..packing.large_files import LIMIT
from .marked_text import between_marks
from .model_card import PRECISIONS, Origin, metadata_of, paragraph
from .prediction_stage import inference_configs, predict, prediction_file
from .results import RESULT, read_result
from .suite import Row, Suite

__all__ = ["BEGIN", "END", "LEAST_SAME", "check_shipped", "half_precision", "origin_of", "ship"]

BEGIN, END = "<!-- performance:begin -->", "<!-- performance:end -->"
LEAST_SAME = 0.999
"""The share of voxels that have to keep their class where weights are stored in half precision."""
_WEIGHTS = Path("models", "model.pt")
_METADATA = Path("configs", "metadata.json")
_README = Path("docs", "README.md")


def ship(
    suite: Suite, setting: str, row: Row, folder: Path, datalist: Path, bundle: Path, *, device: str | None = None
) -> list[str]:
    """Make the last iterate of a finished run the weights of its bundle.

    The weights are stored in half precision if that leaves the class of at least :data:`LEAST_SAME` of all voxels of
    the scored cases as it is, which is tried on every one of them; else as they are. ``models/model.json`` names the
    run, ``configs/metadata.json`` and the part of ``docs/README.md`` between its two marks get its figures.

    Args:
        suite: the suite.
        setting: the setting of the run.
        row: the row of the run.
        folder: the run's folder.
        datalist: the suite's datalist.
        bundle: the folder of the row's bundle.
        device: where to predict; None for a GPU where there is one.

    Returns:
        what was written, a line for each file; weights of more than 25 MB are pointed out.

    Raises:
        UserError: the run is not finished, or a file is damaged or without marks.
    """
    if not (folder / RESULT).is_file():
        raise UserError(f"{folder}: holds no finished run; finish it before its weights are shipped")
    result = read_result(folder / RESULT)
    document = _document(settings_file(folder / "model.pt"))
    state = torch.load(folder / "model.pt", map_location="cpu", weights_only=True)
    metadata = _document(bundle / _METADATA)
    between_marks(bundle / _README, BEGIN, END, "")  # before the work that its marks being amiss would waste

    precision, content = "float16", _bytes(half_precision(state))
    share = _same(suite, row, bundle, content, document, folder, datalist, device)
    if share < LEAST_SAME:
        precision, content = "float32", _bytes(state)
    origin = {"suite": suite.name, "setting": setting, "method": row.name, "seed": result["seed"]}
    document["training"] |= {"benchmark": origin, "precision": precision}
    if precision == "float16":
        # rounding makes no share of 1 out of one short of it
        document["training"]["same_class"] = share if share == 1.0 else min(round(share, 6), 0.999999)
    source = Origin(bundle.name, suite, row, result, document["training"])
    metadata |= metadata_of(metadata, source)
    text = between_marks(bundle / _README, BEGIN, END, paragraph(source))

    written = {
        settings_file(bundle / _WEIGHTS): settings_text(document).encode(),
        bundle / _WEIGHTS: content,
        bundle / _METADATA: format_text(json.dumps(metadata, ensure_ascii=False)).encode(),
        bundle / _README: text.encode(),
    }
    for path, each in written.items():
        with atomic_file(path) as temporary:
            temporary.write_bytes(each)
    size = f"{len(content) / 2**20:.1f} MB, {PRECISIONS[precision]}"
    size += "; pack them with --weights_url" if len(content) > LIMIT else ""
    return [f"{path} ({size})" if path.suffix == ".pt" else str(path) for path in written]


def origin_of(bundle: Path, suites: Mapping[str, Suite], results: Sequence[Mapping[str, Any]]) -> Origin | None:
    """Find the run that a bundle's weights come from.

    Args:
        bundle: the bundle's folder.
        suites: the suites by name.
        results: records of runs.

    Returns:
        the run, or None where the weights do not come from one of these suites.

    Raises:
        UserError: the record of the run is missing.
    """
    path = settings_file(bundle / _WEIGHTS)
    training = _document(path)["training"] if path.is_file() else {}
    wanted = training.get("benchmark")
    if wanted is None or wanted["suite"] not in suites:
        return None
    suite = suites[wanted["suite"]]
    records = [each for each in results if all(each[key] == wanted[key] for key in wanted)]
    if not records or wanted["method"] not in suite.rows:
        raise UserError(f"{path}: comes from a run without a record ({json.dumps(wanted)}); ship weights anew")
    return Origin(bundle.name, suite, suite.rows[wanted["method"]], records[0], training)


def check_shipped(bundle: Path, origin: Origin) -> None:
    """See whether a bundle's metadata and README tell the figures of the run that its weights come from.

    Args:
        bundle: the bundle's folder.
        origin: the run, see :func:`origin_of`.

    Raises:
        UserError: the figures are others.
    """
    again = "`benchmark --ship --suite {suite} --setting {setting} --methods {method}`".format(**origin.result)
    metadata = _document(bundle / _METADATA)
    for key, value in metadata_of(metadata, origin).items():
        if metadata.get(key) != value:
            raise UserError(f"{bundle / _METADATA}: {key} is not that of the weights' run; write it by {again}")
    if read_text(bundle / _README) != between_marks(bundle / _README, BEGIN, END, paragraph(origin)):
        raise UserError(f"{bundle / _README}: its figures are not those of the weights' run; write them by {again}")


def half_precision(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict with its floating point values in float16; others, such as counters, stay as they are."""
    return {
        key: value.half() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for key, value in state.items()
    }


def _same(
    suite: Suite,
    row: Row,
    bundle: Path,
    content: bytes,
    document: Mapping[str, Any],
    folder: Path,
    datalist: Path,
    device: str | None,
) -> float:
    """The share of all voxels of the scored cases that other weights give the class that the run gave them."""
    items = load_datalist(datalist, suite.section)
    configs = inference_configs(bundle, row.inference_overlays)
    equal = total = 0
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as temporary:
        weights = Path(temporary, "model.pt")
        weights.write_bytes(content)
        settings_file(weights).write_text(settings_text(document), encoding="utf-8")
        predict(configs, weights, items, Path(temporary), overrides={} if device is None else {"device": device})
        for item in items:
            was = read_volume(prediction_file(folder / "last" / "predictions", item)).data
            now = read_volume(prediction_file(Path(temporary), item)).data
            equal, total = equal + int((was == now).sum()), total + was.size
    return equal / total


def _bytes(state: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def _document(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(read_text(path)))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); restore the file") from error
