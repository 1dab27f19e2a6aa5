"""Box plots and curves as SVG."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest

from common.reporting.box_plot import box_of, box_plot
from common.reporting.line_chart import line_chart
from common.reporting.palette import class_colour, hex_colour, method_colour
from common.reporting.svg_axes import axes_for, number

NAN = math.nan


def test_box_has_quartiles_whiskers_and_what_lies_beyond() -> None:
    # 1..9 and 30: quartiles at places 2.25, 4.5, 6.75 of 0..9, so 3.25, 5.5, 7.75; reach 1.5 * 4.5 = 6.75, up to 14.5
    box = box_of([30.0, *map(float, range(1, 10)), NAN])
    assert box is not None
    assert box[:5] == (1.0, 3.25, 5.5, 7.75, 9.0)
    assert box.beyond == [30.0]
    assert box_of([NAN]) is None


def test_axes_end_on_round_numbers_and_turn_values_upside_down() -> None:
    axes = axes_for([0.13, 0.97, NAN], width=100, height=130, floor=0.0)
    assert (axes.low, axes.high) == (0.0, 1.0)
    # the frame reaches from 10 to 130 - 30 = 100
    assert [axes.y(value) for value in (0.0, 0.5, 1.0)] == [100, 55, 10]
    assert axes_for([3.0, 3.0], width=100, height=100).low < 3 < axes_for([3.0], width=100, height=100).high
    assert axes_for([NAN], width=100, height=100).high == 1


def test_box_plot_has_a_box_for_each_method_and_class_and_a_dot_for_each_volume() -> None:
    groups = {"RV": {"x": {"a": 0.5, "b": NAN}, "y": {"a": 0.7, "b": 0.9}}, "<all>": {"x": {}, "y": {"a": 0.1}}}
    text = str(box_plot("Dice", groups))
    tree = ET.fromstring(text)
    assert len(tree.findall(".//path[@class='box']")) == 3  # x has nothing under <all>
    dots = tree.findall(".//circle")
    assert [dot.findtext("title") for dot in dots] == ["x, a: 0.500", "y, a: 0.700", "y, b: 0.900", "y, a: 0.100"]
    assert [group.get("class") for group in tree.findall("g")] == ["m0", "m1", "m1"]
    assert "&lt;all&gt;" in text
    heights = [float(str(dot.get("cy"))) for dot in dots]
    assert heights[2] < heights[1] < heights[0] < heights[3]  # higher values stand higher
    assert "http" not in text


def test_many_volumes_leave_only_those_beyond_the_whiskers() -> None:
    values = {f"c{number:03d}": 0.5 + number / 1000 for number in range(100)} | {"far": 5.0}
    text = str(box_plot("HD95", {"A": {"x": values}}))
    assert re.findall(r"<circle.*?<title>(.*?)</title>", text) == ["x, far: 5.000"]


def test_names_of_many_classes_are_slanted() -> None:
    groups = {f"class {number}": {"x": {"a": 0.5}} for number in range(12)}
    assert str(box_plot("Dice", groups)).count("rotate(-30)") == 12
    assert "rotate" not in str(box_plot("Dice", {"A": {"x": {"a": 0.5}}}))


def test_a_nan_interrupts_the_line_and_a_lone_value_is_a_dot() -> None:
    text = str(line_chart("loss", {1: [(1, 1.0), (2, 2.0), (3, NAN), (4, 1.5)], 2: [(1, 1.0), (2, 1.0)]}))
    tree = ET.fromstring(text)
    first, second = tree.findall("g")
    assert (first.get("class"), second.get("class")) == ("m1", "m2")
    path = first.find("path")
    assert path is not None
    assert re.sub(r"[\d. -]", "", str(path.get("d"))) == "ML"
    assert len(first.findall("circle")) == 1
    assert path.get("stroke-dasharray") == "7 3"


def test_a_single_epoch_is_drawn() -> None:
    tree = ET.fromstring(str(line_chart("loss", {0: [(7, 0.5)]})))
    dot = tree.find(".//circle")
    assert dot is not None
    assert float(str(dot.get("cx"))) == pytest.approx((56 + 420 - 8) / 2)  # in the middle of the frame


def test_numbers_are_short() -> None:
    assert [number(value) for value in (3.0, 3.14159, -0.01, 120.96)] == ["3", "3.1", "0", "121"]


def test_colours_differ_for_21_classes() -> None:
    assert class_colour(0) == (255, 255, 255)
    assert hex_colour(class_colour(1)) == "#56B4E9"
    assert len({class_colour(index) for index in range(22)}) == 22
    # 0.6 of #56B4E9 = 86, 180, 233
    assert class_colour(8) == (52, 108, 140)
    assert len({method_colour(index) for index in range(7)}) == 7
