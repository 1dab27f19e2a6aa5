"""What an evaluation writes: CSV that gives every number back, JSON that every program reads, tables to look at."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest

from common.metrics.score_document import PROTOCOL, csv_text, json_text, score_document, summary_table, text_table
from common.metrics.segmentation_scores import summarise

NAN = float("nan")
NAMES = ["background", "RV", "LV"]


def row(case: str, phase: str | None, index: int, dice: float, hd95: float, outcome: str = "scored") -> dict:
    return {"case": case, "phase": phase, "class_index": index, "outcome": outcome, "dice": dice, "hd95": hd95}


ROWS = [
    row("a", "ED", 1, 0.9, 2.0),
    row("a", "ED", 2, 0.7, 4.0),
    row("b", "ES", 1, 0.5, 8.0),
    row("b", "ES", 2, 0.0, NAN, "missed"),
]


class TestCsv:
    def test_numbers_come_back_as_they_were(self):
        rows = [{"case": "a, \u00fc \u201cb\u201d\n2", "dice": 1 / 3, "hd95": NAN, "n": 3, "phase": None}]
        (read,) = csv.DictReader(io.StringIO(csv_text(rows), newline=""))
        assert read["case"] == rows[0]["case"]
        assert float(read["dice"]) == 1 / 3
        assert math.isnan(float(read["hd95"]))
        assert (read["n"], read["phase"]) == ("3", "")

    def test_text(self):
        assert csv_text(ROWS).splitlines()[::4] == ["case,phase,class_index,outcome,dice,hd95", "b,ES,2,missed,0.0,nan"]

    def test_lines_end_alike_everywhere(self):
        assert "\r" not in csv_text(ROWS)


class TestJson:
    def test_numbers_that_json_does_not_know(self):
        document = {"nan": NAN, "more": [math.inf, (-math.inf, 1.5)], "path": Path("x"), "name": "M\u00fcller", "n": 0}
        text = json_text(document)
        assert "M\u00fcller" in text
        assert text.endswith("}\n")
        expected = {"nan": None, "more": [None, [None, 1.5]], "path": "x", "name": "M\u00fcller", "n": 0}
        assert json.loads(text, parse_constant=pytest.fail) == expected

    def test_document(self):
        summary = summarise(ROWS, NAMES)
        document = score_document(summary, NAMES, meta={"seed": 3})
        assert list(document) == ["protocol", "meta", "class_names", "metrics", "summary"]
        assert (document["protocol"], document["meta"], document["metrics"]) == (PROTOCOL, {"seed": 3}, {})
        assert json.loads(json_text(document))["summary"]["classes"]["LV"]["hd95"]["mean"] == 4

    def test_the_protocol_says_what_was_measured(self):
        for word in ("native grid", "per volume, per class and per phase", "in mm", "95th percentile", "missed"):
            assert word in PROTOCOL


def test_summary_as_a_table():
    # RV: 0.9, 0.5: 0.7 ± 0.2; 2 and 8 mm: 5 ± 3. LV: 0.7, 0: 0.35 ± 0.35; 4 mm alone. All: volumes 0.8 and 0.25: mean
    # 0.525, deviation 0.275; 3 and 8 mm: 5.5 ± 2.5.
    assert summary_table(summarise([{**each, "phase": None} for each in ROWS], NAMES)) == (
        "class  n  Dice mean ± std  median  HD95 (mm) mean ± std  median  missed  invented  absent\n"
        "RV     2    0.700 ± 0.200   0.700           5.00 ± 3.00    5.00       0         0       0\n"
        "LV     2    0.350 ± 0.350   0.350           4.00 ± 0.00    4.00       1         0       0\n"
        "all    2    0.525 ± 0.275   0.525           5.50 ± 2.50    5.50       1         0       0"
    )


def test_phases_follow_below():
    lines = summary_table(summarise(ROWS, NAMES)).splitlines()
    assert [line.partition("  ")[0] for line in lines[4:]] == ["ED RV", "ED LV", "ED all", "ES RV", "ES LV", "ES all"]
    assert lines[-1].split()[2:7] == ["1", "0.250", "±", "0.000", "0.250"]


def test_columns_are_aligned():
    assert text_table([["class", "n"], ["left", "10"], ["r", ""]]) == "class   n\nleft   10\nr"
