"""Where the project's bundles lie."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError

__all__ = ["bundle_folder", "bundle_folders"]

_BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
_METADATA = Path("configs", "metadata.json")


def bundle_folder(bundle: str) -> Path:
    """The folder of a bundle that is given by its name or its folder.

    Raises:
        UserError: there is none.
    """
    for folder in (Path(bundle).expanduser(), _BUNDLES / bundle):
        if (folder / _METADATA).is_file():
            return folder.resolve()
    names = ", ".join(path.name for path in bundle_folders())
    raise UserError(f"{bundle}: is no bundle, with a configs/metadata.json; name a folder or one of {names}")


def bundle_folders() -> list[Path]:
    """The folders of the project's bundles, sorted."""
    return sorted(path.parents[1] for path in _BUNDLES.glob(f"*/{_METADATA}"))
