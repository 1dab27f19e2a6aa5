"""The coarse-label objective: noisy positive and negative drawings, each seen through confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from ..errors import UserError
from ..networks.confusion_matrices import drawn_probabilities, traces, uniform_transition
from .batch_statistics import all_reduced, batch_mean, labelled_counts, world_size

__all__ = ["CoarseLabelsLoss"]

_SMALLEST = 1e-30  # its inverse, which the logarithm's gradient takes, is still a float32


class CoarseLabelsLoss(_Loss):
    """L = L_obj + L_comp (Zhang et al., "Positive and negative coarse labels", Eq. 3-6).

    With p the probabilities of the true classes, A the pixel's confusion matrix of the positive and B that of the
    negative annotation, and M the complementary transition matrix (zero diagonal, rows that sum to 1):

        L_obj  = mean of -log (A p)[y]         + lambda_trace * mean of tr(A), over the pixels with a drawn class y
        L_comp = mean of -log (M^T B p)[not y] + lambda_trace * mean of tr(B), over the pixels marked "not y"

    The trace is minimised: it makes the annotators as unreliable as their drawings allow, which keeps the matrices
    from calling every drawing true. The means are over the batch of all processes. Pixels that carry no annotation of
    a kind give neither loss nor gradient, and neither do images that lack it; a batch without any gives 0. Whether the
    unpainted part of a drawing is background or unknown is settled when labels are loaded, where a missing drawing
    and an empty one can be told apart: see FillUnpaintedd.

    For the first ``warm_start`` of the training A = B = I and lambda_trace = 0, so that the networks agree on which
    class is which before the matrices may exchange them. How far the training has come is told by the handler
    TrainingProgress.

    The paper sums over images, and leaves out the kind of annotation that an image lacks. A kind's mean therefore
    counts by the share of the batch's annotated images that have it: two coarse images among six do not outweigh the
    four with dense masks. Where all images have a kind, its share is 1.

    Matrices need drawings that can contradict them. Where all pixels drawn carry one class, as the painted pixels of
    two classes do when the unpainted ones are ignored, "this class is drawn everywhere" explains each drawing whatever
    p is, and nothing is learned from it any more: take ``warm_start=1`` there.

    A second channel of the target holds dense masks, which are true: their loss is the mean of -log p[y], added, by
    their share of images.

    After each call ``terms`` holds, detached and averaged over processes, what was computed of ``l_obj`` and
    ``l_comp`` (without trace), ``trace_obj``, ``trace_comp`` and ``l_dense``.

    Args:
        num_classes: number of classes C. Values of the targets outside 0 .. C - 1 (``ignore_index`` = C) mean
            "not annotated".
        lambda_trace: weight of the mean trace.
        warm_start: share of the training, 0 .. 1, in which drawings are taken as true.

    Raises:
        UserError: for an option out of its range.

    Example:
        >>> loss = CoarseLabelsLoss(num_classes=2, warm_start=0.0)
        >>> drawings = {"label": torch.tensor([[[[1, 2]]]]), "complement": torch.tensor([[[[2, 1]]]])}
        >>> round(float(loss(torch.zeros(1, 2, 1, 2), drawings)), 4)
        1.3863
    """

    def __init__(self, num_classes: int, *, lambda_trace: float = 0.01, warm_start: float = 0.1) -> None:
        super().__init__()
        if num_classes < 2:
            raise UserError(f"num_classes counts the background and must be at least 2, got {num_classes}")
        if not lambda_trace >= 0.0:
            raise UserError(f"lambda_trace must not be negative, got {lambda_trace}")
        if not 0.0 <= warm_start <= 1.0:
            raise UserError(f"warm_start must lie in 0 .. 1, got {warm_start}")
        self.num_classes = num_classes
        self.lambda_trace = lambda_trace
        self.warm_start = warm_start
        self.progress: float | None = None
        self.terms: dict[str, torch.Tensor] = {}

    def forward(
        self,
        input: torch.Tensor | Sequence[torch.Tensor],
        target: torch.Tensor | Mapping[str, torch.Tensor | None],
    ) -> torch.Tensor:
        """Compute the loss.

        Args:
            input: what CoarseAnnotationUNet returns in train mode: logits ``[B, C, H, W]``, then, where there are
                any, the matrices of the positive and of the negative annotation and M ``[C, C]``. Without matrices
                the drawings are taken as true, without M it is uniform.
            target: ``label``: index map ``[B, 1, H, W]`` of the drawn classes, or ``[B, 2, H, W]`` with dense masks
                in the second channel; ``complement``: index map ``[B, 1, H, W]`` of classes that pixels are not.
                Either may be missing or None. An index map alone is the label.

        Returns:
            scalar, at least 0.

        Raises:
            UserError: if the warm start is not told the training's progress.
            ValueError: if the shapes do not belong together, or there is neither label nor complement.
        """
        heads = (input,) if isinstance(input, torch.Tensor) else tuple(input)
        logits, matrices = heads[0], [head for head in heads[1:] if head.ndim > 2]
        learned = next((head for head in heads[1:] if head.ndim == 2), None)
        targets = target if isinstance(target, Mapping) else {"label": target}
        label, complement = targets.get("label"), targets.get("complement")
        self._check(logits, label, complement)
        log_p = F.log_softmax(logits.float(), dim=1)
        p = log_p.exp()
        positive, negative = [*self._in_use(matrices), None, None][:2]
        terms: dict[str, torch.Tensor] = {}
        used: list[torch.Tensor | None] = []
        images = self._images(torch.cat([part for part in (label, complement) if part is not None], dim=1))
        if label is not None:
            seen = None if positive is None else drawn_probabilities(positive, p)
            self._add(
                terms, "obj", label[:, :1], log_p if seen is None else seen, positive, images, logarithms=seen is None
            )
            if label.shape[1] == 2:
                self._add(terms, "dense", label[:, 1:], log_p, None, images, logarithms=True)
            used += [positive]
        if complement is not None:
            seen = p if negative is None else drawn_probabilities(negative, p)
            m = uniform_transition(self.num_classes, p.device) if learned is None else learned
            self._add(terms, "comp", complement, torch.einsum("jk,bj...->bk...", m, seen), negative, images)
            used += [negative, learned]
        weighted = [self.lambda_trace * term if name.startswith("trace") else term for name, term in terms.items()]
        # DDP wants a gradient, if only 0, for every parameter, and the heads are not always in use
        idle = [0.0 * head.sum() for head in heads[1:] if not any(head is one for one in used)]
        values = batch_mean(torch.stack(list(terms.values())))
        self.terms = dict(zip(terms, values.unbind(), strict=True))
        return torch.stack([*weighted, *idle]).sum()

    def _in_use(self, matrices: list[torch.Tensor]) -> list[torch.Tensor]:
        if not matrices or self.warm_start == 0.0:
            return matrices
        if self.progress is None:
            raise UserError(
                "warm_start over 0 has to know how far the training is: add common.handlers.training_progress."
                "TrainingProgress with this loss as receiver to the trainer's handlers, or set --warm_start 0"
            )
        return [] if self.progress < self.warm_start else matrices

    def _images(self, index: torch.Tensor) -> torch.Tensor:
        """Count the batch's images in which any channel of ``index`` ``[B, A, H, W]`` is annotated."""
        annotated = (index >= 0) & (index < self.num_classes)
        return all_reduced(annotated.flatten(1).any(dim=1).sum().float())

    def _add(
        self,
        terms: dict[str, torch.Tensor],
        name: str,
        index: torch.Tensor,
        values: torch.Tensor,
        matrices: torch.Tensor | None,
        images: torch.Tensor,
        *,
        logarithms: bool = False,
    ) -> None:
        """Add the annotated pixels' mean of -log of the value that ``index`` picks and, with matrices, of their trace.

        ``index`` is ``[B, 1, H, W]``; ``values`` are probabilities ``[B, C, H, W]``, or their logarithms. ``images``
        have any annotation: the mean counts by the share of them that have this one.
        """
        index = index.long()
        annotated = (index >= 0) & (index < self.num_classes)
        # DDP averages gradients over processes; the sum over processes is what the batch's mean needs
        pixels = labelled_counts(index, self.num_classes).sum().clamp(min=1.0)
        share = world_size() / pixels * (self._images(index) / images.clamp(min=1.0))
        picked = values.gather(1, torch.where(annotated, index, 0))
        log_likelihood = picked if logarithms else picked.clamp(min=_SMALLEST).log()
        terms[f"l_{name}"] = torch.where(annotated, -log_likelihood, 0.0).sum() * share
        if matrices is not None:
            terms[f"trace_{name}"] = torch.where(annotated, traces(matrices).unsqueeze(1), 0.0).sum() * share

    def _check(self, logits: torch.Tensor, label: torch.Tensor | None, complement: torch.Tensor | None) -> None:
        if logits.shape[1] != self.num_classes:
            raise ValueError(f"expected {self.num_classes} channels of logits, got shape {tuple(logits.shape)}")
        if label is None and complement is None:
            raise ValueError("the target holds neither 'label' nor 'complement'")
        for name, index, channels in (("label", label, (1, 2)), ("complement", complement, (1,))):
            if index is None:
                continue
            wanted = [(logits.shape[0], count, *logits.shape[2:]) for count in channels]
            if tuple(index.shape) not in wanted:
                raise ValueError(f"{name} {tuple(index.shape)} must be {' or '.join(map(str, wanted))}")
