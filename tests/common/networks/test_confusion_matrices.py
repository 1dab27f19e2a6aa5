from __future__ import annotations

import pytest
import torch

from common.errors import UserError
from common.networks.confusion_matrices import (
    ConfusionHead,
    LearnedTransition,
    drawn_probabilities,
    full_matrices,
    traces,
    uniform_transition,
)

FORMS = pytest.mark.parametrize("form", ["full", "rank1"])


def one_pixel(values: list[list[float]]) -> torch.Tensor:
    """A full matrix as the map of a single pixel."""
    return torch.tensor(values).view(1, len(values), len(values), 1, 1)


def trained_looking(form: str, num_classes: int = 3, channels: int = 4) -> tuple[ConfusionHead, torch.Tensor]:
    """A head away from its start, and the matrices that it gives on a map of 5 x 6."""
    torch.manual_seed(0)
    head = ConfusionHead(channels, num_classes, form=form)
    torch.nn.init.normal_(head.output.weight, std=2.0)
    return head, head(torch.randn(2, channels, 5, 6))


@FORMS
def test_columns_are_distributions(form: str) -> None:
    matrices = full_matrices(trained_looking(form)[1])
    assert matrices.shape == (2, 3, 3, 5, 6)
    assert matrices.min() >= 0
    assert matrices.std() > 0.1
    torch.testing.assert_close(matrices.sum(dim=1), torch.ones(2, 3, 5, 6))


@FORMS
def test_columns_stay_distributions_where_softplus_vanishes_or_is_huge(form: str) -> None:
    head, _ = trained_looking(form)
    for bias in (-200.0, 1e4):
        torch.nn.init.constant_(head.output.bias, bias)
        matrices = full_matrices(head(torch.randn(1, 4, 3, 3)))
        torch.testing.assert_close(matrices.sum(dim=1), torch.ones(1, 3, 3, 3))


@FORMS
@pytest.mark.parametrize(("num_classes", "reliability"), [(2, 0.9), (4, 0.9), (19, 0.6)])
def test_the_start_is_reliable_and_the_same_everywhere(form: str, num_classes: int, reliability: float) -> None:
    head = ConfusionHead(2, num_classes, form=form, reliability=reliability)
    matrices = full_matrices(head(torch.randn(1, 2, 3, 4)))
    expected = torch.full((num_classes, num_classes), (1 - reliability) / (num_classes - 1))
    expected.fill_diagonal_(reliability)
    expected = expected.view(1, num_classes, num_classes, 1, 1).expand_as(matrices)
    torch.testing.assert_close(matrices, expected, atol=1e-5, rtol=0)


def test_two_classes_start_at_the_softplus_of_a_tenth_and_nine_tenths() -> None:
    start = torch.nn.functional.softplus(ConfusionHead(2, 2).output.bias)
    torch.testing.assert_close(start, torch.tensor([0.9, 0.1, 0.1, 0.9]))


def test_channels_are_rows_of_drawn_classes() -> None:
    head = ConfusionHead(1, 2)
    # softplus of these: 1, 2, 3, 2, so the rows (1, 2), (3, 2) and the columns' sums 4 and 4
    head.output.bias.data = torch.log(torch.expm1(torch.tensor([1.0, 2.0, 3.0, 2.0])))
    torch.testing.assert_close(head(torch.randn(1, 1, 1, 1)), one_pixel([[0.25, 0.5], [0.75, 0.5]]), atol=1e-5, rtol=0)


def test_rank1_is_a_scaled_identity_and_a_product_with_columns_normalised() -> None:
    head = ConfusionHead(1, 3, form="rank1")
    u, v, alpha = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0.5, 1.0, 3.0]), torch.tensor([2.0])
    head.output.bias.data = torch.log(torch.expm1(torch.cat([u, v, alpha])))
    matrix = alpha * torch.eye(3) + (u / u.sum())[:, None] * v
    given = full_matrices(head(torch.randn(1, 1, 1, 1)))
    torch.testing.assert_close(given.view(3, 3), matrix / matrix.sum(dim=0), atol=1e-5, rtol=0)


