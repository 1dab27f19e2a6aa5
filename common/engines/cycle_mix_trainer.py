"""CycleMix' training loop: originals for their saliency, originals again, then their mix."""

from __future__ import annotations

import math
from typing import Any

import torch
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys

from ..losses.cycle_mix import CycleMixLoss
from ..shared_batch import first_draw, own_share, world_size
from ..transforms.mixing import BatchMixer
from ..transforms.random_occlusion import RandomOcclusion
from ..transforms.rotate_augmentation import rotated
from .bfloat16_inferer import bfloat16_autocast

__all__ = ["CycleMixTrainer"]


class CycleMixTrainer(SupervisedTrainer):
    """Train on the images of a batch and on their mix (Zhang and Zhuang, CVPR 2022, section 3).

    Each iteration (1) finds out where the images are salient: the size of the gradient that the cross entropy of the
    scribbles sends to the input, by a pass that moves no weights, (2) predicts the images, (3) mixes and occludes them
    and their scribbles, (4) predicts the mix, and (5) steps on the loss of both predictions. As in the authors' code
    the passes (1) and (2) are two, and both update the running statistics of the network's normalisation. Passes that
    no term of the loss, and no mixer, needs are left out. Processes that train together mix their whole batch by the
    draws of the first, so that partners may lie on different processes.

    ``engine.state.output`` holds image, label, the originals' prediction (that of the mix where it is the only one),
    loss and ``terms``, the loss's terms by name.

    Args:
        mixer: mixes images and labels.
        occlusion: hides a part of the mixed images; None for none (ablation: #4 against #3).
        rotate_mixed: turn the mixed images by a random angle before they are predicted, and the prediction back, as the
            authors' code does instead of turning the occluding squares. What is turned out of the image is lost.
        kwargs: arguments of MONAI's SupervisedTrainer; the loss is a CycleMixLoss. ``amp`` computes in bfloat16.
    """

    loss_function: CycleMixLoss

    def __init__(
        self,
        *,
        mixer: BatchMixer,
        occlusion: RandomOcclusion | None = None,
        rotate_mixed: bool = False,
        **kwargs: Any,
    ) -> None:
        # MONAI's own switch stands for float16 with a gradient scaler, which bfloat16 does not need
        self.bfloat16 = bool(kwargs.pop("amp", False))
        super().__init__(decollate=False, **kwargs)
        self.mixer = mixer
        self.occlusion = occlusion
        self.rotate_mixed = rotate_mixed

    def _iteration(self, engine: Any, batchdata: dict[str, Any]) -> dict[str, Any]:
        """Run the passes of one iteration and its step; see the class."""
        image, label = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs)
        engine.network.train()
        engine.optimizer.zero_grad(set_to_none=True)
        engine.state.output = {CommonKeys.IMAGE: image, CommonKeys.LABEL: label}
        loss_function = engine.loss_function
        saliency = None
        if loss_function.needs_mixed and self.mixer.needs_saliency:
            saliency = self._saliency(engine, image, label)
        logits = self._predict(engine, image) if loss_function.needs_originals else None
        mixed_logits = None
        target: dict[str, Any] = {"label": label}
        if loss_function.needs_mixed:
            mixed, mixed_target = self.mixer(image, label, saliency)
            if self.occlusion is not None:
                mixed, mixed_target = self.occlusion(mixed, mixed_target)
            mixed_logits = self._predict_mixed(engine, mixed, mixed_target)
            target.update(mixed_target)
        engine.state.output[CommonKeys.PRED] = mixed_logits if logits is None else logits
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        loss = loss_function((logits, mixed_logits), target)
        engine.state.output[CommonKeys.LOSS] = loss
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        loss.backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        engine.optimizer.step()
        engine.state.output["terms"] = loss_function.terms
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _predict(self, engine: Any, image: torch.Tensor) -> torch.Tensor:
        image = image.contiguous(memory_format=torch.channels_last)
        with bfloat16_autocast(image.device.type, self.bfloat16):
            return engine.inferer(image, engine.network)

    def _saliency(self, engine: Any, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Return the root mean square over channels of the loss's gradient to the image, ``[B, 1, H, W]``."""
        watched = image.detach().requires_grad_()
        # past the DDP wrapper, which would wait for gradients of the weights
        network = getattr(engine.network, "module", engine.network)
        with bfloat16_autocast(image.device.type, self.bfloat16):
            logits = engine.inferer(watched, network)
        (gradient,) = torch.autograd.grad(engine.loss_function.scribble_loss(logits, label), watched)
        return gradient.float().square().mean(dim=1, keepdim=True).sqrt()

    def _predict_mixed(self, engine: Any, mixed: torch.Tensor, target: dict[str, Any]) -> torch.Tensor:
        """Predict the mixed images; with ``rotate_mixed`` the target forgets what was turned out of the image."""
        if not self.rotate_mixed:
            return self._predict(engine, mixed)
        turn = own_share(first_draw(torch.rand(len(mixed) * world_size())))
        angle = (2 * math.pi * turn).to(mixed.device)
        logits = self._predict(engine, rotated(mixed, angle))
        # there and back, as the rounding of either turn can bring in a pixel from outside
        there = rotated(rotated(torch.ones_like(mixed[:, :1]), angle), -angle)
        for key in ("label_a", "label_b"):
            target[key] = target[key].masked_fill(there == 0, engine.loss_function.num_classes)
        target["visible"] = there * target.get("visible", 1.0)
        return rotated(logits.float(), -angle)
