"""The sites of a federation and what differs between them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from ..bundle import check_overrides
from ..errors import UserError
from ..files import read_text

__all__ = ["read_sites", "site_settings"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_EXAMPLE = '{"hospital-a": {"datalist": "/data/heart/datalist.json"}, "hospital-b": {...}}'


def read_sites(file: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """Read the file that names the sites.

    Args:
        file: JSON of an object for each site, by the site's name, with its ``datalist``, and if need be ``bundle``,
            the bundle's folder there, ``filters_file``, and values of the bundle's keys.

    Raises:
        UserError: the file is missing or damaged, names no sites, or a site has no datalist.
    """
    try:
        sites = json.loads(read_text(file))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read as the sites of a federation, {_EXAMPLE} ({error})") from error
    if not isinstance(sites, dict) or not sites or not all(isinstance(site, dict) for site in sites.values()):
        raise UserError(f"{file}: must hold an object for each site, such as {_EXAMPLE}")
    for name, site in sites.items():
        if not _NAME.fullmatch(name) or name in ("server", "all"):
            raise UserError(f"{file}: {name!r} is no name for a site; write letters, digits and -, such as hospital-a")
        if not isinstance(site.get("datalist"), str):
            raise UserError(f'{file}: {name} has no "datalist"; name the site\'s datalist.json as it is found there')
        for key in ("bundle", "datalist", "filters_file"):
            if not os.path.isabs(str(site.get(key, "/"))):
                raise UserError(f"{file}: {name}: {key} is {site[key]!r}; write the whole path, from / on")
    return sites


def site_settings(
    name: str,
    site: Mapping[str, Any],
    *,
    bundle: Path,
    overrides: Mapping[str, Any],
    shared: Collection[str],
    class_names: Sequence[str] | None,
    local_epochs: int,
    evaluate: bool,
    number: int,
) -> dict[str, Any]:
    """What the site's program is told, see :mod:`.site_program`.

    Args:
        name: the site's name.
        site: its entry in the file of sites.
        bundle: the bundle's folder on this machine, which counts where the site names none.
        overrides: values of the bundle's keys for every site.
        shared: keys that sites must not differ in.
        class_names: names of the classes, which the site's datalist has to give in this order; None if not known here.
        local_epochs: epochs of a round.
        evaluate: whether the site scores the weights that it receives.
        number: the site's number, from 0; sites draw different random numbers.

    Raises:
        UserError: the site sets a key that is unknown, or one that sites must not differ in.
    """
    own = {key: value for key, value in site.items() if key not in ("bundle", "filters_file")}
    config = ConfigParser(ConfigParser.load_config_file(str(bundle / "configs" / "train.json")))
    for key in own:
        if key in shared:
            raise UserError(f"{name}: {key} has to be the same at all sites; give it on the command line, --{key}")
    try:
        own = check_overrides(config, own)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    folder = str(site.get("bundle", bundle))
    datalist = str(own["datalist"])
    train = {
        "dataset_dir": os.path.dirname(datalist),
        "output_dir": os.path.join(folder, "federated", name),
        "publish": False,  # in a packed bundle it is true, and would replace its weights in every round
        "seed": int(overrides.get("seed", config["seed"])) + number,
        # names that a site was given for its own would agree with any
        **{key: value for key, value in overrides.items() if key not in ("seed", "class_names")},
        **own,
    }
    scored = train | {"output_dir": os.path.join(str(train["output_dir"]), "evaluation")}
    del scored["publish"]
    return {
        "bundle": folder,
        "class_names": class_names,
        "local_epochs": local_epochs,
        "train": train,
        "evaluate": scored if evaluate else None,
        "filters": site.get("filters_file"),
    }
