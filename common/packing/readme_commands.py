"""The commands of a bundle's README, compared with the configurations and programs that they call."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import monai.bundle
from monai.bundle import ConfigParser

from ..errors import UserError
from ..tracking import keys_of_tracking
from .config_keys import config_files, merged, stack_of, tracking_file

__all__ = ["check_readme", "options_of_programs"]

# options of `monai.bundle run` beside its keys
_OF_RUN = {"run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking", "args_file"}
_OF_LAUNCHERS = {"nproc_per_node", "nnodes", "node_rank", "master_addr", "master_port", "rdzv_backend", "rdzv_endpoint"}
_OF_LAUNCHERS |= {"rdzv_id", "standalone"}
_BLOCK = re.compile(r"```(?:bash|sh|shell|console)\n(.*?)```", re.DOTALL)


def check_readme(bundle: Path, programs: Mapping[str, set[str]]) -> None:
    """Refuse a README whose commands name a key, a configuration or a program that does not exist.

    Looked at are the commands ``python -m monai.bundle …`` in its blocks of shell code, against the configurations that
    they name, and ``python -m tools …``, against the programs; and the options ``--key`` that its text puts in code,
    against all of these.

    Args:
        bundle: folder of the bundle.
        programs: see :func:`options_of_programs`.

    Raises:
        UserError: naming the README, the key and the command.
    """
    readme = bundle / "docs" / "README.md"
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{readme}: cannot be read ({error.strerror}); a bundle needs it") from error
    known = _OF_RUN.union({"key"}, keys_of_tracking(tracking_file(bundle)), *programs.values())  # --key stands for any
    for block in _BLOCK.findall(text):
        for program, *words in _commands(block, readme):
            if program == "tools":
                _check_program(readme, words, programs)
            else:
                known |= _check_command(bundle, readme, words)
    for path in config_files(bundle):
        known |= set(merged(stack_of(path)).get())
    for line in _BLOCK.sub("", text).splitlines():
        if any(name != bundle.name for name in re.findall(r"bundle `(\w+)`", line)):
            continue  # speaks of another bundle's keys
        for code in re.findall(r"`(--[^`]+)`", line):
            for key in re.findall(r"--(\w+)", code):
                if key not in known | _OF_LAUNCHERS:
                    raise UserError(f"{readme}: `{code}` names --{key}, which no configuration has; mend the text")


def _commands(block: str, readme: Path) -> Iterator[list[str]]:
    """The words of each call of MONAI's bundle programs or of ours in a block, from the program's name on."""
    for line in block.replace("\\\n", " ").splitlines():
        try:
            # shlex would take the # of train#epochs for the start of a comment too
            words = shlex.split(re.sub(r"(?:^|\s)#.*", "", line))
        except ValueError as error:
            raise UserError(f"{readme}: the command {line.strip()!r} cannot be read ({error}); mend it") from error
        for program in ("monai.bundle", "tools"):
            if program in words and words[words.index(program) - 1] == "-m":
                yield words[words.index(program) :]


def options_of_programs(folder: Path) -> dict[str, set[str]]:
    """Read the options of the programs in a folder, without importing them.

    Args:
        folder: holds one file for each program, whose function ``main`` has the options as arguments.

    Returns:
        the options by program.
    """
    programs = {}
    for path in sorted(folder.glob("[!_]*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name == "main":
                programs[path.stem] = {argument.arg for argument in [*node.args.args, *node.args.kwonlyargs]}
    return programs


def _check_program(readme: Path, words: list[str], programs: Mapping[str, set[str]]) -> None:
    name = words[0] if words else ""
    if name not in programs:
        raise UserError(f"{readme}: a command calls the program {name!r}, which does not exist; mend it")
    for key in sorted(_options(words) - programs[name]):
        raise UserError(f"{readme}: a command names --{key}, which the program {name} does not have; mend it")


def _options(words: list[str]) -> set[str]:
    return {word.lstrip("-").partition("=")[0] for word in words[1:] if re.match(r"--\w", word)}


def _check_command(bundle: Path, readme: Path, words: list[str]) -> set[str]:
    """Check one command.

    Args:
        bundle: folder of the bundle.
        readme: for messages.
        words: the words from the subcommand on.

    Returns:
        the options that the command knows.
    """
    command = words[0] if words else ""
    function = getattr(monai.bundle, command, None)
    if not inspect.isfunction(function):
        raise UserError(f"{readme}: a command calls monai.bundle {command!r}, which does not exist; mend it")
    options = _options(words)
    known = {*inspect.signature(function).parameters, *_OF_RUN} - {"override", "kwargs"}
    if "tracking" in options:
        known |= keys_of_tracking(tracking_file(bundle))
    parser = ConfigParser({})
    files = _files_of(bundle, readme, words)
    if files:
        parser = merged(files)
        known |= set(parser.get())
    for key in sorted(options):
        if key not in known and key.replace("#", "::") not in parser:
            names = ", ".join(file.name for file in files) or "the command"
            raise UserError(f"{readme}: a command names --{key}, which {names} does not have; mend it")
    return known


def _files_of(bundle: Path, readme: Path, words: list[str]) -> list[Path]:
    """The configurations after ``--config_file``, wherever the command is to be run from."""
    if "--config_file" not in words[:-1]:
        return []
    value = words[words.index("--config_file") + 1]
    names = ast.literal_eval(value) if value.startswith("[") else [value]
    files = []
    for name in names:
        inside = f"configs/{name.rpartition('configs/')[2]}"
        if not name.endswith(inside) or not (bundle / inside).is_file():
            raise UserError(f"{readme}: a command names {name}, which the bundle does not have; mend it")
        files.append(bundle / inside)
    return files
