"""Co-Mixup: a batch is mixed jointly, so that the mixed images are salient and differ from one another."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from ..errors import UserError
from ..shared_batch import first_draw, gathered, own_share
from .block_energy import block_saliency
from .mask_cut import least_energy_labels
from .mix_plan import MixPlan

__all__ = ["CoMixUp", "expanded_labels", "potts_energy"]


class CoMixUp:
    """Mix all items of a batch jointly (Kim et al., ICLR 2021), by blocks and with labels pixel by pixel.

    Every block k of each of the m mixed images j shows one item z_jk of the m given ones. With the block saliency s of
    sum 1 for each item, n x n blocks, a draw p of the items' shares from a Dirichlet distribution, and o_j the number
    of blocks of each item in image j, the aim is a small

    - saliency: sum over blocks of -s_z(k) - eta / n^2 log p_z,
    - smoothness: beta / n^2 for all neighbours that differ,
    - overlap: gamma / n^2 sum over pairs of images of o_j A o_j'

    in all, where A = (1 - omega) I + omega D, D the distances (|dx| + |dy|, of mean 1 / m) between the most salient
    blocks. As in the authors' code, overlap counts only above a threshold: image by image, a block pays
    2 gamma / n^2 a_i for item i if a = A sum_{j' != j} o_j' exceeds tau n^2, and the image is labelled anew by
    expansion moves, each an exact cut. A block shows one item wholly; the authors' code also has halves of two items.

    The draws come from torch's global generator on the CPU, whatever the device; there are no gradients. Processes that
    share a batch mix all of it together, by the draws of the first.

    Args:
        block_num: number n of blocks along an edge.
        alpha: of the Dirichlet distribution.
        beta: weight of the smoothness of labels.
        gamma: weight of the overlap.
        eta: weight of the prior.
        tau: overlap that costs nothing, as a share of the blocks.
        omega: weight of the distances.
        n_iter: rounds over the mixed images.

    Raises:
        UserError: for an option out of its range.
    """

    def __init__(
        self,
        *,
        block_num: int = 4,
        alpha: float = 2.0,
        beta: float = 0.32,
        gamma: float = 1.0,
        eta: float = 0.05,
        tau: float = 0.83,
        omega: float = 0.001,
        n_iter: int = 4,
    ) -> None:
        if min(block_num, n_iter) < 1:
            raise UserError(f"block_num and n_iter must be at least 1, got {block_num} and {n_iter}")
        if not alpha > 0:
            raise UserError(f"alpha must be above 0, got {alpha}")
        for name, value in {"beta": beta, "gamma": gamma, "eta": eta, "tau": tau, "omega": omega}.items():
            if not value >= 0:
                raise UserError(f"{name} must not be negative, got {value}")
        self.block_num, self.n_iter = block_num, n_iter
        self.alpha, self.beta, self.gamma, self.eta, self.tau, self.omega = alpha, beta, gamma, eta, tau, omega

    @torch.no_grad()
    def __call__(self, image: torch.Tensor, saliency: torch.Tensor) -> MixPlan:
        """Plan the mix of a batch.

        Args:
            image: ``[B, C, H, W]``.
            saliency: ``[B, 1, H, W]``, at least 0.
        """
        pooled = gathered(block_saliency(saliency, self.block_num))
        count = len(pooled)
        shares = first_draw(torch.distributions.Dirichlet(torch.full((count,), self.alpha)).sample())
        start = first_draw(torch.randint(count, (count, self.block_num, self.block_num)))
        chosen = self.labels(pooled.double().cpu().numpy(), shares.double().numpy(), start.numpy())
        labels = own_share(torch.from_numpy(chosen)).to(image.device)
        shown = F.interpolate(labels[:, None].float(), size=image.shape[-2:], mode="nearest").long()
        return MixPlan(shown, torch.zeros_like(shown, dtype=image.dtype))

    def labels(self, salient: NDArray, shares: NDArray, start: NDArray) -> NDArray:
        """Choose the item of every block.

        Args:
            salient: block saliency ``[m, n, n]``.
            shares: p ``[m]``.
            start: labels ``[m, n, n]`` to begin with.

        Returns:
            labels ``[m, n, n]``, 0 .. m - 1.
        """
        count, blocks = len(salient), self.block_num**2
        costs = -salient - self.eta / blocks * np.log(shares + 1e-8)[:, None, None]
        compatibility = (1.0 - self.omega) * np.eye(count) + self.omega * _peak_distances(salient)
        labels = start.copy()
        shown = np.stack([np.bincount(image.ravel(), minlength=count) for image in labels])
        for _ in range(self.n_iter):
            before = labels.copy()
            for j in range(count):
                overlap = compatibility @ (shown.sum(axis=0) - shown[j])
                paid = 2.0 * self.gamma / blocks * overlap * (overlap > self.tau * blocks)
                labels[j] = expanded_labels(costs + paid[:, None, None], self.beta / blocks, labels[j])
                shown[j] = np.bincount(labels[j].ravel(), minlength=count)
            if np.array_equal(labels, before):
                break
        return labels


def potts_energy(labels: NDArray, costs: NDArray, weight: float) -> float:
    """Return the sum of ``costs[l_i]`` over blocks plus ``weight`` times the number of neighbours that differ.

    Args:
        labels: ``[h, w]``.
        costs: ``[L, h, w]``.
        weight: cost of a border between two labels.
    """
    unary = np.take_along_axis(costs, labels[None], axis=0).sum()
    borders = (labels[:, 1:] != labels[:, :-1]).sum() + (labels[1:] != labels[:-1]).sum()
    return float(unary + weight * borders)


def expanded_labels(costs: NDArray, weight: float, labels: NDArray) -> NDArray:
    """Lower the :func:`potts_energy` by expansion moves until none does (Boykov, Veksler and Zabih, 2001).

    An expansion lets any blocks change to one label, in the best way, which is a cut. The result costs at most twice
    the least energy if no cost is negative.

    Args:
        costs: ``[L, h, w]``.
        weight: cost of a border between two labels, at least 0.
        labels: ``[h, w]`` to start from.

    Returns:
        labels ``[h, w]``.
    """
    energy = potts_energy(labels, costs, weight)
    improved = True
    while improved:
        improved = False
        for label in range(len(costs)):
            candidate = np.where(_expansion(costs, weight, labels, label), label, labels)
            reached = potts_energy(candidate, costs, weight)
            if reached < energy - 1e-9:
                labels, energy, improved = candidate, reached, True
    return labels


def _expansion(costs: NDArray, weight: float, labels: NDArray, label: int) -> NDArray[np.bool_]:
    """Return the blocks that had best change to ``label``."""
    stay = np.take_along_axis(costs, labels[None], axis=0)[0]
    change = costs[label].copy()
    other = (labels != label).astype(float)
    weights = []
    for first, second in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
    ):
        # the border between two blocks: none changes, the first, the second
        none, one, two = (labels[first] != labels[second]), other[second], other[first]
        change[first] += weight * (one - two - none) / 2
        change[second] += weight * (two - one - none) / 2
        weights.append((weight * (one + two - none) / 2)[None])
    return least_energy_labels(np.stack([stay, change])[None], *weights)[0] == 1


def _peak_distances(salient: NDArray) -> NDArray:
    """Distances |dx| + |dy| between the most salient blocks of the items ``[m, m]``, of mean 1 / m unless all are 0."""
    count, _, columns = salient.shape
    peaks = np.stack(np.divmod(salient.reshape(count, -1).argmax(axis=1), columns), axis=1)
    distances = np.abs(peaks[:, None] - peaks[None]).sum(axis=2).astype(float)
    return distances * count / max(distances.sum(), 1.0)
