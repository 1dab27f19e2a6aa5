"""AttenScribble's attentive similarity: positions that attend to each other should be predicted alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from ..errors import UserError
from .batch_statistics import all_reduced, batch_mean, world_size
from .pair_attention import GridPairs, grid_pairs, neighbour_dissimilarity, symmetric_attention

__all__ = ["AttentiveSimilarityLoss"]


class AttentiveSimilarityLoss(_Loss):
    """Attentive similarity loss (Tian et al., 2023, section 2.4 and Eq. 6).

    A = softmax(Q K^T) for each of n * L attention maps on an h x w grid, each row normalised over all hw positions;
    S[p, q] = sigmoid(sum over maps m of w_m (A_m[p, q] + A_m[q, p]) + b);
    L = 1/n_tot * sum over p, q, 0 < |p - q|_inf <= radius, of M[p, q] S[p, q] (1 - <P~_p, P~_q>),

    where M[p, q] = exp(-|p - q|^2 / (2 sigma^2)) is measured on the grid, P~ are the class probabilities resized to it
    bilinearly, and n_tot is the number of positions of the batch (of all processes). The gradient reaches the
    prediction as well as queries, keys, w and b. Of S only the window is computed, see pair_attention; values and
    gradients are exact. Half precision is computed in float32.

    The defaults are the authors' code; the paper scales the products and restricts p and q to the unlabelled region
    Omega_U, by whose size it divides (``scaled=True, mask_omega_u=True``). The authors' code also drops the loss of
    slices whose dense mask shows a single class. Whoever has scribbles has no dense masks, so here the scribbles
    decide. The divisor stays the batch's in either case.

    As rows of A sum to 1 over hw columns, A[p, q] + A[q, p] is small unless the attention is sharply peaked, S then
    lies near sigmoid(b), and b can fall without bound, which minimises L and teaches nothing. ``terms`` tells: compare
    ``similarity`` with ``similarity_outside``. Two remedies, both off by default: ``scale_by_positions`` here, and
    ``similarity_bias=False`` of the SelfAttentionUNet.

    After each call ``terms`` holds, detached and averaged over processes, ``similarity``: the mean of S over the
    window; and ``similarity_outside``: S where A[p, q] + A[q, p] has its mean over all the pairs outside.

    Args:
        radius: reach of the window, in positions of the grid. The paper's |p - q|_inf < r is ``radius`` = r - 1.
        sigma: standard deviation of M, in positions of the grid.
        scaled: A = softmax(Q K^T / sqrt(dim_qk)), as the paper has it.
        mask_omega_u: leave out positions whose part of the image holds an annotated pixel, and divide by the number
            of the others.
        single_class: what to do with slices that have fewer than two classes: ``"scribble"`` gives them loss 0 by
            the classes of their scribbles (so slices without scribbles have loss 0 too), ``"dense"`` by those of the
            dense mask under the key ``dense`` of the target (the authors' code), ``"keep"`` treats them as all others.
        scale_by_positions: multiply A[p, q] + A[q, p] by hw, so that even attention gives 2 for any grid.

    Raises:
        UserError: for an option out of its range.

    Example:
        >>> loss = AttentiveSimilarityLoss(single_class="keep")
        >>> logits = torch.tensor([9.0, -9.0, -9.0, 9.0]).view(1, 2, 1, 2)  # two positions of different classes ...
        >>> even, weights = torch.zeros(1, 1, 1, 2, 1), torch.zeros(1, 2)  # ... and a similarity of 1/2
        >>> round(float(loss([logits, even, even, weights], torch.full((1, 1, 1, 2), 2))), 4)
        0.4931
    """

    def __init__(
        self,
        *,
        radius: int = 5,
        sigma: float = 6.0,
        scaled: bool = False,
        mask_omega_u: bool = False,
        single_class: str = "scribble",
        scale_by_positions: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(radius, int) or radius < 1:
            raise UserError(f"radius must be an integer of at least 1, got {radius!r}")
        if not sigma > 0:
            raise UserError(f"sigma must be above 0, got {sigma}")
        if single_class not in ("scribble", "dense", "keep"):
            raise UserError(f"single_class must be 'scribble', 'dense' or 'keep', got {single_class!r}")
        self.radius = radius
        self.sigma = sigma
        self.scaled = scaled
        self.mask_omega_u = mask_omega_u
        self.single_class = single_class
        self.scale_by_positions = scale_by_positions
        self.terms: dict[str, torch.Tensor] = {}

    def forward(self, input: Sequence[torch.Tensor], target: torch.Tensor | Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Compute the loss.

        Args:
            input: what SelfAttentionUNet returns in train mode: logits ``[B, C, H, W]``, queries and keys
                ``[B, maps, h, w, d]``, and ``[B, maps + 1]`` holding w and b.
            target: index map ``[B, 1, H, W]``, or ``[B, A, H, W]`` of A annotators, values outside 0 .. C - 1 meaning
                "not annotated"; or a dictionary with it under ``label``, and with the dense mask ``[B, 1, H, W]``
                under ``dense`` where that is asked for.

        Returns:
            scalar, at least 0.

        Raises:
            ValueError: if ``input`` or the shapes are not as said.
            UserError: if there is no dense mask where it is asked for.
        """
        if isinstance(input, torch.Tensor) or len(input) != 4:
            raise ValueError("expected (logits, queries, keys, weights), as SelfAttentionUNet gives them in train mode")
        dense = target.get("dense") if isinstance(target, Mapping) else None
        label = target["label"] if isinstance(target, Mapping) else target
        _check_shapes(input, label)
        with torch.autocast(label.device.type, enabled=False):
            logits, queries, keys, weights = (_at_least_single(head) for head in input)
            classes, grid = logits.shape[1], (queries.shape[2], queries.shape[3])
            pairs = grid_pairs(*grid, self.radius, logits.device)
            probabilities = F.interpolate(logits.softmax(dim=1), size=grid, mode="bilinear", align_corners=False)
            similarity = self._similarity(queries, keys, weights, pairs)
            cost = similarity * neighbour_dissimilarity(probabilities, pairs)
            count = logits.new_tensor(float(len(logits) * grid[0] * grid[1]))
            if self.mask_omega_u:
                free = _unlabelled(label, classes, grid).to(cost.dtype)
                cost = cost * free[:, pairs.first] * free[:, pairs.second]
                count = free.sum()
            distance = torch.exp(pairs.squared_distance.to(cost.dtype) / (-2 * self.sigma**2))
            # M, S and the dissimilarity are symmetric: a pair counts as (p, q) and as (q, p)
            by_slice = 2 * (cost @ distance)
            if self.single_class != "keep":
                by_slice = by_slice * _several_classes(self._deciding(label, dense), classes)
            # DDP averages gradients over processes; the sum over processes is what the batch's mean needs
            return by_slice.sum() * (world_size() / all_reduced(count).clamp(min=1.0))

    def _similarity(
        self, queries: torch.Tensor, keys: torch.Tensor, weights: torch.Tensor, pairs: GridPairs
    ) -> torch.Tensor:
        """Return S of every pair, ``[B, E]``, and note its means in ``terms``."""
        batch, maps, height, width, channels = queries.shape
        positions = height * width
        if self.scaled:
            queries = queries * channels**-0.5
        attention = symmetric_attention(
            queries.reshape(batch * maps, positions, channels), keys.reshape(batch * maps, positions, channels), pairs
        ).unflatten(0, (batch, maps))
        factors = weights[:, :maps] * (positions if self.scale_by_positions else 1)
        bias = weights[:, maps:]
        similarity = torch.sigmoid(torch.einsum("bm,bme->be", factors, attention) + bias)
        with torch.no_grad():
            # all entries of A + A^T of a map sum to 2 hw, and each pair stands in it twice
            others = max(1, positions**2 - 2 * attention.shape[2])
            mean_outside = (2 * positions - 2 * attention.sum(dim=2)) / others
            outside = torch.sigmoid((factors * mean_outside).sum(dim=1) + bias[:, 0])
            inside = similarity.mean() if similarity.numel() else similarity.new_zeros(())
            values = batch_mean(torch.stack([inside, outside.mean()]))
        self.terms = dict(zip(("similarity", "similarity_outside"), values.unbind(), strict=True))
        return similarity

    def _deciding(self, label: torch.Tensor, dense: torch.Tensor | None) -> torch.Tensor:
        if self.single_class == "scribble":
            return label
        if dense is None:
            raise UserError("single_class 'dense' needs the dense mask under the key 'dense' of the target")
        return dense


def _check_shapes(input: Sequence[torch.Tensor], label: torch.Tensor) -> None:
    logits, queries, keys, weights = input
    batch, maps = queries.shape[:2]
    if len(logits) != batch or keys.shape != queries.shape or weights.shape != (batch, maps + 1):
        shapes = [tuple(head.shape) for head in input]
        raise ValueError(f"logits, queries, keys and weights do not belong together: {shapes}")
    if label.ndim != 4 or (label.shape[0], *label.shape[2:]) != (batch, *logits.shape[2:]):
        raise ValueError(f"target {tuple(label.shape)} must be {(batch, 'A', *logits.shape[2:])}")


def _at_least_single(values: torch.Tensor) -> torch.Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _unlabelled(label: torch.Tensor, classes: int, grid: tuple[int, int]) -> torch.Tensor:
    """Return whether no pixel of each position's part of the image is annotated, ``[B, h * w]``."""
    annotated = ((label >= 0) & (label < classes)).any(dim=1, keepdim=True).float()
    return F.adaptive_max_pool2d(annotated, grid).flatten(1) == 0


def _several_classes(label: torch.Tensor, classes: int) -> torch.Tensor:
    """Return whether two or more classes are drawn in each slice, ``[B]``."""
    flat = label.flatten(1).long()
    flat = torch.where((flat >= 0) & (flat < classes), flat, classes)
    drawn = torch.zeros(len(flat), classes + 1, device=label.device).scatter_(1, flat, 1.0)
    return drawn[:, :classes].sum(dim=1) >= 2
