from __future__ import annotations

import copy
import logging

import pytest
import torch

from common.data.cycling_batches import CyclingBatches
from common.data.slice_dataset import SliceDataset, slice_loader
from common.engines.maag_trainer import MAAGTrainer, foreground_probabilities, mask_pyramid
from common.errors import UserError
from common.losses.partial_cross_entropy import PartialCrossEntropyLoss
from common.networks.attention_gated_unet import AttentionGatedUNet
from common.networks.multiscale_discriminator import MultiScaleDiscriminator

SIZE = 16


def volume(item: dict) -> dict:
    generator = torch.Generator().manual_seed(item["number"])
    label = torch.randint(0, 4, (1, SIZE, SIZE, 4), generator=generator)
    return {"image": torch.randn(1, SIZE, SIZE, 4, generator=generator), "label": label}


def items(first: int) -> list[dict]:
    return [{"image": "i", "label": "l", "case": f"c{n}", "number": n} for n in range(first, first + 2)]


def trainer(masks: int = 2, unlabelled: int = 2, lr: float = 1e-3, **options) -> MAAGTrainer:
    torch.manual_seed(0)
    network = AttentionGatedUNet(1, 3, filters=2)
    discriminator = MultiScaleDiscriminator(2, (SIZE, SIZE), filters=2, instance_noise=0.0)
    both = options.get("supervised_adversarial") == "discriminator"
    stepped = [*network.parameters(), *(discriminator.parameters() if both else [])]
    mask_set = SliceDataset(items(10)[:masks], volume, keys=["label"])
    image_set = SliceDataset(items(20)[:unlabelled], volume, keys=["image"])
    settings = {
        "max_epochs": 1,
        "device": "cpu",
        "train_data_loader": slice_loader(SliceDataset(items(0), volume, ignore_index=3), batch_size=4),
        "network": network,
        "optimizer": torch.optim.SGD(stepped, lr=lr),
        "loss_function": PartialCrossEntropyLoss(3, weighting="frequency"),
        "discriminator": discriminator,
        "discriminator_optimizer": torch.optim.SGD(discriminator.parameters(), lr=lr),
        "masks": CyclingBatches(mask_set, 4, stream="masks"),
        "unlabelled": CyclingBatches(image_set, 4, stream="unlabelled"),
        "label_noise": 0.0,
    }
    return MAAGTrainer(**{**settings, **options})


def one_iteration(engine: MAAGTrainer) -> dict:
    engine.state.iteration = 1
    return engine._iteration(engine, next(iter(engine.data_loader)))


def test_terms_follow_the_papers_equations():
    engine = trainer(lr=0.0)
    output = one_iteration(engine)
    terms = {name: float(value) for name, value in output["terms"].items()}
    assert set(terms) == {"l_sup", "v_sigma_scribble", "a0", "v_delta", "v_sigma"}
    assert terms["a0"] == pytest.approx(terms["v_sigma_scribble"] / terms["l_sup"], rel=1e-5)
    # L = a0 * L_SUP + a1 * V(Sigma) = (1 + 0.1) * V(Sigma), since a0 carries the ratio
    assert float(output["loss"].detach()) == pytest.approx(1.1 * terms["v_sigma_scribble"], rel=1e-5)
    with torch.no_grad():
        engine.network.train()
        fake = foreground_probabilities(engine.network(engine.unlabelled.batch(1)["image"]))
        real = mask_pyramid(engine.masks.batch(1)["label"], 3, 4)
        real_scores, fake_scores = engine.discriminator(real), engine.discriminator(fake)
    assert terms["v_sigma"] == pytest.approx(float(0.5 * (fake_scores - 1).square().mean()), rel=1e-3)
    expected = 0.5 * (real_scores - 1).square().mean() + 0.5 * (fake_scores + 1).square().mean()
    assert terms["v_delta"] == pytest.approx(float(expected), rel=1e-3)


def test_a0_carries_no_gradient():
    engine = trainer(lr=0.0)
    engine.unlabelled = None
    for _ in range(100):  # until the power iteration of the spectral norm stands still
        engine.discriminator(mask_pyramid(engine.masks.batch(1)["label"], 3, 4))
    output = one_iteration(engine)
    got = [parameter.grad.clone() for parameter in engine.network.parameters()]
    a0 = output["terms"]["a0"]
    engine.network.zero_grad()
    batch = next(iter(engine.data_loader))
    heads = engine.network(batch["image"])
    adversarial = 0.5 * (engine.discriminator(foreground_probabilities(heads)) - 1).square().mean()
    (a0 * engine.loss_function(heads, batch["label"]) + 0.1 * adversarial).backward()
    for gradient, parameter in zip(got, engine.network.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-3, atol=1e-6)


def test_nothing_annotated_gives_a0_zero_and_finite_loss():
    engine = trainer()
    engine.state.iteration = 1
    batch = {"image": torch.randn(4, 1, SIZE, SIZE), "label": torch.full((4, 1, SIZE, SIZE), 3)}
    output = engine._iteration(engine, batch)
    assert float(output["terms"]["a0"]) == 0.0
    assert torch.isfinite(output["loss"])


def states(engine: MAAGTrainer) -> tuple[dict, dict]:
    return copy.deepcopy(dict(engine.network.named_parameters())), copy.deepcopy(
        dict(engine.discriminator.named_parameters())
    )


def moved(before: dict, after: dict) -> bool:
    return any(not torch.equal(before[name], after[name]) for name in before)


def test_scribble_step_leaves_the_discriminator_alone():
    engine = trainer(lr=0.1)
    engine.unlabelled = None
    before = states(engine)
    one_iteration(engine)
    after = states(engine)
    assert moved(before[0], after[0])
    assert not moved(before[1], after[1])


