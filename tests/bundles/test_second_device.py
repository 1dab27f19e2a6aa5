"""Every bundle on a device that is not the CPU, see ``tests/shared/second_device.py``: what a GPU needs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked_programs
import pytest

from common.data.datalist import load_datalist

SMALL = {"roi_size": [48, 48], "pixdim": [4.0, 4.0], "filters": 2, "batch_size": 4, "val_interval": 2, "seed": 1}
FORMS: list[tuple[str, dict[str, Any]]] = [
    ("maag", {}),
    ("dmpls", {}),
    ("attenscribble", {}),
    ("cyclemix", {"roi_size": [36, 36]}),
    ("coarse_labels", {"depth": 2}),
    ("baselines", {}),
]
MORE: list[tuple[str, dict[str, Any]]] = [
    ("maag", {"preset": "paper"}),
    ("maag", {"preset": "code"}),
    ("dmpls", {"preset": "paper"}),
    ("dmpls", {"preset": "code"}),
    ("attenscribble", {"preset": "paper"}),
    ("cyclemix", {"preset": "paper", "roi_size": [36, 36]}),
    ("cyclemix", {"preset": "code", "roi_size": [36, 36]}),
    *[("cyclemix", {"mixer": mixer, "roi_size": [36, 36]}) for mixer in ("mixup", "cutmix", "cutout", "comixup")],
    ("coarse_labels", {"preset": "paper", "depth": 2}),
    *[("baselines", {"overlay": f"methods/{method}.json"}) for method in ("wpce", "gated_crf", "dense")],
]
# the guard against what is not finite looks at each loss, on a GPU at every tenth; CycleMix' cut, moves and pieces are
# found on the CPU
READS = {"cyclemix": 7}


def output_of(*words: Any) -> str:
    made = forked_programs.run(words, timeout=500)
    assert made.returncode == 0, made.stdout[-6000:] + made.stderr[-2000:]
    return made.stdout


@pytest.mark.parametrize(
    ("bundle", "keys"), [*FORMS, *[pytest.param(*form, marks=pytest.mark.slow) for form in MORE]], ids=str
)
def test_a_bundle_does_on_another_device_what_it_does_on_the_cpu(
    bundle: str, keys: dict[str, Any], repo_root: Path, few_cases: Callable[[Path, int], Path], tmp_path: Path
) -> None:
    datalist = few_cases(tmp_path / "data", 3)
    image = load_datalist(datalist, "validation")[0]["image"]
    options = SMALL | keys
    overlays = [options.pop("overlay")] if "overlay" in options else []
    words = [repo_root / "bundles" / bundle, datalist, image, tmp_path, json.dumps(options), *overlays]
    result = json.loads(output_of("-m", "second_device_program", *words).splitlines()[-1])
    assert result["steps"] > 10
    assert result["weights"] < 5e-3, "the same but for the order of sums, which Adam makes larger"
    assert result["same_labels"] > 0.999
    assert result["dice"] < 1e-2
    assert result["reads"] <= READS.get(bundle, 1)


def test_the_device_takes_and_refuses_what_a_gpu_does() -> None:
    expressions = {
        "there + torch.ones(2, 3)": "RuntimeError: .*two devices",
        "torch.where(torch.ones(2, 3, dtype=torch.bool), there, 0.0)": "RuntimeError: .*two devices",
        "torch.nn.Conv1d(2, 1, 1)(there)": "RuntimeError: .*two devices",
        "there.numpy()": "TypeError: can't convert other:0 device type tensor to numpy",
        "(there + torch.tensor(1.0)).cpu().sum()": "21",
        "there[torch.tensor([1])].cpu().sum()": "12",
    }
    code = f"""
import second_device, torch
there = torch.arange(6.0).view(2, 3).to("other")
for expression in {list(expressions)}:
    try:
        print(float(eval(expression)))
    except Exception as error:
        print(type(error).__name__, *str(error).splitlines()[:1], sep=": ")
"""
    for line, expected in zip(output_of("-c", code).splitlines(), expressions.values(), strict=True):
        assert re.match(expected, line)


def test_views_and_results_on_the_device_are_those_of_the_cpu() -> None:
    code = """
import second_device, torch
here = torch.arange(24.0).view(2, 3, 4)
there = here.to("other")
for use in (
    lambda x: x.transpose(0, 2)[1].unsqueeze(1).expand(3, 5, 2).reshape(-1),
    lambda x: x.permute(2, 0, 1).contiguous(memory_format=torch.contiguous_format).flatten(1)[:, ::2],
    lambda x: torch.cat([part.squeeze(1) for part in x.split(1, dim=1)]).unfold(1, 2, 1).mean(-1),
    lambda x: torch.nn.functional.pad(x, [1, 2], mode="replicate").diagonal(dim1=1, dim2=2),
    lambda x: x.clone().transpose(1, 2).mul_(2)[:, 1].add_(1).cumsum(0),
    lambda x: torch.allclose(x, x) and x[x > 5].sum().item(),
):
    torch.testing.assert_close(torch.as_tensor(use(there)).cpu(), torch.as_tensor(use(here)))
weights = [tensor.clone().requires_grad_() for tensor in (here, there)]
for weight in weights:
    (weight.transpose(1, 2).softmax(-1)[..., 0] ** 2).sum().backward()
torch.testing.assert_close(weights[1].grad.cpu(), weights[0].grad)
"""
    output_of("-c", code)
