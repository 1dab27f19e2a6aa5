from __future__ import annotations

import pytest
import torch

from common.data.cycling_batches import CyclingBatches
from common.data.slice_dataset import SliceDataset, slice_loader
from common.errors import UserError


def volume(item: dict) -> dict:
    """A volume whose voxels hold 100 * number + slice; scribbles on the even slices only."""
    depth = item.get("depth", 4)
    image = 100.0 * item["number"] + torch.arange(depth).expand(1, 6, 5, depth)
    label = torch.full((1, 6, 5, depth), 2)
    label[..., ::2] = 1
    return {"image": image, "label": label}


def items(count: int = 3, **extra) -> list[dict]:
    return [{"image": f"{n}.nii", "label": f"{n}s.nii", "case": f"case{n}", "number": n, **extra} for n in range(count)]


def test_slices_in_order_with_names():
    dataset = SliceDataset(items(), volume)
    assert len(dataset) == 12
    batch = dataset.__getitems__([0, 6, 11])
    assert batch["image"].shape == (3, 1, 6, 5)
    assert batch["image"][:, 0, 0, 0].tolist() == [0.0, 102.0, 203.0]
    assert batch["image"].dtype == torch.float32
    assert batch["label"].dtype == torch.uint8
    assert batch["case"] == ["case0, slice 0", "case1, slice 2", "case2, slice 3"]
    single = dataset[6]
    torch.testing.assert_close(single["image"], batch["image"][1])
    assert single["case"] == batch["case"][1]


def test_each_volume_is_prepared_once():
    calls = []
    dataset = SliceDataset(items(), lambda item: calls.append(item["case"]) or volume(item))
    for batch in slice_loader(dataset, batch_size=4):
        assert len(batch["case"]) == 4
    assert calls == ["case0", "case1", "case2"]


def test_slices_without_annotation_are_left_out():
    dataset = SliceDataset(items(), volume, ignore_index=2)
    assert len(dataset) == 6
    assert dataset.cases[:3] == ["case0, slice 0", "case0, slice 2", "case1, slice 0"]
    with pytest.raises(UserError, match="none of the 3 volumes has an annotated slice"):
        SliceDataset(items(), lambda item: {**volume(item), "label": torch.full((1, 6, 5, 4), 2)}, ignore_index=2)


def test_frames_of_a_cine_series_count_as_volumes():
    cine = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 6, 5, 4)
    dataset = SliceDataset(items(1, frames="all"), lambda item: {"image": cine}, keys=["image"])
    assert dataset.slices["image"].shape == (12, 1, 6, 5)
    assert sorted(dataset.slices["image"][:, 0, 0, 0].tolist()) == [0.0] * 4 + [1.0] * 4 + [2.0] * 4


def test_errors_name_the_file():
    def broken(item: dict) -> dict:
        raise RuntimeError("outer") from OSError("not a gzip file\nmore")

    with pytest.raises(UserError, match=r"^0\.nii, 0s\.nii: cannot be read or prepared: not a gzip file$"):
        SliceDataset(items(), broken)
    with pytest.raises(UserError, match="slices of different sizes in 'image'"):
        SliceDataset(items(), lambda item: {"image": torch.zeros(1, 6 + item["number"], 5, 2)}, keys=["image"])


def test_dense_masks_beside_scribbles():
    def with_mask(item: dict) -> dict:
        prepared = volume(item)
        return prepared | ({"dense_label": prepared["image"] % 100} if item["number"] < 2 else {})

    dataset = SliceDataset(items(2), with_mask, keys=["image", "label", "dense_label"], ignore_index=2)
    batch = dataset.__getitems__([0, 3])  # slices 0 and 2 of each volume are annotated
    assert batch["dense_label"].dtype == torch.uint8
    assert batch["dense_label"].shape == batch["label"].shape
    assert batch["dense_label"][:, 0, 0, 0].tolist() == [0, 2]
    with pytest.raises(UserError, match=r'^case2: has no "dense_label"; add the path of its file$'):
        SliceDataset(items(3), with_mask, keys=["image", "label", "dense_label"])


