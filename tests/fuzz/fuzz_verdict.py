"""What must hold of every command, whatever its input."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fuzz_damage import DAMAGES
from fuzz_files import VICTIM
from fuzz_stages import STAGES, parse

MOST_MEMORY = 1 << 30
"""Bytes; the largest study has some thousand voxels."""
_LONGEST_LINE = 2000
_SUMMED = ("flip", "scramble", "cut_last_byte", "cut_end_mark", "bytes_behind_the_end")


def needs_healthy(case: str) -> bool:
    """Whether the result has to be compared with that of healthy files."""
    stage_name, ending, name, _ = parse(case)
    if name == "healthy":
        return False
    expected = DAMAGES[name].image if STAGES[stage_name].kind == "image" else DAMAGES[name].label
    return expected == "same" or _is_summed(stage_name, ending, name)


def _is_summed(stage_name: str, ending: str, name: str) -> bool:
    """Whether a check sum tells of the damage, unless it does no harm."""
    return ending in (".nii.gz", ".png") and STAGES[stage_name].reads and name in _SUMMED


def faults_of(case: str, result: Mapping[str, Any]) -> list[str]:
    """What is wrong with how a command ended, a line for each fault."""
    stage_name, _, name, _ = parse(case)
    stage = STAGES[stage_name]
    faults = [f"a stack trace: {result['crash'].strip().splitlines()[-1]}"] if result["crash"] else []
    faults += _of_lines(result)
    if result["memory"] > MOST_MEMORY:
        faults.append(f"takes {result['memory'] / 1e9:.1f} GB")
    if result["changed"]:
        faults.append(f"changed its input: {result['changed']}")
    faults += _of_files(stage_name, result)
    expected = "same" if name == "healthy" else result["damage"][stage.kind]
    told = VICTIM in result["out"] + result["err"] or result["victim"] in result["out"] + result["err"]
    gone = stage.searches and name != "healthy" and result["damage"]["gone"]
    if expected == "error" and stage.refuses and not gone and (result["status"] != 1 or not told):
        faults.append("is not refused by name")
    if expected == "same" and result["status"] != 0:
        faults.append("is refused, but harmless")
    if result["status"] == 0 and needs_healthy(case) and result["written"] != result["healthy"]:
        faults.append("gives another result than the healthy file, without a word")
    return faults


def _of_lines(result: Mapping[str, Any]) -> list[str]:
    """One line for a mistake, and nothing from the depths."""
    faults = []
    if result["crash"]:
        return faults
    lines = result["err"].splitlines()
    said = [line for line in lines if not line.startswith("failed: ") and ": left out, " not in line]
    if result["status"] not in (0, 1):
        faults.append(f"ends with status {result['status']}")
    if result["status"] == 1 and (len(said) != 1 or not said[0].startswith("error: ")):
        faults.append(f"says other things than one error: {said}")
    if result["status"] == 0 and said:
        faults.append(f"says on its way: {said}")
    faults += [f"says too much in a line: {line[:200]}..." for line in lines if len(line) > _LONGEST_LINE]
    for line in [*lines, *result["out"].splitlines()]:
        if re.search(r"Traceback|object at 0x|<class '|itk::ERROR", line):
            faults.append(f"speaks of its insides: {line}")
        if any(ord(sign) < 32 and sign != "\t" for sign in line):
            faults.append(f"prints control signs: {line!r}")
    return faults


def _of_files(stage_name: str, result: Mapping[str, Any]) -> list[str]:
    """Nothing half-written."""
    spoiled = result["victim"] if stage_name in ("datalist_earlier", "predict_record") else None
    faults = [
        f"wrote {name} {said}"
        for name, said in result["written"].items()
        if said[:9] == "not whole" and name != spoiled
    ]
    faults += [f"left {name}" for name in result["written"] if any(part.startswith(".") for part in name.split("/"))]
    if stage_name.startswith("evaluate") and result["status"] and result["written"]:
        faults.append(f"wrote {list(result['written'])} in spite of an error")
    return faults
