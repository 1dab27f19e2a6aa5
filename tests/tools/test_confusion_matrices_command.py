"""Estimated confusion matrices beside the true ones."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from common.errors import UserError
from common.model_settings import write_settings
from tools import confusion_matrices
from tools.confusion_matrices import draw_matrices, main, mean_matrices

KEYS = {"filters": 4, "depth": 2, "pixdim": [6.0, 6.0], "roi_size": [32, 32]}


class Slices:
    """Slices in memory that answer like a SliceDataset."""

    def __init__(self, cases, **maps):
        self.cases = cases
        self.maps = {name: torch.tensor(values) for name, values in maps.items()}

    def __len__(self):
        return len(self.cases)

    def __getitems__(self, indices):
        chosen = list(indices)
        return {"case": [self.cases[index] for index in chosen], **{k: v[chosen] for k, v in self.maps.items()}}


class Annotators:
    """A network of two classes whose matrices are the same at each pixel."""

    def __init__(self, positive, negative):
        self.confusion_heads = {"positive": None, "negative": None}
        self.output = SimpleNamespace(out_channels=2)
        self.transition = None
        self.matrices = (torch.tensor(positive), torch.tensor(negative))

    def confusion_matrices(self, image):
        return [matrix[None, :, :, None, None].expand(len(image), 2, 2, *image.shape[2:]) for matrix in self.matrices]


def drawn_and_true():
    image = [[[[0.0, 0.0, 0.0, 0.0]]]] * 3
    # true        0 0 1 1   |   1 1 1 1   |   0 0 0 0
    # positive    0 1 1 2   |   1 0 2 2   |   0 0 0 2     2: not annotated
    # negative    1 2 0 2   |   0 0 0 1   |   1 1 1 1
    drawings = Slices(
        ["a", "b", "c"],
        image=image,
        label=[[[[0, 1, 1, 2]]], [[[1, 0, 2, 2]]], [[[0, 0, 0, 2]]]],
        complement=[[[[1, 2, 0, 2]]], [[[0, 0, 0, 1]]], [[[1, 1, 1, 1]]]],
    )
    # the masks' slices come in another order, with a channel of no annotation in front
    masks = Slices(
        ["c", "a", "b"], label=[[[[2] * 4], [[0] * 4]], [[[2] * 4], [[0, 0, 1, 1]]], [[[2] * 4], [[1, 1, 1, 1]]]]
    )
    return drawings, masks


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_means_over_the_pixels_of_each_true_class(batch_size):
    drawings, masks = drawn_and_true()
    network = Annotators([[0.9, 0.3], [0.1, 0.7]], [[0.8, 0.4], [0.2, 0.6]])
    found = mean_matrices(network, drawings, masks, batch_size=batch_size)
    # positive: of the 5 drawn pixels of class 0 four are drawn 0 and one 1; of the 3 of class 1 one is drawn 0
    np.testing.assert_allclose(found["positive"][0], [[4 / 5, 1 / 3], [1 / 5, 2 / 3]])
    np.testing.assert_allclose(found["positive"][1], [[0.9, 0.3], [0.1, 0.7]], rtol=1e-6)
    # negative: the 5 marked pixels of class 0 are all "not 1"; of the 5 of class 1 four are "not 0"
    np.testing.assert_allclose(found["negative"][0], [[0.0, 4 / 5], [1.0, 1 / 5]])
    # of two classes M exchanges the rows: a column tells the complementary class
    np.testing.assert_allclose(found["negative"][1], [[0.2, 0.6], [0.8, 0.4]], rtol=1e-6)


def test_slices_and_networks_that_do_not_fit():
    drawings, masks = drawn_and_true()
    network = Annotators([[0.9, 0.3], [0.1, 0.7]], [[0.8, 0.4], [0.2, 0.6]])
    masks.cases = ["d", "e", "f"]
    with pytest.raises(UserError, match="set labelled_share as in the training"):
        mean_matrices(network, drawings, masks)
    network.confusion_heads = {}
    with pytest.raises(UserError, match="train it with --confusion full or rank1"):
        mean_matrices(network, drawings, masks)


def test_picture_names_kinds_and_values():
    matrices = {"positive": (np.eye(2), np.full((2, 2), 0.25)), "negative": (np.eye(2), np.eye(2))}
    figure = draw_matrices(matrices)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"{kind} drawings: {what}" for kind in matrices for what in ("true", "estimated")]
    assert {text.get_text() for text in figure.axes[1].texts} == {"0.250"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    parser = ConfigParser()
    parser.read_config(str(confusion_matrices.CONFIG))
    parser.update(KEYS)
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(parser.get_parsed_content("network_def").state_dict(), path)
    return path


def test_command(phantom_dir, weights, tmp_path, capsys):
    main(dataset_dir=str(phantom_dir), weights=str(weights), output=str(tmp_path / "matrices.png"), **KEYS)
    assert (tmp_path / "matrices.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if line.endswith(("true", "estimated"))] == [
        f"{kind}: {what}" for kind in ("positive", "negative") for what in ("true", "estimated")
    ]


def test_the_weights_remember_their_keys(phantom_dir, weights, tmp_path):
    copy = shutil.copy(weights, tmp_path / "model.pt")
    write_settings(copy, {**KEYS, "head": "of another bundle"}, {})
    main(dataset_dir=str(phantom_dir), weights=str(copy), output=str(tmp_path / "remembered.png"))
    assert (tmp_path / "remembered.png").is_file()
    with pytest.raises(UserError, match="the weights do not fit the network"):
        main(dataset_dir=str(phantom_dir), weights=str(copy), output=str(tmp_path / "m.png"), filters=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlay": "missing.json"}, "missing.json: no such configuration"),
        ({"fliters": 4}, "--fliters: no key of train.json"),
        ({"weights": "missing.pt"}, "missing.pt"),
        ({"confusion": "none"}, "model.pt"),
    ],
)
def test_mistakes_leave_nothing(phantom_dir, weights, tmp_path, options, message):
    arguments = {"dataset_dir": str(phantom_dir), "weights": str(weights), "output": str(tmp_path / "m.png"), **KEYS}
    with pytest.raises(UserError, match=message):
        main(**{**arguments, **options})
    assert not list(tmp_path.iterdir())
