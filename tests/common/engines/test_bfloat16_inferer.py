from __future__ import annotations

import logging

import pytest
import torch
from monai.engines import SupervisedTrainer

from common.distributed import has_bfloat16
from common.engines import bfloat16_inferer
from common.engines.bfloat16_inferer import Bfloat16Inferer, bfloat16_autocast


def convolution() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Conv2d(1, 2, 3, padding=1)


@pytest.mark.parametrize(("enabled", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_passes_run_in_the_precision_that_was_asked_for(enabled, dtype, bfloat16_everywhere):
    image = torch.rand(2, 1, 4, 4)
    network = convolution()
    logits = Bfloat16Inferer(enabled)(image, network).detach()
    assert logits.dtype == dtype
    assert next(network.parameters()).dtype == torch.float32  # the weights stay as they are
    exact = network(image).detach()
    # bfloat16 keeps 8 bits: 3 x 3 products and their sum are exact to about 2^-7 of the largest value
    torch.testing.assert_close(logits.float(), exact, rtol=0, atol=2**-7 * float(exact.abs().max()) if enabled else 0)


def test_arguments_and_several_heads_pass_through(bfloat16_everywhere):
    def network(image, factor, *, shift):
        return image @ image, factor + shift

    product, total = Bfloat16Inferer()(torch.eye(2), network, 2, shift=3)
    assert product.dtype == torch.bfloat16
    assert total == 5


@pytest.mark.parametrize("enabled", [True, False])
def test_the_loss_is_outside_of_autocast(enabled, bfloat16_everywhere):
    """What a trainer computes after the network's pass is not cast: a loss in float32 stays in float32."""
    seen = []

    def loss(logits, target):
        seen.append((logits.dtype, torch.is_autocast_enabled("cpu"), torch.mm(target, target).dtype))
        return logits.float().mean()

    network = convolution()
    weights = network.weight.detach().clone()
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=[{"image": torch.rand(2, 1, 4, 4), "label": torch.rand(4, 4)}],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=loss,
        inferer=Bfloat16Inferer(enabled),
        decollate=False,
    )
    trainer.run()
    assert seen == [(torch.bfloat16 if enabled else torch.float32, False, torch.float32)]
    assert network.weight.grad.dtype == torch.float32
    assert not torch.equal(network.weight, weights)


def test_a_device_without_bfloat16_computes_in_float32_and_says_so_once(monkeypatch, caplog):
    monkeypatch.setattr(bfloat16_inferer, "has_bfloat16", lambda device: False)
    bfloat16_inferer._say_float32.cache_clear()
    image, network = torch.rand(2, 1, 4, 4), convolution()
    with caplog.at_level(logging.WARNING):
        assert torch.equal(Bfloat16Inferer(False)(image, network), network(image))
        assert caplog.messages == []
        for _ in range(2):
            assert torch.equal(Bfloat16Inferer(True)(image, network), network(image))
    assert caplog.messages == ["amp: this CPU has no instructions for bfloat16: float32, which is faster here"]


def test_what_this_cpu_has_decides():
    assert has_bfloat16("cpu") or not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    with bfloat16_autocast("cpu", True):
        product = torch.eye(2) @ torch.eye(2)
    assert product.dtype == (torch.bfloat16 if has_bfloat16("cpu") else torch.float32)
