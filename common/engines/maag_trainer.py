"""MAAG's training loop: a supervised step, then the adversarial game on unlabelled images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import torch
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys
from torch.nn import functional as F

from ..data.cycling_batches import CyclingBatches
from ..errors import UserError
from ..losses.batch_statistics import batch_mean
from ..losses.least_squares_adversarial import LeastSquaresDiscriminatorLoss, LeastSquaresGeneratorLoss
from .bfloat16_inferer import bfloat16_autocast
from .prepare_batch import AugmentingPrepareBatch

__all__ = ["MAAGTrainer", "foreground_probabilities", "mask_pyramid"]

logger = logging.getLogger(__name__)


class MAAGTrainer(SupervisedTrainer):
    """Train a segmentor with scribbles against a discriminator of masks (Valvano et al., TMI 2021, section III-C).

    Each iteration (1) steps the segmentor on a scribble batch with a0 * L_SUP + a1 * V(Sigma), where
    a0 = |V(Sigma)| / |L_SUP| carries no gradient, (2) steps the discriminator on unpaired masks and the predictions
    of an unlabelled batch with a2 * V(Delta), (3) steps the segmentor on the same unlabelled batch with a3 * V(Sigma)
    of the updated discriminator. ``engine.state.output["terms"]`` holds the single terms.

    Without a discriminator or without masks the trainer minimises L_SUP alone, and says so.

    Args:
        discriminator: scores tuples of soft segmentations, see MultiScaleDiscriminator; None for none.
        discriminator_optimizer: its optimizer.
        masks: stream of unpaired dense masks.
        unlabelled: stream of images without annotation.
        prepare_unpaired: moves and augments the batches of these two streams.
        a1: weight of V(Sigma) on the scribble batch.
        a2: weight of V(Delta).
        a3: weight of V(Sigma) on the unlabelled batch.
        label_noise: probability of a swapped target in the discriminator's step, see LeastSquaresDiscriminatorLoss.
        supervised_adversarial: ``"generator"`` as the paper has it; ``"discriminator"`` as the authors' code has it:
            V(Delta) instead of V(Sigma) on the scribble batch, minimised over both networks; ``optimizer`` has the
            parameters of both then.
        kwargs: arguments of MONAI's SupervisedTrainer. ``amp`` computes in bfloat16.

    Raises:
        UserError: for an unknown ``supervised_adversarial``, and for ``"discriminator"`` with an ``optimizer`` of the
            segmentor alone.
    """

    def __init__(
        self,
        *,
        discriminator: torch.nn.Module | None = None,
        discriminator_optimizer: torch.optim.Optimizer | None = None,
        masks: CyclingBatches | None = None,
        unlabelled: CyclingBatches | None = None,
        prepare_unpaired: AugmentingPrepareBatch | None = None,
        a1: float = 0.1,
        a2: float = 0.2,
        a3: float = 0.2,
        label_noise: float = 0.1,
        supervised_adversarial: str = "generator",
        **kwargs: Any,
    ) -> None:
        if supervised_adversarial not in ("generator", "discriminator"):
            raise UserError(
                f"supervised_adversarial must be 'generator' or 'discriminator': {supervised_adversarial!r}"
            )
        # MONAI's own switch stands for float16 with a gradient scaler, which bfloat16 does not need
        self.bfloat16 = bool(kwargs.pop("amp", False))
        super().__init__(decollate=False, **kwargs)
        self.masks = masks if masks is not None and len(masks) else None
        self.unlabelled = unlabelled if unlabelled is not None and len(unlabelled) else None
        self.discriminator = discriminator if self.masks is not None else None
        if discriminator is not None and self.discriminator is None:
            logger.warning("no unpaired masks: training without the discriminator, on the scribbles alone")
        self.discriminator_optimizer = discriminator_optimizer
        self.prepare_unpaired = prepare_unpaired or AugmentingPrepareBatch()
        self.a1, self.a2, self.a3 = a1, a2, a3
        self.generator_loss = LeastSquaresGeneratorLoss()
        self.discriminator_loss = LeastSquaresDiscriminatorLoss(label_noise)
        self.supervised_adversarial = supervised_adversarial
        if supervised_adversarial == "discriminator" and self.discriminator is not None:
            stepped = {id(each) for group in self.optimizer.param_groups for each in group["params"]}
            if not stepped.issuperset(id(each) for each in self.discriminator.parameters()):
                raise UserError(
                    "supervised_adversarial 'discriminator' minimises over both networks: give the optimizer the "
                    "discriminator's parameters too"
                )

    def _iteration(self, engine: Any, batchdata: dict[str, Any]) -> dict[str, Any]:
        """Run the steps of one iteration; see the class."""
        image, label = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs)
        engine.network.train()
        engine.state.output = {CommonKeys.IMAGE: image, CommonKeys.LABEL: label}
        terms: dict[str, torch.Tensor] = {}
        real = None
        if self.discriminator is not None:
            self.discriminator.train()
            real = mask_pyramid(self._unpaired(self.masks)[1], engine.loss_function.num_classes, self._scales())
        self._supervised_step(engine, image, label, real, terms)
        if real is not None and self.unlabelled is not None:
            self._adversarial_steps(engine, real, terms)
        engine.state.output["terms"] = {name: value.detach() for name, value in terms.items()}
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _supervised_step(
        self,
        engine: MAAGTrainer,
        image: torch.Tensor,
        label: torch.Tensor,
        real: list[torch.Tensor] | None,
        terms: dict[str, torch.Tensor],
    ) -> None:
        whole_code = real is not None and self.supervised_adversarial == "discriminator"
        engine.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            heads = engine.inferer(image, engine.network)
        engine.state.output[CommonKeys.PRED] = heads
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        supervised = engine.loss_function(heads, label)
        terms["l_sup"] = batch_mean(supervised)
        # DDP wants a gradient, if only 0, for every parameter: without masks the deep predictions have no judge
        loss = supervised + 0.0 * sum(head.sum() for head in heads[1:]) if isinstance(heads, tuple) else supervised
        if real is not None:
            fake = foreground_probabilities(heads)
            if whole_code:
                adversarial = self._discriminator_objective(real, fake)
            else:
                adversarial = self.generator_loss(self._frozen_scores(fake))
            terms["v_sigma_scribble"] = adversarial
            a0 = batch_mean(adversarial).abs() / terms["l_sup"].abs().clamp(min=1e-8)
            # a batch with nothing annotated has no supervised loss to balance
            a0 = torch.where(terms["l_sup"] > 0, a0, torch.zeros_like(a0))
            terms["a0"] = a0
            loss = a0 * supervised + self.a1 * adversarial
        engine.state.output[CommonKeys.LOSS] = loss
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        loss.backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        engine.optimizer.step()

    def _adversarial_steps(self, engine: MAAGTrainer, real: list[torch.Tensor], terms: dict[str, torch.Tensor]) -> None:
        image, _ = self._unpaired(self.unlabelled)
        with self._autocast():
            heads = engine.inferer(image, engine.network)
        # one forward pass serves both steps: the discriminator's step leaves the segmentor as it is
        fake = foreground_probabilities(heads)
        if self.discriminator_optimizer is not None:
            self.discriminator_optimizer.zero_grad(set_to_none=True)
            terms["v_delta"] = self._discriminator_objective(real, [scale.detach() for scale in fake])
            (self.a2 * terms["v_delta"]).backward()
            self.discriminator_optimizer.step()
        engine.optimizer.zero_grad(set_to_none=True)
        terms["v_sigma"] = self.generator_loss(self._frozen_scores(fake))
        (self.a3 * terms["v_sigma"]).backward()
        engine.optimizer.step()

    def _discriminator_objective(self, real: list[torch.Tensor], fake: Sequence[torch.Tensor]) -> torch.Tensor:
        both = [torch.cat(pair) for pair in zip(real, fake, strict=True)]
        with self._autocast():
            scores = cast(torch.nn.Module, self.discriminator)(both)
        real_scores, fake_scores = scores.float().split([len(real[0]), len(fake[0])])
        return self.discriminator_loss(real_scores, fake_scores)

    def _frozen_scores(self, segmentations: Sequence[torch.Tensor]) -> torch.Tensor:
        """Score predictions with gradients to them but none to the discriminator's weights."""
        bare = self._bare_discriminator()
        bare.requires_grad_(False)
        with self._autocast():
            scores = bare(segmentations)
        bare.requires_grad_(True)
        return scores.float()

    def _unpaired(self, stream: CyclingBatches | None) -> tuple[torch.Tensor, torch.Tensor]:
        batch = stream.batch(self.state.iteration)  # type: ignore[union-attr]
        return self.prepare_unpaired(batch, self.state.device, self.non_blocking)  # type: ignore[return-value]

    def _bare_discriminator(self) -> Any:
        # past the DDP wrapper, which would wait for gradients of every parameter
        return getattr(self.discriminator, "module", self.discriminator)

    def _scales(self) -> int:
        bare = self._bare_discriminator()
        return bare.scales if bare.multi_scale else 1

    def _autocast(self) -> torch.autocast:
        return bfloat16_autocast(self.state.device.type, self.bfloat16)


def foreground_probabilities(heads: torch.Tensor | Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Turn logits ``[B, C, h, w]`` of one or several scales into foreground probabilities ``[B, C - 1, h, w]``."""
    logits = [heads] if isinstance(heads, torch.Tensor) else heads
    return [torch.softmax(scale.float(), dim=1)[:, 1:] for scale in logits]


def mask_pyramid(mask: torch.Tensor, num_classes: int, scales: int) -> list[torch.Tensor]:
    """Turn dense masks into the discriminator's real samples (Valvano et al., TMI 2021, section III-B).

    Args:
        mask: index map ``[B, 1, H, W]``; values outside 0 .. ``num_classes`` - 1 belong to no class.
        num_classes: number of classes C.
        scales: number of scales.

    Returns:
        one-hot foreground ``[B, C - 1, H, W]``, then bilinearly reduced to 1/2, 1/4, ... of the size.
    """
    classes = torch.arange(1, num_classes, device=mask.device).view(1, -1, 1, 1)
    full = (mask == classes).float()
    height, width = full.shape[-2:]
    reduced = [
        F.interpolate(full, size=(height >> level, width >> level), mode="bilinear", align_corners=True)
        for level in range(1, scales)
    ]
    return [full, *reduced]
