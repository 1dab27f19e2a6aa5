"""Train a bundle at many hospitals at once, whose images stay where they are: a job for NVFlare, or its simulator.

    python -m tools federate job bundles/maag --sites sites.json --rounds 20 --output build/jobs
    python -m tools federate simulate bundles/maag --sites sites.json --rounds 2 --output runs/federated
    python -m tools federate collect bundles/maag --job build/jobs/maag --result FL_global_model.pt --output runs/heart

It needs NVFlare, in an environment of its own. See docs/federated.md.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from common.errors import UserError
from common.federated.nvflare_job import BEST_WEIGHTS, GLOBAL_WEIGHTS, START, Job
from common.federated.sites import read_sites, site_settings
from common.federated.starting_point import inference_weights, starting_point
from common.files import atomic_file, writable_folder
from common.model_settings import read_settings, read_training, write_settings
from common.packing.bundle_folder import bundle_folder

_STEPS = ("job", "simulate", "collect")


def main(
    step: str,
    bundle: str,
    *,
    output: str,
    sites: str | None = None,
    rounds: int = 10,
    local_epochs: int = 1,
    weights: str | None = None,
    fresh: bool = False,
    evaluate: bool = True,
    name: str | None = None,
    job: str | None = None,
    result: str | None = None,
    **overrides: Any,
) -> None:
    """Write a federation's job, run it in NVFlare's simulator, or take the network's weights out of a job's result.

    Args:
        step: job, simulate or collect.
        bundle: name of a bundle of this project, or a bundle's folder, such as that of an unpacked release.
        output: job: folder that the job's own folder is put in. simulate: folder for what the simulator leaves, and
            the weights after the last round, model.pt. collect: folder for model.pt.
        sites: job, simulate: JSON file with an object for each site, by its name, with the "datalist" there and if
            need be "bundle", the bundle's folder there, "filters_file", and any key of the bundle, such as "device".
        rounds: how often the sites send what they learned.
        local_epochs: epochs that a site trains between.
        weights: file of the weights to start from, with their settings beside them; by default the bundle's own.
        fresh: start from new weights that are drawn by the key seed.
        evaluate: whether sites score the weights that each round starts from on their validation cases, with dense
            masks; the weights with the best mean go to model_best.pt.
        name: name of the job; by default that of the bundle's folder.
        job: collect: folder of the job.
        result: collect: the server's FL_global_model.pt, or best_FL_global_model.pt.
        overrides: keys of the bundle that hold at all sites, such as --batch_size 8 or --federate_discriminator true.

    Raises:
        UserError: an option makes no sense, the sites contradict each other, or a site stopped.
    """
    if step not in _STEPS:
        raise UserError(f"{step}: is no step; choose one of {', '.join(_STEPS)}")
    folder = bundle_folder(bundle)
    target = Path(output).expanduser().absolute()
    if step == "collect":
        if job is None or result is None:
            raise UserError("collect: name --job, the folder of the job, and --result, the server's FL_global_model.pt")
        start = next(Path(job).expanduser().rglob(START), None)
        if start is None:
            raise UserError(f"{job}: holds no {START}; name the folder of a job that this command wrote")
        _publish(folder, Path(result).expanduser(), start, target / "model.pt")
        return
    if sites is None:
        raise UserError(f"{step}: name --sites, a JSON file of the sites and their datalists; see docs/federated.md")
    for key, value in {"rounds": rounds, "local_epochs": local_epochs}.items():
        if type(value) is not int or value < 1:
            raise UserError(f"--{key}: must be 1 or more, got {value!r}")
    found = read_sites(sites)
    file = None if fresh else Path(weights or folder / "models" / "model.pt").expanduser()
    if fresh and weights is not None:
        raise UserError("give --weights or --fresh, not both")
    datalist = str(next(iter(found.values()))["datalist"])
    start_from = starting_point(folder, overrides, weights=file, datalist=datalist, epochs=rounds * local_epochs)
    told = {
        site: site_settings(
            site,
            own,
            bundle=folder,
            overrides=start_from.overrides,
            shared=start_from.settings,
            class_names=start_from.class_names,
            local_epochs=local_epochs,
            evaluate=evaluate,
            number=number,
        )
        for number, (site, own) in enumerate(found.items())
    }
    training = {"bundle": folder.name, "sites": len(told), "rounds": rounds, "local_epochs": local_epochs}
    training |= {} if start_from.class_names is None else {"class_names": start_from.class_names}
    writable_folder(target)
    with tempfile.TemporaryDirectory(prefix="federate_") as parts:
        made = Job(
            name or folder.name,
            sites=told,
            weights=start_from.weights,
            settings=start_from.settings,
            training=training,
            rounds=rounds,
            folder=Path(parts),
        )
        if step == "job":
            print(f"{made.write(target)}: a job for {', '.join(told)}; hand it in by nvflare job submit -j <folder>")
            return
        kept = made.simulate(target / "simulation")
    start = next(kept.rglob(START))
    _publish(folder, kept / GLOBAL_WEIGHTS, start, target / "model.pt")
    if (kept / BEST_WEIGHTS).is_file():
        _publish(folder, kept / BEST_WEIGHTS, start, target / "model_best.pt")


def _publish(bundle: Path, result: Path, start: Path, target: Path) -> None:
    """Write the network's weights out of the server's file, and their settings beside them."""
    try:
        content = torch.load(result, map_location="cpu", weights_only=True)["model"]
    except Exception as error:
        raise UserError(
            f"{result}: cannot be read as the weights of NVFlare's server ({type(error).__name__})"
        ) from error
    settings = read_settings(start)
    state = inference_weights(bundle, settings, content)
    with atomic_file(target) as temporary:
        torch.save(state, temporary)
        write_settings(target, settings, read_training(start))
    print(f"weights of the federation: {target}")
