from __future__ import annotations

import pytest
import torch

from common.transforms.random_occlusion import RandomOcclusion


def place(monkeypatch: pytest.MonkeyPatch, row: float, column: float, turn: float) -> None:
    """Set centre, as a share of the image, and turn, as a share of a whole one."""
    drawn = torch.tensor([row, column, turn])

    def rand(*shape: int) -> torch.Tensor:
        return drawn.view(3, 1, 1, 1, 1).expand(shape)

    monkeypatch.setattr(torch, "rand", rand)


def test_an_upright_square_has_exactly_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, 0.5, 0.5, 0.125)
    hidden = RandomOcclusion(ignore_index=4, size=32, rotated=False).hidden_pixels(2, 212, 100)
    assert hidden.shape == (2, 1, 212, 100)
    expected = torch.zeros(212, 100, dtype=torch.bool)
    expected[106 - 16 : 106 + 16, 50 - 16 : 50 + 16] = True
    assert torch.equal(hidden[1, 0], expected)


@pytest.mark.parametrize("centre", [0.31, 0.4999, 0.62])
def test_at_any_place_inside(monkeypatch: pytest.MonkeyPatch, centre: float) -> None:
    place(monkeypatch, centre, 1 - centre, 0.0)
    assert RandomOcclusion(ignore_index=4).hidden_pixels(1, 212, 212).sum() == 32 * 32


def test_a_turned_square_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # a square of 2 pixels turned by 45 degrees about the middle of 5 x 5: |dx| + |dy| <= sqrt(2)
    place(monkeypatch, 0.5, 0.5, 0.125)
    hidden = RandomOcclusion(ignore_index=4, size=2).hidden_pixels(1, 5, 5)[0, 0]
    assert hidden.nonzero().tolist() == [[1, 2], [2, 1], [2, 2], [2, 3], [3, 2]]


def test_the_border_cuts_a_square(monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, 0.0, 0.0, 0.0)
    hidden = RandomOcclusion(ignore_index=4, size=8).hidden_pixels(1, 20, 20)
    assert hidden.sum() == 16
    assert hidden[0, 0, :4, :4].all()


def test_turned_squares_keep_their_area() -> None:
    torch.manual_seed(0)
    occlusion = RandomOcclusion(ignore_index=4, size=32)
    area = occlusion.hidden_pixels(200, 400, 400).sum(dim=(1, 2, 3))
    whole = area[area > 900].float()  # the others are cut by the border
    assert len(whole) > 150
    assert whole.mean() == pytest.approx(1024, rel=0.01)
    assert whole.std() > 0  # turned differently


def batch() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    label = torch.randint(0, 5, (3, 2, 50, 60), dtype=torch.uint8)
    target = {"label_a": label, "label_b": label.flip(0), "weight": torch.rand(3, 1, 50, 60)}
    return torch.rand(3, 1, 50, 60) + 1, target


def test_hidden_scribbles_become_unlabelled_and_the_rest_stays() -> None:
    image, target = batch()
    occluded, result = RandomOcclusion(ignore_index=4)(image, target)
    hidden = occluded == 0
    assert hidden.any(dim=(1, 2, 3)).tolist() == [True] * 3
    assert torch.equal(occluded[~hidden], image[~hidden])
    assert torch.equal(result["visible"], (~hidden).float())
    for key in ("label_a", "label_b"):
        both = hidden.expand(-1, 2, -1, -1)
        assert (result[key][both] == 4).all()
        assert torch.equal(result[key][~both], target[key][~both])
        assert (target[key][both] != 4).any()  # the given target is left alone
    assert result["weight"] is target["weight"]


def test_hidden_scribbles_as_background() -> None:
    image, target = batch()
    occluded, result = RandomOcclusion(ignore_index=4, hidden_label="background")(image, target)
    hidden = (occluded == 0).expand(-1, 2, -1, -1)
    given = target["label_a"]
    assert (result["label_a"][hidden & (given != 4)] == 0).all()
    assert (result["label_a"][hidden & (given == 4)] == 4).all()
    assert torch.equal(result["label_a"][~hidden], given[~hidden])


def test_what_was_hidden_before_stays_hidden() -> None:
    image, target = batch()
    target["visible"] = torch.ones(3, 1, 50, 60)
    target["visible"][:, :, 0] = 0
    _, result = RandomOcclusion(ignore_index=4)(image, target)
    assert (result["visible"][:, :, 0] == 0).all()


def test_same_seed_same_squares() -> None:
    image, target = batch()
    results = []
    for _ in range(2):
        torch.manual_seed(2)
        results.append(RandomOcclusion(ignore_index=4)(image, target)[0])
    assert torch.equal(*results)


def test_options_out_of_range() -> None:
    with pytest.raises(ValueError, match="occlusion_size must be at least 1 pixel, got 0"):
        RandomOcclusion(ignore_index=4, size=0)
    with pytest.raises(ValueError, match="occlusion_label must be 'ignore' or 'background', got 'bg'"):
        RandomOcclusion(ignore_index=4, hidden_label="bg")
