"""Lay out the bundles' JSON configs so that they read well and diff well.

    python -m tools format_configs                     every config of every bundle
    python -m tools format_configs a.json b.json       these files
    python -m tools format_configs --check             change nothing, fail if a file would change

A list or dict stands on one line where that line has at most 110 columns, and is opened up otherwise; the indent is
four spaces; the order of the keys and the spelling of the numbers stay as written. A key that occurs twice in one dict
is an error: JSON readers keep the last one without a word.
"""

from __future__ import annotations

from pathlib import Path

from common.errors import UserError
from common.files import atomic_file
from common.json_layout import format_text

REPO_ROOT = Path(__file__).resolve().parents[1]
# Written by the MONAI Label server into the bundle it trains, and never part of it.
GENERATED = {"monailabel_train.json"}


def bundle_configs(root: Path = REPO_ROOT) -> list[Path]:
    """The JSON configs of all bundles below ``root``, sorted; those that servers generate are left out."""
    return sorted(path for path in root.glob("bundles/*/configs/**/*.json") if path.name not in GENERATED)


def main(*paths: str, check: bool | str = False) -> None:
    """Lay out bundle configs.

    Args:
        paths: JSON files; every config of every bundle where none is given.
        check: change nothing, and fail naming the files that would change.

    Raises:
        UserError: a file is missing or faulty, or, with ``check``, not laid out.
    """
    names = [str(path) for path in paths]
    if isinstance(check, str):  # `--check a.json`: the command line takes what follows an option for its value
        names.insert(0, check)
    files = [Path(name) for name in names] or bundle_configs()
    changed = []
    for file in files:
        try:
            before = file.read_bytes().decode("utf-8")
        except OSError as error:
            raise UserError(f"{file}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{file}: is not UTF-8 text; save it as UTF-8") from error
        after = format_text(before, str(file))
        if after == before:
            continue
        changed.append(str(file))
        if not check:
            with atomic_file(file) as temporary:
                temporary.write_bytes(after.encode("utf-8"))
    if changed and check:
        raise UserError(f"not laid out: {', '.join(changed)}; run `python -m tools format_configs`")
    for path in changed:
        print(f"laid out {path}")
    print(f"{len(files)} configs are well laid out")
