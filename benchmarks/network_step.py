"""Compare the networks that have layers of their own for a CPU with the same networks of PyTorch's plain layers.

    python benchmarks/network_step.py            # 8 x 160 x 160, as the presets for a CPU have them
    python benchmarks/network_step.py --amp      # in bfloat16
    python benchmarks/network_step.py --quick    # small sizes, seconds: shows that it runs

Both forms have the same weights and the channels-last layout, and run forward and backward in a process of their own.
``plain`` is what stood there otherwise: ``nn.GroupNorm``, ``nn.PReLU``, and concatenations that leave their gradients
as they are. ``seconds`` is the median of the repetitions after one that warms up, ``memory`` the highest resident set
size beyond that before the first. In float32 the gradients have to agree to ``TOLERANCE`` relative to the largest
entry of all.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from measuring.clock import median_seconds
from measuring.command_line import benchmark_parser, run_apart
from measuring.memory import peak_mib
from torch import nn

from common.engines.bfloat16_inferer import bfloat16_autocast
from common.networks import unet_blocks, unet_plus
from common.networks.attention_gated_unet import AttentionGatedUNet
from common.networks.instance_norm_unet import InstanceNorm, InstanceNormUNet, PReLU

TOLERANCE = 1e-4
NETWORKS = {
    "attention-gated U-Net": lambda filters: AttentionGatedUNet(1, 4, filters=filters),
    "UNet+": lambda filters: unet_plus.UNetPlus(1, 4, channels=[filters // 2 * 2**level for level in range(5)]),
    "instance-norm U-Net": lambda filters: InstanceNormUNet(1, filters=filters),
}


def plain_layers(module: nn.Module) -> None:
    """Replace the layers of our own by PyTorch's, weights included."""
    for name, layer in module.named_children():
        if isinstance(layer, InstanceNorm):
            other: nn.Module = nn.GroupNorm(layer.num_channels, layer.num_channels)
        elif isinstance(layer, PReLU):
            other = nn.PReLU()
        else:
            plain_layers(layer)
            continue
        other.load_state_dict(layer.state_dict())
        setattr(module, name, other)


def all_tensors(output: Any) -> list[torch.Tensor]:
    """The tensors of a network's output: the output itself, or those of its parts."""
    if isinstance(output, torch.Tensor):
        return [output]
    return [tensor for part in output for tensor in all_tensors(part)]


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run one form; write its gradients to ``args.gradients`` and return seconds and MiB."""
    torch.manual_seed(0)
    network = NETWORKS[args.network](args.filters).train().to(memory_format=torch.channels_last)
    image = torch.randn(args.batch_size, 1, args.size, args.size).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        network.zero_grad(set_to_none=True)
        with bfloat16_autocast("cpu", args.amp):
            output = network(image)
        sum(tensor.float().square().mean() for tensor in all_tensors(output)).backward()

    with contextlib.ExitStack() as stack:
        if args.form == "plain":
            plain_layers(network)
            for module in (unet_blocks, unet_plus):
                stack.enter_context(mock.patch.object(module, "keep_layout", lambda x: x))
        before = peak_mib()
        seconds = median_seconds(step, args.repeat)
    used = peak_mib() - before
    torch.save({name: weight.grad for name, weight in network.named_parameters()}, args.gradients)
    return {"seconds": seconds, "memory": used}


def compare(args: argparse.Namespace, network: str) -> None:
    """Run both forms in fresh processes, print what they took, and stop with an error where they disagree."""
    results, gradients = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for form in ("plain", "own"):
            path = Path(folder) / f"{form}.pt"
            results[form] = run_apart("--network", network, "--form", form, "--gradients", str(path))
            gradients[form] = torch.load(path, weights_only=True)
    print(f"{network}, {args.batch_size} x 1 x {args.size} x {args.size}, {torch.get_num_threads()} threads")
    for form, result in results.items():
        print(f"{form:6} {result['seconds']:8.3f} s {result['memory']:10.1f} MiB")
    ratios = [results["own"][what] / max(results["plain"][what], 1e-9) for what in ("seconds", "memory")]
    print(f"own / plain: time {ratios[0]:.2f}, memory {ratios[1]:.2f}")
    largest = max(float(gradient.abs().max()) for gradient in gradients["plain"].values())
    pairs = ((gradients["own"][name], gradient) for name, gradient in gradients["plain"].items())
    error = max(float((ours - theirs).abs().max()) for ours, theirs in pairs) / largest
    print(f"largest difference of the gradients: {error:.1e}")
    if not args.amp and not error <= TOLERANCE:
        sys.exit(f"the two forms differ by more than {TOLERANCE}")


def main() -> None:
    """Compare, or run one form for the comparison."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--network", choices=NETWORKS, help="by default all, one after the other")
    parser.add_argument("--filters", type=int, default=16, help="channels at full resolution; UNet+ has half of them")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--amp", action="store_true", help="bfloat16, where the machine has it")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions that count; one more warms up")
    parser.add_argument("--form", choices=["plain", "own"], help=argparse.SUPPRESS)
    parser.add_argument("--gradients", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.filters, args.batch_size, args.size, args.repeat = 4, 2, 48, 1
    if args.form:
        print(json.dumps(measure(args)))
        return
    for network in [args.network] if args.network else NETWORKS:
        compare(args, network)


if __name__ == "__main__":
    main()
