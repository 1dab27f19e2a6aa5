"""Loads a bundle as MONAI does and exports its network: a program of its own, for a process without the library.

``python -I trial_program.py <bundle> <report.json> [<forbidden package> …]`` writes for each trial null or what went
wrong. It imports nothing of the library, which a release must not need.
"""

from __future__ import annotations

import importlib.abc
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIZES: dict[str, Any] = {"p": 6, "n": 3, "any": 49}
"""What a free size stands for in the trials of our own: 2**p, 16*n, any."""


class Forbid(importlib.abc.MetaPathFinder):
    """Make packages impossible to import.

    Args:
        names: names of packages.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = set(names)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        """Refuse a forbidden module, and leave others to those who come after."""
        if fullname.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{fullname} is imported, which a release must not need", name=fullname)


class Trials:
    """The trials of one bundle.

    Args:
        bundle: its folder.
        folder: where exported files go.
    """

    def __init__(self, bundle: Path, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, Any] = {
            "net_id": "network_def",
            "config_file": str(bundle / "configs" / "inference.json"),
            "meta_file": str(bundle / "configs" / "metadata.json"),
            "bundle_root": str(bundle),
        }
        self.weights = str(bundle / "models" / "model.pt")

    def run(self) -> dict[str, str | None]:
        """Run each trial, whatever becomes of the others."""
        trials: dict[str, Callable[[], None]] = {
            "weights fit the network": self.load,
            "network takes and gives what the metadata say": self.shapes,
            "TorchScript export gives the same": self.torchscript,
            "ONNX export gives the same": self.onnx,
        }
        return {name: _tried(trial) for name, trial in trials.items()}

    def load(self) -> None:
        """Build the network and load every one of its weights."""
        import torch
        from monai.bundle import ConfigParser

        parser = ConfigParser()
        parser.read_config(self.files["config_file"])
        parser["bundle_root"] = self.files["bundle_root"]
        self.network = parser.get_parsed_content("network_def")
        self.network.load_state_dict(torch.load(self.weights, map_location="cpu", weights_only=True))
        self.network.eval()

    def shapes(self) -> None:
        """As the model zoo does it, with the smallest sizes, and with larger ones."""
        from monai.bundle import verify_net_in_out

        for sizes in ({}, SIZES):
            verify_net_in_out(**self.files, **sizes, device="cpu")

    def torchscript(self) -> None:
        """Export as the model zoo does it, and compare."""
        import torch
        from monai.bundle import ckpt_export

        path = str(self.folder / "model.ts")
        ckpt_export(**self.files, filepath=path, ckpt_file=self.weights)
        module = torch.jit.load(path, map_location="cpu").eval()
        image = self._image()
        with torch.no_grad():
            torch.testing.assert_close(module(image), self.network(image), rtol=1e-4, atol=1e-4)

    def onnx(self) -> None:
        """Export, and compare with what onnxruntime makes of the file."""
        import torch

        try:
            import onnxruntime
            import onnxscript  # noqa: F401  (torch's exporter needs it)
        except ImportError as error:
            raise RuntimeError(f"{error.name} is not installed; pip install -e '.[dev]'") from error
        from monai.bundle import onnx_export

        path = str(self.folder / "model.onnx")
        image = self._image()
        onnx_export(**self.files, filepath=path, ckpt_file=self.weights, input_shape=list(image.shape))
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (output,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(output), self.network(image), rtol=1e-4, atol=1e-4)

    def _image(self) -> Any:
        import torch
        from monai.bundle.scripts import _get_fake_spatial_shape

        document = json.loads(Path(self.files["meta_file"]).read_text(encoding="utf-8"))
        image = document["network_data_format"]["inputs"]["image"]
        shape = (1, image["num_channels"], *_get_fake_spatial_shape(image["spatial_shape"], **SIZES))
        return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def _tried(trial: Callable[[], None]) -> str | None:
    try:
        trial()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return None


def main(bundle: str, report: str, *forbidden: str) -> None:
    """Try a bundle and write the report.

    Args:
        bundle: its folder.
        report: the JSON file.
        forbidden: packages that may not be imported.
    """
    sys.meta_path.insert(0, Forbid([*forbidden]))
    sys.path.insert(0, bundle)
    with tempfile.TemporaryDirectory() as folder:
        results = Trials(Path(bundle), Path(folder)).run()
    Path(report).write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
