from __future__ import annotations

import pytest
import torch
from monai.networks.utils import copy_model_state, get_state_dict
from torch import nn

from common.federated.exchanged_network import ExchangedNetwork, exchanged


def network() -> nn.Module:
    """A body, a head that may stay local, and a name that only begins like the head's."""
    return nn.ModuleDict({"body": nn.Linear(2, 2), "head": nn.Linear(2, 1), "head2": nn.Linear(2, 1)})


class Twice(nn.Module):
    """Doubles by its only weight."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor, *, plus: float = 0.0) -> torch.Tensor:
        return self.factor * x + plus


def test_a_network_that_is_exchanged_as_a_whole_is_given_back_itself() -> None:
    whole = network()
    assert exchanged(whole) is whole
    assert exchanged(whole, local=["absent"], companions={"critic": None}) is whole


def test_what_is_exchanged_and_what_is_taken_over() -> None:
    whole, critic = network(), nn.Linear(1, 1)
    shown = exchanged(whole, local=["head"], companions={"critic": critic})
    names = ["body.weight", "body.bias", "head2.weight", "head2.bias", "critic.weight", "critic.bias"]
    assert list(shown.state_dict()) == names
    head = whole["head"].weight.clone()
    shown.load_state_dict({name: torch.full_like(value, 5.0) for name, value in shown.state_dict().items()})
    assert whole["body"].weight.eq(5).all()
    assert whole["head2"].bias.eq(5).all()
    assert critic.weight.item() == 5
    assert torch.equal(whole["head"].weight, head)
    with pytest.raises(RuntimeError, match="Missing key"):
        shown.load_state_dict({"body.weight": torch.zeros(2, 2)})
    with pytest.raises(RuntimeError, match="Unexpected key"):
        shown.load_state_dict(shown.state_dict() | {"critic.more": torch.zeros(1)})


def test_monai_copies_weights_as_into_any_network() -> None:
    """The two functions by which MONAI's client reads and replaces the weights of its trainer's network."""
    shown = exchanged(network(), local=["head"])
    weights = {name: torch.ones_like(value) for name, value in get_state_dict(shown).items()}
    _, updated, unchanged = copy_model_state(shown, weights | {"head.weight": torch.ones(1, 2)})
    assert sorted(updated) == ["body.bias", "body.weight", "head2.bias", "head2.weight"]
    assert unchanged == []
    assert get_state_dict(shown)["body.weight"].eq(1).all()


def test_otherwise_it_is_the_network() -> None:
    twice = Twice()
    shown = ExchangedNetwork(twice, local=["none"], companions={"critic": nn.Dropout()})
    assert shown(torch.tensor(3.0), plus=1.0).item() == 7  # 2 * 3 + 1
    assert list(shown.parameters()) == [twice.factor]
    shown.eval()
    assert not twice.training
    shown.train()
    assert twice.training
