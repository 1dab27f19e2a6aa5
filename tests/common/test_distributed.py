from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import nn

from common.distributed import (
    check_sync_batch_norm,
    distributed,
    first_to_fail,
    has_bfloat16,
    join_process_group,
    placed,
)
from common.errors import UserError


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))


@pytest.mark.parametrize("compile", [False, True])
def test_placed_keeps_the_network_and_the_names_of_its_weights(compile):
    plain = network()
    names = list(plain.state_dict())
    ready = placed(plain, "cpu", compile=compile)
    assert ready is plain
    assert list(ready.state_dict()) == names
    assert ready[0].weight.is_contiguous(memory_format=torch.channels_last)
    # torch.compile translates at the first call, which is not made here
    assert (ready._compiled_call_impl is not None) == compile
    ready.load_state_dict(network().state_dict())


def test_placed_moves_to_the_device():
    assert next(placed(network(), torch.device("meta")).parameters()).device.type == "meta"


@pytest.mark.slow
def test_a_compiled_network_computes_the_same():
    image = torch.rand(2, 1, 8, 8)
    plain, compiled = network().eval(), placed(network(), "cpu", compile=True).eval()
    torch.testing.assert_close(compiled(image), plain(image))
    assert list(compiled.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize("compile", [False, True])
def test_distributed_wraps_the_placed_network(compile, tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        plain = network()
        wrapped = distributed(plain, torch.device("cpu"), compile=compile)
        assert wrapped.module is plain
        assert list(wrapped.module.state_dict()) == list(network().state_dict())
        assert (plain._compiled_call_impl is not None) == compile
        assert not wrapped.forward_sync_buffers
    finally:
        dist.destroy_process_group()


def test_the_device_may_be_a_text(tmp_path, monkeypatch):
    """As it is where the command line gives it."""
    for key, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(key, value)
    # a machine with a GPU that it is not to use
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    join_process_group("cpu")
    try:
        assert dist.get_backend() == "gloo"
        assert distributed(network(), "cpu").device_ids is None
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(("device", "number"), [(None, 2), ("cuda", 2), ("cuda:1", 1), (torch.device("cuda", 1), 1)])
def test_processes_on_gpus_speak_over_nccl(device, number, monkeypatch):
    seen = {}
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", lambda chosen: seen.update(device=chosen))
    monkeypatch.setattr(dist, "init_process_group", lambda backend: seen.update(backend=backend))
    join_process_group(device)
    assert seen == {"device": torch.device("cuda", number), "backend": "nccl"}


def test_synchronised_batch_normalisation_is_refused_on_a_cpu(tmp_path):
    check_sync_batch_norm(False, "cpu")
    check_sync_batch_norm(True, torch.device("cuda", 1))
    for device in ("cpu", torch.device("cpu")):
        with pytest.raises(
            UserError, match=r"^--sync_batch_norm: works on GPUs alone, and the device is cpu; leave it out$"
        ):
            check_sync_batch_norm(True, device)
    with pytest.raises(UserError, match="--sync_batch_norm"):
        distributed(network(), torch.device("cpu"), sync_batch_norm=True)


def test_weights_with_synchronised_batch_normalisation_fit_a_plain_network():
    plain, converted = network(), nn.SyncBatchNorm.convert_sync_batchnorm(network())
    assert isinstance(converted[1], nn.SyncBatchNorm)
    converted[1].running_mean.fill_(3.0)
    assert list(converted.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(converted.state_dict())
    image = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(plain.eval()(image), converted.eval()(image))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("sync_batch_norm", [False, True])
def test_one_process_on_a_gpu(sync_batch_norm, tmp_path):
    device = torch.device("cuda", 0)
    dist.init_process_group("nccl", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        wrapped = distributed(network(), device, sync_batch_norm=sync_batch_norm)
        assert isinstance(wrapped.module[1], nn.SyncBatchNorm) == sync_batch_norm
        plain = network().to(device)
        image = torch.rand(2, 1, 8, 8, device=device)
        for one in (wrapped, plain):
            one(image).square().sum().backward()
        for one, other in zip(wrapped.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad)
        plain.load_state_dict(wrapped.module.state_dict())
    finally:
        dist.destroy_process_group()


def test_only_torchrun_starts_several_processes(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match="start with torchrun, or leave that file out"):
        join_process_group()


def test_the_first_process_to_fail_is_told_apart(monkeypatch):
    assert first_to_fail()
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": "2"}
    for name, value in {**place, "TORCHELASTIC_USE_AGENT_STORE": "True"}.items():
        monkeypatch.setenv(name, value)
    answers = []
    for rank in (1, 0):
        monkeypatch.setenv("RANK", str(rank))
        answers.append(first_to_fail())
    assert answers == [True, False]
    # a launcher that is gone answers nobody: then every process speaks
    monkeypatch.setenv("WORLD_SIZE", "none")
    assert first_to_fail()


@pytest.fixture
def asked_anew() -> Iterator[None]:
    """Forget what is known of the devices, before and after."""
    has_bfloat16.cache_clear()
    yield
    has_bfloat16.cache_clear()


@pytest.mark.usefixtures("asked_anew")
@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_is_asked_for_its_own_instructions(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's default answer counts what is emulated."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert has_bfloat16("cuda") == native
    assert has_bfloat16("xpu")


@pytest.mark.usefixtures("asked_anew")
@pytest.mark.parametrize(
    ("machine", "library", "found"), [("x86_64", False, True), ("arm64", False, False), ("aarch64", True, True)]
)
def test_an_arm_processor_needs_its_library(
    machine: str, library: bool, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_acl_available", lambda: library)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    assert has_bfloat16("cpu") == found
