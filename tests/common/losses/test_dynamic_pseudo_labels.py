from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from forked_programs import run_on_two_processes
from monai.losses import DiceLoss

from common.losses.batch_dice import batch_dice_loss
from common.losses.dynamic_pseudo_labels import MIXINGS, DynamicPseudoLabelsLoss, mixed_pseudo_labels

# One image of 2 x 2 pixels, two classes; the probabilities of class 1 that the heads give.
MAIN = torch.tensor([[0.9, 0.6], [0.2, 0.1]])
AUXILIARY = torch.tensor([[0.7, 0.2], [0.6, 0.1]])
# Class 1 is drawn on the first pixel, background on the last.
SCRIBBLE = torch.tensor([[[[1, 2], [2, 0]]]])
PCE_MAIN = -math.log(0.9)  # -(ln 0.9 + ln (1 - 0.1)) / 2
PCE_AUXILIARY = -(math.log(0.7) + math.log(0.9)) / 2
EVERY_MIXING = pytest.mark.parametrize("mixing", MIXINGS)
EVERY_LOSS = pytest.mark.parametrize("pseudo_loss", ["dice", "ce"])


def probabilities(of_class_1: torch.Tensor) -> torch.Tensor:
    return torch.stack([1 - of_class_1, of_class_1]).unsqueeze(0)


@pytest.fixture
def heads() -> list[torch.Tensor]:
    return [probabilities(of_class_1).log().requires_grad_() for of_class_1 in (MAIN, AUXILIARY)]


def random_case(num_classes: int = 3, batch: int = 2) -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (batch, num_classes, 6, 5)
    logits = [torch.randn(shape, generator=generator).requires_grad_() for _ in range(2)]
    return logits, torch.randint(0, num_classes + 1, (batch, 1, 6, 5), generator=generator)


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (0.5, [[1, 0], [0, 0]]),  # class 1 gets .8, .4, .4, .1
        (0.9, [[1, 1], [0, 0]]),  # .88, .56, .24, .1
        (0.1, [[1, 0], [1, 0]]),  # .72, .24, .56, .1
    ],
)
def test_pseudo_labels_by_hand(alpha: float, expected: list[list[int]]) -> None:
    labels = mixed_pseudo_labels(probabilities(MAIN), probabilities(AUXILIARY), alpha)
    assert labels.tolist() == [expected]


def test_dice_by_hand() -> None:
    # class 1: sum p t = .9, sum p^2 = .81 + .36 + .04 + .01 = 1.22, sum t^2 = 1
    # class 0: sum p t = .4 + .8 + .9 = 2.1, sum p^2 = .01 + .16 + .64 + .81 = 1.62, sum t^2 = 3
    value = batch_dice_loss(probabilities(MAIN), torch.tensor([[[1, 0], [0, 0]]]), smooth=0.0)
    assert value.item() == pytest.approx(((1 - 1.8 / 2.22) + (1 - 4.2 / 4.62)) / 2, rel=1e-6)
    # one pixel of class 0 given for sure, class 1 absent: its Dice is smooth / smooth
    sure = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    assert float(batch_dice_loss(sure, torch.zeros(1, 1, 1, dtype=torch.long))) == pytest.approx(0.0, abs=1e-6)


def test_dice_equals_monais() -> None:
    logits, target = random_case(num_classes=4, batch=3)
    labels = torch.where(target == 4, 0, target)
    reference = DiceLoss(to_onehot_y=True, squared_pred=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)
    value = logits[0].softmax(dim=1)
    torch.testing.assert_close(batch_dice_loss(value, labels[:, 0]), reference(value, labels))


