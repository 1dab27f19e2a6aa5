"""Naming the cases of image and label files: by the files' names, or by the folders' where files are called alike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ..errors import UserError
from .case_names import annotator_of, case_of, frame_of_case
from .dicom_frames import frames_of_files
from .found_files import Found

__all__ = ["how_to_rename", "name_images", "name_labels"]

_OTHER_CHANNEL = re.compile(r"(.+)_000[1-9]$")


def name_images(entries: Sequence[Found], *, option: str = "--images") -> dict[str, Found]:
    """The images by the name of their case.

    This is the file's name without its role, such as ``_0000``. If two images are called alike, all are named by
    their folders: ``p1/scan.nii.gz`` is p1, and with several files in a folder ``p1/ED.nii.gz`` is p1_ED. So are
    DICOM series; each frame of a cine series is a case, p1_frame01 and so on. Of the folders' names only as many are
    taken as it needs to tell them apart.

    Args:
        entries: the images.
        option: the option that names the files, for messages.

    Raises:
        UserError: two images get one name, or one is a second channel of another.
    """
    stems = Counter(case_of(entry.stem) for entry in entries if not entry.slices)
    for entry in entries:
        match = _OTHER_CHANNEL.match(entry.stem)
        if match and stems[match[1]] and not entry.slices:
            raise UserError(
                f"{entry.path}: is another channel of {match[1]}_0000; put the channels into one file, or name one of "
                "them: 'folder/*_0000.nii.gz'"
            )
    alike = len(stems) < stems.total()
    names = _folder_names(entries)
    files = Counter(entry.folders for entry in entries)
    by_name: dict[tuple[str, str], Found] = {}
    for entry in entries:
        if entry.slices:
            name = names[entry.folders] or entry.path.name
        elif not alike:
            name = case_of(entry.stem)
        else:
            alone = files[entry.folders] == 1 and names[entry.folders]
            name = _join(names[entry.folders], "" if alone else case_of(entry.stem))
        _enter(by_name, (name, ""), entry, option)
    return {case: each for (name, _), entry in by_name.items() for case, each in _frames(name, entry)}


def _frames(name: str, entry: Found) -> Iterator[tuple[str, Found]]:
    frames = frames_of_files(entry.slices) if entry.slices else []
    if len(frames) < 2:
        yield name, entry
        return
    for number, frame in enumerate(frames, start=1):
        yield frame_of_case(name, number), entry._replace(slices=frame)


def name_labels(entries: Sequence[Found], images: Mapping[str, Found], option: str) -> dict[str, list[Found]]:
    """The label files by the name of their case: that of an image where the file's or its folders' names give one.

    Only scribbles of several annotators (``_scribble_1``, ``_scribble_2``) are several files of one case.

    Args:
        entries: the label files, of one role.
        images: the images by case.
        option: the option that names the files, for messages.

    Raises:
        UserError: two files get one name.
    """
    named_by_folder = any(entry.slices or name != case_of(entry.stem) for name, entry in images.items())
    by_name: dict[tuple[str, str], Found] = {}
    for entry in entries:
        name = case_of(entry.stem)
        if name not in images and named_by_folder:
            candidates = list(_candidates(entry))
            name = next((candidate for candidate in candidates if candidate in images), candidates[0])
        _enter(by_name, (name, annotator_of(entry.stem)), entry, option)
    cases: dict[str, list[Found]] = {}
    for (name, _), entry in sorted(by_name.items(), key=lambda pair: (len(pair[0][1]), pair[0])):
        cases.setdefault(name, []).append(entry)
    return cases


def how_to_rename(case: str, images: Mapping[str, Found]) -> str:
    """What to call a label file whose case has no image."""
    frame = frame_of_case(case, 1)
    return f"name its frame of the cine series, as {frame}" if frame in images else "rename it"


def _candidates(entry: Found) -> Iterator[str]:
    """What a label's case may be called by its folders, the longest name first; outer ones need not count."""
    stem = case_of(entry.stem)
    for start in range(len(entry.folders)):
        for end in range(len(entry.folders), start, -1):
            folders = "_".join(entry.folders[start:end])
            yield from (_join(folders, stem), folders)
    yield stem


def _folder_names(entries: Sequence[Found]) -> dict[tuple[str, ...], str]:
    """A name for each folder: as few of its parts, from the first one on that differs, as no other folder has."""
    base = _common_folders(entries)
    folders = {entry.folders for entry in entries}
    shared = Counter(parts[:end] for parts in folders for end in range(len(parts) + 1))
    names = {}
    for parts in folders:
        end = next((end for end in range(base + 1, len(parts)) if shared[parts[:end]] == 1), len(parts))
        names[parts] = "_".join(parts[base:end])
    return names


def _common_folders(entries: Sequence[Found]) -> int:
    """How many folders all have in common; none where all lie in one folder, which then may be the case's."""
    folders = {entry.folders for entry in entries}
    if len(folders) < 2:
        return 0
    pairs = zip(min(folders), max(folders), strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), len(min(folders)))


def _join(first: str, second: str) -> str:
    return "_".join(part for part in (first, second) if part)


def _enter(by_name: dict[tuple[str, str], Found], name: tuple[str, str], entry: Found, option: str) -> None:
    other = by_name.setdefault(name, entry)
    if other is not entry:
        raise UserError(
            f"{other.path} and {entry.path} are both of case {name[0]}; rename one, or let {option} be a pattern that "
            "leaves one out"
        )
