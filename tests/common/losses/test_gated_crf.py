from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from common.errors import UserError
from common.losses import gated_crf
from common.losses.gated_crf import GatedCRFLoss, GaussianKernel

Kernel = dict[str, float]
BOTH: Kernel = {"position_sigma": 6.0, "intensity_sigma": 0.1}
POSITION: Kernel = {"weight": 0.3, "position_sigma": 1.5}
INTENSITY: Kernel = {"weight": 2.0, "intensity_sigma": 0.4}


def by_unfolding(
    probabilities: torch.Tensor,
    image: torch.Tensor,
    kernels: list[Kernel],
    radius: int,
    destination: torch.Tensor | None = None,
    source: torch.Tensor | None = None,
) -> torch.Tensor:
    """The equation as it stands: the windows of all pixels side by side, every ordered pair on its own."""
    side = 2 * radius + 1

    def windows(values: torch.Tensor) -> torch.Tensor:
        flat = F.unfold(values, side, padding=radius)
        return flat.reshape(len(values), values.shape[1], side * side, *values.shape[2:])

    offsets = torch.cartesian_prod(*2 * [torch.arange(-radius, radius + 1)]).to(image.dtype)
    far = offsets.square().sum(dim=1).view(1, -1, 1, 1)
    unlike = (windows(image) - image[:, :, None]).square().sum(dim=1)
    k = torch.zeros_like(unlike)
    for kernel in kernels:
        exponent = -far / (2 * kernel.get("position_sigma", math.inf) ** 2)
        exponent = exponent - unlike / (2 * kernel.get("intensity_sigma", math.inf) ** 2)
        k = k + kernel.get("weight", 1.0) * exponent.exp()
    ones = torch.ones_like(image[:, :1])
    destination = ones if destination is None else destination
    k = k * windows(ones if source is None else source)[:, 0] * destination
    k[:, side * side // 2] = 0
    potts = 1 - (windows(probabilities) * probabilities[:, :, None]).sum(dim=1)
    return (k * potts).sum() / destination.sum()


def certain(classes: torch.Tensor, num_classes: int) -> torch.Tensor:
    """One-hot probabilities ``[1, C, H, W]`` of a map ``[H, W]``."""
    return F.one_hot(classes, num_classes).permute(2, 0, 1)[None].float()


def gradient_of(value: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(value, leaf, retain_graph=True)[0]


@pytest.fixture
def nine() -> tuple[torch.Tensor, torch.Tensor]:
    # 3 x 3 pixels: the one in the middle is of class 1, all others are of class 0; the right column is brighter by 1
    classes = torch.zeros(3, 3, dtype=torch.long)
    classes[1, 1] = 1
    image = torch.zeros(1, 1, 3, 3)
    image[..., 2] = 1.0
    return certain(classes, 2), image


# With both sigmas 1, k(middle, q) is exp(-(d^2 + dI^2) / 2): 1/2 for the 3 dark sides, 1 for the bright side and the
# 2 dark corners, 3/2 for the 2 bright corners (as exponents). Only pairs with the middle disagree.
HALF, ONE, MORE = math.exp(-0.5), math.exp(-1.0), math.exp(-1.5)
UNIT = {"position_sigma": 1.0, "intensity_sigma": 1.0}


def test_by_hand(nine: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = GatedCRFLoss(kernels=[UNIT], radius=1, softmax=False)
    # every pair counts twice, from either end, for 9 pixels
    assert loss(*nine).item() == pytest.approx(2 * (3 * HALF + 3 * ONE + 2 * MORE) / 9, rel=1e-6)


def test_several_kernels_add_up_by_hand(nine: tuple[torch.Tensor, torch.Tensor]) -> None:
    kernels: list[Any] = [
        GaussianKernel(2.0, 1.0, 1.0),
        {"weight": 3.0, "intensity_sigma": 1.0},
        {"position_sigma": 2.0},
    ]
    # the second is 1 towards 5 dark and exp(-1/2) towards 3 bright pixels; the third exp(-1/8) towards 4 sides and
    # exp(-2/8) towards 4 corners
    expected = 2 * (3 * HALF + 3 * ONE + 2 * MORE) + 3 * (5 + 3 * HALF) + 4 * math.exp(-1 / 8) + 4 * math.exp(-1 / 4)
    loss = GatedCRFLoss(kernels=kernels, radius=1, softmax=False)
    assert loss(*nine).item() == pytest.approx(2 * expected / 9, rel=1e-6)


def test_destinations_by_hand(nine: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = GatedCRFLoss(kernels=[UNIT], radius=1, softmax=False)
    middle = torch.zeros(1, 1, 3, 3)
    middle[..., 1, 1] = 1
    # p is the middle alone
    value = loss(*nine, destination_mask=middle)
    assert value.item() == pytest.approx(3 * HALF + 3 * ONE + 2 * MORE, rel=1e-6)
    # p is each of the others: the same pairs, for 8 pixels
    value = loss(*nine, destination_mask=1 - middle)
    assert value.item() == pytest.approx((3 * HALF + 3 * ONE + 2 * MORE) / 8, rel=1e-6)


def test_sources_by_hand(nine: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = GatedCRFLoss(kernels=[UNIT], radius=1, softmax=False)
    middle, left = torch.zeros(2, 1, 1, 3, 3)
    middle[..., 1, 1] = 1
    left[..., 0] = 1
    # p in the middle, q on the left: one side, two corners
    value = loss(*nine, destination_mask=middle, source_mask=left)
    assert value.item() == pytest.approx(HALF + 2 * ONE, rel=1e-6)
    # the other way round for 3 destinations
    value = loss(*nine, destination_mask=left, source_mask=middle)
    assert value.item() == pytest.approx((HALF + 2 * ONE) / 3, rel=1e-6)
    # p anywhere, q on the left: the middle alone disagrees with the left
    value = loss(*nine, source_mask=left)
    assert value.item() == pytest.approx((HALF + 2 * ONE) / 9, rel=1e-6)
    # both on the left, where all agree
    assert loss(*nine, destination_mask=left, source_mask=left).item() == 0.0


def test_uncertain_probabilities_and_their_gradient_by_hand() -> None:
    # P_p = (1/4, 3/4), P_q = (1/2, 1/2): 1 - <P_p, P_q> = 1/2. The pair counts twice, for 2 pixels: k / 2 = HALF / 2.
    # The gradient at P_p is -2 k P_q / 2, and the other way round.
    probabilities = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).T.reshape(1, 2, 1, 2).requires_grad_()
    loss = GatedCRFLoss(kernels=[{"position_sigma": 1.0}], radius=1, softmax=False)
    value = loss(probabilities, torch.zeros(1, 1, 1, 2))
    assert value.item() == pytest.approx(HALF / 2, rel=1e-6)
    expected = -HALF * torch.tensor([[0.5, 0.5], [0.25, 0.75]]).T.reshape(1, 2, 1, 2)
    torch.testing.assert_close(gradient_of(value, probabilities), expected)


def test_default_is_the_published_setting() -> None:
    torch.manual_seed(0)
    logits, image = torch.randn(2, 4, 14, 13), torch.rand(2, 1, 14, 13)
    expected = by_unfolding(logits.softmax(1), image, [BOTH], 5)
    torch.testing.assert_close(GatedCRFLoss()(logits, image), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("masks", ["none", "destination", "source", "both", "alike"])
@pytest.mark.parametrize(
    ("kernels", "radius", "shape", "channels"),
    [
        ([BOTH], 1, (2, 4, 9, 12), 1),
        ([BOTH], 5, (3, 4, 24, 21), 1),
        ([INTENSITY, BOTH, POSITION], 3, (2, 3, 11, 17), 3),
        ([POSITION], 2, (1, 2, 8, 8), 1),
        ([INTENSITY], 4, (2, 1, 5, 7), 2),
        ([BOTH, POSITION], 6, (2, 3, 5, 4), 1),  # the window is larger than the image
        ([BOTH], 4, (2, 3, 1, 9), 1),
        ([BOTH], 4, (2, 3, 9, 1), 1),
    ],
)
def test_equals_the_unfolded_equation(
    kernels: list[Kernel],
    radius: int,
    shape: tuple[int, ...],
    channels: int,
    masks: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(1)
    monkeypatch.setattr(gated_crf, "PIXELS_AT_A_TIME", 2 * shape[2] * shape[3])  # of three images, two and then one
    logits = torch.randn(shape, requires_grad=True)
    image = torch.rand(shape[0], channels, *shape[2:])
    destination, source = (torch.rand(2, shape[0], 1, *shape[2:]) < 0.7).float()
    use = {
        "none": (None, None),
        "destination": (destination, None),
        "source": (None, source),
        "both": (destination, source),
        "alike": (destination, destination),
    }[masks]
    loss = GatedCRFLoss(kernels=kernels, radius=radius)
    value = loss(logits, image, destination_mask=use[0], source_mask=use[1])
    expected = by_unfolding(logits.softmax(1), image, kernels, radius, *use)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
    gradient, expected_gradient = gradient_of(value, logits), gradient_of(expected, logits)
    assert (gradient - expected_gradient).norm() <= 1e-5 * expected_gradient.norm() + 1e-7


@pytest.mark.parametrize("softmax", [True, False])
def test_gradcheck(softmax: bool) -> None:
    torch.manual_seed(2)
    values = torch.randn(2, 3, 4, 5, dtype=torch.float64).softmax(1).requires_grad_()
    image = torch.rand(2, 2, 4, 5, dtype=torch.float64)
    destination, source = torch.rand(2, 2, 1, 4, 5) < 0.7
    loss = GatedCRFLoss(kernels=[INTENSITY, POSITION], radius=2, softmax=softmax)
    value = loss(values, image, destination_mask=destination, source_mask=source)
    assert value.dtype == torch.float64
    assert torch.autograd.gradcheck(
        lambda v: loss(v, image, destination_mask=destination, source_mask=source), values, raise_exception=True
    )


def test_pixels_in_neither_mask_have_no_gradient_and_no_say() -> None:
    torch.manual_seed(3)
    loss = GatedCRFLoss(radius=2)
    logits = torch.randn(2, 3, 8, 9, requires_grad=True)
    image = torch.rand(2, 1, 8, 9)
    free = torch.rand(2, 1, 8, 9) < 0.6
    value = loss(logits, image, destination_mask=free, source_mask=free)
    annotated = ~free.expand(-1, 3, -1, -1)
    assert gradient_of(value, logits)[annotated].abs().max() == 0
    assert gradient_of(value, logits)[~annotated].abs().max() > 0
    changed = torch.where(annotated, torch.randn_like(logits), logits)
    torch.testing.assert_close(loss(changed, image, destination_mask=free, source_mask=free), value)
    # as sources alone they do have a say and a gradient
    assert gradient_of(loss(logits, image, destination_mask=free), logits)[annotated].abs().max() > 0


def test_masks_of_any_type_and_of_any_number_that_is_not_zero() -> None:
    torch.manual_seed(4)
    logits, image, mask = torch.randn(2, 3, 6, 6), torch.rand(2, 1, 6, 6), torch.rand(2, 1, 6, 6) < 0.5
    loss = GatedCRFLoss()
    expected = loss(logits, image, destination_mask=mask, source_mask=mask)
    for other in (mask.float(), mask.to(torch.uint8) * 255, -mask.long()):
        torch.testing.assert_close(loss(logits, image, destination_mask=other, source_mask=other), expected)


def test_a_mask_of_everything_is_no_mask() -> None:
    torch.manual_seed(5)
    logits, image, ones = torch.randn(2, 3, 7, 6), torch.rand(2, 1, 7, 6), torch.ones(2, 1, 7, 6)
    value = GatedCRFLoss()(logits, image, destination_mask=ones, source_mask=ones)
    torch.testing.assert_close(value, GatedCRFLoss()(logits, image))


@pytest.mark.parametrize("names", [["destination_mask"], ["source_mask"], ["destination_mask", "source_mask"]])
def test_empty_masks_give_zero_with_a_gradient_path(names: list[str]) -> None:
    logits = torch.randn(2, 3, 6, 6, requires_grad=True)
    value = GatedCRFLoss()(logits, torch.rand(2, 1, 6, 6), **{name: torch.zeros(2, 1, 6, 6) for name in names})
    assert value.item() == 0.0
    assert gradient_of(value, logits).abs().max() == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (3, 1)])
@pytest.mark.parametrize("downsample", [1, 2])
def test_tiny_images(size: tuple[int, int], downsample: int) -> None:
    logits = torch.randn(2, 3, *size, requires_grad=True)
    value = GatedCRFLoss(downsample=downsample)(logits, torch.rand(2, 1, *size))
    assert torch.isfinite(value)
    assert torch.isfinite(gradient_of(value, logits)).all()
    if max(size) <= downsample:  # one pixel has no neighbours
        assert value.item() == 0.0
    else:
        assert value.item() > 0.0


def test_no_images_give_zero() -> None:
    assert GatedCRFLoss()(torch.randn(0, 3, 6, 6), torch.rand(0, 1, 6, 6)).item() == 0.0


def test_classes_in_another_order() -> None:
    torch.manual_seed(6)
    loss, order = GatedCRFLoss(radius=2), [2, 0, 3, 1]
    logits, image = torch.randn(2, 4, 8, 8, requires_grad=True), torch.rand(2, 1, 8, 8)
    value, turned = loss(logits, image), loss(logits[:, order], image)
    torch.testing.assert_close(turned, value)
    torch.testing.assert_close(gradient_of(turned, logits), gradient_of(value, logits))


def test_normalised_over_the_batch() -> None:
    torch.manual_seed(7)
    logits, image = torch.randn(2, 3, 6, 7), torch.rand(2, 1, 6, 7)
    mask = torch.rand(2, 1, 6, 7) < torch.tensor([0.2, 0.9]).view(2, 1, 1, 1)
    loss = GatedCRFLoss(radius=2)
    value = loss(logits, image, destination_mask=mask)
    twice = [tensor.repeat(2, 1, 1, 1) for tensor in (logits, image, mask)]
    torch.testing.assert_close(loss(*twice[:2], destination_mask=twice[2]), value)
    # not the mean of the images' losses, but weighted with their numbers of destinations
    alone = torch.stack([loss(logits[i : i + 1], image[i : i + 1], destination_mask=mask[i : i + 1]) for i in (0, 1)])
    numbers = mask.sum(dim=(1, 2, 3))
    torch.testing.assert_close(value, (alone * numbers).sum() / numbers.sum())


def test_mean_over_processes_is_the_loss_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(8)
    logits, image = torch.randn(2, 3, 6, 7), torch.rand(2, 1, 6, 7)
    mask = torch.rand(2, 1, 6, 7) < torch.tensor([0.2, 0.9]).view(2, 1, 1, 1)
    whole = GatedCRFLoss()(logits, image, destination_mask=mask)
    monkeypatch.setattr(gated_crf, "world_size", lambda: 2)
    monkeypatch.setattr(gated_crf, "all_reduced", lambda _: mask.sum())
    parts = [GatedCRFLoss()(logits[i : i + 1], image[i : i + 1], destination_mask=mask[i : i + 1]) for i in (0, 1)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_a_certain_prediction_that_is_the_same_everywhere_costs_nothing() -> None:
    probabilities = certain(torch.full((20, 20), 2), 4)
    assert GatedCRFLoss(softmax=False)(probabilities, torch.rand(1, 1, 20, 20)).item() == 0.0


def test_a_step_down_the_gradient_turns_an_outlier_to_its_alike_neighbours() -> None:
    logits = torch.zeros(1, 2, 5, 5)
    logits[:, 0] = 2.0
    logits[:, :, 2, 2] = torch.tensor([0.0, 0.5])
    logits.requires_grad_()
    push = -gradient_of(GatedCRFLoss()(logits, torch.zeros(1, 1, 5, 5)), logits)[0, :, 2, 2]
    assert push[0] > 0 > push[1]
    # at an edge of the image it is left alone
    image = torch.zeros(1, 1, 5, 5)
    image[..., 2, 2] = 1.0
    assert gradient_of(GatedCRFLoss()(logits, image), logits)[0, :, 2, 2].abs().max() < 1e-12


@pytest.mark.parametrize("shape", [(2, 3, 8, 12), (2, 3, 7, 9)])
def test_downsampling_is_the_loss_of_averages_on_a_coarser_grid(shape: tuple[int, ...]) -> None:
    torch.manual_seed(9)
    logits, image = torch.randn(shape, requires_grad=True), torch.rand(2, 1, *shape[2:])
    mask = torch.rand(2, 1, *shape[2:]) < 0.9
    rows, columns = (torch.arange(n).split(2) for n in shape[2:])

    def squares(values: torch.Tensor, reduce: str) -> torch.Tensor:
        cells = [[getattr(values[:, :, r][..., c].flatten(2), reduce)(-1) for c in columns] for r in rows]
        return torch.stack([torch.stack(line, dim=-1) for line in cells], dim=-2)

    coarse = GatedCRFLoss(radius=2, softmax=False)
    expected = coarse(squares(logits.softmax(1), "mean"), squares(image, "mean"), destination_mask=squares(mask, "all"))
    value = GatedCRFLoss(radius=2, downsample=2)(logits, image, destination_mask=mask)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient_of(value, logits), gradient_of(expected, logits))


def test_channels_last() -> None:
    torch.manual_seed(10)
    logits, image = torch.randn(2, 4, 9, 7, requires_grad=True), torch.rand(2, 3, 9, 7)
    loss = GatedCRFLoss(radius=2)
    value = loss(logits, image)
    other = loss(logits.to(memory_format=torch.channels_last), image.to(memory_format=torch.channels_last))
    torch.testing.assert_close(other, value)
    torch.testing.assert_close(gradient_of(other, logits), gradient_of(value, logits))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(11)
    logits, image = torch.randn(1, 3, 9, 9).to(dtype).requires_grad_(), torch.rand(1, 1, 9, 9).to(dtype)
    loss = GatedCRFLoss()
    value = loss(logits, image)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(logits.float(), image.float()), rtol=0, atol=0)
    assert gradient_of(value, logits).dtype == dtype


def test_autocast_changes_nothing_after_the_logits() -> None:
    torch.manual_seed(12)
    layer, image = torch.nn.Conv2d(1, 3, 3, padding=1), torch.rand(2, 1, 9, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = layer(image)
        assert logits.dtype == torch.bfloat16
        value = GatedCRFLoss()(logits, image)
    torch.testing.assert_close(value, GatedCRFLoss()(logits.float(), image), rtol=0, atol=0)
    assert all(torch.isfinite(gradient_of(value, parameter)).all() for parameter in layer.parameters())


def test_the_image_is_a_constant_and_the_gradient_has_no_gradient() -> None:
    logits, image = torch.randn(1, 2, 4, 4, requires_grad=True), torch.rand(1, 1, 4, 4, requires_grad=True)
    value = GatedCRFLoss()(logits, image)
    first = gradient_of(value, logits)
    torch.testing.assert_close(gradient_of(3 * value, logits), 3 * first)  # a second time and scaled
    with pytest.raises(RuntimeError, match="not have been used"):
        gradient_of(value, image)
    assert not GatedCRFLoss()(logits.detach(), image).requires_grad
    probabilities = logits.softmax(1)
    squared = GatedCRFLoss(softmax=False)(probabilities, image).square()
    (gradient,) = torch.autograd.grad(squared, probabilities, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_what_is_kept_for_the_gradient_does_not_grow_with_the_window() -> None:
    logits, image = torch.randn(2, 4, 16, 16, requires_grad=True), torch.rand(2, 1, 16, 16)

    def kept(radius: int) -> int:
        sizes: list[int] = []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            GatedCRFLoss(radius=radius)(logits, image).backward()
        return sum(sizes)

    # probabilities for the softmax, the gradient, and the scalars of the division
    assert kept(5) == kept(1) <= 2 * logits.numel() + 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_the_same_on_a_gpu() -> None:
    torch.manual_seed(13)
    logits, image, mask = torch.randn(3, 4, 33, 31), torch.rand(3, 1, 33, 31), torch.rand(3, 1, 33, 31) < 0.8
    values, gradients = [], []
    for device in ("cpu", "cuda"):
        moved = logits.to(device).requires_grad_()
        value = GatedCRFLoss(kernels=[BOTH, POSITION])(moved, image.to(device), destination_mask=mask.to(device))
        values.append(value.detach().cpu())
        gradients.append(gradient_of(value, moved).cpu())
    torch.testing.assert_close(values[1], values[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 0}, "radius must be an integer of at least 1, got 0"),
        ({"radius": 2.5}, "radius must be an integer of at least 1, got 2.5"),
        ({"downsample": 0}, "downsample must be an integer of at least 1, got 0"),
        ({"kernels": []}, "kernels must name at least one kernel"),
        ({"kernels": [{"weight": 1.0}]}, "needs position_sigma, intensity_sigma or both"),
        ({"kernels": [{"position_sigma": 0.0}]}, "position_sigma of a kernel must be a number above 0, got 0.0"),
        ({"kernels": [{"intensity_sigma": "0.1"}]}, "intensity_sigma of a kernel must be a number above 0, got '0.1'"),
        ({"kernels": [{**BOTH, "weight": -1.0}]}, "weight of a kernel must be a number above 0, got -1.0"),
        ({"kernels": [{**BOTH, "weight": None}]}, "weight of a kernel must be a number above 0, got None"),
        ({"kernels": [{"xy": 6.0}]}, "a kernel takes weight, position_sigma and intensity_sigma, got {'xy': 6.0}"),
        ({"kernels": [6.0]}, "a kernel takes weight, position_sigma and intensity_sigma, got 6.0"),
    ],
)
def test_ill_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        GatedCRFLoss(**options)
    assert message in str(caught.value)


def test_ill_shapes() -> None:
    loss, logits, image = GatedCRFLoss(), torch.randn(2, 3, 4, 5), torch.rand(2, 1, 4, 5)
    with pytest.raises(ValueError, match=r"input \(2, 3, 4, 5\) and image \(2, 1, 4, 4\)"):
        loss(logits, torch.rand(2, 1, 4, 4))
    with pytest.raises(ValueError, match=r"input \(2, 3, 4\) and image \(2, 1, 4\)"):
        loss(logits[..., 0], image[..., 0])
    with pytest.raises(ValueError, match=r"destination_mask \(2, 4, 5\) must be \(2, 1, 4, 5\)"):
        loss(logits, image, destination_mask=torch.ones(2, 4, 5))
    with pytest.raises(ValueError, match=r"source_mask \(1, 1, 4, 5\) must be \(2, 1, 4, 5\)"):
        loss(logits, image, source_mask=torch.ones(1, 1, 4, 5))
