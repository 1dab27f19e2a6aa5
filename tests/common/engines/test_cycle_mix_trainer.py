from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_programs import run_on_two_processes
from torch import nn

from common.data.slice_dataset import SliceDataset, slice_loader
from common.engines.cycle_mix_trainer import CycleMixTrainer
from common.losses.cycle_mix import CycleMixLoss
from common.networks.unet_plus import UNetPlus
from common.transforms.mixing import MIXERS, BatchMixer
from common.transforms.random_occlusion import RandomOcclusion

SIZE = 20


def volume(item: dict[str, Any]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(item["number"])
    label = torch.randint(0, 4, (1, SIZE, SIZE, 4), generator=generator)
    return {"image": torch.randn(1, SIZE, SIZE, 4, generator=generator) + label, "label": label}


def loader(size: int = 4) -> Any:
    items = [{"image": "i", "label": "l", "case": f"c{number}", "number": number} for number in range(2)]
    return slice_loader(SliceDataset(items, volume, ignore_index=3), batch_size=size)


def trainer(
    mixer: str = "puzzle", loss: dict[str, Any] | None = None, lr: float = 0.0, **options: Any
) -> CycleMixTrainer:
    torch.manual_seed(0)
    network = UNetPlus(1, 3, channels=(2, 3, 4))
    settings = {
        "max_epochs": 1,
        "device": "cpu",
        "train_data_loader": loader(),
        "network": network,
        "optimizer": torch.optim.SGD(network.parameters(), lr=lr),
        "loss_function": CycleMixLoss(3, **(loss or {})),
        "mixer": BatchMixer(mixer, ignore_index=3),
        "occlusion": RandomOcclusion(ignore_index=3, size=6),
    }
    return CycleMixTrainer(**{**settings, **options})


def batch_of(engine: CycleMixTrainer) -> dict[str, Any]:
    return next(iter(engine.data_loader))


def one_iteration(engine: CycleMixTrainer, batch: dict[str, Any] | None = None) -> dict[str, Any]:
    engine.state.iteration = 1
    return engine._iteration(engine, batch or batch_of(engine))


def passes(engine: CycleMixTrainer) -> int:
    """Forward passes of the network since it was made."""
    state = engine.network.state_dict()
    counts = {int(tensor) for name, tensor in state.items() if name.endswith("num_batches_tracked")}
    assert len(counts) == 1
    return counts.pop()


def test_an_iteration_equals_its_steps_written_out() -> None:
    engine = trainer(lr=0.1)
    reference = copy.deepcopy(engine.network).train()
    batch = batch_of(engine)
    torch.manual_seed(5)
    output = one_iteration(engine, batch)

    image, label = batch["image"].requires_grad_(), batch["label"]
    loss = CycleMixLoss(3)
    (gradient,) = torch.autograd.grad(loss.scribble_loss(reference(image), label), image)
    logits = reference(image)
    torch.manual_seed(5)
    mixed, target = engine.mixer(image.detach(), label, gradient.abs())  # one channel: its root mean square
    assert engine.occlusion is not None
    mixed, target = engine.occlusion(mixed, target)
    value = loss((logits, reference(mixed)), {"label": label, **target})
    value.backward()
    torch.testing.assert_close(output["loss"], value)
    torch.testing.assert_close(output["terms"], loss.terms)
    torch.testing.assert_close(output["pred"], logits)
    with torch.no_grad():
        for parameter in reference.parameters():
            assert parameter.grad is not None
            parameter.sub_(0.1 * parameter.grad)
    torch.testing.assert_close(engine.network.state_dict(), reference.state_dict())


def test_saliency_over_channels_is_the_root_mean_square() -> None:
    engine = trainer()
    engine.network = nn.Conv2d(2, 3, 1)
    image, label = torch.randn(2, 2, 6, 6), torch.randint(0, 4, (2, 1, 6, 6))
    watched = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(CycleMixLoss(3).scribble_loss(engine.network(watched), label), watched)
    saliency = engine._saliency(engine, image, label)
    torch.testing.assert_close(saliency[:, 0], ((gradient[:, 0] ** 2 + gradient[:, 1] ** 2) / 2).sqrt())
    assert (saliency[label == 3] == 0).all()
    assert all(parameter.grad is None for parameter in engine.network.parameters())


@pytest.mark.parametrize(
    ("mixer", "weights", "expected"),
    [
        ("puzzle", (1, 1, 0.1, 0.1), 3),  # saliency, originals, mix
        ("comixup", (1, 1, 0.1, 0.1), 3),
        ("mixup", (1, 1, 0.1, 0.1), 2),
        ("puzzle", (0, 1, 0, 0), 2),  # saliency, mix
        ("cutmix", (0, 1, 0, 0), 1),
        ("puzzle", (1, 0, 0, 0), 1),
        ("puzzle", (1, 0, 0, 0.1), 1),
    ],
)
def test_passes_that_nothing_needs_are_left_out(mixer: str, weights: tuple[float, ...], expected: int) -> None:
    names = ("lambda_unmix", "lambda_mix", "lambda_con_g", "lambda_con_l")
    engine = trainer(mixer, dict(zip(names, weights, strict=True)))
    output = one_iteration(engine)
    assert passes(engine) == expected
    assert set(output["terms"]) == {f"l{name[6:]}" for name, weight in zip(names, weights, strict=True) if weight}
    assert output["pred"].shape == (4, 3, SIZE, SIZE)


def test_without_mixing_and_occlusion_both_predictions_agree() -> None:
    terms = one_iteration(trainer("none", occlusion=None))["terms"]
    torch.testing.assert_close(terms["l_mix"], terms["l_unmix"])
    assert terms["l_con_g"].item() == pytest.approx(0, abs=1e-6)


def test_occlusion_takes_scribbles_from_the_mix() -> None:
    engine = trainer("none", occlusion=RandomOcclusion(ignore_index=3, size=4 * SIZE))
    terms = one_iteration(engine)["terms"]  # a square that hides everything, or nearly
    assert terms["l_mix"] < 0.2 * terms["l_unmix"]


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("rotate_mixed", [False, True])
def test_every_mixer_runs(mixer: str, rotate_mixed: bool) -> None:
    engine = trainer(mixer, lr=0.01, rotate_mixed=rotate_mixed)
    before = copy.deepcopy(engine.network.state_dict())
    output = one_iteration(engine)
    assert torch.isfinite(output["loss"])
    assert all(torch.isfinite(term) for term in output["terms"].values())
    assert any(not torch.equal(before[name], tensor) for name, tensor in engine.network.state_dict().items())


def test_a_turned_mix_is_compared_where_it_was_seen() -> None:
    engine = trainer("none", occlusion=None, rotate_mixed=True)
    engine.network = nn.Conv2d(1, 3, 1)  # pixel by pixel: turning changes nothing
    image = torch.randn(4, 1, 1, 1).expand(-1, -1, SIZE, SIZE).contiguous()
    label = torch.randint(0, 4, (4, 1, SIZE, SIZE))
    output = one_iteration(engine, {"image": image, "label": label})
    terms = output["terms"]
    # but for the corners, which are turned out of the image
    assert terms["l_con_g"].item() == pytest.approx(0, abs=1e-6)
    assert 0.7 * terms["l_unmix"] < terms["l_mix"] < terms["l_unmix"]


def test_corners_that_were_turned_out_are_unlabelled_and_invisible() -> None:
    engine = trainer("none", rotate_mixed=True)
    label = torch.zeros(2, 1, SIZE, SIZE, dtype=torch.uint8)
    target: dict[str, Any] = {"label_a": label, "label_b": label}
    torch.manual_seed(1)
    logits = engine._predict_mixed(engine, torch.randn(2, 1, SIZE, SIZE), target)
    lost = target["visible"] == 0
    assert 0 < lost.sum() < 0.4 * lost.numel()
    assert not lost[:, :, 5:15, 5:15].any()
    assert torch.equal(target["label_a"] == 3, lost)
    assert logits.shape == (2, 3, SIZE, SIZE)
    assert not label.any()


def test_nothing_annotated_a_single_item_and_odd_sizes() -> None:
    engine = trainer()
    for items, size in ((4, SIZE), (1, SIZE), (3, 27)):
        image, label = torch.randn(items, 1, size, size + 2), torch.full((items, 1, size, size + 2), 3)
        output = one_iteration(engine, {"image": image, "label": label})
        assert torch.isfinite(output["loss"])
        assert output["terms"]["l_unmix"] == output["terms"]["l_mix"] == 0


def test_bfloat16_gives_nearly_the_same(bfloat16_everywhere: None) -> None:
    torch.manual_seed(3)
    exact = one_iteration(trainer("none", occlusion=None))
    half = one_iteration(trainer("none", occlusion=None, amp=True))
    assert half["pred"].dtype == torch.bfloat16
    assert half["loss"].item() == pytest.approx(exact["loss"].item(), rel=0.05)
    assert torch.isfinite(one_iteration(trainer(amp=True, rotate_mixed=True))["loss"])


def test_learns() -> None:
    engine = trainer("puzzle", lr=0.0)
    engine.optimizer = torch.optim.Adam(engine.network.parameters(), lr=2e-2)
    batch = batch_of(engine)
    first = one_iteration(engine, batch)["terms"]
    for _ in range(30):
        last = one_iteration(engine, batch)["terms"]
    assert last["l_unmix"] < 0.8 * first["l_unmix"]


def test_whole_epoch_runs_and_counts() -> None:
    engine = trainer()
    engine.run()
    assert engine.state.iteration == 2


ON_TWO_PROCESSES = """
import sys
import torch
import torch.distributed as dist
from common.distributed import distributed
from common.engines.cycle_mix_trainer import CycleMixTrainer
from common.losses.cycle_mix import CycleMixLoss
from common.networks.unet_plus import UNetPlus
from common.transforms.mixing import BatchMixer
from common.transforms.random_occlusion import RandomOcclusion

folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
torch.manual_seed(0)
network = distributed(UNetPlus(1, 3, channels=(2, 3, 4)), torch.device("cpu"))
torch.manual_seed(1 + rank)
batches = [{"image": torch.randn(2, 1, 20, 20), "label": torch.randint(0, 4, (2, 1, 20, 20))} for _ in range(3)]
trainer = CycleMixTrainer(
    max_epochs=1, device="cpu", train_data_loader=batches, network=network, loss_function=CycleMixLoss(3),
    optimizer=torch.optim.SGD(network.parameters(), lr=0.1), mixer=BatchMixer(ignore_index=3),
    occlusion=RandomOcclusion(ignore_index=3, size=6), rotate_mixed=True,
)
trainer.run()
weights, terms = dict(network.module.named_parameters()), trainer.state.output["terms"]
torch.save({"weights": weights, "terms": terms}, f"{folder}/{rank}.pt")
dist.barrier()
dist.destroy_process_group()
"""


def test_two_processes_stay_together(tmp_path: Path) -> None:
    run_on_two_processes(ON_TWO_PROCESSES, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    torch.testing.assert_close(first, second)
