"""Which annotations a run trains with: shares, annotators, dense masks, masks and images of other sections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.data import datalist as datalist_module
from common.data.datalist import load_datalist, validation_items
from common.data.supervision import keep_share, mask_items, training_items, unlabelled_items
from common.errors import UserError


def put(path: Path, **content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Ten training patients with two frames each, two annotators on patient 0, dense masks; four patients' masks."""
    for name in ("i.nii.gz", "s.nii.gz", "s2.nii.gz", "d.nii.gz", "m.nii.gz"):
        (tmp_path / name).touch()
    training = []
    for patient in range(10):
        for frame in "ab":
            (tmp_path / f"{patient}{frame}.nii.gz").touch()
            label = ["s.nii.gz", "s2.nii.gz"] if patient == 0 else "s.nii.gz"
            item = {"image": f"{patient}{frame}.nii.gz", "label": label, "dense_label": "d.nii.gz"}
            training.append(item | {"case": f"{patient}{frame}", "patient": f"p{patient}"})
    masks = [{"label": "m.nii.gz", "patient": f"m{number}"} for number in range(4)]
    return put(tmp_path / "list.json", training=training, unpaired_masks=masks)


def patients(items: list[dict[str, Any]]) -> set[str]:
    return {item["patient"] for item in items}


def test_everything_by_default(toy: Path) -> None:
    assert training_items(toy) == load_datalist(toy, "training")


def test_shares_are_whole_patients_and_nested(toy: Path) -> None:
    some = training_items(toy, labelled_share=0.25, seed=3)  # floor(0.25 * 10 + 0.5) = 3 patients, 6 images
    assert len(some) == 6
    assert len(patients(some)) == 3
    assert patients(some) <= patients(training_items(toy, labelled_share=0.5, seed=3))
    assert len(training_items(toy, labelled_share=0.001)) == 2  # one patient at least
    assert len({frozenset(patients(training_items(toy, labelled_share=0.3, seed=seed))) for seed in range(9)}) > 1


def test_dense_masks_go_to_the_next_patients(toy: Path) -> None:
    alone = training_items(toy, labelled_share=0.2, seed=1)
    mixed = training_items(toy, labelled_share=0.2, dense_share=0.5, seed=1)
    dense = [item for item in mixed if item.get("supervision") == "dense"]
    assert len(patients(dense)) == 5
    assert {item["label"] for item in dense} == {str(toy.parent / "d.nii.gz")}
    assert [item for item in mixed if item not in dense] == alone
    assert not patients(dense) & patients(alone)
    assert all(item["supervision"] == "dense" for item in training_items(toy, labelled_share=0, dense_share=1))


def test_dense_masks_that_are_missing_are_named(toy: Path) -> None:
    content = json.loads(toy.read_text())
    for item in content["training"]:
        del item["dense_label"]
    put(toy, **content)
    with pytest.raises(UserError, match=r'list\.json: 0a has no "dense_label", which --dense_share needs'):
        training_items(toy, labelled_share=0, dense_share=1)
    for item in content["training"]:
        item["supervision"] = "dense"
    put(toy, **content)
    assert len(training_items(toy, labelled_share=0, dense_share=1)) == 20  # their label is a dense mask already


