"""Measure one iteration of MAAG's trainer: data against networks, and the whole against a plain loop.

    python benchmarks/training_step.py            # 12 x 1 x 224 x 224, 32 filters: minutes on a CPU
    python benchmarks/training_step.py --quick    # small sizes, seconds: shows that it runs

``data`` is the time to index, move and augment the three batches of an iteration, ``networks`` everything else.
``plain`` is the bare minimum for the same networks and the same three steps: tensors that are there already, no engine,
no logged terms. The two take turns, so that a busy machine slows both. Random data, float32; medians over the
iterations after the first.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from measuring.clock import timed
from measuring.command_line import benchmark_parser
from measuring.trainer_step import compare_steps, print_steps
from torch.nn import functional as F

from common.data.cycling_batches import CyclingBatches
from common.data.slice_dataset import SliceDataset, slice_loader
from common.engines.maag_trainer import MAAGTrainer, foreground_probabilities, mask_pyramid
from common.engines.prepare_batch import AugmentingPrepareBatch
from common.losses.partial_cross_entropy import PartialCrossEntropyLoss
from common.networks.attention_gated_unet import AttentionGatedUNet
from common.networks.multiscale_discriminator import MultiScaleDiscriminator
from common.transforms.batch_augmentation import BatchAugmentation

CLASSES = 4


def networks(args: argparse.Namespace) -> dict[str, Any]:
    """Both networks and their optimizers, as the trainer takes them."""
    segmentor: Any = AttentionGatedUNet(1, CLASSES, filters=args.filters)
    segmentor = segmentor.to(device=args.device, memory_format=torch.channels_last)
    discriminator = MultiScaleDiscriminator(CLASSES - 1, [args.size, args.size], filters=args.filters).to(args.device)
    return {
        "network": segmentor,
        "discriminator": discriminator,
        "optimizer": torch.optim.Adam(segmentor.parameters(), lr=1e-4),
        "discriminator_optimizer": torch.optim.Adam(discriminator.parameters(), lr=1e-4),
    }


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Return the median seconds of an iteration of the trainer, of its data, and of the plain loop after each."""
    spent: list[float] = []

    def slices(*keys: str) -> SliceDataset:
        shape = (1, args.size, args.size, args.batch_size * (args.iterations + 1))
        volume = {"image": torch.randn(shape), "label": torch.randint(CLASSES + 1, shape), "case": "made up"}
        dataset: Any = SliceDataset([volume], lambda item: item, keys=keys)
        dataset.__getitems__ = timed(dataset.__getitems__, spent)
        return dataset

    augmentation = BatchAugmentation(ignore_index=CLASSES, rotation=90.0, translation=0.1, noise=0.02)
    prepare = timed(AugmentingPrepareBatch(augmentation), spent)
    trainer = MAAGTrainer(
        **networks(args),
        device=torch.device(args.device),
        max_epochs=1,
        train_data_loader=slice_loader(slices("image", "label"), batch_size=args.batch_size),
        loss_function=PartialCrossEntropyLoss(CLASSES, weighting="frequency"),
        prepare_batch=prepare,
        prepare_unpaired=prepare,
        masks=CyclingBatches(slices("label"), args.batch_size),
        unlabelled=CyclingBatches(slices("image"), args.batch_size),
    )
    return compare_steps(trainer, spent, plain_loop(args))


def plain_loop(args: argparse.Namespace) -> Callable[[], None]:
    """Return a function that takes the three steps once, on tensors that are there already."""
    segmentor, discriminator, of_segmentor, of_discriminator = networks(args).values()
    shape = (args.batch_size, 1, args.size, args.size)
    image = torch.randn(shape, device=args.device).contiguous(memory_format=torch.channels_last)
    label = torch.randint(CLASSES + 1, shape, device=args.device)
    real = mask_pyramid(label, CLASSES, scales=4)

    def step() -> None:
        heads = segmentor(image)
        supervised = F.cross_entropy(heads[0], label[:, 0], ignore_index=CLASSES)
        adversarial = (discriminator(foreground_probabilities(heads)) - 1).square().mean()
        update(of_segmentor, supervised + 0.1 * adversarial)
        fake = foreground_probabilities(segmentor(image))
        scores = discriminator([torch.cat([a, b.detach()]) for a, b in zip(real, fake, strict=True)]).chunk(2)
        update(of_discriminator, (scores[0] - 1).square().mean() + (scores[1] + 1).square().mean())
        update(of_segmentor, (discriminator(fake) - 1).square().mean())

    return step


def update(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """Take one step down the gradient of a loss."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def main() -> None:
    """Measure and print."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--filters", type=int, default=32, help="channels of both networks at full resolution")
    parser.add_argument("--batch_size", type=int, default=12)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--iterations", type=int, default=5, help="iterations that count; one more warms up")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if args.quick:
        args.filters, args.batch_size, args.size, args.iterations = 4, 4, 64, 3
    seconds = measure(args)
    print(f"{args.batch_size} x 1 x {args.size} x {args.size}, {args.filters} filters, {args.device}")
    print_steps(seconds, "networks")


if __name__ == "__main__":
    main()
