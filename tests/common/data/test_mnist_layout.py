"""MNIST: pictures, masks and datalist built from IDX files."""

from __future__ import annotations

import gzip
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.data import mnist
from common.data.checks import check_items
from common.data.mnist import NOISE, build_mnist_datalist, read_idx
from common.errors import UserError

SECTIONS = ("training", "unpaired_masks", "unlabelled", "validation", "test")


def pixels(path: str | Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def write_idx(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """820 digits to draw from and 5 to test with, bars of brightness 250 with a border of 127, of rising places.

    Of 8 x 10 pixels; the figures are the place modulo ten. One file is compressed, figures of the test digits lack.
    """
    root = tmp_path_factory.mktemp("mnist")
    for name, count in (("train-images-idx3-ubyte.gz", 820), ("t10k-images-idx3-ubyte", 5)):
        digits = np.zeros((count, 8, 10), np.uint8)
        for index, digit in enumerate(digits):
            column = index % 8
            digit[2:6, column : column + 2] = 127
            digit[3:5, column : column + 2] = 250
        write_idx(root / name, digits)
    write_idx(root / "train-labels-idx1-ubyte", (np.arange(820) % 10).astype(np.uint8))
    return root


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six digits to train and two to validate with, where their number does not matter."""
    monkeypatch.setattr(mnist, "_TRAINING", 6)
    monkeypatch.setattr(mnist, "_VALIDATION", 2)


def test_the_datalist(tree: Path, tmp_path: Path) -> None:
    content = build_mnist_datalist(tree, tmp_path, form="clean")
    assert (content["name"], content["num_classes"], content["class_names"]) == ("mnist", 2, ["background", "digit"])
    assert [len(content[section]) for section in SECTIONS] == [600, 0, 0, 200, 5]
    cases = {section: [item["case"] for item in content[section]] for section in SECTIONS}
    assert cases["test"] == ["test00000", "test00001", "test00002", "test00003", "test00004"]
    assert len(set(cases["training"] + cases["validation"])) == 800
    assert all(cases[section] == sorted(cases[section]) for section in SECTIONS)
    for item in content["training"]:
        index = int(item["case"].removeprefix("train"))
        assert 0 <= index < 820
        assert item == {
            "image": str(tmp_path / "images" / f"train{index:05d}.png"),
            "label": str(tmp_path / "masks" / f"train{index:05d}.png"),
            "supervision": "dense",
            "case": f"train{index:05d}",
            "patient": f"train{index:05d}",
            "digit": index % 10,
        }
    assert all("supervision" not in item for item in content["validation"] + content["test"])
    assert all("digit" in item for item in content["validation"])
    assert all("digit" not in item for item in content["test"])
    check_items(content["training"][:5], num_classes=2, kind="scribble", in_channels=1)
    check_items(content["test"], num_classes=2, kind="dense", in_channels=1)
    assert len(list(tmp_path.rglob("*.png"))) == 2 * 805


@pytest.mark.usefixtures("small")
def test_pictures_and_masks(tree: Path, tmp_path: Path) -> None:
    content = build_mnist_datalist(tree, tmp_path / "clean", form="clean")
    noisy = build_mnist_datalist(tree, tmp_path / "noisy")
    for section in ("training", "validation", "test"):
        for one, two in zip(content[section], noisy[section], strict=True):
            image, column = pixels(one["image"]), int(one["case"][-5:]) % 8
            assert (image.shape, image.dtype) == ((8, 10), np.uint8)
            assert image[:, column].tolist() == [0, 0, 127, 250, 250, 127, 0, 0]
            mask = np.zeros((8, 10), np.uint8)  # 127 is no digit, 250 is
            mask[3:5, column : column + 2] = 1
            for item in (one, two):
                np.testing.assert_array_equal(pixels(item["label"]), mask)
            assert one["case"] == two["case"]
            assert (pixels(two["image"]) != image).mean() > 0.2


def test_the_noise_is_normal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "_TRAINING", 20)
    monkeypatch.setattr(mnist, "_VALIDATION", 1)
    digits = np.zeros((21, 100, 100), np.uint8)
    digits[:, :50] = 100
    for name in ("train", "t10k"):
        write_idx(tmp_path / f"{name}-images-idx3-ubyte", digits)
    content = build_mnist_datalist(tmp_path, tmp_path / "out")
    drawn = np.stack([pixels(item["image"]) for item in content["training"]]).astype(float)
    # Clipping moves no quantile that stays within 0..255: 69.15 % of a normal distribution lie below its mean plus
    # half a standard deviation, and half of the pixels of mean 0 are clipped (and those below 0.5 rounded) to 0.
    deviation = NOISE * 255
    assert np.quantile(drawn[:, 50:], 0.6915) == pytest.approx(deviation / 2, rel=0.03, abs=1)
    assert np.quantile(drawn[:, :50], 0.6915) == pytest.approx(100 + deviation / 2, rel=0.03, abs=1)
    assert (drawn[:, 50:] == 0).mean() == pytest.approx(0.5 + 0.3989 * 0.5 / deviation, abs=0.01)
    first, second = drawn[0, 50:], drawn[1, 50:]
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05  # a draw of its own for each case


@pytest.mark.usefixtures("small")
def test_files_depend_on_the_seed_and_the_case_alone(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files(folder: str) -> dict[str, bytes]:
        return {str(path.relative_to(tmp_path / folder)): path.read_bytes() for path in tmp_path.glob(f"{folder}/*/*")}

    first = build_mnist_datalist(tree, tmp_path / "one", seed=3)
    one = files("one")
    assert build_mnist_datalist(tree, tmp_path / "one", seed=3) == first
    assert files("one") == one
    build_mnist_datalist(tree, tmp_path / "two", seed=4)
    assert files("two")["images/test00000.png"] != one["images/test00000.png"]
    assert files("two").keys() != one.keys()
    monkeypatch.setattr(mnist, "_TRAINING", 30)
    build_mnist_datalist(tree, tmp_path / "more", seed=3)
    assert one.items() <= files("more").items()  # more digits leave those of before as they were
    assert not [path for path in tmp_path.rglob(".*")]


@pytest.mark.usefixtures("small")
def test_what_is_missing_is_named(tree: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(tree, tmp_path / "tree"))
    write_idx(root / "t10k-labels-idx1-ubyte.gz", np.arange(4, dtype=np.uint8))
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte\.gz: holds 4 figures for 5 digits; copy it again"):
        build_mnist_datalist(root, tmp_path / "out")
    (root / "t10k-images-idx3-ubyte").unlink()
    message = f"{root}: has no t10k-images-idx3-ubyte or .gz; name the folder of the MNIST download"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        build_mnist_datalist(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_few_digits(tmp_path: Path) -> None:
    for name in ("train", "t10k"):
        write_idx(tmp_path / f"{name}-images-idx3-ubyte", np.zeros((799, 2, 2), np.uint8))
    with pytest.raises(UserError, match=r": the training file holds 799 digits, 800 are needed; copy it again"):
        build_mnist_datalist(tmp_path, tmp_path / "out")


def test_unknown_form(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'^unknown form "x" of MNIST pictures; choose one of noisy, clean$'):
        build_mnist_datalist(tree, tmp_path, form="x")


def test_idx_files_are_read_strictly(tmp_path: Path) -> None:
    file = tmp_path / "digits"
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_idx(file, values)
    whole = file.read_bytes()
    np.testing.assert_array_equal(read_idx(file, dimensions=3), values)
    # 4 bytes of magic and 3 of 4 bytes of shape before the 24 values
    for data, message in (
        (whole[:-1], "holds 39 bytes instead of 40"),
        (whole + b"x", "holds 41 bytes instead of 40"),
        (whole[:10], "holds 10 bytes instead of "),
        (b"", "begins with nothing instead of 00000803"),
        (b"\0\0\x0d\x03" + whole[4:], "begins with 00000d03 instead of 00000803"),  # floating point
    ):
        file.write_bytes(data)
        with pytest.raises(UserError, match=f"^{re.escape(str(file))}: {message}"):
            read_idx(file, dimensions=3)
    file.write_bytes(whole)
    with pytest.raises(UserError, match="begins with 00000803 instead of 00000801"):
        read_idx(file, dimensions=1)
    with pytest.raises(UserError, match=r"nothing: no such file; copy it again from the MNIST download$"):
        read_idx(tmp_path / "nothing", dimensions=3)


@pytest.mark.parametrize("spoil", ["cut", "tail", "plain"])
def test_damaged_compressed_files(tmp_path: Path, spoil: str) -> None:
    file = tmp_path / "digits.gz"
    write_idx(file, np.arange(240, dtype=np.uint8).reshape(2, 30, 4))
    data = file.read_bytes()
    file.write_bytes({"cut": data[:-20], "tail": data[:-8] + b"abcdefgh", "plain": gzip.decompress(data)}[spoil])
    with pytest.raises(UserError, match=r"digits\.gz: cannot be read, it is cut short or damaged; copy it again"):
        read_idx(file, dimensions=3)


def test_real_mnist(data_root: Path, tmp_path: Path) -> None:
    source = data_root / "mnist"
    content = build_mnist_datalist(source, tmp_path)
    clean = {}
    for prefix, name in (("train", "train"), ("test", "t10k")):
        clean[prefix] = read_idx(source / f"{name}-images-idx3-ubyte.gz", dimensions=3)
    assert [len(content[section]) for section in SECTIONS] == [600, 0, 0, 200, len(clean["test"])]
    items = content["training"] + content["validation"] + content["test"]
    assert {item["digit"] for item in items} == set(range(10))
    digits = np.stack([clean[item["case"][:-5]][int(item["case"][-5:])] for item in items])
    noisy = np.stack([pixels(item["image"]) for item in items])
    masks = np.stack([pixels(item["label"]) for item in items])
    assert noisy.shape == digits.shape == (len(items), 28, 28)
    np.testing.assert_array_equal(masks, digits >= 128)
    # half a standard deviation above the background, see above
    assert np.quantile(noisy[digits == 0], 0.6915) == pytest.approx(NOISE * 255 / 2, rel=0.02, abs=1)
    assert 0.05 < masks.mean() < 0.2
