"""What a site runs in a federation by NVFlare: MONAI's client around a bundle. It travels in the job as it stands.

NVFlare starts it (its Client API), with ``site.json`` beside it:

- ``bundle``: the bundle's folder on this site;
- ``class_names``: what the classes are called, in the order of their numbers; null if that is not known;
- ``local_epochs``: epochs of a round;
- ``train``, ``evaluate``: values of the bundle's keys; ``evaluate`` may be null;
- ``filters``: a file of MONAI's filters for what is received and sent, null for none.

It needs nothing of this project, so that a bundle that was packed finds its own code alone.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nvflare.client as flare
from monai.bundle import ConfigWorkflow
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, FlStatistics
from monai.fl.utils.exchange_object import ExchangeObject
from nvflare.apis.fl_constant import FLMetaKey
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType


def take_part(settings: dict[str, Any]) -> None:
    """Train in every round that the server starts, from its weights, and send back how they changed.

    Args:
        settings: the content of ``site.json``.
    """
    flare.init()
    client: MonaiAlgo | None = None
    while flare.is_running():
        received = flare.receive()
        if received is None:
            break
        try:
            client = client or started(settings, flare.get_site_name())
            sent = trained(client, received.params, evaluate=settings["evaluate"] is not None)
        except Exception as error:
            print(f"STOPPED: {in_one_line(error)}")  # noqa: T201 - NVFlare writes it to the site's log
            raise
        flare.send(sent)
    if client is not None:
        client.finalize()


def started(settings: dict[str, Any], site: str) -> MonaiAlgo:
    """Read the bundle, check its files and build its networks.

    Args:
        settings: the content of ``site.json``.
        site: the site's name.
    """
    sys.path.insert(0, settings["bundle"])  # the code of a packed bundle lies in its folder
    file = Path(settings["bundle"], "configs", "train.json")
    keys = settings["train"]
    workflow = ConfigWorkflow(str(file), meta_file=None, logging_file=False, workflow_type="train", **keys)
    workflow.initialize()
    *checks, _ = workflow.parser["run"]  # what a run does before it trains; MONAI's client only trains
    for place in range(len(checks)):
        workflow.parser.get_parsed_content(f"run::{place}")
    check_classes(workflow.parser.get_parsed_content("class_names"), settings["class_names"], keys["datalist"])
    client = MonaiAlgo(
        bundle_root=settings["bundle"],
        local_epochs=settings["local_epochs"],
        train_workflow=workflow,
        config_evaluate_filename=None if settings["evaluate"] is None else "default",
        eval_kwargs=dict(settings["evaluate"] or {}),
        config_filters_filename=settings["filters"],
    )
    client.initialize(extra={ExtraItems.CLIENT_NAME: site})
    return client


def check_classes(own: Sequence[str] | str, wanted: Sequence[str] | None, datalist: str) -> None:
    """See that a class has the same number here as at the other sites, so that one network can learn from all.

    Args:
        own: the names of this site's classes, or a text of them with commas.
        wanted: those of the federation; None if they are not known.
        datalist: this site's datalist.

    Raises:
        ValueError: they differ by more than upper and lower case.
    """
    own = [name.strip() for name in own.split(",")] if isinstance(own, str) else own
    if wanted is not None and [name.lower() for name in own] != [name.lower() for name in wanted]:
        raise ValueError(
            f"{datalist}: its classes are {', '.join(own)}, those of the federation {', '.join(wanted)}; change the "
            'labels and names here, or, if both mean the same, give this site "class_names" in the file of sites'
        )


def trained(client: MonaiAlgo, weights: dict[str, Any], *, evaluate: bool) -> FLModel:
    """Train for a round.

    Args:
        client: MONAI's client.
        weights: the server's weights, by name.
        evaluate: whether to score them before.

    Returns:
        how the weights changed, the scores, and the number of iterations, by which the server weighs sites.
    """
    metrics = None
    if evaluate:
        found = client.evaluate(ExchangeObject(weights=weights)).metrics
        metrics = {name: value for name, value in found.items() if isinstance(value, float) and math.isfinite(value)}
    client.train(ExchangeObject(weights=weights))
    changes = client.get_weights()
    steps = changes.statistics[FlStatistics.NUM_EXECUTED_ITERATIONS]
    meta = {FLMetaKey.NUM_STEPS_CURRENT_ROUND: steps}
    return FLModel(params=changes.weights, params_type=ParamsType.DIFF, metrics=metrics, meta=meta)


def in_one_line(error: BaseException) -> str:
    """What a user can mend, if that is what stopped the site, else the first of the errors."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    # each packed bundle has an error class of its own
    found = next((cause for cause in causes if type(cause).__name__ == "UserError"), None)
    text = str(found) if found is not None else f"{type(causes[-1]).__name__}: {causes[-1]}"
    return " ".join(text.split())


if __name__ == "__main__":
    take_part(json.loads(Path(__file__).with_name("site.json").read_text(encoding="utf-8")))
