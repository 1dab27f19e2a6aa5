from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.metrics import compute_iou

from common.errors import UserError
from common.metrics.mean_iou import MeanIoU, confusion_counts, mean_iou

TRUTH = torch.tensor([[[0, 0, 1], [1, 1, 2]]])
PREDICTION = torch.tensor([[[0, 1, 1], [1, 0, 0]]])


def score(pairs: list[tuple[torch.Tensor, torch.Tensor]], **options) -> float:
    metric = MeanIoU(**{"num_classes": 3, **options})
    for pair in pairs:
        metric.update(([pair[0]], [pair[1]]))
    return metric.compute()


def test_counts_by_hand() -> None:
    counts = confusion_counts(PREDICTION, TRUTH, 3)
    assert counts.tolist() == [[1, 1, 0], [1, 2, 0], [1, 0, 0]]  # rows: truth


def test_mean_by_hand() -> None:
    # class 0: 1 / (3 + 2 - 1), class 1: 2 / (3 + 3 - 2), class 2: 0 / 1
    assert score([(PREDICTION, TRUTH)]) == pytest.approx((1 / 4 + 2 / 4 + 0) / 3)
    assert score([(PREDICTION, TRUTH)], include_background=False) == pytest.approx((2 / 4 + 0) / 2)


def test_ignored_pixels_are_left_out_of_both_maps() -> None:
    truth = TRUTH.clone()
    truth[0, 1, 1:] = 3
    # left: 0 0 1 1 against 0 1 1 1: class 0: 1/2, class 1: 2/3, class 2 in neither
    assert score([(PREDICTION, truth)], ignore_index=3) == pytest.approx((1 / 2 + 2 / 3) / 2)
    with pytest.raises(UserError, match="holds the value 3"):
        score([(PREDICTION, truth)])


def test_over_the_data_set_or_over_images() -> None:
    zeros, ones = torch.zeros(1, 2, 2, dtype=torch.long), torch.ones(1, 2, 2, dtype=torch.long)
    half = torch.tensor([[[0, 0], [1, 1]]])
    pairs = [(half, zeros), (ones, ones)]
    # together: class 0: 2 / 4, class 1: 4 / 6; image 1: class 0 2/4, class 1 0/2; image 2: class 1 4/4
    assert score(pairs, num_classes=2) == pytest.approx((1 / 2 + 4 / 6) / 2)
    assert score(pairs, num_classes=2, over="image") == pytest.approx((1 / 4 + 1) / 2)


def test_equals_monais_mean_over_images() -> None:
    rng = np.random.default_rng(0)
    maps = [torch.from_numpy(rng.integers(0, 3, (1, 16, 16))) for _ in range(8)]
    pairs = list(zip(maps[::2], maps[1::2], strict=True))
    one_hot = [[torch.nn.functional.one_hot(m[0], 3).movedim(-1, 0)[None] for m in pair] for pair in pairs]
    expected = torch.stack([compute_iou(*pair).nanmean() for pair in one_hot]).mean()
    assert score(pairs, over="image") == pytest.approx(expected.item())


def test_perfect_shifted_swapped_and_empty_predictions() -> None:
    truth = torch.zeros(1, 10, 10, dtype=torch.long)
    truth[:, 3:7, 3:7] = 1
    assert score([(truth, truth)], num_classes=2) == 1.0
    assert score([(truth.roll(1, 1), truth)], num_classes=2) == pytest.approx((12 / 20 + 80 / 88) / 2)
    assert score([(1 - truth, truth)], num_classes=2) == 0.0
    assert score([(torch.zeros_like(truth), truth)], num_classes=2) == pytest.approx(84 / 100 / 2)


def test_nothing_to_score() -> None:
    ignored = torch.full((1, 2, 2), 2)
    blank = torch.zeros(1, 2, 2)
    for over in ("dataset", "image"):
        for pairs in ([], [(blank, ignored)]):
            assert np.isnan(score(pairs, num_classes=2, ignore_index=2, over=over))
        assert np.isnan(score([(blank, blank)], include_background=False, over=over))
    assert np.isnan(mean_iou(np.zeros((2, 2))))
    assert score([(PREDICTION, TRUTH), (torch.zeros(1, 2, 2), torch.full((1, 2, 2), 3))], ignore_index=3) > 0


def test_in_an_engine_that_starts_afresh_every_epoch() -> None:
    engine = Engine(lambda engine, batch: batch)
    metric = MeanIoU(num_classes=3, output_transform=lambda output: ([output.pred], [output.label]))
    metric.attach(engine, "val_mean_iou")
    for prediction, expected in ((PREDICTION, 0.25), (TRUTH, 1.0)):
        engine.state.max_epochs = None  # as a validation that runs again
        engine.run([SimpleNamespace(pred=prediction, label=TRUTH)], max_epochs=1)
        assert engine.state.metrics["val_mean_iou"] == pytest.approx(expected)


def test_ill_options_and_shapes() -> None:
    with pytest.raises(UserError, match="over must be 'dataset' or 'image', got 'batch'"):
        MeanIoU(num_classes=2, over="batch")
    with pytest.raises(ValueError, match="index maps of one channel"):
        score([(torch.zeros(2, 3, 3), torch.zeros(1, 3, 3))])
    with pytest.raises(UserError, match="shape"):
        score([(torch.zeros(1, 3, 2), torch.zeros(1, 3, 3))])
