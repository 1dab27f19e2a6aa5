"""Damage to JSON documents and tables: to their bytes, and to what they say."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_damage import DAMAGES, Apply, Damage, damage

JSON, TABLE = (".json", "datalist"), (".csv", ".txt", ".ctbl")
TEXT = (*JSON, *TABLE)

for _name in ("cut_to_0.25", "cut_to_0.9", "cut_last_bytes", "empty", "zeros", "text", "web_page", "gzip_of_junk"):
    DAMAGES[_name] = DAMAGES[_name]._replace(endings=(*DAMAGES[_name].endings, *JSON))
for _name in ("missing", "folder", "dangling_link", "link_to_itself", "link_to_zeros", "fifo", "flip", "scramble"):
    DAMAGES[_name] = DAMAGES[_name]._replace(endings=(*DAMAGES[_name].endings, *TEXT))
for _name in ("empty", "zeros", "gzip_of_junk"):
    DAMAGES[_name] = DAMAGES[_name]._replace(endings=(*DAMAGES[_name].endings, *TABLE))

VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    0.5,
    10**25,
    float("nan"),
    float("inf"),
    "",
    " ",
    "liver",
    ".",
    "/",
    "/dev/null",
    "/dev/zero",
    "../../nowhere",
    "a\0b.nii.gz",
    "a\nb.nii.gz",
    "\ud800.nii.gz",
    "x" * 5000,
    "../" * 3000 + "x.nii.gz",
    "patient %s {0} $1",
    "<script>alert(1)</script>",
    [],
    {},
    [[]],
    [None],
    {"": None},
    ["a", "b"],
)
"""What stands in the place of a value."""


def _places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all values of a document."""
    yield path
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield from _places(child, (*path, key))


def _spoiled(document: Any, rng: np.random.Generator) -> Any:
    """The document with a value replaced, taken away, doubled or renamed."""
    places = [place for place in _places(document) if place]
    *way, last = places[rng.integers(len(places))]
    parent = document
    for key in way:
        parent = parent[key]
    kind = rng.integers(8)
    if kind == 0:
        del parent[last]
    elif kind == 1 and isinstance(parent, list):
        parent.insert(last, parent[last])
    elif kind == 1:
        parent[f"{last} "] = parent.pop(last)
    elif kind == 2:
        other = places[rng.integers(len(places))]
        value = document
        try:
            for key in other:
                value = value[key]
            parent[last] = json.loads(json.dumps(value))
        except (KeyError, IndexError):
            del parent[last]
    else:
        parent[last] = VALUES[rng.integers(len(VALUES))]
    return document


@damage("spoil", JSON, image="any", label="any", seeded=True)
def _spoil(path: Path, rng: np.random.Generator) -> None:
    """One to three values are others, gone, double or renamed."""
    document = json.loads(path.read_text(encoding="utf-8"))
    for _ in range(rng.integers(1, 4)):
        document = _spoiled(document, rng) if document else document
    path.write_text(json.dumps(document), encoding="utf-8")


def _text(change: Any) -> Apply:
    def apply(path: Path, _: np.random.Generator) -> None:
        path.write_bytes(change(path.read_text(encoding="utf-8")))

    return apply


def _json(name: str, change: Any, endings: tuple[str, ...] = JSON, **expected: Any) -> None:
    DAMAGES[name] = Damage(_text(change), endings, **expected)


_json("json_null", lambda text: b"null")
_json("json_number", lambda text: b"3")
_json("json_list", lambda text: f"[{text}]".encode())
_json("json_string", lambda text: json.dumps(text).encode())
_json("json_deep", lambda text: b'{"training": ' + b"[" * 200_000)
_json("json_deep_closed", lambda text: b'{"a": ' + b"[" * 9_000 + b"]" * 9_000 + b"," + text.lstrip()[1:].encode())
_json("json_long_number", lambda text: b'{"a": ' + b"9" * 9_000 + b"," + text.lstrip()[1:].encode())
_json("json_nothing_in_it", lambda text: b"{}")
_json("json_trailing_comma", lambda text: text.rstrip()[:-1].encode() + b",}")
_json("json_single_quotes", lambda text: text.replace('"', "'").encode())
_json("json_twice", lambda text: (text + text).encode())
_json("byte_order_mark", lambda text: b"\xef\xbb\xbf" + text.encode(), TEXT, image="any", label="any")
_json("utf_16", lambda text: text.encode("utf-16"), TEXT, image="any", label="any")
_json("latin_1", lambda text: text.replace("a", "\xe4").encode("latin-1"), TEXT, image="any", label="any")
_json("windows_lines", lambda text: text.replace("\n", "\r\n").encode(), TEXT, image="same", label="same")
_json("nul_bytes", lambda text: text.replace(",", ",\0").encode(), TEXT, image="any", label="any")


