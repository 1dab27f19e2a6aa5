"""Mixing the items of a batch by any of the mix augmentations, chosen by name."""

from __future__ import annotations

from typing import Any

import torch
from monai.transforms import MixUp

from ..errors import UserError
from ..shared_batch import first_draw, own_share, world_size
from .co_mixup import CoMixUp
from .mix_plan import MixPlan
from .puzzle_mix import PuzzleMix
from .random_occlusion import RandomOcclusion

__all__ = ["MIXERS", "BatchMixer"]

MIXERS = ("puzzle", "mixup", "cutmix", "cutout", "comixup", "none")


class BatchMixer:
    """Mix the images of a batch, and their labels without averaging them (Zhang and Zhuang, CVPR 2022, Eq. 1 and 2).

    - ``"puzzle"``: Puzzle Mix (Kim et al., ICML 2020), see PuzzleMix.
    - ``"mixup"``: lambda * own + (1 - lambda) * partner (Zhang et al., ICLR 2018), lambda of each item's own; drawn by
      MONAI's MixUp.
    - ``"cutmix"``: a box of the partner, of the share 1 - lambda of the image, somewhere inside (Yun et al., ICCV
      2019). MONAI's CutMix puts all boxes of a batch at one corner and cuts them off at the border.
    - ``"cutout"``: a square of every image is hidden (DeVries and Taylor, 2017), see RandomOcclusion. MONAI's CutOut
      draws the size, too.
    - ``"comixup"``: Co-Mixup (Kim et al., ICLR 2021), see CoMixUp.
    - ``"none"``: the images as they are.

    All draws come from torch's global generator on the CPU: a seed fixed before a step fixes its mix on any device.
    Processes that share a batch take the draws of the first, and partners from the whole batch: it is mixed as one
    process would mix it.

    Args:
        mixer: one of these names.
        ignore_index: label value of pixels that are not annotated.
        alpha: MixUp's and CutMix's lambda ~ Beta(alpha, alpha).
        puzzle: Puzzle Mix; None for CycleMix' settings, which are its defaults.
        comixup: Co-Mixup; None for its authors' settings, which are its defaults.
        cutout_size: edge of Cutout's square in pixels.
        transport_labels: let labels and predictions move with the patches of Puzzle Mix, as the paper's Eq. 1 and 2
            have it. In the authors' code the images' patches alone move.

    Raises:
        UserError: for an option out of its range.
    """

    def __init__(
        self,
        mixer: str = "puzzle",
        *,
        ignore_index: int,
        alpha: float = 0.5,
        puzzle: PuzzleMix | None = None,
        comixup: CoMixUp | None = None,
        cutout_size: int = 32,
        transport_labels: bool = False,
    ) -> None:
        if mixer not in MIXERS:
            raise UserError(f"mixer must be one of {', '.join(MIXERS)}, got {mixer!r}")
        if not alpha > 0:
            raise UserError(f"mixup_alpha must be above 0, got {alpha}")
        self.mixer = mixer
        self.ignore_index = ignore_index
        self.alpha = alpha
        self.puzzle = puzzle or PuzzleMix()
        self.comixup = comixup or CoMixUp()
        self.cutout = RandomOcclusion(ignore_index=ignore_index, size=cutout_size, rotated=False)
        self.transport_labels = transport_labels

    @property
    def needs_saliency(self) -> bool:
        """Whether the mixer asks where images are salient."""
        return self.mixer in ("puzzle", "comixup")

    def __call__(
        self, image: torch.Tensor, label: torch.Tensor, saliency: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Mix a batch.

        Args:
            image: ``[B, C, H, W]``, normalised intensities.
            label: index maps ``[B, A, H, W]``.
            saliency: ``[B, 1, H, W]``, at least 0, if ``needs_saliency``.

        Returns:
            the mixed images, and the mixed target: ``label_a`` and ``label_b``, what the own and the partner's part
            show, ``weight`` ``[B, 1, H, W]``, the share of the own part, and ``plan``, by which predictions are mixed
            as the labels are. Cutout's target has ``visible``, too.

        Raises:
            ValueError: if the saliency is missing.
        """
        if self.needs_saliency and saliency is None:
            raise ValueError(f"mixer {self.mixer!r} needs the saliency")
        plan = self._plan(image, saliency)
        mixed = image if self.mixer in ("none", "cutout") else plan.mix(image)
        if not self.transport_labels:
            plan = plan.at_rest()
        own, other = plan.parts(label, fill=self.ignore_index)
        target = {"label_a": own, "label_b": other, "weight": plan.weight, "plan": plan}
        return self.cutout(mixed, target) if self.mixer == "cutout" else (mixed, target)

    def _plan(self, image: torch.Tensor, saliency: torch.Tensor | None) -> MixPlan:
        if saliency is not None and self.mixer == "puzzle":
            return self.puzzle(image, saliency)
        if saliency is not None and self.mixer == "comixup":
            return self.comixup(image, saliency)
        batch, (height, width) = len(image) * world_size(), image.shape[-2:]
        if self.mixer == "mixup":
            partner, weight = self._mixup(batch)
        elif self.mixer == "cutmix":
            partner, weight = first_draw(torch.randperm(batch)), self._boxes(batch, height, width)
        else:
            partner, weight = torch.arange(batch), torch.ones(batch, 1, 1, 1)
        partner, weight = own_share(partner), own_share(weight).expand(-1, -1, height, width)
        return MixPlan(partner.to(image.device), weight.to(image.device, image.dtype))

    def _mixup(self, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Let MONAI's MixUp mix unit vectors, which tells its partners and shares: it mixes on the CPU alone."""
        mixup = MixUp(batch, self.alpha)
        mixup.set_random_state(seed=int(first_draw(torch.randint(2**31, ()))))
        unit = torch.eye(batch)
        shares = mixup(unit.view(batch, batch, 1, 1)).view(batch, batch)
        # an item that is its own partner has the share 1, whichever partner it is said to have
        return (shares - 2 * unit).argmax(dim=1), shares.diagonal().view(batch, 1, 1, 1)

    def _boxes(self, batch: int, height: int, width: int) -> torch.Tensor:
        """Draw a box for every item: ``[B, 1, H, W]``, 0 in the box and 1 elsewhere."""
        share = first_draw(torch.distributions.Beta(self.alpha, self.alpha).sample((batch, 1, 1, 1)))
        place = first_draw(torch.rand(2, batch, 1, 1, 1))
        inside = torch.ones(batch, 1, 1, 1, dtype=torch.bool)
        for axis, size in enumerate((height, width)):
            edge = (size * (1.0 - share).sqrt()).round()
            first = (place[axis] * (size - edge + 1)).floor().clamp(max=size - 1)
            pixel = torch.arange(size).view(-1, 1) if axis == 0 else torch.arange(size)
            inside = inside & (pixel >= first) & (pixel < first + edge)
        return 1.0 - inside.float()
