"""A federation as a job of NVFlare: federated averaging of weights that every site trains by MONAI's client."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..model_settings import write_settings

__all__ = ["BEST_WEIGHTS", "GLOBAL_WEIGHTS", "START", "Job"]

START = "start.pt"
"""The weights to start from, in the job's folder for the server; their settings lie beside them."""
GLOBAL_WEIGHTS = "FL_global_model.pt"
"""What NVFlare's server calls the weights after the last round."""
BEST_WEIGHTS = "best_FL_global_model.pt"
"""What it calls those that the sites gave the best scores."""
_PROGRAM = "site_program.py"
_STOPPED = "STOPPED: "
"""How a site's program begins the line that tells why it stopped."""


class Job:
    """A job that can be written to a folder or run in NVFlare's simulator.

    Each round the server sends the global weights to all sites, and adds to them the mean of the changes that come
    back, weighed by the number of iterations that a site has trained (McMahan et al., "Communication-efficient learning
    of deep networks from decentralized data", AISTATS 2017, Algorithm 1).

    Args:
        name: the job's name.
        sites: what the site's program is told, by the site's name; see :mod:`.site_program`.
        weights: weights to start from.
        settings: their settings.
        training: what else is to be remembered of the training.
        rounds: number of rounds.
        folder: an empty folder for the job's parts, which has to stay until the job is written or has run.

    Raises:
        UserError: NVFlare is not installed.
    """

    def __init__(
        self,
        name: str,
        *,
        sites: Mapping[str, Mapping[str, Any]],
        weights: Mapping[str, torch.Tensor],
        settings: Mapping[str, Any],
        training: Mapping[str, Any],
        rounds: int,
        folder: Path,
    ) -> None:
        try:
            recipes = importlib.import_module("nvflare.app_opt.pt.recipes.fedavg")
            persistor = importlib.import_module("nvflare.app_opt.pt.file_model_persistor").PTFileModelPersistor
        except ImportError as error:
            raise UserError(
                f"NVFlare is missing ({error}); install it beside this project in an environment of its own, "
                "pip install nvflare==2.9.0, and run this command there"
            ) from error
        self.name = name
        self.sites = list(sites)
        self._folder = folder
        shutil.copy(Path(__file__).with_name(_PROGRAM), folder / _PROGRAM)
        self.recipe = recipes.FedAvgRecipe(
            name=name,
            min_clients=len(sites),
            num_rounds=rounds,
            train_script=_PROGRAM,
            # a path without folders is looked up among the files that travel to the server
            model_persistor=persistor(source_ckpt_file_full_name=START, load_device="cpu"),
            key_metric="mean_dice",
        )
        self.recipe.set_per_site_config({site: {} for site in sites})
        # a folder's files travel by their bare names
        parts = {site: folder / "of_sites" / site for site in ("server", *sites)}
        for part in parts.values():
            part.mkdir(parents=True)
        torch.save(dict(weights), parts["server"] / START)
        write_settings(parts["server"] / START, settings, training)
        self.recipe.add_server_file(str(parts["server"]))
        for site, told in sites.items():
            (parts[site] / "site.json").write_text(json.dumps(told, indent=4) + "\n", encoding="utf-8")
            with contextlib.chdir(folder):  # where the sites' program is looked for
                self.recipe.add_client_file(str(parts[site]), clients=[site])

    def write(self, folder: Path) -> Path:
        """Write the job for ``nvflare job submit``.

        Returns:
            the job's folder, below the given one and called after the job.

        Raises:
            UserError: there is something already.
        """
        target = folder / self.name
        if target.exists():
            raise UserError(f"{target}: is there already; move it away or name another --output")
        path = os.path.abspath(folder)
        with contextlib.chdir(self._folder):
            self.recipe.export(path)
        return target

    def simulate(self, folder: Path) -> Path:
        """Run the job in NVFlare's simulator, the server and all sites as processes of this machine.

        Args:
            folder: where the simulator works and logs.

        Returns:
            the folder that holds what the server keeps.

        Raises:
            UserError: the simulation failed; with what stopped a site.
        """
        workspace = folder / self.name
        if workspace.exists():
            raise UserError(f"{workspace}: is there already; move it away or name another --output")
        environment = importlib.import_module("nvflare.recipe.sim_env").SimEnv(
            clients=self.sites, workspace_root=os.path.abspath(folder)
        )
        try:
            with contextlib.chdir(self._folder):
                self.recipe.run(environment)
        except RuntimeError as error:
            raise UserError(f"the simulation failed: {_stopped(workspace) or error}; see {workspace}") from error
        found = sorted(workspace.rglob(GLOBAL_WEIGHTS))
        if not found:
            raise UserError(f"the simulation failed: {_stopped(workspace) or 'no weights came out'}; see {workspace}")
        return found[0].parent


def _stopped(workspace: Path) -> str:
    """What the sites say that stopped them, read off their logs."""
    found = []
    for log in sorted(workspace.glob("*/log.txt")):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        found += [f"{log.parent.name}: {line.partition(_STOPPED)[2]}" for line in lines if _STOPPED in line]
    return "; ".join(found)