@damage("spoil_table", TABLE, image="any", label="any", seeded=True)
def _spoil_table(path: Path, rng: np.random.Generator) -> None:
    """Cells with other contents, cells and lines too many or too few."""
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    contents = ["", " ", "nan", "inf", "-1", "1e999", "0.5", "liver", '"', "\0", "9" * 400, "<b>", "é", "x" * 200_000]
    for _ in range(rng.integers(1, 4)):
        row = rows[rng.integers(len(rows))]
        kind = rng.integers(6)
        if kind == 0:
            rows.remove(row)
        elif kind == 1:
            rows.append(row)
        elif kind == 2 and row:
            row.pop()
        elif kind == 3:
            row.append("more")
        elif row:
            row[rng.integers(len(row))] = contents[rng.integers(len(contents))]
        if not rows:
            break
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_MINIMAL).writerows(rows)
    path.write_text(buffer.getvalue(), encoding="utf-8")


def _of_items(name: str, change: Any, **expected: Any) -> None:
    """Damage to a datalist's items."""

    def apply(path: Path, _: np.random.Generator) -> None:
        document = json.loads(path.read_text(encoding="utf-8"))
        change(document)
        path.write_text(json.dumps(document), encoding="utf-8")

    DAMAGES[f"items_{name}"] = Damage(apply, ("datalist",), **({"image": "any", "label": "any"} | expected))


def _all(document: dict[str, Any], key: str, value: Any) -> None:
    for section in ("training", "test"):
        document[section][0][key] = value


_of_items("duplicate_ids", lambda document: [_all(document, key, "heart3") for key in ("case", "patient")])
_of_items("listed_twice", lambda document: [document[name].extend(document[name]) for name in ("training", "test")])
_of_items("string_label", lambda document: _all(document, "label", "liver"), image="error", label="error")
_of_items("number_as_label", lambda document: _all(document, "label", 1), image="error", label="error")
_of_items("no_case", lambda document: [item.pop("case") for item in document["training"] + document["test"]])
_of_items("case_with_slashes", lambda document: _all(document, "case", "../../kidney7"))
_of_items("absolute_case", lambda document: _all(document, "case", "/kidney7"))
_of_items("case_of_dots", lambda document: _all(document, "case", ".."))
_of_items("case_with_nul", lambda document: _all(document, "case", "kidney7\0"))
_of_items("case_with_lines", lambda document: _all(document, "case", "kidney7\nerror: no"))
_of_items("case_too_long", lambda document: _all(document, "case", "kidney7" * 60))
_of_items("number_as_case", lambda document: _all(document, "case", 7))
_of_items("list_as_case", lambda document: _all(document, "case", ["kidney7"]))
_of_items("list_as_patient", lambda document: _all(document, "patient", ["kidney7"]))
_of_items("zeros_as_image", lambda document: _all(document, "image", "/dev/zero"))
_of_items("zeros_as_label", lambda document: _all(document, "label", "/dev/zero"))
_of_items("folder_as_label", lambda document: _all(document, "label", "masks"))
_of_items("datalist_as_label", lambda document: _all(document, "label", "datalist.json"))
_of_items("empty_sections", lambda document: document.update(training=[], test=[]), image="error", label="error")
_of_items("one_class", lambda document: document.update(num_classes=1), image="error", label="error")
_of_items("300_classes", lambda document: document.update(num_classes=300, class_names=[f"c{i}" for i in range(300)]))
_of_items("classes_true", lambda document: document.update(num_classes=True), image="error", label="error")
_of_items("classes_3.0", lambda document: document.update(num_classes=3.0), image="error", label="error")
_of_items("huge_classes", lambda document: document.update(num_classes=10**9), image="error", label="error")
_of_items("names_of_other_types", lambda document: document.update(class_names=[None, 1, {}]))
_of_items("equal_names", lambda document: document.update(class_names=["a", "a", "a"]))
_of_items("names_as_text", lambda document: document.update(class_names="abc"), image="error", label="error")
