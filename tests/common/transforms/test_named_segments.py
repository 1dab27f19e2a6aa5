"""Segments as 3D Slicer describes them in the header of a .seg.nrrd file."""

from __future__ import annotations

import re

import pytest

from common.errors import UserError
from common.transforms.named_segments import Segment, segments_of


def header(*segments: tuple[str, str | None, str | None]) -> dict[str, str]:
    """Text fields for segments of a name, a value and a layer."""
    fields = {"Segmentation_SourceRepresentation": "Binary labelmap", "space": "left-posterior-superior"}
    for number, (name, value, layer) in enumerate(segments):
        fields |= {f"Segment{number}_ID": f"Segment_{number + 1}", f"Segment{number}_Name": name}
        fields |= {f"Segment{number}_LabelValue": value} if value else {}
        fields |= {f"Segment{number}_Layer": layer} if layer else {}
    return fields


def test_values_and_layers_are_those_of_the_header() -> None:
    found = segments_of(header(("RV", "7", "1"), ("LV", "2", "0"), ("MYO", "1", "1")), layers=2)
    assert found == [Segment("RV", 7, 1), Segment("LV", 2, 0), Segment("MYO", 1, 1)]


def test_segments_are_in_the_order_of_their_numbers() -> None:
    fields = header(*((f"s{number}", str(number + 1), "0") for number in range(12)))
    turned = dict(sorted(fields.items(), reverse=True))  # as text, Segment10 comes before Segment2
    assert [segment.value for segment in segments_of(turned)] == list(range(1, 13))


def test_old_files_have_a_layer_for_each_segment() -> None:
    assert segments_of(header(("RV", None, None), ("MYO", None, None)), layers=2) == [
        Segment("RV", 1, 0),
        Segment("MYO", 1, 1),
    ]


def test_a_header_without_segments() -> None:
    assert segments_of({"space": "left-posterior-superior", "Segment_Name": "RV", 5: "RV"}) == []


@pytest.mark.parametrize("word", ["Master", "Source"])
def test_fractional_segmentations_are_refused(word: str) -> None:
    fields = header(("RV", "1", "0")) | {f"Segmentation_{word}Representation": "Fractional labelmap"}
    with pytest.raises(UserError, match=r"^the segmentation is a fractional label map; export it from 3D Slicer"):
        segments_of(fields)


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        (("RV", "one", "0"), "segment \"RV\" has the value 'one' in layer '0', no numbers"),
        (("RV", "1", "x"), "segment \"RV\" has the value '1' in layer 'x', no numbers"),
        (("RV", "1", "2"), 'segment "RV" is said to be in layer 2, but there are 2'),
        (("RV", "1", "-1"), 'segment "RV" is said to be in layer -1, but there are 2'),
    ],
)
def test_damaged_headers(segment: tuple[str, str, str], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        segments_of(header(segment), layers=2)