def test_dense_masks_alone_may_leave_the_first_channel_to_drawings():
    dense = items(2, supervision="dense")
    together = SliceDataset(dense, volume, ignore_index=2)
    apart = SliceDataset(dense, volume, ignore_index=2, dense_apart=True)
    assert together.slices["label"].shape == (4, 1, 6, 5)
    assert apart.slices["label"].shape == (4, 2, 6, 5)
    assert (apart.slices["label"][:, 0] == 2).all()
    assert torch.equal(apart.slices["label"][:, 1:], together.slices["label"])
    # beside drawings, and for drawings alone, it changes nothing
    for data in (items(2) + dense, items(2)):
        one, two = (SliceDataset(data, volume, ignore_index=2, dense_apart=apart) for apart in (False, True))
        assert torch.equal(one.slices["label"], two.slices["label"])


def test_empty_dataset_has_length_zero():
    assert len(SliceDataset([], volume)) == 0


def order(loader, epoch: int) -> list[str]:
    loader.sampler.set_epoch(epoch)
    return [case for batch in loader for case in batch["case"]]


def test_loader_shuffles_over_all_slices_by_seed_and_epoch():
    dataset = SliceDataset(items(8), volume)
    loader = slice_loader(dataset, batch_size=4, seed=1)
    first = order(loader, 1)
    assert sorted(first) == sorted(dataset.cases)
    assert first == order(slice_loader(dataset, batch_size=4, seed=1), 1)
    assert first != order(loader, 2)
    assert first != order(slice_loader(dataset, batch_size=4, seed=2), 1)
    assert len({case.split(",")[0] for case in first[:4]}) > 1


def test_loader_drops_the_rest_unless_it_is_all():
    assert [len(b["case"]) for b in slice_loader(SliceDataset(items(3), volume), batch_size=5)] == [5, 5]
    assert [len(b["case"]) for b in slice_loader(SliceDataset(items(1), volume), batch_size=5)] == [4]


def test_workers_give_the_same_batches():
    dataset = SliceDataset(items(4), volume)
    alone = order(slice_loader(dataset, batch_size=4, seed=3), 1)
    assert alone == order(slice_loader(dataset, batch_size=4, seed=3, num_workers=2), 1)


def test_cycling_passes_cover_everything_in_new_orders():
    stream = CyclingBatches(SliceDataset(items(3), volume), 5, seed=4, stream="masks")
    cases = [case for iteration in range(1, 25) for case in stream.batch(iteration)["case"]]
    passes = [cases[start : start + 12] for start in range(0, 120, 12)]
    assert all(sorted(one) == sorted(passes[0]) for one in passes)
    assert passes[0] != passes[1]


def test_cycling_batch_is_a_function_of_the_iteration():
    dataset = SliceDataset(items(3), volume)
    forwards, fresh = CyclingBatches(dataset, 4, seed=5), CyclingBatches(dataset, 4, seed=5)
    for iteration in range(1, 8):
        seventh = forwards.batch(iteration)["case"]
    assert fresh.batch(7)["case"] == seventh
    assert CyclingBatches(dataset, 4, seed=5, stream="other").batch(7)["case"] != seventh


def test_cycling_ranks_share_out_one_global_stream():
    dataset = SliceDataset(items(3), volume)
    whole = CyclingBatches(dataset, 4, seed=6).batch(3)["case"]
    halves = [CyclingBatches(dataset, 2, seed=6, rank=rank, world_size=2).batch(3)["case"] for rank in (0, 1)]
    assert halves[0] + halves[1] == whole


def test_slices_are_kept_and_gathered_on_the_device_that_is_named() -> None:
    # "meta" has shapes and no values, and stands for a GPU where there is none
    dataset = SliceDataset(
        [{"image": None, "case": "a"}], lambda item: {"image": torch.ones(1, 4, 5, 3)}, keys=("image",)
    )
    assert dataset.slices["image"].device.type == "cpu"
    dataset = SliceDataset(
        [{"image": None, "case": "a"}], lambda item: {"image": torch.ones(1, 4, 5, 3)}, keys=("image",), device="meta"
    )
    assert dataset.slices["image"].device.type == "meta"
    batch = dataset.__getitems__([2, 0])
    assert (batch["image"].device.type, tuple(batch["image"].shape)) == ("meta", (2, 1, 4, 5))
    assert batch["case"] == ["a, slice 2", "a, slice 0"]
    with pytest.raises(UserError, match="--num_workers 2: needs the slices in memory; set it to 0, or data_device to"):
        slice_loader(dataset, batch_size=1, num_workers=2)
