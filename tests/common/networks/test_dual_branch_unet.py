from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from common.networks.dual_branch_unet import DualBranchUNet
from common.networks.unet import UNet

SMALL: dict[str, Any] = {"channels": (2, 4, 6), "encoder_dropout": (0.0, 0.0, 0.0)}


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def both_heads(network: DualBranchUNet, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    features = network.encoder(image)
    return network.decoder(features), network.auxiliary_decoder(features)


@pytest.fixture
def image() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 1, 20, 12)


def test_train_mode_returns_two_heads_and_eval_mode_one(image: torch.Tensor) -> None:
    network = DualBranchUNet(1, 4, **SMALL)
    main, auxiliary = network.train()(image)
    assert main.shape == auxiliary.shape == (2, 4, 20, 12)
    assert network.eval()(image).shape == (2, 4, 20, 12)


def test_parameter_count_worked_out_by_hand() -> None:
    # the plain network of channels (2, 4) has 66 + 240 in the encoder and 154 + 38 in the decoder (test_unet.py)
    assert parameters(DualBranchUNet(1, 2, channels=(2, 4), encoder_dropout=(0.0, 0.0))) == 306 + 2 * 192
    # the papers' size: 1 180 464 in the encoder, 763 280 + 580 in each decoder
    assert parameters(DualBranchUNet(1, 4)) == 1_180_464 + 2 * 763_860


def test_decoders_share_no_weights_and_start_differently(image: torch.Tensor) -> None:
    network = DualBranchUNet(1, 3, **SMALL).eval()
    shared = {id(p) for p in network.decoder.parameters()} & {id(p) for p in network.auxiliary_decoder.parameters()}
    assert not shared
    main, auxiliary = both_heads(network, image)
    assert not torch.allclose(main, auxiliary)


def test_main_branch_is_the_plain_network(image: torch.Tensor) -> None:
    plain, network = UNet(1, 3, **SMALL).eval(), DualBranchUNet(1, 3, **SMALL).eval()
    missing, unexpected = network.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith("auxiliary_decoder.") for name in missing)
    torch.testing.assert_close(network(image), plain(image))


@pytest.mark.parametrize("head", ["main", "auxiliary", "mean"])
def test_heads_in_eval_mode(head: str, image: torch.Tensor) -> None:
    network = DualBranchUNet(1, 3, **SMALL, head=head).eval()
    main, auxiliary = both_heads(network, image)
    expected = {
        "main": main.softmax(dim=1),
        "auxiliary": auxiliary.softmax(dim=1),
        "mean": (main.softmax(dim=1) + auxiliary.softmax(dim=1)) / 2,
    }[head]
    torch.testing.assert_close(network(image).softmax(dim=1), expected)
    if head == "mean":
        torch.testing.assert_close(network(image), expected.log())


def test_main_head_leaves_the_auxiliary_decoder_alone(image: torch.Tensor) -> None:
    network = DualBranchUNet(1, 3, **SMALL).eval()
    calls: list[str] = []
    network.decoder.register_forward_hook(lambda *_: calls.append("main"))
    network.auxiliary_decoder.register_forward_hook(lambda *_: calls.append("auxiliary"))
    network(image)
    assert calls == ["main"]


def test_whole_channels_of_every_level_are_dropped_for_the_auxiliary_decoder_alone() -> None:
    network = DualBranchUNet(1, 3, channels=(16, 32, 64), encoder_dropout=(0.0, 0.0, 0.0)).train()
    seen: dict[str, list[torch.Tensor]] = {}
    network.encoder.register_forward_hook(lambda _, __, output: seen.update(encoder=[x.detach() for x in output]))
    network.decoder.register_forward_hook(lambda _, inputs, __: seen.update(main=inputs[0]))
    network.auxiliary_decoder.register_forward_hook(lambda _, inputs, __: seen.update(auxiliary=inputs[0]))
    torch.manual_seed(1)
    network(torch.randn(8, 1, 16, 16))
    for plain, main, perturbed in zip(seen["encoder"], seen["main"], seen["auxiliary"], strict=True):
        torch.testing.assert_close(main, plain)
        dropped = (perturbed == 0).all(dim=(2, 3))
        assert 0.3 < dropped.float().mean() < 0.7
        # what stays is doubled, so that the expected value stays
        torch.testing.assert_close(perturbed[~dropped], 2 * plain[~dropped])
        assert not torch.equal(dropped[0], dropped[1])


