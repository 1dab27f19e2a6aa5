"""Train a bundle on the CPU and on a second device, go on, evaluate and segment; print as JSON what came out.

python tests/shared/second_device_program.py <bundle's folder> <datalist> <image> <output> <keys as JSON> [<overlay>]
"""

from __future__ import annotations

import csv
import json
import statistics
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import second_device
import torch
from monai.bundle.scripts import run

DEVICES = {"cpu": "cpu", second_device.NAME: f"$torch.device('{second_device.NAME}:0')"}


def main(bundle: Path, datalist: str, image: str, output: Path, keys: dict, overlays: list[str]) -> None:
    configs, logging_file = bundle / "configs", str(bundle / "configs" / "logging.conf")
    # a preset by its name would set its number of epochs past the one given here
    presets = json.loads((configs / "train.json").read_text())["presets"]
    keys = presets[keys.pop("preset")] | keys if "preset" in keys else keys
    counting = output / "counting.json"
    counting.write_text('{"+train#handlers": [{"_target_": "second_device.CountReads"}]}')
    labels, scores = {}, {}
    for place, device in DEVICES.items():
        folder = output / place
        shared = {"device": device, "logging_file": logging_file}
        data = {"dataset_dir": str(Path(datalist).parent), "datalist": datalist, "cache_dir": ""}
        data |= {"data_device": "$@device", "output_dir": str(folder)}
        for epochs in (1, 2):
            files = [str(configs / name) for name in ("train.json", *overlays)] + [str(counting)]
            run(config_file=files, **keys, **shared, **data, max_epochs=epochs, resume=epochs > 1)
        known = shared | {"weights": str(folder / "model.pt")}
        files = [str(configs / "train.json"), str(configs / "evaluate.json")]
        run(config_file=files, **known, **data | {"output_dir": str(folder / "scores")})
        run(
            config_file=str(configs / "inference.json"),
            **known,
            dataset_dir=image,
            output_dir=str(folder / "label_maps"),
        )
        [label_map] = folder.rglob("*_seg.nii.gz")
        labels[place] = np.asarray(nib.load(label_map).dataobj)
        with open(folder / "scores" / "metrics.csv", newline="", encoding="utf-8") as table:
            scores[place] = np.array([float(line["dice"]) for line in csv.DictReader(table)])
    states = [torch.load(output / name / "model.pt", weights_only=True) for name in DEVICES]
    one, two = ({key: value.double() for key, value in state.items()} for state in states)
    told = {
        "weights": max(float((one[key] - two[key]).abs().max()) for key in one),
        "same_labels": float(np.mean(labels["cpu"] == labels[second_device.NAME])),
        "dice": float(np.abs(scores["cpu"] - scores[second_device.NAME]).max()),
        "reads": statistics.median(second_device.CountReads.counts[len(second_device.CountReads.counts) // 2 :]),
        "steps": len(second_device.CountReads.counts),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]), json.loads(sys.argv[5]), sys.argv[6:])
