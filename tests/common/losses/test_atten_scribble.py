from __future__ import annotations

import math

import pytest
import torch

from common.losses.atten_scribble import AttenScribbleLoss
from common.losses.attentive_similarity import AttentiveSimilarityLoss
from common.losses.gated_crf import GatedCRFLoss
from common.losses.partial_cross_entropy import PartialCrossEntropyLoss


def example(batch=2, classes=3, size=8) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).requires_grad_()

    heads = [draw(batch, classes, size, size), draw(batch, 2, 2, 4, 3), draw(batch, 2, 2, 4, 3), draw(batch, 3)]
    label = torch.randint(0, classes, (batch, 1, size, size), generator=generator)
    label = torch.where(torch.rand(label.shape, generator=generator) < 0.2, label, classes)
    return heads, {"label": label, "image": torch.rand(batch, 1, size, size, generator=generator)}


def test_weighted_sum_of_the_three_terms():
    heads, target = example()
    loss = AttenScribbleLoss(3, lambda_mcrf=0.2, lambda_atn=0.3)
    total = loss(heads, target)
    seg = PartialCrossEntropyLoss(3)(heads[0], target["label"])
    mcrf = GatedCRFLoss()(heads[0], target["image"], destination_mask=target["label"] == 3)
    atn = AttentiveSimilarityLoss()(heads, target["label"])
    torch.testing.assert_close(total, seg + 0.2 * mcrf + 0.3 * atn)
    expected = {"l_seg": seg, "l_mcrf": mcrf, "l_atn": atn}
    assert list(loss.terms) == [*expected, "similarity", "similarity_outside"]
    for name, value in expected.items():
        torch.testing.assert_close(loss.terms[name], value.detach())
    assert not any(value.requires_grad or value.ndim for value in loss.terms.values())


def test_by_hand():
    # 1 x 2 pixels on a grid of the same size, two classes, the first annotated as class 0. P = (3/4, 1/4), (1/4, 3/4)
    logits = torch.tensor([[math.log(3), 0.0], [0.0, math.log(3)]]).view(1, 2, 1, 2)
    heads = [logits, torch.zeros(1, 1, 1, 2, 1), torch.zeros(1, 1, 1, 2, 1), torch.zeros(1, 2)]
    target = {"label": torch.tensor([[[[0, 2]]]]), "image": torch.full((1, 1, 1, 2), 0.5)}
    near = math.exp(-1 / 72)  # of the CRF's kernel and of M: sigma 6, same intensity
    # l_seg -log 3/4; l_mcrf: of the one unannotated pixel, (1 - 6/16) near; l_atn: S = 1/2, two ordered pairs, by 2
    expected = math.log(4 / 3) + 0.1 * near * 5 / 8 + 0.1 * near * 0.5 * 5 / 8
    attentive = AttentiveSimilarityLoss(single_class="keep")
    assert float(AttenScribbleLoss(2, attentive=attentive)(heads, target)) == pytest.approx(expected, rel=1e-6)
    # both pixels would have to be unannotated for the paper's CRF; the slice has one class for the similarity
    loss = AttenScribbleLoss(2, mask_q=True)
    assert float(loss(heads, target)) == pytest.approx(math.log(4 / 3), rel=1e-6)
    assert (loss.terms["l_mcrf"], loss.terms["l_atn"]) == (0, 0)


class Refusing(torch.nn.Module):
    """A term that must not be computed."""

    def forward(self, *args: object, **kwargs: object) -> torch.Tensor:
        raise AssertionError


def test_terms_of_weight_zero_are_not_computed():
    heads, target = example()
    seg = PartialCrossEntropyLoss(3)(heads[0], target["label"])
    loss = AttenScribbleLoss(3, lambda_mcrf=0, lambda_atn=0, crf=Refusing(), attentive=Refusing())
    torch.testing.assert_close(loss(heads[0], target["label"]), seg)
    torch.testing.assert_close(loss(heads, target), seg)
    assert list(loss.terms) == ["l_seg"]
    mcrf_only = AttenScribbleLoss(3, lambda_atn=0, attentive=Refusing())
    mcrf_only(heads[0], target)
    assert list(mcrf_only.terms) == ["l_seg", "l_mcrf"]
    atn_only = AttenScribbleLoss(3, lambda_mcrf=0, crf=Refusing())
    atn_only(heads, target["label"])
    assert list(atn_only.terms) == ["l_seg", "l_atn", "similarity", "similarity_outside"]


