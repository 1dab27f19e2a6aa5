"""Intensity normalisations against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.errors import UserError
from common.transforms.normalise import NormalizeIntensitiesd


def normalise(values: torch.Tensor) -> MetaTensor:
    return NormalizeIntensitiesd("image")({"image": MetaTensor(values, affine=torch.eye(4) * 2)})["image"]


def test_five_values() -> None:
    # sorted 0 2 4 8 20: median 4, quartiles 2 and 8, range 6
    out = normalise(torch.tensor([8.0, 0.0, 20.0, 2.0, 4.0]).reshape(1, 5, 1, 1))
    expected = [4 / 6, -4 / 6, 16 / 6, -2 / 6, 0.0]
    np.testing.assert_allclose(out.numpy().ravel(), expected, atol=1e-6)
    assert out.dtype == torch.float32
    assert torch.equal(out.affine, torch.eye(4, dtype=torch.float64) * 2)


def test_quartiles_are_of_the_volume_not_of_a_slice_or_channel() -> None:
    # slices of 0..3 and 10..13 together: median 6.5, quartiles at positions 1.75 and 5.25 = 1.75 and 11.25, range 9.5
    values = torch.tensor([[0.0, 1, 2, 3], [10, 11, 12, 13]])
    expected = (values - 6.5) / 9.5
    over_slices = normalise(values.T.reshape(1, 2, 2, 2))
    np.testing.assert_allclose(over_slices.numpy().reshape(4, 2), expected.T, atol=1e-6)
    over_channels = normalise(values.reshape(2, 2, 2, 1))
    np.testing.assert_allclose(over_channels.numpy().reshape(2, 4), expected, atol=1e-6)


def test_no_range_falls_back_to_the_deviation_then_to_one() -> None:
    # seven zeros and one 8: quartiles 0, mean 1, variance (7 * 1 + 49) / 8 = 7
    out = normalise(torch.tensor([0.0] * 7 + [8.0]).reshape(1, 2, 2, 2))
    np.testing.assert_allclose(out.numpy().ravel(), [0.0] * 7 + [8 / 7**0.5], atol=1e-6)
    assert torch.equal(normalise(torch.full((1, 2, 2, 2), 5.0)).as_tensor(), torch.zeros(1, 2, 2, 2))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_not_finite(bad: float) -> None:
    image = MetaTensor(torch.tensor([[[[1.0, bad]]]]), meta={"filename_or_obj": "scan.nii"})
    with pytest.raises(UserError, match=r"^scan\.nii holds NaN or infinite values"):
        NormalizeIntensitiesd("image")({"image": image})


def test_integer_input_and_missing_key() -> None:
    out = NormalizeIntensitiesd(["image", "t2"], allow_missing_keys=True)({"image": torch.arange(5).reshape(1, 5, 1)})
    # 0..4: median 2, quartiles 1 and 3
    assert out["image"].ravel().tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("z_score", [-2 / 2**0.5, -1 / 2**0.5, 0.0, 1 / 2**0.5, 2 / 2**0.5]),  # 2..6: mean 4, variance 2
        ("unit", [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("symmetric", [-1.0, -0.5, 0.0, 0.5, 1.0]),
        ("maximum", [2 / 6, 3 / 6, 4 / 6, 5 / 6, 1.0]),
    ],
)
def test_other_methods(method: str, expected: list[float]) -> None:
    image = torch.arange(2, 7).reshape(1, 5, 1, 1)
    out = NormalizeIntensitiesd("image", method=method)({"image": image})["image"]
    np.testing.assert_allclose(np.asarray(out).ravel(), expected, atol=1e-6)
    constant = NormalizeIntensitiesd("image", method=method)({"image": torch.zeros(1, 5, 1, 1)})["image"]
    assert torch.equal(torch.as_tensor(constant), torch.zeros(1, 5, 1, 1))


def test_each_slice_by_itself() -> None:
    image = torch.stack([torch.arange(5.0), 10 * torch.arange(5.0)], -1).reshape(1, 5, 1, 2)
    out = NormalizeIntensitiesd("image", method="unit", per_slice=True)({"image": image})["image"]
    np.testing.assert_allclose(np.asarray(out)[0, :, 0].T, [[0, 0.25, 0.5, 0.75, 1]] * 2, atol=1e-6)


def test_unknown_method() -> None:
    with pytest.raises(UserError, match=r"--normalisation: must be one of .*'median_iqr'.*, got 'minmax'"):
        NormalizeIntensitiesd("image", method="minmax")