def test_fixed_mixing_by_hand(heads: list[torch.Tensor]) -> None:
    # pseudo labels (1, 0 / 0, 0); the main head's Dice as above; the auxiliary head's:
    # class 1: .7, .49 + .04 + .36 + .01 = .90, 1; class 0: .8 + .4 + .9 = 2.1, .09 + .64 + .16 + .81 = 1.70, 3
    dice_main = ((1 - 1.8 / 2.22) + (1 - 4.2 / 4.62)) / 2
    dice_auxiliary = ((1 - 1.4 / 1.9) + (1 - 4.2 / 4.7)) / 2
    loss = DynamicPseudoLabelsLoss(2, mixing="fixed", pseudo_weight=0.3)
    pls = (dice_main + dice_auxiliary) / 2
    expected = (PCE_MAIN + PCE_AUXILIARY) / 2 + 0.3 * pls
    assert loss(heads, SCRIBBLE).item() == pytest.approx(expected, rel=1e-4)  # smooth is left out here
    assert {name: value.item() for name, value in loss.terms.items()} == pytest.approx(
        {"l_pce_main": PCE_MAIN, "l_pce_auxiliary": PCE_AUXILIARY, "l_pls": pls}, rel=1e-4
    )
    assert not any(value.requires_grad for value in loss.terms.values())


def test_cross_entropy_of_pseudo_labels_by_hand(heads: list[torch.Tensor]) -> None:
    # of labels (1, 0 / 0, 0), over all four pixels
    main = -(math.log(0.9) + math.log(0.4) + math.log(0.8) + math.log(0.9)) / 4
    auxiliary = -(math.log(0.7) + math.log(0.8) + math.log(0.4) + math.log(0.9)) / 4
    loss = DynamicPseudoLabelsLoss(2, mixing="fixed", pseudo_loss="ce")
    expected = (PCE_MAIN + PCE_AUXILIARY) / 2 + 0.5 * (main + auxiliary) / 2
    assert loss(heads, SCRIBBLE).item() == pytest.approx(expected, rel=1e-6)


def test_cross_pseudo_supervision_by_hand(heads: list[torch.Tensor]) -> None:
    # the auxiliary head's labels (1, 0 / 1, 0) for the main head:
    # class 1: .9 + .2 = 1.1, 1.22, 2; class 0: .4 + .9 = 1.3, 1.62, 2
    main = ((1 - 2.2 / 3.22) + (1 - 2.6 / 3.62)) / 2
    # the main head's labels (1, 1 / 0, 0) for the auxiliary head:
    # class 1: .7 + .2 = .9, .90, 2; class 0: .4 + .9 = 1.3, 1.70, 2
    auxiliary = ((1 - 1.8 / 2.9) + (1 - 2.6 / 3.7)) / 2
    loss = DynamicPseudoLabelsLoss(2, mixing="cps")
    loss(heads, SCRIBBLE)
    assert float(loss.terms["l_pls"]) == pytest.approx((main + auxiliary) / 2, rel=1e-4)


def test_consistency_by_hand(heads: list[torch.Tensor]) -> None:
    # differences .2, .4, -.4, 0, the same in both classes: 2 (.04 + .16 + .16) / 8
    loss = DynamicPseudoLabelsLoss(2, mixing="cr")
    assert loss(heads, SCRIBBLE).item() == pytest.approx((PCE_MAIN + PCE_AUXILIARY) / 2 + 0.5 * 0.09, rel=1e-5)
    assert set(loss.terms) == {"l_pce_main", "l_pce_auxiliary", "l_cr"}
    # both heads are drawn to each other
    gradients = torch.autograd.grad(loss(heads, torch.full_like(SCRIBBLE, 2)), heads)
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    assert gradients[0][0, 1, 0, 1] > 0 > gradients[1][0, 1, 0, 1]  # .6 goes down, .2 up


def test_without_pseudo_labels_the_scribbles_alone_count(heads: list[torch.Tensor]) -> None:
    loss = DynamicPseudoLabelsLoss(2, mixing="none")
    assert loss(heads, SCRIBBLE).item() == pytest.approx((PCE_MAIN + PCE_AUXILIARY) / 2, rel=1e-6)
    assert set(loss.terms) == {"l_pce_main", "l_pce_auxiliary"}


