from __future__ import annotations

import pytest
import torch

from common.errors import UserError
from common.setting_limits import check_limits


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"seed": 0, "batch_size": 1, "learning_rate": 0.1, "learning_rate_low": 0.1, "patience": None},
        {"pixdim": None, "roi_size": (64, 32)},
        {"pixdim": [1.5, 2], "roi_size": "$@patch_size"},
        {"class_names": ["background", "RV"], "num_classes": 2},
        {"class_names": "$names", "num_classes": 2},
        {"device": torch.device("cpu"), "data_device": "cpu"},
        {"clip_percentiles": (0, 99.5), "momentum": 0, "weight_decay": 0.0},
        {"clip_percentiles": "@percentiles", "image_interpolation": "$3"},
        {"image_interpolation": 3},
        {"image_interpolation": "nearest-exact"},
        {"keep_bodies": None, "keep_components": 2},
        {"keep_bodies": "$1"},
        {"device": "$torch.device('cuda')", "data_device": "@device"},
    ],
)
def test_usual_values(config):
    check_limits(config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"seed": -1}, "--seed: must be at least 0, got -1"),
        ({"batch_size": 0}, "--batch_size: must be at least 1, got 0"),
        ({"val_interval": 0}, "--val_interval: must be at least 1, got 0"),
        ({"learning_rate": float("nan")}, "--learning_rate: must be at least 0, got nan"),
        ({"pixdim": [2, 2, 5]}, "--pixdim: must be two positive in-plane spacings in mm such as [2,2], got [2, 2, 5]"),
        ({"pixdim": 2}, "--pixdim: must be two positive in-plane spacings in mm such as [2,2], got 2"),
        ({"roi_size": None}, "--roi_size: must be two positive numbers of pixels such as [2,2], got None"),
        ({"roi_size": [0, 2]}, "--roi_size: must be two positive numbers of pixels such as [2,2], got [0, 2]"),
        (
            {"learning_rate": 1e-6, "learning_rate_low": 1e-5},
            "--learning_rate: 1e-06 is below learning_rate_low, 1e-05; lower that too",
        ),
        (
            {"class_names": ["background", "RV"], "num_classes": 4},
            "--class_names: names 2 classes where num_classes is 4; name each of them once",
        ),
        ({"crf_radius": 0}, "--crf_radius: must be at least 1, got 0"),
        ({"atn_sigma": 0.0}, "--atn_sigma: must be above 0, got 0.0"),
        ({"crf_sigma_intensity": float("nan")}, "--crf_sigma_intensity: must be above 0, got nan"),
        ({"learning_rate_period": 0}, "--learning_rate_period: must be at least 1, got 0"),
        ({"weight_decay": -1.0}, "--weight_decay: must be at least 0, got -1.0"),
        *[
            (
                {"clip_percentiles": value},
                "--clip_percentiles: must be two percentiles from 0 to 100 such as [0,99], the lower first, "
                f"got {value!r}; [0,100] clips nothing",
            )
            for value in (None, 5, "abc", [1], [1, 2, 3], [90, 10], [5, 5], [-1, 99], [0, 101], ["a", "b"], [0, True])
        ],
        *[
            (
                {"image_interpolation": value},
                "--image_interpolation: must be one of bilinear, nearest, nearest-exact, or the order of a spline such "
                f"as '$3', got {value!r}",
            )
            for value in ("cubic", None, 6, -1, 1.5, True, [1])
        ],
        ({"keep_bodies": 0}, "--keep_bodies: must be a number of pieces to keep, such as 1, or null for all, got 0"),
        ({"device": -1}, "--device: PyTorch finds no device -1 here; give cpu, cuda or cuda:1"),
        ({"data_device": [1]}, "--data_device: PyTorch finds no device [1] here; give cpu, cuda or cuda:1"),
        ({"data_device": None}, "--data_device: PyTorch finds no device None here; give cpu, cuda or cuda:1"),
        ({"device": "gpu"}, "--device: PyTorch finds no device 'gpu' here; give cpu, cuda or cuda:1"),
    ],
)
def test_values_out_of_range(config, message):
    with pytest.raises(UserError) as caught:
        check_limits(config)
    assert str(caught.value) == message


def test_a_gpu_that_is_not_there():
    with pytest.raises(UserError, match=r"^--data_device: PyTorch finds no device 'cuda:99' here; give cpu"):
        check_limits({"data_device": "cuda:99"})
