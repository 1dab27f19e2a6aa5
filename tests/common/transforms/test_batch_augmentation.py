from __future__ import annotations

import pytest
import torch

from common.transforms.batch_augmentation import BatchAugmentation


def ramp(batch: int = 3, height: int = 12, width: int = 20) -> torch.Tensor:
    return torch.arange(float(height * width)).view(1, 1, height, width).repeat(batch, 1, 1, 1)


def test_without_options_nothing_changes():
    image, label = ramp(), torch.randint(0, 5, (3, 1, 12, 20))
    out_image, out_label = BatchAugmentation(ignore_index=4)(image, label)
    assert out_image is image
    assert out_label is label


def test_no_label_value_is_invented_and_outside_is_ignored():
    torch.manual_seed(0)
    label = torch.ones(64, 1, 24, 24, dtype=torch.uint8)
    augment = BatchAugmentation(ignore_index=4, rotation=90, translation=0.3, scale=0.3, flip=True)
    _, out = augment(None, label)
    assert out.dtype == torch.uint8
    assert out.unique().tolist() == [1, 4]
    corners = out[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 4).float().mean() > 0.5


def test_image_and_label_move_together():
    torch.manual_seed(1)
    label = torch.zeros(32, 1, 40, 40, dtype=torch.long)
    label[:, :, 12:20, 22:32] = 1
    augment = BatchAugmentation(ignore_index=2, rotation=90, translation=0.1, scale=0.1, flip=True, right_angles=True)
    image, out = augment(label.float(), label)
    inside = out != 2
    # the pixel nearest to a sampling point has at least 1/4 of the bilinear weight; inside the parts they agree
    difference = (image - out).abs()[inside]
    assert (difference <= 0.75 + 1e-5).all()
    assert difference.mean() < 0.02
    assert (out == 1).flatten(1).any(dim=1).all()


def test_right_angle_turn_of_a_square_is_exact(monkeypatch):
    monkeypatch.setattr(torch, "randint", lambda *args, **kwargs: torch.tensor([1]))
    image = torch.arange(25.0).view(1, 1, 5, 5)
    out, label = BatchAugmentation(ignore_index=99, right_angles=True)(image, image.long())
    turned = (torch.rot90(image, 1, (2, 3)), torch.rot90(image, -1, (2, 3)))
    assert any(torch.allclose(out, candidate, atol=1e-4) for candidate in turned)
    assert any(torch.equal(label, candidate.long()) for candidate in turned)


def test_rotation_keeps_shapes_on_rectangles(monkeypatch):
    # a square drawn on a wide image and turned by 45 degrees keeps its area
    monkeypatch.setattr(torch, "rand", lambda *shape, **kwargs: torch.full(shape, 0.75))
    label = torch.full((1, 1, 60, 120), 0, dtype=torch.long)
    label[:, :, 20:40, 50:70] = 1
    _, out = BatchAugmentation(ignore_index=2, rotation=90)(None, label)
    assert float((out == 1).sum()) == pytest.approx(400, rel=0.05)
    rows = (out == 1)[0, 0].any(dim=1).sum()
    columns = (out == 1)[0, 0].any(dim=0).sum()
    assert abs(int(rows) - int(columns)) <= 2
    assert int(rows) == pytest.approx(20 * 2**0.5, abs=2)


def test_intensities_by_hand(monkeypatch):
    # rand = 1 draws each limit: contrast 1.5 about the mean 2, then + 0.25
    monkeypatch.setattr(torch, "rand", lambda *shape, **kwargs: torch.ones(shape))
    image = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)
    out, _ = BatchAugmentation(ignore_index=2, contrast=0.5, brightness=0.25)(image, None)
    torch.testing.assert_close(out.flatten(), torch.tensor([0.75, 3.75]))


def test_items_draw_their_own_numbers_and_the_seed_fixes_them():
    augment = BatchAugmentation(ignore_index=2, rotation=90, noise=0.1)
    torch.manual_seed(3)
    first, _ = augment(ramp(), None)
    torch.manual_seed(3)
    again, _ = augment(ramp(), None)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.allclose(first[0], first[1])


def test_negative_option():
    with pytest.raises(ValueError, match="rotation must not be negative"):
        BatchAugmentation(ignore_index=2, rotation=-1)
