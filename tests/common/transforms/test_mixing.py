from __future__ import annotations

import pytest
import torch

from common.transforms.mixing import MIXERS, BatchMixer
from common.transforms.puzzle_mix import PuzzleMix

IGNORE = 3


def batch(items: int = 4, size: tuple[int, int] = (48, 40), annotators: int = 1) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(items, 1, *size, generator=generator) + 1
    label = torch.randint(0, IGNORE + 1, (items, annotators, *size), generator=generator, dtype=torch.uint8)
    spots = torch.exp(3 * torch.randn(items, 1, 8, 8, generator=generator))
    return image, label, torch.nn.functional.interpolate(spots, size=size)


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("transport_labels", [False, True])
@pytest.mark.parametrize(("items", "size"), [(4, (48, 40)), (1, (17, 33)), (3, (64, 64))])
def test_both_labels_keep_the_value_set(mixer: str, transport_labels: bool, items: int, size: tuple[int, int]) -> None:
    image, label, saliency = batch(items, size, annotators=2)
    label[label == 1] = 0  # class 1 does not occur
    torch.manual_seed(1)
    mixed, target = BatchMixer(mixer, ignore_index=IGNORE, transport_labels=transport_labels)(image, label, saliency)
    assert mixed.shape == image.shape
    assert torch.isfinite(mixed).all()
    assert target["weight"].shape == (items, 1, *size)
    assert 0 <= target["weight"].min() <= target["weight"].max() <= 1
    for key in ("label_a", "label_b"):
        assert target[key].dtype == torch.uint8
        assert target[key].shape == label.shape
        assert set(target[key].unique().tolist()) <= {0, 2, IGNORE}


@pytest.mark.parametrize("mixer", ["mixup", "cutmix", "comixup", "puzzle"])
def test_labels_are_mixed_as_the_image_is(mixer: str) -> None:
    """An image made of its labels shows what the labels say, in the shares that the weight says."""
    _, label, saliency = batch()
    torch.manual_seed(2)
    given = BatchMixer(mixer, ignore_index=0, puzzle=PuzzleMix(block_nums=(8,)), transport_labels=True)
    mixed, target = given(label.float(), label, saliency)
    shown = target["weight"] * target["label_a"] + (1 - target["weight"]) * target["label_b"]
    torch.testing.assert_close(mixed, shown)
    assert not torch.equal(mixed, label.float())
    torch.testing.assert_close(target["plan"].mix(label.float()), mixed)


def test_puzzle_mix_moves_images_alone_unless_asked_otherwise() -> None:
    image, label, saliency = batch()
    puzzle = PuzzleMix(block_nums=(8,))
    targets = {}
    for transport_labels in (False, True):
        torch.manual_seed(2)
        mixer = BatchMixer("puzzle", ignore_index=IGNORE, puzzle=puzzle, transport_labels=transport_labels)
        mixed, target = mixer(image, label, saliency)
        targets[transport_labels] = target
    at_rest, moving = targets[False], targets[True]
    assert torch.equal(at_rest["label_a"], label)
    assert torch.equal(at_rest["label_b"], label[at_rest["plan"].partner])
    assert not torch.equal(moving["label_a"], label)
    assert torch.equal(moving["weight"], at_rest["weight"])
    assert not torch.allclose(mixed, at_rest["plan"].mix(image))
    torch.testing.assert_close(mixed, moving["plan"].mix(image))


def test_mixup_has_a_share_for_every_item() -> None:
    image, label, _ = batch(items=16)
    torch.manual_seed(0)
    mixed, target = BatchMixer("mixup", ignore_index=IGNORE)(image, label)
    share, partner = target["weight"][:, :, :1, :1], target["plan"].partner
    assert torch.equal(target["weight"], share.expand_as(target["weight"]))
    assert len(share.unique()) > 8
    torch.testing.assert_close(mixed, share * image + (1 - share) * image[partner])
    assert torch.equal(target["label_b"], label[partner])


def test_mixups_shares_follow_the_beta_distribution() -> None:
    torch.manual_seed(0)
    mixer = BatchMixer("mixup", ignore_index=IGNORE, alpha=2.0)
    image, label = torch.zeros(500, 1, 1, 1), torch.zeros(500, 1, 1, 1, dtype=torch.uint8)
    shares = mixer(image, label)[1]["weight"].flatten()
    # Beta(2, 2): mean 1/2, variance 1/4 / (4 + 1) = 1/20
    assert shares.mean() == pytest.approx(0.5, abs=0.04)
    assert shares.var() == pytest.approx(0.05, abs=0.01)


