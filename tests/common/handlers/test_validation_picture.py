from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.handlers.validation_picture import ValidationPicture
from common.reporting.palette import class_colour

WHITE, GREY = (255, 255, 255), (128, 128, 128)
BLUE, YELLOW = class_colour(1), class_colour(2)
AFFINE = torch.diag(torch.tensor([2.0, 1.0, 5.0, 1.0], dtype=torch.float64))


def volume(values: np.ndarray, affine: torch.Tensor = AFFINE) -> MetaTensor:
    return MetaTensor(torch.from_numpy(values[None].astype(np.float32)), affine=affine)


def panels(picture: np.ndarray, columns: int) -> list[np.ndarray]:
    """The three panels, which are so many columns wide with gaps of 4 between them."""
    assert picture.shape[1] == 3 * columns + 8
    assert (picture[:, columns : columns + 4] == 0).all()
    return [picture[:, start : start + columns] for start in (0, columns + 4, 2 * columns + 8)]


def test_middle_slice_with_its_classes_and_what_is_not_annotated(tmp_path):
    image = np.zeros((4, 3, 5))
    image[1, 2, 2] = 1.0
    label = np.zeros((4, 3, 5))
    label[..., 2] = 3  # not annotated
    label[1, 2, 2], label[0, 0, 2], label[3, 0, 2] = 1, 2, 0
    label[..., 3] = 1  # of another slice
    prediction = np.zeros((4, 3, 5))
    prediction[1, 2, 2] = 2
    item = {"image": volume(image), "label": volume(label), "pred": volume(prediction)}
    shown = panels(ValidationPicture(tmp_path, 3).picture(item), 4)
    # rows run along the second axis: voxel (1, 2) is in column 1 of row 2
    assert tuple(shown[0][2, 1]) == WHITE
    assert shown[0].sum() == 3 * 255
    expected = np.full((3, 4, 3), GREY)
    expected[2, 1], expected[0, 0], expected[0, 3] = BLUE, YELLOW, WHITE
    np.testing.assert_array_equal(shown[1], expected)
    expected = np.full((3, 4, 3), WHITE)
    expected[2, 1] = YELLOW
    np.testing.assert_array_equal(shown[2], expected)


def test_label_is_looked_up_on_a_native_grid_that_is_turned_and_finer(tmp_path):
    """The native grid has its axes in the order z, y, x, y running backwards, and twice as many voxels along x."""
    label = np.zeros((5, 3, 8))  # z, y, x
    label[2, 0, 6:] = 1  # y index 0 is the largest y, which is 2; x from 6 on is column 3 of the image
    affine = torch.zeros(4, 4, dtype=torch.float64)
    affine[0, 2], affine[1, 1], affine[2, 0], affine[3, 3] = 1.0, -1.0, 5.0, 1.0
    affine[0, 3], affine[1, 3] = -0.5, 2.0  # centres of two fine voxels are half a mm beside a coarse one's
    item = {"image": volume(np.zeros((4, 3, 5))), "label": volume(label, affine), "pred": volume(label, affine)}
    _, shown, predicted = panels(ValidationPicture(tmp_path, 2).picture(item), 4)
    expected = np.full((3, 4, 3), WHITE)
    expected[2, 3] = BLUE
    np.testing.assert_array_equal(shown, expected)
    np.testing.assert_array_equal(predicted, expected)


def test_outside_of_the_label_and_without_one_is_grey(tmp_path):
    item = {"image": volume(np.zeros((4, 3, 1))), "pred": volume(np.zeros((2, 3, 1)))}
    _, label, prediction = panels(ValidationPicture(tmp_path, 2).picture(item), 4)
    assert (label == GREY).all()
    assert (prediction[:, :2] == WHITE).all()
    assert (prediction[:, 2:] == GREY).all()


def test_large_slices_are_thinned_out(tmp_path):
    image = np.broadcast_to(np.arange(600)[:, None, None], (600, 20, 1))
    item = {key: volume(image) for key in ("image", "label", "pred")}
    # 600 pixels by threes
    assert ValidationPicture(tmp_path, 2).picture(item).shape == (7, 3 * 200 + 8, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_picture_files_without_directions(tmp_path, channels):
    """Their image was given a spacing and halved; the label still has the file's pixels."""
    image = MetaTensor(torch.zeros(channels, 4, 2, 1), affine=torch.diag(torch.tensor([3.0, 3.0, 1.0, 1.0])))
    label = torch.zeros(1, 8, 4)
    label[0, 6:, :2] = 1
    item = {"image": image, "label": MetaTensor(label), "pred": MetaTensor(label)}
    _, shown, _ = panels(ValidationPicture(tmp_path, 2).picture(item), 4)
    expected = np.full((2, 4, 3), WHITE)
    expected[0, 3] = BLUE
    np.testing.assert_array_equal(shown, expected)


def test_images_that_are_flat_or_not_finite(tmp_path):
    for value in (7.0, float("nan")):
        image = np.full((4, 3, 1), value)
        item = {"image": volume(image), "pred": volume(np.zeros((4, 3, 1)))}
        assert (panels(ValidationPicture(tmp_path, 2).picture(item), 4)[0] == 0).all()


class Threshold(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (image > 0.5).float()


def validated(folder: Path, volumes: int) -> EventAccumulator:
    items = [
        {"image": volume(np.full((4, 3, 5), number / 2)), "label": volume(np.zeros((4, 3, 5)))}
        for number in range(volumes)
    ]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=1),
        network=Threshold(),
        val_handlers=[ValidationPicture(folder, 2)],
    )
    for epoch in (5, 10):
        evaluator.run(epoch)
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    return events


def test_one_picture_of_the_first_volume_at_every_validation(tmp_path):
    events = validated(tmp_path, 3)
    pictures = events.Images("val_image_label_prediction")
    assert [(picture.step, picture.width, picture.height) for picture in pictures] == [(5, 20, 3), (10, 20, 3)]
    first = np.array(Image.open(io.BytesIO(pictures[0].encoded_image_string)))
    # the volumes' numbers are 0, 1/2 and 1: the first one alone is predicted as background
    assert (panels(first, 4)[2] == WHITE).all()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2000


def test_an_empty_validation_has_no_picture(tmp_path):
    assert validated(tmp_path, 0).Tags()["images"] == []
