"""Which modules, data files and foreign packages are reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import UserError
from common.packing.code_closure import closure, names_in, undeclared
from common.packing.renaming import package_name, renamed, renamed_paths

LIBRARY = {
    "__init__.py": "",
    "errors.py": "class UserError(ValueError): ...\n",
    "nets/__init__.py": "",
    "nets/unet.py": "import torch.nn\nfrom . import blocks\nfrom ..errors import UserError\nclass UNet: ...\n",
    "nets/blocks.py": "import math\ndef f():\n    from ..data.table import rows\n    import skimage.draw\n",
    "nets/other.py": "import pandas\n",
    "data/__init__.py": "",
    "data/table.py": "from pathlib import Path\nrows = [Path(__file__).with_name(n) for n in ('table.json', 'more')]\n",
    "data/table.json": "{}",
    "data/more/a.txt": "a",
    "data/alone.json": "{}",
}


@pytest.fixture
def library(tmp_path) -> Path:
    for name, text in LIBRARY.items():
        path = tmp_path / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "lib"


def test_names_are_found_in_targets_and_expressions():
    config = {
        "imports": ["$import lib.data.table as t", "$from lib.errors import UserError"],
        "net": {"_target_": "lib.nets.unet.UNet", "x": ["$lib.nets.blocks.f(@a.lib.b)", 3, None]},
        "not": ["mylib.x", "library.x", "lib"],
    }
    assert names_in(config, "lib") == {"lib.data.table", "lib.errors", "lib.nets.unet.UNet", "lib.nets.blocks.f"}


def test_imports_are_followed_and_data_files_come_along(library):
    found = closure(library, ["lib.nets.unet.UNet"])
    names = {path.as_posix() for path in found.files}
    assert names == set(LIBRARY) - {"nets/other.py", "data/alone.json"}
    assert found.foreign == {"torch": Path("nets/unet.py"), "skimage": Path("nets/blocks.py")}


def test_one_module_brings_no_more_than_it_needs(library):
    names = {path.as_posix() for path in closure(library, ["lib.errors.UserError"]).files}
    assert names == {"__init__.py", "errors.py"}
    with pytest.raises(UserError, match=r"lib\.nets_gone\.UNet: nothing in"):
        closure(library, ["lib.nets_gone.UNet"])


def test_packages_have_to_be_declared_by_themselves_or_by_those_they_come_with(library):
    found = closure(library, ["lib.nets.unet"])
    assert undeclared(found, ["torch"]) == ["nets/blocks.py imports skimage of scikit-image"]
    assert undeclared(found, ["torch", "Scikit_Image"]) == []
    found.foreign = {"numpy": Path("a.py"), "PIL": Path("b.py")}
    # scikit-image requires numpy and pillow
    assert undeclared(found, ["scikit-image"]) == []


def test_the_library_takes_another_name_where_it_is_meant():
    files = {Path("__init__.py"), Path("errors.py"), Path("nets/unet.py")}
    text = "lib.errors, lib.nets.unet; lib.other, my.lib.errors, mylib.errors, lib. Nothing"
    expected = "p_1.errors, p_1.nets.unet; lib.other, my.lib.errors, mylib.errors, lib. Nothing"
    assert renamed(text, "lib", "p_1", files) == expected
    text = "`lib/nets/unet.py`, `lib/nets/other.py`, beside `lib/`, /lib/errors.py"
    expected = "`p_1/nets/unet.py`, `lib/nets/other.py`, beside `p_1/`, /lib/errors.py"
    assert renamed_paths(text, "lib", "p_1", files) == expected
    assert package_name("maag", "0.1.0") == "maag_0_1_0"
    assert package_name("maag", "1.0.0-rc1") == "maag_1_0_0_rc1"