def test_all_heads_have_a_gradient_with_and_without_the_similarity():
    for lambda_atn in (0.1, 0.0):
        heads, target = example()
        AttenScribbleLoss(3, lambda_atn=lambda_atn)(heads, target).backward()
        assert heads[0].grad.abs().max() > 0
        assert heads[3].grad is not None
        assert (heads[3].grad.abs().max() > 0) == (lambda_atn > 0)


@pytest.mark.parametrize("mask_q", [False, True])
def test_invariances(mask_q):
    heads, target = example()
    target["label"][1, :, :6] = 3
    loss = AttenScribbleLoss(3, mask_q=mask_q)
    value = loss(heads, target)
    for code in (255, -1):
        other = torch.where(target["label"] < 3, target["label"], code)
        torch.testing.assert_close(loss(heads, {**target, "label": other}), value)
    twice = loss([torch.cat([head, head]) for head in heads], {k: torch.cat([v, v]) for k, v in target.items()})
    torch.testing.assert_close(twice, value)


def test_nothing_annotated_leaves_the_crf():
    heads, target = example()
    target["label"].fill_(3)
    loss = AttenScribbleLoss(3)
    value = loss(heads, target)
    value.backward()
    assert all(torch.isfinite(head.grad).all() for head in heads)
    assert (loss.terms["l_seg"], loss.terms["l_atn"]) == (0, 0)
    torch.testing.assert_close(value.detach(), 0.1 * loss.terms["l_mcrf"])


def test_everything_annotated_leaves_no_crf():
    heads, target = example()
    target["label"].random_(0, 3)
    loss = AttenScribbleLoss(3)
    assert torch.isfinite(loss(heads, target))
    assert loss.terms["l_mcrf"] == 0


def test_several_annotators():
    """A pixel is annotated if any of them drew there; each has a partial cross entropy of its own."""
    heads, target = example()
    first, second = target["label"], torch.full_like(target["label"], 3)
    first[:, :, 4:], second[:, :, 5:7] = 3, 2
    union = torch.where(first < 3, first, second)
    for options in ({}, {"mask_q": True, "attentive": AttentiveSimilarityLoss(mask_omega_u=True)}):
        loss = AttenScribbleLoss(3, **options)
        loss(heads, {**target, "label": union})
        expected = dict(loss.terms)
        loss(heads, {**target, "label": torch.cat([first, second], dim=1)})
        for name in ("l_mcrf", "l_atn"):
            assert expected[name] > 0
            torch.testing.assert_close(loss.terms[name], expected[name])
        alone = PartialCrossEntropyLoss(3)
        torch.testing.assert_close(loss.terms["l_seg"], (alone(heads[0], first) + alone(heads[0], second)).detach())


def test_half_precision_is_computed_in_float32_inside_and_outside_of_autocast():
    heads, target = example()
    loss = AttenScribbleLoss(3)
    half = [head.detach().bfloat16() for head in heads]
    expected = loss([head.float() for head in half], target)
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            value = loss(half, target)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected)


def test_user_errors():
    heads, target = example()
    with pytest.raises(ValueError, match="lambda_mcrf must not be negative, got -1"):
        AttenScribbleLoss(3, lambda_mcrf=-1)
    with pytest.raises(ValueError, match="lambda_mcrf above 0 needs the image"):
        AttenScribbleLoss(3)(heads, target["label"])
    with pytest.raises(ValueError, match="lambda_atn above 0 needs the attention: set similarity"):
        AttenScribbleLoss(3)(heads[0], target)
    with pytest.raises(ValueError, match=r"lambda_atn must be 0 with self_attention false: .*, got 0.1"):
        AttenScribbleLoss(3, attention=False)
    AttenScribbleLoss(3, lambda_atn=0, attention=False)
