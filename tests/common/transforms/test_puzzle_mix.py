from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from common.transforms.mix_plan import MixPlan
from common.transforms.puzzle_mix import PuzzleMix

SWAP = torch.tensor([1, 0])


def batch(size: tuple[int, int] = (212, 212), items: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(items, 1, *size, generator=generator)
    # spots: some blocks far more salient than others
    spots = torch.exp(2 * torch.randn(items, 1, 13, 13, generator=generator))
    return image, F.interpolate(spots, size=size, mode="nearest")


def test_a_block_shows_the_one_image_that_is_salient_there() -> None:
    saliency = torch.full((2, 1, 64, 64), 1e-6)
    saliency[0, 0, :32, :32] = saliency[1, 0, 32:, 32:] = 1.0
    plan = PuzzleMix(gamma=0.0).plan(torch.zeros(2, 1, 64, 64), saliency, SWAP, share=0.5, blocks=2)
    assert plan.weight[0, 0, 0, 0] == 1
    assert plan.weight[0, 0, 63, 63] == 0
    assert plan.weight[1, 0, 0, 0] == 0
    assert plan.weight[1, 0, 63, 63] == 1


@pytest.mark.parametrize("blocks", [2, 16])
def test_lambda_1_gives_the_originals_and_lambda_0_their_partners(blocks: int) -> None:
    image, _ = batch()
    mixer = PuzzleMix()
    even = torch.ones(2, 1, 212, 212)
    assert torch.equal(mixer.plan(image, even, SWAP, share=1.0, blocks=blocks).mix(image), image)
    assert torch.equal(mixer.plan(image, even, SWAP, share=0.0, blocks=blocks).mix(image), image[SWAP])


def test_the_partner_sees_the_reverse_of_the_mask_with_the_reverse_share() -> None:
    image, saliency = batch()
    mixer = PuzzleMix(transport=False)
    one = mixer.plan(image, saliency, SWAP, share=0.3, blocks=8).weight
    two = mixer.plan(image, saliency, SWAP, share=0.7, blocks=8).weight
    assert 0 < one.mean() < 1
    assert torch.equal(one[0], 1 - two[1])


def test_the_share_follows_lambda() -> None:
    image, saliency = batch((256, 256), 4)
    mixer = PuzzleMix(eta=2.0, transport=False)
    partner = torch.tensor([1, 2, 3, 0])
    shares = [mixer.plan(image, saliency, partner, share=share, blocks=16).weight.mean() for share in (0.05, 0.5, 0.95)]
    assert shares[0] < 0.1
    assert shares[1] == pytest.approx(0.5, abs=0.1)
    assert shares[2] > 0.9


def test_blocks_of_the_framed_image() -> None:
    # 212 -> 256 with 22 pixels on either side: blocks of 16 pixels begin at 10, 26, ... of the image
    saliency = batch()[1]
    weight = PuzzleMix(transport=False).plan(torch.zeros(2, 1, 212, 212), saliency, SWAP, share=0.5, blocks=16).weight
    assert set(weight.unique().tolist()) <= {0.0, 0.5, 1.0}
    columns = (weight[:, :, :, 1:] != weight[:, :, :, :-1]).any(dim=0).any(dim=1).nonzero()[:, 1] + 1
    assert len(columns) > 5
    assert (columns % 16 == 10).all()


def test_a_salient_patch_moves_out_of_a_block_that_shows_the_partner() -> None:
    image, saliency = torch.rand(2, 1, 64, 64) + 1, torch.full((2, 1, 64, 64), 1e-3)
    saliency[0, 0, :, :32] = 1.0
    saliency[1, 0, :, 32:] = 1.0
    # patch (2, 8) of 4 x 4 pixels, next to the border: 16 * 40 of about 2700 in all, less than a block of the partner's
    saliency[0, 0, 8:12, 32:36] = 40.0
    plan = PuzzleMix(block_nums=(2,), gamma=0.0).plan(image, saliency, SWAP, share=0.5, blocks=2)
    assert plan.weight[0, 0, 8, [31, 32]].tolist() == [1.0, 0.0]
    assert plan.own_source is not None
    # a step costs 0.8 / 15^2 = 0.004 and gains 0.24, where the patch of place (2, 7) loses 0.006
    assert plan.own_source[0, 0, 8, 28] == 8 * 64 + 32
    assert plan.own_source[0, 0, 11, 31] == 11 * 64 + 35
    torch.testing.assert_close(plan.mix(image)[0, 0, 8:12, 28:32], image[0, 0, 8:12, 32:36])


def test_sources_are_patches_of_the_image_and_what_comes_from_the_frame_is_nothing() -> None:
    image, saliency = batch((100, 75), 3)
    plan = PuzzleMix().plan(image, saliency, torch.tensor([2, 0, 1]), share=0.4, blocks=8)
    for source in (plan.own_source, plan.other_source):
        assert source is not None
        assert source.shape == (3, 1, 100, 75)
        assert source.max() < 100 * 75
        row, column = torch.meshgrid(torch.arange(100), torch.arange(75), indexing="ij")
        come = source[:, 0] >= 0
        # a pixel moves by whole patches
        assert (((source[:, 0] // 75 - row) % 4 == 0) | ~come).all()
        assert (((source[:, 0] % 75 - column) % 4 == 0) | ~come).all()
        assert (source[:, 0] != row * 75 + column)[come].any()
        # the framed grid of patches: within the image they begin at multiples of 4 less the frame of 14 and 26 pixels
        inner = source[:, 0, 2:98, 2:74].unfold(1, 4, 4).unfold(2, 4, 4).flatten(3)
        steps = (torch.arange(4)[:, None] * 75 + torch.arange(4)).flatten()
        whole = (inner - steps == inner[..., :1]).all(dim=3) | (inner < 0).any(dim=3)
        assert whole.all()


@pytest.mark.parametrize("size", [(1, 1), (33, 47), (64, 64)])
@pytest.mark.parametrize("items", [1, 3])
def test_any_size_and_any_batch(size: tuple[int, int], items: int) -> None:
    image, saliency = batch(size, items)
    torch.manual_seed(3)
    plan = PuzzleMix()(image, saliency)
    assert plan.weight.shape == (items, 1, *size)
    assert sorted(plan.partner.tolist()) == list(range(items))
    mixed = plan.mix(image)
    assert mixed.shape == image.shape
    assert torch.isfinite(mixed).all()


def test_no_saliency_at_all() -> None:
    image, _ = batch((64, 64))
    plan = PuzzleMix().plan(image, torch.zeros_like(image), SWAP, share=0.5, blocks=4)
    assert torch.isfinite(plan.mix(image)).all()


def test_four_shares() -> None:
    image, saliency = batch((128, 128))
    weight = PuzzleMix(n_labels=4).plan(image, saliency, SWAP, share=0.5, blocks=16).weight
    assert len(weight.unique()) > 2
    assert np.allclose(weight * 3, (weight * 3).round())


def test_the_draws_follow_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, int]] = []

    def plan(self: PuzzleMix, image: torch.Tensor, saliency: torch.Tensor, partner: torch.Tensor, **drawn: Any) -> None:
        seen.append((drawn["share"], drawn["blocks"]))

    monkeypatch.setattr(PuzzleMix, "plan", plan)
    torch.manual_seed(0)
    mixer = PuzzleMix(block_nums=(2, 8))
    for _ in range(400):
        mixer(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4))
    shares = torch.tensor([share for share, _ in seen])
    assert {blocks for _, blocks in seen} == {2, 8}
    # Beta(1/2, 1/2): mean 1/2, variance 1/4 / (1 + 1) = 1/8
    assert shares.mean() == pytest.approx(0.5, abs=0.06)
    assert shares.var() == pytest.approx(0.125, abs=0.02)


@pytest.mark.parametrize("items", [1, 2, 5, 8])
def test_symmetric_partners_are_each_others(items: int) -> None:
    image, saliency = batch((16, 16), items)
    mixer = PuzzleMix(symmetric=True, block_nums=(2,))
    drawn = set()
    for seed in range(10):
        torch.manual_seed(seed)
        partner = mixer(image, saliency).partner
        assert torch.equal(partner[partner], torch.arange(items))
        assert (partner == torch.arange(items)).sum() == items % 2
        drawn.add(tuple(partner.tolist()))
    assert len(drawn) > 1 or items <= 2


def test_same_seed_same_bytes() -> None:
    image, saliency = batch((64, 64), 4)
    plans: list[MixPlan] = []
    for _ in range(2):
        torch.manual_seed(11)
        plans.append(PuzzleMix()(image, saliency))
    assert torch.equal(plans[0].mix(image), plans[1].mix(image))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0}, "mixup_alpha must be above 0, got 0"),
        ({"t_eps": -1}, "transport_cost must be above 0, got -1"),
        ({"eta": -0.1}, r"mix_eta must not be negative, got -0.1"),
        ({"beta": -1}, "mix_beta must not be negative"),
        ({"gamma": -1}, "mix_gamma must not be negative"),
        ({"n_labels": 1}, "mix_levels must be at least 2, got 1"),
        ({"neigh_size": 0}, "mix_neighbourhood and transport_patch must be at least 1, got 0 and 4"),
        ({"t_size": 0}, "mix_neighbourhood and transport_patch must be at least 1, got 4 and 0"),
        ({"block_nums": []}, r"mix_blocks .* got \[\]"),
        ({"block_nums": [0, 2]}, r"mix_blocks .* got \[0, 2\]"),
        ({"block_nums": ["a", "b"]}, r"mix_blocks .* got \['a', 'b'\]"),
        ({"block_nums": [2.5]}, r"mix_blocks .* got \[2\.5\]"),
        ({"block_nums": None}, r"mix_blocks .* got None"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PuzzleMix(**options)
