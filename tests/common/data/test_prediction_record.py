"""The record of a folder of predictions: what is finished, and what is somebody else's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.data.prediction_record import RECORD, PredictionRecord, digest, source_marks
from common.errors import UserError

FILES = ["a_seg.nii.gz", "a_seg.dcm"]


def write(folder: Path, text: str = "result") -> None:
    for name in FILES:
        (folder / name).write_text(text)


def made(folder: Path, text: str = "result") -> dict[str, Path]:
    """The same under temporary names."""
    temporary = {name: folder / f".{name}" for name in FILES}
    for path in temporary.values():
        path.write_text(text)
    return temporary


def reopened(folder: Path) -> PredictionRecord:
    return PredictionRecord(folder, {"bundle": "x"})


def test_a_finished_case_stays_so_until_something_changes(tmp_path: Path) -> None:
    record = reopened(tmp_path)
    record.start()
    record.finish("a", made(tmp_path), "made so", seconds=1.5)
    write(tmp_path)
    record = reopened(tmp_path)
    assert record.is_finished("a", FILES, "made so")
    assert record.is_finished("a", FILES[:1], "made so")
    assert not record.is_finished("a", FILES, "made otherwise")
    assert not record.is_finished("a", [*FILES, "a_more"], "made so")
    assert not record.is_finished("b", FILES, "made so")
    assert record.foreign_file("a", FILES) is None
    (tmp_path / FILES[1]).unlink()
    assert not record.is_finished("a", FILES, "made so")
    assert record.foreign_file("a", FILES) is None
    content = json.loads((tmp_path / RECORD).read_text())
    assert (content["bundle"], content["cases"]["a"]["seconds"]) == ("x", 1.5)


def test_files_that_are_somebodys_work(tmp_path: Path) -> None:
    write(tmp_path)
    assert reopened(tmp_path).foreign_file("a", FILES) == "a_seg.nii.gz"
    record = reopened(tmp_path)
    record.finish("a", made(tmp_path), "made so")
    (tmp_path / FILES[1]).write_text("corrected by hand")
    assert reopened(tmp_path).foreign_file("a", FILES) == "a_seg.dcm"
    assert not reopened(tmp_path).is_finished("a", FILES, "made so")


def test_the_files_of_a_run_that_was_stopped_are_its_own(tmp_path: Path) -> None:
    record = reopened(tmp_path)
    record.start()
    record.finish("a", made(tmp_path), "made so")  # and here the process is killed, before a file is in place
    assert not reopened(tmp_path).is_finished("a", FILES, "made so")
    assert reopened(tmp_path).foreign_file("a", FILES) is None
    write(tmp_path)
    for attempt in ("second", "third"):
        record = reopened(tmp_path)
        record.start()
        record.finish("a", made(tmp_path, attempt), "made otherwise")  # and here
        assert not reopened(tmp_path).is_finished("a", FILES, "made otherwise")
        assert reopened(tmp_path).foreign_file("a", FILES) is None
    (tmp_path / FILES[0]).write_text("third")  # or here, between two files
    assert not reopened(tmp_path).is_finished("a", FILES, "made otherwise")
    assert reopened(tmp_path).foreign_file("a", FILES) is None
    (tmp_path / FILES[1]).write_text("third")
    assert reopened(tmp_path).is_finished("a", FILES, "made otherwise")


def test_a_file_that_was_corrected_stays_somebodys_work_whatever_a_later_run_comes_to(tmp_path: Path) -> None:
    record = reopened(tmp_path)
    record.finish("a", made(tmp_path), "made so")
    write(tmp_path)
    reopened(tmp_path).start()  # a run that is stopped at once, or whose case fails
    (tmp_path / FILES[0]).write_text("corrected by hand")
    assert reopened(tmp_path).foreign_file("a", FILES) == FILES[0]
    record = reopened(tmp_path)
    record.finish("a", made(tmp_path, "new"), "made otherwise")  # one that may replace it, but is stopped before
    assert reopened(tmp_path).foreign_file("a", FILES) == FILES[0]
    (tmp_path / "b").write_text("by hand, where a run that was stopped had nothing yet")
    assert reopened(tmp_path).foreign_file("b", ["b"]) == "b"


def test_a_file_that_a_later_run_left_out_is_still_its_own(tmp_path: Path) -> None:
    record = reopened(tmp_path)
    record.finish("a", made(tmp_path), "made so")
    write(tmp_path)
    record.finish("a", {FILES[0]: made(tmp_path)[FILES[0]]}, "made otherwise")
    assert reopened(tmp_path).foreign_file("a", FILES) is None


def test_an_older_record_of_a_run_that_was_stopped(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text(json.dumps({"cases": {"a": {"files": dict.fromkeys(FILES)}}}))
    record = reopened(tmp_path)
    assert not record.is_finished("a", FILES, "made so")
    write(tmp_path)
    assert record.foreign_file("a", FILES) is None
    record.finish("a", made(tmp_path, "new"), "made so")
    assert record.foreign_file("a", FILES) is None
    (tmp_path / FILES[1]).write_text("corrected by hand")
    assert reopened(tmp_path).foreign_file("a", FILES) == FILES[1]


def test_a_broken_link_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / FILES[0]).symlink_to(tmp_path / "nowhere")
    assert reopened(tmp_path).foreign_file("a", FILES) == FILES[0]


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", '{"cases": []}', '{"cases": {"a": {}}}', '{"cases": {"a": {"files": 1}}}'),
        '{"cases": {"a": {"files": {}, "before": 1}}}',
    ],
)
def test_a_record_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(UserError, match=rf"^{tmp_path}/{RECORD}: is no record of predictions; remove it"):
        reopened(tmp_path)


def test_digests_tell_values_and_sources_apart(tmp_path: Path) -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})
    (tmp_path / "x").write_text("1")
    before = source_marks([tmp_path / "x"])
    assert before == source_marks([tmp_path / "x"])
    (tmp_path / "x").write_text("12")
    assert before != source_marks([tmp_path / "x"])
    with pytest.raises(UserError, match=r"y: cannot be read \(No such file or directory\)"):
        source_marks([tmp_path / "y"])
