"""Which weights of a training a federation exchanges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..distributed import unwrapped

__all__ = ["ExchangedNetwork", "exchanged"]


def exchanged(
    network: nn.Module, *, local: Sequence[str] = (), companions: Mapping[str, nn.Module | None] | None = None
) -> nn.Module:
    """Give the network that a trainer shows to a program of federated learning.

    MONAI's client (``monai.fl.client.MonaiAlgo``) sends and replaces what the state dict of the trainer's network
    holds.

    Args:
        network: the network that is trained.
        local: parts of the network that stay at their site, by the beginning of their names in the state dict.
        companions: further networks that are exchanged along, by the name that goes before the names of their weights;
            None is left out.

    Returns:
        the network itself where there are neither, else an :class:`ExchangedNetwork`.
    """
    present = {name: companion for name, companion in (companions or {}).items() if companion is not None}
    if not present and not any(_is_of(key, local) for key in unwrapped(network).state_dict()):
        return network
    return ExchangedNetwork(network, local=local, companions=present)


class ExchangedNetwork(nn.Module):
    """A network whose state dict is what a federation exchanges; in everything else it is the network it wraps.

    Args:
        network: the network that is trained.
        local: see :func:`exchanged`.
        companions: see :func:`exchanged`.
    """

    def __init__(self, network: nn.Module, *, local: Sequence[str], companions: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.network = network
        self.local = tuple(local)
        self.companions = dict(companions)  # no submodules: their modes and gradients are their trainer's

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the network."""
        return self.network(*args, **kwargs)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """Return what is exchanged: the network's own names, and those of companions behind their name."""
        del args, kwargs  # ways of collecting into another module's state dict, which this module is never part of
        own = unwrapped(self.network).state_dict()
        state = {key: value for key, value in own.items() if not _is_of(key, self.local)}
        for name, companion in self.companions.items():
            state |= {f"{name}.{key}": value for key, value in unwrapped(companion).state_dict().items()}
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Take over what was exchanged; every name has to be there and no other."""
        del args, kwargs
        for name, companion in self.companions.items():
            start = f"{name}."
            own = {key.removeprefix(start): value for key, value in state_dict.items() if key.startswith(start)}
            unwrapped(companion).load_state_dict(own)
        starts = tuple(f"{name}." for name in self.companions)
        own = {key: value for key, value in state_dict.items() if not key.startswith(starts)}
        bare = unwrapped(self.network)
        kept = {key: value for key, value in bare.state_dict().items() if _is_of(key, self.local)}
        return bare.load_state_dict(kept | own)


def _is_of(key: str, parts: Sequence[str]) -> bool:
    return any(key.startswith(f"{part}.") for part in parts)