def test_annotators(toy: Path) -> None:
    assert len(training_items(toy)[0]["label"]) == 2
    assert training_items(toy, annotators="first")[0]["label"] == str(toy.parent / "s.nii.gz")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labelled_share": 1.01}, "--labelled_share: must be a number from 0 to 1, got 1.01"),
        ({"labelled_share": float("nan")}, "--labelled_share: must be a number from 0 to 1, got nan"),
        ({"dense_share": -0.1}, "--dense_share: must be a number from 0 to 1, got -0.1"),
        ({"labelled_share": 0.6, "dense_share": 0.5}, "together they must be over 0 and at most 1"),
        ({"labelled_share": 0}, "together they must be over 0 and at most 1"),
        ({"annotators": "both"}, "--annotators: must be 'all' or 'first', got 'both'"),
    ],
)
def test_options_out_of_range(toy: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        training_items(toy, **options)


def test_masks_of_the_own_datalist(toy: Path) -> None:
    training = training_items(toy)
    assert [item["patient"] for item in mask_items(training, toy)] == ["m0", "m1", "m2", "m3"]
    assert len(mask_items(training[:1], toy, share=0.5)) == 2
    for share in (0, 1.5):
        with pytest.raises(UserError, match="--mask_share: must be over 0 and at most 1"):
            mask_items(training, toy, share=share)


def test_other_training_items_get_no_companions(toy: Path) -> None:
    other = {"image": "/elsewhere/x.nii.gz", "label": "/elsewhere/s.nii.gz", "patient": "x"}
    assert mask_items([*training_items(toy), other], toy) == []
    assert mask_items([], toy) == []
    assert unlabelled_items([other], toy) == [{"image": "/elsewhere/x.nii.gz", "patient": "x"}]


def test_images_without_annotation(toy: Path) -> None:
    some = training_items(toy, labelled_share=0.2)
    everything = unlabelled_items(some, toy)  # all images of the training patients, annotated or not
    assert len(everything) == 20
    assert set(everything[0]) == {"image", "case", "patient"}
    assert [item["image"] for item in unlabelled_items(some, toy, use=False)] == [item["image"] for item in some]
    put(toy, **json.loads(toy.read_text()), unlabelled=[{"image": "i.nii.gz"}])
    assert unlabelled_items(some, toy) == [{"image": str(toy.parent / "i.nii.gz")}]


def test_images_are_recognised_through_links(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    assert len(mask_items(training_items(tmp_path / "link" / "list.json"), toy)) == 4


def test_phantom_data_are_never_mixed_with_given_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default phantom, which does not exist here, is not even made for items of other data."""
    folder = tmp_path / "phantom"

    def ensure(dataset_dir: Path) -> None:
        dataset_dir.mkdir(exist_ok=True)
        (dataset_dir / "p.nii.gz").touch()
        items = [{"image": "p.nii.gz", "label": "p.nii.gz", "case": "p", "patient": "p"}]
        others = {"unpaired_masks": [{"label": "p.nii.gz"}], "validation": items}
        put(dataset_dir / "datalist.json", training=items, **others)

    monkeypatch.setattr(datalist_module, "default_phantom_dir", lambda: folder)
    monkeypatch.setattr(datalist_module, "ensure_phantom", ensure)
    given = [{"image": "/elsewhere/x.nii.gz", "label": "/elsewhere/x_s.nii.gz"}]
    assert mask_items(given, folder / "datalist.json") == []
    assert unlabelled_items(given, folder / "datalist.json") == [{"image": "/elsewhere/x.nii.gz"}]
    assert validation_items(folder / "datalist.json", given) == []
    assert not folder.exists()
    own = training_items(folder / "datalist.json")
    assert len(mask_items(own, folder / "datalist.json")) == 1
    assert mask_items(given, folder / "datalist.json") == []
    assert len(validation_items(folder / "datalist.json", own)) == 1
    assert validation_items(folder / "datalist.json", given) == []
    # of a datalist that somebody named the held-out cases serve any training
    (tmp_path / "named").mkdir()
    ensure(tmp_path / "named")
    assert len(validation_items(tmp_path / "named" / "datalist.json", given)) == 1


def test_shares_of_any_items() -> None:
    items = [{"image": f"{p}{f}", "patient": f"p{p}"} for f in "ab" for p in range(10)]
    kept = keep_share(items, 0.25, seed=3)
    assert kept == [item for item in items if item["patient"] in patients(kept)]
    assert keep_share(items[::-1], 0.25, seed=3) == kept[::-1]  # the order of the list does not matter
    assert keep_share(items, 1, seed=0) == items
    assert keep_share(items, 0, seed=0) == []
    assert keep_share([], 0.5, seed=0) == []
    assert len(keep_share([{"image": "a"}, {"image": "b"}], 0.5, seed=0)) == 1  # no patients: images count