def test_cutmix_pastes_one_box_of_the_drawn_area() -> None:
    items, height, width = 12, 60, 90
    image, label, _ = batch(items, (height, width))
    torch.manual_seed(7)
    mixed, target = BatchMixer("cutmix", ignore_index=IGNORE, alpha=1.0)(image, label)
    torch.manual_seed(7)
    partner = torch.randperm(items)
    shares = torch.distributions.Beta(1.0, 1.0).sample((items, 1, 1, 1)).flatten()
    assert torch.equal(target["plan"].partner, partner)
    corners = set()
    for item in range(items):
        rows, columns = (target["weight"][item, 0] == 0).nonzero(as_tuple=True)
        edges = [round(edge * (1 - float(shares[item])) ** 0.5) for edge in (height, width)]
        assert len(rows) == edges[0] * edges[1]
        top, left = int(rows.min()), int(columns.min())
        assert (int(rows.max()) - top + 1, int(columns.max()) - left + 1) == tuple(edges)
        corners.add((top, left))
        box = slice(top, top + edges[0]), slice(left, left + edges[1])
        assert torch.equal(mixed[item, 0][box], image[partner[item], 0][box])
    assert len(corners) > 8  # MONAI's CutMix has one for all
    outside = (target["weight"] == 1).expand_as(mixed)
    assert torch.equal(mixed[outside], image[outside])


def test_cutout_hides_an_upright_square() -> None:
    image, label, _ = batch(items=8, size=(100, 80))
    torch.manual_seed(0)
    mixed, target = BatchMixer("cutout", ignore_index=IGNORE, cutout_size=20)(image, label)
    hidden = mixed == 0
    assert hidden.sum(dim=(1, 2, 3)).max() == 400
    assert torch.equal(mixed[~hidden], image[~hidden])
    assert torch.equal(target["visible"], (~hidden).float())
    assert (target["label_a"][hidden] == IGNORE).all()
    assert torch.equal(target["label_a"][~hidden], label[~hidden])
    assert (target["weight"] == 1).all()


def test_none_gives_the_images_themselves() -> None:
    image, label, _ = batch()
    mixed, target = BatchMixer("none", ignore_index=IGNORE)(image, label)
    assert mixed is image
    assert torch.equal(target["label_a"], label)
    assert torch.equal(target["plan"].mix(image), image)


@pytest.mark.parametrize("mixer", MIXERS)
def test_same_seed_same_bytes(mixer: str) -> None:
    image, label, saliency = batch()
    mixed = []
    for seed in (4, 4, 5):
        torch.manual_seed(seed)
        mixed.append(BatchMixer(mixer, ignore_index=IGNORE)(image, label, saliency)[0])
    assert torch.equal(mixed[0], mixed[1])
    assert mixer == "none" or not torch.equal(mixed[0], mixed[2])


@pytest.mark.parametrize("mixer", MIXERS)
def test_nothing_annotated_stays_so(mixer: str) -> None:
    image, label, saliency = batch()
    label.fill_(IGNORE)
    _, target = BatchMixer(mixer, ignore_index=IGNORE)(image, label, torch.zeros_like(saliency))
    assert (target["label_a"] == IGNORE).all()
    assert (target["label_b"] == IGNORE).all()


@pytest.mark.parametrize("mixer", MIXERS)
def test_who_needs_the_saliency(mixer: str) -> None:
    image, label, _ = batch()
    given = BatchMixer(mixer, ignore_index=IGNORE)
    assert given.needs_saliency == (mixer in ("puzzle", "comixup"))
    if given.needs_saliency:
        with pytest.raises(ValueError, match=f"'{mixer}' needs the saliency"):
            given(image, label)
    else:
        given(image, label)


def test_options_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"mixer must be one of puzzle, .* got 'puzle'"):
        BatchMixer("puzle", ignore_index=IGNORE)
    with pytest.raises(ValueError, match="mixup_alpha must be above 0, got 0"):
        BatchMixer("mixup", ignore_index=IGNORE, alpha=0)
