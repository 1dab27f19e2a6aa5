"""Write a release of a bundle: one zip file that needs nothing of this project."""

from __future__ import annotations

from pathlib import Path

import common
from common.packing.archive import write_archive
from common.packing.bundle_folder import bundle_folder
from common.packing.readme_commands import options_of_programs
from common.packing.release import make_release


def main(bundle: str, *, version: str | None = None, output: str = "build", weights_url: str | None = None) -> None:
    """Pack a bundle to <name>_v<version>.zip, with its code as a package of its own, and print the SHA-256.

    The file is the same byte for byte wherever it is made; its SHA-256 is also written beside it. A bundle with a
    mistake is refused: a version that the changelog does not tell of, keys that nothing refers to or that stand twice,
    a README whose commands do not exist, weights that do not load, packages that the metadata do not declare, or a
    file of more than 25 MB.

    Args:
        bundle: name of a bundle of this project, or a bundle's folder.
        version: version of the release; by default that of metadata.json. The changelog there has to tell of it.
        output: folder of the zip file.
        weights_url: where weights of more than 25 MB can be downloaded. They stay out of the zip file, which then has
            a large_files.yml with this address and their SHA-256.

    Raises:
        UserError: there is no such bundle, it has a mistake, or the zip file cannot be written.
    """
    folder = bundle_folder(bundle)
    library = Path(str(common.__file__)).resolve().parent
    release = make_release(
        folder,
        library,
        programs=options_of_programs(Path(__file__).parent),
        version=version,
        weights_url=weights_url,
    )
    path = Path(output).expanduser() / f"{release.name}.zip"
    digest = write_archive(path, release.files)
    size = path.stat().st_size / 2**20
    print(f"{path}: {len(release.files)} files, {size:.1f} MB, code in the package {release.package}")
    for name, url in release.left_out.items():
        print(f"left out, to be uploaded to {url}: {folder / name}")
    print(f"SHA-256: {digest}")
