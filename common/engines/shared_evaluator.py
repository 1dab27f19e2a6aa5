"""Evaluation by several processes, of which some may have nothing to evaluate."""

from __future__ import annotations

import torch
import torch.distributed as dist
from ignite.engine import Events
from monai.engines import SupervisedEvaluator

from ..shared_batch import world_size

__all__ = ["SharedEvaluator"]


class SharedEvaluator(SupervisedEvaluator):
    """MONAI's SupervisedEvaluator for processes that each evaluate a share of the volumes.

    Two things differ. All evaluate with the buffers of process 0, so that the scores are those of the weights that it
    saves: batch normalisation keeps running statistics of its own on each process. And a process without any volume
    takes part in what the others do together at the end, where MONAI's engine leaves at once and lets them wait.
    """

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Evaluate this process's share of the volumes.

        Args:
            global_epoch: the trainer's epoch.
        """
        _take_first_buffers(self.network)
        if self.state.epoch_length != 0 or len(self.data_loader.dataset) == 0:  # type: ignore[union-attr, arg-type]
            super().run(global_epoch)
            return
        self.state.max_epochs = self.state.epoch = global_epoch
        for event in (Events.STARTED, Events.EPOCH_STARTED, Events.EPOCH_COMPLETED, Events.COMPLETED):
            self.fire_event(event)


@torch.no_grad()
def _take_first_buffers(network: torch.nn.Module) -> None:
    if world_size() > 1:
        for buffer in network.buffers():
            dist.broadcast(buffer, src=0)
