from __future__ import annotations

import pytest
import torch
from monai.inferers import SliceInferer

from common.engines.main_head_slices import MainHeadSliceInferer


class TwoHeads(torch.nn.Module):
    """Twice the image, and in train mode something of another size besides."""

    def forward(self, image: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        main = torch.cat([2 * image, -image], dim=1)
        return (main, image[:, :, ::2, ::2].mean(dim=1)) if self.training else main


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_train_mode_gives_the_volume_of_eval_mode(axis: int) -> None:
    volume = torch.randn(1, 1, 9, 7, 5)
    options = {"roi_size": (4, 4), "sw_batch_size": 3, "spatial_dim": axis, "padding_mode": "replicate"}
    network = TwoHeads()
    expected = torch.cat([2 * volume, -volume], dim=1)
    for mode in (True, False):
        torch.testing.assert_close(MainHeadSliceInferer(**options)(volume, network.train(mode)), expected)
    assert torch.equal(
        MainHeadSliceInferer(**options)(volume, network.eval()), SliceInferer(**options)(volume, network.eval())
    )