def test_product_and_trace_by_hand() -> None:
    matrix = one_pixel([[0.8, 0.2], [0.2, 0.8]])
    # 0.8 * 1/4 + 0.2 * 3/4 = 0.35
    seen = drawn_probabilities(matrix, torch.tensor([0.25, 0.75]).view(1, 2, 1, 1))
    torch.testing.assert_close(seen.flatten(), torch.tensor([0.35, 0.65]))
    assert traces(matrix).tolist() == [[[pytest.approx(1.6)]]]


@FORMS
def test_product_and_trace_are_those_of_the_full_matrices(form: str) -> None:
    _, matrices = trained_looking(form)
    probabilities = torch.softmax(torch.randn(2, 3, 5, 6), dim=1)
    full = full_matrices(matrices)
    product = torch.einsum("bijhw,bjhw->bihw", full, probabilities)
    torch.testing.assert_close(drawn_probabilities(matrices, probabilities), product)
    torch.testing.assert_close(product.sum(dim=1), torch.ones(2, 5, 6))
    torch.testing.assert_close(traces(matrices), torch.einsum("biihw->bhw", full))


@FORMS
def test_gradients_by_finite_differences(form: str) -> None:
    _, matrices = trained_looking(form)
    matrices = matrices[:1, ..., :2, :2].detach().double().requires_grad_()
    probabilities = torch.softmax(torch.randn(1, 3, 2, 2, dtype=torch.double), dim=1).requires_grad_()
    assert torch.autograd.gradcheck(drawn_probabilities, (matrices, probabilities))
    assert torch.autograd.gradcheck(traces, (matrices,))


@FORMS
def test_every_parameter_of_the_head_learns(form: str) -> None:
    head, matrices = trained_looking(form)
    (matrices * torch.randn_like(matrices)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in head.parameters())


@FORMS
def test_checkpointing_changes_neither_values_nor_gradients(form: str) -> None:
    plain = trained_looking(form)[0]
    saving = ConfusionHead(4, 3, form=form, checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    features = torch.randn(2, 4, 5, 6, requires_grad=True)
    weight = torch.randn(plain(features).shape)
    results = []
    for head in (plain, saving):
        value = head(features)
        results.append((value, torch.autograd.grad((value * weight).sum(), [features, *head.parameters()])))
    torch.testing.assert_close(*results)


def test_half_precision_features_give_float32_matrices() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        matrices = ConfusionHead(2, 2)(torch.randn(1, 2, 3, 3))
    assert matrices.dtype == torch.float32
    torch.testing.assert_close(matrices.sum(dim=1), torch.ones(1, 2, 3, 3))


def test_uniform_transition_by_hand() -> None:
    assert uniform_transition(2).tolist() == [[0, 1], [1, 0]]
    assert uniform_transition(3).tolist() == [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]


def test_learned_transition_starts_uniform_and_keeps_its_diagonal_zero() -> None:
    transition = LearnedTransition(3)
    torch.testing.assert_close(transition(), uniform_transition(3))
    transition.weight.data = torch.log(torch.tensor([[9.0, 1.0, 3.0], [2.0, 9.0, 2.0], [1.0, 4.0, 9.0]]))
    # rows without their diagonal: (1, 3) / 4, (2, 2) / 4, (1, 4) / 5
    expected = torch.tensor([[0, 0.25, 0.75], [0.5, 0, 0.5], [0.2, 0.8, 0]])
    torch.testing.assert_close(transition(), expected)
    (transition() * torch.randn(3, 3)).sum().backward()
    assert transition.weight.grad is not None
    assert transition.weight.grad.diagonal().abs().max() == 0
    assert transition.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "low"}, "form must be one of full, rank1, got 'low'"),
        ({"reliability": 0.25}, "reliability must lie between 1/4 and 1, got 0.25"),
        ({"reliability": 1.0}, "reliability must lie between 1/4 and 1, got 1.0"),
    ],
)
def test_options_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ConfusionHead(2, 4, **options)
