"""How much a file can hold."""

from __future__ import annotations

import gzip
from pathlib import Path

from common.data.size_limits import bytes_at_most, promises_too_much

SPARE = 2**16


def test_the_most_that_a_file_may_hold(tmp_path: Path) -> None:
    for name in ("a.nii", "a.nii.gz", "a.mha", "a.mhd"):
        (tmp_path / name).write_bytes(b"x" * 100)
    (tmp_path / "a.raw").write_bytes(b"x" * 300)
    assert bytes_at_most(tmp_path / "a.nii") == 100 + SPARE
    assert bytes_at_most(tmp_path / "a.nii.gz") == bytes_at_most(tmp_path / "a.mha") == 100 * 1032 + SPARE
    assert bytes_at_most(tmp_path / "a.mhd") == 300 * 1032 + SPARE  # its voxels lie beside it


def test_nothing_is_packed_more_densely(tmp_path: Path) -> None:
    zeros = 50_000_000
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(zeros)))
    assert not promises_too_much(tmp_path / "a.nii.gz", (zeros,), 1)
    assert promises_too_much(tmp_path / "a.nii.gz", (2 * zeros,), 1)


def test_the_product_does_not_overflow(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"x" * 1000)
    limit = 1000 + SPARE
    assert not promises_too_much(tmp_path / "a.nii", (limit // 2, 1), 2)
    assert promises_too_much(tmp_path / "a.nii", (limit // 2 + 1, 1), 2)
    assert promises_too_much(tmp_path / "a.nii", (2**31, 2**31, 4), 1)  # 2**64 is 0 in 64 bits
