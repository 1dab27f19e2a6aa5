"""The picture of a case."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from tools.picture import choose_slices, class_colour, draw_case, main, save_figure

# Columns run to the left and rows to the back: as a radiologist looks at it, so nothing is flipped.
LPS = np.diag([-1.0, -1.0, 8.0, 1.0])


def case(shape: tuple[int, int, int] = (40, 30, 9)) -> tuple[np.ndarray, np.ndarray]:
    """An image of noise and a reference with class 1 in a corner of slices 2 to 7."""
    image = np.random.default_rng(0).normal(100, 10, shape)
    reference = np.zeros(shape, dtype=np.uint8)
    reference[4:10, 6:9, 2:8] = 1
    return image, reference


def overlay(axes) -> np.ndarray:
    """The RGBA colours that lie over the image of one cell."""
    return np.asarray(axes.images[1].get_array())


def test_slices_are_the_middles_of_equal_runs_of_those_with_anatomy() -> None:
    anatomy = np.zeros((12, 2, 2), dtype=bool)
    anatomy[2:11, 0, 1] = True  # 2..10: nine candidates, three runs 2-4, 5-7, 8-10
    assert choose_slices(anatomy, 3) == [3, 6, 9]
    assert choose_slices(anatomy, 99) == list(range(2, 11))
    assert choose_slices(np.zeros((4, 2, 2), dtype=bool), 2) == [
        1,
        3,
    ]  # runs 0-1 and 2-3: no anatomy, all are candidates


def test_columns_are_the_labels_given_and_rows_the_slices() -> None:
    image, reference = case()
    figure = draw_case(image, LPS, reference=reference, prediction=reference, num_classes=2, slices=2, title="case 7")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["image", "prediction", "reference", "", "", ""]
    # Candidates 2..7, runs 2-4 and 5-7: the middles are slices 3 and 6 from 0, the fourth and the seventh.
    assert [figure.axes[row].get_ylabel() for row in (0, 3)] == ["slice 4 of 9", "slice 7 of 9"]
    assert [text.get_text() for text in figure.texts] == ["case 7"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["class 1"]


def test_the_view_is_cropped_to_the_labels_with_a_margin_and_true_to_the_spacing() -> None:
    shape = (60, 80, 3)
    reference = np.zeros(shape, dtype=np.uint8)
    reference[30:34, 40:50, 1] = 3
    affine = np.diag([-2.0, -1.0, 8.0, 1.0])
    figure = draw_case(np.random.default_rng(0).normal(size=shape), affine, reference=reference, slices=1)
    shown = figure.axes[0].images[0].get_array()
    # Margin 15 mm: 8 pixels of 2 mm across, 15 pixels of 1 mm down. 10 + 2*15 = 40 rows, 4 + 2*8 = 20 columns.
    assert shown.shape == (40, 20)
    # 40 rows of 1 mm by 20 columns of 2 mm is a square on paper.
    box = figure.axes[0].get_window_extent()
    assert box.width == pytest.approx(box.height, rel=1e-6)


@pytest.mark.parametrize(
    ("affine", "row", "column"),
    [
        (np.diag([-1.0, -1.0, 8.0, 1.0]), 1, 0),  # L P S: as stored, transposed
        (np.diag([1.0, 1.0, 8.0, 1.0]), 5, 9),  # R A S: both turned; row 6 - 1 of 7, column 9 - 0 of 10
        (np.array([[0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 8, 0], [0, 0, 0, 1.0]]), 0, 1),  # P L S: not transposed
    ],
)
def test_every_orientation_is_shown_upright(affine: np.ndarray, row: int, column: int) -> None:
    reference = np.zeros((10, 7, 1), dtype=np.uint8)
    reference[0, 1, 0] = 1
    figure = draw_case(np.random.default_rng(0).normal(size=reference.shape), affine, reference=reference)
    assert np.argwhere(overlay(figure.axes[1])[..., 3] > 0).tolist() == [[row, column]]


def test_masks_are_see_through_and_in_the_colour_of_their_class() -> None:
    image, reference = case()
    figure = draw_case(image, LPS, reference=reference, num_classes=2, slices=1)
    colours = overlay(figure.axes[1])
    painted = colours[..., 3] > 0
    assert painted.sum() == 6 * 3
    assert 0 < colours[painted][:, 3].max() < 1
    assert np.allclose(colours[painted][:, :3], class_colour(1))


def test_strokes_are_opaque_and_a_little_thicker_and_the_unannotated_is_clear() -> None:
    scribble = np.full((9, 9, 1), 4, dtype=np.uint8)
    scribble[2, 4, 0], scribble[6, 4, 0] = 0, 3
    figure = draw_case(np.random.default_rng(0).normal(size=scribble.shape), LPS, scribble=scribble)
    colours = overlay(figure.axes[1])
    assert colours.shape[:2] == (27, 27)  # three fine pixels for each pixel
    assert set(np.unique(colours[..., 3])) == {0.0, 1.0}
    # A pixel is 3 x 3 fine ones, and one more along each of its 4 sides of 3: 9 + 12 = 21, without the corners.
    opaque = colours[colours[..., 3] == 1][:, :3]
    assert len(opaque) == 2 * 21
    assert sum(np.allclose(colour, class_colour(0)) for colour in opaque) == 21
    assert sum(np.allclose(colour, class_colour(3)) for colour in opaque) == 21


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prediction": np.zeros((40, 30, 8), dtype=int)}, r"prediction: shape \(40, 30, 8\) differs from .*same case"),
        ({"reference": np.full((40, 30, 9), 4)}, "reference: has values from 4 to 4, not 0 to 3; is num_classes right"),
        ({"scribble": np.full((40, 30, 9), 5)}, "scribble: has values from 5 to 5, not 0 to 4"),
        ({"prediction": np.full((40, 30, 9), np.nan)}, "prediction: has values from nan to nan, not 0 to 3"),
        ({"slices": 2.5}, "slices: 2.5, num_classes: 4; give whole numbers"),
        ({"num_classes": "four"}, "num_classes: 'four'; give whole numbers from 1 on"),
        ({"class_names": ["background", "RV"]}, "class_names: 2 names for num_classes 4"),
        ({"slices": 0}, "slices: 0, num_classes: 4; give whole numbers from 1 on"),
    ],
)
def test_what_does_not_fit_is_a_user_error(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        draw_case(case()[0], LPS, **options)


def test_the_command_writes_a_png_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, reference = case()
    nib.save(nib.Nifti1Image(image.astype(np.float32), LPS), tmp_path / "case.nii.gz")
    nib.save(nib.Nifti1Image(reference, LPS), tmp_path / "case_gt.nii.gz")
    output = tmp_path / "pictures" / "case.png"
    paths = {"image": str(tmp_path / "case.nii.gz"), "reference": str(tmp_path / "case_gt.nii.gz")}
    main(**paths, output=str(output), num_classes=2, class_names="background,LV", slices=2)
    assert capsys.readouterr().out.strip() == str(output)
    assert [path.name for path in output.parent.iterdir()] == ["case.png"]
    pixels = np.asarray(Image.open(output).convert("RGB")).astype(int)
    assert (pixels.max(axis=2) - pixels.min(axis=2) > 40).any()  # grey image, coloured label
    with pytest.raises(UserError, match=r"gone\.nii\.gz: no such file; correct the path"):
        main(image=str(tmp_path / "gone.nii.gz"), output=str(output))


@pytest.mark.parametrize("labelled", [False, True])
def test_voxels_that_are_no_numbers_change_neither_the_window_nor_the_view(labelled: bool) -> None:
    image, reference = case()
    image[:, :, 0], image[0, 0, 0], image[:20] = 50.0, 250.0, np.nan
    options = {"reference": reference, "num_classes": 2} if labelled else {}
    figure = draw_case(image, np.diag([-1.0, -1.0, 8.0, 1.0]), slices=1, **options)
    [shown, *_] = figure.axes[0].images
    assert shown.norm.vmin is not None
    assert np.isfinite([shown.norm.vmin, shown.norm.vmax]).all()
    # without labels all 30 rows and 40 columns; else 3 rows and 6 columns, 15 pixels more at the end and all before
    assert shown.get_array().shape == ((24, 25) if labelled else (30, 40))


def test_an_image_without_any_number_is_drawn(tmp_path: Path) -> None:
    save_figure(draw_case(np.full((9, 9, 1), np.nan), LPS), tmp_path / "case.png")


def test_a_label_stored_elsewhere_or_in_colours_is_refused(tmp_path: Path) -> None:
    image, reference = case()
    nib.save(nib.Nifti1Image(image.astype(np.float32), LPS), tmp_path / "case.nii.gz")
    turned = LPS @ np.array([[-1, 0, 0, 39], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])  # the same place, x reversed
    nib.save(nib.Nifti1Image(reference[::-1], turned), tmp_path / "turned.nii.gz")
    colours = np.zeros((40, 30, 9), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, LPS), tmp_path / "colours.nii.gz")
    files = {"image": str(tmp_path / "case.nii.gz"), "output": str(tmp_path / "case.png")}
    with pytest.raises(UserError, match=r"turned.nii.gz: lies elsewhere than .*case.nii.gz, their affines differ"):
        main(**files, reference=str(tmp_path / "turned.nii.gz"))
    with pytest.raises(UserError, match=r"colours.nii.gz: holds colours or complex numbers; save one number a voxel"):
        main(**files | {"image": str(tmp_path / "colours.nii.gz")})


@pytest.mark.parametrize("damaged", ["image", "reference"])
@pytest.mark.parametrize(
    ("name", "place", "message"),
    [
        ("a.nii", 108, r"a\.nii: cannot be read, it is cut short, damaged or no image"),  # where the voxels begin
        ("a.nii", 40, r"a\.nii: cannot be read, it is cut short, damaged or no image"),  # how many axes there are
        ("a.nii", None, r"a\.nii: cannot be read, it is cut short, damaged or no image"),  # the last byte is gone
        ("a.nii", 282, r"a\.nii: its affine does not say where the voxels lie, it is singular"),
        ("a.nii.gz", 4000, r"a\.nii\.gz: is damaged or cut short; copy or export it again"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(
    tmp_path: Path, damaged: str, name: str, place: int | None, message: str
) -> None:
    image, reference = case()
    paths = {"image": tmp_path / "i.nii", "reference": tmp_path / "r.nii"} | {damaged: tmp_path / name}
    for path, voxels in zip(paths.values(), (image.astype(np.float32), reference), strict=True):
        nib.save(nib.Nifti1Image(voxels, LPS), path)
    content = paths[damaged].read_bytes()
    if name.endswith(".gz"):
        content = gzip.compress(gzip.decompress(content), 0)  # as it is, so that another byte is another voxel
    other = content[:-1] if place is None else content[:place] + b"\xff" * 4 + content[place + 4 :]
    paths[damaged].write_bytes(other)
    with pytest.raises(UserError, match=message) as caught:
        main(**{key: str(path) for key, path in paths.items()}, output=str(tmp_path / "case.png"), num_classes=2)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "case.png").exists()


def test_files_that_are_no_volumes_are_named(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 3, 2), np.float32), LPS), tmp_path / "cine.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 0), np.float32), LPS), tmp_path / "empty.nii.gz")
    Image.fromarray(np.zeros((5, 4), np.uint8)).save(tmp_path / "grey.png")
    for name, message in (
        ("cine.nii.gz", r"holds \(4, 5, 3, 2\); give a NIfTI file of a volume \[X, Y, Z\]"),
        ("empty.nii.gz", r"holds \(4, 5, 0\); give"),
        ("grey.png", r"holds \(4, 5\); give a NIfTI file"),
    ):
        with pytest.raises(UserError, match=rf"{name}: {message}"):
            main(image=str(tmp_path / name), output=str(tmp_path / "case.png"))


def test_words_are_drawn_as_they_are(tmp_path: Path) -> None:
    image, reference = case()
    names = ["background", r"$1 \frac$"]
    figure = draw_case(image, LPS, reference=reference, num_classes=2, class_names=names, title=r"p$1 \frac$")
    save_figure(figure, tmp_path / "case.png")


def test_only_a_png_is_written(tmp_path: Path) -> None:
    figure = draw_case(case()[0], LPS)
    with pytest.raises(UserError, match=r"case\.pdf: the picture is a PNG"):
        save_figure(figure, tmp_path / "case.pdf")
    assert not list(tmp_path.iterdir())


def test_a_real_case_is_drawn(data_root: Path, tmp_path: Path) -> None:
    folder = data_root / "acdc" / "training" / "patient001"
    main(
        image=str(folder / "patient001_frame01.nii.gz"),
        scribble=str(data_root / "acdc" / "acdc_scribbles" / "patient001_frame01_scribble.nii.gz"),
        reference=str(folder / "patient001_frame01_gt.nii.gz"),
        output=str(tmp_path / "case.png"),
    )
    width, height = Image.open(tmp_path / "case.png").size
    assert 1000 < width < 1400  # three columns of at most 2.6 inches at 150 dots: at most 1170, and the words
    assert 800 < height < 1800
