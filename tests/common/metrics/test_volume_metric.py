"""The ignite metrics of volumes, alone and inside an evaluator; over processes in test_score_table.py."""

from __future__ import annotations

import math

import pytest
import torch
from monai.engines import SupervisedEvaluator
from monai.handlers import from_engine

from common.errors import UserError
from common.metrics.mean_foreground_dice import MeanForegroundDice
from common.metrics.pooled_dice_loss import PooledSliceDiceLoss

# [1, 2, 2, 2]: slice 0 is perfect; in slice 1 the prediction has class 1 in row 0, the reference in column 0.
PREDICTION = torch.tensor([[[[1, 1], [1, 1]], [[0, 0], [0, 0]]]])
REFERENCE = torch.tensor([[[[1, 1], [1, 0]], [[0, 1], [0, 0]]]])
# Slice 1: 2 * 1 / (2 + 2) = 0.5, so the loss is 1 - (1 + 0.5) / 2. Over the volume: 2 * 3 / (4 + 4) = 0.75.
CASES = [(PooledSliceDiceLoss, 0.25, 0.0, 1.0), (MeanForegroundDice, 0.75, 1.0, 0.0)]


@pytest.mark.parametrize(("metric_class", "value", "perfect", "worst"), CASES)
class TestBoth:
    def test_by_hand(self, metric_class, value, perfect, worst):
        metric = metric_class(num_classes=2)
        metric.update(([PREDICTION], [REFERENCE]))
        assert metric.compute() == pytest.approx(value)

    def test_mean_over_volumes_of_any_shape(self, metric_class, value, perfect, worst):
        metric = metric_class(num_classes=2)
        metric.update(([PREDICTION, REFERENCE.float()], [REFERENCE, REFERENCE]))
        square = torch.zeros((1, 5, 5), dtype=torch.int)
        square[0, :2] = 1
        metric.update(([square], [square.flip(1)]))
        assert metric.compute() == pytest.approx((value + perfect + worst) / 3)

    def test_reset(self, metric_class, value, perfect, worst):
        metric = metric_class(num_classes=2)
        metric.update(([PREDICTION], [REFERENCE]))
        metric.reset()
        assert math.isnan(metric.compute())
        metric.update(([REFERENCE], [REFERENCE]))
        assert metric.compute() == pytest.approx(perfect)

    def test_volume_without_anything_annotated_is_left_out(self, metric_class, value, perfect, worst):
        metric = metric_class(num_classes=2, ignore_index=2)
        nothing = torch.full_like(REFERENCE, 2)
        metric.update(([PREDICTION], [nothing]))
        assert math.isnan(metric.compute())
        metric.update(([PREDICTION], [REFERENCE]))
        assert metric.compute() == pytest.approx(value)

    def test_ignored_voxels_do_not_count(self, metric_class, value, perfect, worst):
        scribble = torch.where(PREDICTION == REFERENCE, REFERENCE, 2)
        metric = metric_class(num_classes=2, ignore_index=2)
        metric.update(([PREDICTION], [scribble]))
        assert metric.compute() == pytest.approx(perfect)

    def test_ignore_value_without_being_told(self, metric_class, value, perfect, worst):
        with pytest.raises(UserError, match="the reference holds the value 2"):
            metric_class(num_classes=2).update(([PREDICTION], [torch.full_like(REFERENCE, 2)]))

    def test_one_hot_prediction(self, metric_class, value, perfect, worst):
        with pytest.raises(ValueError, match="arg-max"):
            metric_class(num_classes=2).update(([torch.cat([PREDICTION, PREDICTION])], [REFERENCE]))

    def test_lists_of_different_length(self, metric_class, value, perfect, worst):
        with pytest.raises(ValueError, match="longer than"):
            metric_class(num_classes=2).update(([PREDICTION], [REFERENCE, REFERENCE]))

    def test_as_key_metric_of_an_evaluator(self, metric_class, value, perfect, worst):
        metric = metric_class(num_classes=2, output_transform=from_engine(["pred", "label"]))
        evaluator = SupervisedEvaluator(
            device=torch.device("cpu"),
            val_data_loader=[{"image": PREDICTION[None].float(), "label": REFERENCE[None]}] * 2,
            network=torch.nn.Identity(),
            key_val_metric={"val": metric},
        )
        for _ in range(2):
            evaluator.run()
            assert evaluator.state.metrics["val"] == pytest.approx(value)
        assert evaluator.state.best_metric == pytest.approx(value)


def test_dice_averages_over_the_classes_that_are_there():
    prediction, reference = torch.tensor([[[1, 1, 2, 0]]]), torch.tensor([[[1, 0, 0, 3]]])
    # Class 1: 2 / 3; class 2 invented: 0; class 3 missed: 0; class 4 absent: left out.
    metric = MeanForegroundDice(num_classes=5)
    metric.update(([prediction], [reference]))
    assert metric.compute() == pytest.approx(2 / 9)


def test_dice_of_empty_volumes():
    metric = MeanForegroundDice(num_classes=2)
    metric.update(([torch.zeros_like(PREDICTION)], [torch.zeros_like(PREDICTION)]))
    assert math.isnan(metric.compute())