def test_authors_form_moves_both_networks_on_the_scribble_batch():
    engine = trainer(lr=0.1, supervised_adversarial="discriminator")
    engine.unlabelled = None
    before = states(engine)
    terms = one_iteration(engine)["terms"]
    after = states(engine)
    assert moved(before[0], after[0])
    assert moved(before[1], after[1])
    assert float(terms["a0"]) == pytest.approx(float(terms["v_sigma_scribble"] / terms["l_sup"]), rel=1e-5)


def test_authors_form_needs_an_optimizer_of_both_networks():
    alone = torch.optim.SGD(AttentionGatedUNet(1, 3, filters=2).parameters(), lr=0.1)
    with pytest.raises(UserError, match="give the optimizer the discriminator's parameters too"):
        trainer(supervised_adversarial="discriminator", optimizer=alone)
    trainer(supervised_adversarial="discriminator", optimizer=alone, masks=0)  # no discriminator to step


def test_authors_form_steps_the_discriminator_of_the_scribble_batch_by_the_segmentors_adam():
    """Two Adams, so that the moments of the two losses do not mix; the segmentor's last step leaves the judge alone."""
    engine = trainer(supervised_adversarial="discriminator")
    shared = [*engine.network.parameters(), *engine.discriminator.parameters()]
    engine.optimizer = torch.optim.Adam(shared, lr=1e-3)
    engine.discriminator_optimizer = torch.optim.Adam(engine.discriminator.parameters(), lr=1e-3)
    one_iteration(engine)
    for optimizer in (engine.optimizer, engine.discriminator_optimizer):
        assert {int(optimizer.state[each]["step"]) for each in engine.discriminator.parameters()} == {1}
    assert {int(engine.optimizer.state[each]["step"]) for each in engine.network.parameters()} == {2}


def test_discriminator_step_leaves_the_segmentor_alone():
    engine = trainer(lr=0.1, a3=0.0)
    engine._supervised_step = lambda *args: None  # type: ignore[method-assign]
    engine.state.output = {}
    before = states(engine)
    one_iteration(engine)
    after = states(engine)
    assert not moved(before[0], after[0])
    assert moved(before[1], after[1])
    assert all(parameter.requires_grad for parameter in engine.discriminator.parameters())


def test_generator_step_judges_by_the_updated_discriminator():
    engine = trainer(lr=0.5)
    terms = one_iteration(engine)["terms"]
    still = trainer(lr=0.5)
    still.a2 = 0.0
    unmoved = one_iteration(still)["terms"]
    torch.testing.assert_close(terms["v_delta"], unmoved["v_delta"])
    assert abs(float(terms["v_sigma"] - unmoved["v_sigma"])) > 1e-4


def test_discriminator_learns_to_tell_masks_from_predictions():
    engine = trainer()
    engine.discriminator_optimizer = torch.optim.Adam(engine.discriminator.parameters(), lr=1e-2)
    engine.optimizer = torch.optim.SGD(engine.network.parameters(), lr=0.0)
    first = float(one_iteration(engine)["terms"]["v_delta"])
    for _ in range(40):
        last = float(one_iteration(engine)["terms"]["v_delta"])
    assert last < 0.5 * first


@pytest.mark.parametrize("missing", ["masks", "discriminator"])
def test_without_adversary_the_supervised_loss_alone(missing, caplog):
    options = {"masks": 0} if missing == "masks" else {"discriminator": None, "discriminator_optimizer": None}
    with caplog.at_level(logging.WARNING):
        engine = trainer(**options)
    assert len([r for r in caplog.records if "training without the discriminator" in r.message]) == (missing == "masks")
    output = one_iteration(engine)
    assert set(output["terms"]) == {"l_sup"}
    torch.testing.assert_close(output["loss"].detach(), output["terms"]["l_sup"])


def test_without_masks_every_weight_has_a_gradient():
    """DDP waits for it, of heads that nobody judges as well."""
    engine = trainer(masks=0)
    one_iteration(engine)
    assert [name for name, weight in engine.network.named_parameters() if weight.grad is None] == []


def test_without_unlabelled_images_the_scribble_step_alone():
    assert set(one_iteration(trainer(unlabelled=0))["terms"]) == {"l_sup", "v_sigma_scribble", "a0"}


def test_mask_pyramid_by_hand():
    mask = torch.tensor([[0, 1, 2, 3], [1, 1, 2, 3], [0, 0, 0, 0], [0, 0, 0, 2]]).view(1, 1, 4, 4)
    full, half = mask_pyramid(mask, 3, 2)
    assert full.shape == (1, 2, 4, 4)
    assert full.sum(dim=(0, 2, 3)).tolist() == [3.0, 3.0]  # value 3 is "not annotated": in no channel
    # bilinear with aligned corners keeps the four corners
    assert half[0, :, [0, 0, 1, 1], [0, 1, 0, 1]].tolist() == [[0, 0, 0, 0], [0, 0, 0, 1]]


def test_foreground_probabilities_by_hand():
    logits = torch.tensor([0.0, 0.0, torch.log(torch.tensor(2.0))]).view(1, 3, 1, 1)
    (probabilities,) = foreground_probabilities(logits)
    torch.testing.assert_close(probabilities.flatten(), torch.tensor([0.25, 0.5]))


def test_whole_epoch_runs_and_counts():
    engine = trainer()
    engine.run()
    assert engine.state.iteration == 2


def test_unknown_form():
    with pytest.raises(ValueError, match="supervised_adversarial"):
        trainer(supervised_adversarial="both")
