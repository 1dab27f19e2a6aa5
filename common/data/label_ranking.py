"""Which image of a MONAI Label datastore to annotate next: the one whose prediction is least certain."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError
from ..files import read_text

__all__ = ["RankedImage", "rank_studies"]

_DATASTORE = "datastore_v2.json"
# what MONAI Label's epistemic scoring notes of an image, and the tag of a label that somebody submitted
_SCORE, _FINAL = "epistemic_entropy", "final"


class RankedImage(NamedTuple):
    """An image without a label: its name, and the mean entropy of its prediction (None where it was not scored)."""

    name: str
    entropy: float | None


def rank_studies(studies: str | os.PathLike[str]) -> list[RankedImage]:
    """The images that nobody has submitted a label of: the largest entropy first, those without a score last.

    Args:
        studies: folder of a server's images, which holds its ``datastore_v2.json``.

    Raises:
        UserError: the folder is none of a server, or the file is damaged.
    """
    path = Path(os.path.expanduser(studies)) / _DATASTORE
    try:
        objects = json.loads(read_text(path))["objects"]
        images = [
            RankedImage(name, _entropy(entry["image"].get("info", {}).get(_SCORE)))
            for name, entry in objects.items()
            if _FINAL not in entry.get("labels", {})
        ]
    except FileNotFoundError:
        raise UserError(f"{path}: is missing; name the folder that a server was started with (--studies)") from None
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read as a MONAI Label datastore; restore it") from error
    return sorted(images, key=lambda image: (math.inf if image.entropy is None else -image.entropy, image.name))


def _entropy(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
