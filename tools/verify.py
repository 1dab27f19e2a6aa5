"""Check a bundle, or a packed one, as MONAI's model zoo does before it takes one."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import common
from common.errors import UserError
from common.packing.archive import checksum, unpack
from common.packing.bundle_folder import bundle_folder
from common.packing.readme_commands import options_of_programs
from common.packing.strict_json import read_document
from common.packing.verification import verification


def main(bundle: str) -> None:
    """Check a bundle and print a line for each check; end with status 1 if one fails.

    Looked at are files, keys, metadata, version, README and sizes; then the network is loaded, run on the shapes that
    the metadata tell, and exported to TorchScript and ONNX, whose outputs have to equal its own. The code of a zip file
    is run in a process that cannot import this project.

    Args:
        bundle: a zip file or an unpacked one's folder, or name or folder of a bundle of this project.

    Raises:
        UserError: there is no such bundle, the zip file cannot be trusted, or a check fails.
    """
    path = Path(bundle).expanduser()
    if path.suffix != ".zip":
        _report(bundle_folder(bundle), bundle)
        return
    digest = path.with_name(f"{path.name}.sha256")
    if digest.is_file() and digest.read_text(encoding="utf-8").split()[:1] != [checksum(path)]:
        raise UserError(f"{path}: is not the file that {digest.name} tells of; get it anew")
    with tempfile.TemporaryDirectory() as folder:
        unpacked = unpack(path, folder)
        version = read_document(unpacked / "configs" / "metadata.json").get("version")
        if not re.fullmatch(rf"{re.escape(unpacked.name)}_v{re.escape(str(version))}", path.stem):
            raise UserError(f"{path}: holds {unpacked.name} {version}; call it {unpacked.name}_v{version}.zip")
        _report(unpacked, bundle)


def _report(folder: Path, name: str) -> None:
    library = Path(str(common.__file__)).resolve().parent
    failed = []
    for check, problem in verification(folder, library, options_of_programs(Path(__file__).parent)):
        print(
            f"{'ok' if problem is None else 'FAILED':6}  {check}{'' if problem is None else f': {problem}'}", flush=True
        )
        failed += [] if problem is None else [check]
    if failed:
        raise UserError(f"{name}: {len(failed)} checks failed, see above")