@pytest.mark.parametrize("place", ["encoder", "decoder"])
def test_auxiliary_dropout_is_off_in_eval_mode(place: str, image: torch.Tensor) -> None:
    network = DualBranchUNet(1, 3, **SMALL, head="auxiliary", auxiliary_dropout_at=place).eval()
    torch.testing.assert_close(network(image), network(image), rtol=0, atol=0)
    torch.testing.assert_close(network(image), both_heads(network, image)[1])


def test_dropout_at_test_perturbs_the_auxiliary_head_alone(image: torch.Tensor) -> None:
    network = DualBranchUNet(1, 3, **SMALL, head="auxiliary", dropout_at_test=True).eval()
    assert not torch.allclose(network(image), network(image))
    network.head = "main"
    torch.testing.assert_close(network(image), network(image), rtol=0, atol=0)


def test_dropout_before_the_auxiliary_decoders_convolutions() -> None:
    network = DualBranchUNet(1, 3, auxiliary_dropout_at="decoder", auxiliary_dropout=0.4)
    assert [layer.p for layer in network.auxiliary_decoder.modules() if isinstance(layer, nn.Dropout)] == [0.4] * 4
    assert not any(isinstance(layer, nn.Dropout) for layer in network.decoder.modules())
    seen: list[torch.Tensor] = []
    network.auxiliary_decoder.register_forward_hook(lambda _, inputs, __: seen.extend(inputs[0]))
    network.train()(torch.randn(2, 1, 32, 32))
    assert all((level == 0).float().mean() < 0.01 for level in seen)


@pytest.mark.parametrize("trained", ["main", "auxiliary"])
def test_gradients_reach_the_other_decoder_only_through_the_encoder(trained: str, image: torch.Tensor) -> None:
    network = DualBranchUNet(1, 3, **SMALL).train()
    heads = dict(zip(("main", "auxiliary"), network(image), strict=True))
    heads[trained].square().mean().backward()
    decoders = {"main": network.decoder, "auxiliary": network.auxiliary_decoder}
    learning = decoders.pop(trained)
    (idle,) = decoders.values()
    assert all(parameter.grad is not None for parameter in [*network.encoder.parameters(), *learning.parameters()])
    assert all(parameter.grad is None for parameter in idle.parameters())


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (75, 131), (5, 3), (1, 1)])
def test_any_size_keeps_its_size(size: tuple[int, int]) -> None:
    network = DualBranchUNet(1, 3, channels=(2, 2, 2, 2, 2), head="mean").eval()
    assert network(torch.randn(1, 1, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize("head", ["main", "auxiliary", "mean"])
def test_torchscript_gives_the_same_logits(head: str, image: torch.Tensor) -> None:
    network = DualBranchUNet(1, 3, **SMALL, head=head).eval()
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))


def test_torchscript_returns_one_tensor_in_train_mode_too(image: torch.Tensor) -> None:
    assert isinstance(torch.jit.script(DualBranchUNet(1, 3, **SMALL).train())(image), torch.Tensor)


def test_channels_last_layout_is_kept(image: torch.Tensor) -> None:
    network = DualBranchUNet(1, 3, **SMALL).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    heads = network.train()(image.contiguous(memory_format=torch.channels_last))
    assert all(head.is_contiguous(memory_format=torch.channels_last) for head in heads)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out_channels": 1}, "out_channels .* got 1"),
        ({"head": "second"}, "head must be .* got 'second'"),
        ({"auxiliary_dropout": 1.0}, "auxiliary_dropout must .* got 1.0"),
        ({"auxiliary_dropout_at": "input"}, "auxiliary_dropout_at must .* got 'input'"),
        ({"auxiliary_dropout_at": "decoder", "dropout_at_test": True}, "dropout_at_test must be false"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DualBranchUNet(**{"in_channels": 1, "out_channels": 2, **options})