def test_random_alpha_is_one_number_of_the_global_generator(
    heads: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = DynamicPseudoLabelsLoss(2)
    torch.manual_seed(5)
    first = loss(heads, SCRIBBLE)
    after = torch.rand(())
    torch.manual_seed(5)
    assert torch.equal(loss(heads, SCRIBBLE), first)
    torch.manual_seed(5)
    torch.rand(())
    assert torch.equal(torch.rand(()), after)
    values = set()
    for alpha in (0.1, 0.5, 0.9):  # three different pseudo labels
        monkeypatch.setattr(torch, "rand", lambda *_, alpha=alpha: torch.tensor(alpha))
        values.add(round(loss(heads, SCRIBBLE).item(), 6))
        fixed = DynamicPseudoLabelsLoss(2, mixing="fixed")(heads, SCRIBBLE)
        assert torch.equal(loss(heads, SCRIBBLE), fixed) == (alpha == 0.5)
    assert len(values) == 3


@EVERY_LOSS
@pytest.mark.parametrize("mixing", ["random", "fixed", "cps"])
def test_no_gradient_through_pseudo_labels_nor_from_head_to_head(mixing: str, pseudo_loss: str) -> None:
    heads, target = random_case()
    loss = DynamicPseudoLabelsLoss(3, mixing=mixing, pseudo_loss=pseudo_loss)
    for head, other in ((0, 1), (1, 0)):
        torch.manual_seed(2)
        complete = torch.autograd.grad(loss(heads, target), heads[head])[0]
        # the other head as a constant: it may choose the labels, and gives no gradient
        torch.manual_seed(2)
        constant = list(heads)
        constant[other] = heads[other].detach()
        torch.testing.assert_close(torch.autograd.grad(loss(constant, target), heads[head])[0], complete)
        # the labels as constants: the gradient is that of their loss alone
        softmax = [logits.detach().softmax(dim=1) for logits in heads]
        torch.manual_seed(2)
        alpha = {"random": float(torch.rand(())), "fixed": 0.5, "cps": float(head == 1)}[mixing]
        labels = (alpha * softmax[0] + (1 - alpha) * softmax[1]).argmax(dim=1)
        alone = 0.5 * loss.cross_entropy(heads[head], target)
        if pseudo_loss == "dice":
            alone = alone + 0.25 * batch_dice_loss(heads[head].softmax(dim=1), labels)
        else:
            alone = alone + 0.25 * torch.nn.functional.cross_entropy(heads[head], labels)
        torch.testing.assert_close(torch.autograd.grad(alone, heads[head])[0], complete)


def test_every_pixel_is_supervised_by_pseudo_labels() -> None:
    heads, target = random_case()
    gradient = torch.autograd.grad(DynamicPseudoLabelsLoss(3)(heads, target), heads[0])[0]
    assert (gradient.abs().sum(dim=1) > 0).all()
    gradient = torch.autograd.grad(DynamicPseudoLabelsLoss(3, mixing="none")(heads, target), heads[0])[0]
    assert ((gradient.abs().sum(dim=1) > 0) == (target[:, 0] < 3)).all()


@EVERY_LOSS
@EVERY_MIXING
def test_codes_of_unlabelled_pixels_and_doubled_batches_do_not_matter(mixing: str, pseudo_loss: str) -> None:
    heads, target = random_case()
    loss = DynamicPseudoLabelsLoss(3, mixing=mixing, pseudo_loss=pseudo_loss)

    def value(heads: list[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(4)
        return loss(heads, target)

    expected = value(heads, target)
    for code in (255, -1):
        torch.testing.assert_close(value(heads, torch.where(target == 3, code, target)), expected)
    twice = value([logits.repeat(2, 1, 1, 1) for logits in heads], target.repeat(2, 1, 1, 1))
    torch.testing.assert_close(twice, expected)
    side_by_side = value(
        [torch.cat(list(logits.split(1)), dim=3) for logits in heads], torch.cat([*target], dim=2)[None]
    )
    torch.testing.assert_close(side_by_side, expected)


@EVERY_LOSS
@EVERY_MIXING
def test_renumbering_the_classes_changes_nothing(mixing: str, pseudo_loss: str) -> None:
    heads, target = random_case()
    loss = DynamicPseudoLabelsLoss(3, mixing=mixing, pseudo_loss=pseudo_loss)
    order = [2, 0, 1]  # new class i was class order[i]
    new_number = torch.tensor([1, 2, 0, 3])
    torch.manual_seed(4)
    expected = loss(heads, target)
    torch.manual_seed(4)
    torch.testing.assert_close(loss([logits[:, order] for logits in heads], new_number[target]), expected)


@EVERY_LOSS
@EVERY_MIXING
def test_a_batch_without_labels_is_finite(mixing: str, pseudo_loss: str) -> None:
    heads, target = random_case()
    loss = DynamicPseudoLabelsLoss(3, mixing=mixing, pseudo_loss=pseudo_loss)
    value = loss(heads, torch.full_like(target, 3))
    gradients = torch.autograd.grad(value, heads)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert float(loss.terms["l_pce_main"]) == 0.0
    assert (value.item() == 0.0) == (mixing == "none")
    nothing = loss([logits[:0] for logits in heads], target[:0])
    assert nothing.item() == pytest.approx(0.0, abs=1e-6)


def test_sure_heads_stay_finite() -> None:
    heads = [torch.tensor([1e4, -1e4]).view(1, 2, 1, 1).requires_grad_() for _ in range(2)]
    value = DynamicPseudoLabelsLoss(2)(heads, torch.zeros(1, 1, 1, 1))
    assert value.item() == pytest.approx(0.0, abs=1e-6)
    assert all(torch.isfinite(gradient).all() for gradient in torch.autograd.grad(value, heads))


def test_half_precision_logits_and_uint8_targets(heads: list[torch.Tensor]) -> None:
    loss = DynamicPseudoLabelsLoss(2, mixing="fixed")
    value = loss([logits.bfloat16() for logits in heads], SCRIBBLE.to(torch.uint8))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(heads, SCRIBBLE).item(), rel=2e-2)


ON_TWO_PROCESSES = """
import sys
import torch
import torch.distributed as dist
from common.losses.dynamic_pseudo_labels import DynamicPseudoLabelsLoss

folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
case = torch.load(f"{folder}/case.pt", weights_only=True)
parts = [slice(0, 1), slice(1, 3)]
results = []
for mixing, pseudo_loss in (("fixed", "dice"), ("fixed", "ce"), ("cr", "dice")):
    heads = [logits[parts[rank]].clone().requires_grad_() for logits in case["heads"]]
    loss = DynamicPseudoLabelsLoss(3, mixing=mixing, pseudo_loss=pseudo_loss)
    value = loss(heads, case["target"][parts[rank]])
    value.backward()
    results.append({"terms": loss.terms, "gradients": [logits.grad for logits in heads]})
torch.save(results, f"{folder}/{rank}.pt")
dist.barrier()
dist.destroy_process_group()
"""


def test_two_processes_give_the_gradients_of_the_whole_batch(tmp_path: Path) -> None:
    heads, target = random_case(batch=3)
    torch.save({"heads": [logits.detach() for logits in heads], "target": target}, tmp_path / "case.pt")
    run_on_two_processes(ON_TWO_PROCESSES, tmp_path)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for index, (mixing, pseudo_loss) in enumerate((("fixed", "dice"), ("fixed", "ce"), ("cr", "dice"))):
        loss = DynamicPseudoLabelsLoss(3, mixing=mixing, pseudo_loss=pseudo_loss)
        expected = torch.autograd.grad(loss(heads, target), heads)
        for head in range(2):
            # DDP divides the sum of the processes' gradients by their number
            given = torch.cat([rank[index]["gradients"][head] for rank in ranks]) / 2
            torch.testing.assert_close(given, expected[head])
        for rank in ranks:
            torch.testing.assert_close(rank[index]["terms"], loss.terms)


def test_ill_options_and_inputs(heads: list[torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="pseudo_weight must not be negative, got -1"):
        DynamicPseudoLabelsLoss(2, pseudo_weight=-1)
    with pytest.raises(ValueError, match=r"mixing must be .* got 'ema'"):
        DynamicPseudoLabelsLoss(2, mixing="ema")
    with pytest.raises(ValueError, match=r"pseudo_loss must be .* got 'focal'"):
        DynamicPseudoLabelsLoss(2, pseudo_loss="focal")
    with pytest.raises(ValueError, match=r"two heads.* one tensor \(1, 2, 2, 2\)"):
        DynamicPseudoLabelsLoss(2)(heads[0], SCRIBBLE)
    with pytest.raises(ValueError, match=r"two heads.* got 3 heads"):
        DynamicPseudoLabelsLoss(2)([*heads, heads[0]], SCRIBBLE)
    with pytest.raises(ValueError, match="expected 3 channels"):
        DynamicPseudoLabelsLoss(3)(heads, SCRIBBLE)
