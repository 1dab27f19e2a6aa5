"""Damage to the headers of NRRD, MetaImage and PNG files."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_damage import DAMAGES, Apply, Damage, damage
from PIL import Image

NRRD, META = (".nrrd",), (".mha", ".mhd")


def _line(field: bytes, value: bytes | None, sign: bytes) -> Apply:
    """Give a field of a text header another value, or take it away."""

    def apply(path: Path, _: np.random.Generator) -> None:
        data = path.read_bytes()
        new = b"" if value is None else field + sign + value + b"\n"
        known = re.compile(rb"^%s *%s.*\n" % (re.escape(field), sign.strip()), re.MULTILINE)
        changed, count = known.subn(lambda _: new, data, count=1)
        path.write_bytes(changed if count else data.replace(b"\n", b"\n" + new, 1))

    return apply


def _nrrd(name: str, field: bytes, value: bytes | None, **expected: Any) -> None:
    DAMAGES[f"nrrd_{name}"] = Damage(_line(field, value, b": "), NRRD, **expected)


def _meta(name: str, field: bytes, value: bytes | None, **expected: Any) -> None:
    DAMAGES[f"meta_{name}"] = Damage(_line(field, value, b" = "), META, **expected)


_nrrd("zero_axis", b"sizes", b"9 0 4")
_nrrd("negative_axis", b"sizes", b"9 -8 4")
_nrrd("one_size_less", b"sizes", b"9 8")
_nrrd("huge_2_gb", b"sizes", b"1024 1024 1300")
_nrrd("huge_70_gb", b"sizes", b"32767 32767 33")
_nrrd("huge_overflow", b"sizes", b"4294967296 4294967296 4294967296")
_nrrd("no_sizes", b"sizes", None)
_nrrd("words_for_sizes", b"sizes", b"nine eight four")
_nrrd("dimension_17", b"dimension", b"17")
_nrrd("dimension_2", b"dimension", b"2")
_nrrd("unknown_type", b"type", b"quaternion")
_nrrd("text_type", b"type", b"block")
_nrrd("double_type", b"type", b"double")
_nrrd("unknown_encoding", b"encoding", b"zstd")
_nrrd("text_encoding", b"encoding", b"ascii", image="any", label="any")
_nrrd("raw_encoding", b"encoding", b"raw", image="any", label="any")
_nrrd("no_encoding", b"encoding", None)
_nrrd("singular_directions", b"space directions", b"(1.5,0,0) (1.5,0,0) (0,0,8)")
_nrrd("zero_directions", b"space directions", b"(0,0,0) (0,0,0) (0,0,0)")
_nrrd("nan_directions", b"space directions", b"(nan,0,0) (0,1.25,0) (0,0,8)", image="any", label="any")
_nrrd("no_directions", b"space directions", b"none none none", image="any", label="any")
_nrrd("skewed_directions", b"space directions", b"(1.5,1.5,0) (0,1.25,0) (0,0,8)", image="any", label="any")
_nrrd("nan_origin", b"space origin", b"(nan,0,0)", image="any", label="any")
_nrrd("unknown_space", b"space", b"sideways", image="any", label="any")
_nrrd("missing_data_file", b"data file", b"nowhere.raw")
_nrrd("data_file_list", b"data file", b"LIST", image="any", label="any")
_nrrd("far_line_skip", b"line skip", b"99999", image="any", label="any")
_nrrd("negative_byte_skip", b"byte skip", b"-9", image="any", label="any")
_nrrd("vectors", b"kinds", b"vector domain domain", image="any", label="any")
_nrrd("version_99", b"NRRD0004", None, image="any", label="any")

_meta("zero_axis", b"DimSize", b"9 0 4")
_meta("negative_axis", b"DimSize", b"9 -8 4")
_meta("one_size_less", b"DimSize", b"9 8", image="any", label="any")
_meta("huge_2_gb", b"DimSize", b"1024 1024 1300")
_meta("huge_70_gb", b"DimSize", b"32767 32767 33")
_meta("huge_overflow", b"DimSize", b"99999999999 99999999999 99999999999")
_meta("no_sizes", b"DimSize", None)
_meta("words_for_sizes", b"DimSize", b"nine eight four")
_meta("dimension_0", b"NDims", b"0")
_meta("dimension_11", b"NDims", b"11")
_meta("unknown_type", b"ElementType", b"MET_QUATERNION")
_meta("double_type", b"ElementType", b"MET_DOUBLE")
_meta("no_type", b"ElementType", None)
_meta("zero_spacing", b"ElementSpacing", b"0 0 0")
_meta("negative_spacing", b"ElementSpacing", b"-1.5 1.25 8", image="any", label="any")
_meta("nan_spacing", b"ElementSpacing", b"nan 1.25 8", image="any", label="any")
_meta("singular_directions", b"TransformMatrix", b"1 0 0 1 0 0 0 0 1")
_meta("nan_directions", b"TransformMatrix", b"nan 0 0 0 1 0 0 0 1", image="any", label="any")
_meta("short_directions", b"TransformMatrix", b"1 0", image="any", label="any")
_meta("nan_origin", b"Offset", b"nan 0 0", image="any", label="any")
_meta("three_channels", b"ElementNumberOfChannels", b"3")
_meta("huge_channels", b"ElementNumberOfChannels", b"2000000000")
_meta("no_data_file", b"ElementDataFile", None)
_meta("data_file_list", b"ElementDataFile", b"LIST")
_meta("data_file_pattern", b"ElementDataFile", b"nowhere%03d.raw 1 3 1")
_meta("missing_data_file", b"ElementDataFile", b"nowhere.raw")
_meta("data_file_is_a_folder", b"ElementDataFile", b"..")
_meta("compressed_size", b"CompressedDataSize", b"99999999999999", image="any", label="any")
_meta("short_compressed_size", b"CompressedDataSize", b"20", image="any", label="any")
_meta("text_data", b"BinaryData", b"False", image="any", label="any")
_meta("big_endian", b"BinaryDataByteOrderMSB", b"True", image="any", label="any")
_meta("far_header_size", b"HeaderSize", b"99999999", image="any", label="any")
_meta("not_compressed", b"CompressedData", b"False", image="any", label="any")


def _chunk(path: Path, place: int, content: bytes) -> None:
    """Change the header of a picture, and give it a check sum that fits."""
    data = bytearray(path.read_bytes())
    data[16 + place : 16 + place + len(content)] = content
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)


@damage("png_huge", (".png",))
def _png_huge(path: Path, _: np.random.Generator) -> None:
    _chunk(path, 0, struct.pack(">2I", 60_000, 40_000))


@damage("png_large", (".png",))
def _png_large(path: Path, _: np.random.Generator) -> None:
    _chunk(path, 0, struct.pack(">2I", 30_000, 3_000))


@damage("png_zero_width", (".png",))
def _png_zero(path: Path, _: np.random.Generator) -> None:
    _chunk(path, 0, struct.pack(">I", 0))


@damage("png_unknown_colours", (".png",))
def _png_unknown(path: Path, _: np.random.Generator) -> None:
    _chunk(path, 8, bytes((8, 5)))


@damage("png_check_sum", (".png",))
def _png_check_sum(path: Path, _: np.random.Generator) -> None:
    data = bytearray(path.read_bytes())
    data[29] ^= 255
    path.write_bytes(data)


@damage("png_colours", (".png",), image="any", label="any")
def _png_colours(path: Path, _: np.random.Generator) -> None:
    Image.open(path).convert("RGBA").save(path)


@damage("png_palette", (".png",), image="any", label="any")
def _png_palette(path: Path, _: np.random.Generator) -> None:
    Image.open(path).convert("P").save(path)


@damage("png_other_picture", (".png",), image="any", label="any")
def _png_other(path: Path, _: np.random.Generator) -> None:
    Image.open(path).convert("RGB").save(path, "JPEG")
